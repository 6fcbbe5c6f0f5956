"""Inputs at which an invariant once did not hold, each with what was wrong."""

import pytest

from fuzz import h2_heads
from fuzz.runner import TARGETS, fails
from fuzz.stage import MARK

FINDINGS = {
    "DATA on stream 0 was looked up as a stream, twice in one read": (
        "both_sides",
        "03504f5354202f20485454502f312e310d0a486f73743a610d0a433a0d0a0d0af5f6"
        "0000000807000000000000000000000000000400000000000000000000000101",
    ),
    "an HTTP/1 connection that a CONNECT had taken over kept its timer": (
        "h1_server",
        b"CONNECT a:0 HTTP/1.1\r\nHost:\r\n\r\n".hex(),
    ),
    "a predecessor held itself relieved by a successor that named no listeners": (
        "takeover",
        (b'P{"protocol": 1, "version": "1"}' + MARK + b'{"ready": true}' + MARK + b'{"serving": 5}').hex(),
    ),
    "files that came without a word stayed open": ("takeover", b"PF".hex()),
    "files beside one that is no socket stayed open": (
        "takeover",
        b'CS{"protocol": 1, "version": "1", "sockets": [["", "a"], ["b", "c"]], "more": false}'.hex(),
    ),
    "files beside JSON that nests too deeply stayed open": ("takeover", (b"CF" + b"[" * 8000).hex()),
    "an empty cookie beside another made a value that ends with a space, which HTTP/2 has not": (
        "h2_heads",
        h2_heads.said(0, [*h2_heads.GET, (b"cookie", b"a"), (b"cookie", b"")]).hex(),
    ),
    "zeros before a length made it one that HTTP/1.1 refuses": (
        "h2_heads",
        "033a737461747573f7323030f5f6636f6e74656e742d6c656e677468f730303030303030303030313633383230333637",
    ),
    "an origin that is none was answered with 500": (
        "admin",
        b"\0POST /api/drain HTTP/1.1\r\nHost: localhost\r\nOrigin: http://[\r\n\r\n".hex(),
    ),
    "a field of bytes that are no text was answered with 500": (
        "admin",
        b"\0GET / HTTP/1.1\r\nHost: localhost\r\nExpect: \x80\r\n\r\n".hex(),
    ),
    "what is no request was told which versions of Python and aiohttp read it": ("admin", b"\0nonsense\r\n\r\n".hex()),
    "HTTP/0.9 was spoken by the admin server": ("admin", b"\0POST /api/drain\r\n\r\n".hex()),
    "a reload told the secret in the path of a token's file": (
        "reload",
        b"admin: {token_file: '/nowhere/${TOKEN}'}\nclusters: {}\n".hex(),
    ),
    "whoever may connect could fill the log with traces": (
        "admin",
        b"\0GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\nContent-Encoding: gzip\r\n\r\nxxxxxxxxxxxx".hex(),
    ),
}


@pytest.mark.parametrize("finding", FINDINGS)
def test_what_was_found_holds_now(finding: str) -> None:
    name, data = FINDINGS[finding]
    assert fails(TARGETS[name], bytes.fromhex(data)) is None
