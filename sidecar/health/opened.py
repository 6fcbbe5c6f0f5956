"""A connection on which nothing was said yet: what checks begin with."""

import asyncio
from typing import Any

from sidecar.model.address import Address
from sidecar.wire.lookups import Lookups, connect_any


class Opened(asyncio.Protocol):
    """Its `transport`, and whether it has `ended` since."""

    transport: Any
    ended = False

    def connection_made(self, transport: Any) -> None:
        """It is there."""
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        """It is gone."""
        self.ended = True


async def connect(lookups: Lookups, address: Address) -> Opened:
    """A new one; OSError when there is none to be had."""
    if address.unix:
        return (await asyncio.get_running_loop().create_unix_connection(Opened, address.unix))[1]
    opened: Opened = await connect_any(Opened, await lookups.addresses(address.host), address.port)
    return opened
