"""Dialling endpoints: TCP, unix sockets, TLS with ALPN."""

import asyncio
import errno
import select
from collections.abc import Callable
from typing import Any

from sidecar.identity.errors import TEXTS, HandshakeError
from sidecar.model.outcome import Failure
from sidecar.policy.places import EXHAUSTED
from sidecar.proxy.runtime import Runtime
from sidecar.wire.destinations import ForbiddenError, permitted
from sidecar.wire.h1_client import H1ClientConnection
from sidecar.wire.h2_client import H2ClientConnection
from sidecar.wire.lookups import Lookups, connect_any
from sidecar.wire.portion import adapt_all
from sidecar.wire.tls import ClientTls
from sidecar.wire.tls_layer import TlsLayer
from sidecar.wire.tunnel import TunnelClientConnection

# connect(2) and socket(2): no file, memory or local port left.
_OURS = frozenset((*EXHAUSTED, errno.EADDRNOTAVAIL))

# What a failed dial says of its endpoint, behind "no endpoint could be reached: " (contract "Headers"
# says which words it may not hold): by what it waited for, and by what the system said.
UNRESOLVED = "its name was not resolved"
NO_HTTP2 = "it did not answer in HTTP/2"
ENDED = "it ended the connection at once"
TROUBLES = {
    errno.ECONNREFUSED: "it takes no connections",
    errno.ECONNRESET: ENDED,
    errno.EHOSTUNREACH: "no way leads to it",
    errno.ENETUNREACH: "no way leads to it",
    errno.ENOENT: "its socket is not there",
    errno.EACCES: "its socket may not be used",
}

# Names that clients chose, looked up at once. Each is a thread.
_CLIENTS_NAMES = 16

_KINDS: dict[str, Any] = {"http1": H1ClientConnection, "http2": H2ClientConnection, "tcp": TunnelClientConnection}


class Connector:
    """Makes connections for pools, each dial in a Task of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._dials: set[asyncio.Task[None]] = set()
        self._lookups = Lookups()
        # Apart: no client's name is to keep one of the configuration's waiting.
        self._clients_lookups = Lookups(_CLIENTS_NAMES)
        self.runtime: Runtime | None = None
        self.connections: set[Any] = set()

    def dial(self, pool: Any, timeout: float) -> None:
        """Connect to `pool.endpoint` within `timeout` seconds and tell the pool."""
        task = self._loop.create_task(self._dial(pool, timeout))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    async def _dial(self, pool: Any, timeout: float) -> None:
        assert self.runtime is not None
        connection = _KINDS[pool.protocol](self.runtime, _Counted(pool, self))
        places = self.runtime.places
        endpoint = pool.endpoint
        failure: Failure | None = None
        trouble = ""
        if not places.may_dial:
            self._tell_failed(pool, Failure.OVERLOADED)
            return
        places.upstream += 1
        try:
            async with asyncio.timeout(timeout or None):
                await self._connect(pool, connection)
                if pool.protocol == "http2":
                    # What stays when the server ends before it has: mostly it speaks HTTP/1.1.
                    endpoint.stage = NO_HTTP2
                    await connection.greeted()
                    endpoint.stage = ""
        except TimeoutError:
            failure = Failure.CONNECT_TIMEOUT
        except ForbiddenError:
            failure = Failure.FORBIDDEN
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            # What we are short of ourselves is not the endpoint's fault.
            ours = isinstance(error, OSError) and error.errno in _OURS
            failure = Failure.OVERLOADED if ours else Failure.CONNECT_FAILED
            trouble = TROUBLES.get(error.errno or 0, "") if isinstance(error, OSError) else ""
        except Exception as error:  # the pool has to hear of every dial, or its waiters hang
            self.runtime.on_crash(error)
            failure = Failure.CONNECT_FAILED
        if failure is None and not _usable(connection, pool.protocol):
            failure, trouble = Failure.CONNECT_FAILED, ENDED
        endpoint.trouble = "" if failure is None else endpoint.stage or trouble
        if failure is not None and connection.transport is not None:
            connection.transport.abort()
        if failure is not None:
            places.upstream -= 1
            self._tell_failed(pool, failure)
            return
        turn = self.runtime.turn
        turn.begin()
        try:
            self.connections.add(connection)
            adapt_all((connection,))  # a crowd may have begun since it was made
            self.runtime.connections["upstream", _label(connection)] += 1
            pool.on_connected(connection)
        finally:
            turn.end()

    def _tell_failed(self, pool: Any, failure: Failure) -> None:
        assert self.runtime is not None
        turn = self.runtime.turn
        turn.begin()
        try:
            pool.on_connect_failed(failure)
        finally:
            turn.end()

    async def _connect(self, pool: Any, connection: Any) -> None:
        tls: ClientTls | None = pool.shares.tls if pool.protocol != "tcp" else None
        pool.endpoint.stage = ""
        if tls is None:
            await self._open(pool, lambda: connection)
        else:
            await self._open_tls(pool, connection, tls)

    async def _open(self, pool: Any, factory: Callable[[], asyncio.Protocol]) -> None:
        endpoint, address = pool.endpoint, pool.endpoint.address
        if address.unix:
            await self._loop.create_unix_connection(factory, address.unix)
            return
        destinations = pool.shares.destinations
        endpoint.stage = UNRESOLVED
        lookups = self._lookups if destinations is None else self._clients_lookups
        numbers = await lookups.addresses(address.host)
        endpoint.stage = ""
        if destinations is not None:
            numbers = permitted(numbers, address.port, destinations)
        await connect_any(factory, numbers, address.port)

    async def _open_tls(self, pool: Any, connection: Any, tls: ClientTls) -> None:
        assert self.runtime is not None
        endpoint = pool.endpoint
        opened: asyncio.Future[None] = self._loop.create_future()

        def on_open(layer: TlsLayer) -> None:
            if pool.protocol == "http2" and layer.protocol_chosen != "h2":
                layer.abort()  # RFC 9113 3.3
                on_failed(layer, HandshakeError("no_http2", "h2 was not chosen"))
                return
            layer.set_protocol(connection)
            connection.connection_made(layer)
            opened.set_result(None)

        def on_failed(layer: TlsLayer, error: Exception) -> None:
            assert self.runtime is not None
            where = {"cluster": pool.shares.name}
            endpoint.trouble = self.runtime.tls.failed("upstream", where, str(endpoint.address), error)
            endpoint.stage = endpoint.trouble
            if not opened.done():
                opened.set_exception(error)

        name = tls.server_name or endpoint.address.host or "localhost"
        layer = TlsLayer(self.runtime, tls.context(pool.protocol), on_open, on_failed, server_name=name)
        await self._open(pool, lambda: layer)
        endpoint.stage = endpoint.stage or TEXTS["timeout"]
        try:
            await opened
            endpoint.stage = ""
        except asyncio.CancelledError:
            on_failed(layer, HandshakeError("timeout", "no answer in time"))
            raise
        finally:
            if not layer.is_open:
                layer.abort()

    def readable(self, connection: Any) -> bool:
        """Whether something came on an idle connection, which can only be its end."""
        transport = connection.transport
        if transport is None or transport.is_closing():
            return True
        poll = select.poll()
        poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def forget(self, connection: Any) -> None:
        """A connection is gone."""
        if connection in self.connections:
            self.connections.discard(connection)
            assert self.runtime is not None
            self.runtime.connections["upstream", _label(connection)] -= 1
            self.runtime.places.upstream -= 1

    def adapt_to_crowd(self) -> None:
        """There is a crowd, or none any more."""
        adapt_all(self.connections)

    async def close(self) -> None:
        """End every dial and every connection."""
        for task in list(self._dials):
            task.cancel()
        self._lookups.close()
        self._clients_lookups.close()
        await asyncio.gather(*self._dials, return_exceptions=True)
        for connection in list(self.connections):
            if connection.transport is not None:
                connection.transport.abort()


def _usable(connection: Any, protocol: str) -> bool:
    """Whether a new connection still stands and speaks what was asked for. The peer may
    have closed it before the dialling task ran again; a TLS server that does not choose
    h2 does not speak it (RFC 9113 3.3)."""
    transport = connection.transport
    if transport is None or transport.is_closing():
        return False
    if protocol == "http2" and not connection.usable:
        return False  # it has said GOAWAY already: to dial again would be a loop
    tls = transport.get_extra_info("ssl_object")
    return tls is None or protocol != "http2" or tls.selected_alpn_protocol() == "h2"


def _label(connection: Any) -> str:
    return "http2" if connection.protocol == "http2" else "http1"


class _Counted:
    """A pool as its connection sees it, with the end of the connection noted."""

    __slots__ = ("_connector", "_pool", "on_available", "on_draining", "on_idle")

    def __init__(self, pool: Any, connector: Connector) -> None:
        self._pool = pool
        self._connector = connector
        # Bound once: these are called per request.
        self.on_idle = getattr(pool, "on_idle", None)
        self.on_available = getattr(pool, "on_available", None)
        self.on_draining = getattr(pool, "on_draining", None)

    def on_closed(self, connection: Any, *idle: bool) -> None:
        """The connection is gone."""
        self._connector.forget(connection)
        self._pool.on_closed(connection, *idle)
