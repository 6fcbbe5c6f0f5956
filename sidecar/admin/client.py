"""Calls the admin API of a running sidecar, for the command line. Nothing but the
standard library: `sidecar status` starts at once.

No proxy, which may be this very sidecar, and no redirect, which would take the token
to another host.
"""

import http.client
import socket
from typing import Any, Final
from urllib.parse import urlsplit

_SECONDS: Final = 5.0


class AdminError(Exception):
    """There is no such answer; the text is for people and holds no token. `body` is what
    was answered instead."""

    def __init__(self, text: str, body: bytes = b"") -> None:
        super().__init__(text)
        self.body = body


class AdminApi:
    """`base` is http://host:port, https://host:port or unix:/path; ValueError for another."""

    def __init__(self, base: str, token: str | None = None) -> None:
        self._token = token
        self._unix = base.removeprefix("unix:").removeprefix("//") if base.startswith("unix:") else ""
        self._parts = urlsplit("http://localhost" if self._unix else base)
        if self._parts.scheme not in ("http", "https") or not self._parts.hostname:
            raise ValueError(f"{base} is no HTTP URL and no unix:/path")
        self._port = self._parts.port  # ValueError
        host = self._parts.netloc.rpartition("@")[2]
        # As it may be shown: without a user's name and password.
        self.base = base if self._unix else f"{self._parts.scheme}://{host}{self._parts.path}"

    def call(self, method: str, path: str) -> bytes:
        """The body of a 2xx answer; AdminError."""
        headers = {"accept": "application/json"}
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        connection = self._connection()
        try:
            connection.request(method, self._parts.path + path, headers=headers)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise AdminError(f"no sidecar answers at {self.base}: {reason}") from None
        finally:
            connection.close()
        if not 200 <= response.status < 300:
            hint = ": see --token-file" if response.status == http.client.UNAUTHORIZED else ""
            raise AdminError(f"{self.base}{path} answered {response.status} {response.reason}{hint}", body)
        return body

    def _connection(self) -> http.client.HTTPConnection:
        if self._unix:
            return _UnixConnection(self._unix)
        kind: Any = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        made: http.client.HTTPConnection = kind(self._parts.hostname, self._port, timeout=_SECONDS)
        return made


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(self._path)
