"""YAML text to a tree of nodes that know their line and column.

Built straight from libyaml's events, because what PyYAML's own loaders do on
top is what a configuration must not have: YAML 1.1's `on`, `010`, `12:30` and
`1_000` as anything but text, tags, the last of two equal keys winning, and
aliases that expand without bound. Plain scalars are typed as YAML 1.2's core
schema does, without octal and hexadecimal numbers.
"""

import re
from collections.abc import Mapping
from typing import NoReturn

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from sidecar.config.errors import ConfigError, ConfigErrors, Place, Step, path_text, shortened
from sidecar.config.secrets import Filled
from sidecar.config.units import BadValueError
from sidecar.config.variables import shield, substitute, unshield

MAX_DEPTH = 32
# Nodes after aliases are expanded: 1,000 routes take about 20,000.
MAX_NODES = 100_000
# Nobody reads more, and each costs a search for the nearest known word.
MAX_ERRORS = 1000
# Characters that variables may come to: each may be long, and stand in many places.
MAX_FILLED = 4 << 20
# Below these keys stands what the sidecar only passes on, secrets among it.
_FREE = frozenset(("headers", "respond"))

_NO_TAGS = "tags are not supported"
_TAG_HINT = "quote the value to make it text"

Scalar = str | int | float | bool | None

_CONSTANTS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
# Bounded, so that no number is so long that reading it takes time.
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][-+]?[0-9]{1,2})?")


def plain_value(text: str) -> Scalar:
    """What an unquoted scalar means."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


class Node:
    """One value of the file. `size` and `height` count what is below, aliases expanded."""

    __slots__ = ("content", "flagged", "height", "keys", "place", "size", "variables", "written")

    def __init__(self, content: "Scalar | list[Node] | dict[str, Node]", place: Place) -> None:
        self.content = content
        self.place = place
        self.size = 1
        self.height = 0
        # Where each key of a mapping stands.
        self.keys: dict[str, Place] = {}
        # An error was reported for this value: what follows from it is noise.
        self.flagged = False
        # Of a scalar that variables were filled into: its text before, and their names.
        self.written = ""
        self.variables: tuple[str, ...] = ()

    def data(self) -> object:
        """Plain dicts, lists and scalars."""
        if isinstance(self.content, dict):
            return {key: node.data() for key, node in self.content.items()}
        if isinstance(self.content, list):
            return [node.data() for node in self.content]
        return self.content


def read_tree(
    text: str, file: str, env: Mapping[str, str], errors: list[ConfigError], filled: Filled | None = None
) -> Node | None:
    """The root of the one document in `text`, None when it holds none. `filled` is told
    of every variable.

    Errors that leave the rest readable go to `errors`; ConfigErrors is raised,
    with those, for the ones that do not.
    """
    shielded = shield(text)
    builder = _Builder(file, env, errors, shielded is not text, filled or Filled())
    try:
        for event in yaml.parse(shielded, Loader=yaml.CLoader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        builder.stop(_marked_place(error), _syntax_reason(error), _syntax_hint(error, text))
    except yaml.reader.ReaderError as error:
        builder.stop(_reader_place(error, text), f"character {_shown_character(error)} cannot stand in YAML")
    except yaml.YAMLError as error:
        builder.stop((1, 1), f"is no YAML: {error}")
    return builder.root


def _place(mark: yaml.Mark) -> Place:
    return mark.line + 1, mark.column + 1


def _marked_place(error: yaml.MarkedYAMLError) -> Place:
    mark = error.problem_mark or error.context_mark
    return _place(mark) if mark is not None else (1, 1)


def _syntax_reason(error: yaml.MarkedYAMLError) -> str:
    parts = [part for part in (error.problem, error.context) if part]
    return f"YAML syntax: {', '.join(parts) or 'cannot be read'}"


def _syntax_hint(error: yaml.MarkedYAMLError, text: str) -> str:
    line = _marked_place(error)[0] - 1
    lines = text.splitlines()
    return "indent with spaces" if line < len(lines) and "\t" in lines[line] else ""


def _shown_character(error: yaml.reader.ReaderError) -> str:
    # libyaml gives the code, PyYAML's own reader the character.
    return f"U+{error.character:04X}" if isinstance(error.character, int) else repr(error.character)


def _reader_place(error: yaml.reader.ReaderError, text: str) -> Place:
    # libyaml counts bytes here, and may not have got to the character itself.
    before = text.encode()[: error.position].decode(errors="ignore")
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


class _Builder:
    def __init__(
        self, file: str, env: Mapping[str, str], errors: list[ConfigError], shielded: bool, filled: Filled
    ) -> None:
        self.root: Node | None = None
        self._file = file
        self._env = env
        self._errors = errors
        self._shielded = shielded
        self._filled = filled
        self._filled_size = 0
        self._documents = 0
        self._nodes = 0
        self._anchors: dict[str, Node] = {}
        # The collections that are open, and the key that waits for its value.
        self._open: list[Node] = []
        self._pending: list[tuple[str, Place] | None] = []

    def take(self, event: Event) -> None:
        if isinstance(event, DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self.stop(_place(event.start_mark), "a second YAML document", "one file is one document")
        elif isinstance(event, (MappingEndEvent, SequenceEndEvent)):
            self._close()
        elif isinstance(event, NodeEvent):
            self._take_node(event)

    def stop(self, place: Place, reason: str, hint: str = "") -> NoReturn:
        """Give up on the file."""
        self._report(place, reason, hint)
        raise ConfigErrors(self._errors)

    def _report(self, place: Place, reason: str, hint: str = "") -> None:
        self._errors.append(ConfigError(self._file, *place, path_text(self._path()), shortened(reason), hint))
        if len(self._errors) == MAX_ERRORS:
            self.stop(place, "has more errors, which are not shown")

    def _path(self) -> list[Step]:
        path: list[Step] = []
        for node, pending in zip(self._open, self._pending, strict=True):
            if isinstance(node.content, list):
                path.append(len(node.content))
            elif pending is not None:
                path.append(pending[0])
        return path

    def _take_node(self, event: NodeEvent) -> None:
        place = _place(event.start_mark)
        if self._awaits_key():
            self._take_key(event, place)
            return
        node = self._node(event, place)
        self._nodes += node.size
        if self._nodes > MAX_NODES:
            self.stop(place, f"more than {MAX_NODES} values, aliases expanded")
        if len(self._open) + node.height >= MAX_DEPTH:
            self.stop(place, f"nested more than {MAX_DEPTH} deep")
        if event.anchor is not None and not isinstance(event, AliasEvent):
            self._anchors[event.anchor] = node
        if isinstance(event, (MappingStartEvent, SequenceStartEvent)):
            self._open.append(node)
            self._pending.append(None)
        else:
            self._attach(node)

    def _awaits_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].content, dict) and self._pending[-1] is None

    def _take_key(self, event: NodeEvent, place: Place) -> None:
        if not isinstance(event, ScalarEvent):
            self.stop(place, "a key must be text")
        if event.tag is not None:
            self._report(place, _NO_TAGS, _TAG_HINT)
        key = self._text(event)
        mapping = self._open[-1]
        if key in mapping.keys:
            line, column = mapping.keys[key]
            self._report(place, f"key {key!r} stands twice", f"first at line {line}, column {column}")
        elif key == "<<":
            self._report(place, "merge keys are not supported", "use defaults")
        self._pending[-1] = (key, place)

    def _text(self, event: ScalarEvent) -> str:
        text: str = event.value
        return unshield(text) if self._shielded else text

    def _node(self, event: NodeEvent, place: Place) -> Node:
        if isinstance(event, AliasEvent):
            return self._aliased(event, place)
        tag = getattr(event, "tag", None)
        if tag is not None:
            self._report(place, _NO_TAGS, _TAG_HINT)
        if isinstance(event, MappingStartEvent):
            return Node({}, place)
        if isinstance(event, SequenceStartEvent):
            return Node([], place)
        assert isinstance(event, ScalarEvent)
        node = self._scalar(event, place)
        node.flagged |= tag is not None
        return node

    def _scalar(self, event: ScalarEvent, place: Place) -> Node:
        written = self._text(event)
        names: dict[str, None] = {}
        free: bool | None = None

        def found(name: str, value: str) -> None:
            nonlocal free
            if free is None:
                free = not _FREE.isdisjoint(self._path())
            names[name] = None
            self._filled.add(name, value, free=free)
            self._filled_size += len(value)
            if self._filled_size > MAX_FILLED:
                self.stop(place, f"variables fill in more than {MAX_FILLED >> 20} MiB")

        try:
            text = substitute(written, self._env, found)
        except BadValueError as error:
            self._report(place, error.reason, error.hint)
            node = Node(None, place)
            node.flagged = True
            return node
        # An empty style is libyaml's word for plain, unquoted.
        node = Node(text if event.style else plain_value(text), place)
        if names:
            node.written, node.variables = written, tuple(names)
        return node

    def _aliased(self, event: AliasEvent, place: Place) -> Node:
        target = self._anchors.get(event.anchor)
        if target is None or any(target is node for node in self._open):
            reason = f"no anchor &{event.anchor} before this" if target is None else f"*{event.anchor} holds itself"
            self._report(place, reason)
            target = Node(None, place)
            target.flagged = True
        return target

    def _close(self) -> None:
        node = self._open.pop()
        self._pending.pop()
        self._attach(node)

    def _attach(self, node: Node) -> None:
        if not self._open:
            self.root = node
            return
        parent = self._open[-1]
        if isinstance(parent.content, list):
            parent.content.append(node)
        elif isinstance(parent.content, dict):
            pending, self._pending[-1] = self._pending[-1], None
            assert pending is not None
            key, place = pending
            # The first of two equal keys stays, so that its errors are told too.
            parent.content.setdefault(key, node)
            parent.keys.setdefault(key, place)
        parent.size += node.size
        parent.height = max(parent.height, node.height + 1)
