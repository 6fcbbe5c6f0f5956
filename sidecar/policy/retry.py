"""Whether a failed try is worth another one, and whether another one is allowed.

The rule that matters: what may have been processed is repeated only when the
request is idempotent; what provably was not, always may be (RFC 9110 9.2.2,
gRFC A6 "transparent retries").
"""

from dataclasses import dataclass, field

from sidecar.model.outcome import Failure, Skipped
from sidecar.policy.idempotency import Idempotency

# The words of `retry.on`, and the failures that each one means.
_MEANS = {
    "unsent": (Failure.CONNECT_FAILED, Failure.CONNECT_TIMEOUT, Failure.UNSENT, Failure.REFUSED),
    "reset": (Failure.RESET, Failure.PROTOCOL, Failure.STALE_REUSE),
    "timeout": (Failure.TIMEOUT,),
}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """What one route does about failed tries. `attempts` counts the first try too;
    backoff in seconds; `replay` is how many request bytes are kept for a repeat."""

    attempts: int = 3
    failures: frozenset[Failure] = field(default_factory=frozenset)
    statuses: frozenset[int] = field(default_factory=frozenset)
    grpc_codes: frozenset[int] = field(default_factory=frozenset)
    idempotency: Idempotency = field(default_factory=Idempotency)
    backoff_base: float = 0.025
    backoff_max: float = 0.25
    replay: int = 256 * 1024

    @staticmethod
    def failures_of(words: list[int | str]) -> frozenset[Failure]:
        """The failures that the words of `retry.on` stand for."""
        return frozenset(failure for word in words if isinstance(word, str) for failure in _MEANS[word])


@dataclass(frozen=True, slots=True)
class Try:
    """What is known of the request when a try has failed."""

    number: int  # of the try that failed, from 1
    processed: bool  # whether the endpoint may have acted on it
    idempotent: bool
    replayable: bool  # whether every byte that was sent is still held
    committed: bool  # a second message of a stream was sent, or a byte of the answer


def forbids(policy: RetryPolicy, this: Try) -> Skipped | None:
    """Why a wanted retry must not be made, or None. Time and budget come after."""
    if this.committed and this.processed:
        return Skipped.COMMITTED
    if this.processed and not this.idempotent:
        return Skipped.NOT_IDEMPOTENT
    if not this.replayable:
        return Skipped.TOO_LARGE
    if this.number >= policy.attempts:
        return Skipped.ATTEMPTS
    return None
