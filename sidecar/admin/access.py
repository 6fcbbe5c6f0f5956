"""Who may ask the admin server what.

Three guards, each against somebody else: the Host list against DNS rebinding (a page
whose name comes to mean 127.0.0.1), the origin against pages of other sites that send
requests without asking, the token against everybody else on the network.
"""

from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web

from sidecar.admin.answers import refusal
from sidecar.admin.operations import Operations
from sidecar.admin.token import TokenError, presents, read_token
from sidecar.model.address import is_loopback
from sidecar.proxy.route import host_of
from sidecar.telemetry.logs import get_logger

# What the kubelet asks, and load balancers: up or not, without a token.
_OPEN: Final = frozenset(("/healthz", "/readyz"))
_METRICS: Final = "/metrics"
# Watched by a page, it would tell another site's what happens here.
_STREAM: Final = "/api/events"
_READS: Final = (hdrs.METH_GET, hdrs.METH_HEAD)

# For every answer: nothing here is to be framed, sniffed, kept or read by other sites.
HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


async def harden(request: web.Request, response: web.StreamResponse) -> None:
    """Put HEADERS on an answer where it has none of its own, and name no software."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.popall(hdrs.SERVER, None)


class Access:
    """The rules of `admin` in the live configuration."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._log = get_logger("sidecar.admin")
        self._broken = ""  # what was said of the token's file last

    def refusal(self, request: web.Request) -> web.Response | None:
        """Why a request is not answered, or None."""
        if request.version not in (HttpVersion10, HttpVersion11):
            refused = refusal(505, "http_version", "HTTP/1.1 is spoken here")
            refused.force_close()
            return refused
        hosts = request.headers.getall(hdrs.HOST, [])
        if len(hosts) != 1 and (hosts or request.version >= HttpVersion11):
            return refusal(400, "bad_request", "a request has one Host field")
        if not request.raw_path.startswith("/"):
            # RFC 9112 3.2.2: whom an absolute target names is asked, whatever Host says.
            hosts = [_authority(request.raw_path) or ""]
        if hosts and not self._knows(request, hosts[0]):
            return refusal(403, "foreign_host", "this host is not ours: see admin.allowed_hosts")
        watched = request.method not in _READS or _resource(request) == _STREAM
        if watched and not _is_same_site(request, hosts):
            return refusal(403, "foreign_origin", "a page of another site may not do this")
        return self._without_token(request)

    def _knows(self, request: web.Request, authority: str) -> bool:
        """Whether a Host is one under which this server is to be reached."""
        socket_name = request.get_extra_info("sockname")
        if isinstance(socket_name, str):
            return True  # a unix socket: no browser gets here
        admin = self._operations.spec.admin
        host = host_of(authority.encode("utf-8", "surrogateescape"))
        if host in ("localhost", _in_brackets(admin.bind.host)) or is_loopback(host.strip("[]")):
            return True
        if socket_name and host == _in_brackets(str(socket_name[0])):
            return True
        return any(
            host == known or (known.startswith("*.") and host.endswith(known[1:])) for known in admin.allowed_hosts
        )

    def _without_token(self, request: web.Request) -> web.Response | None:
        admin = self._operations.spec.admin
        if not admin.token_file:
            return None
        resource = _resource(request)
        if request.method in _READS and (resource in _OPEN or (resource == _METRICS and admin.open_metrics)):
            return None
        try:
            token = read_token(admin.token_file)
        except TokenError as error:
            self._complain(str(error))
            return refusal(503, "no_token", "the token cannot be read: see the log")
        self._complain("")
        if presents(request.headers.getall(hdrs.AUTHORIZATION, []), token):
            return None
        refused = refusal(401, "unauthorized", "this needs the token: Authorization: Bearer TOKEN")
        refused.headers[hdrs.WWW_AUTHENTICATE] = 'Bearer realm="sidecar"'
        return refused

    def _complain(self, reason: str) -> None:
        """Once for each reason, not for each request."""
        if reason and reason != self._broken:
            self._log.error("admin_token_unusable", reason=reason)
        self._broken = reason


def _resource(request: web.Request) -> str:
    """The path as it is registered; what was asked for may be spelled in many ways."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else ""


def _is_same_site(request: web.Request, hosts: list[str]) -> bool:
    """Browsers name a page's origin in what it sends (Fetch Standard 3.1; Fetch Metadata).
    `same-site` will not do: every port of localhost is one site."""
    if any(site not in ("same-origin", "none") for site in request.headers.getall("Sec-Fetch-Site", [])):
        return False
    origins = request.headers.getall(hdrs.ORIGIN, [])
    return all(origin.startswith("http") and _authority(origin) in hosts for origin in origins)


def _authority(url: str) -> str | None:
    """The host and port of an origin or a target; None of what is none."""
    try:
        return urlsplit(url).netloc or None
    except ValueError:  # an IPv6 address that is none
        return None


def _in_brackets(host: str) -> str:
    """A host as an authority has it."""
    try:
        literal = ip_address(host.partition("%")[0])
    except ValueError:
        return host.lower().removesuffix(".")
    mapped = getattr(literal, "ipv4_mapped", None)  # of an IPv4 client on a socket for both
    literal = mapped or literal
    return f"[{literal}]" if literal.version == 6 else str(literal)
