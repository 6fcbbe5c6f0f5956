"""Each benchmark runs once, with tiny numbers. No time is asserted anywhere."""

import json
import shutil
import sys
import time
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from benchmarks import bytecodes, lookup, loopback, paths, policies
from benchmarks.__main__ import PARTS, main
from benchmarks.measure import Effort, Figure
from benchmarks.world import Clock

TINY = Effort(rounds=1, number=20, seconds=1)


def measured(figures: list[Figure]) -> dict[str, float]:
    assert all(figure.value is not None and figure.value > 0 and figure.unit for figure in figures)
    return {figure.name: figure.value or 0.0 for figure in figures}


def test_paths() -> None:
    assert list(measured(paths.figures(TINY))) == ["HTTP/1.1", "HTTP/2, unary gRPC"]


@pytest.mark.parametrize("make", paths.PATHS)
def test_a_path_completes_every_request(make: Callable[[Clock], paths.Path]) -> None:
    path = make(time.monotonic)
    received: list[int] = []

    def measure(receive: paths.Receive, data: bytes) -> None:
        received.append(len(data))
        receive(data)

    done = path.cycle(measure)
    assert done == path.cycle(measure) >= 1
    assert len(received) == 4
    assert all(received)
    path.close()


@pytest.mark.parametrize("make", paths.PATHS)
def test_counting_gives_the_same_figure_again(make: Callable[[Clock], paths.Path]) -> None:
    def counted() -> tuple[float, float]:
        path = make(lambda: 1000.0)
        tally = bytecodes.count(path, requests=16, warm_up=32)
        path.close()
        return tally.codes_per_request, tally.calls_per_request

    tracer = sys.gettrace()
    first = counted()
    assert sys.gettrace() is tracer
    # From 3.12 on a few instructions more or less are traced, as the interpreter rewrites them.
    assert first == pytest.approx(counted(), rel=0.005 if sys.version_info >= (3, 12) else 0.0)
    assert first[0] > first[1] > 10


def test_policies() -> None:
    found = measured(policies.figures(TINY))
    assert sum("pick" in name for name in found) == 6


def test_lookup() -> None:
    assert len(measured(lookup.figures(TINY))) == 2 * len(lookup.HOSTS)


def test_loopback_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool: None)
    (figure,) = loopback.figures(TINY)
    assert figure.value is None
    assert "wrk" in figure.note


@pytest.mark.slow
def test_loopback() -> None:
    if shutil.which("wrk") is None or shutil.which("h2load") is None:
        pytest.skip("wrk and h2load are not installed")
    measured(loopback.figures(TINY))


def test_the_command_prints_a_table_and_json() -> None:
    few = ["lookup", "--rounds", "1", "--number", "20"]
    shown = CliRunner().invoke(main, few)
    assert shown.exit_code == 0, shown.output
    assert "1,000 hosts, a known one" in shown.output
    as_json = CliRunner().invoke(main, [*few, "--json"])
    assert {figure["unit"] for figure in json.loads(as_json.output)} == {"us"}
    assert set(PARTS) >= {"paths", "bytecodes", "policies", "lookup", "loopback"}
