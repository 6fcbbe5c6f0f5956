import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config import units
from sidecar.config.units import BadValueError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("2s", 2.0), ("5m", 300.0), ("1h", 3600.0), ("1m30s", 90.0), ("1.5s", 1.5), ("0s", 0.0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize("zero", [0, 0.0, "0"])
def test_zero_needs_no_unit(zero: object) -> None:
    assert units.parse_duration(zero) == 0.0


@pytest.mark.parametrize("number", [5, 0.5, "5"])
def test_a_bare_number_is_told_its_unit(number: object) -> None:
    with pytest.raises(BadValueError) as caught:
        units.parse_duration(number)
    assert caught.value.hint == f"write {number}s"


@pytest.mark.parametrize("bad", ["", "s", "5 s", "-1s", "5d", "1s2", "٣s", "1e3s", None, True, [], "9" * 400 + "s"])
def test_what_is_no_duration(bad: object) -> None:
    with pytest.raises(BadValueError):
        units.parse_duration(bad)


def test_longer_than_a_year_is_a_slip() -> None:
    with pytest.raises(BadValueError, match="year"):
        units.parse_duration("9000h")


def test_null_is_no_timeout_and_only_that() -> None:
    assert units.parse_timeout(None) == 0.0
    with pytest.raises(BadValueError):
        units.parse_positive_duration("0s")


@pytest.mark.parametrize(
    ("text", "size"), [("256KiB", 262144), ("1MiB", 1 << 20), ("2GiB", 2 << 30), ("7B", 7), ("12", 12), (12, 12)]
)
def test_sizes(text: object, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize(("near", "hint"), [("1MB", "write 1MiB"), ("1 kib", "write 1KiB"), ("3k", "write 3KiB")])
def test_a_near_miss_of_a_size_is_told(near: str, hint: str) -> None:
    with pytest.raises(BadValueError) as caught:
        units.parse_size(near)
    assert caught.value.hint == hint


@pytest.mark.parametrize("bad", ["", "-1", "1.5MiB", True, None, 1.5, "9" * 15 + "GiB"])
def test_what_is_no_size(bad: object) -> None:
    with pytest.raises(BadValueError):
        units.parse_size(bad)


@given(st.integers(0, 366 * 24 * 3600 * 1000))
def test_a_duration_survives_being_written_and_read(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert units.parse_duration(units.format_duration(seconds)) == seconds


@given(st.integers(0, 1 << 50))
def test_a_size_survives_being_written_and_read(size: int) -> None:
    assert units.parse_size(units.format_size(size)) == size
