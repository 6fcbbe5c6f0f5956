"""Which route, cluster and policy a request gets, and why."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from sidecar.config.clusters import Cluster
from sidecar.config.conditions import conditions
from sidecar.config.listeners import Listener, Match, Route
from sidecar.config.schema import Spec
from sidecar.config.secrets import without_credentials
from sidecar.config.units import BadValueError, format_duration
from sidecar.model.head import RequestHead
from sidecar.policy.destinations import Destinations
from sidecar.policy.idempotency import Idempotency
from sidecar.proxy import route as proxy
from sidecar.proxy.snapshot import target_of


class Step(NamedTuple):
    """One route that was looked at. `failed` words the first condition that did not hold, or is empty."""

    route: str
    failed: str


class Explanation(NamedTuple):
    """What one listener does with a request. `route` is None for a local 404."""

    listener: str
    bind: str
    steps: list[Step]
    route: Route | None
    # By cluster: its weight and the policies that hold for this route.
    targets: dict[str, dict[str, Any]]
    # Who alone may ask, the listener's word first; empty for everybody.
    clients: list[dict[str, Any]]
    # What happens when no route matches.
    otherwise: str = "404 no_route"

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "listener": self.listener,
            "bind": self.bind,
            "route": self.route.name if self.route else None,
            "action": self.action(),
            "clients": self.clients,
            "steps": [step._asdict() for step in self.steps],
            "targets": self.targets,
        }

    def action(self) -> str:
        """What the request gets, in a few words."""
        if self.route is None:
            return self.otherwise
        if self.route.redirect is not None:
            return f"redirect {self.route.redirect.status}"
        if self.route.respond is not None:
            return f"respond {self.route.respond.status}"
        return f"to {' or '.join(self.targets)}"

    def lines(self) -> list[str]:
        """For people."""
        lines = [f"{self.listener} ({self.bind})"]
        lines += [
            f"  {step.route}: {f'no, not so: {step.failed}' if step.failed else 'matches'}" for step in self.steps
        ]
        lines += [f"  only for clients with {_words(clients)}" for clients in self.clients]
        lines.append(f"  -> {self.action()}")
        for name, policy in self.targets.items():
            lines.append(f"  cluster {name}")
            for key, value in policy.items():
                lines.append(f"    {key}: {_words(value)}")
        return lines


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return "null" if value is None else str(value)


def request_head(method: str, url: str, headers: Sequence[tuple[str, str]]) -> RequestHead:
    """A request as a client would send it; BadValueError for one that cannot be."""
    if not method or not method.isascii() or not method.isprintable() or " " in method:
        raise BadValueError(f"{method!r} is no HTTP method")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadValueError(f"{without_credentials(url)!r} is no URL: {error}") from None
    if parts.scheme and not parts.hostname:
        raise BadValueError(f"{without_credentials(url)!r} has no host", "write http://users.internal/path")
    host = parts.netloc.rpartition("@")[2]
    fields = []
    for name, value in headers:
        if name.lower() == "host":
            host = value
        else:
            fields.append((name.lower().encode(), value.encode()))
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not path.startswith("/"):
        raise BadValueError(f"{without_credentials(url)!r} is no URL", "write http://users.internal/path or /path")
    scheme = parts.scheme or "http"
    if port in (80, 443) and port == {"http": 80, "https": 443}.get(scheme):
        host = host.rpartition(":")[0]
    return RequestHead(method.encode(), path.encode(), host.encode(), fields, scheme.encode())


def explain(spec: Spec, head: RequestHead) -> list[Explanation]:
    """What every listener does with the request."""
    return [_explain(spec, name, listener, head) for name, listener in spec.all_listeners().items()]


def _explain(spec: Spec, name: str, listener: Listener, head: RequestHead) -> Explanation:
    table = proxy.RouteTable([_rule(route) for route in listener.routes])
    taken = table.match(head)
    steps: list[Step] = []
    found: Route | None = None
    for route in listener.routes:
        if taken is not None and route.name == taken.name:
            found = route
            steps.append(Step(route.name, ""))
            break
        steps.append(Step(route.name, without_credentials(_first_failed(route.match, head), spec.secrets)))
    bind = without_credentials(str(listener.bind), spec.secrets)
    clients = [_plain(each) for each in (listener.clients, found and found.clients) if each is not None]
    return Explanation(name, bind, steps, found, _targets(spec, found, head), clients, _otherwise(listener, head))


def _otherwise(listener: Listener, head: RequestHead) -> str:
    if listener.mode != "forward":
        return "404 no_route"
    host, port = target_of(head)
    if Destinations(listener.allow).admits(host, port):
        return f"allow: to {host}:{port}, at an address that is public or under allow"
    return "403 forbidden"


def _rule(route: Route) -> proxy.Rule:
    tests = tuple(test for _, test in conditions(route.match))
    return proxy.Rule(proxy.Route(route.name), tuple(route.match.host or ()), tests)


def _first_failed(match: Match, head: RequestHead) -> str:
    if match.host is not None:
        host_only = proxy.RouteTable([proxy.Rule(proxy.Route("host"), tuple(match.host))])
        if host_only.match(head) is None:
            return f"host is {' or '.join(match.host)}"
    path = head.path.partition(b"?")[0]
    return next((wording for wording, test in conditions(match) if not test(head, path)), "")


def _targets(spec: Spec, route: Route | None, head: RequestHead) -> dict[str, dict[str, Any]]:
    if route is None or route.to is None:
        return {}
    targets = {}
    # A split is between versions of one service: the first target's policies hold for
    # the route, as in assembly. The budget is each cluster's own.
    first = spec.clusters[next(iter(route.to))]
    timeouts, retry = route.timeouts_over(first.timeouts), route.retry_over(first.retry)
    repeatable = Idempotency(retry.idempotent).allows(head)
    for name, weight in route.to.items():
        cluster = spec.clusters[name]
        targets[name] = {
            "weight": weight,
            "endpoints": [str(endpoint.address) for endpoint in cluster.endpoints],
            "protocol": cluster.protocol,
            "balance": _plain(cluster.balance),
            "timeouts": timeouts.model_dump(mode="json", by_alias=True),
            "retry": {**_plain(retry), "budget": _plain(cluster.retry.budget)},
            "may run twice": "yes" if repeatable else "no: tried again only when it provably did not run",
            "hedge": _hedge(route, first, cluster, repeatable),
            "breaker": _plain(cluster.breaker),
            "outlier_ejection": "off" if cluster.outlier_ejection is None else _plain(cluster.outlier_ejection),
            "limits": _plain(cluster.limits),
            "admission": "off" if cluster.admission is None else _plain(cluster.admission),
            "priority": route.priority,
        }
    shown: dict[str, dict[str, Any]] = _without(targets, spec.secrets)
    return shown


def _hedge(route: Route, first: Cluster, cluster: Cluster, repeatable: bool) -> Any:
    """When a slow first try gets a second one beside it. What it may cost is each cluster's own."""
    if cluster.hedge is None:
        return "off"
    after = route.hedge_over(first)
    if after is None:
        if first.hedge is None:
            return "off: the policies of a split are those of its first cluster, which has none"
        return "off: this route wants none" if route.hedge is not None else "off: retry.attempts is 1"
    if not repeatable:
        return "off for this request: it must not run twice"
    return {**_plain(cluster.hedge), "after": after if isinstance(after, str) else format_duration(after)}


def _without(value: Any, secrets: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [_without(item, secrets) for item in value]
    return without_credentials(value, secrets) if isinstance(value, str) else value


def _plain(section: Any) -> dict[str, Any]:
    plain: dict[str, Any] = section.model_dump(mode="json", by_alias=True, exclude_none=True)
    return plain
