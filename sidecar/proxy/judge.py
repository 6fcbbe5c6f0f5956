"""What a try came to, and whether another one is made."""

from typing import TYPE_CHECKING

from sidecar.codec import grpc
from sidecar.codec.http_date import parse_date
from sidecar.model.head import ResponseHead
from sidecar.model.headers import Headers, get
from sidecar.model.outcome import Failure, Skipped, Verdict
from sidecar.policy import classify
from sidecar.policy.backoff import backoff
from sidecar.policy.retry import Try, forbids
from sidecar.proxy.admit import spared
from sidecar.proxy.route import Route
from sidecar.upstream.cluster import Cluster

if TYPE_CHECKING:
    from sidecar.proxy.attempt import Attempt
    from sidecar.proxy.exchange import Exchange

_SUCCESS = Verdict.SUCCESS

# A server's Retry-After is honoured within the deadline; without one, up to this.
_LONGEST_WAIT = 60.0

# By how much a client may see its deadline before us: seconds, and a part of it.
_EARLY = 0.01
_EARLY_PART = 0.01


def delay_before_retry(
    exchange: "Exchange", attempt: "Attempt", route: Route, cluster: Cluster, now: float
) -> float | None:
    """Seconds to wait before another try, or None: this try is the last one.

    A retry that is wanted and not made is counted with its reason, and one that
    is made is paid for out of the cluster's budget.
    """
    policy = route.retry
    if policy.attempts <= 1:
        return None
    wanted, reason, processed = wish(exchange, attempt, route)
    if not wanted:
        return None
    upload = exchange.upload
    skipped = forbids(
        policy,
        Try(
            number=exchange.number,
            processed=processed,
            idempotent=not processed or policy.idempotency.allows(exchange.head),
            replayable=upload is None or not upload.dropped,
            committed=upload is not None and upload.messages > 1 and attempt.sent,
        ),
    )
    delay = 0.0
    if processed or exchange.number >= len(cluster.endpoints):
        delay = backoff(exchange.number, policy.backoff_base, policy.backoff_max, exchange.runtime.rng)
    asked = None if attempt.head is None else _retry_after(exchange, attempt.head, attempt.trailers)
    if asked is not None:
        if asked < 0 and skipped is None:
            skipped = Skipped.PUSHBACK
        delay = max(delay, asked)
    if skipped is None and now + delay >= (exchange.deadline or now + _LONGEST_WAIT):
        skipped = Skipped.DEADLINE
    if skipped is None and spared(exchange, cluster, route, now):
        skipped = Skipped.OVERLOADED
    if skipped is None and not cluster.budget.try_withdraw(now):
        skipped = Skipped.BUDGET
    exchange.skipped = skipped
    if skipped is not None:
        exchange.noted = True
        count_skipped(skipped, cluster)
        return None
    cluster.retries[reason] = cluster.retries.get(reason, 0) + 1
    return delay


def wish(exchange: "Exchange", attempt: "Attempt", route: Route) -> tuple[bool, str, bool]:
    """Whether the route wants another try after this one, why, and whether the
    endpoint may have processed it."""
    policy = route.retry
    failure = attempt.failure
    if failure is not None:
        return failure in policy.failures, failure.reason, failure.processed
    head = attempt.head
    assert head is not None  # what has no failure has a head
    if exchange.grpc and attempt.finished and not attempt.held:
        # Trailers-only, or trailers behind a head with no message between.
        code = grpc.status_number(head.headers if attempt.trailers is None else attempt.trailers)
        if code is not None:
            return code in policy.grpc_codes, grpc.STATUS_NAMES[code], True
    return head.status in policy.statuses, str(head.status), True


def count_skipped(why: Skipped, cluster: Cluster) -> None:
    """A retry that was wanted is not made."""
    cluster.retries_skipped[why.value] = cluster.retries_skipped.get(why.value, 0) + 1


def _retry_after(exchange: "Exchange", head: ResponseHead, trailers: Headers | None) -> float | None:
    """How long the server asks to wait before another try, in seconds: -1.0 for "do
    not", None when it says nothing (gRFC A6 pushback; RFC 9110 10.2.3 Retry-After)."""
    if exchange.grpc:
        return grpc.retry_pushback(trailers if trailers is not None else head.headers)
    value = get(head.headers, b"retry-after")
    if value is None:
        return None
    if value.isdigit():
        return float(value)
    date = parse_date(value)
    if date is None:
        return None
    # By the server's own clock where it tells it (RFC 9110 6.6.1): ours may be another.
    now = parse_date(get(head.headers, b"date") or b"")
    return max(0.0, date - (exchange.runtime.wall() if now is None else now))


def verdict_of(exchange: "Exchange", attempt: "Attempt") -> Verdict:
    """What the try says about its endpoint. Sets `attempt.code` of a gRPC answer."""
    failure = attempt.failure
    if failure is not None:
        if failure is Failure.TIMEOUT and client_time_is_over(exchange):
            return Verdict.SOFT_FAILURE  # as likely the caller's impatience
        return Verdict.FAILURE if failure.blames_endpoint else Verdict.IGNORED
    head = attempt.head
    assert head is not None  # what has no failure has a head
    if head.status != 200 or not exchange.grpc:
        return classify.of_status(head.status)
    code = None
    if attempt.trailers is not None:
        code = grpc.status_number(attempt.trailers)
    elif not exchange.bytes_out:  # trailers-only: the head is all there is
        code = grpc.status_number(head.headers)
    if code is None:
        code = grpc.UNKNOWN  # the protocol's word for a missing status, and for what is no gRPC at all
    attempt.code = code
    return classify.of_grpc(code) if code else _SUCCESS


def client_time_is_over(exchange: "Exchange") -> bool:
    """Whether the client's own deadline is over by the client's clock: it began
    before ours, and grpcio rounds a grpc-timeout up to three digits."""
    deadline = exchange.client_deadline
    if not deadline:
        return False
    return exchange.runtime.turn.now >= deadline - _EARLY - _EARLY_PART * (deadline - exchange.started)
