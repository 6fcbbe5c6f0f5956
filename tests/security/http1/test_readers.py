"""What reaches an endpoint, read by eight parsers that nobody of us wrote: all find the same requests in it.

The same inputs through a plain pipe make them contradict each other, or it would prove nothing.
"""

from collections.abc import Callable, Iterator
from itertools import combinations
from random import Random
from typing import Final

import pytest

from fuzz import h1_requests
from fuzz.mutate import mutated, split
from tests.security.http1 import forwarded, refused
from tests.security.http1.memory import Memory, Sent
from tests.security.http1.readers.reading import End, Reading, contradict

# The reader in Go may have to be compiled first.
pytestmark = pytest.mark.timeout(300)

Readers = dict[str, Callable[[bytes], Reading]]

ROWS: Final[dict[str, bytes]] = {
    **{f"refused, {name}": case.data for name, case in refused.ALL.items()},
    **{f"forwarded, {name}": case.data for name, case in forwarded.ALL.items()},
}
SMALL: Final = [data for data in ROWS.values() if len(data) < 2000]
SEEDS: Final = (*h1_requests.SEEDS, *SMALL)


@pytest.fixture
def memory() -> Iterator[Memory]:
    """A sidecar and its endpoint, in memory."""
    memory = Memory()
    yield memory
    memory.close()


class Judge:
    """Has every stream read by everybody, the same stream once."""

    def __init__(self, readers: Readers) -> None:
        self.readers = readers
        self.heard: set[Sent] = set()

    def read(self, data: bytes) -> dict[str, Reading]:
        """What each makes of a stream."""
        return {name: reader(data) for name, reader in self.readers.items()}

    def agree(self, sent: list[Sent], said: bytes) -> None:
        """Nobody contradicts anybody, nor the sidecar's own count."""
        for each in sent:
            if each in self.heard:
                continue
            self.heard.add(each)
            readings = self.read(each.data)
            at_odds = disputes(readings)
            assert not at_odds, f"{at_odds} over {each.data!r}, which was made of {said!r}: {readings}"
            for name, reading in readings.items():
                partial = reading.end is End.PARTIAL
                if reading.end is End.CLOSED:
                    assert len(reading.requests) <= each.requests, (name, reading, each)
                else:
                    assert len(reading.requests) + partial == each.requests, (name, reading, each)
                    assert each.ended or not partial, (name, reading, each)


def disputes(readings: dict[str, Reading]) -> list[tuple[str, str]]:
    """Who contradicts whom."""
    return [(one, other) for one, other in combinations(readings, 2) if contradict(readings[one], readings[other])]


def test_every_row_is_read_alike(readers: Readers, memory: Memory) -> None:
    judge = Judge(readers)
    for data in ROWS.values():
        judge.agree(memory.say([data]), data)
    assert len(judge.heard) >= 50


@pytest.mark.parametrize("name", refused.ALL)
def test_nothing_of_a_refused_row_goes_on(name: str, memory: Memory) -> None:
    data = refused.ALL[name].data
    assert memory.say([data]) == []
    assert memory.answered.startswith(b"HTTP/1.1 %d " % refused.ALL[name].status)


def test_pipelines_are_read_alike(readers: Readers, memory: Memory) -> None:
    judge = Judge(readers)
    rng = Random(3)
    for _ in range(200):
        data = b"".join(rng.choice(SMALL) for _ in range(rng.randrange(2, 6)))
        judge.agree(memory.say(split(rng, data)), data)
    assert len(judge.heard) >= 40


def mutants(readers: Readers, memory: Memory, seed: int, number: int) -> Judge:
    """So many inputs through the sidecar, cut in any way."""
    judge = Judge(readers)
    rng = Random(seed)
    for _ in range(number):
        data = mutated(rng, SEEDS, h1_requests.WORDS)
        judge.agree(memory.say(split(rng, data)), data)
    return judge


@pytest.mark.slow
def test_mutants_are_read_alike(readers: Readers, memory: Memory) -> None:
    assert len(mutants(readers, memory, 7, 10_000).heard) >= 400


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(10))
def test_many_mutants_are_read_alike(seed: int, readers: Readers, memory: Memory) -> None:
    mutants(readers, memory, 100 + seed, 500_000)


def test_through_a_plain_pipe_the_same_rows_are_read_differently(readers: Readers) -> None:
    judge = Judge(readers)
    found = {name: at_odds for name, data in ROWS.items() if (at_odds := disputes(judge.read(data)))}
    assert len(found) >= 15
    # And everybody takes part in it.
    assert {reader for at_odds in found.values() for pair in at_odds for reader in pair} == readers.keys()


@pytest.mark.slow
def test_through_a_plain_pipe_mutants_are_read_differently(readers: Readers) -> None:
    judge = Judge(readers)
    rng = Random(7)
    assert sum(bool(disputes(judge.read(mutated(rng, SEEDS, h1_requests.WORDS)))) for _ in range(500)) >= 20
