"""The answer to bytes that never became a request."""

from sidecar.codec import h1
from sidecar.model.head import ResponseHead

_REASONS = {408: "too_slow", 413: "too_large", 414: "too_large", 431: "too_large", 500: "internal", 503: "overloaded"}


def error_response(status: int, message: str) -> bytes:
    """A reply to bytes that never became a request."""
    reason = _REASONS.get(status, "bad_request")
    text = message.replace("\\", "\\\\").replace('"', '\\"')
    body = b'{"error":"%b","message":"%b","cluster":"","attempts":0}\n' % (
        reason.encode(),
        text.encode("ascii", "replace"),
    )
    head = ResponseHead(
        status,
        [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-sidecar-error", reason.encode()),
        ],
        len(body),
    )
    return h1.encode_response(head, False, False, b"close")[0] + body
