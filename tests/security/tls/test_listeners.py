"""TLS on listeners: what is spoken inside, what is refused at the door, and who is told why."""

import asyncio
import io
import os
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from sidecar.identity.errors import reason_of
from tests.interop import grpc_calls
from tests.interop.setups import admin, config, session
from tests.security.tls.setups import NAME, counted, handshake_error, listener_tls, secure
from tests.support.authority import DAY, Authority, Identity
from tests.support.fault_server import FaultServer
from tests.support.grpc_service import GrpcService
from tests.support.http_service import HttpService, pattern
from tests.support.sidecar import running

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def yaml(endpoint: str, web: Identity, listener: dict[str, Any] | None = None, **tls: Any) -> str:
    return config([endpoint], None, {"tls": listener_tls(web, **tls), **(listener or {})})


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("alpn", [("http/1.1",), ("h2", "http/1.1"), ("unknown",), ()])
async def test_http1_by_alpn_or_by_what_comes(
    upstream: FaultServer, web: Identity, authority: Authority, version: ssl.TLSVersion, alpn: tuple[str, ...]
) -> None:
    context = authority.as_client(alpn=alpn)
    context.minimum_version = context.maximum_version = version
    async with running(yaml(upstream.address, web)) as app:
        address = app.address("out")
        reader, writer = await asyncio.open_connection(
            address.host, address.port, ssl=context, server_hostname=NAME, limit=1 << 20
        )
        chosen = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        assert chosen == {"http/1.1": "http/1.1", "h2": "h2"}.get(alpn[0] if alpn else "")
        if chosen != "h2":
            writer.write(b"GET / HTTP/1.1\r\nhost: web.internal\r\nconnection: close\r\n\r\n")
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 200")
            assert answer.endswith(pattern(1000))
        else:
            await reader.readexactly(9)  # its SETTINGS
        writer.close()
        await writer.wait_closed()


async def test_http2_without_alpn_is_known_by_its_preface(
    upstream: FaultServer, web: Identity, authority: Authority
) -> None:
    async with running(yaml(upstream.address, web)) as app:
        address = app.address("out")
        reader, writer = await asyncio.open_connection(
            address.host, address.port, ssl=authority.as_client(alpn=()), server_hostname=NAME
        )
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        head = await reader.readexactly(9)
        assert head[3] == 4  # SETTINGS
        writer.close()
        await writer.wait_closed()


async def test_bodies_of_8_mib_both_ways(http_service: HttpService, web: Identity, trusting: ssl.SSLContext) -> None:
    big = pattern(8 << 20)
    async with running(yaml(http_service.address, web)) as app, secure(app, trusting) as client:
        async with client.post("/echo/raw", data=io.BytesIO(big)) as response:
            assert await response.read() == big
        for _ in range(3):
            async with client.get("/bytes/100") as response:
                assert len(await response.read()) == 100


async def test_grpc_unary_and_streams(grpc_service: GrpcService, web: Identity, authority: Authority) -> None:
    async with running(grpc_calls.config(grpc_service.address, listener={"tls": listener_tls(web)})) as app:
        options = (("grpc.ssl_target_name_override", NAME), ("grpc.use_local_subchannel_pool", 1))
        credentials = grpc.ssl_channel_credentials(authority.pem)
        async with grpc.aio.secure_channel(str(app.address("out")), credentials, options=options) as channel:
            assert (await grpc_calls.unary(channel, "Unary", b"m")).messages == (b"m",)
            assert len((await grpc_calls.streamed(channel, "ServerStream", b"m")).messages) == 3
            call = grpc_calls.bidi(channel)
            for message in (b"a", b"b" * 100_000):
                await call.write(message)
                assert await call.read() == message
            await call.done_writing()
            assert await call.code() is grpc.StatusCode.OK
        await grpc_calls.quiet(app)


async def test_a_websocket(http_service: HttpService, web: Identity, trusting: ssl.SSLContext) -> None:
    async with (
        running(yaml(http_service.address, web)) as app,
        secure(app, trusting) as client,
        client.ws_connect("/websocket", max_msg_size=0) as socket,
    ):
        await socket.send_bytes(pattern(1 << 20))
        assert await socket.receive_bytes() == pattern(1 << 20)
        await socket.close()
        assert socket.close_code == 1000


async def test_a_redirect_stays_on_https(upstream: FaultServer, web: Identity, trusting: ssl.SSLContext) -> None:
    routes = [{"redirect": {"path": "/new"}}]
    async with (
        running(yaml(upstream.address, web, {"routes": routes})) as app,
        secure(app, trusting) as client,
        client.get("/old", allow_redirects=False) as response,
    ):
        assert response.headers["location"].startswith("https://127.0.0.1:")


async def test_a_proxy_that_is_asked_over_tls(upstream: FaultServer, web: Identity, authority: Authority) -> None:
    """CONNECT inside TLS, plain HTTP inside the tunnel."""
    forward = {"mode": "forward", "routes": [{"match": {"host": ["web.internal"]}, "to": "web"}]}
    async with running(yaml(upstream.address, web, forward)) as app:
        address = app.address("out")
        reader, writer = await asyncio.open_connection(
            address.host, address.port, ssl=authority.as_client(), server_hostname=NAME
        )
        writer.write(b"CONNECT web.internal:80 HTTP/1.1\r\nhost: web.internal:80\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writer.write(b"GET /in HTTP/1.1\r\nhost: web.internal\r\nconnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
        await writer.wait_closed()
    assert [request.path for request in upstream.requests] == ["/in"]


async def test_a_unix_socket(upstream: FaultServer, web: Identity, trusting: ssl.SSLContext, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    async with running(yaml(upstream.address, web, {"bind": f"unix:{path}"})):
        reader, writer = await asyncio.open_unix_connection(path, ssl=trusting, server_hostname=NAME)
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.transport.abort()


async def test_an_early_answer_arrives_over_tls_too(
    upstream: FaultServer, web: Identity, trusting: ssl.SSLContext
) -> None:
    """No route wants the body: it is read and dropped for a while, so that the close
    does not destroy the answer."""
    routes = [{"respond": {"status": 413, "body": "no"}}]
    async with running(yaml(upstream.address, web, {"routes": routes})) as app:
        address = app.address("out")
        reader, writer = await asyncio.open_connection(address.host, address.port, ssl=trusting, server_hostname=NAME)
        writer.write(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10000000\r\n\r\n" + bytes(200_000))
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 413")
        assert answer.endswith(b"no")
        writer.transport.abort()


# What is refused.


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_only_tls_1_2_and_later(upstream: FaultServer, web: Identity, authority: Authority) -> None:
    old = authority.as_client()
    old.set_ciphers("DEFAULT@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    weak = authority.as_client()
    weak.maximum_version = V12
    weak.set_ciphers("ECDHE-ECDSA-AES128-SHA256")  # CBC: RFC 9113 appendix A
    async with running(yaml(upstream.address, web)) as app:
        for context, reason in ((old, "peer_protocol_version"), (weak, "peer_refused")):
            error = await handshake_error(app, context)
            assert error is not None
            assert reason_of(error) == reason
        assert counted(app, "downstream") == {"protocol_version": 1, "no_shared_cipher": 1}
        assert await handshake_error(app, authority.as_client()) is None


async def test_plain_http_on_a_tls_port(upstream: FaultServer, web: Identity, caplog: pytest.LogCaptureFixture) -> None:
    async with running(yaml(upstream.address, web)) as app:
        warnings: list[tuple[str, dict[str, Any]]] = []
        app.runtime.tls.on_warning = lambda event, fields: warnings.append((event, fields))
        for _ in range(20):
            async with session(app) as client:
                with pytest.raises(aiohttp.ClientError):
                    await client.get("/")
        assert counted(app, "downstream")["not_tls"] >= 20
        assert len(warnings) == 1
        event, fields = warnings[0]
        assert (event, fields["listener"], fields["reason"]) == ("tls_handshake_failed", "out", "not_tls")
        assert fields["peer"].startswith("127.0.0.1:")
    assert upstream.heads == []
    assert [record for record in caplog.records if record.exc_info] == []


CASES = {
    # What the client shows: what the server counts, what the client's TLS says of it.
    "nothing": ("no_certificate", "peer_no_certificate"),
    "a stranger's": ("unknown_ca", "peer_unknown_ca"),
    "an expired one": ("expired", "peer_expired"),
    "one of tomorrow": ("not_yet_valid", "peer_bad_certificate"),
}


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("shown", CASES)
async def test_clients_have_to_show_a_good_certificate(
    upstream: FaultServer,
    web: Identity,
    authority: Authority,
    stranger: Authority,
    shown: str,
    version: ssl.TLSVersion,
) -> None:
    identity = {
        "nothing": None,
        "a stranger's": stranger.issue("me"),
        "an expired one": authority.issue("me", begins=-9 * DAY, ends=-DAY),
        "one of tomorrow": authority.issue("me", begins=DAY, ends=9 * DAY),
    }[shown]
    counts, told = CASES[shown]
    if (shown, version) == ("nothing", V12):
        told = "peer_refused"  # TLS 1.2 has no alert of its own for that
    bad, good = authority.as_client(identity), authority.as_client(authority.issue("me"))
    bad.minimum_version = bad.maximum_version = good.minimum_version = good.maximum_version = version
    async with running(yaml(upstream.address, web, client_ca=authority.path)) as app:
        error = await handshake_error(app, bad)
        assert error is not None
        assert reason_of(error) == told
        assert counted(app, "downstream") == {counts: 1}
        assert upstream.heads == []
        assert await handshake_error(app, good) is None


async def test_a_certificate_may_be_optional_but_has_to_be_good(
    upstream: FaultServer, web: Identity, authority: Authority, stranger: Authority
) -> None:
    text = yaml(upstream.address, web, client_ca=authority.path, client_certificate="optional")
    async with running(text) as app:
        assert await handshake_error(app, authority.as_client()) is None
        assert await handshake_error(app, authority.as_client(authority.issue("me"))) is None
        error = await handshake_error(app, authority.as_client(stranger.issue("me")))
        assert error is not None
        assert reason_of(error) == "peer_unknown_ca"


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_handshakes_that_are_slow_are_a_file_each_for_a_while(
    upstream: FaultServer, web: Identity, trusting: ssl.SSLContext
) -> None:
    async with (
        running(yaml(upstream.address, web, handshake_timeout="300ms")) as app,
        secure(app, trusting) as client,
    ):
        address = app.address("out")
        async with client.get("/") as response:
            await response.read()
        before = open_files()
        slow = [await asyncio.open_connection(address.host, address.port) for _ in range(50)]
        for _, writer in slow[::2]:
            writer.write(b"\x16\x03\x01\x02\x00\x01")  # a ClientHello that goes no further
        async with client.get("/") as response:
            assert response.status == 200
        assert open_files() - before <= 2 * 50  # both ends are ours
        for reader, _ in slow:
            assert await reader.read() == b""
        for _, writer in slow:
            writer.close()
        assert counted(app, "downstream") == {"timeout": 50}
        await asyncio.sleep(0)
        assert not [each for each in app.listeners["out"].connections if type(each).__name__ == "TlsLayer"]


async def test_a_drain_ends_connections_over_tls_in_good_order(
    upstream: FaultServer, web: Identity, trusting: ssl.SSLContext
) -> None:
    async with running(yaml(upstream.address, web)) as app, secure(app, trusting) as client:
        async with client.get("/") as response:
            assert response.headers.get("connection") is None
        app.drain()
        async with client.get("/") as response:
            assert response.headers["connection"] == "close"
            assert await response.read() == pattern(1000)


async def test_a_handshake_that_is_under_way_when_the_drain_comes_is_served(
    upstream: FaultServer, web: Identity, trusting: ssl.SSLContext
) -> None:
    async with running(yaml(upstream.address, web)) as app:
        address, listener = app.address("out"), app.listeners["out"]
        reader, writer = await asyncio.open_connection(address.host, address.port)
        await grpc_calls.eventually(lambda: len(listener.connections) == 1, "is accepted")
        app.drain()
        listener.close_idle()
        await writer.start_tls(trusting, server_hostname=NAME)
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer
        writer.transport.abort()


async def test_tls_may_be_put_on_taken_away_and_changed_by_a_reload(
    upstream: FaultServer, web: Identity, authority: Authority, trusting: ssl.SSLContext
) -> None:
    async with running(config([upstream.address])) as app:
        plain = Path(app.path).read_text()
        for text, secured in ((yaml(upstream.address, web), True), (plain, False), (yaml(upstream.address, web), True)):
            Path(app.path).write_text(text)
            assert await app.reload() == []
            if secured:
                async with secure(app, trusting) as client, client.get("/") as response:
                    assert response.status == 200
            else:
                async with session(app) as client, client.get("/") as response:
                    assert response.status == 200


async def test_a_bad_pair_is_told_everywhere_and_the_old_one_serves(
    upstream: FaultServer, web: Identity, authority: Authority, trusting: ssl.SSLContext
) -> None:
    async with running(yaml(upstream.address, web)) as app:
        assert (await admin(app, "/readyz"))["checks"]["certificates"] == {
            "status": "ok",
            "message": "",
            "latency_ms": 0.0,
        }
        Path(web.key).write_bytes(authority.issue_pem(NAME)[1])
        (error,) = await app.reload()  # a configuration with it is refused
        assert error.endswith(f"listeners.out.tls: {web.key}: it is not the key of {web.cert}")
        async with session(app, "admin") as client, client.get("/readyz") as response:
            assert response.status == 200
            check = (await response.json())["checks"]["certificates"]
        reason = f"it is not the key of {web.cert}"
        assert (check["status"], check["message"]) == ("warn", f"{web.key}: {reason}; the one before is still in use")
        (event,) = [each for each in app.events.latest() if each.kind == "certificate"]
        assert event.fields == {"file": web.key, "state": "rejected", "reason": reason}
        async with secure(app, trusting) as client, client.get("/") as response:
            assert response.status == 200
        authority.issue(NAME, "127.0.0.1", file="web")
        assert await app.reload() == []
        assert (await admin(app, "/readyz"))["checks"]["certificates"]["status"] == "ok"
        async with secure(app, trusting) as client, client.get("/") as response:
            assert response.status == 200


async def test_what_there_is_to_see(upstream: FaultServer, web: Identity, authority: Authority) -> None:
    short = authority.issue(NAME, begins=-30 * DAY, ends=3 * DAY, file="short")
    async with running(yaml(upstream.address, short, client_ca=authority.path)) as app:
        ready = await admin(app, "/readyz")
        assert ready["status"] == "ok"
        check = ready["checks"]["certificates"]
        assert check["status"] == "warn"
        assert check["message"].startswith(f"{short.cert}: expires 20")
        async with session(app, "admin") as client, client.get("/metrics") as response:
            lines = (await response.text()).splitlines()
        assert 'sidecar_tls_handshake_errors_total{reason="expired",side="upstream"} 0.0' in lines
        (expiry,) = [line for line in lines if f'{{file="{short.cert}",kind="certificate"}}' in line]
        assert expiry.startswith("sidecar_certificate_expiry_timestamp_seconds")
        assert any(f'{{file="{authority.path}",kind="authorities"}}' in line for line in lines)
        assert 'sidecar_clients_kept_out_total{listener="out"} 0.0' in lines
