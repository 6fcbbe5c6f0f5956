"""/api/requests: the latest requests that somebody may ask about."""

from typing import Final

from aiohttp import web

from sidecar.admin.answers import json_answer, refusal
from sidecar.admin.operations import Operations

_DEFAULT: Final = 50
_MOST: Final = 1000


class RequestViews:
    """Slow, failed and retried requests."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def latest(self, request: web.Request) -> web.Response:
        """The latest `?limit=` of them."""
        text = request.query.get("limit", str(_DEFAULT))
        limit = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0
        if not 1 <= limit <= _MOST:
            return refusal(400, "bad_limit", f"limit must be a number from 1 to {_MOST}")
        return json_answer({"requests": self._operations.notable.latest(limit)})
