"""Telling systemd how the process is (sd_notify(3)). Nothing happens where it does not listen.

Imports nothing of ours.
"""

import asyncio
import os
import socket
import time
from collections.abc import Mapping


class Notifications:
    """Datagrams to the socket that $NOTIFY_SOCKET names."""

    def __init__(self, address: str | None, watchdog: float = 0.0) -> None:
        """`watchdog` is after how many seconds of silence the process is held for dead; 0 for never."""
        self._watchdog = watchdog
        # A name that begins with @ is in Linux's abstract namespace.
        self._address = address.replace("@", "\0", 1) if address and address[0] == "@" else address

    def ready(self, status: str = "") -> None:
        """Started, or reloaded."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """A reload begins; Type=notify-reload asks for the time, too."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str = "") -> None:
        """The end has begun."""
        self._send("STOPPING=1", f"STATUS={status}")

    def replaced_by(self, pid: int) -> None:
        """The service's main process is another one from now on."""
        self._send(f"MAINPID={pid}", "STATUS=handed over")

    async def keep_alive(self) -> None:
        """Tell that the event loop still turns, twice in the time that the manager waits for it."""
        while self._watchdog:
            self._send("WATCHDOG=1")
            await asyncio.sleep(self._watchdog / 2)

    def _send(self, *fields: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(fields).encode(), self._address)
        except OSError:
            pass  # nobody listens, or there is no file: the service manager has its own timeouts


def notifications(environment: Mapping[str, str] = os.environ) -> Notifications:
    """Those of this process. Its children are not to speak in its name."""
    return Notifications(environment.get("NOTIFY_SOCKET"), _watchdog_of(environment))


def _watchdog_of(environment: Mapping[str, str]) -> float:
    """WatchdogSec= of the unit, in seconds (sd_watchdog_enabled(3)); 0 where it is not for this process."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    return int(microseconds) / 1e6 if microseconds.isascii() and microseconds.isdecimal() else 0.0
