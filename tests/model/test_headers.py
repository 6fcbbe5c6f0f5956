"""Header fields."""

from sidecar.model.headers import Headers, get, get_all, replace, tokens, without

FIELDS: Headers = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]


def test_lookups() -> None:
    assert get(FIELDS, b"a") == b"1"
    assert get(FIELDS, b"c") is None
    assert get_all(FIELDS, b"a") == [b"1", b"3"]
    assert get_all(FIELDS, b"c") == []


def test_changes_are_copies() -> None:
    assert replace(FIELDS, b"a", b"9") == [(b"b", b"2"), (b"a", b"9")]
    assert without(FIELDS, {b"a"}) == [(b"b", b"2")]
    assert FIELDS == [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]


def test_list_fields_over_several_lines() -> None:
    fields = [(b"te", b"Trailers , gzip"), (b"te", b",\t"), (b"te", b"X")]
    assert tokens(fields, b"te") == [b"trailers", b"gzip", b"x"]
