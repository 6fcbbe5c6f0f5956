"""Expressions of routes: bytes, whole texts, and nothing that a client could send takes long."""

import pytest

from sidecar.policy.expression import whole


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("/v[0-9]+/.*", b"/v12/users", True),
        ("/v[0-9]+/.*", b"/v12", False),
        ("/a", b"/a/b", False),
        ("/a", b"/x/a", False),
        ("a|ab", b"ab", True),
        ("(?i)/users", b"/USERS", True),
        ("/.", b"/\xff", True),
        ("/.", b"/\n", False),
        ("/\u00e9", b"/\xc3\xa9", True),
        ("/..", b"/\xc3\xa9", True),
        ("", b"", True),
    ],
)
def test_the_whole_text_as_bytes(pattern: str, text: bytes, matches: bool) -> None:
    assert whole(pattern)(text) is matches


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"/(a+)+$", b"/" + b"a" * 40 + b"!"),
        (r"/(a|a)*b", b"/" + b"a" * 16_000),
        (r"/.*/.*/.*/.*x", b"/" * 16_000),
        (r"(.*)*(.*)*(.*)*x", b"a" * 16_000),
        (r"/((a{0,30}){0,30})x", b"/" + b"a" * 16_000),
    ],
)
def test_what_makes_others_try_again_for_years_does_not_match(pattern: str, text: bytes) -> None:
    assert whole(pattern)(text) is False  # that this ends within the test's minute is what is shown


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(", r"missing \)"),
        ("[a", "missing ]"),
        ("(?=a)b", "invalid perl operator"),
        (r"(a)\1", "invalid escape sequence"),
        ("a{1001}", "invalid repetition size"),
        ("((a{0,100}){0,100}){0,100}", "invalid repetition size"),
    ],
)
def test_what_is_none_is_told(pattern: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        whole(pattern)
