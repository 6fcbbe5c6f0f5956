"""Hostile HTTP/1.1 servers: the client gets one answer or an error, and nobody gets another's."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.security.http1.answers import Answer, over_http1, over_http2
from tests.security.http1.hostile import ALL, Hostile
from tests.security.http1.scripted import Script, scripted
from tests.support.sidecar import running

CONFIG = """
admin: {bind: 127.0.0.1:0}
clusters:
  web: {endpoints: ["127.0.0.1:%d"], protocol: http1, retry: {attempts: 1}}
listeners:
  in:
    bind: 127.0.0.1:0
    routes: [{to: web}]
"""
WITHIN = 10.0
# What an endpoint says that does not speak HTTP/1.1, or breaks it: what is noted of it.
NOTED = {
    "a TLS alert": (b"\x15\x03\x01\x00\x02\x02\x46", "it speaks TLS"),
    "SETTINGS of HTTP/2": (bytes.fromhex("000006040000000000000300000064"), "it speaks HTTP/2"),
    "two lengths": (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nokk", "Content-Length"),
    "a long head": (b"HTTP/1.1 200 OK\r\nx: " + bytes(70_000).replace(b"\0", b"x"), "header fields are too large"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n", "Expected HTTP/"),
}
HOP_BY_HOP = {b"keep-alive", b"transfer-encoding", b"upgrade", b"x-a"}

Ask = Callable[[int, bytes], Awaitable[Answer]]


@pytest.mark.parametrize("ask", [over_http1, over_http2], ids=["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize("case", ALL.values(), ids=ALL.keys())
async def test_one_answer_or_an_error(case: Hostile, ask: Ask) -> None:
    async with scripted(case.script) as server, running(CONFIG % server.port) as app:
        port = app.address("in").port
        answer = await ask(port, case.method)
        # HTTP/2 may end a stream before its head was written.
        assert answer.status == case.status or (case.body is answer.body is None and ask is over_http2)
        if case.status == 502:
            assert answer.fields[b"x-sidecar-error"] == b"reset"
        else:
            assert answer.body == case.body
            assert b"x-sidecar-error" not in answer.fields
        assert answer.interim <= 32
        assert b"set-cookie" not in answer.trailers
        if ask is over_http2:
            assert not HOP_BY_HOP & answer.fields.keys()
        first = server.connections[0]
        if case.script.later:
            server.go_on()
        if not case.kept:
            await asyncio.wait_for(first.closed.wait(), WITHIN)
        again = await ask(port, b"GET")
        assert (again.status, again.body) == (200, b"ok")
        assert len(server.connections) == (1 if case.kept else 2)


@pytest.mark.parametrize("case", NOTED)
async def test_what_was_wrong_with_the_answer_is_noted(case: str) -> None:
    said, words = NOTED[case]
    async with scripted(Script(said)) as server, running(CONFIG % server.port) as app:
        answer = await over_http1(app.address("in").port, b"GET")
        assert answer.status == 502
        (record,) = app.notable.latest(1)
        assert record["tries"][0]["failure"] == "protocol_error"
        assert words in record["tries"][0]["detail"]
        assert f"protocol_error ({record['tries'][0]['detail']})" in record["why"]
