"""What is logged of hostile input: kept away from the terminal, and looked at."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from sidecar.admin.connection import logger


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing is logged meanwhile by structlog; AssertionError when aiohttp logs an error: whoever
    may connect must not be able to fill the log."""
    lines: list[logging.LogRecord] = []

    def keep(record: logging.LogRecord) -> bool:
        lines.append(record)
        return False

    logged = logger()
    logged.addFilter(keep)  # behind its own
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.reset_defaults()
        logged.removeFilter(keep)
    errors = [line for line in lines if line.levelno >= logging.ERROR]
    assert not errors, f"it was logged: {errors[0].getMessage()} {errors[0].exc_info}"
