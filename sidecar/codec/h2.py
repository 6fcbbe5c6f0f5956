"""HTTP/2 (RFC 9113) behind our seam: how libnghttp2 is set up, and heads both ways.

The only importer of ngh2: the rest of the code takes its names from here. What
libnghttp2 checks itself (order and presence of pseudo-header fields, field
syntax, connection-specific fields, Content-Length against DATA) is not checked
again; tests/contract/test_ngh2.py holds it to that.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from operator import itemgetter
from struct import pack

from ngh2 import (
    AltSvcReceived,
    Configuration,
    Connection,
    ConnectionClosed,
    ConnectionClosingError,
    DataReceived,
    DenialOfServiceError,
    ErrorCode,
    GoAwayReceived,
    InformationalResponseReceived,
    NeverIndexedHeader,
    NoAvailableStreamIDError,
    OriginReceived,
    PingAcknowledged,
    PingReceived,
    PriorityUpdateReceived,
    RequestReceived,
    ResponseReceived,
    Role,
    Setting,
    SettingsReceived,
    StreamClosed,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from ngh2 import NGH2Error as H2Error

from sidecar.codec.authority import AUTHORITY
from sidecar.codec.fields import HOP_BY_HOP, fit_for_trailers
from sidecar.codec.grpc import is_grpc
from sidecar.codec.h1.limits import MAX_DIGITS
from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.headers import Header, Headers, get
from sidecar.model.outcome import Failure

__all__ = [
    "AltSvcReceived",
    "Connection",
    "ConnectionClosed",
    "ConnectionClosingError",
    "DataReceived",
    "DenialOfServiceError",
    "ErrorCode",
    "GoAwayReceived",
    "H2Error",
    "InformationalResponseReceived",
    "NoAvailableStreamIDError",
    "OriginReceived",
    "PingAcknowledged",
    "PingReceived",
    "PriorityUpdateReceived",
    "RequestReceived",
    "ResponseReceived",
    "SettingsReceived",
    "StreamClosed",
    "StreamReset",
    "TrailersReceived",
    "WindowUpdated",
]

MAX_STREAMS = 1000
# What a client of ours may send of one body before the exchange took any of it:
# two reads of a socket's worth, and 20 Gbit/s at 0.1 ms round trip on loopback.
STREAM_WINDOW = 256 * 1024
# Bounds what all stalled streams of one connection may hold. It has to be many
# stream windows: once so many readers have stalled (64 here), they hold up every
# other stream of the connection (RFC 9113 5.2.1).
CONNECTION_WINDOW = 16 * 1024 * 1024
# Four times the least that RFC 9113 6.5.2 allows: a fifth less CPU per byte of a
# large body (165 -> 133 ms per GiB relayed), where the peer makes use of it.
MAX_FRAME = 64 * 1024
# Told to the peer, and what is answered 431 (RFC 9113 10.5.1, RFC 6585 5).
MAX_HEADER_LIST = 64 * 1024
# As many as over HTTP/1.1, and a request's pseudo-header fields: 431 as well. Small references
# into the field table make many of them.
MAX_FIELDS = 256 + 4
# What is answered 414 (RFC 9110 15.5.15), as over HTTP/1.1.
MAX_TARGET = 16 * 1024
# So many fields are not over MAX_HEADER_LIST, unless their read was large: an entry of the field
# table has 4 KiB at most (RFC 7541 4.2, SETTINGS_HEADER_TABLE_SIZE).
FEW_FIELDS = 11
# Beyond this libnghttp2 ends the connection: a list that small input made large.
_HARD_HEADER_LIST = 256 * 1024
# No list that is within what the peer was told has more: each counts for 32 bytes and a name.
_HARD_FIELDS = MAX_HEADER_LIST // 32
# libnghttp2 fails a header block over its limit only when it is written, as an
# error of the stream. What we send came in under some limit of ours: set it above.
_MAX_SENT_HEADER_BLOCK = 1024 * 1024
# Until the peer has sent SETTINGS (RFC 9113 6.5.2 recommends at least 100).
ASSUMED_STREAMS = 100

_CLIENT = Configuration(
    auto_window_update=False,
    peer_max_concurrent_streams=ASSUMED_STREAMS,
    max_send_header_block_length=_MAX_SENT_HEADER_BLOCK,
    max_inbound_header_list_size=_HARD_HEADER_LIST,
    max_inbound_header_count=_HARD_FIELDS,
    # nghttp2 counts a partial read as a CONTINUATION frame; 64 KiB is four frames.
    max_continuations=64,
    # What is of no use to anybody: PRIORITY, unknown types, empty DATA, malformed heads,
    # streams over the limit. A burst, and so many a second.
    glitch_rate_limit=(1_000, 100),
)
# Our own budget is lower and gives the reason: see sidecar.policy.calm.
_SERVER = replace(_CLIENT, stream_reset_rate_limit=(100_000, 10_000))

_SERVER_SETTINGS = {
    Setting.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
    Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
    Setting.MAX_FRAME_SIZE: MAX_FRAME,
    Setting.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST,
}
_CLIENT_SETTINGS = {
    Setting.ENABLE_PUSH: 0,
    Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
    Setting.MAX_FRAME_SIZE: MAX_FRAME,
    Setting.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST,
}


def server_connection() -> Connection:
    """The server's side of a connection, its SETTINGS ready to be written."""
    connection = Connection(Role.SERVER, _SERVER)
    connection.initiate_connection(_SERVER_SETTINGS)
    connection.set_local_window_size(CONNECTION_WINDOW)
    return connection


def client_connection() -> Connection:
    """The client's side of a connection, preface and SETTINGS ready to be written."""
    connection = Connection(Role.CLIENT, _CLIENT)
    connection.initiate_connection(_CLIENT_SETTINGS)
    connection.set_local_window_size(CONNECTION_WINDOW)
    return connection


def stream_limit(settings: Mapping[int, int], before: int) -> int:
    """How many streams the peer allows, after its SETTINGS (RFC 9113 6.5.2).
    `before` is the limit in force; negative before the first SETTINGS."""
    given = settings.get(Setting.MAX_CONCURRENT_STREAMS)
    if given is not None:
        return given
    return before if before >= 0 else 0x7FFFFFFF


def abuse_reason(error: DenialOfServiceError) -> str:
    """Which of its limits the library means; one of sidecar.policy.calm.REASONS."""
    text = str(error)
    if "CONTINUATION" in text:
        return "continuation"
    return "unread_answers" if "Flooding" in text else "header_list"


def opened_too_many(closed: ConnectionClosed) -> bool:
    """Whether the library has given up because of more streams than were allowed."""
    return b"max concurrent streams" in closed.debug_data


def goaway(code: int, last_stream_id: int) -> bytes:
    """A GOAWAY frame (RFC 9113 6.8), for a connection whose library has given up."""
    return pack(">HBBBIII", 0, 8, 7, 0, 0, last_stream_id, code)


def rst_stream(stream_id: int, code: int) -> bytes:
    """A RST_STREAM frame (RFC 9113 6.4), for a stream that the library has forgotten."""
    return pack(">HBBBII", 0, 4, 3, 0, stream_id, code)


# Heads. Names that are fit to be sent: lower case, well-formed, and not
# connection-specific (RFC 9113 8.2). Learnt as they come, so that the usual list
# of fields is let through by one call into C. Bounded, because peers choose names.
_NAME = itemgetter(0)
_known: set[bytes] = {b"content-length", b"content-type"}  # never `te`: its value decides
_known_trailers: set[bytes] = set()
# Authorities that were found right: a client names few.
_authorities: set[bytes] = set()
_MAX_KNOWN = 4096
_MAX_KNOWN_SIZE = 64
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")

_STATUS_FIELDS: dict[int, Header] = {code: (b":status", b"%d" % code) for code in range(100, 1000)}
_STATUS_CODES: dict[bytes, int] = {field[1]: code for code, field in _STATUS_FIELDS.items()}


# Not forbidden in HTTP/2 (RFC 9113 8.2.2), and for us all the same (RFC 9110 11.7.2; RFC 7540 3.2.1).
_OF_ONE_HOP = frozenset((b"http2-settings", b"proxy-authorization"))


class ReceivedRequest(RequestHead):
    """A request as it came over HTTP/2, its four pseudo-header fields first and in any
    order. Its header fields are listed when somebody asks: where it goes on over
    HTTP/2 unchanged nobody does."""

    __slots__ = ()

    __init__ = object.__init__  # request_head fills it: a third less time

    upgrade = b""  # HTTP/2 has none

    @property
    def headers(self) -> Headers:  # type: ignore[override]
        """The header fields: none of them is of one hop (see request_head)."""
        assert self.fields is not None
        return [*self.fields[4:]]


def request_head(headers: tuple[Header, ...], end: bool) -> RequestHead | None:
    """The head in a received header list, or None when it is malformed
    (RFC 9113 8.3.1). `end` is END_STREAM."""
    fields = dict(headers)
    try:
        authority = fields[b":authority"]
        path = fields[b":path"]
    except KeyError:
        return _unusual_request_head(headers, end)
    if (
        not len(fields) == len(headers) <= MAX_FIELDS
        or len(path) > MAX_TARGET
        or b"host" in fields
        or b"proxy-authorization" in fields
        or b"http2-settings" in fields
        or (authority not in _authorities and not _is_authority(authority))
    ):
        return _unusual_request_head(headers, end)
    content_type = fields.get(b"content-type")
    head: RequestHead = ReceivedRequest()
    head.fields = headers
    head.method = fields[b":method"]
    head.path = path
    head.authority = authority
    head.scheme = fields[b":scheme"]
    if b"content-length" in fields:
        declared = fields[b"content-length"]
        if len(declared) > MAX_DIGITS:
            return None
        head.length = 0 if end else int(declared)
    else:
        head.length = 0 if end else None
    head.grpc = content_type == b"application/grpc" or is_grpc(content_type)
    head.grpc_timeout = fields.get(b"grpc-timeout")
    return head


def _is_authority(authority: bytes) -> bool:
    """Whether it is one; it is known from now on."""
    if AUTHORITY.fullmatch(authority) is None:
        return False
    if len(_authorities) < _MAX_KNOWN and len(authority) <= _MAX_KNOWN_SIZE:
        _authorities.add(authority)
    return True


def _unusual_request_head(headers: tuple[Header, ...], end: bool) -> RequestHead | None:
    """One with `host` or a field of one hop, with repeated fields or too many, a long path, without an
    `:authority` that is one, or a CONNECT."""
    pseudo: dict[bytes, bytes] = {}
    kept: Headers = []
    hosts: list[bytes] = []
    crumbs: list[Header] = []
    declared = b""
    for pair in headers:
        name, value = pair
        if name.startswith(b":"):
            pseudo[name] = value
        elif name == b"host":
            hosts.append(value)
        elif name == b"cookie":
            if not crumbs:
                kept.append(pair)  # keeps the place of the first
            crumbs.append(pair)
        elif name not in _OF_ONE_HOP:
            if name == b"content-length":
                declared = value
            kept.append(pair)
    if len(crumbs) > 1:
        joined = _one_cookie(crumbs)
        kept = [joined if pair[0] == b"cookie" else pair for pair in kept]
    authority = pseudo.get(b":authority")
    if authority is None:
        if not hosts:
            return None
        authority = hosts[0]
    if AUTHORITY.fullmatch(authority) is None or any(host.lower() != authority.lower() for host in hosts):
        return None
    if pseudo[b":method"] == b"CONNECT" and not authority.rpartition(b":")[2].isdigit():
        return None  # RFC 9113 8.5
    if len(declared) > MAX_DIGITS:
        return None
    length = int(declared) if declared else None
    return RequestHead(
        pseudo[b":method"],
        pseudo.get(b":path", b""),
        authority,
        kept,
        pseudo.get(b":scheme", b"http"),
        0 if end else length,
    )


def _one_cookie(crumbs: Sequence[Header]) -> Header:
    """RFC 9113 8.2.3: whoever is not HTTP/2 must see one field. Without the empty ones: no value
    may begin or end with a space (8.2.1)."""
    joined: Header = (b"cookie", b"; ".join([value for _, value in crumbs if value]))
    if any(isinstance(crumb, NeverIndexedHeader) for crumb in crumbs):
        # RFC 7541 6.2.3: whoever passes it on keeps it out of every table too.
        joined = NeverIndexedHeader(*joined)
    return joined


class ReceivedResponse(ResponseHead):
    """A response as it came over HTTP/2, looked into when somebody asks."""

    __slots__ = ()

    __init__ = object.__init__  # response_head fills it

    @property
    def headers(self) -> Headers:  # type: ignore[override]
        """The header fields: :status comes first and alone."""
        assert self.fields is not None
        return [*self.fields[1:]]

    @property
    def length(self) -> int | None:  # type: ignore[override]
        """The Content-Length, or None: where there is no body HTTP/2 says so beside the head, and
        HTTP/1.1 has to say it in the head."""
        declared = get(self.headers, b"content-length")
        return None if declared is None else int(declared)


def response_head(headers: tuple[Header, ...]) -> ResponseHead | None:
    """The head in a received header list, or None when its status is none (RFC 9110 15)."""
    status = _STATUS_CODES.get(headers[0][1])
    if status is None:
        return None
    head: ReceivedResponse = ReceivedResponse()
    head.status = status
    head.fields = headers
    return head


def request_fields(head: RequestHead) -> Sequence[Header]:
    """The header list of a request (RFC 9113 8.3.1) that did not come over HTTP/2: else
    its `fields` are fit for it."""
    headers = head.headers
    if not _known.issuperset(map(_NAME, headers)):
        headers = sendable(headers)
    if head.authority and head.path:
        return [
            (b":method", head.method),
            (b":scheme", head.scheme),
            (b":path", head.path),
            (b":authority", head.authority),
            *headers,
        ]
    if head.method == b"CONNECT":
        return [(b":method", b"CONNECT"), (b":authority", head.authority), *headers]
    return [(b":method", head.method), (b":scheme", head.scheme), (b":path", head.path or b"/"), *headers]


def keep_marks(head: RequestHead, origin: Sequence[Header]) -> None:
    """Have the pseudo-header fields of `head` never indexed that were so in the header list which
    it was made of (RFC 7541 6.2.3); other fields keep their marks by themselves."""
    marked: set[bytes] = set()
    for pair in origin:
        if not pair[0].startswith(b":"):
            break
        if isinstance(pair, NeverIndexedHeader):
            marked.add(pair[0])
    if marked:
        head.fields = tuple(NeverIndexedHeader(*pair) if pair[0] in marked else pair for pair in request_fields(head))


def response_fields(head: ResponseHead) -> Sequence[Header]:
    """The header list of a response, final or informational (RFC 9113 8.3.2), that did not
    come over HTTP/2."""
    headers = head.headers
    if not _known.issuperset(map(_NAME, headers)):
        headers = sendable(headers)
    return [_STATUS_FIELDS[head.status], *headers]


def trailer_fields(trailers: Headers) -> Headers:
    """A trailer section: of fields that may stand in one (RFC 9113 8.1, RFC 9110 6.5.1)."""
    for name, _ in trailers:
        if name not in _known_trailers:
            break
    else:
        return trailers
    kept = [pair for pair in sendable(trailers) if fit_for_trailers(pair[0])]
    if len(_known_trailers) < _MAX_KNOWN:
        _known_trailers.update(pair[0] for pair in kept if len(pair[0]) <= _MAX_KNOWN_SIZE)
    return kept


def sendable(headers: Headers) -> Headers:
    """A copy without what HTTP/2 cannot carry: connection-specific fields, `te`
    beyond "trailers" (RFC 9113 8.2.2), names that are no lower-case token."""
    kept: Headers = []
    for pair in headers:
        name, value = pair
        lowered = name.lower()
        if lowered in HOP_BY_HOP and lowered != b"te":
            continue
        if lowered == b"te":
            if value.lower() == b"trailers":
                kept.append(pair)
            continue
        if lowered not in _known:
            if _TOKEN.fullmatch(lowered) is None:
                continue
            if len(_known) < _MAX_KNOWN and len(lowered) <= _MAX_KNOWN_SIZE:
                _known.add(lowered)
        kept.append(pair if lowered == name else (lowered, value))
    return kept


def oversized(headers: tuple[Header, ...]) -> bool:
    """Whether a header list is over what we told the peer (RFC 9113 6.5.2: name
    and value in bytes, plus 32 for each field), or of too many fields."""
    if len(headers) > MAX_FIELDS:
        return True
    return _size_of(headers) > MAX_HEADER_LIST


def _size_of(headers: tuple[Header, ...]) -> int:
    return sum(map(len, chain.from_iterable(headers))) + 32 * len(headers)


def size_of_lists(events: Sequence[object]) -> int:
    """The size of all header lists in some events (RFC 9113 6.5.2)."""
    return sum(_size_of(getattr(event, "headers", ())) for event in events)


# Errors.
_RESET_CODES: dict[Failure, int] = {
    Failure.REFUSED: ErrorCode.REFUSED_STREAM,
    Failure.UNSENT: ErrorCode.REFUSED_STREAM,
    Failure.DRAINING: ErrorCode.REFUSED_STREAM,
    Failure.OVERLOADED: ErrorCode.REFUSED_STREAM,
    Failure.PROTOCOL: ErrorCode.PROTOCOL_ERROR,
    Failure.BAD_REQUEST: ErrorCode.PROTOCOL_ERROR,
    Failure.CANCELLED: ErrorCode.CANCEL,
    Failure.CUT_OFF: ErrorCode.CANCEL,
    Failure.TIMEOUT: ErrorCode.CANCEL,
    Failure.IDLE_TIMEOUT: ErrorCode.CANCEL,
    Failure.RATE_LIMITED: ErrorCode.ENHANCE_YOUR_CALM,
}


def reset_code(failure: Failure, answered: bool) -> int:
    """The RST_STREAM code that tells the peer of a failure (RFC 9113 7). Once a
    response has begun (`answered`), REFUSED_STREAM would be a lie (8.7)."""
    code = int(_RESET_CODES.get(failure, ErrorCode.INTERNAL_ERROR))
    if answered and code == ErrorCode.REFUSED_STREAM:
        return int(ErrorCode.INTERNAL_ERROR)
    return code


def upstream_failure(code: int, answered: bool) -> Failure:
    """What a stream that the peer ended with this code means for its request.
    REFUSED_STREAM promises that nothing was done (RFC 9113 8.7), unless there
    was an answer already."""
    if code == ErrorCode.REFUSED_STREAM and not answered:
        return Failure.REFUSED
    return Failure.RESET
