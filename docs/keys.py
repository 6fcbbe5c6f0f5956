"""Writes the tables of keys in docs/configuration.md from the schema: `python docs/keys.py`.

A table stands between `<!-- keys: PATH -->` and `<!-- end -->`; PATH is the section's
place in the YAML, with NAME for a name of the user's and 0 for an item of a list. A
test fails when a table is not what this would write, or when a section has none.
"""

import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from sidecar.config.clusters import CHECKS, Defaults
from sidecar.config.translate import section_at
from sidecar.config.units import format_duration, format_percent, format_size
from sidecar.upstream.balance.make import POLICIES

FILE = Path(__file__).with_name("configuration.md")
BAR = "\\|"
_TABLE = re.compile(r"<!-- keys: (.+?) -->\n.*?<!-- end -->", re.DOTALL)
# Where the description in the schema is nothing but the default.
_MEANINGS = {
    ("Admin", "bind"): "Where health, metrics and API are: host:port or unix:/path.",
    ("Balance", "policy"): f"{', '.join(POLICIES)}.",
    ("Redirect", "status"): "301, 302, 303, 307 or 308.",
    ("Respond", "status"): "200 to 599.",
}


def steps(path: str) -> tuple[str | int, ...]:
    """The steps to a section, from `clusters.NAME.retry` or `top`."""
    if path == "top":
        return ()
    return tuple(int(step) if step.isdigit() else step for step in path.split("."))


def section_of(path: str) -> type[BaseModel]:
    """The model of a section; KeyError when there is none at this place."""
    found = section_at(steps(path))
    if found is None:
        raise KeyError(f"{path} is no section of the configuration")
    return found


def table(path: str) -> str:
    """The keys of a section, one line each."""
    lines = ["| key | default | meaning |", "|---|---|---|"]
    section = section_of(path)
    for name, field in section.model_fields.items():
        key = field.alias or name
        meaning = _MEANINGS.get((section.__name__, name)) or _without_default(field.description or "")
        lines.append(f"| `{key}` | {_default(section, name, field)} | {meaning.replace('|', BAR)} |")
    return "\n".join(lines)


def _without_default(meaning: str) -> str:
    """What the column beside it says already is not said twice."""
    return re.sub(r"(; 0 = off), the default\.$", r"\1.", re.sub(r" Default .*$", "", meaning))


def _default(section: type[BaseModel], name: str, field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is PydanticUndefined:
        return "see below"  # a section of its own, or a list that is empty
    if value is None:
        return "-" if section.__name__.startswith(("Route", "Redirect")) or name in CHECKS else "`null`"
    return f"`{_written(section, name, value)}`"


def _written(section: type[BaseModel], name: str, value: Any) -> str:
    """A default as the YAML would say it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, str):
        return value or '""'
    if isinstance(value, int | float):
        if _is(section, name, "duration"):
            return "null" if name == "try_" else str(format_duration(value))
        if _is(section, name, "share"):
            return format_percent(value)
        if _is(section, name, "size"):
            return str(format_size(int(value)))
        return f"{value:g}"
    return str(value)


def _is(section: type[BaseModel], name: str, kind: str) -> bool:
    """Whether a field is written as a duration, a share or a size: its example says so."""
    schema = str(section.model_json_schema(by_alias=False)["properties"][name])
    return {"duration": "250ms", "share": "5%", "size": "256KiB"}[kind] in schema


def sections() -> set[type[BaseModel]]:
    """Every section that wants a table: all but `defaults`, which is like a cluster."""
    found: set[type[BaseModel]] = set()

    def visit(path: tuple[str | int, ...]) -> None:
        section = section_at(path)
        if section is None or section in found or len(path) > 8:
            return
        found.add(section)
        for name, field in section.model_fields.items():
            key = field.alias or name
            for below in ((key,), (key, "NAME"), (key, 0)):
                visit((*path, *below))

    visit(())
    return found - {Defaults}


def rewritten(text: str) -> str:
    """The text with every table as it should be."""
    return _TABLE.sub(lambda found: f"<!-- keys: {found[1]} -->\n{table(found[1])}\n<!-- end -->", text)


def paths(text: str) -> list[str]:
    """The sections that a text has tables for."""
    return _TABLE.findall(text)


if __name__ == "__main__":
    FILE.write_text(rewritten(FILE.read_text(encoding="utf-8")), encoding="utf-8")
