"""The YAML under `hedge` of a cluster and of a route."""

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema

from sidecar.config.overload import switched
from sidecar.config.shape import Section
from sidecar.config.units import BadValueError, Percent, format_duration, parse_positive_duration, shown
from sidecar.policy.hedge import HedgePolicy

# What a route says that wants none.
NEVER: Final = "never"

_QUANTILE = re.compile(r"p([0-9]{1,3}(\.[0-9]+)?)")
_HINT: Final = "write a percentile from p50 to p99, or a time such as 50ms"


def _parse_after(value: object) -> float | str:
    """Seconds, or the text of a percentile."""
    if isinstance(value, str) and _QUANTILE.fullmatch(value):
        if value[1:].isdigit() and 50 <= int(value[1:]) <= 99:
            return value
        raise BadValueError(f"{shown(value)} is no percentile that can be followed", _HINT)
    try:
        return parse_positive_duration(value)
    except BadValueError as error:
        raise BadValueError(error.reason, error.hint if "no unit" in error.reason else _HINT) from None


def _parse_route_after(value: object) -> float | str:
    return NEVER if value == NEVER else _parse_after(value)


def _write_after(value: Any) -> Any:
    return format_duration(value) if isinstance(value, float) else value


_PATTERN: Final = r"(p[5-9]\d|(\d+(\.\d+)?(ms|s|m|h))+)"
_SCHEMA: Final[dict[str, Any]] = {"type": "string", "pattern": f"^{_PATTERN}$", "examples": ["p95", "50ms"]}
_ROUTE_SCHEMA: Final = {**_SCHEMA, "pattern": f"^({_PATTERN}|{NEVER})$"}

After = Annotated[float | str, PlainValidator(_parse_after), PlainSerializer(_write_after), WithJsonSchema(_SCHEMA)]
RouteAfter = Annotated[
    float | str, PlainValidator(_parse_route_after), PlainSerializer(_write_after), WithJsonSchema(_ROUTE_SCHEMA)
]


def policy_of(after: float | str | None) -> HedgePolicy | None:
    """The plain values; None for never."""
    if after is None:
        return None
    return HedgePolicy(int(after[1:]) / 100) if isinstance(after, str) else HedgePolicy(seconds=after)


class Hedge(Section):
    """A second try beside a slow first one, of what may run twice; the better answer counts."""

    after: After = Field(
        "p95", description="A percentile of the cluster's latency, p50 to p99, or a fixed time. Default p95."
    )
    budget: Annotated[Percent, Field(gt=0)] = Field(
        0.05, description="Hedges as a share of the cluster's requests over 10 s. Default 5%."
    )


class RouteHedge(Section):
    """What a route changes in its cluster's hedging."""

    after: RouteAfter = Field(description="A percentile of the cluster's latency, a fixed time, or never.")


def _route_switched(value: object) -> object:
    """`false` is never."""
    return {"after": NEVER} if value is False else value


HedgeEntry = Annotated[Hedge | None, BeforeValidator(switched, json_schema_input_type=bool | Hedge | None)]
RouteHedgeEntry = Annotated[
    RouteHedge | None, BeforeValidator(_route_switched, json_schema_input_type=bool | RouteHedge | None)
]
