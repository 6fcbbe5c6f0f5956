"""Dates in header fields."""

import pytest

from sidecar.codec.http_date import parse_date


@pytest.mark.parametrize(
    "value", [b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994"]
)
def test_the_three_forms_of_rfc_9110(value: bytes) -> None:
    assert parse_date(value) == 784111777


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"soon",
        b"Sun, 06 Non 1994 08:49:37 GMT",
        b"Sun, 06 Nov 99999999999999999999 08:49:37 GMT",
        b"Sun, 06 Nov 1994 \xff",
        b"1, 2",
        b",",
        b"-",
    ],
)
def test_what_is_no_date(value: bytes) -> None:
    assert parse_date(value) is None
