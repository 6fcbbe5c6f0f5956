"""Route lookup with 10 and with 1,000 hosts: it must cost the same.

Every host has three routes; the request is for the last of one host's. Known
authorities are remembered, so a lookup of a host that was never asked for is
measured apart.
"""

from collections.abc import Callable

from benchmarks.measure import Effort, Figure, best
from sidecar.model.head import RequestHead
from sidecar.proxy.route import Route, RouteTable, Rule, path_is, path_under

HOSTS = (10, 1000)
# More than a table remembers, so that each is looked up anew.
_STRANGERS = 5000


def table(hosts: int) -> RouteTable:
    """Three routes for each host: a path, a prefix, everything else."""
    rules = []
    for number in range(hosts):
        name = f"host{number}.internal"
        rules += [
            Rule(Route(f"{name}/exact"), (name,), (path_is(b"/healthz"),)),
            Rule(Route(f"{name}/prefix"), (name,), (path_under(b"/v1"),)),
            Rule(Route(f"{name}/rest"), (name,)),
        ]
    return RouteTable(rules)


def _known(routes: RouteTable, hosts: int) -> Callable[[int], None]:
    head = RequestHead(b"GET", b"/other?x=1", b"host%d.internal:8080" % (hosts - 1), [])
    wanted = f"host{hosts - 1}.internal/rest"

    def run(count: int) -> None:
        match = routes.match
        for _ in range(count):
            route = match(head)
        assert route is not None
        assert route.name == wanted

    return run


def _unknown(routes: RouteTable) -> Callable[[int], None]:
    heads = [RequestHead(b"GET", b"/", b"stranger%d.internal" % number, []) for number in range(_STRANGERS)]

    def run(count: int) -> None:
        match = routes.match
        for number in range(count):
            assert match(heads[number % _STRANGERS]) is None

    return run


def figures(effort: Effort) -> list[Figure]:
    """Time of one lookup each."""
    found = []
    for hosts in HOSTS:
        routes = table(hosts)
        known = best(effort, _known(routes, hosts))
        unknown = best(effort, _unknown(routes))
        found.append(Figure("route lookup", f"{hosts:,} hosts, a known one", known, "us"))
        found.append(Figure("route lookup", f"{hosts:,} hosts, one never seen", unknown, "us"))
    return found
