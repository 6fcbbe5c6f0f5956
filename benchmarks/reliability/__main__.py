"""`python -m benchmarks.reliability`: the same faults through each proxy that is installed."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace

import click
from rich.console import Console

from benchmarks.__main__ import table
from benchmarks.measure import Figure
from benchmarks.reliability import files, kills, overload, reloads, slow
from benchmarks.reliability.proxies import Proxy, all_of_them

# With how many seconds each takes by default.
PARTS: Mapping[str, tuple[Callable[[Proxy, float], Awaitable[list[Figure]]], float]] = {
    "kills": (kills.figures, 60.0),
    "overload": (overload.figures, 5.0),
    "slow": (slow.figures, 10.0),
    "files": (files.figures, 0.0),
    "reloads": (reloads.figures, 0.0),
}


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--proxies", default="sidecar,envoy,haproxy,nginx", help="Which, comma-separated. Default: all.")
@click.option("--envoy", default="envoy", help="Envoy's program.")
@click.option("--seconds", type=float, help="How long a part's fault lasts, where it lasts. Default: the part's own.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(parts: tuple[str, ...], proxies: str, envoy: str, seconds: float | None, as_json: bool) -> None:
    """Measure the PARTS that are named, or all: about twenty minutes."""
    known = all_of_them(envoy)
    chosen = [known[name] for name in proxies.split(",")]
    found: list[Figure] = []
    for part in parts or PARTS:
        call, usual = PARTS[part]
        for proxy in chosen:
            if not proxy.installed:
                click.echo(f"{proxy.name} is not installed: left out", err=True)
                continue
            figures = asyncio.run(_measure(call, proxy, usual if seconds is None else seconds))
            found += [replace(figure, group=part, name=f"{proxy.name}: {figure.name}") for figure in figures]
    if as_json:
        click.echo(json.dumps([asdict(figure) for figure in found], indent=2))
        return
    Console(width=160).print(table(found))


async def _measure(
    call: Callable[[Proxy, float], Awaitable[list[Figure]]], proxy: Proxy, seconds: float
) -> list[Figure]:
    return await call(proxy, seconds)


if __name__ == "__main__":
    main()
