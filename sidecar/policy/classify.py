"""What an answer says about the endpoint that gave it.

An answer that the service chose itself proves a working connection, so gRPC's
server-side codes are soft failures: they move the failure ratio, not the run of
consecutive failures. A client's own mistakes (4xx, INVALID_ARGUMENT, ...) are
successes of the endpoint.
"""

from sidecar.model.outcome import Verdict

# gRPC codes by which a server says that it, not the caller, is in trouble
# (grpc.io "Status codes"; UNKNOWN and DEADLINE_EXCEEDED are as often the caller's).
_UNAVAILABLE = 14
_SERVER_CODES = frozenset((13, _UNAVAILABLE, 15))

# 501 and 505 are about what was asked, not about the server's health.
_CALLER_STATUSES = frozenset((501, 505))


def of_status(status: int) -> Verdict:
    """The verdict of an HTTP status."""
    if status < 500 or status in _CALLER_STATUSES:
        return Verdict.SUCCESS
    return Verdict.FAILURE


def of_grpc(code: int) -> Verdict:
    """The verdict of a gRPC status code."""
    return Verdict.SOFT_FAILURE if code in _SERVER_CODES else Verdict.SUCCESS
