"""How many connections the process has files for. Imports nothing.

A ceiling on clients below the limit on open files keeps files for the connections to
endpoints that their requests need, for the admin server, and for reading the
configuration again (as HAProxy derives maxconn from ulimit-n).
"""

import errno
from collections.abc import Callable
from dataclasses import dataclass
from sys import maxsize

# Files beside connections: the share of the limit, and its bounds.
_RESERVED_SHARE = 16
_RESERVED = (16, 1024)


# accept(2), connect(2): out of files or of memory. Asked again at once they say the same.
EXHAUSTED = {
    errno.EMFILE: "emfile",
    errno.ENFILE: "enfile",
    errno.ENOBUFS: "enobufs",
    errno.ENOMEM: "enomem",
}


@dataclass(frozen=True, slots=True)
class Ceiling:
    """`clients` connections from clients at most, `connections` with those to endpoints,
    and `refusals` more that are told so at one time."""

    clients: int = maxsize
    connections: int = maxsize
    refusals: int = 64


def reserve_of(limit: int) -> int:
    """Files of a limit that no connection gets."""
    low, high = _RESERVED
    return min(high, max(low, limit // _RESERVED_SHARE), limit // 3)


def ceiling_for(limit: int, others: int, wanted: int | None = None) -> Ceiling:
    """What a limit on open files allows. `others` are open already and are no
    connections; `wanted` is the configuration's number of clients."""
    reserve = reserve_of(limit)
    connections = max(2, limit - others - reserve)
    # Each client may need one connection to an endpoint.
    clients = max(1, connections // 2)
    if wanted is not None:
        clients = min(wanted, max(1, connections - 1))
    return Ceiling(clients, connections, max(1, min(64, reserve // 2)))


class Places:
    """The count of connections against the ceiling. `refusing` says that no more
    clients are wanted at all, whatever there is room for."""

    __slots__ = (
        "_waiting",
        "ceiling",
        "clients",
        "errors",
        "on_client",
        "on_error",
        "on_refusal",
        "refusals",
        "refused",
        "refusing",
        "upstream",
    )

    def __init__(self) -> None:
        self.ceiling = Ceiling()
        self.clients = 0  # open, those that are being refused included
        self.refusals = 0  # of them, those that are being refused
        self.upstream = 0
        self.refusing = False
        # Who hears of each client that connects.
        self.on_client: Callable[[], None] = lambda: None
        # Connections that were refused, by reason.
        self.refused = {"ceiling": 0, "listener": 0, "pressure": 0}
        # Errors of accept(2), by reason, and who hears of each.
        self.errors = dict.fromkeys((*EXHAUSTED.values(), "other"), 0)
        self.on_error: Callable[[str, OSError], None] = lambda reason, error: None
        # Who hears of each refusal, by its reason.
        self.on_refusal: Callable[[str], None] = lambda reason: None
        self._waiting: list[Callable[[], None]] = []

    def refusal(self) -> str | None:
        """Why one more client, which is counted already, is not let in; None when it is."""
        if self.refusing:
            return "pressure"
        if self.served > self.ceiling.clients or self.served + self.upstream > self.ceiling.connections:
            return "ceiling"
        return None

    @property
    def served(self) -> int:
        """Clients that were let in."""
        return self.clients - self.refusals

    @property
    def may_refuse(self) -> bool:
        """Whether there is a file to tell one more client that it is not let in."""
        return self.refusals < self.ceiling.refusals

    @property
    def may_dial(self) -> bool:
        """Whether there is a file for one more connection to an endpoint."""
        return self.served + self.upstream < self.ceiling.connections

    def failed(self, error: OSError) -> None:
        """A connection could not be accepted."""
        reason = EXHAUSTED.get(error.errno or 0, "other")
        self.errors[reason] += 1
        self.on_error(reason, error)

    def left(self) -> None:
        """A client's connection was closed."""
        self.clients -= 1
        self._tell()

    def refuse(self, reason: str) -> None:
        """One more is not let in."""
        self.refused[reason] += 1
        self.refusals += 1
        self.on_refusal(reason)

    def refusing_ended(self) -> None:
        """One that was not let in is gone."""
        self.refusals -= 1
        self._tell()

    def _tell(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for call in waiting:
                call()

    def when_one_left(self, call: Callable[[], None]) -> None:
        """Call once when a client's connection is closed."""
        self._waiting.append(call)
