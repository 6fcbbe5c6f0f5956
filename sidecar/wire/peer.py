"""Who is at the other end of a connection."""

import socket
import struct
from typing import Any

from sidecar.identity.clients import Peer
from sidecar.wire.tls import names_of

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, on, for no time


def reset_connection(transport: Any) -> None:
    """End a connection so that its peer cannot take it for a clean end: RST in place of FIN.
    What was not written yet is lost. A unix socket knows no difference."""
    linger_none(transport)
    transport.abort()


def linger_none(transport: Any) -> None:
    """Make the close of a connection a reset."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def peer_of(transport: Any) -> str:
    """`host:port` of a TCP peer, `unix` for a unix socket's; over TLS a Peer with the
    names that its certificate holds."""
    name = transport.get_extra_info("peername")
    if isinstance(name, tuple):
        host, port = name[:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    else:
        address = "unix"
    tls = transport.get_extra_info("ssl_object")
    return address if tls is None else Peer(address, names_of(tls))
