"""Routes: what matches, who is asked, what is rewritten, and at what cost."""

from collections import Counter
from random import Random
from typing import Any

import pytest

from sidecar.model.head import RequestHead
from sidecar.model.headers import Headers
from sidecar.model.outcome import Failure
from sidecar.policy.destinations import Destinations
from sidecar.proxy import route as r
from sidecar.proxy.snapshot import Listener
from tests.proxy.world import World


def head(
    path: str = "/", host: str = "users.internal", method: str = "GET", headers: Headers | None = None
) -> RequestHead:
    return RequestHead(method.encode(), path.encode(), host.encode(), headers or [])


def table(*rules: tuple[str, tuple[str, ...], tuple[r.Test, ...]]) -> r.RouteTable:
    return r.RouteTable([r.Rule(r.Route(name), hosts, tests) for name, hosts, tests in rules])


def name_of(routes: r.RouteTable, request: RequestHead) -> str | None:
    found = routes.match(request)
    return None if found is None else found.name


# --------------------------------------------------------------------------- hosts

HOSTS = table(
    ("exact", ("users.internal", "people.internal"), ()),
    ("x", ("x.internal",), ()),
    ("deep", ("*.eu.internal",), ()),
    ("suffix", ("*.internal",), ()),
    ("v6", ("[::1]",), ()),
)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("users.internal", "exact"),
        ("users.internal:8080", "exact"),
        ("USERS.Internal", "exact"),
        ("users.internal.", "exact"),
        ("people.internal", "exact"),
        ("x.internal", "x"),
        ("y.internal", "suffix"),
        ("a.b.internal", "suffix"),
        ("a.eu.internal", "deep"),
        ("a.b.eu.internal", "deep"),
        ("eu.internal", "suffix"),
        ("internal", None),
        ("xinternal", None),
        ("[::1]", "v6"),
        ("[::1]:80", "v6"),
        ("other", None),
        ("", None),
    ],
)
def test_hosts(host: str, expected: str | None) -> None:
    assert name_of(HOSTS, head(host=host)) == expected


def test_the_first_match_wins_whatever_its_host_pattern() -> None:
    routes = table(
        ("suffix", ("*.internal",), (r.path_under(b"/a"),)),
        ("any", (), (r.path_under(b"/b"),)),
        ("exact", ("users.internal",), ()),
        ("late", ("*.internal",), ()),
    )
    assert name_of(routes, head("/a")) == "suffix"
    assert name_of(routes, head("/b")) == "any"
    assert name_of(routes, head("/c")) == "exact"
    assert name_of(routes, head("/c", "other.internal")) == "late"
    assert name_of(routes, head("/b", "elsewhere")) == "any"
    assert name_of(routes, head("/a", "elsewhere")) is None


def test_the_same_as_looking_at_every_rule() -> None:
    """The index is an optimization: it must agree with the plain definition."""
    rng = Random(5)
    names = ["a.x", "b.x", "a.b.x", "x", "y.z", "x.x"]
    patterns = [*names, "*.x", "*.b.x", "*.z"]
    for _ in range(50):
        rules = []
        for number in range(rng.randrange(1, 8)):
            hosts = tuple(rng.sample(patterns, rng.randrange(3)))
            tests = (r.path_is(b"/p"),) if rng.random() < 0.5 else ()
            rules.append(r.Rule(r.Route(str(number)), hosts, tests))
        routes = r.RouteTable(rules)
        for name in names:
            for path in (b"/p", b"/q"):
                request = RequestHead(b"GET", path, name.encode(), [])
                expected = next(
                    (
                        rule.route
                        for rule in rules
                        if (not rule.hosts or any(_fits(pattern, name) for pattern in rule.hosts))
                        and all(test(request, path) for test in rule.tests)
                    ),
                    None,
                )
                assert routes.match(request) is expected


def _fits(pattern: str, name: str) -> bool:
    return name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern


@pytest.mark.parametrize("others", [10, 1000])
@pytest.mark.parametrize("host", ["users.internal", "a.users.internal"])
def test_routes_of_other_hosts_cost_nothing(others: int, host: str) -> None:
    looked_at: Counter[str] = Counter()

    def counted(name: str) -> r.Test:
        def test(request: RequestHead, path: bytes) -> bool:
            looked_at[name] += 1
            return True

        return test

    rules = [r.Rule(r.Route(f"h{n}"), (f"h{n}.internal",), (counted("other"),)) for n in range(others)]
    rules += [r.Rule(r.Route(f"s{n}"), (f"*.s{n}.internal",), (counted("other"),)) for n in range(others)]
    rules.append(r.Rule(r.Route("own"), ("users.internal", "*.users.internal"), (counted("own"),)))
    routes = r.RouteTable(rules)
    assert len(routes.candidates(host.encode())) == 1
    for _ in range(3):
        assert name_of(routes, head(host=host)) == "own"
    assert looked_at == {"own": 3}


def test_a_client_cannot_fill_the_memory_with_host_names() -> None:
    routes = table(("suffix", ("*.internal",), ()))
    for number in range(5000):
        assert name_of(routes, head(host=f"h{number}.internal")) == "suffix"
    assert len(routes._seen) <= 1024


def test_one_rule_for_everything_is_found_without_a_search() -> None:
    assert table(("all", (), ())).only is not None
    assert table(("all", ("x",), ())).only is None
    assert table(("all", (), (r.path_is(b"/"),))).only is None
    assert table(("a", (), ()), ("b", (), ())).only is None
    assert name_of(table(), head()) is None


# --------------------------------------------------------------------------- tests

GRPC: Headers = [(b"content-type", b"application/grpc+proto")]


@pytest.mark.parametrize(
    ("test", "request_head", "expected"),
    [
        (r.path_is(b"/v1"), head("/v1"), True),
        (r.path_is(b"/v1"), head("/v1?x=1"), True),
        (r.path_is(b"/v1"), head("/v1/"), False),
        (r.path_under(b"/v1"), head("/v1"), True),
        (r.path_under(b"/v1"), head("/v1?x"), True),
        (r.path_under(b"/v1"), head("/v1/x"), True),
        (r.path_under(b"/v1"), head("/v10"), False),
        (r.path_under(b"/v1/"), head("/v1/x"), True),
        (r.path_under(b"/v1/"), head("/v1"), False),
        (r.path_under(b"/"), head("/anything"), True),
        (r.path_matches(r"/v\d+/.*"), head("/v12/x"), True),
        (r.path_matches(r"/v\d+"), head("/v12/x"), False),
        (r.path_matches(r"/v\d+"), head("/v1?q=/x"), True),
        (r.method_in(["get", "HEAD"]), head(), True),
        (r.method_in(["POST"]), head(), False),
        (r.grpc_method("/pkg.Users/Get"), head("/pkg.Users/Get", method="POST", headers=GRPC), True),
        (r.grpc_method("/pkg.Users/*"), head("/pkg.Users/Get", method="POST", headers=GRPC), True),
        (r.grpc_method("/pkg.*"), head("/pkg.Users/Get", method="POST", headers=GRPC), True),
        (r.grpc_method("/pkg.Users/*"), head("/pkg.UsersAdmin/Get", method="POST", headers=GRPC), False),
        (r.grpc_method("/pkg.Users/Get"), head("/pkg.Users/Get", method="POST"), False),
        (r.grpc_method("/pkg.Users/Get"), head("/pkg.Users/Get", method="GET", headers=GRPC), False),
        (r.header_is("x-beta", "1"), head(headers=[(b"x-beta", b"0"), (b"x-beta", b"1")]), True),
        (r.header_is("x-beta", "1"), head(headers=[(b"x-beta", b"10")]), False),
        (r.header_present("x-beta", True), head(headers=[(b"x-beta", b"")]), True),
        (r.header_present("x-beta", True), head(), False),
        (r.header_present("x-beta", False), head(), True),
        (r.header_matches("x-user", r"a\d+"), head(headers=[(b"x-user", b"a12")]), True),
        (r.header_matches("x-user", r"a\d+"), head(headers=[(b"x-user", b"a12b")]), False),
    ],
)
def test_tests(test: r.Test, request_head: RequestHead, expected: bool) -> None:
    assert test(request_head, request_head.path.partition(b"?")[0]) is expected


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc-web", False),
        (b"application/grpc-web+proto", False),
        (b"application/json", False),
    ],
)
def test_what_is_grpc(content_type: bytes, expected: bool) -> None:
    assert r.is_grpc_head(head(headers=[(b"content-type", content_type)])) is expected


# -------------------------------------------------------------------------- splits


def test_a_split_follows_the_weights() -> None:
    targets: Any = tuple(r.Target(None) for _ in range(3))  # type: ignore[arg-type]
    route = r.Route("split", targets, bounds=(90, 99, 100))
    rng = Random(7)
    drawn = Counter(targets.index(route.target(rng.random)) for _ in range(20_000))
    assert abs(drawn[0] / 20_000 - 0.90) < 0.01
    assert abs(drawn[1] / 20_000 - 0.09) < 0.01
    assert abs(drawn[2] / 20_000 - 0.01) < 0.005
    assert route.target(lambda: 0.0) is targets[0]
    assert route.target(lambda: 0.9) is targets[1]
    assert route.target(lambda: 0.9999999) is targets[2]


# ----------------------------------------------------------------- edits, rewrites


def test_edits_remove_then_set_then_add() -> None:
    edit = r.HeaderEdit(frozenset({b"a"}), ((b"b", b"new"),), ((b"c", b"2"), (b"a", b"back")))
    before: Headers = [(b"a", b"1"), (b"b", b"1"), (b"b", b"2"), (b"c", b"1"), (b"d", b"1")]
    assert edit.apply(before) == [(b"c", b"1"), (b"d", b"1"), (b"b", b"new"), (b"c", b"2"), (b"a", b"back")]
    assert before[0] == (b"a", b"1"), "a copy: the next try starts from the client's own"


def test_edits_reach_the_endpoint_and_the_client() -> None:
    world = World(
        plain=False,
        request_headers=r.HeaderEdit(put=((b"x-to", b"endpoint"),)),
        response_headers=r.HeaderEdit(frozenset({b"server"}), add=((b"x-to", b"client"),)),
    )
    client = world.request()
    assert world.last.sent(b"x-to") == b"endpoint"
    world.last.answer(200, b"", [(b"server", b"secret")])
    assert (client.got(b"x-to"), client.got(b"server")) == (b"client", None)
    world.at_rest()


@pytest.mark.parametrize(
    ("matched", "prefix", "path", "expected"),
    [
        (b"/v1", b"/api", "/v1/users?q=1", b"/api/users?q=1"),
        (b"/v1", b"/api/", "/v1/users", b"/api/users"),
        (b"/v1/", b"/api", "/v1/users", b"/api/users"),
        (b"/v1", b"/", "/v1", b"/"),
        (b"/v1", b"/", "/v1?q=1", b"/?q=1"),
        (b"/v1", b"/api", "/v1", b"/api"),
        (b"/v1", b"", "/v1/x", b"/x"),
        (b"/v1", None, "/v1/x", b"/v1/x"),
        (b"/v1", b"/api", "/v1/\xff", b"/api/\xc3\xbf"),
    ],
)
def test_a_prefix_is_rewritten(matched: bytes, prefix: bytes | None, path: str, expected: bytes) -> None:
    world = World(plain=False, rewrite=r.Rewrite(matched, prefix))
    world.request(path=path)
    assert world.last.request is not None
    assert world.last.request.path == expected
    world.last.answer()


def test_a_host_is_rewritten_on_every_try() -> None:
    world = World(plain=False, rewrite=r.Rewrite(host=b"inner:8080"))
    world.request()
    world.last.fails(Failure.REFUSED)
    for stream in world.streams:
        assert stream.request is not None
        assert stream.request.authority == b"inner:8080"
    world.last.answer()


# ------------------------------------------------------------ answered without help


@pytest.mark.parametrize(
    ("redirect", "location"),
    [
        (r.Redirect(scheme="https"), b"https://users.internal/v1/x?q=1"),
        (r.Redirect(host="other:81"), b"http://other:81/v1/x?q=1"),
        (r.Redirect(path="/new"), b"http://users.internal/new?q=1"),
        (r.Redirect(prefix="/v2", matched="/v1"), b"http://users.internal/v2/x?q=1"),
        (r.Redirect(prefix="/", matched="/v1"), b"http://users.internal/x?q=1"),
    ],
)
def test_redirects(redirect: r.Redirect, location: bytes) -> None:
    world = World(targets=(), redirect=redirect)
    client = world.request(path="/v1/x?q=1")
    assert (client.status, client.got(b"location"), client.ended) == (302, location, True)
    assert client.got(b"x-sidecar-error") is None
    world.at_rest()


@pytest.mark.parametrize(("method", "body"), [("GET", b"hello"), ("HEAD", b"")])
def test_fixed_answers(method: str, body: bytes) -> None:
    respond = r.Respond(203, b"hello", ((b"content-type", b"text/plain"),))
    world = World(targets=(), respond=respond, response_headers=r.HeaderEdit(put=((b"x-own", b"1"),)))
    client = world.request(method)
    assert (client.status, client.body, client.ended) == (203, body, True)
    assert (client.got(b"content-length"), client.got(b"x-own")) == (b"5", b"1")
    assert world.route.codes == {("http1", 203): 1}
    world.at_rest()


def test_no_route_is_404_and_unimplemented() -> None:
    world = World()
    world.runtime.snapshot = world.snapshot()
    client = world.request("HEAD")
    assert (client.status, client.got(b"x-sidecar-error"), client.body) == (404, b"no_route", b"")
    call = world.call()
    assert (call.grpc_status, call.got(b"x-sidecar-error")) == (b"12", b"no_route")
    assert world.runtime.unrouted == {("http1", 404): 1, ("grpc", 12): 1}
    world.at_rest()


def test_a_request_stays_with_the_routes_it_began_with() -> None:
    world = World()
    client = world.request()
    world.runtime.snapshot = world.snapshot()
    world.last.fails(Failure.REFUSED)
    world.last.answer()
    assert client.status == 200
    world.at_rest()


# ------------------------------------------------------------------ forward listeners

ALLOW = ("exact.org", "*.suffix.org", "tls.org:443", "*.both.org:8443", "[::1]:443")


@pytest.mark.parametrize(
    ("method", "authority", "allowed"),
    [
        ("GET", "exact.org", ("exact.org", 80)),
        ("GET", "EXACT.org:81", ("exact.org", 81)),
        ("CONNECT", "exact.org:9", ("exact.org", 9)),
        ("GET", "a.suffix.org", ("a.suffix.org", 80)),
        ("GET", "suffix.org", None),
        ("GET", "tls.org", None),
        ("CONNECT", "tls.org", ("tls.org", 443)),
        ("CONNECT", "tls.org:443", ("tls.org", 443)),
        ("CONNECT", "a.both.org:8443", ("a.both.org", 8443)),
        ("CONNECT", "a.both.org:443", None),
        ("CONNECT", "[::1]:443", ("[::1]", 443)),
        ("GET", "evil.org", None),
        ("GET", "notexact.org", None),
    ],
)
def test_what_forward_mode_lets_through(method: str, authority: str, allowed: tuple[str, int] | None) -> None:
    asked: list[tuple[str, int]] = []
    through = r.Route("through")

    def passthrough(host: str, port: int) -> r.Route:
        asked.append((host, port))
        return through

    own = r.Rule(r.Route("own"), ("users.internal",))
    listener = Listener("egress", "forward", r.RouteTable([own]), Destinations(ALLOW), passthrough)
    found = listener.match(head(host=authority, method=method))
    assert found is (Failure.FORBIDDEN if allowed is None else through)
    assert asked == ([] if allowed is None else [allowed])
    assert listener.match(head()) is own.route
    assert listener.table.knows_host(b"users.internal:443")
    assert not listener.table.knows_host(authority.encode())
