"""The bearer token of the admin API, read from its file anew at each use: a rotated
secret counts at once, and a file that is gone lets nobody in."""

import hmac
import os
import re
import stat
from typing import Final

_MOST_BYTES: Final = 4096
_LEAST: Final = 16
# RFC 6750 2.1, b64token.
_TOKEN: Final = re.compile(rb"[A-Za-z0-9._~+/-]+=*")
_BEARER: Final = re.compile(rb"(?i:bearer) +([A-Za-z0-9._~+/-]+=*)")


class TokenError(Exception):
    """The file holds no token that can be used; the text says why, never what is in it."""


def read_token(path: str) -> bytes:
    """The token in a file, without blanks around it; TokenError.

    A file that everybody may write to is refused. One that everybody may read is not:
    Kubernetes mounts secrets so.
    """
    try:
        # O_NONBLOCK: a pipe must not stop the event loop.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise TokenError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise TokenError(f"{path} is no regular file")
        if status.st_mode & stat.S_IWOTH:
            raise TokenError(f"{path} may be written by everybody")
        token = os.read(descriptor, _MOST_BYTES + 1).strip()
    except OSError as error:
        raise TokenError(f"{path} cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if not _LEAST <= len(token) <= _MOST_BYTES or not _TOKEN.fullmatch(token):
        raise TokenError(f"{path} holds no token: {_LEAST} or more letters, digits and - . _ ~ + / on one line")
    return token


def readable_by_all(path: str) -> bool:
    """Whether other users of this machine may read the token."""
    try:
        return bool(os.stat(path).st_mode & stat.S_IROTH)
    except (OSError, ValueError):
        return False


def presents(authorization: list[str], token: bytes) -> bool:
    """Whether the one Authorization field is this token (RFC 6750 2.1)."""
    if len(authorization) != 1:
        return False
    match = _BEARER.fullmatch(authorization[0].encode("utf-8", "surrogateescape"))
    # The same time wherever they differ.
    return match is not None and hmac.compare_digest(match[1], token)
