"""What a configuration became: frozen, swapped whole, pinned by each exchange."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from sidecar.identity.clients import Clients
from sidecar.model.head import RequestHead
from sidecar.model.outcome import Failure
from sidecar.policy.destinations import Destinations
from sidecar.policy.pace import Pace
from sidecar.proxy.route import Route, RouteTable, host_of
from sidecar.upstream.cluster import Cluster

_PORT_DIGITS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """One listener's part: its routes, and in forward mode what else may be reached.

    `destinations` says what that is; `passthrough(host, port)` makes the route to such a host.
    """

    name: str
    mode: str
    table: RouteTable
    destinations: Destinations = field(default_factory=Destinations)
    passthrough: Callable[[str, int], Route] | None = None
    # The route of a listener that has one for everything, else None.
    only: Route | None = None
    # Who may come in at all, and the TLS that they speak (sidecar.wire.tls); None = plain text.
    guards: tuple[Clients, ...] = ()
    tls: Any = None
    # What clients may take their time over, and how many may be connected; None = as many
    # as there are files for.
    pace: Pace = field(default_factory=Pace)
    max_connections: int | None = None

    def match(self, head: RequestHead) -> Route | Failure:
        """The request's route, or why there is none."""
        if head.method == b"CONNECT" and self.mode != "forward":
            return Failure.BAD_REQUEST
        route = self.table.match(head)
        if route is not None:
            return route
        if self.passthrough is None:
            return Failure.NO_ROUTE
        host, port = target_of(head)
        if self.destinations.admits(host, port):
            return self.passthrough(host, port)
        return Failure.FORBIDDEN


class _Closed(Listener):
    """One that takes nothing any more."""

    __slots__ = ()

    def match(self, head: RequestHead) -> Failure:
        """Whatever it is."""
        return Failure.DRAINING


def target_of(head: RequestHead) -> tuple[str, int]:
    """Host and port that a forward request is for."""
    host = host_of(head.authority)
    port = head.authority.rpartition(b":")[2]
    if port.isdigit():
        return host, int(port) if len(port) <= _PORT_DIGITS else 0
    return host, 443 if head.scheme == b"https" or head.method == b"CONNECT" else 80


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Listeners and clusters of one configuration. `version` counts from 1."""

    version: int = 0
    listeners: Mapping[str, Listener] = field(default_factory=dict)
    clusters: Mapping[str, Cluster] = field(default_factory=dict)

    def with_retired(self, listeners: Mapping[str, Listener]) -> "Snapshot":
        """The same with listeners whose last connections are still being answered."""
        return replace(self, listeners={**listeners, **self.listeners}) if listeners else self

    def closed(self) -> "Snapshot":
        """The same where every request is answered that we drain. The routes stay, for what
        is under way is counted there."""
        listeners = {
            name: _Closed(**{key.name: getattr(each, key.name) for key in fields(each)} | {"only": None})
            for name, each in self.listeners.items()
        }
        return replace(self, listeners=listeners)
