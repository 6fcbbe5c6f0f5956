"""Addresses."""

import pytest

from sidecar.model.address import Address


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("users.internal:80", Address("users.internal", 80), "users.internal:80"),
        ("10.0.0.1:0", Address("10.0.0.1", 0), "10.0.0.1:0"),
        ("[::1]:65535", Address("::1", 65535), "[::1]:65535"),
        ("unix:/run/app.sock", Address("", 0, "/run/app.sock"), "unix:/run/app.sock"),
        ("unix:///run/app.sock", Address("", 0, "/run/app.sock"), "unix:/run/app.sock"),
    ],
)
def test_an_address_is_read_and_shown(text: str, address: Address, shown: str) -> None:
    assert Address.parse(text) == address
    assert str(address) == shown
    assert Address.parse(shown) == address


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "host:port"),
        ("users", "host:port"),
        (":80", "host:port"),
        ("unix:", "needs a path"),
        ("::1:80", r"\[::1\]:port"),
        ("[::1:80", r"\[::1\]:port"),
        ("a:", "no port"),
        ("a:http", "no port"),
        ("a:65536", "no port"),
        ("a:-1", "no port"),
        ("a:\u0661", "no port"),
    ],
)
def test_what_is_none_says_why(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Address.parse(text)
