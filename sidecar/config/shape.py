"""What every section of the YAML has in common, and the types of its leaves."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, PlainSerializer, PlainValidator, WithJsonSchema, model_validator

from sidecar.config import grammar
from sidecar.config.units import BadValueError, shown
from sidecar.model.address import Address


class Section(BaseModel):
    """One mapping of the YAML: unknown keys are errors, nothing is coerced or changed later."""

    # defer_build: one validator is built, the Spec's with everything in it, not one
    # more for each section. Defaults come from model_construct for the same reason.
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, validate_by_name=True, validate_by_alias=True, defer_build=True
    )

    # Keys whose value is a mapping or a list. A key with nothing behind it, as is
    # left when all its lines are commented out, is read as not written.
    _containers: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        cls._containers = frozenset(
            field.alias or name for name, field in cls.model_fields.items() if _is_container(field.annotation)
        )

    @model_validator(mode="before")
    @classmethod
    def _empty_is_absent(cls, data: Any) -> Any:
        if not isinstance(data, dict) or None not in data.values():
            return data
        return {key: value for key, value in data.items() if value is not None or key not in cls._containers}


def _is_container(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return get_origin(annotation) in (dict, list) or (
        isinstance(annotation, type) and issubclass(annotation, BaseModel)
    )


# So many words can be listed in a hint: all keys of a cluster or a route.
_FEW = 16


def nearest(word: str, known: list[str]) -> str:
    """A hint that names the nearest known word, or lists them when they are few."""
    listed = f"known: {', '.join(known)}" if 0 < len(known) <= _FEW else ""
    return _similar(word, known) or listed


def _similar(word: str, known: list[str]) -> str:
    candidates = known
    if len(known) > 100:
        # Comparing is slow: a thousand typos among a thousand clusters must not take minutes.
        candidates = [other for other in known if other[:1].lower() == word[:1].lower()][:100]
    close = get_close_matches(word.lower(), candidates, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else ""


def choice(*words: str) -> Callable[[object], str]:
    """A parser of one word out of a fixed set."""

    def parse(value: object) -> str:
        text = grammar.parse_text(value)
        if text not in words:
            raise BadValueError(f"{shown(text)} is not one of {', '.join(words)}", _similar(text, list(words)))
        return text

    return parse


def _leaf(parse: Callable[[object], Any], schema: dict[str, Any], write: Callable[[Any], Any] | None = None) -> Any:
    parts: list[Any] = [PlainValidator(parse), WithJsonSchema(schema)]
    if write is not None:
        parts.append(PlainSerializer(write))
    return tuple(parts)


_TEXT: dict[str, Any] = {"type": "string"}


def _like(*examples: str) -> dict[str, Any]:
    return {"type": "string", "examples": list(examples)}


Text = Annotated[str, *_leaf(grammar.parse_text, _TEXT)]
Name = Annotated[str, *_leaf(grammar.parse_name, _TEXT)]
Bind = Annotated[Address, *_leaf(grammar.parse_bind, _like("127.0.0.1:15001", "unix:/run/sidecar.sock"), str)]
Target = Annotated[Address, *_leaf(grammar.parse_target, _like("10.0.0.1:50051", "unix:/run/app.sock"), str)]
Host = Annotated[str, *_leaf(grammar.parse_host, _like("users.internal", "*.internal"))]
Allowed = Annotated[str, *_leaf(grammar.parse_allowed, _like("*.example.com:443", "10.0.0.0/8"))]
Authority = Annotated[str, *_leaf(grammar.parse_authority, _like("users.example.com:8443"))]
Path = Annotated[str, *_leaf(grammar.parse_path, {"type": "string", "pattern": "^/"})]
Regex = Annotated[str, *_leaf(grammar.parse_regex, {"type": "string", "format": "regex"})]
Method = Annotated[str, *_leaf(grammar.parse_method, {"type": "string", "examples": ["GET", "POST"]})]
Grpc = Annotated[str, *_leaf(grammar.parse_grpc, _like("pkg.Service/Method", "pkg.Service/*", "pkg.*"))]
Repeatable = Annotated[str, *_leaf(grammar.parse_repeatable, _like("pkg.Service/Get", "POST /search", "POST /v1/*"))]
FieldName = Annotated[str, *_leaf(grammar.parse_field_name, _TEXT)]
EditedFieldName = Annotated[str, *_leaf(grammar.parse_edited_field_name, _TEXT)]
FieldValue = Annotated[str, *_leaf(grammar.parse_field_value, _TEXT)]
BalanceKey = Annotated[str, *_leaf(grammar.parse_balance_key, _like("header:x-user", "cookie:sid", "path", "source"))]


def word(*words: str) -> Any:
    """The pydantic type of one word out of a fixed set."""
    return _leaf(choice(*words), {"type": "string", "enum": list(words)})
