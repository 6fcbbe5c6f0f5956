"""What goes wrong when, the calls, and the sidecar's YAML."""

import pytest

from sidecar.config.load import load_text
from sidecar.demo.scenario import PHASES, PROTOCOLS, ROLES, Timeline, call_rate, configuration, plan
from sidecar.demo.services import Fault


def test_the_phases_fill_the_time_in_their_order() -> None:
    timeline = Timeline(10.0)
    assert timeline.starts == pytest.approx((0.0, 1.4, 3.6, 6.0, 8.2))
    assert [timeline.at(start).name for start in timeline.starts] == [phase.name for phase in PHASES]
    assert timeline.at(99.0) is PHASES[-1]


def test_every_fault_is_one_that_the_services_know() -> None:
    faults = [Fault.parse(phase.fault) for phase in PHASES if phase.fault]
    assert len(faults) == 2
    assert {phase.service for phase in PHASES if phase.service} < ROLES.keys()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_same_calls_every_time(protocol: str) -> None:
    timeline = Timeline(8.0)
    calls = plan(protocol, timeline)
    assert calls == plan(protocol, timeline)
    assert calls != plan(protocol, timeline, seed=2)
    assert len(calls) == 400
    assert [call.at for call in calls] == sorted(call.at for call in calls)
    assert {call.phase for call in calls} == {phase.name for phase in PHASES}
    assert all(timeline.at(call.at).name == call.phase for call in calls)
    assert any(call.post for call in calls) == (protocol == "http")


@pytest.mark.parametrize(("seconds", "rate"), [(1.0, 100.0), (3.0, 200 / 3), (4.0, 50.0), (600.0, 50.0)])
def test_short_runs_call_faster_within_bounds(seconds: float, rate: float) -> None:
    assert call_rate(seconds) == pytest.approx(rate)


def test_the_yaml_is_valid_and_says_what_may_be_repeated() -> None:
    text = configuration(["127.0.0.1:1", "127.0.0.1:2"], ["127.0.0.1:3"])
    spec = load_text(text, "demo.yaml", {})
    assert [str(endpoint.address) for endpoint in spec.clusters["http"].endpoints] == ["127.0.0.1:1", "127.0.0.1:2"]
    assert spec.clusters["grpc"].retry.idempotent == ["/demo.Users/Get"]
    assert spec.clusters["http"].retry.idempotent == []
    assert {listener.bind.port for listener in spec.all_listeners().values()} == {0}
    assert spec.admin.bind.port == 0
