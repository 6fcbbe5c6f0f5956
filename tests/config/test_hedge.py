"""The keys of `hedge`, on clusters and on routes."""

from typing import Any

import pytest

from sidecar.config.explain import explain, request_head
from sidecar.config.hedge import Hedge, policy_of
from sidecar.config.schema import Spec
from sidecar.policy.hedge import HedgePolicy
from tests.config.loading import cluster, lines_of, load

TWO = """
    clusters:
      u: {endpoints: ['a:1', 'b:1'], hedge: {after: p90, budget: 2%}, retry: {idempotent: ["POST /search"]}}
      plain: {endpoints: ['c:1']}
    listeners:
      o:
        bind: 127.0.0.1:0
        routes:
          - {match: {path: /late}, to: u, hedge: {after: p99}}
          - {match: {path: /at}, to: u, hedge: {after: 80ms}}
          - {match: {path: /off}, to: u, hedge: false}
          - {match: {path: /once}, to: u, retry: {attempts: 1}}
          - {match: {path: /plain}, to: plain, hedge: false}
          - {to: u}
"""


def hedge_of(spec: Spec, method: str, path: str) -> object:
    (only,) = explain(spec, request_head(method, path, []))
    (target,) = only.targets.values()
    return target["hedge"]


def test_true_is_the_section_with_its_defaults() -> None:
    u = load(cluster("hedge: true")).clusters["u"]
    assert u.hedge == Hedge.model_construct()
    assert u.hedge.budget == 0.05
    assert policy_of(u.hedge.after) == HedgePolicy() == HedgePolicy(quantile=0.95)


@pytest.mark.parametrize("off", ["false", "null"])
def test_off(off: str) -> None:
    assert load(cluster(f"hedge: {off}")).clusters["u"].hedge is None


@pytest.mark.parametrize(
    ("after", "policy"),
    [
        ("p50", HedgePolicy(0.5)),
        ("p99", HedgePolicy(0.99)),
        ("50ms", HedgePolicy(seconds=0.05)),
        ("90s", HedgePolicy(seconds=90.0)),
    ],
)
def test_a_percentile_or_a_time(after: str, policy: HedgePolicy) -> None:
    hedge = load(cluster(f"hedge: {{after: {after}}}")).clusters["u"].hedge
    assert hedge is not None
    assert policy_of(hedge.after) == policy
    assert hedge.model_dump(mode="json") == {"after": after, "budget": "5%"}


@pytest.mark.parametrize(("text", "share"), [("2%", 0.02), ("0.5 %", 0.005), ("0.02", 0.02), ("100%", 1.0), ("1", 1.0)])
def test_a_budget_is_a_share(text: str, share: float) -> None:
    hedge = load(cluster(f"hedge: {{budget: {text}}}")).clusters["u"].hedge
    assert hedge is not None
    assert hedge.budget == pytest.approx(share)


def test_what_routes_get_of_it_and_what_explain_says() -> None:
    spec = load(TWO)
    said = {path: hedge_of(spec, "GET", path) for path in ("/late", "/at", "/off", "/once", "/plain", "/")}
    assert said == {
        "/late": {"after": "p99", "budget": "2%"},
        "/at": {"after": "80ms", "budget": "2%"},
        "/off": "off: this route wants none",
        "/once": "off: retry.attempts is 1",
        "/plain": "off",
        "/": {"after": "p90", "budget": "2%"},
    }
    assert hedge_of(spec, "POST", "/") == "off for this request: it must not run twice"
    assert hedge_of(spec, "POST", "/search") == {"after": "p90", "budget": "2%"}


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("{a: 1, b: 1}", {"a": {"after": "p95", "budget": "5%"}, "b": "off"}),
        (
            "{b: 1, a: 1}",
            {"b": "off", "a": "off: the policies of a split are those of its first cluster, which has none"},
        ),
    ],
)
def test_in_a_split_the_first_cluster_says_after_what(to: str, said: dict[str, Any]) -> None:
    spec = load(
        "clusters: {a: {endpoints: ['10.0.0.1:1'], hedge: true}, b: {endpoints: ['10.0.0.2:1']}}\n"
        f"listeners: {{l: {{bind: '127.0.0.1:0', routes: [{{to: {to}}}]}}}}"
    )
    (explained,) = explain(spec, request_head("GET", "/", []))
    assert {name: target["hedge"] for name, target in explained.targets.items()} == said


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("hedge: yes please", "clusters.u.hedge", ""),
        ("hedge: {after: p49}", "clusters.u.hedge.after", "write a percentile from p50 to p99, or a time"),
        ("hedge: {after: p99.9}", "clusters.u.hedge.after", "no percentile that can be followed"),
        ("hedge: {after: p100}", "clusters.u.hedge.after", "no percentile that can be followed"),
        ("hedge: {after: never}", "clusters.u.hedge.after", "write a percentile"),
        ("hedge: {after: 0s}", "clusters.u.hedge.after", "longer than 0"),
        ("hedge: {after: 50}", "clusters.u.hedge.after", "write 50s"),
        ("hedge: {budget: 5}", "clusters.u.hedge.budget", "write 5%"),
        ("hedge: {budget: 101%}", "clusters.u.hedge.budget", "is no share"),
        ("hedge: {budget: 0%}", "clusters.u.hedge.budget", "must be more than 0"),
        ("hedge: {budget: much}", "clusters.u.hedge.budget", "write 5% or 0.05"),
        ("hedge: {budget: true}", "clusters.u.hedge.budget", "is no share"),
        ("hedge: {befor: 5ms}", "clusters.u.hedge.befor", "unknown key"),
        ("hedge: true, retry: {attempts: 1}", "clusters.u", "hedge needs retry.attempts of 2 or more"),
    ],
)
def test_what_a_cluster_refuses(text: str, path: str, words: str) -> None:
    (error,) = lines_of(cluster(text))
    assert error.startswith("f.yaml:1:")
    assert f" {path}: " in error
    assert words in error


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("hedge: true", "hedge", "must be a mapping"),
        ("hedge: {budget: 1%}", "hedge.budget", "set it on the cluster"),
        ("hedge: {}", "hedge.after", "is required"),
        ("hedge: {after: p95}", "hedge", "cluster u has no hedge (set it on the cluster too)"),
    ],
)
def test_what_a_route_refuses(text: str, path: str, words: str) -> None:
    listener = f"o: {{bind: '127.0.0.1:0', routes: [{{to: u, {text}}}]}}"
    errors = lines_of(f"clusters: {{u: {{endpoints: ['a:1']}}}}\nlisteners: {{{listener}}}")
    assert any(f" listeners.o.routes[0].{path}: " in error and words in error for error in errors), errors
