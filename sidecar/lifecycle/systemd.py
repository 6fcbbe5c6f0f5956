"""Telling systemd how the process is (sd_notify(3)). Nothing happens where it does not listen.

Imports nothing of ours.
"""

import os
import socket
import time


class Notifications:
    """Datagrams to the socket that $NOTIFY_SOCKET names."""

    def __init__(self, address: str | None) -> None:
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

    def _send(self, *fields: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            try:
                sock.sendto("\n".join(fields).encode(), self._address)
            except OSError:
                pass  # nobody listens: the service manager has its own timeouts


def notifications() -> Notifications:
    """Those of this process. Its children are not to speak in its name."""
    return Notifications(os.environ.get("NOTIFY_SOCKET"))
