"""What is shown while it runs: a table on a terminal, lines elsewhere, nothing before JSON."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sidecar.demo.admin import AdminClient
from sidecar.demo.report import NAMES, SIDECAR, STRAIGHT, milliseconds, percent
from sidecar.demo.scenario import PROTOCOLS, ROLES, Phase, Timeline
from sidecar.demo.traffic import Lane

_EVENTS_SHOWN = 3
_WIDTHS = {"calls": 6, "failed": 6, "ok": 5, "breaker": 9}
_COLORS = {"closed": "green", "half_open": "yellow", "open": "red"}


class Screen(Protocol):
    """Where the run is shown. `refresh` is how often `tick` is wanted, in seconds."""

    refresh: float

    def say(self, text: str) -> None:
        """A step of the preparation."""

    def enter(self, phase: Phase, at: float) -> None:
        """A phase begins, `at` seconds from the start."""

    def tick(self, at: float) -> None:
        """Show how things are now."""

    def close(self) -> None:
        """The run is over."""


class Silence:
    """Shows nothing."""

    refresh = 1.0

    def say(self, text: str) -> None:
        """Nothing."""

    def enter(self, phase: Phase, at: float) -> None:
        """Nothing."""

    def tick(self, at: float) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class View:
    """What a screen shows: filled in by the run, read at every tick."""

    def __init__(self, timeline: Timeline, lanes: Sequence[Lane]) -> None:
        self.timeline = timeline
        self.lanes = lanes
        self.names: Mapping[str, str] = {}
        self.admin: AdminClient | None = None

    def rates(self) -> str:
        """The success rates so far, in one line."""
        parts = []
        for protocol in PROTOCOLS:
            rates = {lane.way: lane.summary().success_rate for lane in self.lanes if lane.protocol == protocol}
            parts.append(
                f"{NAMES[protocol]} straight {percent(rates[STRAIGHT])}, through the sidecar {percent(rates[SIDECAR])}"
            )
        return "; ".join(parts)


class Lines:
    """A line for each step and phase, and one now and then: for pipes and logs."""

    refresh = 2.5

    def __init__(self, view: View) -> None:
        self._view = view

    def say(self, text: str) -> None:
        """One line."""
        print(text, flush=True)

    def enter(self, phase: Phase, at: float) -> None:
        """One line."""
        self.say(f"{at:5.1f} s  {phase.name}: {phase.says}")

    def tick(self, at: float) -> None:
        """One line of success rates so far."""
        self.say(f"{at:5.1f} s  {self._view.rates()}")

    def close(self) -> None:
        """All is said."""


class Terminal:
    """A table that is drawn again and again, and gone at the end."""

    refresh = 0.25

    def __init__(self, view: View, console: Console) -> None:
        self._view = view
        self._phase: Phase | None = None
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._live.start()

    def say(self, text: str) -> None:
        """In place of the table, which comes later."""
        self._live.update(Text(text, "dim"), refresh=True)

    def enter(self, phase: Phase, at: float) -> None:
        """Draw it at once."""
        self._phase = phase
        self.tick(at)

    def tick(self, at: float) -> None:
        """Draw it."""
        self._live.update(picture(self._view, self._phase, at), refresh=True)

    def close(self) -> None:
        """Take it away, and give the cursor back."""
        self._live.stop()


def picture(view: View, phase: Phase | None, at: float) -> Group:
    """The whole table, within 80 columns and 24 lines."""
    title = Text(f"{min(at, view.timeline.seconds):4.1f} of {view.timeline.seconds:g} s  ")
    for each in view.timeline.phases:
        title.append(f" {each.name} ", "reverse bold" if each is phase else "dim")
    says = Text(f"now: {phase.says}" if phase is not None else "", "bold")
    parts: list[Any] = [title, says, "", lanes_table(view.lanes), ""]
    if view.admin is not None:
        parts += [endpoints_table(view.admin.clusters, view.names), "", *_latest(view)]
    return Group(*parts)


def lanes_table(lanes: Sequence[Lane]) -> Table:
    """What the clients see, on each way."""
    table = _table("clients", ("calls", "failed", "success", "p50", "p99"))
    for lane in lanes:
        summary = lane.summary()
        failed = summary.failed
        table.add_row(
            f"{NAMES[lane.protocol]} {'straight' if lane.way == STRAIGHT else 'through the sidecar'}",
            str(summary.requests),
            f"[red]{failed}[/]" if failed else "0",
            percent(summary.success_rate) if summary.requests else "-",
            milliseconds(summary.p50),
            milliseconds(summary.p99),
        )
    return table


def endpoints_table(clusters: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]) -> Table:
    """What the sidecar knows of each service."""
    table = _table("services, as the sidecar sees them", ("breaker", "in flight", "ewma", "ok", "failed"))
    for cluster in clusters.values():
        for endpoint in cluster["endpoints"]:
            breaker, attempts, ewma = endpoint["breaker"], endpoint["attempts"], endpoint["ewma_ms"]
            table.add_row(
                f"{NAMES.get(cluster['name'], '')} {names.get(endpoint['address'], ''):<11}{endpoint['address']}",
                f"[{_COLORS[breaker]}]{breaker.replace('_', '-')}[/]",
                str(endpoint["in_flight"]),
                milliseconds(ewma / 1000) if ewma else "-",
                str(attempts["success"]),
                str(attempts["failure"]),
            )
    return table


def titled(letter: str) -> str:
    """A service's letter with its part in the demo."""
    return f"{letter} ({ROLES[letter]})"


def _table(first: str, others: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold cyan")
    # Widths that stay: a table that is drawn again and again must not twitch.
    table.add_column(first, no_wrap=True, min_width=34)
    for title in others:
        table.add_column(title, justify="right", no_wrap=True, min_width=_WIDTHS.get(title, 7))
    return table


def _latest(view: View) -> list[Text]:
    assert view.admin is not None
    return [
        Text(
            f"{event.at:5.1f} s  breaker {NAMES.get(event.cluster, '')} {view.names.get(event.endpoint, '')}: "
            f"{event.before} -> {event.after}".replace("_", "-"),
            "dim",
        )
        for event in view.admin.events[-_EVENTS_SHOWN:]
    ]
