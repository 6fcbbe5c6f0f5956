"""The decision whether the sidecar did better, and what is told of it."""

import io
import json
from dataclasses import replace
from math import inf

import pytest
from rich.console import Console

from sidecar.demo import closing
from sidecar.demo.admin import BreakerEvent
from sidecar.demo.report import Comparison, Way, as_json, compare, milliseconds, percent, shortfalls
from sidecar.demo.scenario import PHASES, SLOW
from sidecar.demo.traffic import Lane, Sample, Summary


def way(failed: int, slow_p99: float, requests: int = 100, **more: int) -> Way:
    overall = Summary(requests, requests - failed, 0.001, 0.9, {"status 503": failed} if failed else {})
    phases = {phase.name: Summary(20, 20, 0.001, 0.01, {}) for phase in PHASES}
    phases[SLOW] = Summary(20, 20, 0.001, slow_p99, {})
    return Way(overall, phases, more.pop("attempts", requests), **more)


def comparison(**changes: Way) -> Comparison:
    """A sidecar that did better, but for the changes (`http_straight=...`)."""
    ways = {
        ("http", "straight"): changes.get("http_straight", way(10, 0.8)),
        ("http", "sidecar"): changes.get("http_sidecar", way(0, 0.4, attempts=104, retries=4)),
        ("grpc", "straight"): changes.get("grpc_straight", way(5, 0.8)),
        ("grpc", "sidecar"): changes.get("grpc_sidecar", way(1, 0.8)),
    }
    events = [
        BreakerEvent(1.0, "http", "h:1", "closed", "open"),
        BreakerEvent(2.0, "http", "h:1", "open", "half_open"),
        BreakerEvent(2.1, "http", "h:1", "half_open", "closed"),
        BreakerEvent(2.5, "grpc", "g:1", "closed", "open"),
    ]
    return Comparison(4.0, ways, events, {"h:1": "b (flaky)", "g:1": "d (killed)"})


def test_a_higher_success_rate_and_no_higher_p99_is_better() -> None:
    assert shortfalls(comparison()) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"http_sidecar": way(10, 0.4)}, "HTTP: 90.00% of the calls succeeded, straight 90.00%"),
        ({"http_sidecar": way(11, 0.4)}, "HTTP: 89.00% of the calls succeeded, straight 90.00%"),
        ({"grpc_sidecar": way(6, 0.4)}, "gRPC: 94.00% of the calls succeeded, straight 95.00%"),
        ({"grpc_straight": way(0, 0.8)}, "gRPC: 99.00% of the calls succeeded, straight 100.00%"),
        ({"http_sidecar": way(0, 0.81)}, "HTTP: p99 with a slow service 810 ms, straight 800 ms"),
        ({"grpc_sidecar": way(0, inf)}, "gRPC: p99 with a slow service -, straight 800 ms"),
        ({"grpc_sidecar": way(0, inf), "grpc_straight": way(5, inf)}, "gRPC: p99 with a slow service -, straight -"),
        ({"http_straight": way(0, 0.8, requests=0)}, "HTTP: no calls were made"),
        ({"grpc_sidecar": way(0, 0.4, requests=0)}, "gRPC: no calls were made"),
    ],
)
def test_anything_else_is_not_and_the_reason_is_told(changes: dict[str, Way], reason: str) -> None:
    assert shortfalls(comparison(**changes)) == [reason]


def test_every_reason_is_told() -> None:
    worse = comparison(http_sidecar=way(50, 2.0), grpc_sidecar=way(50, 2.0))
    assert len(shortfalls(worse)) == 4


def test_json_says_the_same() -> None:
    told = json.loads(json.dumps(as_json(comparison(grpc_sidecar=way(7, inf))), allow_nan=False))
    assert (told["better"], len(told["reasons"])) == (False, 2)
    assert told["http"]["sidecar"]["success_rate"] == 1.0
    assert told["http"]["sidecar"]["attempts_per_request"] == 1.04
    assert told["http"]["straight"]["failures"] == {"status 503": 10}
    assert told["grpc"]["sidecar"]["phases"][SLOW]["p99_ms"] is None
    assert told["breaker_events"][0] == {
        "at_seconds": 1.0,
        "cluster": "http",
        "endpoint": "h:1",
        "service": "b (flaky)",
        "from": "closed",
        "to": "open",
    }


def test_both_sources_are_put_together() -> None:
    lanes = [Lane(protocol, way) for protocol in ("http", "grpc") for way in ("straight", "sidecar")]
    for lane in lanes:
        lane.samples += [Sample("healthy", 0.002, ""), Sample(SLOW, 0.5, ""), Sample("killed", 0.001, "refused")]
    endpoint = {"attempts": {"success": 3, "failure": 1, "ignored": 1}}
    clusters = {"http": {"endpoints": [endpoint, endpoint], "retries": {"503": 2, "reset": 1}}}
    found = compare(1.0, lanes, clusters, [], {})
    assert (found.ways["http", "sidecar"].attempts, found.ways["http", "sidecar"].retries) == (10, 3)
    assert (found.ways["http", "straight"].attempts, found.ways["http", "straight"].retries) == (3, 0)
    assert found.ways["grpc", "straight"].phases[SLOW].p99 == 0.5
    assert found.ways["grpc", "straight"].overall.failures == {"refused": 1}


def test_what_is_printed_fits_80_columns_and_cuts_nothing() -> None:
    console = Console(file=io.StringIO(), width=80)
    slowest = replace(way(100, inf), attempts=12345, retries=99999)
    closing.print_comparison(console, comparison(grpc_sidecar=slowest))
    closing.print_next_step(console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "The sidecar did not do better:\n  gRPC: 0.00% of the calls succeeded" in text
    assert "HTTP b (flaky)    opened once, at 1.0 s first; closed at 2.1 s\n" in text
    assert "gRPC d (killed)   opened once, at 2.5 s first; open at the end\n" in text
    assert "sidecar init" in text


def test_a_good_end_names_the_gain() -> None:
    assert closing.outcome(comparison()).plain.splitlines() == [
        "The sidecar did better:",
        "  HTTP failed calls 10 -> 0, p99 with a slow service 800 ms -> 400 ms",
        "  gRPC failed calls 5 -> 1, p99 with a slow service 800 ms -> 800 ms",
    ]


@pytest.mark.parametrize(
    ("share", "text"), [(1.0, "100 %"), (0.99999, "99.99 %"), (0.5, "50.00 %"), (0.0, "0.00 %"), (0.29, "29.00 %")]
)
def test_a_hundred_percent_means_all(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.00123, "1.2 ms"), (0.5, "500 ms"), (2.0, "2000 ms"), (inf, "-")])
def test_times_are_short(seconds: float, text: str) -> None:
    assert milliseconds(seconds) == text
