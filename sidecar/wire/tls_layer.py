"""TLS over one connection: the protocol of the transport below, the transport of the protocol above.

Not asyncio's own: that one, and uvloop's, drop the alert of a handshake that fails, so
that the peer never learns why, do not tell a cut connection from one that was closed,
and keep 256 KiB for each connection's reads. The TLS itself is OpenSSL's, through
`ssl.SSLObject`. May import ssl, asyncio, sidecar.identity, sidecar.proxy.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

from sidecar.identity.errors import OF_OUR_CERTIFICATE, HandshakeError, reason_of
from sidecar.proxy.runtime import Runtime
from sidecar.wire.last_words import last_words
from sidecar.wire.portion import adapt_reading

# More than OpenSSL gives at once: a record is at most 16 KiB (RFC 8446 5.1).
_READ = 64 * 1024
# How long the alert of a failed handshake has to arrive before the socket is cut.
_LINGER_SECONDS = 1.0
# A fatal alert bad_certificate (RFC 8446 6.2), as a record that is not encrypted.
_BAD_CERTIFICATE = bytes((21, 3, 3, 0, 2, 2, 42))


class TruncatedError(ConnectionError):
    """The connection ended without a close_notify: perhaps by somebody else's doing, and
    what was read so far may not be all (RFC 8446 6.1, RFC 9112 9.8)."""


class RefusedError(ConnectionError):
    """The server ended the handshake, for our certificate, after we had: it has read nothing of what we sent."""


class TlsLayer(asyncio.Protocol):
    """One connection's TLS, on either side.

    `on_open(layer)` is called once the handshake is done; it calls `set_protocol`, and
    `connection_made` of that protocol with this layer. `on_failed(layer, error)` is
    called at most once: the handshake failed, or the peer refused our certificate, which with
    TLS 1.3 a server says only later, and which some clients do. `on_gone(layer)` is called when a connection that
    never opened is closed. `timeout` bounds the handshake, in seconds;
    0 for no bound.
    """

    __slots__ = (
        "_began",
        "_client",
        "_closing",
        "_deaf",
        "_error",
        "_half_open",
        "_heard",
        "_incoming",
        "_judged_late",
        "_on_failed",
        "_on_gone",
        "_on_open",
        "_open",
        "_outgoing",
        "_peer_closed",
        "_protocol",
        "_raw",
        "_runtime",
        "_timeout",
        "_tls",
        "_token",
    )

    def __init__(
        self,
        runtime: Runtime,
        context: ssl.SSLContext,
        on_open: Callable[["TlsLayer"], None],
        on_failed: Callable[["TlsLayer", Exception], None],
        on_gone: Callable[["TlsLayer"], None] | None = None,
        *,
        server_name: str | None = None,
        timeout: float = 0.0,
    ) -> None:
        self._runtime = runtime
        self._client = server_name is not None
        self._judged_late = False  # whether the server looks at our certificate when we are open
        self._on_open = on_open
        self._on_failed = on_failed
        self._on_gone = on_gone
        self._timeout = timeout
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        # No name to ask for is the server's side: clients of ours always have one.
        self._tls: Any = context.wrap_bio(self._incoming, self._outgoing, server_name is None, server_name)
        self._raw: Any = None
        self._protocol: Any = None
        self._token = 0
        self._began = False
        self._open = False
        self._heard = False  # whether data came: then our certificate was taken
        self._deaf = False
        self._closing = False
        self._peer_closed = False
        self._half_open = False
        self._error: Exception | None = None

    # From the transport below.

    def connection_made(self, transport: Any) -> None:
        """The connection is there: the client speaks first."""
        self._raw = transport
        if self._timeout:
            self._token = self._runtime.timers.add(self._timeout, self)
        if self._client:
            self._shake()

    def data_received(self, data: bytes) -> None:
        """Bytes of TLS."""
        if self._deaf:
            return
        self._incoming.write(data)
        if self._open:
            self._read()
        else:
            self._shake()

    def eof_received(self) -> bool:
        """The peer's FIN. Only a close_notify before it says that this was all."""
        if self._open and not self._peer_closed:
            self._error = TruncatedError("the connection ended without a close_notify")
        return self._half_open

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self._runtime.timers.cancel(self._token)
        if error is not None and self._open and not self._closing:
            # A server that refuses our certificate closes with our request unread, which resets
            # the connection: writing fails before its alert is read. Others have given an answer.
            for data in last_words(self._raw):
                self.data_received(data)
        raw, self._raw = self._raw, None
        self._closing = True
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(self._error or error)
        elif raw is not None and not self._open and not self._deaf:
            self._deaf = True
            if self._began:  # else it was a port check, of Kubernetes or a load balancer
                self._on_failed(self, error or ConnectionResetError("the peer left"))
        if protocol is None and self._on_gone is not None:
            self._on_gone(self)
        # Without cycles it goes at once: OpenSSL's part is too large to wait for the collector.
        self._on_open = self._on_failed = _nobody
        self._on_gone = None

    def pause_writing(self) -> None:
        """The peer reads slower than we write."""
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        if self._protocol is not None:
            self._protocol.resume_writing()

    # The handshake.

    def _shake(self) -> None:
        self._began = True
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
            return
        except (ssl.SSLError, ValueError) as error:
            if isinstance(error, HandshakeError) and self._tls.version() == "TLSv1.3":
                self._hold_back()
            self._send()  # the alert
            self._refuse(error)
            return
        self._runtime.timers.cancel(self._token)
        self._judged_late = self._client and self._tls.version() == "TLSv1.3"
        self._open = True
        self._send()
        self._on_open(self)
        if self._incoming.pending and not self._closing:
            self._read()

    def _hold_back(self) -> None:
        """We do not like the server, which OpenSSL has accepted. Our Finished has not left yet: without
        it the handshake is not over there, and the server learns that it failed, and why. OpenSSL
        sends no alert for us; its servers take one that is not encrypted until they have the Finished."""
        self._outgoing.read()
        self._raw.write(_BAD_CERTIFICATE)

    def on_timer(self, token: int) -> None:
        """The handshake, or the linger after it failed, took its time."""
        if self._raw is None:
            return
        if not self._deaf:
            self._deaf = True
            self._on_failed(self, HandshakeError("timeout", "the handshake took too long"))
        self._raw.abort()

    def _refuse(self, error: Exception) -> None:
        """End a connection that did not open. A close right away could destroy the alert
        in the peer's buffer, when it has sent more than we read."""
        self._deaf = True
        self._runtime.timers.cancel(self._token)
        self._on_failed(self, error)
        if self._raw is not None and not self._raw.is_closing():
            self._token = self._runtime.timers.add(_LINGER_SECONDS, self)
            self._raw.write_eof()

    # Data.

    def _read(self) -> None:
        """Tell all that can be decrypted, in one piece."""
        incoming = self._incoming
        read = self._tls.read
        pieces: list[bytes] = []
        error: ssl.SSLError | None = None
        try:
            while incoming.pending:
                data = read(_READ)
                if not data:
                    self._peer_closed = True
                    break
                pieces.append(data)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as failed:
            error = failed
        if self._outgoing.pending:
            self._send()  # the answer to a key update, or an alert
        if pieces:
            self._heard = True
            self._protocol.data_received(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if error is not None:
            self._broken(error)
        elif self._peer_closed and not self._closing:
            self._half_open = bool(self._protocol.eof_received())
            if not self._half_open:
                self.close()

    def _broken(self, error: ssl.SSLError) -> None:
        """An alert, or bytes that are no TLS."""
        self._error = error
        self._deaf = True
        if not self._heard and "_ALERT_" in (error.reason or ""):
            if self._judged_late and reason_of(error) in OF_OUR_CERTIFICATE:
                # RFC 8446 4.4.2.4, 6.2: a server that does not like our certificate says so when the
                # handshake is over for us. Another alert may come from one that has done what it was
                # asked, and so may bytes that are no TLS: that must not be sent again.
                self._error = RefusedError(*error.args)
            self._on_failed(self, error)  # and there are clients that look at ours only then
        self._closing = True
        if self._raw is not None:
            self._raw.close()

    def _send(self) -> None:
        data = self._outgoing.read()
        if data and self._raw is not None:
            self._raw.write(data)

    # The transport of the protocol above.

    @property
    def is_open(self) -> bool:
        """Whether the handshake has succeeded and the connection is not closing."""
        return self._open and not self._closing

    @property
    def protocol_chosen(self) -> str | None:
        """By ALPN: "h2", "http/1.1", or None when the peer did not take part in it."""
        return self._tls.selected_alpn_protocol()  # type: ignore[no-any-return]

    def write(self, data: bytes) -> None:
        """Encrypt and send."""
        if self._closing or not data:
            return
        tls = self._tls
        try:
            sent = tls.write(data)
            while sent < len(data):
                sent += tls.write(memoryview(data)[sent:])
        except ssl.SSLError as error:
            self._broken(error)
            return
        self._raw.write(self._outgoing.read())

    def writelines(self, pieces: list[bytes]) -> None:
        """The same for several pieces, in as few records as they fit into."""
        self.write(b"".join(pieces))

    def write_eof(self) -> None:
        """A close_notify: no more comes from us. Many peers close when they see it."""
        if self._closing:
            return
        self._say_goodbye()

    def can_write_eof(self) -> bool:
        """Whether a peer may be expected to go on after our end: not with TLS."""
        return False

    def close(self) -> None:
        """Send what was written, say that it was all, and close."""
        if self._closing:
            return
        self._say_goodbye()
        self._closing = True
        self._raw.close()

    def _say_goodbye(self) -> None:
        try:
            self._tls.unwrap()
        except (ssl.SSLError, ValueError):
            pass  # it wants to read the peer's close_notify: nobody waits for that
        self._send()

    def abort(self) -> None:
        """Cut the connection."""
        self._closing = True
        if not self._open:
            self._deaf = True  # it is not the peer that left
        if self._raw is not None:
            self._raw.abort()

    def cut(self) -> None:
        """Send what was written, and end the connection without a word that this was all."""
        self._closing = True
        if self._raw is not None:
            self._raw.close()

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._closing or self._raw is None or self._raw.is_closing()

    def pause_reading(self) -> None:
        """Read no more."""
        if self._raw is not None:
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._raw is not None:
            self._raw.resume_reading()

    def adapt_to_crowd(self, paused: bool = False) -> None:
        """Read in portions while there is a crowd, else as ever; a record comes whole all the
        same. `paused` tells whether nothing is read now."""
        if self._raw is not None:
            adapt_reading(self._raw, self, self._runtime, paused)

    def get_protocol(self) -> Any:
        """Who hears of the data."""
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        """Who hears of the data from now on."""
        self._protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """In bytes of TLS, which are a few more than those written."""
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """What has not left yet, in bytes of TLS."""
        return self._raw.get_write_buffer_size()  # type: ignore[no-any-return]

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`ssl_object`, and what the connection below knows."""
        if name == "ssl_object":
            return self._tls
        return default if self._raw is None else self._raw.get_extra_info(name, default)

    # While the handshake is under way a listener knows it as one of its connections.

    @property
    def open_streams(self) -> int:
        """Nothing is asked yet."""
        return 0

    def drain(self) -> None:
        """A first request may be under way: what opens will be drained."""


def _nobody(*_: Any) -> None:
    """Who hears of a connection that is gone."""
