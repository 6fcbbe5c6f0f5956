"""The memory of this process and of its control group. Imports nothing of ours.

Version 2: https://docs.kernel.org/admin-guide/cgroup-v2.html, memory.max, memory.current,
memory.stat; version 1: https://docs.kernel.org/admin-guide/cgroup-v1/memory.html.
"""

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
# Version 1 writes "no limit" as the largest number of pages.
_UNLIMITED: Final = 1 << 60


@dataclass(frozen=True, slots=True)
class Group:
    """The files of the group with the lowest limit; `limit` in bytes."""

    limit: int
    used: Path
    stat: Path
    reclaimable: bytes  # the name in `stat` of what the kernel takes back before it kills

    def in_use(self) -> int:
        """Bytes that cannot be had back: as the kubelet counts its working set."""
        try:
            used = int(self.used.read_bytes())
            for line in self.stat.read_bytes().splitlines():
                if line.startswith(self.reclaimable):
                    used -= int(line.rpartition(b" ")[2])
                    break
        except (OSError, ValueError):
            return 0
        return max(0, used)


def find_group(root: str = "/sys/fs/cgroup", own: str = "/proc/self/cgroup") -> Group | None:
    """The group that bounds this process; None when none does."""
    try:
        lines = Path(own).read_text().splitlines()
    except OSError:
        return None
    groups: list[Group] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            groups += _limits(Path(root), path, "memory.max", "memory.current", b"inactive_file ")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
            groups += _limits(Path(root) / "memory", path, *names, b"total_inactive_file ")
    return min(groups, key=lambda group: group.limit, default=None)


def _limits(root: Path, path: str, limit: str, used: str, reclaimable: bytes) -> list[Group]:
    """Every group from the process's own up to the root that has a limit. In a container the
    path is often one of the host's: then the root is the own group."""
    folder = root / path.lstrip("/")
    if not folder.is_dir():
        folder = root
    found: list[Group] = []
    while True:
        try:
            text = (folder / limit).read_text().strip()
            if text.isdigit() and 0 < int(text) < _UNLIMITED:
                found.append(Group(int(text), folder / used, folder / "memory.stat", reclaimable))
        except OSError:
            pass
        if folder == root:
            return found
        folder = folder.parent


def resident(statm: str = "/proc/self/statm") -> int:
    """This process's resident bytes; 0 where nobody says."""
    try:
        return int(Path(statm).read_bytes().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def give_back() -> None:
    """Have the C library return free memory to the system: what a burst used would
    otherwise count as ours for ever."""
    try:
        library: Any = ctypes.CDLL(None)
        library.malloc_trim(0)
    except (OSError, AttributeError):  # only glibc has it
        pass
