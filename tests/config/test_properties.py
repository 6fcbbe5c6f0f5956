"""Any text is a Spec or ConfigErrors, never anything else."""

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.config.clusters import ClusterKeys, Retry, Timeouts
from sidecar.config.errors import ConfigErrors
from sidecar.config.listeners import Listener, Match, Route
from sidecar.config.load import load_text
from sidecar.config.mask import masked
from sidecar.config.schema import Spec
from sidecar.config.translate import keys_of

ENV = {"A": "1", "HOST": "db:80", "EMPTY": ""}

FULL = """\
service: ${NAME:-x}
shutdown: 5s
defaults: {retry: {attempts: 2}, tls: null}
clusters:
  u: &u
    endpoints: [a:1, {address: b:2, weight: 3}]
    balance: {policy: ring_hash, key: path}
  v: *u
listeners:
  o:
    bind: 127.0.0.1:0
    routes:
      - match: {host: "*.b", headers: {x: "1"}}
        to: {u: 1, v: 2}
        timeouts: {try: null}
      - respond: {status: 200, body: |
            text
          }
"""


def settles(text: str) -> Spec | None:
    """Load; every error must be on a line of the text and print as one line."""
    try:
        spec = load_text(text, "f", ENV)
    except ConfigErrors as found:
        errors = found.errors
    else:
        assert masked(spec)
        return spec
    assert errors
    for error in errors:
        assert 1 <= error.line <= len(text.split("\n")) + 1
        assert error.column >= 1
        assert error.reason
        assert len(str(error).splitlines()) == 1
    assert errors == sorted(errors, key=lambda error: (error.line, error.column))
    return None


@given(st.text())
def test_any_text(text: str) -> None:
    settles(text)


@given(st.text(alphabet=st.sampled_from("ab:-{}[],&*!|>'\"%@`#? \n\t$1.~<=\\"), max_size=60))
def test_any_text_of_yamls_own_characters(text: str) -> None:
    settles(text)


@given(st.text(alphabet=st.characters()))
def test_any_text_with_surrogates(text: str) -> None:
    settles(text)


@given(st.data())
def test_a_good_file_with_a_piece_cut_out_doubled_or_put_in(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(FULL)))
    end = data.draw(st.integers(start, min(len(FULL), start + 30)))
    piece = data.draw(
        st.sampled_from(["", FULL[start:end] * 2, "${", "null", "- ", "{", "0", "!x ", "\t", "é", "&u ", ":"])
    )
    settles(FULL[:start] + piece + FULL[end:])


_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["a:1", "127.0.0.1:0", "5s", "1KiB", "u", "/x", "${A}", "${NOPE}", "GET", "*.a", "random", "http"]),
)
_SECTIONS = (Spec, ClusterKeys, Retry, Timeouts, Listener, Route, Match)
_OUR_KEYS = sorted({key for section in _SECTIONS for key in keys_of(section)})
_KEYS = st.one_of(st.text(max_size=3), st.sampled_from([*_OUR_KEYS, "u", "http", "set", "request"]))
_TREES = st.recursive(
    _SCALARS, lambda below: st.lists(below, max_size=3) | st.dictionaries(_KEYS, below, max_size=4), max_leaves=15
)


@given(st.dictionaries(st.sampled_from(keys_of(Spec)), st.dictionaries(_KEYS, _TREES, max_size=3) | _TREES))
@settings(max_examples=200)
def test_any_tree_of_our_own_keys(tree: dict[str, object]) -> None:
    settles(yaml.safe_dump(tree, allow_unicode=True))


def test_the_file_that_is_cut_up_is_good() -> None:
    assert settles(FULL.replace("body: |\n            text\n          }", "body: text}")) is not None
