"""The end of a connection that is reset: what was said before it still arrives.

The kernel keeps what came before a reset, but a write that fails ends a transport of uvloop
without another read; and a reset of ours would go out before what uvloop has not written yet.
"""

import os
from collections.abc import Iterator
from typing import Any, Final

from sidecar.proxy.runtime import Timers
from sidecar.wire.peer import linger_none

_READ: Final = 64 * 1024
# More than Linux lets a receive buffer grow to by itself (tcp_rmem: 6 MiB).
_MOST: Final = 8 * 1024 * 1024
# How long a peer has to take what goes out before the reset.
_SECONDS: Final = 2.0


def last_words(transport: Any) -> Iterator[bytes]:
    """What the peer of a transport wrote and nobody has read, in `connection_lost` with an
    error. Whether it is all that the peer wanted to say is not known. Of a TLS layer that is
    lost there is nothing: it has read for itself."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
    left = _MOST
    try:
        while left > 0:
            data = os.read(sock.fileno(), _READ)
            if not data:
                return
            left -= len(data)
            yield data
    except OSError:
        return  # nothing more, or the reset itself


def reset_behind(transport: Any, timers: Timers) -> None:
    """Reset a connection (see `reset_connection`) behind what was written to it: at once when
    that has left, else as soon as it has, or in two seconds."""
    linger_none(transport)
    if not transport.get_write_buffer_size():
        transport.abort()
        return
    # Over TLS a close would say that this was all (RFC 8446 6.1).
    getattr(transport, "cut", transport.close)()
    timers.add(_SECONDS, _Cut(transport))


class _Cut:
    """A connection that has to be gone in a while."""

    __slots__ = ("_transport",)

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def on_timer(self, token: int) -> None:
        """The time is over."""
        self._transport.abort()
