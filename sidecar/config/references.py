"""What a section alone cannot tell: names that must exist, ports taken twice, routes never reached.

These look at plain data, before it is known to be well-shaped, so that they are
told together with every other error. What has the wrong shape is skipped here.
"""

from collections.abc import Callable, Iterator
from typing import Any

from sidecar.config.errors import Place, Problem, Step, path_text
from sidecar.config.grammar import parse_bind
from sidecar.config.hedge import NEVER
from sidecar.config.schema import Spec
from sidecar.config.shape import nearest
from sidecar.config.units import BadValueError
from sidecar.model.address import Address

Path = tuple[Step, ...]
# Where a path stands in the file.
Locate = Callable[[Path], Place]

_ANYWHERE = ("0.0.0.0", "::")


def check_data(data: dict[str, Any], locate: Locate) -> Iterator[Problem]:
    """Everything that is wrong between the sections of `data`."""
    yield from _unknown_clusters(data)
    yield from _listener_names(data)
    yield from _binds(data, locate)
    yield from _admin_token(data)
    yield from _unreachable(data, locate)
    yield from _route_names(data, locate)


def check_spec(spec: Spec) -> list[Problem]:
    """What is wrong only once defaults and overrides are put together."""
    problems = []
    for listener, name in ((listener, name) for name, listener in spec.listeners.items()):
        for index, route in enumerate(listener.routes):
            # The first target's policies are the route's.
            for target in list(route.to or ())[:1]:
                if route.hedge is not None and route.hedge.after != NEVER and spec.clusters[target].hedge is None:
                    where = ("listeners", name, "routes", index, "hedge")
                    problems.append(Problem(where, f"cluster {target} has no hedge", "set it on the cluster too"))
                backoff = route.retry_over(spec.clusters[target].retry).backoff
                if backoff.max < backoff.base:
                    path = ("listeners", name, "routes", index, "retry", "backoff")
                    problems.append(Problem(path, f"max is shorter than base, with what cluster {target} has"))
    return problems


def _section(data: Any, key: str) -> dict[str, Any]:
    found = data.get(key) if isinstance(data, dict) else None
    return found if isinstance(found, dict) else {}


def _routes(data: dict[str, Any]) -> Iterator[tuple[Path, list[Any]]]:
    for name, listener in _section(data, "listeners").items():
        routes = listener.get("routes") if isinstance(listener, dict) else None
        if isinstance(routes, list):
            yield ("listeners", name, "routes"), routes


def _unknown_clusters(data: dict[str, Any]) -> Iterator[Problem]:
    known = list(_section(data, "clusters"))
    for path, routes in _routes(data):
        for index, route in enumerate(routes):
            to = route.get("to") if isinstance(route, dict) else None
            if isinstance(to, str) and to not in known:
                yield Problem((*path, index, "to"), f"no cluster {to!r}", _cluster_hint(to, known))
            elif isinstance(to, dict):
                for name in to:
                    if name not in known:
                        where = (*path, index, "to", name)
                        yield Problem(where, f"no cluster {name!r}", _cluster_hint(name, known), at_key=True)

    for index, name in enumerate(_names(data.get("wait_for"))):
        if name not in known:
            yield Problem(("wait_for", index), f"no cluster {name!r}", _cluster_hint(name, known))


def _names(value: Any) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def _cluster_hint(name: str, known: list[str]) -> str:
    return nearest(name, known) if known else "there are no clusters"


def _listener_names(data: dict[str, Any]) -> Iterator[Problem]:
    listeners = _section(data, "listeners")
    for name, cluster in _section(data, "clusters").items():
        if isinstance(cluster, dict) and cluster.get("listen") is not None and name in listeners:
            path = ("clusters", name, "listen")
            yield Problem(path, f"makes a listener {name!r}, and listeners.{name} is there too", "rename one of them")


def _binds(data: dict[str, Any], locate: Locate) -> Iterator[Problem]:
    # By port: only the same port can collide.
    taken: dict[int | str, list[tuple[Address, Path]]] = {}
    for path, value in _bind_texts(data):
        try:
            address = parse_bind(value)
        except BadValueError:
            continue
        if not address.unix and not address.port:
            continue
        rivals = taken.setdefault(address.unix or address.port, [])
        other = next((where for there, where in rivals if _collide(address, there)), None)
        if other is None:
            rivals.append((address, path))
            continue
        line, column = locate(other)
        yield Problem(path, f"{address} is taken by {path_text(other)}", f"line {line}, column {column}")


def _admin_token(data: dict[str, Any]) -> Iterator[Problem]:
    admin = _section(data, "admin")
    try:
        address = parse_bind(admin.get("bind"))
    except BadValueError:
        return
    if not address.is_local and admin.get("token_file") is None:
        reason = f"{address} can be reached from other machines: that needs admin.token_file"
        yield Problem(("admin", "bind"), reason, "or bind 127.0.0.1, ::1 or unix:/path")


def _bind_texts(data: dict[str, Any]) -> Iterator[tuple[Path, object]]:
    yield ("admin", "bind"), _section(data, "admin").get("bind") or "127.0.0.1:15000"
    for key, field in (("clusters", "listen"), ("listeners", "bind")):
        for name, section in _section(data, key).items():
            if isinstance(section, dict) and section.get(field) is not None:
                yield (key, name, field), section[field]


def _collide(one: Address, other: Address) -> bool:
    """Whether two addresses with the same port or the same path cannot both be bound."""
    return one == other or (not one.unix and (one.host in _ANYWHERE or other.host in _ANYWHERE))


def _unreachable(data: dict[str, Any], locate: Locate) -> Iterator[Problem]:
    for path, routes in _routes(data):
        # By its text: equal matches written in another order are rare, and harmless.
        seen: dict[str, Path] = {}
        everything: Path | None = None
        for index, route in enumerate(routes):
            if not isinstance(route, dict):
                continue
            here = (*path, index)
            match = route.get("match") or {}
            earlier = everything or seen.get(repr(match))
            if earlier is not None:
                why = "takes everything" if everything else "takes the same"
                line, column = locate(earlier)
                reason = f"can never match: {path_text(earlier)} at line {line}, column {column} {why}"
                yield Problem(here, reason, "move it up" if everything else "")
            elif not match:
                everything = here
            seen.setdefault(repr(match), here)


def _route_names(data: dict[str, Any], locate: Locate) -> Iterator[Problem]:
    # Two series with equal labels are an invalid scrape.
    seen: dict[str, Path] = {}
    for path, routes in _routes(data):
        for index, route in enumerate(routes):
            name = route.get("name") if isinstance(route, dict) else None
            if not isinstance(name, str) or not name:
                continue
            here = (*path, index, "name")
            other = seen.setdefault(name, here)
            if other is not here:
                line, column = locate(other)
                yield Problem(here, f"{path_text(other)} is {name!r} too", f"line {line}, column {column}")
