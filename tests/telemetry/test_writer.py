"""Lines from a thread, to a disk that may be full."""

import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sidecar.telemetry.writer import Writer


@contextmanager
def _room_for(size: int) -> Iterator[None]:
    """Files of this process may be so large, in bytes: what is beyond fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Written:
    """A writer, and the errors that it told of."""

    def __init__(self, path: Path) -> None:
        self.errors: list[str] = []
        self.writer = Writer(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "test", self.errors.append)

    def write(self, *lines: bytes) -> None:
        """Until the thread has done it."""
        done = threading.Event()
        self.writer.write(list(lines))
        self.writer.replace(lambda: done.set())  # nothing is replaced, in turn
        assert done.wait(30)


def test_a_line_that_a_full_disk_took_a_part_of_spoils_no_other(tmp_path: Path) -> None:
    # Given room for one line and a half
    path = tmp_path / "log"
    written = Written(path)
    with _room_for(9):
        written.write(b"first\n", b"second\n", b"third\n")
        assert written.writer.failed == 2
        # Then nothing more is taken, and it is told once
        written.write(b"fourth\n")
        assert written.writer.failed == 3
        assert len(written.errors) == 1
    # When there is room again
    written.write(b"fifth\n", b"sixth\n")
    written.writer.stop(30)
    # Then each line is one
    assert path.read_bytes() == b"first\nsec\nfifth\nsixth\n"
    assert written.writer.failed == 3
    assert written.writer.taken == len(b"first\nsecond\nthird\nfourth\nfifth\nsixth\n")


def test_who_hears_of_errors_may_fail(tmp_path: Path) -> None:
    def fails(reason: str) -> None:
        raise RuntimeError(reason)

    path = tmp_path / "log"
    writer = Writer(os.open(path, os.O_WRONLY | os.O_CREAT), "test", fails)
    with _room_for(0):
        writer.write([b"lost\n"])
        waiting = threading.Event()
        writer.replace(lambda: waiting.set())
        assert waiting.wait(30)
    writer.write([b"kept\n"])
    writer.stop(30)
    assert path.read_bytes() == b"kept\n"
