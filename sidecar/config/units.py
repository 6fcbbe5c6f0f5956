"""Durations and sizes as people write them, and the pydantic types that read them.

After loading every duration is a float of seconds and every size an int of bytes.
Written back (masked config, JSON Schema defaults) they are text again.
"""

import re
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

_DURATION_PART = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,9}))?(ms|s|m|h)")
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
# A duration is summed up in integers, 10^9 to the millisecond, so that it is exact.
_SCALE = 10**9
# Beyond a year it is a slip of the pen, and event loops refuse such timers.
_LONGEST = 366 * 24 * 3600.0

_SIZE = re.compile(r"([0-9]{1,16})(B|KiB|MiB|GiB)?")
_BYTES = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_DECIMAL_SIZE = re.compile(r"([0-9]{1,15})\s*([kKmMgG])i?[bB]?")
_LARGEST = 1 << 50

_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,9})?)\s?%")


class BadValueError(ValueError):
    """A value that cannot stand. `hint` says what to write, or is empty."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


def parse_duration(value: object) -> float:
    """Seconds from `250ms`, `2s`, `1m30s` or 0; BadValueError for anything else."""
    if type(value) in (int, float):
        if value == 0:
            return 0.0
        raise BadValueError(f"{value} has no unit", f"write {value}s")
    if not isinstance(value, str):
        raise BadValueError("must be a duration", "write 250ms, 2s, 5m or 1m30s")
    if value == "0":
        return 0.0
    total = 0
    position = 0
    while position < len(value):
        part = _DURATION_PART.match(value, position)
        if part is None:
            break
        total += int(part[1] + (part[2] or "").ljust(9, "0")) * _MILLISECONDS[part[3]]
        position = part.end()
    if not value or position < len(value):
        hint = f"write {value}s" if value.isascii() and value.isdigit() else "write 250ms, 2s, 5m or 1m30s"
        raise BadValueError(f"{shown(value)} is no duration", hint)
    seconds = total / (_SCALE * 1000)
    if seconds > _LONGEST:
        raise BadValueError(f"{shown(value)} is longer than a year")
    return seconds


def parse_positive_duration(value: object) -> float:
    """Like parse_duration, but 0 cannot stand."""
    seconds = parse_duration(value)
    if seconds <= 0:
        raise BadValueError("must be longer than 0")
    return seconds


def parse_timeout(value: object) -> float:
    """Like parse_duration; null is 0.0, which means "no such limit"."""
    return 0.0 if value is None else parse_duration(value)


def format_duration(seconds: float) -> str | int:
    """The shortest text that parses to the same number of seconds; 0 stays 0."""
    if seconds == 0:
        return 0
    for unit in ("h", "m", "s"):
        count = seconds * 1000 / _MILLISECONDS[unit]
        if count.is_integer():
            return f"{int(count)}{unit}"
    number, unit = (seconds, "s") if seconds >= 1 else (seconds * 1000, "ms")
    return f"{number:.9f}".rstrip("0").rstrip(".") + unit


def parse_size(value: object) -> int:
    """Bytes from `256KiB`, `1MiB`, `512B` or a plain number; BadValueError for anything else."""
    text = str(value) if type(value) is int else value
    if not isinstance(text, str):
        raise BadValueError("must be a size", "write 256KiB or 1MiB")
    match = _SIZE.fullmatch(text)
    if match is None:
        near = _DECIMAL_SIZE.fullmatch(text)
        hint = f"write {near[1]}{near[2].upper()}iB" if near else "write 256KiB or 1MiB"
        raise BadValueError(f"{shown(text)} is no size", hint)
    size = int(match[1]) * _BYTES[match[2]]
    if size > _LARGEST:
        raise BadValueError(f"{text} is more than any machine has")
    return size


def format_size(size: int) -> str | int:
    """The largest unit that divides the number of bytes; 0 stays 0."""
    if size == 0:
        return 0
    for unit in ("GiB", "MiB", "KiB"):
        if size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size}B"


def parse_percent(value: object) -> float:
    """A share from 0 to 1, of `5%` or 0.05; BadValueError for anything else."""
    share = value
    if isinstance(value, str):
        match = _PERCENT.fullmatch(value)
        if match is None:
            raise BadValueError(f"{shown(value)} is no share", "write 5% or 0.05")
        share = float(match[1]) / 100
    if type(share) not in (int, float) or not 0 <= share <= 1:  # type: ignore[operator]
        hint = f"write {value}%" if type(value) in (int, float) and 1 < value <= 100 else "write 5% or 0.05"  # type: ignore[operator]
        raise BadValueError(f"{shown(value)} is no share", hint)
    return float(share)  # type: ignore[arg-type]


def format_percent(share: float) -> str:
    """The share as people say it."""
    return f"{share * 100:.9g}%"


def shown(value: object) -> str:
    """A value as an error message quotes it: printable and short."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1]}"


_DURATION_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "string", "pattern": r"^((\d+(\.\d+)?(ms|s|m|h))+|0)$"}, {"const": 0}],
    "examples": ["250ms", "2s", "1m30s"],
}
_POSITIVE_SCHEMA: dict[str, Any] = {
    "type": "string",
    "pattern": r"^(\d+(\.\d+)?(ms|s|m|h))+$",
    "examples": ["250ms", "2s", "1m30s"],
}
_TIMEOUT_SCHEMA: dict[str, Any] = {
    "anyOf": [*_DURATION_SCHEMA["anyOf"], {"type": "null"}],
    "examples": ["250ms", "2s", 0],
}
_SIZE_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "string", "pattern": r"^\d+(B|KiB|MiB|GiB)?$"}, {"type": "integer", "minimum": 0}],
    "examples": ["256KiB", "1MiB"],
}
_PERCENT_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "string", "pattern": r"^\d+(\.\d+)?\s?%$"}, {"type": "number", "minimum": 0, "maximum": 1}],
    "examples": ["5%", 0.05],
}

_AS_DURATION = PlainSerializer(format_duration)

# Seconds; 0.0 allowed.
Duration = Annotated[float, PlainValidator(parse_duration), _AS_DURATION, WithJsonSchema(_DURATION_SCHEMA)]
# Seconds; more than 0.0.
PositiveDuration = Annotated[
    float, PlainValidator(parse_positive_duration), _AS_DURATION, WithJsonSchema(_POSITIVE_SCHEMA)
]
# Seconds; 0.0 = no limit, also written null.
Timeout = Annotated[float, PlainValidator(parse_timeout), _AS_DURATION, WithJsonSchema(_TIMEOUT_SCHEMA)]
# The same where 0.0 is "as long as something else allows" and reads as null.
OpenTimeout = Annotated[
    float,
    PlainValidator(parse_timeout),
    PlainSerializer(lambda seconds: format_duration(seconds) or None),
    WithJsonSchema(_TIMEOUT_SCHEMA),
]
# Bytes.
Size = Annotated[int, PlainValidator(parse_size), PlainSerializer(format_size), WithJsonSchema(_SIZE_SCHEMA)]
# A share from 0.0 to 1.0.
Percent = Annotated[
    float, PlainValidator(parse_percent), PlainSerializer(format_percent), WithJsonSchema(_PERCENT_SCHEMA)
]
# The same as Timeout where it may also not be given: None = not given, 0.0 = given as "no limit".
GivenTimeout = Annotated[
    float | None,
    PlainValidator(parse_timeout),
    PlainSerializer(lambda seconds: None if seconds is None else format_duration(seconds)),
    WithJsonSchema(_TIMEOUT_SCHEMA),
]
