"""The same on the event loop that `sidecar run` uses: door, handshake, names, and what is refused."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
import uvloop

from sidecar.app import App
from sidecar.identity.errors import reason_of
from tests.interop.setups import config
from tests.security.tls.setups import NAME, cluster_tls, counted, handshake_error, listener_tls
from tests.support import faults, streams
from tests.support.authority import Authority, Identity
from tests.support.fault_server import FaultServer
from tests.support.http_service import pattern


async def asked(app: App, context: ssl.SSLContext | None, method: str = "GET", body: bytes = b"") -> bytes:
    """The whole answer to one request; b"" when the connection is closed without a word. One that is
    reset behind its last word, as we answer its close, has said it all the same."""
    address = app.address("out")
    options: dict[str, Any] = {} if context is None else {"ssl": context, "server_hostname": NAME}
    reader, writer = await streams.connect(address.host, address.port, **options)
    head = f"{method} / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    try:
        return await reader.read()
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(
    ("cidr", "shown", "status"),
    [
        ("127.0.0.0/8", "web.internal", b"200"),
        ("127.0.0.0/8", "other.internal", b"403"),
        ("10.0.0.0/8", "web.internal", b""),
    ],
)
def test_who_may_come_in(
    authority: Authority, web: Identity, tmp_path: Path, cidr: str, shown: str, status: bytes
) -> None:
    async def main() -> None:
        tls = authority.issue(NAME).as_server()
        async with FaultServer(then=faults.answer(200, pattern(300_000)), tls=tls) as server:
            listener = {
                "tls": listener_tls(web, client_ca=authority.path),
                "clients": {"san": ["web.internal"], "cidr": [cidr]},
            }
            path = tmp_path / "s.yaml"
            path.write_text(config([server.address], {"tls": cluster_tls(authority)}, listener))
            app = App(path)
            await app.start()
            try:
                if not status:
                    address = app.address("out")
                    reader, writer = await asyncio.open_connection(address.host, address.port)
                    assert await reader.read() == b""
                    writer.close()
                    assert app.runtime.tls.kept_out == {"out": 1}
                    return
                mine = authority.as_client(authority.issue(shown))
                answer = await asked(app, mine, "POST", pattern(100_000))
                assert answer.split()[1] == status
                if status == b"200":
                    assert answer.endswith(pattern(300_000))
                    assert server.requests[0].body == pattern(100_000)
                error = await handshake_error(app, authority.as_client())
                assert error is not None
                assert reason_of(error) == "peer_no_certificate"
                assert counted(app, "downstream") == {"no_certificate": 1}
                assert not counted(app, "upstream")
            finally:
                await app.stop()

    uvloop.run(main())
