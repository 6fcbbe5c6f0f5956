"""Listening sockets that this process did not bind: from the one before it, or from systemd."""

import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sidecar.model.address import Address
from sidecar.telemetry.logs import get_logger
from sidecar.wire.listener import BindError

# The admin server's socket goes by this name, which no listener may have beside it.
ADMIN: Final = "admin"

_FIRST: Final = 3  # sd_listen_fds(3): SD_LISTEN_FDS_START


@dataclass(frozen=True, slots=True)
class Offered:
    """A listening socket: `name` is its listener's, `bind` the address that was asked for,
    or where it listens when nobody knows."""

    name: str
    bind: str
    socket: socket.socket


class Inherited:
    """Sockets to be taken, each once. Not one of them accepts anything yet."""

    def __init__(self, offered: Iterable[Offered] = ()) -> None:
        self._left = list(offered)
        self.taken: list[str] = []  # by the name under which they were offered

    def take(self, name: str, bind: Address) -> socket.socket | None:
        """The socket of this listener: of the same name and address, or else of the same
        address, for listeners are renamed."""
        wanted = str(bind)
        found = next((each for each in self._left if (each.name, each.bind) == (name, wanted)), None)
        if found is None and (bind.unix or bind.port):
            found = next((each for each in self._left if each.bind == wanted), None)
        if found is None:
            return None
        self._left.remove(found)
        self.taken.append(found.name)
        return found.socket

    def close(self) -> None:
        """Let go of what nobody took."""
        for offered in self._left:
            get_logger().info("socket_not_taken", name=offered.name, address=offered.bind)
            offered.socket.close()
        self._left.clear()


def from_systemd(environment: Mapping[str, str], binds: Mapping[str, Address]) -> list[Offered]:
    """The sockets that systemd passed to this process (sd_listen_fds(3)), none when it passed
    none. `binds` are the configured addresses by listener: a socket whose FileDescriptorName=
    is a listener's name is that listener's, wherever it listens. BindError when one of them is
    nothing that accepts connections."""
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = environment.get("LISTEN_FDS", "")
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    offered = []
    for number in range(int(count) if count.isdecimal() else 0):
        name = names[number] if number < len(names) else ""
        sock = _passed_socket(_FIRST + number, name)
        bind = binds.get(name)
        offered.append(Offered(name, str(bind if bind is not None else address_of(sock)), sock))
    return offered


def _passed_socket(descriptor: int, name: str) -> socket.socket:
    what = f"descriptor {descriptor} of systemd{f' ({name})' if name else ''}"
    try:
        sock = listening_socket(descriptor)
    except OSError as error:
        raise BindError(f"{what} is no socket: {error.strerror}") from None
    if sock.type != socket.SOCK_STREAM:
        sock.close()
        raise BindError(f"{what} is no stream socket (ListenStream=)")
    if _is_connected(sock):
        sock.close()
        raise BindError(f"{what} is a connection, not what accepts them (Accept=no)")
    return sock


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def listening_socket(descriptor: int) -> socket.socket:
    """A file that came from another process, as a socket that stays in this one."""
    sock = socket.socket(fileno=descriptor)
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock


def address_of(sock: socket.socket) -> Address:
    """Where a socket listens."""
    name = sock.getsockname()
    if isinstance(name, tuple):
        return Address(name[0], name[1])
    return Address("", 0, str(name))
