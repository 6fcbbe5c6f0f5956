"""The keys of `outlier_ejection`."""

import pytest

from sidecar.config.explain import explain, request_head
from sidecar.config.outlier import OutlierEjection
from sidecar.policy.outlier import OutlierPolicy
from tests.config.loading import cluster, lines_of, load


def test_true_is_the_section_with_its_defaults() -> None:
    ejection = load(cluster("outlier_ejection: true")).clusters["u"].outlier_ejection
    assert ejection == OutlierEjection.model_construct()
    assert ejection.policy() == OutlierPolicy()


@pytest.mark.parametrize("off", ["false", "null"])
def test_off(off: str) -> None:
    assert load(cluster(f"outlier_ejection: {off}")).clusters["u"].outlier_ejection is None


def test_knobs() -> None:
    text = "{interval: 5s, min_requests: 50, min_endpoints: 5, stdev_factor: 3, base: 1m, max: 10m, max_ejected: 30%}"
    ejection = load(cluster(f"outlier_ejection: {text}")).clusters["u"].outlier_ejection
    assert ejection is not None
    assert ejection.policy() == OutlierPolicy(5.0, 50, 5, 3.0, 60.0, 600.0, 0.3)


def test_what_explain_says() -> None:
    spec = load("""
        clusters:
          u: {listen: 127.0.0.1:1, endpoints: ['a:1'], outlier_ejection: {max_ejected: 30%}}
          v: {listen: 127.0.0.1:2, endpoints: ['b:1']}
    """)
    u, v = explain(spec, request_head("GET", "/", []))
    assert u.targets["u"]["outlier_ejection"] == {
        "interval": "10s",
        "min_requests": 100,
        "min_endpoints": 3,
        "stdev_factor": 1.9,
        "base": "30s",
        "max": "5m",
        "max_ejected": "30%",
    }
    assert v.targets["v"]["outlier_ejection"] == "off"


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("yes please", "clusters.u.outlier_ejection", ""),
        ("{interval: 0s}", "clusters.u.outlier_ejection.interval", "longer than 0"),
        ("{min_requests: 0}", "clusters.u.outlier_ejection.min_requests", "at least 1"),
        ("{min_endpoints: 2}", "clusters.u.outlier_ejection.min_endpoints", "at least 3"),
        ("{stdev_factor: 0}", "clusters.u.outlier_ejection.stdev_factor", "at least 0.5"),
        ("{base: 10m}", "clusters.u.outlier_ejection", "max is shorter than base"),
        ("{max_ejected: 50}", "clusters.u.outlier_ejection.max_ejected", "write 50%"),
        ("{max_ejected: 0}", "clusters.u.outlier_ejection.max_ejected", "more than 0"),
        ("{max_ejectd: 5%}", "clusters.u.outlier_ejection.max_ejectd", "did you mean max_ejected"),
    ],
)
def test_what_is_refused(text: str, path: str, words: str) -> None:
    (error,) = lines_of(cluster(f"outlier_ejection: {text}"))
    assert error.startswith("f.yaml:1:")
    assert f" {path}: " in error
    assert words in error
