"""Replies that the sidecar makes itself: the only table from a Failure to a status."""

import json

from sidecar.codec import grpc
from sidecar.model.head import ResponseHead
from sidecar.model.headers import Headers
from sidecar.model.outcome import Failure

# Failure: HTTP status, gRPC code (contract "Headers").
_CODES: dict[Failure, tuple[int, int]] = {
    Failure.CONNECT_FAILED: (502, 14),
    Failure.CONNECT_TIMEOUT: (502, 14),
    Failure.UNSENT: (502, 14),
    Failure.REFUSED: (502, 14),
    Failure.STALE_REUSE: (502, 14),
    Failure.RESET: (502, 14),
    Failure.PROTOCOL: (502, 14),
    Failure.TIMEOUT: (504, 4),
    Failure.IDLE_TIMEOUT: (504, 4),
    Failure.NO_ROUTE: (404, 12),
    Failure.NO_ENDPOINT: (503, 14),
    Failure.BREAKER_OPEN: (503, 14),
    Failure.OVERLOADED: (503, 14),
    Failure.CONCURRENCY: (503, 14),
    Failure.ADAPTIVE: (503, 14),
    Failure.ADMISSION: (503, 14),
    Failure.PRESSURE: (503, 14),
    Failure.RATE_LIMITED: (429, 8),
    Failure.SLOW_REQUEST: (408, 4),
    Failure.BAD_REQUEST: (400, 3),
    Failure.HEADERS_TOO_LARGE: (431, 8),
    Failure.TARGET_TOO_LONG: (414, 8),
    Failure.BODY_TOO_LARGE: (413, 8),
    Failure.FORBIDDEN: (403, 7),
    Failure.KEPT_OUT: (403, 7),
    Failure.DRAINING: (503, 14),
    Failure.CUT_OFF: (503, 14),
    Failure.INTERNAL: (500, 13),
    Failure.CANCELLED: (499, 1),
}

# What the client is told, in words that in-process gRPC clients do not retry on
# (contract "Headers"), and which `x-sidecar-error` reason stands for the failure.
_TEXT: dict[Failure, tuple[str, str]] = {
    Failure.CONNECT_FAILED: ("connect_failed", "no endpoint could be reached"),
    Failure.CONNECT_TIMEOUT: ("connect_failed", "no endpoint could be reached in time"),
    Failure.UNSENT: ("connect_failed", "the request could not be sent"),
    Failure.REFUSED: ("reset", "the endpoint refused the stream"),
    Failure.STALE_REUSE: ("reset", "the endpoint closed a kept-alive link before it answered"),
    Failure.RESET: ("reset", "the endpoint went away before it answered"),
    Failure.PROTOCOL: ("reset", "the endpoint's answer broke the protocol"),
    Failure.TIMEOUT: ("timeout", "no answer in time"),
    Failure.IDLE_TIMEOUT: ("timeout", "nothing moved for too long"),
    Failure.NO_ROUTE: ("no_route", "no route matches this request"),
    Failure.NO_ENDPOINT: ("no_endpoint", "no endpoint is usable"),
    Failure.BREAKER_OPEN: ("breaker_open", "the breakers of all endpoints are open"),
    Failure.OVERLOADED: ("overloaded", "no room towards the endpoints: limits.connections or limits.pending"),
    Failure.CONCURRENCY: ("overloaded", "too many requests under way: limits.requests"),
    Failure.ADAPTIVE: ("overloaded", "too many requests under way: limits.adaptive"),
    Failure.ADMISSION: ("overloaded", "too many of the last requests failed: admission"),
    Failure.PRESSURE: ("overloaded", "the sidecar is short of resources"),
    Failure.RATE_LIMITED: ("rate_limited", "too many requests"),
    Failure.SLOW_REQUEST: ("too_slow", "the request did not come in time"),
    Failure.BAD_REQUEST: ("bad_request", "the request is malformed"),
    Failure.HEADERS_TOO_LARGE: ("too_large", "the header fields are too large"),
    Failure.TARGET_TOO_LONG: ("too_large", "the request target is too long"),
    Failure.BODY_TOO_LARGE: ("too_large", "the body is too large"),
    Failure.FORBIDDEN: ("forbidden", "this host may not be reached from here"),
    Failure.KEPT_OUT: ("forbidden", "this client may not come in here"),
    Failure.DRAINING: ("draining", "the sidecar is shutting down"),
    Failure.CUT_OFF: ("draining", "the sidecar shuts down and waits no longer for the end of this"),
    Failure.INTERNAL: ("internal", "the sidecar failed"),
    Failure.CANCELLED: ("cancelled", "the client left"),
}


def status_of(failure: Failure) -> int:
    """The HTTP status of a failure."""
    return _CODES[failure][0]


def grpc_code_of(failure: Failure) -> int:
    """The gRPC status number of a failure."""
    return _CODES[failure][1]


def reason_of(failure: Failure) -> str:
    """The `x-sidecar-error` reason of a failure."""
    return _TEXT[failure][0]


def http_reply(
    failure: Failure, cluster: str, attempts: int, extra: Headers, detail: str = ""
) -> tuple[ResponseHead, bytes]:
    """Head and body of a failure's answer to an HTTP request. `detail` says more of why."""
    reason, message = _TEXT[failure]
    if detail:
        message = f"{message}: {detail}"
    body = json.dumps({"error": reason, "message": message, "cluster": cluster, "attempts": attempts}).encode() + b"\n"
    headers: Headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-sidecar-error", reason.encode()),
        *extra,
    ]
    return ResponseHead(status_of(failure), headers, len(body)), body


def grpc_reply(failure: Failure, cluster: str, attempts: int, extra: Headers, detail: str = "") -> ResponseHead:
    """A trailers-only response (gRPC over HTTP/2, "Responses"). `detail` says more of why."""
    reason, message = _TEXT[failure]
    if detail:
        message = f"{message}: {detail}"
    text = f"sidecar: {message} ({reason}; cluster {cluster or '-'}, attempts {attempts})"
    headers: Headers = [
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"%d" % grpc_code_of(failure)),
        (b"grpc-message", grpc.encode_message(text)),
        (b"x-sidecar-error", reason.encode()),
        *extra,
    ]
    return ResponseHead(200, headers, 0)
