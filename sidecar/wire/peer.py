"""Who is at the other end of a connection."""

from typing import Any


def peer_of(transport: Any) -> str:
    """`host:port` of a TCP peer, `unix` for a unix socket's."""
    name = transport.get_extra_info("peername")
    if not isinstance(name, tuple):
        return "unix"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
