"""One connection's HTTP as aiohttp speaks it, but for what aiohttp would say of its own."""

import asyncio
import logging
from typing import Any, Final

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from sidecar.admin.access import HEADERS
from sidecar.admin.answers import refusal

# How long an idle connection is kept, and how long what nobody reads of a request is
# thrown away before the connection is closed.
_IDLE_SECONDS: Final = 75.0
_LINGER_SECONDS: Final = 1.0
_ERRORS: Final = {
    400: ("bad_request", "this is no request"),
    500: ("internal", "it failed while it was answered"),
}


class Connection(web.RequestHandler):
    """What is no request is refused like everything else that is refused: as JSON, with HEADERS,
    without the names and versions of what reads here, and without a line in the log, which
    whoever may connect could fill, with credentials among the bytes."""

    __slots__ = ()

    def handle_error(self, request: Any, status: int = 500, exc: Any = None, message: Any = None) -> web.StreamResponse:
        """The refusal; ConnectionError when an answer has begun."""
        if isinstance(exc, UnicodeError):
            status = 400  # a field's bytes are no text, and aiohttp would repeat them
        if status >= 500:
            self.log_exception("an admin request failed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun")
        refused = refusal(status, *_ERRORS.get(status, ("failed", "it failed")))
        refused.headers.update(HEADERS)
        refused.headers[hdrs.SERVER] = "sidecar"  # aiohttp puts its own where there is none
        refused.force_close()
        return refused


def connection(server: web.Server | None) -> Connection | None:
    """A client's protocol; None when the server has stopped."""
    if server is None:
        return None
    return Connection(
        server,
        loop=asyncio.get_running_loop(),
        access_log=None,  # type: ignore[arg-type]  # which is how aiohttp wants to hear of none
        logger=logger(),
        keepalive_timeout=_IDLE_SECONDS,
        lingering_time=_LINGER_SECONDS,
        auto_decompress=False,  # nobody reads a body
    )


def logger() -> logging.Logger:
    """Where aiohttp logs what goes wrong."""
    found = logging.getLogger("sidecar.admin.http")
    if not found.filters:
        found.addFilter(_NotTheirMistakes())
    return found


class _NotTheirMistakes(logging.Filter):
    """aiohttp logs a body that cannot be read with a trace, and bytes in it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is worth a line."""
        kind = record.exc_info[0] if record.exc_info else None
        return kind is None or not issubclass(kind, (HttpProcessingError, web.RequestPayloadError))
