"""From a request head to its route: first match wins, at a cost that does not grow
with the routes of other hosts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sidecar.identity.clients import Clients
from sidecar.model.head import RequestHead
from sidecar.model.headers import Headers
from sidecar.policy.expression import whole
from sidecar.policy.hedge import HedgePolicy
from sidecar.policy.idempotency import MethodSet
from sidecar.policy.priority import DEFAULT, HEADER
from sidecar.policy.retry import RetryPolicy
from sidecar.upstream.cluster import Cluster

# Authorities whose candidates are remembered; clients choose them, so bounded.
_REMEMBERED = 1024

Test = Callable[[RequestHead, bytes], bool]


@dataclass(frozen=True, slots=True)
class HeaderEdit:
    """What a route does to header fields: remove, then set, then add."""

    remove: frozenset[bytes] = frozenset()
    put: tuple[tuple[bytes, bytes], ...] = ()
    add: tuple[tuple[bytes, bytes], ...] = ()

    def apply(self, headers: Headers) -> Headers:
        """An edited copy."""
        gone = self.remove | {name for name, _ in self.put}
        return [*(pair for pair in headers if pair[0] not in gone), *self.put, *self.add]


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A new path prefix (in place of the `matched` one) and a new host; None leaves it."""

    matched: bytes = b""
    prefix: bytes | None = None
    host: bytes | None = None


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where to send the client; None keeps that part of the URL."""

    status: int = 302
    scheme: str | None = None
    host: str | None = None
    path: str | None = None
    prefix: str | None = None
    matched: str = ""

    def location(self, head: RequestHead) -> str:
        """The Location of this request's answer."""
        path, question, query = head.path.decode("latin-1").partition("?")
        if self.path is not None:
            path = self.path
        elif self.prefix is not None:
            path = joined(self.prefix, path.removeprefix(self.matched))
        authority = self.host if self.host is not None else head.authority.decode("latin-1")
        return f"{self.scheme or head.scheme.decode()}://{authority}{path}{question}{query}"


@dataclass(frozen=True, slots=True)
class Respond:
    """A fixed answer."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Target:
    """A cluster that a route sends to, with the meters of the pair.

    `codes` counts finished requests by (protocol, code): the HTTP status, or
    the gRPC status number when the protocol is "grpc".
    """

    __slots__ = ("cluster", "codes", "in_flight")

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.codes: dict[tuple[str, int], int] = {}
        self.in_flight = 0


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """What happens to the requests that match. Times in seconds, 0.0 for none.

    `bounds` are the running sums of the targets' weights; empty for one target.
    """

    name: str
    targets: tuple[Target, ...] = ()
    bounds: tuple[int, ...] = ()
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    request_timeout: float = 15.0
    try_timeout: float = 0.0
    idle_timeout: float = 300.0
    # Bytes a second of an answer whose length is known, over an idle timeout; 0 for any.
    min_rate: int = 100
    hedge: HedgePolicy | None = None
    streams: MethodSet | None = None
    rewrite: Rewrite | None = None
    request_headers: HeaderEdit | None = None
    response_headers: HeaderEdit | None = None
    # Of requests that do not say it in the field `priority_header`; empty = nobody is asked.
    priority: int = DEFAULT
    priority_header: bytes = HEADER.encode()
    redirect: Redirect | None = None
    respond: Respond | None = None
    # Who may come in: every one of them has to agree.
    guards: tuple[Clients, ...] = ()
    # Whether requests go on as they came: no rewrite, no edit.
    plain: bool = True
    # What `redirect` and `respond` answered, by (protocol, code).
    codes: dict[tuple[str, int], int] = field(default_factory=dict)
    # Whether requests go to a target as they come: nobody is kept out, no answer is fixed.
    direct: bool = field(init=False)
    # Whether somebody looks at a try before its answer: it has its own bound, or a hedge is due.
    timed: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "timed", bool(self.try_timeout) or self.hedge is not None)
        object.__setattr__(self, "direct", bool(self.targets) and not self.guards)

    def target(self, number: Callable[[], float]) -> Target:
        """One of the targets, by weight; `number` gives uniform values in [0, 1)."""
        if not self.bounds:
            return self.targets[0]
        place = number() * self.bounds[-1]
        for target, bound in zip(self.targets, self.bounds, strict=True):
            if place < bound:
                return target
        return self.targets[-1]


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One line of the table: the hosts it is for, its tests, its route.

    `hosts` holds exact names and `*.suffix` patterns, lower case; empty for any.
    """

    route: Route
    hosts: tuple[str, ...] = ()
    tests: tuple[Test, ...] = ()


class RouteTable:
    """The routes of one listener, indexed by host."""

    __slots__ = ("_any", "_exact", "_seen", "_suffixes", "only", "rules")

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        single = len(rules) == 1 and not rules[0].hosts and not rules[0].tests
        # The route that takes everything, when there is no other.
        self.only = rules[0].route if single else None
        # By pattern first, so that building costs no rules times rules.
        places: dict[str, set[int]] = {}
        for index, rule in enumerate(self.rules):
            for host in rule.hosts or ("",):
                places.setdefault(host, set()).add(index)
        self._any = self._at(places.get("", set()))
        self._exact: dict[str, tuple[Rule, ...]] = {}
        self._suffixes: dict[str, tuple[Rule, ...]] = {}
        for host in places:
            if host.startswith("*."):
                self._suffixes[host[1:]] = self._for("", host[1:], places)
            elif host:
                self._exact[host] = self._for(host, host, places)
        self._seen: dict[bytes, tuple[Rule, ...]] = {}

    def _at(self, indices: set[int]) -> tuple[Rule, ...]:
        return tuple(self.rules[index] for index in sorted(indices))

    def _for(self, exact: str, name: str, places: dict[str, set[int]]) -> tuple[Rule, ...]:
        """Every rule that a host may match which is `exact` or ends with `name`, in order."""
        indices = places.get("", set()) | places.get(exact, set())
        dot = name.find(".")
        while dot >= 0:
            indices |= places.get("*" + name[dot:], set())
            dot = name.find(".", dot + 1)
        return self._at(indices)

    def candidates(self, authority: bytes) -> tuple[Rule, ...]:
        """The rules whose host fits; a host's own rules and the general ones, in order."""
        found = self._seen.get(authority)
        if found is None:
            found = self._look_up(host_of(authority))
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            self._seen[authority] = found
        return found

    def _look_up(self, host: str) -> tuple[Rule, ...]:
        found = self._exact.get(host)
        if found is not None:
            return found
        # The longest suffix has the rules of every shorter one among its own.
        dot = host.find(".")
        while dot >= 0 and self._suffixes:
            found = self._suffixes.get(host[dot:])
            if found is not None:
                return found
            dot = host.find(".", dot + 1)
        return self._any

    def match(self, head: RequestHead) -> Route | None:
        """The first route that fits, or None."""
        if self.only is not None:
            return self.only
        path = head.path.partition(b"?")[0]
        for rule in self.candidates(head.authority):
            for test in rule.tests:
                if not test(head, path):
                    break
            else:
                return rule.route
        return None

    def knows_host(self, authority: bytes) -> bool:
        """Whether a rule names this host: what forward mode looks into."""
        return any(rule.hosts for rule in self.candidates(authority))

    @property
    def routes(self) -> tuple[Route, ...]:
        """Every route, in order."""
        return tuple(rule.route for rule in self.rules)


def host_of(authority: bytes) -> str:
    """The host of an authority: lower case, without port and trailing dot."""
    text = authority.decode("latin-1").lower()
    if text.startswith("["):
        return text.partition("]")[0] + "]"
    return text.partition(":")[0].removesuffix(".")


# Tests of a rule. Each takes the head and its path without the query.


def path_is(path: bytes) -> Test:
    """Exactly this path."""
    return lambda head, seen: seen == path


def path_under(prefix: bytes) -> Test:
    """This path or one below it: `/v1` takes /v1 and /v1/x, not /v10."""
    if prefix.endswith(b"/"):
        return lambda head, seen: seen.startswith(prefix)
    below = prefix + b"/"
    return lambda head, seen: seen.startswith(below) or seen == prefix


def path_matches(pattern: str) -> Test:
    """The whole path matches a regular expression."""
    matches = whole(pattern)
    return lambda head, seen: matches(seen)


def method_in(methods: Sequence[str]) -> Test:
    """One of these methods."""
    wanted = frozenset(method.upper().encode() for method in methods)
    return lambda head, seen: head.method in wanted


def grpc_method(pattern: str) -> Test:
    """A gRPC method, a service's methods, or a package's."""
    methods = MethodSet([pattern])
    return lambda head, seen: head.method == b"POST" and seen in methods and is_grpc_head(head)


def header_is(name: str, value: str) -> Test:
    """A field with exactly this value."""
    key, wanted = name.encode(), value.encode()
    return lambda head, seen: any(pair == (key, wanted) for pair in head.headers)


def header_present(name: str, present: bool) -> Test:
    """A field is there, or is not."""
    key = name.encode()
    return lambda head, seen: any(pair[0] == key for pair in head.headers) is present


def header_matches(name: str, pattern: str) -> Test:
    """A field's whole value matches a regular expression."""
    key, matches = name.encode(), whole(pattern)
    return lambda head, seen: any(n == key and matches(v) for n, v in head.headers)


def is_grpc_head(head: RequestHead) -> bool:
    """Whether a request is a gRPC call, by its content type."""
    for name, value in head.headers:
        if name == b"content-type":
            return value.startswith(b"application/grpc") and not value.startswith(b"application/grpc-web")
    return False


def joined(prefix: str, rest: str) -> str:
    """A prefix and what follows it, with one slash between them."""
    if not rest or rest.startswith("?"):
        return (prefix or "/") + rest
    return prefix.rstrip("/") + "/" + rest.lstrip("/")
