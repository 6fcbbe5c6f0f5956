"""Signals from the first moment of the process to its last: SIGTERM, SIGINT, SIGHUP.

A start takes some tenths of a second before there is an event loop. By their defaults these
signals would end the process as if it had failed, and as a container's process 1 they would do
nothing at all. So they are held back at first, which keeps them for process 1 too
(signal(7), pid_namespaces(7)), then heard, and ignored when the end is reached.

Not by `loop.add_signal_handler`: closing a loop gives its signals their defaults back while
the process still has some way to go. Imports nothing that takes time.
"""

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

_HEARD: Final = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def hold() -> None:
    """Hold them back from now on: before there is a second thread, which has a mask of its own."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)


def hear(loop: "asyncio.AbstractEventLoop", heard: Callable[[int], None]) -> None:
    """Call `heard(number)` for each, in the loop; at once for those that were held back."""
    for number in _HEARD:
        signal.signal(number, lambda number, _: loop.call_soon_threadsafe(heard, number))
    while pending := signal.sigpending() & _HEARD:
        heard(signal.sigwait(pending))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)


def ignore() -> None:
    """The process has done all that they could ask for."""
    for number in _HEARD:
        signal.signal(number, signal.SIG_IGN)
