"""What is wrong with a configuration, and where."""

from collections.abc import Iterable
from typing import NamedTuple

# One step into the YAML: a key of a mapping or an index of a list.
Step = str | int
Place = tuple[int, int]
# Of a reason or a hint, in characters.
_LONGEST = 500


class ConfigError(NamedTuple):
    """One error. `line` and `column` count from 1; `path` is empty for the file as a whole."""

    file: str
    line: int
    column: int
    path: str
    reason: str
    hint: str = ""

    def __str__(self) -> str:
        path = f"{self.path}: " if self.path else ""
        hint = f" ({self.hint})" if self.hint else ""
        # One error is one line, whatever a library put into its message.
        text = " ".join(f"{path}{self.reason}{hint}".split())
        return f"{self.file}:{self.line}:{self.column}: {text}"


class ConfigErrors(Exception):  # noqa: N818 - it is several
    """Every error of one configuration, in the order of the file."""

    def __init__(self, errors: Iterable[ConfigError]) -> None:
        distinct: dict[tuple[int, int, str, str], ConfigError] = {}
        for error in errors:
            # A mistake under `defaults` shows again in every cluster, there as under the same
            # key; two keys that are missing in one mapping are two errors at one place.
            key = error.path.rpartition(".")[2]
            distinct.setdefault((error.line, error.column, key, error.reason), error)
        self.errors = sorted(distinct.values(), key=lambda error: (error.line, error.column))
        super().__init__("\n".join(map(str, self.errors)))


class Problem(NamedTuple):
    """A ConfigError whose place is not looked up yet. `at_key`: the key itself is what is wrong."""

    path: tuple[Step, ...]
    reason: str
    hint: str = ""
    at_key: bool = False


def shortened(text: str) -> str:
    """A reason or a hint, which may quote the file, in a length that can be read."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def path_text(path: Iterable[Step]) -> str:
    """`listeners.outbound.routes[0].to`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
            continue
        word = step if step.isprintable() and step and len(step) <= 80 else repr(step[:80])
        text += f".{word}" if text else word
    return text
