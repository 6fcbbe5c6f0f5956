"""`python -m benchmarks`: every figure of the project's own part, as a table."""

import json
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict

import click
from rich.console import Console
from rich.table import Table

from benchmarks import bytecodes, lookup, loopback, paths, policies
from benchmarks.measure import Effort, Figure

PARTS: dict[str, Callable[[Effort], list[Figure]]] = {
    "paths": paths.figures,
    "bytecodes": lambda effort: bytecodes.figures(),
    "policies": policies.figures,
    "lookup": lookup.figures,
    "loopback": loopback.figures,
}


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--rounds", default=7, type=click.IntRange(min=1), help="The best of so many. Default 7.")
@click.option("--number", default=10_000, type=click.IntRange(min=1), help="Operations a round. Default 10000.")
@click.option("--seconds", default=4, type=click.IntRange(min=1), help="Of load on each run over sockets. Default 4.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--functions", is_flag=True, help="Print where the bytecodes of a request are, and nothing else.")
def main(parts: tuple[str, ...], rounds: int, number: int, seconds: int, as_json: bool, functions: bool) -> None:
    """Measure the PARTS that are named, or all. Takes less than a minute."""
    if functions:
        click.echo(bytecodes.functions())
        return
    effort = Effort(rounds, number, seconds)
    found: list[Figure] = []
    for part in parts or PARTS:
        found += PARTS[part](effort)
    if as_json:
        click.echo(json.dumps([asdict(figure) for figure in found], indent=2))
        return
    # Off a terminal there is no width to fit into: no name may be cut.
    Console(width=None if sys.stdout.isatty() else 120).print(table(found))


def table(figures: list[Figure]) -> Table:
    """Figures, one line each."""
    machine = f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}"
    result = Table(title=machine, title_justify="left", box=None, pad_edge=False, header_style="bold")
    result.add_column("part", no_wrap=True)
    result.add_column("what", no_wrap=True)
    result.add_column("value", justify="right", no_wrap=True)
    result.add_column("unit", no_wrap=True)
    result.add_column("note")
    group = ""
    for figure in figures:
        shown = "-" if figure.value is None else _number(figure.value)
        result.add_row("" if figure.group == group else figure.group, figure.name, shown, figure.unit, figure.note)
        group = figure.group
    return result


def _number(value: float) -> str:
    return f"{value:,.1f}" if value >= 10 else f"{value:.3f}"


if __name__ == "__main__":
    main()
