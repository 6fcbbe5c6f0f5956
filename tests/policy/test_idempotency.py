"""What may be repeated although it may have run."""

import pytest

from sidecar.model.head import RequestHead
from sidecar.model.headers import Headers
from sidecar.policy.idempotency import Idempotency, MethodSet


def head(method: str = "POST", path: str = "/x", headers: Headers | None = None) -> RequestHead:
    return RequestHead(method.encode(), path.encode(), b"h", headers or [])


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])
def test_idempotent_by_definition(method: str) -> None:
    assert Idempotency().allows(head(method))


@pytest.mark.parametrize("method", ["POST", "PATCH", "CONNECT", "LOCK", "get"])
def test_everything_else_is_not(method: str) -> None:
    assert not Idempotency().allows(head(method))


def test_a_key_makes_it_so_an_empty_one_does_not() -> None:
    assert Idempotency().allows(head(headers=[(b"idempotency-key", b"k")]))
    assert not Idempotency().allows(head(headers=[(b"idempotency-key", b"")]))


@pytest.mark.parametrize(
    ("entry", "method", "path", "expected"),
    [
        ("POST /search", "POST", "/search", True),
        ("POST /search", "POST", "/search?q=1", True),
        ("POST /search", "POST", "/search/x", False),
        ("POST /search", "PATCH", "/search", False),
        ("post /search", "POST", "/search", True),
        ("POST /search*", "POST", "/search/x", True),
        ("POST /search*", "POST", "/find", False),
        ("PATCH /x", "PATCH", "/x", True),
        ("pkg.Users/Get", "POST", "/pkg.Users/Get", True),
        ("/pkg.Users/Get", "POST", "/pkg.Users/Get", True),
        ("/pkg.Users/Get", "POST", "/pkg.Users/GetAll", False),
        ("pkg.Users/*", "POST", "/pkg.Users/Any", True),
        ("pkg.Users/*", "POST", "/pkg.UsersAdmin/Any", False),
        ("pkg.*", "POST", "/pkg.Users/Any", True),
        ("pkg.*", "POST", "/pkgs.Users/Any", False),
    ],
)
def test_listed(entry: str, method: str, path: str, expected: bool) -> None:
    assert Idempotency([entry]).allows(head(method, path)) is expected


@pytest.mark.parametrize(
    ("entry", "path", "expected"),
    [
        ("pkg.S/M", b"/pkg.S/M", True),
        ("/pkg.S/M", b"/pkg.S/M", True),
        ("pkg.S/M", b"/pkg.S/Mm", False),
        ("pkg.S/*", b"/pkg.S/M", True),
        ("pkg.S/*", b"/pkg.Sx/M", False),
        ("pkg.*", b"/pkg.S/M", True),
    ],
)
def test_method_sets(entry: str, path: bytes, expected: bool) -> None:
    assert (path in MethodSet([entry])) is expected
    assert path not in MethodSet()
