"""What is printed at the end: both ways side by side, and where to go from here."""

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sidecar.demo.admin import BreakerEvent
from sidecar.demo.report import NAMES, SIDECAR, STRAIGHT, WAYS, Comparison, Way, milliseconds, percent, shortfalls
from sidecar.demo.scenario import PHASES, PROTOCOLS, SLOW
from sidecar.demo.stage import Stage


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Tables, breaker events, the outcome."""
    calls = sum(way.overall.requests for way in comparison.ways.values())
    console.print(
        f"{calls} calls in {comparison.seconds:g} s, the same ones on both ways. Straight is round robin:\n"
        "HTTP in turn over the services, gRPC by grpcio's own policy, which leaves out\n"
        "servers that are down.\n"
    )
    console.print(side_by_side(comparison))
    console.print()
    console.print(by_phase(comparison))
    console.print()
    for line in breaker_lines(comparison):
        console.print(line)
    console.print(outcome(comparison))
    console.print()


def side_by_side(comparison: Comparison) -> Table:
    """One line for each number."""
    table = _table("", comparison)
    rows: dict[str, Callable[[Way], str]] = {
        "calls": lambda way: str(way.overall.requests),
        "failed": lambda way: str(way.overall.failed),
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


def breaker_lines(comparison: Comparison) -> list[Text]:
    """What each breaker that opened did, a line for each; empty when none did."""
    lines: list[Text] = []
    for protocol in PROTOCOLS:
        for address, name in comparison.names.items():
            events = [event for event in comparison.events if (event.cluster, event.endpoint) == (protocol, address)]
            if events:
                lines.append(Text(f"{NAMES[protocol]} {name:<12} {_story(events)}"))
    return [Text("breakers", "bold cyan"), *lines, Text("")] if lines else []


def outcome(comparison: Comparison) -> Text:
    """Whether the sidecar did better, and by how much or why not."""
    reasons = shortfalls(comparison)
    if reasons:
        return Text("\n  ".join(["The sidecar did not do better:", *reasons]), "bold red")
    lines = ["The sidecar did better:"]
    for protocol in PROTOCOLS:
        straight, sidecar = (comparison.ways[protocol, way] for way in WAYS)
        slow = [milliseconds(way.phases[SLOW].p99) for way in (straight, sidecar)]
        lines.append(
            f"{NAMES[protocol]} failed calls {straight.overall.failed} -> {sidecar.overall.failed}, "
            f"p99 with a slow service {slow[0]} -> {slow[1]}"
        )
    return Text("\n  ".join(lines), "bold green")


def _story(events: Sequence[BreakerEvent]) -> str:
    opened = [event.at for event in events if event.after == "open"]
    times = "once" if len(opened) == 1 else f"{len(opened)} times"
    last = events[-1]
    end = f"closed at {last.at:.1f} s" if last.after == "closed" else f"{last.after.replace('_', '-')} at the end"
    return f"opened {times}, at {opened[0]:.1f} s first; {end}" if opened else end


def print_next_step(console: Console) -> None:
    """One sentence."""
    console.print(
        "Next: `sidecar init` writes a starter file for your own services, README.md\n"
        "shows how to point a service at it, and `sidecar demo --keep` leaves all this\n"
        "running to look at."
    )


def print_places(console: Console, stage: Stage) -> None:
    """What runs, for `--keep`."""
    lines = [
        "Everything runs until Ctrl-C. Through the sidecar:",
        f"  curl http://{stage.outbound}/users/7",
        "Look at it:",
        f"  sidecar status --watch --admin {stage.admin}",
        f"  {stage.admin}/   with /metrics /api/requests /api/events and more",
        "Change it, and it is taken over:",
        f"  {stage.config}",
        "Break it:",
        *(f"  kill -9 {service.pid:<8} # {service.name} at {service.address}" for service in stage.services),
    ]
    # Not wrapped: these are lines to copy.
    console.print("\n".join(lines), soft_wrap=True)


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
    table.add_column(first, no_wrap=True, min_width=33)
    for protocol, way in _columns():
        style = "bold" if way == SIDECAR else ""
        title = f"{NAMES[protocol]}\n{'straight' if way == STRAIGHT else 'sidecar'}"
        table.add_column(title, justify="right", no_wrap=True, min_width=9, style=style)
    return table
