"""The forms that answers of the admin API have."""

from typing import Any, Final

import orjson
from aiohttp import web

_JSON: Final = "application/json"


def json_answer(data: Any, status: int = 200) -> web.Response:
    """An object as JSON, one line. Times are RFC 3339."""
    body = orjson.dumps(data, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)
    return web.Response(body=body, status=status, content_type=_JSON)


def refusal(status: int, error: str, message: str, **more: Any) -> web.Response:
    """What is wrong: `error` is a word for programs, `message` a sentence for people."""
    return json_answer({"error": error, "message": message, **more}, status)
