"""The keys of limits, admission and priorities: what they mean, and what is wrong with others."""

import pytest

from sidecar.config.overload import Adaptive, Admission
from sidecar.policy.adaptive import AdaptivePolicy
from sidecar.policy.admission import AdmissionPolicy
from tests.config.loading import cluster, lines_of, load


def test_true_is_the_section_with_its_defaults() -> None:
    u = load(cluster("limits: {adaptive: true}, admission: true")).clusters["u"]
    assert u.limits.adaptive == Adaptive.model_construct()
    assert u.admission == Admission.model_construct()
    assert u.limits.adaptive.policy(1024) == AdaptivePolicy()
    assert u.admission.policy() == AdmissionPolicy()


@pytest.mark.parametrize("off", ["false", "null"])
def test_off(off: str) -> None:
    u = load(cluster(f"limits: {{adaptive: {off}}}, admission: {off}")).clusters["u"]
    assert (u.limits.adaptive, u.admission) == (None, None)


def test_knobs() -> None:
    u = load(
        cluster(
            "limits: {requests: 99, adaptive: {min: 8, initial: 20, tolerance: 2, window: 50ms, probe: 1m}},"
            " admission: {window: 10s, k: 1.5, max_rejection: 0.8, min_requests: 5}"
        )
    ).clusters["u"]
    assert u.limits.adaptive is not None
    assert u.admission is not None
    assert u.limits.adaptive.policy(u.limits.requests) == AdaptivePolicy(8, 99, 20, 2.0, 0.05, 60.0)
    assert u.admission.policy() == AdmissionPolicy(10.0, 1.5, 0.8, 5)


def test_defaults_reach_every_cluster_and_a_cluster_can_differ() -> None:
    spec = load(
        "defaults: {limits: {adaptive: {min: 8}}, admission: true}\n"
        "clusters: {a: {endpoints: ['a:1']}, b: {endpoints: ['b:1'], limits: {adaptive: false}, admission: {k: 3}}}"
    )
    a, b = spec.clusters["a"], spec.clusters["b"]
    assert a.limits.adaptive is not None
    assert a.limits.adaptive.min == 8
    assert a.admission == Admission.model_construct()
    assert b.limits.adaptive is None
    assert b.admission is not None
    assert b.admission.k == 3


def test_priorities_of_routes_and_the_field_of_listeners() -> None:
    spec = load(
        "clusters: {u: {endpoints: ['a:1']}}\n"
        "listeners:\n"
        "  plain: {bind: '127.0.0.1:1', routes: [{to: u}]}\n"
        "  named: {bind: '127.0.0.1:2', priority_header: X-Criticality, routes: [{to: u, priority: sheddable}]}\n"
        "  deaf: {bind: '127.0.0.1:3', priority_header: null, routes: [{to: u, priority: critical}]}\n"
    )
    found = {name: (each.priority_header, each.routes[0].priority) for name, each in spec.listeners.items()}
    assert found == {
        "plain": ("x-sidecar-priority", "default"),
        "named": ("x-criticality", "sheddable"),
        "deaf": (None, "critical"),
    }


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("limits: {adaptive: yes please}", "clusters.u.limits.adaptive", ""),
        ("limits: {adaptive: {minimum: 3}}", "clusters.u.limits.adaptive.minimum", "did you mean min"),
        ("limits: {adaptive: {min: 0}}", "clusters.u.limits.adaptive.min", ""),
        ("limits: {adaptive: {tolerance: 1}}", "clusters.u.limits.adaptive.tolerance", ""),
        ("limits: {adaptive: {window: 0s}}", "clusters.u.limits.adaptive.window", ""),
        ("limits: {requests: 3, adaptive: true}", "clusters.u.limits", "adaptive.min is more than requests"),
        ("limits: {shares: {sheddable: 1.1}}", "clusters.u.limits.shares.sheddable", ""),
        ("limits: {shares: {critical: 0.9}}", "clusters.u.limits.shares.critical", ""),
        ("admission: {k: 0.5}", "clusters.u.admission.k", ""),
        ("admission: {max_rejection: 90}", "clusters.u.admission.max_rejection", ""),
        ("admission: {wndow: 1s}", "clusters.u.admission.wndow", "did you mean window"),
    ],
)
def test_what_is_refused(text: str, path: str, words: str) -> None:
    (error,) = lines_of(cluster(text))
    assert f" {path}: " in error
    assert words in error
