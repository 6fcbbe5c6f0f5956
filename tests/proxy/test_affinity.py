"""Hash keys: the same client, the same key."""

import pytest

from sidecar.model.head import RequestHead
from sidecar.model.headers import Headers
from sidecar.proxy.affinity import key_of


def head(path: str = "/", headers: Headers | None = None) -> RequestHead:
    return RequestHead(b"GET", path.encode(), b"h", headers or [])


USER: Headers = [(b"x-user", b"ann")]


def test_by_header() -> None:
    key = key_of("header:X-User")
    assert key(head(headers=USER), "1.1.1.1:1") == key(head("/other", USER), "2.2.2.2:2")
    assert key(head(headers=USER), "") != key(head(headers=[(b"x-user", b"bob")]), "")


def test_by_cookie_wherever_it_stands() -> None:
    key = key_of("cookie:sid")
    one = key(head(headers=[(b"cookie", b"a=1; sid=7; b=2")]), "")
    assert one == key(head(headers=[(b"cookie", b"a=1"), (b"cookie", b" sid=7")]), "")
    assert one != key(head(headers=[(b"cookie", b"xsid=7; sid=8")]), "")


def test_by_path_without_the_query() -> None:
    key = key_of("path")
    assert key(head("/a?x=1"), "") == key(head("/a?x=2"), "")
    assert key(head("/a"), "") != key(head("/b"), "")


@pytest.mark.parametrize("source", ["source", "header:x-user", "cookie:sid"])
def test_by_the_clients_host_not_its_port(source: str) -> None:
    key = key_of(source)
    assert key(head(), "1.1.1.1:1") == key(head(), "1.1.1.1:2")
    assert key(head(), "1.1.1.1:1") != key(head(), "1.1.1.2:1")


def test_keys_have_64_bits() -> None:
    assert 0 <= key_of("path")(head(), "") < 1 << 64


def test_what_is_no_source() -> None:
    with pytest.raises(ValueError, match="no hash key"):
        key_of("colour")
