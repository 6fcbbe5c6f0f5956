"""Answers that no endpoint gives: replies of our own, `redirect` and `respond` routes."""

from typing import TYPE_CHECKING, Any

from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.headers import Headers
from sidecar.model.outcome import Failure
from sidecar.proxy import reply
from sidecar.proxy.heads import notes
from sidecar.proxy.route import Route, is_grpc_head
from sidecar.proxy.runtime import Runtime

if TYPE_CHECKING:
    from sidecar.proxy.exchange import Exchange

# What the client is told more of. How an answer broke the protocol depends on how it was cut into
# reads, and what clients see must not: /api/requests has it.
_OF_ENDPOINTS = (Failure.CONNECT_FAILED, Failure.CONNECT_TIMEOUT)


def send_failure(exchange: "Exchange", failure: Failure) -> None:
    """Tell the client why there is no answer, in its protocol's form."""
    exchange.failure = failure
    cluster = exchange.cluster
    name = cluster.name if cluster is not None else ""
    reason = reply.reason_of(failure)
    if cluster is not None:
        cluster.local_replies[reason] = cluster.local_replies.get(reason, 0) + 1
    elif exchange.route is not None:
        # A route that kept the client out: nothing tells it from the route's own answers.
        refusals = exchange.runtime.refusals
        refusals[reason] = refusals.get(reason, 0) + 1
    detail = _detail(exchange, failure)
    if exchange.grpc:
        exchange.status, exchange.code = 200, reply.grpc_code_of(failure)
        exchange.stream.send_head(reply.grpc_reply(failure, name, exchange.number, notes(exchange), detail), True)
    else:
        _send(exchange, *reply.http_reply(failure, name, exchange.number, notes(exchange), detail))


def _detail(exchange: "Exchange", failure: Failure) -> str:
    """What a message says beyond the failure's own words."""
    if failure in _OF_ENDPOINTS:
        last = exchange.attempt or (exchange.attempts[-1] if exchange.attempts else None)
        return last.why if last is not None else ""
    if failure is Failure.BAD_REQUEST and exchange.head.method == b"CONNECT":
        return "CONNECT is for listeners with mode: forward"
    return ""


def refuse_by_a_bug(runtime: Runtime, stream: Any, head: RequestHead) -> None:
    """The same where not even an exchange could be made."""
    runtime.refusals["internal"] = runtime.refusals.get("internal", 0) + 1
    if stream.protocol == "http2" and is_grpc_head(head):
        stream.send_head(reply.grpc_reply(Failure.INTERNAL, "", 0, []), True)
        return
    answer, body = reply.http_reply(Failure.INTERNAL, "", 0, [])
    bodyless = head.method == b"HEAD"
    stream.send_head(answer, bodyless)
    if not bodyless:
        stream.send_data(body, True)


def send_late_failure(exchange: "Exchange", failure: Failure) -> None:
    """The same once the client has got a head: trailers for gRPC, a break for HTTP."""
    exchange.failure = failure
    if not exchange.grpc:
        exchange.stream.reset(failure)
        return
    exchange.code = reply.grpc_code_of(failure)
    cluster = exchange.cluster
    head = reply.grpc_reply(failure, cluster.name if cluster is not None else "", exchange.number, [])
    exchange.stream.send_trailers([pair for pair in head.headers if pair[0] != b"content-type"])


def send_fixed(exchange: "Exchange", route: Route) -> None:
    """The answer of a `redirect` or `respond` route."""
    headers: Headers
    body = b""
    if route.redirect is not None:
        status = route.redirect.status
        headers = [(b"location", route.redirect.location(exchange.head).encode("latin-1", "replace"))]
    else:
        assert route.respond is not None  # a route without targets is one or the other
        status, body = route.respond.status, route.respond.body
        headers = [*route.respond.headers]
    headers.append((b"content-length", b"%d" % len(body)))
    if route.response_headers is not None:
        headers = route.response_headers.apply(headers)
    _send(exchange, ResponseHead(status, headers, len(body)), body)


def _send(exchange: "Exchange", head: ResponseHead, body: bytes) -> None:
    exchange.status = head.status
    bodyless = not body or exchange.head.method == b"HEAD" or head.status in (204, 304)
    exchange.stream.send_head(head, bodyless)
    if not bodyless:
        exchange.bytes_out += len(body)
        exchange.stream.send_data(body, True)
