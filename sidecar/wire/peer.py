"""Who is at the other end of a connection."""

import socket
import struct
from typing import Any

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, on, for no time


def reset_connection(transport: Any) -> None:
    """End a connection so that its peer cannot take it for a clean end: RST in place of FIN.
    A unix socket knows no difference."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()


def peer_of(transport: Any) -> str:
    """`host:port` of a TCP peer, `unix` for a unix socket's."""
    name = transport.get_extra_info("peername")
    if not isinstance(name, tuple):
        return "unix"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
