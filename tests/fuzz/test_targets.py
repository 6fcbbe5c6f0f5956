"""A short run of every fuzz target, and the runner itself."""

from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import CliRunner

from fuzz.__main__ import main
from fuzz.guided import available, guided
from fuzz.mutate import mutated, split
from fuzz.runner import TARGETS, Broken, Target, fails, run

# Whole plays of both sides, and what opens files, take milliseconds each.
PLAYS = ("h1_client", "h2_client", "both_sides", "tunnel", "tls", "takeover", "admin", "reload")


@pytest.mark.parametrize("name", TARGETS)
def test_the_invariant_holds(name: str) -> None:
    wanted = 40 if name in PLAYS else 300
    assert run(name, TARGETS[name], seed=7, enough=lambda number: number >= wanted) >= wanted


def test_a_connection_that_is_not_given_back_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given pools that forget to give a connection's place back
    monkeypatch.setattr("sidecar.upstream.pool._Pool._gone", lambda pool, connection: None)
    # When a request is answered and everybody leaves
    error = fails(TARGETS["h1_client"], TARGETS["h1_client"].SEEDS[0])
    # Then the play fails by it
    assert "not given back" in str(error)


@pytest.mark.parametrize("name", TARGETS)
def test_each_target_says_its_invariant_first(name: str) -> None:
    text = cast(Any, TARGETS[name]).__doc__
    assert text.startswith(("Any bytes", "Any text", "Any frames"))


def planted(check: Any, **parts: Any) -> Target:
    return cast(Target, SimpleNamespace(SEEDS=(b"some words",), WORDS=(b"bug",), check=check, **parts))


def test_a_broken_invariant_is_found_and_made_small() -> None:
    def check(data: bytes) -> None:
        assert b"bug" not in data, "found"

    with pytest.raises(Broken) as broken:
        run("planted", planted(check), seed=1, enough=lambda number: number >= 10_000)
    assert broken.value.data == b"bug"
    assert "found" in str(broken.value)


def test_the_seeds_come_first_and_a_seed_gives_the_same_inputs() -> None:
    def inputs(seed: int) -> list[bytes]:
        seen: list[bytes] = []
        run("planted", planted(seen.append), seed, lambda number: number >= 20)
        return seen

    assert inputs(1)[0] == b"some words"
    assert inputs(1) == inputs(1) != inputs(2)


def test_a_target_may_draw_its_own_inputs() -> None:
    seen: list[bytes] = []
    run("planted", planted(seen.append, draw=lambda rng: b"drawn"), 1, lambda number: number >= 2)
    assert seen == [b"some words", b"drawn"]


def test_pieces_are_the_whole() -> None:
    rng = Random(3)
    for _ in range(50):
        data = mutated(rng, [b"x" * 100, b""], [b"word"])
        assert b"".join(split(rng, data)) == data


def test_the_command_reports_and_repeats_an_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(data: bytes) -> None:
        if data.startswith(b"some"):
            raise ValueError("no")

    monkeypatch.setitem(TARGETS, "grpc", planted(check))
    failed = CliRunner().invoke(main, ["grpc", "--seconds", "1", "--unguided"])
    assert failed.exit_code == 1
    again = failed.output.rpartition("again: python -m fuzz ")[2].split()
    assert CliRunner().invoke(main, again).exit_code == 1
    assert CliRunner().invoke(main, ["grpc", "--input", b"other".hex()]).exit_code == 0
    assert CliRunner().invoke(main, ["grpc", "--input", "xyz"]).exit_code == 2
    assert CliRunner().invoke(main, ["--input", "00"]).exit_code == 2


def test_an_escaping_exception_is_what_fails() -> None:
    def check(data: bytes) -> None:
        raise KeyError("x")

    assert isinstance(fails(planted(check), b""), KeyError)


def test_a_guided_run_tries_many_inputs() -> None:
    if not available():
        pytest.skip("atheris has no wheel for this Python and machine")
    # Given a target that holds for its seeds
    seeds = TARGETS["grpc"].SEEDS
    # When inputs are tried under the guidance of the code they reach
    number, broken = guided("grpc", seeds, seconds=1, seed=1)
    # Then many are tried, and none breaks it
    assert number > 50
    assert broken is None


def test_an_input_that_breaks_a_guided_run_comes_back() -> None:
    if not available():
        pytest.skip("atheris has no wheel for this Python and machine")
    # Given a target of which some input does not hold
    # When it is run, then that input is handed back, and not the other
    _, broken = guided("planted", [b"good", b"bad"], seconds=5, seed=1, package="tests.fuzz")
    assert broken == b"bad"
