"""Health by HTTP: GET a path, any answer from 200 to 399 is well."""

import os
import socket
import ssl
from collections.abc import Callable

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from sidecar.model.address import Address
from sidecar.wire.lookups import Lookups


class HttpProbe:
    """A GET on a new connection each time: what is asked is whether a new request
    would be served, and an old connection may outlive the listener behind it.

    `host` is the Host header, by default the endpoint's address. Redirects are
    answers, not followed. With `tls`, which gives the context for the next handshake,
    the check goes by HTTPS, for `server_name` (default: the endpoint's host).
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
        self._path = path
        self._lookups = lookups or Lookups()
        self._tls = tls
        self._server_name = server_name or None
        self._headers = {"user-agent": "sidecar-health-check", "accept": "*/*"}
        if host:
            self._headers["host"] = host
        self._session: aiohttp.ClientSession | None = None
        self._unix: dict[str, aiohttp.ClientSession] = {}

    async def ask(self, address: Address) -> str:
        """Empty, or the status or error that speaks against it."""
        try:
            async with self._session_for(address).get(
                self._url(address),
                headers=self._headers,
                allow_redirects=False,
                ssl=self._tls() if self._tls is not None else True,
                server_hostname=self._server_name if self._tls is not None else None,
            ) as response:
                return "" if 200 <= response.status < 400 else f"status {response.status}"
        except aiohttp.ClientError as error:
            return _reason(error)

    async def close(self) -> None:
        """Close the sessions."""
        sessions = [*self._unix.values(), *([self._session] if self._session is not None else [])]
        self._session = None
        self._unix.clear()
        for session in sessions:
            await session.close()

    def _url(self, address: Address) -> URL:
        scheme = "https" if self._tls is not None else "http"
        authority = "localhost" if address.unix else str(address)
        # Sent as it was written.
        return URL(f"{scheme}://{authority}{self._path}", encoded=True)

    def _session_for(self, address: Address) -> aiohttp.ClientSession:
        if address.unix:
            session = self._unix.get(address.unix)
            if session is None:
                session = self._unix[address.unix] = _session(aiohttp.UnixConnector(address.unix, force_close=True))
            return session
        if self._session is None:
            # Nothing is cached: what is asked is what a new connection would meet.
            resolver = _Resolver(self._lookups)
            connector = aiohttp.TCPConnector(limit=0, force_close=True, use_dns_cache=False, resolver=resolver)
            self._session = _session(connector)
        return self._session


class _Resolver(AbstractResolver):
    """Names by Lookups, so that one which takes long holds up no other check."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=number,
                port=port,
                family=socket.AF_INET6 if ":" in number else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for number in await self._lookups.addresses(host)
        ]

    async def close(self) -> None:
        """Whoever gave the look-ups closes them."""


def _reason(error: aiohttp.ClientError) -> str:
    # aiohttp's own words for a failed connection hide which failure it was.
    if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error, aiohttp.ClientSSLError):
        number = error.os_error.errno or 0
        if number > 0:  # those of name lookups are negative, with texts of their own
            return os.strerror(number)
    return str(error) or type(error).__name__


def _session(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    # The checker bounds the time. No proxy from the environment: it may be ourselves.
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=False,
        auto_decompress=False,
    )
