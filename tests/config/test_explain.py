"""Why a request goes where it goes."""

import pytest

from sidecar.config.explain import Explanation, explain, request_head
from sidecar.config.units import BadValueError
from tests.config.loading import load

SPEC = load(
    """
    clusters:
      u: {endpoints: ["a:1"], timeouts: {request: 9s}, retry: {idempotent: ["POST /v1/search"]}}
      v: {endpoints: ["b:1"]}
    listeners:
      o:
        bind: 127.0.0.1:0
        routes:
          - {match: {host: u.internal, prefix: /v1, methods: [POST], headers: {x-a: "1"}}, to: u, timeout: 2s}
          - {match: {grpc: p.S/M}, to: {u: 9, v: 1}}
          - {match: {path: /old}, redirect: {path: /new}}
          - {match: {path: /ping}, respond: {}}
          - {match: {host: "*.v.internal", regex: "/[a-z]+"}, to: v}
    """
)


def of(method: str, url: str, **headers: str) -> Explanation:
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    (only,) = explain(SPEC, request_head(method, url, fields))
    return only


def test_the_first_that_matches_with_its_effective_policy() -> None:
    found = of("POST", "http://U.internal:8080/v1/search?q=1", x_a="1")
    assert found.route is not None
    assert found.route.name == "o[0]"
    assert found.targets["u"]["timeouts"]["request"] == "2s"
    assert found.targets["u"]["may run twice"] == "yes"


@pytest.mark.parametrize(
    ("method", "url", "headers", "failed"),
    [
        ("POST", "http://x/v1", {"x_a": "1"}, "host is u.internal"),
        ("GET", "http://u.internal/v1", {"x_a": "1"}, "method is POST"),
        ("POST", "http://u.internal/v10", {"x_a": "1"}, "path is under /v1"),
        ("POST", "http://u.internal/v1", {"x_a": "2"}, "header x-a is 1"),
    ],
)
def test_why_a_route_does_not_match(method: str, url: str, headers: dict[str, str], failed: str) -> None:
    assert of(method, url, **headers).steps[0].failed == failed


def test_a_splits_first_target_says_the_policies() -> None:
    targets = of("POST", "/p.S/M", content_type="application/grpc").targets
    assert [target["timeouts"]["request"] for target in targets.values()] == ["9s", "9s"]
    assert [target["weight"] for target in targets.values()] == [9, 1]


def test_each_action() -> None:
    assert of("POST", "/p.S/M", content_type="application/grpc").action() == "to u or v"
    assert of("GET", "/old").action() == "redirect 302"
    assert of("GET", "/ping").action() == "respond 200"
    assert of("GET", "/nothing", host="a.v.internal").action() == "to v"
    nowhere = of("GET", "/Nothing")
    assert (nowhere.action(), len(nowhere.steps)) == ("404 no_route", 5)
    assert all(step.failed for step in nowhere.steps)
    assert nowhere.as_json()["route"] is None


def test_who_alone_may_ask() -> None:
    text = """
        clusters: {u: {endpoints: ["a:1"]}}
        listeners:
          o:
            bind: 127.0.0.1:0
            clients: {cidr: [10.0.0.0/8]}
            routes:
              - {match: {path: /ops}, to: u, clients: {cidr: [10.1.0.0/16, "10.2.0.1"]}}
              - {to: u}
    """
    for path, clients in (("/ops", ["10.0.0.0/8", "10.1.0.0/16", "10.2.0.1/32"]), ("/", ["10.0.0.0/8"])):
        (found,) = explain(load(text), request_head("GET", f"http://a{path}", []))
        assert [network for each in found.clients for network in each["cidr"]] == clients
        assert "  only for clients with cidr [10.0.0.0/8]" in found.lines()
        assert found.as_json()["clients"] == found.clients
    assert of("GET", "http://x/ping").clients == []


def test_in_words() -> None:
    lines = of("GET", "/old").lines()
    assert lines[1:4] == [
        "  o[0]: no, not so: host is u.internal",
        "  o[1]: no, not so: is a gRPC call of /p.S/M",
        "  o[2]: matches",
    ]


@pytest.mark.parametrize("url", ["http://", "x", "http://a:b/", "http://[::1/"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(BadValueError):
        request_head("GET", url, [])


def test_the_schemes_own_port_is_not_sent() -> None:
    assert request_head("GET", "https://a:443/", []).authority == b"a"
    assert request_head("GET", "http://a:443/", []).authority == b"a:443"


@pytest.mark.parametrize(
    ("url", "action"),
    [
        ("http://u.internal/", "to u"),
        ("http://a.example.com:8080/", "allow: to a.example.com:8080, at an address that is public or under allow"),
        ("http://10.1.2.3/", "allow: to 10.1.2.3:80, at an address that is public or under allow"),
        ("http://169.254.169.254/", "403 forbidden"),
        ("http://0x7f.1/", "403 forbidden"),
        ("http://evil.example/", "403 forbidden"),
    ],
)
def test_what_forward_mode_does_without_a_route(url: str, action: str) -> None:
    spec = load(
        """
        clusters: {u: {endpoints: ["a:1"]}}
        listeners:
          o:
            bind: 127.0.0.1:0
            mode: forward
            allow: ["*.example.com", "10.0.0.0/8"]
            routes: [{match: {host: u.internal}, to: u}]
        """
    )
    (found,) = explain(spec, request_head("GET", url, []))
    assert found.action() == action
    assert found.as_json()["action"] == action
