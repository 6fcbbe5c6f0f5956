"""How many requests ended, from where the path counted them: routes and targets."""

from collections import Counter
from collections.abc import Iterator, Mapping

from sidecar.assembly import Passthrough
from sidecar.codec.grpc import STATUS_NAMES
from sidecar.proxy.runtime import Runtime
from sidecar.proxy.snapshot import Snapshot

# By (cluster, route, protocol, code).
RequestCounts = Mapping[tuple[str, str, str, str], int]


def requests_of(runtime: Runtime, snapshot: Snapshot) -> RequestCounts:
    """Finished requests by (cluster, route, protocol, code)."""
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for cluster, route, codes in _meters(runtime, snapshot):
        for (protocol, code), number in codes.items():
            counts[cluster, route, protocol, code_name(protocol, code)] += number
    return counts


def _meters(runtime: Runtime, snapshot: Snapshot) -> Iterator[tuple[str, str, dict[tuple[str, int], int]]]:
    """Cluster, route and their counts by (protocol, code)."""
    yield "", "", runtime.unrouted
    for listener in snapshot.listeners.values():
        for route in listener.table.routes:
            yield "", route.name, route.codes
            for target in route.targets:
                yield target.cluster.name, route.name, target.codes
        if isinstance(listener.passthrough, Passthrough):
            # Clients choose the hosts under `allow`: they share one row.
            name = f"{listener.name}.allow"
            yield name, name, listener.passthrough.codes


def code_name(protocol: str, code: int) -> str:
    """The `code` label: a gRPC code's name, or the HTTP status. A gRPC call that was
    answered in plain HTTP, by a server that knows no gRPC, has an HTTP status."""
    if protocol == "grpc" and code < len(STATUS_NAMES):
        return STATUS_NAMES[code].upper()
    return str(code)
