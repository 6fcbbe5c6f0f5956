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
            await asyncio.get_running_loop().create_unix_connection(_Aborted, address.unix)
        else:
            await connect_any(_Aborted, await self._lookups.addresses(address.host), address.port)
        return ""

    async def close(self) -> None:
        """Nothing is kept."""


class _Aborted(asyncio.Protocol):
    """A close in good order would leave the port in TIME_WAIT."""

    def connection_made(self, transport: Any) -> None:
        transport.abort()
