"""The YAML under `clusters.NAME` and `defaults`."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema, field_validator, model_validator

from sidecar.codec.grpc import STATUS_NAMES
from sidecar.config.hedge import HedgeEntry
from sidecar.config.outlier import OutlierEntry
from sidecar.config.overload import AdaptiveEntry, AdmissionEntry, Shares
from sidecar.config.shape import BalanceKey, Bind, Grpc, Path, Repeatable, Section, Target, Text, nearest, word
from sidecar.config.tls import Tls
from sidecar.config.units import BadValueError, Duration, OpenTimeout, PositiveDuration, Size, Timeout, shown
from sidecar.upstream.balance.make import POLICIES

RETRY_REASONS = ("unsent", "reset", "timeout")
GRPC_CODES = STATUS_NAMES[1:]  # without OK
_KEYED = ("ring_hash", "maglev")


def _parse_retry_on(value: object) -> int | str:
    number = value
    if isinstance(value, str):
        if value in RETRY_REASONS:
            return value
        if not (value.isascii() and value.isdigit() and len(value) == 3):
            raise BadValueError(f"{shown(value)} is no reason to retry", nearest(value, list(RETRY_REASONS)))
        number = int(value)
    if type(number) is not int or not 400 <= number <= 599:
        raise BadValueError(
            f"{shown(value)} is no reason to retry", "a status from 400 to 599, unsent, reset or timeout"
        )
    return number


def _parse_grpc_code(value: object) -> str:
    text = str(value).lower()
    if text not in GRPC_CODES:
        raise BadValueError(f"{shown(value)} is no gRPC error code", nearest(text, list(GRPC_CODES)))
    return text


RetryOn = Annotated[
    int | str,
    PlainValidator(_parse_retry_on),
    WithJsonSchema(
        {"anyOf": [{"enum": list(RETRY_REASONS)}, {"type": "integer", "minimum": 400, "maximum": 599}]},
    ),
]
GrpcCode = Annotated[
    str,
    PlainValidator(_parse_grpc_code),
    WithJsonSchema({"type": "string", "enum": [*GRPC_CODES, *(code.upper() for code in GRPC_CODES)]}),
]
Ratio = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Attempts = Annotated[int, Field(ge=1, le=10)]


class _Growing(Section):
    @model_validator(mode="after")
    def _ordered(self) -> Any:
        base, longest = getattr(self, "base", None), getattr(self, "max", None)
        if base is not None and longest is not None and longest < base:
            raise BadValueError("max is shorter than base")
        return self


class Endpoint(Section):
    """One address of a cluster."""

    address: Target = Field(description="host:port, [v6]:port or unix:/path.")
    weight: int = Field(1, ge=1, le=65535, description="Its share of the traffic, relative to the others.")
    zone: Text = Field("", description="Where it runs.")
    priority: int = Field(
        0, ge=0, le=127, description="0 is used first; the next only when no endpoint of 0 is usable."
    )


def _endpoint(value: object) -> object:
    return {"address": value} if isinstance(value, str) else value


EndpointEntry = Annotated[
    Endpoint,
    BeforeValidator(_endpoint, json_schema_input_type=Annotated[str, Field(examples=["10.0.0.1:50051"])] | Endpoint),
]


class Balance(Section):
    """How an endpoint is picked."""

    policy: Annotated[str, *word(*POLICIES)] = Field("peak_ewma", description="Default peak_ewma.")
    key: BalanceKey | None = Field(
        None, description="For ring_hash and maglev: header:NAME, cookie:NAME, path or source."
    )
    slow_start: Duration = Field(
        0.0, description="How long an endpoint that comes back is warmed up; 0 = off, the default."
    )

    @model_validator(mode="after")
    def _key_fits(self) -> "Balance":
        if self.policy in _KEYED and self.key is None:
            raise BadValueError(f"{self.policy} needs a key", "add key: header:NAME, cookie:NAME, path or source")
        if self.policy not in _KEYED and self.key is not None:
            raise BadValueError(f"{self.policy} takes no key", "ring_hash and maglev do")
        return self


class Timeouts(Section):
    """Bounds in time. 0.0 = no such bound."""

    connect: PositiveDuration = Field(1.0, description="Dial and handshake. Default 1s.")
    request: Timeout = Field(15.0, description="The whole exchange, every try included; 0 = none. Default 15s.")
    try_: OpenTimeout = Field(
        0.0, alias="try", description="One try; null = what is left of the request's. Default null."
    )
    idle: Timeout = Field(300.0, description="Streams and bodies: no byte either way; 0 = none. Default 5m.")
    min_rate: Size = Field(
        100, description="Bytes a second of an answer whose length is known, over idle; 0 = any. Default 100B."
    )
    streams: list[Grpc] = Field([], description="gRPC methods that are streams from the start.")


class Backoff(_Growing):
    """Full-jitter exponential wait between tries."""

    base: PositiveDuration = Field(0.025, description="Before the second try, at most. Default 25ms.")
    max: PositiveDuration = Field(0.25, description="Before any try, at most. Default 250ms.")


class Budget(Section):
    """How many retries a cluster may make: no retry storms."""

    ratio: Ratio = Field(0.2, description="Retries per request over 10 s. Default 0.2.")
    floor: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] = Field(
        10.0, description="Retries per second that are always allowed. Default 10."
    )


class Retry(Section):
    """What is tried again, and how often."""

    attempts: Attempts = Field(3, description="Tries in total, the first included; 1 = no retry. Default 3.")
    on: list[RetryOn] = Field(
        ["unsent", "reset", "timeout", 502, 503, 504],
        description="Reasons and HTTP statuses. Default [unsent, reset, timeout, 502, 503, 504].",
    )
    grpc_on: list[GrpcCode] = Field(["unavailable"], description="gRPC codes. Default [unavailable].")
    idempotent: list[Repeatable] = Field(
        [], description='What may run twice: gRPC methods, or "POST /path" and "POST /path*".'
    )
    backoff: Backoff = Field(default_factory=Backoff.model_construct, description="The wait between tries.")
    budget: Budget = Field(
        default_factory=Budget.model_construct, description="Bounds the retries of the whole cluster."
    )
    replay: Size = Field(256 * 1024, description="Request bytes kept for a retry. Default 256KiB.")


class OpenTime(_Growing):
    """How long a breaker stays open: doubles while probes fail, with jitter."""

    base: PositiveDuration = Field(1.0, description="The first time. Default 1s.")
    max: PositiveDuration = Field(60.0, description="At most. Default 60s.")


class Breaker(Section):
    """When an endpoint is left alone. Each endpoint has its own breaker."""

    window: PositiveDuration = Field(10.0, description="The time over which the ratio is taken. Default 10s.")
    failure_ratio: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        0.5, description="Opens at this share of failures. Default 0.5."
    )
    min_requests: int = Field(
        10, ge=1, le=1_000_000, description="Fewer results in the window say nothing. Default 10."
    )
    consecutive: int = Field(5, ge=0, le=1_000_000, description="Opens after so many in a row; 0 = off. Default 5.")
    open: OpenTime = Field(default_factory=OpenTime.model_construct, description="How long it stays open.")
    probes: int = Field(1, ge=1, le=1000, description="Requests let through at once when half open. Default 1.")


class Limits(Section):
    """Beyond these the answer is `overloaded`, at once."""

    connections: int = Field(
        1024, ge=1, le=1_000_000, description="Connections to all endpoints together. Default 1024."
    )
    pending: int = Field(1024, ge=0, le=1_000_000, description="Requests that wait for a connection. Default 1024.")
    requests: int = Field(1024, ge=1, le=1_000_000, description="Requests in flight. Default 1024.")
    adaptive: AdaptiveEntry = Field(
        None, description="true or a mapping: a limit on requests in flight that follows latency; off unless given."
    )
    shares: Shares = Field(
        default_factory=Shares.model_construct, description="How much of that limit each priority may use."
    )

    @model_validator(mode="after")
    def _adaptive_fits(self) -> "Limits":
        if self.adaptive is not None and self.adaptive.min > self.requests:
            raise BadValueError("adaptive.min is more than requests", "requests bounds the adaptive limit from above")
        return self


class HttpCheck(Section):
    """GET a path; 200 to 399 is well."""

    path: Path = Field("/", description="The path to GET.")
    host: Text = Field("", description="The Host header; the endpoint's address when empty.")


class GrpcCheck(Section):
    """grpc.health.v1.Health/Check; SERVING is well."""

    service: Text = Field("", description="The service to ask about; empty = the server as a whole.")


class TcpCheck(Section):
    """A connection that is accepted is well."""


CHECKS = ("http", "grpc", "tcp")


class HealthCheck(Section):
    """Active health checks. Exactly one of http, grpc and tcp."""

    http: HttpCheck | None = Field(None, description="GET a path.")
    grpc: GrpcCheck | None = Field(None, description="The gRPC health protocol.")
    tcp: TcpCheck | None = Field(None, description="Connect only.")
    interval: PositiveDuration = Field(5.0, description="Between checks, jittered. Default 5s.")
    timeout: PositiveDuration = Field(1.0, description="Of one check. Default 1s.")
    rise: int = Field(2, ge=1, le=100, description="Good checks until it is healthy. Default 2.")
    fall: int = Field(3, ge=1, le=100, description="Bad checks until it is not. Default 3.")

    @model_validator(mode="after")
    def _one_kind(self) -> "HealthCheck":
        given = [kind for kind in CHECKS if getattr(self, kind) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "none"
            raise BadValueError(f"needs exactly one of http, grpc and tcp, not {found}", "" if given else "add tcp: {}")
        return self


class ClusterKeys(Section):
    """Every key of a cluster; `defaults` takes the same."""

    listen: Bind | None = Field(None, description="One local port for this one cluster, every host and path.")
    protocol: Annotated[str, *word("auto", "http1", "http2")] = Field(
        "auto", description="auto (as the client speaks), http1 or http2. Default auto."
    )
    endpoints: list[EndpointEntry] = Field([], description="Where the cluster's members are.")
    balance: Balance = Field(default_factory=Balance.model_construct, description="How an endpoint is picked.")
    timeouts: Timeouts = Field(default_factory=Timeouts.model_construct, description="Bounds in time.")
    retry: Retry = Field(default_factory=Retry.model_construct, description="What is tried again, and how often.")
    hedge: HedgeEntry = Field(
        None, description="true or a mapping: tries what is slow a second time; off unless given."
    )
    breaker: Breaker = Field(default_factory=Breaker.model_construct, description="When an endpoint is left alone.")
    outlier_ejection: OutlierEntry = Field(
        None, description="true or a mapping: leaves alone who fails more than the others; off unless given."
    )
    limits: Limits = Field(
        default_factory=Limits.model_construct, description="Beyond these the answer is overloaded, at once."
    )
    admission: AdmissionEntry = Field(
        None, description="true or a mapping: rejects while the endpoints fail too many; off unless given."
    )
    health_check: HealthCheck | None = Field(None, description="Active health checks; off unless given.")
    tls: Tls | None = Field(None, description="TLS towards the endpoints; null = plain text.")


class Defaults(ClusterKeys):
    """Merged under every cluster: mappings key by key, lists as a whole."""


class Cluster(ClusterKeys):
    """A named set of endpoints with the policies towards them, `defaults` merged in."""

    endpoints: list[EndpointEntry] = Field(min_length=1, description="Where the cluster's members are; at least one.")

    @field_validator("endpoints")
    @classmethod
    def _distinct(cls, endpoints: list[Endpoint]) -> list[Endpoint]:
        seen: set[str] = set()
        for endpoint in endpoints:
            name = str(endpoint.address)
            if name in seen:
                raise BadValueError(f"endpoint {name} is listed twice", "use weight for a larger share")
            seen.add(name)
        return endpoints

    @model_validator(mode="after")
    def _hedge_is_a_try(self) -> "Cluster":
        if self.hedge is not None and self.retry.attempts < 2:
            raise BadValueError("hedge needs retry.attempts of 2 or more", "a hedge counts as a try")
        return self

    @model_validator(mode="after")
    def _check_can_verify(self) -> "Cluster":
        # grpcio verifies always, and knows one name.
        tls, check = self.tls, self.health_check
        if tls is not None and check is not None and check.grpc is not None:
            if not tls.verify:
                raise BadValueError("a gRPC health check cannot do without verifying", "use http or tcp, or tls.ca")
            if tls.sans is not None and not tls.server_name:
                raise BadValueError("a gRPC health check cannot verify tls.sans", "use http or tcp, or add server_name")
        return self
