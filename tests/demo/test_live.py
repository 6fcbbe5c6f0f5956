"""The table while it runs."""

import io
from typing import Any

import pytest
from rich.console import Console

from sidecar.demo.admin import AdminClient, BreakerEvent
from sidecar.demo.live import Lines, View, picture
from sidecar.demo.scenario import PHASES, Timeline
from sidecar.demo.traffic import Lane, Sample


class Known(AdminClient):
    """What an admin API told, without one."""

    def __init__(self) -> None:
        self.clusters: dict[str, dict[str, Any]] = {
            name: {
                "name": name,
                "endpoints": [
                    {
                        "address": f"127.0.0.1:6000{number}",
                        "breaker": ("closed", "open", "half_open", "closed")[number],
                        "in_flight": 12,
                        "ewma_ms": 0.0 if number else 812.3,
                        "attempts": {"success": 12345, "failure": 12, "ignored": 1},
                    }
                    for number in range(4)
                ],
            }
            for name in ("http", "grpc")
        }
        self.events = [BreakerEvent(float(at), "http", "127.0.0.1:60001", "open", "half_open") for at in range(5)]


def make_view() -> View:
    lanes = [Lane(protocol, way) for protocol in ("http", "grpc") for way in ("straight", "sidecar")]
    for lane in lanes[:3]:
        lane.samples += [Sample("slow", 1.9, "")] * 3 + [Sample("slow", 0.1, "refused")]
    view = View(Timeline(15.0), lanes)
    view.names = {f"127.0.0.1:6000{number}": f"{letter} (killed)" for number, letter in enumerate("abcd")}
    view.admin = Known()
    return view


def test_the_picture_fits_a_terminal_of_80_by_24_and_cuts_nothing() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(picture(make_view(), PHASES[2], 7.3))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "…" not in text
    assert "now: service c takes 800 ms" in text
    assert "75.00 %  1900 ms  1900 ms" in text
    assert "half-open" in text
    assert text.count("breaker HTTP b (killed): open -> half-open") == 3


def test_lines_tell_phases_and_rates(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Lines(make_view())
    screen.enter(PHASES[1], 2.1)
    screen.tick(2.5)
    phase, rates = capsys.readouterr().out.splitlines()
    assert phase == "  2.1 s  flaky: service b fails 60% of its calls"
    assert rates.startswith("  2.5 s  HTTP straight 75.00 %, through the sidecar 75.00 %; gRPC straight 75.00 %")
