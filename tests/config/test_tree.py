"""What the restricted YAML means, and what it refuses."""

import pytest

from sidecar.config.errors import ConfigError, ConfigErrors
from sidecar.config.tree import MAX_DEPTH, plain_value, read_tree


def read(text: str, env: dict[str, str] | None = None) -> object:
    errors: list[ConfigError] = []
    root = read_tree(text, "f", env or {}, errors)
    assert not errors, errors
    return None if root is None else root.data()


def refused(text: str) -> list[tuple[int, int, str]]:
    errors: list[ConfigError] = []
    try:
        read_tree(text, "f", {}, errors)
    except ConfigErrors as stopped:
        errors = stopped.errors
    return [(error.line, error.column, error.reason) for error in errors]


@pytest.mark.parametrize(
    "text", ["on", "off", "yes", "no", "y", "010", "0x10", "0o7", "12:30", "1_000", "2001-01-01", ".inf", ".nan", "-"]
)
def test_yaml_1_1_surprises_are_text(text: str) -> None:
    assert plain_value(text) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [("", None), ("~", None), ("null", None), ("true", True), ("FALSE", False), ("-3", -3), ("1.5", 1.5), ("1e3", 1e3)],
)
def test_plain_scalars(text: str, value: object) -> None:
    found = plain_value(text)
    assert found == value
    assert type(found) is type(value)


def test_a_number_too_long_to_be_one_is_text() -> None:
    assert plain_value("9" * 5000) == "9" * 5000


def test_quotes_and_blocks_make_text() -> None:
    assert read("a: '1'\nb: \"true\"\nc: |\n  2\n") == {"a": "1", "b": "true", "c": "2\n"}


def test_keys_are_text_whatever_they_look_like() -> None:
    assert read("on: 1\n5: 2\nnull: 3\n") == {"on": 1, "5": 2, "null": 3}


def test_a_plain_scalar_is_typed_after_its_variables() -> None:
    assert read("a: ${N}\nb: '${N}'\nc: ${M:-x}\nd: ${M:-}", {"N": "3"}) == {"a": 3, "b": "3", "c": "x", "d": None}


def test_variables_stand_inside_flow_collections() -> None:
    text = "{a: ${H:-h}:${P:-80}, b: [${X:-1, 2 # 3}, ${N}]}"
    assert read(text, {"N": "3"}) == {"a": "h:80", "b": ["1, 2 # 3", 3]}


def test_aliases_share_a_value() -> None:
    assert read("a: &x {k: [1]}\nb: *x") == {"a": {"k": [1]}, "b": {"k": [1]}}


def test_aliases_do_not_expand_without_bound() -> None:
    levels = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    ((line, _, reason),) = refused("\n".join(levels))
    assert "aliases expanded" in reason
    assert line <= 7


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("a: 1\nb: 2\na: 3", [(3, 1)]),
        ("a: !!python/object:os.system x", [(1, 4)]),
        ("a: ! x", [(1, 4)]),
        ("a: &x [*x]", [(1, 8)]),
        ("a: *nobody", [(1, 4)]),
        ("<<: {a: 1}", [(1, 1)]),
        ("? [a]\n: b", [(1, 3)]),
        ("a: 1\n--- \nb: 2", [(2, 1)]),
        ("a: ${X}\nb: ${Y}", [(1, 4), (2, 4)]),
        ("a: b: c", [(1, 5)]),
        ("ä: \x01", [(1, 4)]),
        ("a:\n\t- b", [(2, 1)]),
    ],
)
def test_what_is_refused_has_its_place(text: str, places: list[tuple[int, int]]) -> None:
    assert [(line, column) for line, column, _ in refused(text)] == places


def test_nesting_is_bounded() -> None:
    assert read("[" * (MAX_DEPTH - 1) + "1" + "]" * (MAX_DEPTH - 1)) is not None
    ((_, _, reason),) = refused("[" * 1000)
    assert "deep" in reason


def test_nesting_through_aliases_is_bounded_too() -> None:
    text = "\n".join(["- &a0 [1]", *(f"- &a{n} [*a{n - 1}]" for n in range(1, MAX_DEPTH))])
    ((_, _, reason),) = refused(text)
    assert "deep" in reason
