"""The comparison of both ways, and whether the sidecar did better: pure functions of numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from sidecar.demo.admin import BreakerEvent
from sidecar.demo.scenario import PHASES, PROTOCOLS, SLOW
from sidecar.demo.traffic import Lane, Summary

STRAIGHT = "straight"
SIDECAR = "sidecar"
WAYS = (STRAIGHT, SIDECAR)

NAMES = {"http": "HTTP", "grpc": "gRPC"}


@dataclass(frozen=True, slots=True)
class Way:
    """What a client saw on one way, in all and phase by phase; `attempts` reached for a service."""

    overall: Summary
    phases: Mapping[str, Summary]
    attempts: int
    retries: int = 0

    @property
    def attempts_per_request(self) -> float:
        """How much load a request made; 0.0 without requests."""
        return self.attempts / self.overall.requests if self.overall.requests else 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both ways of each protocol. `names` are what endpoints (`host:port`) are called."""

    seconds: float
    ways: Mapping[tuple[str, str], Way]
    events: Sequence[BreakerEvent]
    names: Mapping[str, str]

    def breaker(self, protocol: str, state: str) -> int:
        """How often a breaker of this protocol went to a state."""
        return sum(event.cluster == protocol and event.after == state for event in self.events)


def compare(
    seconds: float,
    lanes: Sequence[Lane],
    clusters: Mapping[str, Mapping[str, Any]],
    events: Sequence[BreakerEvent],
    names: Mapping[str, str],
) -> Comparison:
    """Put together what the clients saw and what the sidecar tells (`/api/clusters`, by name)."""
    ways: dict[tuple[str, str], Way] = {}
    for lane in lanes:
        overall = lane.summary()
        phases = {phase.name: lane.summary(phase.name) for phase in PHASES}
        if lane.way == STRAIGHT:
            # Nobody but the client is there to try: once.
            ways[lane.protocol, lane.way] = Way(overall, phases, overall.requests)
        else:
            cluster = clusters.get(lane.protocol, {})
            endpoints = cluster.get("endpoints", ())
            attempts = sum(sum(endpoint["attempts"].values()) for endpoint in endpoints)
            ways[lane.protocol, lane.way] = Way(overall, phases, attempts, sum(cluster.get("retries", {}).values()))
    return Comparison(seconds, ways, tuple(events), names)


def shortfalls(comparison: Comparison) -> list[str]:
    """Why the sidecar did not do better, a line for each reason; empty when it did.

    Better is, for each protocol: a higher share of the calls succeeded, and while a
    service was slow the 99th percentile was no higher.
    """
    found: list[str] = []
    for protocol in PROTOCOLS:
        straight, sidecar = (comparison.ways[protocol, way] for way in WAYS)
        name = NAMES[protocol]
        if not straight.overall.requests or not sidecar.overall.requests:
            found.append(f"{name}: no calls were made")
            continue
        rates = straight.overall.success_rate, sidecar.overall.success_rate
        if rates[1] <= rates[0]:
            found.append(f"{name}: {rates[1]:.2%} of the calls succeeded, straight {rates[0]:.2%}")
        slow = straight.phases[SLOW].p99, sidecar.phases[SLOW].p99
        if slow[1] > slow[0] or slow[1] == inf:
            found.append(f"{name}: p99 with a slow service {milliseconds(slow[1])}, straight {milliseconds(slow[0])}")
    return found


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The same as one JSON-able object; times in milliseconds, null where no call succeeded."""
    reasons = shortfalls(comparison)
    protocols = {
        protocol: {way: _way_as_json(comparison.ways[protocol, way]) for way in WAYS} for protocol in PROTOCOLS
    }
    return {
        "better": not reasons,
        "reasons": reasons,
        "seconds": comparison.seconds,
        **protocols,
        "breaker_events": [
            {
                "at_seconds": round(event.at, 3),
                "cluster": event.cluster,
                "endpoint": event.endpoint,
                "service": comparison.names.get(event.endpoint, ""),
                "from": event.before,
                "to": event.after,
            }
            for event in comparison.events
        ],
    }


def _way_as_json(way: Way) -> dict[str, Any]:
    return {
        **_summary_as_json(way.overall),
        "attempts": way.attempts,
        "attempts_per_request": round(way.attempts_per_request, 4),
        "retries": way.retries,
        "phases": {name: _summary_as_json(summary) for name, summary in way.phases.items()},
    }


def _summary_as_json(summary: Summary) -> dict[str, Any]:
    return {
        "requests": summary.requests,
        "succeeded": summary.succeeded,
        "success_rate": round(summary.success_rate, 6),
        "p50_ms": _finite(summary.p50),
        "p99_ms": _finite(summary.p99),
        "failures": summary.failures,
    }


def _finite(seconds: float) -> float | None:
    return None if seconds == inf else round(seconds * 1000, 3)


def milliseconds(seconds: float) -> str:
    """For people: `3.2 ms`, `812 ms`, or `-` when there was nothing to measure."""
    if seconds == inf:
        return "-"
    value = seconds * 1000
    return f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"


def percent(share: float) -> str:
    """For people: `99.87 %`; 100 % only when nothing at all is missing."""
    if share == 1.0:
        return "100 %"
    # Cut, not rounded.
    return f"{int(share * 10000) / 100:.2f} %"
