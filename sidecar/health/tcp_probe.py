"""Health by TCP: a connection is accepted."""

from sidecar.health.opened import connect
from sidecar.model.address import Address
from sidecar.wire.lookups import Lookups


class TcpProbe:
    """Connects and closes. Says only that something listens."""

    def __init__(self, lookups: Lookups | None = None) -> None:
        self._lookups = lookups or Lookups()

    async def ask(self, address: Address) -> str:
        """Empty when it accepts; raises OSError when it does not."""
        opened = await connect(self._lookups, address)
        opened.transport.abort()  # a close in good order would leave the port in TIME_WAIT
        return ""

    async def close(self) -> None:
        """Nothing is kept."""
