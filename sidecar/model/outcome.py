"""What happened to one try, and what it means. On the data path these are values."""

from enum import Enum, IntEnum


class Failure(Enum):
    """Why there is no answer. The value is the `x-sidecar-error` reason.

    `processed` says how far the request may have got: False means that the
    endpoint provably did not act on it, so that anybody may repeat it.
    `blames_endpoint` says whether the endpoint's breaker is to hear of it.
    """

    # Nothing was written: the request never left us.
    CONNECT_FAILED = ("connect_failed", False, True)
    CONNECT_TIMEOUT = ("connect_timeout", False, True)
    UNSENT = ("unsent", False, False)
    # RFC 9113 8.7: REFUSED_STREAM, or a stream above the last id of a GOAWAY.
    REFUSED = ("refused", False, False)
    # A reused connection that closed before any byte of a response: the endpoint's
    # idle timeout, most likely, but it may have read the request.
    STALE_REUSE = ("stale_reuse", True, False)
    RESET = ("reset", True, True)
    PROTOCOL = ("protocol_error", True, True)
    TIMEOUT = ("timeout", True, True)
    IDLE_TIMEOUT = ("idle_timeout", True, False)
    # Ours and the client's.
    NO_ROUTE = ("no_route", False, False)
    NO_ENDPOINT = ("no_endpoint", False, False)
    BREAKER_OPEN = ("breaker_open", False, False)
    OVERLOADED = ("overloaded", False, False)  # limits.connections, limits.pending
    CONCURRENCY = ("overloaded", False, False)  # limits.requests
    ADAPTIVE = ("overloaded", False, False)  # limits.adaptive
    ADMISSION = ("overloaded", False, False)
    PRESSURE = ("overloaded", False, False)  # our own process
    RATE_LIMITED = ("rate_limited", False, False)
    SLOW_REQUEST = ("too_slow", True, False)  # or our answer was not read in time
    BAD_REQUEST = ("bad_request", False, False)
    HEADERS_TOO_LARGE = ("too_large", False, False)
    TARGET_TOO_LONG = ("too_large", False, False)
    BODY_TOO_LARGE = ("too_large", False, False)
    FORBIDDEN = ("forbidden", False, False)
    KEPT_OUT = ("forbidden", False, False)  # by who asks, not by what is asked for
    DRAINING = ("draining", False, False)
    CUT_OFF = ("draining", True, False)  # the process ends before the answer has
    INTERNAL = ("internal", True, False)
    CANCELLED = ("cancelled", True, False)

    def __init__(self, reason: str, processed: bool, blames_endpoint: bool) -> None:
        self.reason = reason
        self.processed = processed
        self.blames_endpoint = blames_endpoint

    def __new__(cls, reason: str, processed: bool, blames_endpoint: bool) -> "Failure":
        member = object.__new__(cls)
        # The whole tuple is the value: two members may share one reason.
        member._value_ = len(cls.__members__)
        return member


class Verdict(IntEnum):
    """What an attempt says about its endpoint.

    SOFT_FAILURE is an answer that the service gave itself over a working
    connection (gRPC UNAVAILABLE): it counts in the window's failure ratio but
    not in the run of consecutive failures, which is evidence of a dead endpoint.
    IGNORED is neither: a cancelled call, a stale connection, a refused stream.
    """

    SUCCESS = 0
    FAILURE = 1
    IGNORED = 2
    SOFT_FAILURE = 3


class Skipped(Enum):
    """Why a retry that was wanted was not made (`x-sidecar-retry-skipped`)."""

    BUDGET = "budget"
    NOT_IDEMPOTENT = "not_idempotent"
    TOO_LARGE = "too_large"
    DEADLINE = "deadline"
    ATTEMPTS = "attempts"
    COMMITTED = "committed"
    PUSHBACK = "pushback"
    OVERLOADED = "overloaded"
    NO_ENDPOINT = "no_endpoint"
