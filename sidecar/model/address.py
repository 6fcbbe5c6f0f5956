"""Where something listens: a TCP host and port, or a unix socket's path."""

from dataclasses import dataclass
from ipaddress import ip_address


@dataclass(frozen=True, slots=True)
class Address:
    """`host:port`, `[v6]:port` or `unix:/path`. `port` is 0 for a unix socket."""

    host: str
    port: int = 0
    unix: str = ""

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read an address; ValueError says what is wrong with it."""
        if text.startswith("unix:"):
            path = text.removeprefix("unix:").removeprefix("//")
            if not path:
                raise ValueError("a unix address needs a path, as in unix:/run/app.sock")
            return cls("", 0, path)
        host, colon, port = text.rpartition(":")
        if not colon or not host:
            raise ValueError("an address is host:port, [v6]:port or unix:/path")
        if host.startswith("["):
            if not host.endswith("]"):
                raise ValueError("an IPv6 address is written [::1]:port")
            host = host[1:-1]
        elif ":" in host:
            raise ValueError("an IPv6 address is written [::1]:port")
        if not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"{port!r} is no port: 0 to 65535")
        return cls(host, int(port))

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect to it."""
        return bool(self.unix) or self.host.lower().removesuffix(".") == "localhost" or is_loopback(self.host)

    def __str__(self) -> str:
        if self.unix:
            return f"unix:{self.unix}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Whether a host is a number of this machine's own: 127.0.0.0/8 or ::1."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
