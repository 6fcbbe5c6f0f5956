"""What a health check is, whatever it speaks."""

from typing import Protocol

from sidecar.model.address import Address


class Probe(Protocol):
    """One way of asking an endpoint whether it is well."""

    async def ask(self, address: Address) -> str:
        """Empty when it is well, else the reason why it is not.

        May raise OSError or TimeoutError, which are reasons too. The caller bounds
        its time, and cancels it; nothing stays open after either.
        """

    async def close(self) -> None:
        """Let go of whatever is kept between two questions."""
