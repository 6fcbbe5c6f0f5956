"""`python -m fuzz [TARGETS] [--seconds N]`: exit code 1 when an invariant does not hold."""

import sys
import time
import traceback

import click

from fuzz.guided import available, guided
from fuzz.runner import TARGETS, Broken, fails, run, shrunk, until


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(TARGETS)), metavar="[TARGETS]...")
@click.option("--seconds", default=60.0, type=click.FloatRange(min=0), help="For all of them. Default 60.")
@click.option("--seed", default=None, type=int, help="Another one gives other inputs. Default: the time.")
@click.option("--unguided", is_flag=True, help="Change inputs at random, without a look at the code they reach.")
@click.option("--input", "hexadecimal", help="Check this one input (hexadecimal) with the target that is named.")
def main(names: tuple[str, ...], seconds: float, seed: int | None, unguided: bool, hexadecimal: str | None) -> None:
    """Feed random input to the TARGETS that are named, or to all."""
    names = names or tuple(TARGETS)
    if hexadecimal is not None:
        _again(names, hexadecimal)
        return
    seed = int(time.time()) if seed is None else seed
    if not unguided and not available():
        click.echo("atheris is not there for this Python and machine: inputs are changed at random, unguided")
        unguided = True
    for name in names:
        start = time.monotonic()
        try:
            number = _tried(name, seconds / len(names), seed, unguided)
        except Broken as broken:
            click.echo(f"{broken}\n{_trace(broken.error)}")
            click.echo(f"again: python -m fuzz {name} --input {broken.data.hex()}")
            sys.exit(1)
        click.echo(f"{name:14} {number:8,} inputs, {time.monotonic() - start:5.1f} s, seed {seed}")


def _tried(name: str, seconds: float, seed: int, unguided: bool) -> int:
    """How many inputs; Broken when one breaks the invariant."""
    target = TARGETS[name]
    if unguided:
        return run(name, target, seed, until(seconds))
    number, data = guided(name, target.SEEDS, seconds, seed)
    if data is not None:
        small = shrunk(target, data)
        error = fails(target, small) or RuntimeError("it holds when it is tried alone")
        raise Broken(name, small, number, error)
    return number


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
