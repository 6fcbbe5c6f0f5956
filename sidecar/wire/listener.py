"""A listening socket and the connections that came in through it."""

import asyncio
import errno
import os
import socket
from functools import partial
from pathlib import Path
from typing import Any

from sidecar.identity.clients import admitted
from sidecar.identity.errors import HandshakeError
from sidecar.model.address import Address
from sidecar.model.head import RequestHead
from sidecar.policy.pace import Pace
from sidecar.proxy.exchange import Begin, beginner
from sidecar.proxy.runtime import Runtime
from sidecar.wire.accept import Acceptor
from sidecar.wire.door import Door
from sidecar.wire.h1_server import H1ServerConnection
from sidecar.wire.h2_server import H2ServerConnection
from sidecar.wire.peer import peer_of
from sidecar.wire.refusal import Refusal
from sidecar.wire.sniff import Sniffer
from sidecar.wire.tls import ServerTls, has_outlived
from sidecar.wire.tls_layer import TlsLayer
from sidecar.wire.tunnel import TunnelServerConnection

_BACKLOG = 4096
_PACE = Pace()
_BY_ALPN = {"h2": "http2", "http/1.1": "http1"}


class BindError(Exception):
    """An address could not be listened on; the message names it and what holds it."""


class Listener:
    """One bound address. Every request of its connections begins in `begin`."""

    def __init__(self, runtime: Runtime, name: str, address: Address, mode: str) -> None:
        self.runtime = runtime
        self.name = name
        self.bind = address
        self.address = address
        self.mode = mode
        self.connections: set[Any] = set()
        self.draining = False
        self.handed_over = False  # the socket, its path above all, is another process's too
        self._acceptor: Acceptor | None = None
        self._socket: socket.socket | None = None
        self._exchange: Begin = beginner(runtime, name)
        self._begin: Begin = self._exchange if mode == "http" else self._begin_forward

    def prepare(self, inherited: socket.socket | None = None) -> None:
        """Bind, or take a socket that another process has bound; BindError if that cannot be.
        Nothing is accepted before `start`."""
        self._socket = bound_socket(self.bind) if inherited is None else inherited
        if not self.bind.unix:
            self.address = Address(self.bind.host, self._socket.getsockname()[1])

    async def start(self) -> None:
        """Bind, if `prepare` has not, and accept."""
        if self._socket is None:
            self.prepare()
        assert self._socket is not None
        self._socket.listen(_BACKLOG)
        self._acceptor = Acceptor(asyncio.get_running_loop(), self._socket, self.runtime.places, self._accept)
        self._acceptor.start()

    def _accept(self) -> asyncio.Protocol:
        live = self.runtime.snapshot.listeners.get(self.name)
        refusal = self.runtime.places.refusal()
        if live is None:
            return self._sniffed()
        if refusal is None and live.max_connections is not None and len(self.connections) >= live.max_connections:
            refusal = "listener"
        if refusal is not None:
            return Refusal(self.runtime, refusal, wordless=live.tls is not None)
        inside = self._sniffed if live.tls is None else partial(self._secured, live.tls)
        if any(guard.networks for guard in live.guards):
            return Door(live.guards, inside, self._keep_out)
        return inside()

    def _sniffed(self) -> asyncio.Protocol:
        sniffer = Sniffer(self.runtime, self._choose, self._closed, self._pace.first)
        self.connections.add(sniffer)
        return sniffer

    @property
    def _pace(self) -> Pace:
        live = self.runtime.snapshot.listeners.get(self.name)
        return _PACE if live is None else live.pace

    def _keep_out(self, peer: str) -> None:
        self.runtime.tls.keep_out(self.name, peer)

    # TLS.

    def _secured(self, tls: ServerTls) -> asyncio.Protocol:
        layer = TlsLayer(
            self.runtime,
            tls.context(),
            self._on_secure,
            self._on_insecure,
            self.connections.discard,
            timeout=tls.timeout,
        )
        self.connections.add(layer)
        return layer

    def _on_secure(self, layer: TlsLayer) -> None:
        """A handshake is done: what was agreed on tells the protocol, or else what comes."""
        if has_outlived(layer.get_extra_info("ssl_object")):
            self._on_insecure(layer, HandshakeError("expired", "it has ended since its session began"))
            layer.abort()
            return
        turn = self.runtime.turn
        turn.begin()
        try:
            kind = _BY_ALPN.get(layer.protocol_chosen or "")
            protocol: Any = self._sniffed() if kind is None else self._choose(kind)
            layer.set_protocol(protocol)
            protocol.connection_made(layer)
            self.connections.discard(layer)
        finally:
            turn.end()

    def _on_insecure(self, layer: TlsLayer, error: Exception) -> None:
        self.runtime.tls.failed("downstream", {"listener": self.name}, peer_of(layer), error)

    def _choose(self, kind: str) -> asyncio.Protocol:
        connection: Any
        if kind == "http2":
            connection = H2ServerConnection(self.runtime, self._begin, self._closed, pace=self._pace)
        else:
            connection = H1ServerConnection(self.runtime, self._begin, self._closed, pace=self._pace)
        self._opened(connection)
        return connection  # type: ignore[no-any-return]

    def _opened(self, connection: Any) -> None:
        self.connections.add(connection)
        self.runtime.connections["downstream", connection.protocol] += 1
        if self.draining:
            connection.drain()

    def _closed(self, connection: Any) -> None:
        self.connections.discard(connection)
        if not isinstance(connection, Sniffer):
            self.runtime.connections["downstream", connection.protocol] -= 1

    # Forward mode: CONNECT.

    def _begin_forward(self, stream: Any, head: RequestHead, end: bool) -> None:
        """A CONNECT to a host that a route names is looked into; all else takes the path,
        and so does a CONNECT over HTTP/2, as a tunnel to the route's cluster."""
        listener = self.runtime.snapshot.listeners.get(self.name)
        if (
            head.method == b"CONNECT"
            and isinstance(stream, H1ServerConnection)
            and listener is not None
            and admitted(listener.guards, stream.peer)
            and listener.table.knows_host(head.authority)
        ):
            stream.detach(lambda: self._inside(head, stream.peer))
        else:
            self._exchange(stream, head, end)

    def _inside(self, connect: RequestHead, peer: str) -> asyncio.Protocol:
        """What reads inside an answered CONNECT."""

        def choose(kind: str) -> asyncio.Protocol:
            if kind != "tls":
                return self._choose(kind)
            tunnel = TunnelServerConnection(self.runtime, self._closed, peer, self._pace)
            self._opened(tunnel)
            self._exchange(tunnel, connect, False)
            return tunnel

        sniffer = Sniffer(self.runtime, choose, self._closed, self._pace.first)
        self.connections.add(sniffer)
        return sniffer

    # The end.

    def drain(self) -> None:
        """Go on accepting, but keep no connection: GOAWAY, `Connection: close`."""
        self.draining = True
        for connection in list(self.connections):
            connection.drain()

    def idle_connections(self) -> list[tuple[float, Any]]:
        """Since when nothing is asked on a connection, and the connection."""
        found = ((getattr(connection, "idle_since", None), connection) for connection in self.connections)
        return [(since, connection) for since, connection in found if since is not None]

    def give_up_heads(self) -> None:
        """Let go of what is read of heads whose ends are not there yet."""
        for connection in list(self.connections):
            if isinstance(connection, H1ServerConnection):
                connection.give_up_head()

    def close_idle(self) -> None:
        """Close what nothing is asked on, and the rest after its answer. HTTP/2 connections
        that drain and tunnels end by themselves."""
        for connection in list(self.connections):
            if isinstance(connection, H1ServerConnection | Sniffer):
                connection.close_idle()
            else:
                connection.drain()  # of those that came last not all have been told

    def say_goodbye(self) -> None:
        """Time is up: every exchange that is under way ends with a status that says so."""
        for connection in list(self.connections):
            for receiver in getattr(connection, "receivers", ()):
                receiver.cut_off()

    @property
    def listening(self) -> socket.socket | None:
        """The listening socket, while there is one."""
        return self._socket

    def last_call(self) -> None:
        """Accept no more. Who is in the queue already is let in: closing the socket would
        reset connections that their clients take for open."""
        if self._acceptor is not None:
            self._acceptor.last_call(_BACKLOG)
        self.close_socket()

    def close_socket(self) -> None:
        """Accept no more."""
        if self._acceptor is not None:
            self._acceptor.close()
            self._acceptor = None
        if self._socket is not None:
            self._socket.close()
        if self._socket is not None and self.bind.unix and not self.handed_over:
            Path(self.bind.unix).unlink(missing_ok=True)
        self._socket = None

    async def stop(self) -> None:
        """Accept no more, and close what is left."""
        self.close_socket()
        for connection in list(self.connections):
            connection.abort()


def bound_socket(address: Address, mode: int | None = None) -> socket.socket:
    """A bound stream socket; BindError names the address and what holds it. `mode` is
    that of a unix socket's file, by the process's umask if None."""
    if address.unix:
        return _bound_unix(address, mode)
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, target = found[0]
    except OSError as error:
        raise BindError(f"cannot listen on {address}: {error.strerror or error}") from None
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind(target)
        sock.listen(_BACKLOG)  # now, so that another process's hold shows here
    except OSError as error:
        sock.close()
        raise BindError(f"cannot listen on {address}: {error.strerror}{holder(address, error)}") from None
    return sock


def _bound_unix(address: Address, mode: int | None) -> socket.socket:
    path = address.unix
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if Path(path).is_socket() and _is_abandoned(path):
            Path(path).unlink()
        sock.setblocking(False)
        if mode is not None:
            # Linux gives the file the mode of the socket, less the umask: nobody else can
            # connect in the moment before chmod, which gives the group what the umask took.
            os.fchmod(sock.fileno(), mode)
        sock.bind(path)
        if mode is not None:
            os.chmod(path, mode)
    except OSError as error:
        sock.close()
        held = ""
        if error.errno == errno.EADDRINUSE:
            held = ": another process listens there" if Path(path).is_socket() else ": a file is in the way"
        raise BindError(f"cannot listen on {address}: {error.strerror or error}{held}") from None
    return sock


def _is_abandoned(path: str) -> bool:
    """Whether nobody listens on a unix socket's path any more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(path) in (errno.ECONNREFUSED, errno.ENOENT)


def holder(address: Address, error: OSError) -> str:
    """Which process holds a port, as far as /proc shows it: text to put behind a message."""
    if error.errno != errno.EADDRINUSE:
        return ""
    inodes = _listening_inodes(address.port)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            for link in (process / "fd").iterdir():
                target = os.readlink(link)
                if target.startswith("socket:[") and target[8:-1] in inodes:
                    return f": held by {(process / 'comm').read_text().strip()} (pid {process.name})"
        except OSError:
            continue
    return ": held by another process" if inodes else ""


def _listening_inodes(port: int) -> set[str]:
    inodes: set[str] = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(fields[9])
    return inodes
