"""What an attempt's request head says, and what an answer says about the next try."""

from typing import TYPE_CHECKING

from sidecar.codec import grpc
from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.headers import Headers, get, replace, without
from sidecar.proxy.route import Rewrite, Route, joined

if TYPE_CHECKING:
    from sidecar.proxy.exchange import Exchange


def outgoing_head(exchange: "Exchange", route: Route) -> RequestHead:
    """The head of this try: the client's own where nothing asks for a change."""
    head = exchange.head
    if route.rewrite is not None:
        head = _rewritten(head, route.rewrite)
    headers = head.headers
    if route.request_headers is not None:
        headers = route.request_headers.apply(headers)
    number = exchange.number
    if number > 1:
        headers = replace(headers, b"x-sidecar-attempt", b"%d" % number)
        if exchange.bytes_in or exchange.request_ended:
            # The client was told to go on, or did not wait.
            headers = without(headers, _EXPECT)
    if exchange.client_deadline:
        # The client's own, not the default that bounds unary calls: nobody knows yet
        # whether this one becomes a stream, and the server would end that.
        left = exchange.client_deadline - exchange.runtime.turn.now
        if number > 1 or left < exchange.client_deadline - exchange.started:
            headers = replace(headers, b"grpc-timeout", grpc.format_timeout(left))
    if headers is head.headers:
        return head
    return RequestHead(head.method, head.path, head.authority, headers, head.scheme, head.length, head.upgrade)


_EXPECT = frozenset((b"expect",))


def _rewritten(head: RequestHead, rewrite: Rewrite) -> RequestHead:
    path = head.path
    if rewrite.prefix is not None and path.startswith(rewrite.matched):
        path = joined(rewrite.prefix.decode("latin-1"), path[len(rewrite.matched) :].decode("latin-1")).encode(
            "latin-1"
        )
    authority = head.authority if rewrite.host is None else rewrite.host
    return RequestHead(head.method, path, authority, head.headers, head.scheme, head.length, head.upgrade)


def retry_after(head: ResponseHead, is_grpc: bool, trailers: Headers | None) -> float | None:
    """How long the server asks to wait before another try, in seconds: -1.0 for "do
    not", None when it says nothing (gRFC A6 pushback; RFC 9110 10.2.3 Retry-After,
    its number form: a date is for caches and people)."""
    if is_grpc:
        return grpc.retry_pushback(trailers if trailers is not None else head.headers)
    value = get(head.headers, b"retry-after")
    if value is None or not value.isdigit() or len(value) > 6:
        return None
    return float(value)
