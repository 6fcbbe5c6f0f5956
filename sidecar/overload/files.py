"""How many files the process has open, and how many it may. Imports nothing of ours."""

import os
import resource
from typing import Final

# More than this helps nobody, and some systems have a hard limit of a milliard.
_ENOUGH: Final = 1 << 20
# One listener, the admin server, the event loop, and one request at a time.
LEAST: Final = 20
_OWN: Final = "/proc/self/fd"


def raise_limit() -> None:
    """Raise the soft limit to the hard one, as Go and Envoy do: the soft limit of 1,024
    is for programs with select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # macOS has a lower limit of its own
            pass


def open_standard() -> None:
    """Open what of standard input, output and error is closed, as nothing: else the next
    file or connection would have its number, and get what is printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            try:
                opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            except OSError:
                opened = os.open("/", os.O_RDONLY)  # nothing can be written to it either
            os.set_inheritable(opened, True)


def limit() -> int:
    """The limit on open files; 0 where there is none."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if soft == resource.RLIM_INFINITY else soft


def count_open() -> int:
    """How many files are open now; 0 where nobody says. Linux 6.2 counts them itself; before
    it each one has to be read, which is for the start alone."""
    try:
        counted = os.stat(_OWN).st_size
        return counted or len(os.listdir(_OWN)) - 1  # less the one that reads it
    except OSError:
        return 0


def counts_cheaply() -> bool:
    """Whether `count_open` may be asked again and again."""
    try:
        return os.stat(_OWN).st_size > 0
    except OSError:
        return False
