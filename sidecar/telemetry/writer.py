"""Lines for a file, a pipe or a terminal, from a thread: a disk may stand still for as long
as it likes, and so may whoever reads the pipe. Imports nothing of ours."""

import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue


class Writer:
    """Owns the file `fd`. `on_broken(reason)` is called by the thread when a write fails
    after one that did not.

    `taken` (bytes) and `failed` (lines) are written by the thread alone and read by others,
    so that no lock is needed.
    """

    def __init__(self, fd: int, name: str, on_broken: Callable[[str], None]) -> None:
        self._fd = fd
        self._on_broken = on_broken
        self._queue: SimpleQueue[list[bytes] | Callable[[], int | None] | None] = SimpleQueue()
        self._broken = False
        self._torn = False  # the last line in the file has no end
        self.taken = 0
        self.failed = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def write(self, lines: list[bytes]) -> None:
        """Hand lines over, with their ends."""
        self._queue.put(lines)

    def replace(self, opened: Callable[[], int | None]) -> None:
        """What comes from now on goes to the file that `opened` gives; None keeps the old one.
        The thread calls it."""
        self._queue.put(opened)

    def stop(self, timeout: float) -> None:
        """Write what was handed over, and close. Blocks for so many seconds at most."""
        self._queue.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            if callable(work):
                self._replace(work())
            else:
                self._write(work)
        os.close(self._fd)

    def _replace(self, fd: int | None) -> None:
        if fd is not None:
            old, self._fd = self._fd, fd
            os.close(old)

    def _write(self, lines: list[bytes]) -> None:
        # What a full disk took of a line is no line, nor the beginning of another one.
        end = b"\n" if self._torn else b""
        data = end + b"".join(lines)
        written = 0
        try:
            while written < len(data):
                written += self._some(memoryview(data)[written:])
            self._broken = self._torn = False
        except OSError as error:
            if written:
                self._torn = not data.endswith(b"\n", 0, written)
            self.failed += data.count(b"\n", max(written, len(end)))
            if not self._broken:  # said once, not for each batch
                self._broken = True
                with suppress(Exception):  # the thread goes on whatever is made of it
                    self._on_broken(error.strerror or str(error))
        self.taken += sum(map(len, lines))

    def _some(self, data: memoryview) -> int:
        while True:
            try:
                return os.write(self._fd, data)
            except BlockingIOError:  # whoever shares our standard output made it so
                ready = select.poll()
                ready.register(self._fd, select.POLLOUT)
                ready.poll()
