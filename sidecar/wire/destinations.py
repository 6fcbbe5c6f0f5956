"""Connecting to a host that a client chose: resolved once, each address asked about,
and connected to by its number. A second look-up could answer with another address
(DNS rebinding)."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from sidecar.model.address import Address
from sidecar.policy.destinations import Destinations


class ForbiddenError(Exception):
    """A name leads to no address that may be connected to."""


async def connect_checked(
    loop: asyncio.AbstractEventLoop, factory: Callable[[], Any], address: Address, destinations: Destinations
) -> None:
    """Connect to one of the host's permitted addresses, in the resolver's order.

    ForbiddenError when it has none; OSError of the last one when none answers.
    """
    # AI_ADDRCONFIG is left out: a machine with a loopback alone still reaches itself.
    found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    # With the zone of a link-local address, which getnameinfo's number form has.
    numbers = dict.fromkeys(_number(family, sockaddr) for family, _, _, _, sockaddr in found)
    permitted = destinations.permits(numbers, address.port)
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


def _number(family: int, sockaddr: Any) -> str:
    if family == socket.AF_INET6 and sockaddr[3] and "%" not in sockaddr[0]:
        return f"{sockaddr[0]}%{sockaddr[3]}"
    return str(sockaddr[0])
