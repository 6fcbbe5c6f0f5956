"""The YAML under `overload`, and under `timeouts` of a listener."""

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from sidecar.config.overload import switched
from sidecar.config.shape import Section
from sidecar.config.units import BadValueError, Duration, PositiveDuration, Size
from sidecar.policy.pace import Pace
from sidecar.policy.pressure import OverloadPolicy

Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


def _rising(*values: float) -> None:
    if not values[0] < values[1] < values[2]:
        raise BadValueError("hold, shed and refuse must rise", "hold < shed < refuse")


class LagPressure(Section):
    """How late the event loop may be, for about a second on end."""

    hold: PositiveDuration = Field(
        0.1, description="New requests on kept connections are read only as others end. Default 100ms."
    )
    shed: PositiveDuration = Field(0.25, description="Sheddable requests are refused. Default 250ms.")
    refuse: PositiveDuration = Field(
        1.0, description="Connections are refused, and requests that are not critical. Default 1s."
    )

    @model_validator(mode="after")
    def _consistent(self) -> "LagPressure":
        _rising(self.hold, self.shed, self.refuse)
        return self


class MemoryPressure(Section):
    """How much of the memory that there is for the sidecar it may use."""

    limit: Annotated[Size, Field(ge=1)] | None = Field(
        None, description="Of this process; null = what the control group leaves to it."
    )
    hold: Share = Field(
        0.8, description="New requests are held back, clients that ask nothing are closed. Default 0.8."
    )
    shed: Share = Field(0.87, description="Sheddable requests are refused. Default 0.87.")
    refuse: Share = Field(
        0.93, description="Connections are refused, and requests that are not critical. Default 0.93."
    )

    @model_validator(mode="after")
    def _consistent(self) -> "MemoryPressure":
        _rising(self.hold, self.shed, self.refuse)
        return self


class Overload(Section):
    """What the process does when it runs short of time, memory or files itself."""

    lag: LagPressure = Field(default_factory=LagPressure.model_construct, description="Of the event loop.")
    memory: MemoryPressure = Field(default_factory=MemoryPressure.model_construct, description="Resident memory.")
    open_files: int | None = Field(
        None, ge=32, le=1 << 30, description="Reckon with so many; null = the limit of the process."
    )
    max_connections: int | None = Field(
        None,
        ge=1,
        le=1 << 30,
        description="Clients of all listeners together; null = half of the open files that are left.",
    )

    def policy(self) -> OverloadPolicy:
        """The plain values."""
        lag, memory = self.lag, self.memory
        return OverloadPolicy(
            lag=(lag.hold, lag.shed, lag.refuse),
            memory=(memory.hold, memory.shed, memory.refuse),
            memory_limit=memory.limit,
            files_limit=self.open_files,
            max_connections=self.max_connections,
        )


class ListenerTimeouts(Section):
    """How long clients may take, and how slow they may be. 0 = no bound."""

    first: Duration = Field(60.0, description="From the connection to its first request. Default 1m.")
    header: Duration = Field(
        10.0, description="HTTP/1.1: from the first byte of a request's head to its last. Default 10s."
    )
    body: Duration = Field(
        20.0, description="HTTP/1.1: a request's body has to come at min_rate over this time. Default 20s."
    )
    idle: Duration = Field(300.0, description="Without a request. Default 5m.")
    write: Duration = Field(
        60.0, description="What waits to be read by a client has to go at min_rate over this time. Default 1m."
    )
    min_rate: Size = Field(100, description="Bytes a second. Default 100B.")

    def pace(self) -> Pace:
        """The plain values."""
        return Pace(self.first, self.header, self.body, self.idle, self.write, self.min_rate)


OverloadEntry = Annotated[Overload | None, BeforeValidator(switched, json_schema_input_type=bool | Overload | None)]
