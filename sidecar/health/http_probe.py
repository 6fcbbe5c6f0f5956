"""Health by HTTP: GET a path, any answer from 200 to 399 is well.

The answer is read by the codec that reads the answers to requests, with its limits: what is
checked is as hostile as what is asked. A client library kept every 1xx head of a flood of them.
"""

import asyncio
import os
import ssl
from collections.abc import Callable
from typing import Any

from sidecar.codec import h1
from sidecar.health.opened import connect
from sidecar.identity.errors import TEXTS, detail_of, reason_of
from sidecar.model.address import Address
from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.headers import Headers
from sidecar.policy.calm import MAX_INTERIM
from sidecar.wire.lookups import Lookups

_HEADERS: Headers = [
    (b"user-agent", b"sidecar-health-check"),
    (b"accept", b"*/*"),
    (b"connection", b"close"),
]


class HttpProbe:
    """A GET on a new connection each time: what is asked is whether a new request
    would be served, and an old connection may outlive the listener behind it.

    `host` is the Host header, by default the endpoint's address. Redirects are
    answers, not followed. With `tls`, which gives the context for the next handshake,
    the check goes by HTTPS, for `server_name` (default: the endpoint's host). No proxy
    from the environment is asked: it may be ourselves.
    """

    def __init__(
        self,
        path: str,
        lookups: Lookups | None = None,
        *,
        host: str = "",
        tls: Callable[[], ssl.SSLContext] | None = None,
        server_name: str = "",
    ) -> None:
        self._path = path.encode()
        self._lookups = lookups or Lookups()
        self._host = host.encode()
        self._tls = tls
        self._server_name = server_name

    async def ask(self, address: Address) -> str:
        """Empty, or the status or error that speaks against it."""
        authority = self._host or (b"localhost" if address.unix else str(address).encode())
        asking = _Asking(RequestHead(b"GET", self._path, authority, _HEADERS))
        transport = None
        try:
            transport = await self._connect(address, asking)
            return await asking.answer
        except OSError as error:  # ssl.SSLError is one
            return _reason(error)
        finally:
            asking.answer.cancel()
            if transport is not None:
                transport.abort()

    async def _connect(self, address: Address, asking: "_Asking") -> Any:
        """The transport of a connection on which the request was sent."""
        opened = await connect(self._lookups, address)
        transport = opened.transport
        try:
            if self._tls is None:
                transport.set_protocol(asking)
            else:
                name = self._server_name or address.host or "localhost"
                loop = asyncio.get_running_loop()
                transport = await loop.start_tls(transport, asking, self._tls(), server_hostname=name)
            if transport is None or opened.ended:
                raise ConnectionResetError(_ENDED)
        except BaseException:
            opened.transport.abort()
            raise
        asking.begin(transport)
        return transport

    async def close(self) -> None:
        """Nothing is kept."""


_ENDED = "it ended the connection before it answered"


class _Asking(asyncio.Protocol):
    """One request; `answer` is "" or what speaks against it."""

    def __init__(self, head: RequestHead) -> None:
        self._head = head
        self._decoder = h1.ResponseDecoder(self)
        self._decoder.expect(head)
        self._came = 0
        self._interim = 0
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def begin(self, transport: Any) -> None:
        """Ask."""
        transport.write(h1.encode_request(self._head, True)[0])

    # From the transport.

    def data_received(self, data: bytes) -> None:
        if self.answer.done():
            return
        self._came += len(data)
        try:
            self._decoder.feed(data)
            if self._came > MAX_INTERIM * h1.MAX_HEAD_BYTES:  # empty lines, for one
                raise h1.H1Error("no end of what is no answer")
        except h1.H1Error as error:
            self._tell(f"it does not answer in HTTP/1.1: {error}")

    def connection_lost(self, error: Exception | None) -> None:
        self._tell(_ENDED if error is None else _reason(error))
        self._decoder.close()

    def _tell(self, said: str) -> None:
        if not self.answer.done():
            self.answer.set_result(said)

    # From the decoder.

    def on_informational_head(self, head: ResponseHead) -> None:
        """A 1xx response: the answer is still to come."""
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise h1.H1Error("too many 1xx responses")

    def on_message_head(self, head: ResponseHead, end: bool) -> None:
        """The answer."""
        self._tell("" if 200 <= head.status < 400 else f"status {head.status}")

    def on_message_data(self, data: bytes, end: bool) -> None:
        """Nobody reads it."""

    def on_message_end(self, trailers: Headers) -> None:
        """Nor this."""


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"{TEXTS[reason_of(error)]}: {detail_of(error)}"
    number = getattr(error, "errno", None) or 0
    if number > 0:  # those of name lookups are negative, with texts of their own
        return os.strerror(number)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
