"""The small languages inside YAML scalars: addresses, hosts, methods, header names.

Each function takes what the YAML held and returns its one canonical form, or
raises BadValueError with a reason and, where one can be told, what to write instead.
"""

import re
import socket

from sidecar.config.units import BadValueError, shown
from sidecar.model.address import Address
from sidecar.policy import expression
from sidecar.policy.destinations import parse_entry

# RFC 9110 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# What may stand in a field value (RFC 9110 5.5), and be sent as UTF-8.
_FIELD_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]*(?:\[[0-9]+\])?")
# Compiling one takes time with its length, and reloading stops the requests for it.
_LONGEST_REGEX = 4096
# What other engines have: (?=, (?!, (?<=, (?<!, (?>, \1, a++.
_LOOKS = re.compile(r"\(\?(?:<?[=!]|>)|\\[1-9]|[*+?}]\+")
_IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]*"
_GRPC = re.compile(rf"/?({_IDENTIFIER}(?:\.{_IDENTIFIER})*(?:/(?:\*|{_IDENTIFIER})|\.\*))")
_BALANCE_KEY = re.compile(r"(header|cookie):(.+)|path|source")

# The wire owns these: they say how a message is framed or where it goes
# (RFC 9110 7.6.1, RFC 9112 6, RFC 9113 8.2.2).
_FRAMING = frozenset(
    [
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)


def parse_text(value: object) -> str:
    """Text; a number or a boolean wants quotes."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        raise BadValueError("must be text", f'write "{str(value).lower()}"')
    if isinstance(value, (int, float)):
        raise BadValueError("must be text", f'write "{value}"')
    raise BadValueError("must be text", 'write "" for an empty one' if value is None else "")


def parse_bind(value: object) -> Address:
    """An address to listen on; port 0 takes any free one."""
    text = parse_text(value)
    if "://" in text:
        raise BadValueError(
            "an address has no scheme", f"write {text.partition('://')[2].rstrip('/') or '127.0.0.1:8080'}"
        )
    try:
        address = Address.parse(text)
    except ValueError as error:
        raise BadValueError(str(error)) from None
    if address.unix:
        if "\x00" in address.unix or len(address.unix.encode()) > 107:
            raise BadValueError("a unix socket's path has at most 107 bytes")
    else:
        _check_host(address.host)
    return address


def parse_target(value: object) -> Address:
    """An address to connect to."""
    address = parse_bind(value)
    if not address.unix and address.port == 0:
        raise BadValueError("port 0 cannot be connected to")
    return address


def _check_host(host: str) -> None:
    if ":" in host:
        if not _is_ip(socket.AF_INET6, host.partition("%")[0]):
            raise BadValueError(f"{shown(host)} is no IPv6 address")
    elif re.fullmatch(r"[0-9.]+", host):
        if not _is_ip(socket.AF_INET, host):
            raise BadValueError(f"{shown(host)} is no IPv4 address")
    elif len(host) > 253 or not _HOST_NAME.fullmatch(host.lower().removesuffix(".")):
        raise BadValueError(f"{shown(host)} is no host name")


def _is_ip(family: int, text: str) -> bool:
    try:
        socket.inet_pton(family, text)
    except (OSError, ValueError):
        return False
    return True


def parse_name(value: object) -> str:
    """A name that becomes a metric label: letters, digits and `_ . : / -`."""
    text = parse_text(value)
    if len(text) > 128 or not _NAME.fullmatch(text):
        raise BadValueError(f"{shown(text)} is no name", "letters, digits and _ . : / - up to 128 of them")
    return text


def parse_host(value: object) -> str:
    """`users.internal`, `*.internal`, `10.0.0.1` or `[::1]`, lower case, without a port."""
    text = parse_text(value).lower()
    if text == "*":
        raise BadValueError("'*' is no host", "leave host out to match every host")
    if text.startswith("["):
        if text.endswith("]") and _is_ip(socket.AF_INET6, text[1:-1]):
            return text
        raise BadValueError(f"{shown(text)} is no IPv6 host", "write [::1], without a port")
    name, colon, port = text.partition(":")
    if colon and port.isdigit():
        raise BadValueError("a host is matched without its port", f"write {name}")
    if not _HOST_NAME.fullmatch(text.removeprefix("*.")):
        raise BadValueError(f"{shown(text)} is no host", "write users.internal or *.internal")
    return text


def parse_allowed(value: object) -> str:
    """What forward mode may reach: like parse_host, `*` and a network too, and `:port` may follow."""
    text = parse_text(value).lower()
    try:
        entry = parse_entry(text)
    except ValueError as error:
        raise BadValueError(str(error), 'write "*.example.com:443" or 10.0.0.0/8') from None
    if entry.network is None and entry.pattern != "*":
        parse_host(entry.pattern)
    return text


def _parse_host_port(value: object) -> str:
    text = parse_text(value).lower()
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host = text
    elif not (port.isascii() and port.isdigit() and 0 < int(port[:6]) <= 65535):
        raise BadValueError(f"{shown(port)} is no port: 1 to 65535", "write users.example.com:8443")
    parse_host(host)
    return text


def parse_authority(value: object) -> str:
    """A host of a URL, with `:port` when it is not the scheme's own."""
    text = parse_text(value).lower()
    if text.startswith("*") or "*" in _parse_host_port(text):
        raise BadValueError(f"{shown(text)} is no host", "write users.example.com or users.example.com:8443")
    return text


def parse_path(value: object) -> str:
    """An absolute path without a query."""
    text = parse_text(value)
    if not text.startswith("/"):
        raise BadValueError(f"{shown(text)} is no path", f"write /{text}" if re.fullmatch(r"[\w./-]+", text) else "")
    if re.search(r"[?#\x00-\x20\x7f]", text):
        raise BadValueError("a path holds no query, fragment or space")
    return text


def parse_regex(value: object) -> str:
    """A regular expression in RE2's syntax that compiles."""
    text = parse_text(value)
    if len(text) > _LONGEST_REGEX:
        raise BadValueError(f"a regular expression of {len(text)} characters", f"at most {_LONGEST_REGEX}")
    try:
        expression.whole(text)
    except ValueError as error:  # UnicodeEncodeError is one
        hint = "RE2 looks neither ahead nor behind nor back" if _LOOKS.search(text) else ""
        raise BadValueError(f"{shown(text)} is no regular expression: {error}", hint) from None
    return text


def parse_method(value: object) -> str:
    """An HTTP method, in the case that goes over the wire (RFC 9110 9.1)."""
    text = parse_text(value)
    if not _TOKEN.fullmatch(text):
        raise BadValueError(f"{shown(text)} is no HTTP method")
    if text != text.upper():
        raise BadValueError(f"methods are upper case: {shown(text)}", f"write {text.upper()}")
    return text


def parse_grpc(value: object) -> str:
    """`/pkg.Service/Method`, `/pkg.Service/*` or `/pkg.*`, with a leading slash."""
    text = parse_text(value)
    match = _GRPC.fullmatch(text)
    if match is None:
        raise BadValueError(f"{shown(text)} is no gRPC method", "write pkg.Service/Method, pkg.Service/* or pkg.*")
    return f"/{match[1]}"


def parse_repeatable(value: object) -> str:
    """What may run twice: `POST /path`, `POST /path*`, or a gRPC pattern as parse_grpc gives it."""
    text = parse_text(value)
    method, space, path = text.partition(" ")
    if not space:
        try:
            return parse_grpc(text)
        except BadValueError as error:
            raise BadValueError(f"{shown(text)} is neither a gRPC method nor METHOD /path", error.hint) from None
    parse_method(method)
    parse_path(path)
    if "*" in path[:-1]:
        raise BadValueError("a '*' stands only at the end", f'write "{method} {path.partition("*")[0]}*"')
    return f"{method} {path}"


def parse_field_name(value: object) -> str:
    """A header field's name, lower case."""
    text = parse_text(value).lower()
    if not _TOKEN.fullmatch(text):
        raise BadValueError(f"{shown(text)} is no header name")
    return text


def parse_edited_field_name(value: object) -> str:
    """A header field that a route may set, add or remove."""
    text = parse_field_name(value)
    if text in _FRAMING:
        raise BadValueError(f"{text} belongs to the connection", "use rewrite.host" if text == "host" else "")
    return text


def parse_field_value(value: object) -> str:
    """A header field's value, without control characters or outer blanks."""
    text = parse_text(value)
    if not _FIELD_VALUE.fullmatch(text):
        raise BadValueError("a header value holds no line break or control character")
    return text.strip(" \t")


def parse_balance_key(value: object) -> str:
    """`header:NAME`, `cookie:NAME`, `path` or `source`."""
    text = parse_text(value)
    match = _BALANCE_KEY.fullmatch(text)
    if match is None:
        raise BadValueError(f"{shown(text)} is no balance key", "write header:x-user, cookie:sid, path or source")
    if match[1] == "header":
        return f"header:{parse_field_name(match[2])}"
    if match[1] == "cookie" and not _TOKEN.fullmatch(match[2]):
        raise BadValueError(f"{shown(match[2])} is no cookie name")
    return text
