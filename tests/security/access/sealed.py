"""`python -m tests.security.access.sealed MODULE ARG...`: runs a module that may write to
nothing, as in a container with a read-only root file system.

The kernel refuses to make, change or remove any file (Landlock, where it has that), and
so does an audit hook (PEP 578), which says on standard error what was tried. With
SEALED_AS=nobody the process also stops being root: what it keeps is the right to read,
because the interpreter under test may stand in root's home. Exits with 77 when it cannot.
"""

import ctypes
import os
import platform
import runpy
import sys

NOBODY = 65534
CANNOT = 77

_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = frozenset(
    f"os.{name}"
    for name in ("mkdir", "remove", "rename", "rmdir", "link", "symlink", "truncate", "chmod", "chown", "utime")
)

# landlock(7): to write, to remove, and to make whatever kind of file, below no folder.
_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_LANDLOCK_WRITES = sum(1 << bit for bit in (1, *range(4, 13)))
# prctl(2), capabilities(7).
_SET_KEEPCAPS, _SET_NO_NEW_PRIVS = 8, 38
_CAPABILITY_VERSION_3 = 0x20080522
_DAC_READ_SEARCH = 1 << 2


def refuse(event: str, arguments: tuple[object, ...]) -> None:
    """The audit hook."""
    if event == "open":
        path, mode, flags = arguments
        writes = bool(isinstance(flags, int) and flags & _WRITE) or any(letter in str(mode or "") for letter in "wax+")
        # A descriptor is open already; /dev/null keeps nothing.
        if not writes or isinstance(path, int) or path == "/dev/null":
            return
    elif event not in _CHANGES:
        return
    sys.stderr.write(f"sealed: {event} {arguments[0]!r}\n")
    raise PermissionError(30, "Read-only file system")


def seal(libc: ctypes.CDLL) -> None:
    """Have the kernel refuse what the hook does not see; silently not where it cannot."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        return
    handled = ctypes.c_uint64(_LANDLOCK_WRITES)
    rules = libc.syscall(_CREATE_RULESET, ctypes.byref(handled), ctypes.c_size_t(8), 0)
    if rules >= 0:
        libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.syscall(_RESTRICT_SELF, rules, 0)
        os.close(rules)


def become_nobody(libc: ctypes.CDLL) -> None:
    """No longer root, but for reading."""
    libc.prctl(_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # Effective, permitted, inheritable; then the same of the upper 32.
    wanted = (ctypes.c_uint32 * 6)(_DAC_READ_SEARCH, _DAC_READ_SEARCH, 0, 0, 0, 0)
    if libc.capset(header, wanted) != 0:
        sys.exit(CANNOT)


if __name__ == "__main__":
    c_library = ctypes.CDLL(None, use_errno=True)
    if os.environ.pop("SEALED_AS", "") == "nobody":
        become_nobody(c_library)
    seal(c_library)
    sys.argv = sys.argv[1:]
    sys.addaudithook(refuse)
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
