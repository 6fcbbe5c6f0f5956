"""Notices that a file's content changed, by polling.

Polling and not inotify, because it is the one way that works for all of these:
editors that write beside and rename, a ConfigMap whose `..data` symlink is
swapped while the path stays, network file systems, and a file that is gone for
a moment.
"""

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import xxhash

from sidecar.config.load import MAX_BYTES


class Fingerprint(NamedTuple):
    """What a path holds: the file it leads to, and that file's content."""

    resolved: str
    inode: int
    mtime_ns: int
    size: int
    digest: bytes


def fingerprint(path: str) -> Fingerprint | None:
    """The state of a file, or None while there is no readable regular file."""
    try:
        resolved = os.path.realpath(path)
        # O_NONBLOCK: opening a pipe must not stop the event loop.
        descriptor = os.open(resolved, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        # A file beyond the limit is refused whatever it holds.
        content = os.read(descriptor, MAX_BYTES + 1)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return Fingerprint(resolved, status.st_ino, status.st_mtime_ns, status.st_size, xxhash.xxh3_128_digest(content))


async def watch(
    path: str,
    interval: float,
    on_change: Callable[[], None],
    seen: Fingerprint | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    loaded: Callable[[], Fingerprint | None] = lambda: None,
) -> None:
    """Call `on_change` after each change of content, until cancelled.

    `interval` is in seconds. A change counts once two polls in a row saw the same,
    so that a half-written file is not read; the same content in another file is
    no change. `seen` is the fingerprint of what was loaded (taken before loading,
    so that nothing slips between); without it what the first poll finds is known.
    `loaded` tells what was loaded since then, also by others: a file that is changed,
    loaded by them and changed back between two polls has changed after all.
    """
    known = seen if seen is not None else fingerprint(path)
    candidate: Fingerprint | None = None
    while True:
        await sleep(interval)
        known = loaded() or known
        now = fingerprint(path)
        if now is None or (known is not None and now.digest == known.digest):
            candidate = None
        elif now != candidate:
            candidate = now
        else:
            known, candidate = now, None
            on_change()
