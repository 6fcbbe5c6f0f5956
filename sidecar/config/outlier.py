"""The YAML under `outlier_ejection` of a cluster."""

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from sidecar.config.overload import switched
from sidecar.config.shape import Section
from sidecar.config.units import BadValueError, Percent, PositiveDuration
from sidecar.policy.outlier import OutlierPolicy


class OutlierEjection(Section):
    """Who fails more than the cluster's other endpoints is left alone for a while."""

    interval: PositiveDuration = Field(10.0, description="Compares the endpoints so often. Default 10s.")
    min_requests: int = Field(
        100, ge=1, le=1_000_000, description="Of an endpoint in an interval; fewer say nothing. Default 100."
    )
    min_endpoints: int = Field(
        3, ge=3, le=10_000, description="With so many requests; fewer cannot be compared. Default 3."
    )
    stdev_factor: float = Field(
        1.9,
        ge=0.5,
        le=10,
        allow_inf_nan=False,
        description="Out is whose success rate is so many standard deviations below the median. Default 1.9.",
    )
    base: PositiveDuration = Field(30.0, description="How long, times how often it was out lately. Default 30s.")
    max: PositiveDuration = Field(300.0, description="How long at most. Default 5m.")
    max_ejected: Annotated[Percent, Field(gt=0)] = Field(
        0.5,
        description="No more endpoints than this share are out; where breakers and health checks take out more, "
        "only breakers are heeded. Default 50%.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> "OutlierEjection":
        if self.max < self.base:
            raise BadValueError("max is shorter than base")
        return self

    def policy(self) -> OutlierPolicy:
        """The plain values."""
        return OutlierPolicy(
            interval=self.interval,
            min_requests=self.min_requests,
            min_endpoints=self.min_endpoints,
            stdev_factor=self.stdev_factor,
            base=self.base,
            max=self.max,
            max_ejected=self.max_ejected,
        )


OutlierEntry = Annotated[
    OutlierEjection | None, BeforeValidator(switched, json_schema_input_type=bool | OutlierEjection | None)
]
