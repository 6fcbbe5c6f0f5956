"""Our own replies: every failure has one status, one code, one reason, and no word that
makes a client retry by itself."""

import json

import pytest

from sidecar.codec.grpc import STATUS_NUMBERS, decode_message
from sidecar.model.headers import get
from sidecar.model.outcome import Failure
from sidecar.proxy import reply

# In-process gRPC clients retry when they read one of these (contract, "Headers").
LURES = [
    "connection error",
    "connection refused",
    "connection reset",
    "client connection is closing",
    "transport is closing",
    "transport: error",
    "name resolver error",
    "no such host",
    "broken pipe",
    "eof",
    "keepalive ping failed",
    "server preface",
    "connect:",
]

TABLE = {
    "no_route": (404, "unimplemented"),
    "no_endpoint": (503, "unavailable"),
    "breaker_open": (503, "unavailable"),
    "overloaded": (503, "unavailable"),
    "draining": (503, "unavailable"),
    "rate_limited": (429, "resource_exhausted"),
    "connect_failed": (502, "unavailable"),
    "reset": (502, "unavailable"),
    "timeout": (504, "deadline_exceeded"),
    "bad_request": (400, "invalid_argument"),
    "forbidden": (403, "permission_denied"),
    "internal": (500, "internal"),
    "cancelled": (499, "cancelled"),
}


@pytest.mark.parametrize("failure", list(Failure))
def test_to_http(failure: Failure) -> None:
    head, body = reply.http_reply(failure, "users", 2, [(b"x-sidecar-attempts", b"2")])
    reason = reply.reason_of(failure)
    assert get(head.headers, b"x-sidecar-error") == reason.encode()
    assert get(head.headers, b"content-length") == b"%d" % len(body)
    assert get(head.headers, b"x-sidecar-attempts") == b"2"
    told = json.loads(body)
    assert (told["error"], told["cluster"], told["attempts"]) == (reason, "users", 2)
    assert told["message"]
    if reason in TABLE:
        assert (head.status, reply.grpc_code_of(failure)) == (TABLE[reason][0], STATUS_NUMBERS[TABLE[reason][1]])
    elif failure is Failure.SLOW_REQUEST:
        assert (reason, head.status, reply.grpc_code_of(failure)) == ("too_slow", 408, 4)
    else:
        assert reason == "too_large"
        assert head.status == {Failure.HEADERS_TOO_LARGE: 431, Failure.TARGET_TOO_LONG: 414}.get(failure, 413)
        assert reply.grpc_code_of(failure) == STATUS_NUMBERS["resource_exhausted"]


@pytest.mark.parametrize("failure", list(Failure))
@pytest.mark.parametrize("cluster", ["users", ""])
def test_to_grpc(failure: Failure, cluster: str) -> None:
    head = reply.grpc_reply(failure, cluster, 1, [])
    assert head.status == 200
    assert get(head.headers, b"content-type") == b"application/grpc"
    assert get(head.headers, b"grpc-status") == b"%d" % reply.grpc_code_of(failure)
    assert get(head.headers, b"x-sidecar-error") == reply.reason_of(failure).encode()
    text = decode_message(get(head.headers, b"grpc-message") or b"").lower()
    assert text.startswith("sidecar: ")
    assert not [lure for lure in LURES if lure in text]
