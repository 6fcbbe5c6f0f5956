"""Bugs of ours while the process runs: counted each, logged with a trace as often as is of use.

A bug on the path of every request must not fill a disk, nor hide the one bug that came
once. May import sidecar.proxy and sidecar.telemetry.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from sidecar.proxy.runtime import Runtime
from sidecar.telemetry.logs import get_logger

# A bug is told apart by its type and the line that raised; each is logged so often at most.
_SECONDS: Final = 10.0
_DIFFERENT: Final = 64


class Crashes:
    """What `Runtime.on_crash` is: called with each error that no code expected.

    Counts in `runtime.internal_errors`.
    """

    def __init__(self, runtime: Runtime, clock: Callable[[], float] = time.monotonic) -> None:
        self._runtime = runtime
        self._clock = clock
        # By place: when it was logged last, and how many were not logged since.
        self._seen: dict[str, tuple[float, int]] = {}
        self._log = get_logger()

    def __call__(self, error: BaseException) -> None:
        """Count one, and log it."""
        self._runtime.internal_errors += 1
        place, now = place_of(error), self._clock()
        since, unlogged = self._seen.get(place, (now - _SECONDS, 0))
        if now - since < _SECONDS:
            self._seen[place] = (since, unlogged + 1)
            return
        if len(self._seen) >= _DIFFERENT:
            self._seen.clear()
        self._seen[place] = (now, 0)
        self._log.error("request_failed_by_a_bug", at=place, not_logged=unlogged, exc_info=error)

    def on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What reached the event loop: callbacks that nothing of ours is around."""
        error = context.get("exception")
        if isinstance(error, Exception) and not isinstance(error, OSError):
            self(error)
        else:  # the network's, or no exception at all
            loop.default_exception_handler(context)


def place_of(error: BaseException) -> str:
    """The error's type, and the file and line that raised it."""
    trace = error.__traceback__
    if trace is None:
        return type(error).__name__
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{type(error).__name__} in {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
