"""Which of a host's addresses a client that chose it may be connected to. They were looked up
once, and are connected to by number: a second look-up could answer with another address
(DNS rebinding)."""

from collections.abc import Iterable

from sidecar.policy.destinations import Destinations


class ForbiddenError(Exception):
    """A name leads to no address that may be connected to."""


def permitted(numbers: Iterable[str], port: int, destinations: Destinations) -> list[str]:
    """Those that may be, in the resolver's order; ForbiddenError when there is none."""
    found = destinations.permits(numbers, port)
    if not found:
        raise ForbiddenError
    return found
