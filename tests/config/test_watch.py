"""A change is told once, when it is whole. The polls are the test's: nothing waits."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sidecar.config.watch import Fingerprint, fingerprint, watch


class Poller:
    """Runs `watch` one poll at a time."""

    def __init__(self, path: Path, seen: Fingerprint | None = None) -> None:
        self.changes = 0
        self.loaded: Fingerprint | None = None
        self.waits: list[float] = []
        self._asleep = asyncio.Event()
        self._awake = asyncio.Event()
        self.task = asyncio.create_task(watch(str(path), 2.0, self._changed, seen, self._sleep, lambda: self.loaded))

    def _changed(self) -> None:
        self.changes += 1

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self._asleep.set()
        await self._awake.wait()
        self._awake.clear()

    async def poll(self) -> int:
        """One poll; how many changes were told so far."""
        await self._asleep.wait()
        self._asleep.clear()
        self._awake.set()
        await self._asleep.wait()
        return self.changes


@pytest.fixture
async def poller(tmp_path: Path) -> AsyncIterator[Callable[..., Poller]]:
    started: list[Poller] = []

    def start(path: Path, seen: Fingerprint | None = None) -> Poller:
        started.append(Poller(path, seen))
        return started[-1]

    yield start
    for each in started:
        each.task.cancel()
        await asyncio.gather(each.task, return_exceptions=True)


Start = Callable[..., Poller]


async def test_a_change_is_told_once_after_a_quiet_poll(tmp_path: Path, poller: Start) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("1")
    polls = poller(path)
    assert await polls.poll() == 0
    path.write_text("2")
    assert [await polls.poll() for _ in range(4)] == [0, 1, 1, 1]
    assert set(polls.waits) == {2.0}


async def test_a_file_that_is_still_written_to_waits(tmp_path: Path, poller: Start) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("1")
    polls = poller(path)
    await polls.poll()
    for size in range(2, 6):
        path.write_text("x" * size)
        assert await polls.poll() == 0
    assert await polls.poll() == 1


async def test_write_beside_and_rename(tmp_path: Path, poller: Start) -> None:
    path, beside = tmp_path / "a.yaml", tmp_path / ".a.swp"
    path.write_text("1")
    polls = poller(path)
    await polls.poll()
    beside.write_text("2")
    os.replace(beside, path)
    assert [await polls.poll() for _ in range(3)] == [0, 1, 1]


async def test_gone_for_a_moment_and_back_as_it_was(tmp_path: Path, poller: Start) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("1")
    polls = poller(path)
    await polls.poll()
    path.unlink()
    assert await polls.poll() == 0
    path.write_text("1")
    assert [await polls.poll() for _ in range(3)] == [0, 0, 0]


async def test_a_config_maps_symlink_swap(tmp_path: Path, poller: Start) -> None:
    for name, text in (("..1", "one"), ("..2", "two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.yaml").write_text(text)
    data, path = tmp_path / "..data", tmp_path / "a.yaml"
    data.symlink_to("..1")
    path.symlink_to("..data/a.yaml")
    polls = poller(path)
    await polls.poll()
    (tmp_path / "..tmp").symlink_to("..2")
    os.replace(tmp_path / "..tmp", data)
    assert [await polls.poll() for _ in range(3)] == [0, 1, 1]


async def test_the_same_content_is_no_change(tmp_path: Path, poller: Start) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("1")
    polls = poller(path)
    await polls.poll()
    path.unlink()
    path.write_text("1")
    os.utime(path, ns=(1, 1))
    assert [await polls.poll() for _ in range(3)] == [0, 0, 0]


async def test_a_change_and_back_within_the_quiet_time_is_none(tmp_path: Path, poller: Start) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("1")
    polls = poller(path)
    await polls.poll()
    path.write_text("2")
    await polls.poll()
    path.write_text("1")
    assert [await polls.poll() for _ in range(3)] == [0, 0, 0]


async def test_what_changed_between_loading_and_watching_is_told(tmp_path: Path, poller: Start) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("1")
    loaded = fingerprint(str(path))
    path.write_text("2")
    polls = poller(path, loaded)
    assert [await polls.poll() for _ in range(3)] == [0, 1, 1]


def test_no_fingerprint_without_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "none", tmp_path / "pipe"):
        assert fingerprint(str(path)) is None
    assert fingerprint("a\x00b") is None


def test_a_fingerprint_tells_content_apart_even_with_equal_times(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("1")
    os.utime(path, ns=(5, 5))
    one = fingerprint(str(path))
    path.write_text("2")
    os.utime(path, ns=(5, 5))
    two = fingerprint(str(path))
    assert one is not None
    assert two is not None
    assert one[:4] == two[:4]
    assert one != two


async def test_what_others_loaded_meanwhile_counts(tmp_path: Path, poller: Start) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("1")
    watched = poller(path, fingerprint(str(path)))
    assert await watched.poll() == 0
    # Changed, loaded by somebody else, and changed back, all between two polls
    path.write_text("2")
    watched.loaded = fingerprint(str(path))
    path.write_text("1")
    assert [await watched.poll(), await watched.poll()] == [0, 1]
