"""`python -m fuzz [TARGETS] [--seconds N]`: exit code 1 when an invariant does not hold."""

import sys
import time
import traceback

import click

from fuzz.runner import TARGETS, Broken, fails, run, until


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(TARGETS)), metavar="[TARGETS]...")
@click.option("--seconds", default=60.0, type=click.FloatRange(min=0), help="For all of them. Default 60.")
@click.option("--seed", default=None, type=int, help="Another one gives other inputs. Default: the time.")
@click.option("--input", "hexadecimal", help="Check this one input (hexadecimal) with the target that is named.")
def main(names: tuple[str, ...], seconds: float, seed: int | None, hexadecimal: str | None) -> None:
    """Feed random input to the TARGETS that are named, or to all."""
    names = names or tuple(TARGETS)
    if hexadecimal is not None:
        _again(names, hexadecimal)
        return
    seed = int(time.time()) if seed is None else seed
    for name in names:
        start = time.monotonic()
        try:
            number = run(name, TARGETS[name], seed, until(seconds / len(names)))
        except Broken as broken:
            click.echo(f"{broken}\n{_trace(broken.error)}")
            click.echo(f"again: python -m fuzz {name} --input {broken.data.hex()}")
            sys.exit(1)
        click.echo(f"{name:14} {number:8,} inputs, {time.monotonic() - start:5.1f} s, seed {seed}")


def _again(names: tuple[str, ...], hexadecimal: str) -> None:
    if len(names) != 1:
        raise click.UsageError("--input needs one target")
    try:
        data = bytes.fromhex(hexadecimal)
    except ValueError:
        raise click.UsageError("--input is no hexadecimal") from None
    error = fails(TARGETS[names[0]], data)
    if error is not None:
        click.echo(_trace(error))
        sys.exit(1)
    click.echo(f"{names[0]}: holds")


def _trace(error: Exception) -> str:
    return "".join(traceback.format_exception(error))


if __name__ == "__main__":
    main()
