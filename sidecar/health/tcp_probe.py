"""Health by TCP: a connection is accepted."""

import asyncio
from typing import Any

from sidecar.model.address import Address
from sidecar.wire.lookups import Lookups, connect_any


class TcpProbe:
    """Connects and closes. Says only that something listens."""

    def __init__(self, lookups: Lookups | None = None) -> None:
        self._lookups = lookups or Lookups()

    async def ask(self, address: Address) -> str:
        """Empty when it accepts; raises OSError when it does not."""
        if address.unix:
            _, opened = await asyncio.get_running_loop().create_unix_connection(_Opened, address.unix)
        else:
            opened = await connect_any(_Opened, await self._lookups.addresses(address.host), address.port)
        opened.transport.abort()  # a close in good order would leave the port in TIME_WAIT
        return ""

    async def close(self) -> None:
        """Nothing is kept."""


class _Opened(asyncio.Protocol):
    """A connection on which nothing is said."""

    transport: Any

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
