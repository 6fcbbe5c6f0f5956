"""pydantic's errors in the words of our users."""

from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from sidecar.config.clusters import ClusterKeys, Retry, Timeouts
from sidecar.config.errors import Problem, Step
from sidecar.config.hedge import Hedge, RouteHedge
from sidecar.config.listeners import Route, RouteRetry, RouteTimeouts
from sidecar.config.schema import Spec
from sidecar.config.shape import nearest
from sidecar.config.tree import plain_value
from sidecar.config.units import BadValueError

# What a route cannot change, because the cluster's endpoints share it.
_NARROWED: dict[type[BaseModel], type[BaseModel]] = {
    Route: ClusterKeys,
    RouteRetry: Retry,
    RouteTimeouts: Timeouts,
    RouteHedge: Hedge,
}

_REASONS = {
    "missing": "is required",
    "model_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "list_type": "must be a list",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "too_short": "needs at least {min_length}",
    "string_too_short": "must not be empty",
    "string_too_long": "has more than {max_length} characters",
    "too_long": "is longer than {max_length}",
}


def problem(error: Any) -> Problem:
    """One entry of ValidationError.errors() as a Problem."""
    path: tuple[Step, ...] = error["loc"]
    kind: str = error["type"]
    context: dict[str, Any] = error.get("ctx", {})
    if path and path[-1] == "[key]":
        return Problem(path[:-1], *_wrong(error), at_key=True)
    if kind == "value_error":
        return Problem(path, *_wrong(error))
    if kind == "extra_forbidden":
        return Problem(path, "unknown key", _key_hint(path), at_key=True)
    reason = _REASONS.get(kind)
    if reason is None:
        return Problem(path, str(error["msg"]))
    # 1, not 1.0: as people write it.
    bounds = {
        key: int(bound) if isinstance(bound, float) and bound.is_integer() else bound for key, bound in context.items()
    }
    return Problem(path, reason.format(**bounds), _type_hint(kind, error.get("input")))


def _wrong(error: Any) -> tuple[str, str]:
    cause = error.get("ctx", {}).get("error")
    return (cause.reason, cause.hint) if isinstance(cause, BadValueError) else (str(error["msg"]), "")


def _type_hint(kind: str, found: object) -> str:
    if not isinstance(found, str):
        return ""
    if kind in ("int_type", "float_type") and found.lstrip("-").replace(".", "", 1).isdigit():
        if isinstance(plain_value(found), str):  # it would be text without quotes, too
            return "18 digits at most, and no zero before them"
        return f"write {found} without quotes"
    if kind == "bool_type" and found.lower() in ("yes", "on", "no", "off"):
        return f"write {'true' if found.lower() in ('yes', 'on') else 'false'}"
    return "write [...] or one '- item' per line" if kind == "list_type" else ""


def _key_hint(path: tuple[Step, ...]) -> str:
    section = section_at(path[:-1])
    if section is None:
        return ""
    key = str(path[-1])
    wider = _NARROWED.get(section)
    if wider is not None and key in keys_of(wider):
        return "set it on the cluster"
    return nearest(key, keys_of(section))


def keys_of(section: type[BaseModel]) -> list[str]:
    """The keys that a section takes, as the YAML writes them."""
    return [field.alias or name for name, field in section.model_fields.items()]


def section_at(path: tuple[Step, ...]) -> type[BaseModel] | None:
    """The model of the mapping at a path, None where there is none."""
    annotation: Any = Spec
    for step in path:
        annotation = _below(annotation, step)
    annotation = _bare(annotation)
    return annotation if _is_section(annotation) else None


def _below(annotation: Any, step: Step) -> Any:
    annotation = _bare(annotation)
    if _is_section(annotation):
        for name, field in annotation.model_fields.items():
            if step == (field.alias or name):
                return field.annotation
        return None
    arguments = get_args(annotation)
    return arguments[-1] if get_origin(annotation) in (list, dict) else None


def _bare(annotation: Any) -> Any:
    """Without Annotated and without `| None`."""
    while annotation is not None:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
            continue
        kept = [part for part in get_args(annotation) if part is not type(None)]
        if type(None) not in get_args(annotation) or len(kept) != 1:
            break
        annotation = kept[0]
    return annotation


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
