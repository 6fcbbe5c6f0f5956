"""Health by TCP: a connection is accepted."""

import asyncio

from sidecar.model.address import Address


class TcpProbe:
    """Connects and closes. Says only that something listens."""

    async def ask(self, address: Address) -> str:
        """Empty when it accepts; raises OSError when it does not."""
        loop = asyncio.get_running_loop()
        if address.unix:
            transport, _ = await loop.create_unix_connection(asyncio.Protocol, address.unix)
        else:
            transport, _ = await loop.create_connection(asyncio.Protocol, address.host, address.port)
        # Aborted: a close in good order would leave the port in TIME_WAIT.
        transport.abort()
        return ""

    async def close(self) -> None:
        """Nothing is kept."""
