"""Connecting to a host that a client chose: resolved once, each address asked about,
and connected to by its number. A second look-up could answer with another address
(DNS rebinding)."""

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import Any

from sidecar.model.address import Address
from sidecar.policy.destinations import Destinations

# uvloop looks names up on four threads, for clusters too: names that clients choose,
# and that may take a resolver's whole patience, never hold the last one.
_LOOKUPS_AT_ONCE = 3


class ForbiddenError(Exception):
    """A name leads to no address that may be connected to."""


class Lookups:
    """Looks up names that clients chose: a few at once, each name once at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._room = asyncio.Semaphore(_LOOKUPS_AT_ONCE)
        self._running: dict[str, asyncio.Task[list[str]]] = {}

    async def addresses(self, host: str) -> list[str]:
        """A host's addresses as numbers, in the resolver's order; OSError when it has none."""
        if _is_number(host):
            return [host]
        task = self._running.get(host)
        if task is None:
            task = self._running[host] = self._loop.create_task(self._look_up(host))
            task.add_done_callback(partial(self._done, host))
        # A dial that gives up does not end the look-up: its thread goes on in any case.
        return await asyncio.shield(task)

    async def _look_up(self, host: str) -> list[str]:
        async with self._room:
            # AI_ADDRCONFIG is left out: a machine with a loopback alone still reaches itself.
            found = await self._loop.getaddrinfo(host, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        return list(dict.fromkeys(_number(family, sockaddr) for family, _, _, _, sockaddr in found))

    def _done(self, host: str, task: asyncio.Task[list[str]]) -> None:
        del self._running[host]
        if not task.cancelled():
            task.exception()  # nobody may be left to hear of it

    def close(self) -> None:
        """Wait for nothing any more."""
        for task in self._running.values():
            task.cancel()


async def connect_checked(
    loop: asyncio.AbstractEventLoop,
    lookups: Lookups,
    factory: Callable[[], Any],
    address: Address,
    destinations: Destinations,
) -> None:
    """Connect to one of the host's permitted addresses, in the resolver's order.

    ForbiddenError when it has none; OSError of the last one when none answers.
    """
    permitted = destinations.permits(await lookups.addresses(address.host), address.port)
    if not permitted:
        raise ForbiddenError
    for number in permitted:
        try:
            await loop.create_connection(factory, number, address.port, flags=socket.AI_NUMERICHOST)
        except OSError:
            if number is permitted[-1]:
                raise
        else:
            return


def _is_number(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _number(family: int, sockaddr: Any) -> str:
    # With the zone of a link-local address, which only a network under `allow` lets through.
    if family == socket.AF_INET6 and sockaddr[3] and "%" not in sockaddr[0]:
        return f"{sockaddr[0]}%{sockaddr[3]}"
    return str(sockaddr[0])
