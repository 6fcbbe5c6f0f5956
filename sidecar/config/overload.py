"""The YAML under `limits.adaptive`, `limits.shares` and `admission` of a cluster."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from sidecar.config.shape import Section
from sidecar.config.units import PositiveDuration
from sidecar.policy.adaptive import AdaptivePolicy
from sidecar.policy.admission import AdmissionPolicy


def switched(value: object) -> object:
    """`true` is the section with its defaults, `false` is none."""
    if value is True:
        return {}
    return None if value is False else value


class Adaptive(Section):
    """A limit on requests in flight that follows latency. `limits.requests` stays above it."""

    min: int = Field(4, ge=1, le=1_000_000, description="However slow it gets. Default 4.")
    initial: int = Field(50, ge=1, le=1_000_000, description="At the start. Default 50.")
    tolerance: float = Field(
        1.5,
        ge=1.05,
        le=10,
        allow_inf_nan=False,
        description="Latency may be so many times what it is without a queue. Default 1.5.",
    )
    window: PositiveDuration = Field(0.1, description="Decides about the limit so often, at most. Default 100ms.")
    probe: PositiveDuration = Field(
        30.0, description="Under load, looks for a lower minimum of latency so often, jittered. Default 30s."
    )

    def policy(self, maximum: int) -> AdaptivePolicy:
        """The policy's plain values, below the fixed limit."""
        return AdaptivePolicy(
            minimum=min(self.min, maximum),
            maximum=maximum,
            initial=self.initial,
            tolerance=self.tolerance,
            window=self.window,
            probe=self.probe,
        )


class Shares(Section):
    """How much of the limit on requests each priority may use; `default` uses all of it."""

    sheddable: float = Field(
        0.8,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Beyond this share sheddable requests are refused. Default 0.8.",
    )
    critical: float = Field(
        1.1, ge=1, le=2, allow_inf_nan=False, description="Critical requests may go beyond the limit. Default 1.1."
    )


class Admission(Section):
    """Rejects a part of the requests while the endpoints fail too many of them."""

    window: PositiveDuration = Field(2.0, description="The time that is looked back. Default 2s.")
    k: float = Field(
        2.0, ge=1, le=100, allow_inf_nan=False, description="Requests let out for each one that was served. Default 2."
    )
    max_rejection: float = Field(
        0.9, ge=0, le=1, allow_inf_nan=False, description="The highest share that is rejected. Default 0.9."
    )
    min_requests: int = Field(
        10, ge=1, le=1_000_000, description="Fewer requests in the window say nothing. Default 10."
    )

    def policy(self) -> AdmissionPolicy:
        """The policy's plain values."""
        return AdmissionPolicy(
            window=self.window, k=self.k, max_rejection=self.max_rejection, min_requests=self.min_requests
        )


AdaptiveEntry = Annotated[Adaptive | None, BeforeValidator(switched, json_schema_input_type=bool | Adaptive | None)]
AdmissionEntry = Annotated[Admission | None, BeforeValidator(switched, json_schema_input_type=bool | Admission | None)]
