"""What one message may hold beside its body, and the error of a peer that breaks a rule."""

from typing import Final

# What one head may hold; Envoy allows 60 KiB and 100 fields, nginx 32 KiB.
MAX_HEAD_BYTES: Final = 64 * 1024
MAX_LINE_BYTES: Final = 16 * 1024
MAX_FIELDS: Final = 256

# What may stand behind the size of one chunk. Nobody here reads it, and nothing of it goes on.
MAX_EXTENSION_BYTES: Final = 1024

# Of a Content-Length, zeros in front among them: more than any body has.
MAX_DIGITS: Final = 18


class H1Error(Exception):
    """The peer's bytes are no HTTP/1.1. `status` is what to answer to a client."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def length_of(value: bytes) -> int:
    """A Content-Length (RFC 9110 8.6)."""
    if not value.isdigit() or len(value) > MAX_DIGITS:
        raise H1Error("Content-Length is no number that a body can have")
    return int(value)
