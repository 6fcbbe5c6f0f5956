"""What is printed at the end: both ways side by side, and where to go from here."""

from collections.abc import Callable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sidecar.demo.report import NAMES, SIDECAR, STRAIGHT, WAYS, Comparison, Way, milliseconds, percent, shortfalls
from sidecar.demo.scenario import PHASES, PROTOCOLS, SLOW
from sidecar.demo.stage import Stage

_EVENTS_SHOWN = 12


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Tables, breaker events, the outcome."""
    calls = sum(way.overall.requests for way in comparison.ways.values())
    console.print(
        f"{calls} calls in {comparison.seconds:g} s: the same ones straight (round robin) and through the sidecar."
    )
    console.print()
    console.print(side_by_side(comparison))
    console.print()
    console.print(by_phase(comparison))
    _print_events(console, comparison)
    console.print()
    console.print(outcome(comparison))


def side_by_side(comparison: Comparison) -> Table:
    """One line for each number."""
    table = _table("", comparison)
    rows: dict[str, Callable[[Way], str]] = {
        "calls": lambda way: str(way.overall.requests),
        "failed": lambda way: str(way.overall.requests - way.overall.succeeded),
        "success rate": lambda way: percent(way.overall.success_rate),
        "p50": lambda way: milliseconds(way.overall.p50),
        "p99": lambda way: milliseconds(way.overall.p99),
        "p99 with a slow service": lambda way: milliseconds(way.phases[SLOW].p99),
        "attempts per call": lambda way: f"{way.attempts_per_request:.2f}",
        "retries": lambda way: str(way.retries),
    }
    for title, cell in rows.items():
        table.add_row(title, *(cell(comparison.ways[column]) for column in _columns()))
    table.add_row(
        "breakers opened, closed",
        *(
            f"{comparison.breaker(protocol, 'open')}, {comparison.breaker(protocol, 'closed')}"
            if way == SIDECAR
            else "-"
            for protocol, way in _columns()
        ),
    )
    return table


def by_phase(comparison: Comparison) -> Table:
    """The success rate in each phase."""
    table = _table("success rate while", comparison)
    for phase in PHASES:
        summaries = [comparison.ways[column].phases[phase.name] for column in _columns()]
        cells = [percent(summary.success_rate) if summary.requests else "-" for summary in summaries]
        table.add_row(phase.says, *cells)
    return table


def outcome(comparison: Comparison) -> Text:
    """Whether the sidecar did better, and by how much or why not."""
    reasons = shortfalls(comparison)
    if reasons:
        return Text("The sidecar did not do better: " + "; ".join(reasons) + ".", "bold red")
    parts = []
    for protocol in PROTOCOLS:
        failed = [
            comparison.ways[protocol, way].overall.requests - comparison.ways[protocol, way].overall.succeeded
            for way in WAYS
        ]
        slow = [milliseconds(comparison.ways[protocol, way].phases[SLOW].p99) for way in WAYS]
        parts.append(
            f"{NAMES[protocol]} {failed[0]} -> {failed[1]} failed calls, p99 with a slow service {slow[0]} -> {slow[1]}"
        )
    return Text("The sidecar did better: " + "; ".join(parts) + ".", "bold green")


def print_next_step(console: Console) -> None:
    """One sentence."""
    console.print(
        "Next: `sidecar init` writes a starter file for your own services, README.md shows how to point "
        "a service at it, and `sidecar demo --keep` leaves all this running to look at."
    )


def print_places(console: Console, stage: Stage) -> None:
    """What runs, for `--keep`."""
    console.print(
        f"Everything runs until Ctrl-C. Call the services through the sidecar: http://{stage.outbound}/users/7"
    )
    console.print(f"  admin     {stage.admin}/   also /metrics /api/clusters /api/requests /api/events")
    console.print(f"  status    sidecar status --watch --admin {stage.admin}")
    console.print(f"  config    {stage.config}   a change is taken over")
    for service in stage.services:
        console.print(f"  {service.name:<16} {service.address}   kill -9 {service.pid}   sees what happens then")


def places(stage: Stage) -> dict[str, object]:
    """The same for `--json --keep`."""
    return {
        "sidecar": f"http://{stage.outbound}",
        "admin": stage.admin,
        "config": str(stage.config),
        "services": [
            {"protocol": service.protocol, "name": service.letter, "address": service.address, "pid": service.pid}
            for service in stage.services
        ],
    }


def _columns() -> list[tuple[str, str]]:
    return [(protocol, way) for protocol in PROTOCOLS for way in WAYS]


def _table(first: str, comparison: Comparison) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold cyan")
    table.add_column(first, no_wrap=True, min_width=34)
    for protocol, way in _columns():
        style = "bold" if way == SIDECAR else ""
        title = f"{NAMES[protocol]}\n{'straight' if way == STRAIGHT else 'sidecar'}"
        table.add_column(title, justify="right", no_wrap=True, min_width=10, style=style)
    return table


def _print_events(console: Console, comparison: Comparison) -> None:
    if not comparison.events:
        return
    console.print()
    console.print(Text("breakers", "bold cyan"))
    for event in comparison.events[:_EVENTS_SHOWN]:
        name = f"{NAMES.get(event.cluster, '')} {comparison.names.get(event.endpoint, event.endpoint)}"
        console.print(f"{event.at:5.1f} s  {name:<16} {event.before} -> {event.after}".replace("_", "-"))
    more = len(comparison.events) - _EVENTS_SHOWN
    if more > 0:
        console.print(f"         and {more} more")
