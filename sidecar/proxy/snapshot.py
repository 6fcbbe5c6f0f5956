"""What a configuration became: frozen, swapped whole, pinned by each exchange."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecar.proxy.route import RouteTable
from sidecar.upstream.cluster import Cluster


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """One listener's part: its routes, and in forward mode what else may be reached."""

    name: str
    mode: str
    table: RouteTable
    allow: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Listeners and clusters of one configuration. `version` counts from 1."""

    version: int = 0
    listeners: Mapping[str, Listener] = field(default_factory=dict)
    clusters: Mapping[str, Cluster] = field(default_factory=dict)
