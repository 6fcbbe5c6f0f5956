import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.units import BadValueError
from sidecar.config.variables import shield, substitute, unshield

ENV = {"HOST": "db", "EMPTY": "", "ODD": "${HOST}"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("no variable", "no variable"),
        ("${HOST}:80", "db:80"),
        ("${HOST}${HOST}", "dbdb"),
        ("${NOT_SET:-x y}", "x y"),
        ("${NOT_SET:-}", ""),
        ("${EMPTY}", ""),
        ("${EMPTY:-x}", "x"),
        ("${HOST:-x}", "db"),
        ("$${HOST}", "${HOST}"),
        ("$HOST ^/a$", "$HOST ^/a$"),
        # What is filled in is not looked at again.
        ("${ODD}", "${HOST}"),
    ],
)
def test_filling_in(text: str, filled: str) -> None:
    assert substitute(text, ENV) == filled


@pytest.mark.parametrize("text", ["${NOT_SET}", "${}", "${1}", "${A-B}", "${HOST", "a ${"])
def test_what_cannot_be_filled_in(text: str) -> None:
    with pytest.raises(BadValueError):
        substitute(text, ENV)


@given(st.text(alphabet="${}ab:-, #[]\n\"'\\\ue07b"))
def test_shielding_keeps_every_place_and_comes_off_again(text: str) -> None:
    shielded = shield(text)
    assert [len(line) for line in shielded.split("\n")] == [len(line) for line in text.split("\n")]
    if shielded is not text:
        assert unshield(shielded) == text
