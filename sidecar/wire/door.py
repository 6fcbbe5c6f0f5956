"""The first thing that an accepted connection meets on a listener with `clients.cidr`.

A connection from elsewhere is closed before anything is read from it or spent on it, a
TLS handshake above all. Who has to be asked for a certificate first gets a 403 later.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from sidecar.identity.clients import Clients
from sidecar.wire.peer import peer_of


class Door(asyncio.Protocol):
    """Lets a connection in to the protocol that `inside` makes, or closes it."""

    def __init__(
        self, guards: tuple[Clients, ...], inside: Callable[[], asyncio.Protocol], on_kept_out: Callable[[str], None]
    ) -> None:
        self._guards = guards
        self._inside = inside
        self._on_kept_out = on_kept_out

    def connection_made(self, transport: Any) -> None:
        """Somebody knocks."""
        peer = peer_of(transport)
        if not all(guard.admits_address(peer) for guard in self._guards):
            transport.abort()
            self._on_kept_out(peer)
            return
        protocol = self._inside()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
