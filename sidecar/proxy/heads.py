"""Heads on their way through: what a try's request says, and what the client's answer says."""

from typing import TYPE_CHECKING

from sidecar.codec import grpc
from sidecar.codec.h2 import keep_marks
from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.headers import Headers, replace, without
from sidecar.model.outcome import Skipped
from sidecar.proxy.route import Rewrite, Route, joined

if TYPE_CHECKING:
    from sidecar.proxy.attempt import Attempt
    from sidecar.proxy.exchange import Exchange


def outgoing_head(exchange: "Exchange", route: Route, number: int) -> RequestHead:
    """The head of try `number`: the client's own where nothing asks for a change."""
    head = came = exchange.head
    if route.rewrite is not None:
        head = _rewritten(head, route.rewrite)
    headers = head.headers
    if route.request_headers is not None:
        headers = route.request_headers.apply(headers)
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
    if headers is not head.headers:
        head = RequestHead(head.method, head.path, head.authority, headers, head.scheme, head.length, head.upgrade)
    if head is not came and came.fields is not None:
        keep_marks(head, came.fields)
    return head


_EXPECT = frozenset((b"expect",))


def _rewritten(head: RequestHead, rewrite: Rewrite) -> RequestHead:
    path = head.path
    if rewrite.prefix is not None and path.startswith(rewrite.matched):
        path = joined(rewrite.prefix.decode("latin-1"), path[len(rewrite.matched) :].decode("latin-1")).encode(
            "latin-1"
        )
    authority = head.authority if rewrite.host is None else rewrite.host
    return RequestHead(head.method, path, authority, head.headers, head.scheme, head.length, head.upgrade)


# What belongs to the head of a gRPC answer even where that is its only block.
_HEAD_FIELDS = frozenset((b"content-type", b"content-length"))


def client_head(exchange: "Exchange", attempt: "Attempt", head: ResponseHead, route: Route) -> ResponseHead:
    """The endpoint's head with the route's edits and our notes.

    The only header block of a failed gRPC call holds its trailers. Those of a call
    that was not ours to repeat go on as they came: with a head before them, a
    client's own retry policy would have to give up (gRFC A6). Else the notes get a
    head of their own, so that the trailers stay the endpoint's.
    """
    edit = route.response_headers
    headers = head.headers if edit is None else edit.apply(head.headers)
    said = notes(exchange)
    trailers_only = exchange.grpc and attempt.finished and attempt.trailers is None and not attempt.held
    ours = exchange.number > 1 or (exchange.skipped is not None and exchange.skipped is not Skipped.NOT_IDEMPOTENT)
    if not ours and (trailers_only or (exchange.grpc and exchange.skipped is not None)):
        # An unlisted method's own error passes byte for byte, also in a panic.
        return head if edit is None else ResponseHead(head.status, headers, head.length)
    if said and trailers_only:
        attempt.trailers = without(headers, _HEAD_FIELDS)
        headers = [pair for pair in headers if pair[0] in _HEAD_FIELDS]
    return ResponseHead(head.status, [*headers, *said], head.length)


def notes(exchange: "Exchange") -> Headers:
    """What we say about our own doing, in response headers."""
    said: Headers = []
    if exchange.number > 1:
        said.append((b"x-sidecar-attempts", b"%d" % exchange.number))
    if exchange.skipped is not None:
        said.append((b"x-sidecar-retry-skipped", exchange.skipped.value.encode()))
    cluster = exchange.cluster
    if cluster is not None and cluster.panic:
        said.append((b"x-sidecar-panic", b"%d of %d endpoints are out" % cluster.out_of))
    return said
