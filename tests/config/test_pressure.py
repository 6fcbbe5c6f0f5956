"""The keys of `overload`, and of a listener's `timeouts` and `max_connections`."""

import pytest

from sidecar.policy.pace import Pace
from sidecar.policy.pressure import OverloadPolicy
from tests.config.loading import lines_of, load

BASE = "clusters: {u: {endpoints: ['a:1']}}\n"


def listener(keys: str) -> str:
    return f"{BASE}listeners: {{o: {{bind: '127.0.0.1:1', routes: [{{to: u}}], {keys}}}}}"


@pytest.mark.parametrize("text", ["", "overload: true", "overload: {}", "overload: {lag: {}, memory: {limit: null}}"])
def test_on_by_default_with_the_policys_own_values(text: str) -> None:
    overload = load(BASE + text).overload
    assert overload is not None
    assert overload.policy() == OverloadPolicy()


@pytest.mark.parametrize("off", ["false", "null"])
def test_off(off: str) -> None:
    assert load(f"{BASE}overload: {off}").overload is None


def test_every_knob() -> None:
    overload = load(
        BASE + "overload: {lag: {hold: 50ms, shed: 1s, refuse: 2s}, open_files: 500, max_connections: 7,"
        " memory: {limit: 64MiB, hold: 0.5, shed: 0.6, refuse: 0.7}}"
    ).overload
    assert overload is not None
    assert overload.policy() == OverloadPolicy((0.05, 1.0, 2.0), (0.5, 0.6, 0.7), 64 << 20, 500, 7)


def test_clients_have_the_paces_own_times_unless_said_otherwise() -> None:
    assert load(listener("")).listeners["o"].timeouts.pace() == Pace()
    assert load(listener("")).listeners["o"].max_connections is None
    said = load(
        listener("max_connections: 5, timeouts: {first: 2s, header: 3s, body: 0, idle: 4s, write: 5s, min_rate: 1KiB}")
    ).listeners["o"]
    assert said.timeouts.pace() == Pace(2.0, 3.0, 0.0, 4.0, 5.0, 1024)
    assert said.max_connections == 5


def test_the_port_of_a_cluster_has_them_too() -> None:
    spec = load("clusters: {u: {endpoints: ['a:1'], listen: '127.0.0.1:1'}}")
    assert spec.all_listeners()["u"].timeouts.pace() == Pace()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "overload: {lag: {hold: 2s}}",
            "f.yaml:2:17: overload.lag: hold, shed and refuse must rise (hold < shed < refuse)",
        ),
        (
            "overload: {memory: {refuse: 0.5}}",
            "f.yaml:2:20: overload.memory: hold, shed and refuse must rise (hold < shed < refuse)",
        ),
        ("overload: {lags: {}}", "f.yaml:2:12: overload.lags: unknown key (did you mean lag?)"),
        ("overload: {memory: {hold: 1.5}}", "f.yaml:2:27: overload.memory.hold: must be at most 1"),
        ("overload: {open_files: 8}", "f.yaml:2:24: overload.open_files: must be at least 32"),
        ("overload: {max_connections: 0}", "f.yaml:2:29: overload.max_connections: must be at least 1"),
    ],
)
def test_what_cannot_be_is_told(text: str, line: str) -> None:
    assert lines_of(BASE + text) == [line]


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ("timeouts: {header: soon}", "timeouts.header: 'soon' is no duration"),
        ("timeouts: {min_rate: 100b}", "timeouts.min_rate: '100b' is no size"),
        ("timeouts: {read: 1s}", "timeouts.read: unknown key"),
        ("max_connections: 0", "max_connections: must be at least 1"),
    ],
)
def test_what_a_listener_cannot_have_is_told(keys: str, reason: str) -> None:
    assert f"listeners.o.{reason}" in lines_of(listener(keys))[0]
