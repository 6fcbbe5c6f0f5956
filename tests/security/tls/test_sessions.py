"""What stays of a connection: sessions that are resumed, and memory that is given back."""

import asyncio
import gc
import socket
import ssl
import time
from functools import partial

import pytest

from sidecar.app import App
from sidecar.identity.errors import reason_of
from sidecar.wire import listener
from sidecar.wire.tls import has_outlived
from sidecar.wire.tls_layer import TlsLayer
from tests.interop.setups import config, session
from tests.security.tls.setups import NAME, cluster_tls, counted, handshake_error, listener_tls, secure
from tests.support.authority import Authority, Identity
from tests.support.fault_server import FaultServer
from tests.support.sidecar import running

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


async def resumed(app: App, context: ssl.SSLContext, old: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession | None]:
    """One request with a client that offers an old session: whether it was resumed, and the new one."""

    def run() -> tuple[bool, ssl.SSLSession | None]:
        address = app.address("out")
        with (
            socket.create_connection((address.host, address.port), 10) as sock,
            context.wrap_socket(sock, server_hostname=NAME, session=old) as tls,
        ):
            tls.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            answer = b""
            while data := tls.recv(65536):
                answer += data
            if not answer.startswith(b"HTTP/1.1 200"):
                raise ConnectionError("no answer")
            return bool(tls.session_reused), tls.session

    return await asyncio.to_thread(run)


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("mutual", [True, False])
async def test_who_was_verified_once_is_verified_again(
    upstream: FaultServer, web: Identity, authority: Authority, version: ssl.TLSVersion, mutual: bool
) -> None:
    tls = listener_tls(web, **({"client_ca": authority.path} if mutual else {}))
    context = authority.as_client(authority.issue("me"))
    context.minimum_version = context.maximum_version = version
    async with running(config([upstream.address], None, {"tls": tls})) as app:
        first, kept = await resumed(app, context, None)
        again, _ = await resumed(app, context, kept)
        assert first is False
        # TLS 1.2 leaves it to the client, and to the check below.
        assert again is (not mutual or version is V12)


async def test_a_session_does_not_outlive_the_clients_certificate(
    upstream: FaultServer, web: Identity, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = listener_tls(web, client_ca=authority.path)
    context = authority.as_client(authority.issue("me"))
    context.maximum_version = V12
    async with running(config([upstream.address], None, {"tls": tls})) as app:
        _, kept = await resumed(app, context, None)
        later = partial(has_outlived, now=lambda: time.time() + 100 * 86400)
        monkeypatch.setattr(listener, "has_outlived", later)
        with pytest.raises(OSError, match=r".*"):
            await resumed(app, context, kept)
        assert counted(app, "downstream") == {"expired": 1}
    assert len(upstream.requests) == 1


async def test_a_session_ends_with_the_authority_that_it_was_made_under(
    upstream: FaultServer, web: Identity, authority: Authority, stranger: Authority
) -> None:
    bundle = authority.folder / "bundle.pem"
    bundle.write_bytes(authority.pem)
    context = authority.as_client(authority.issue("me"))
    context.maximum_version = V12
    text = config([upstream.address], None, {"tls": listener_tls(web, client_ca=str(bundle))})
    async with running(text) as app:
        _, kept = await resumed(app, context, None)
        assert (await resumed(app, context, kept))[0] is True
        bundle.write_bytes(stranger.pem)
        await app.reload()
        with pytest.raises(ssl.SSLError) as caught:
            await resumed(app, context, kept)
        assert reason_of(caught.value) == "peer_unknown_ca"


async def test_connections_that_are_over_leave_nothing_behind(
    upstream: FaultServer, web: Identity, authority: Authority
) -> None:
    """Not even until the garbage collector comes: OpenSSL's part of one is tens of kilobytes."""
    good, bad = authority.as_client(authority.issue("me")), authority.as_client()
    identity = authority.issue(NAME)
    async with FaultServer(tls=identity.as_server()) as server:
        cluster = {"tls": cluster_tls(authority), "timeouts": {"idle": "1ms"}}
        text = config([server.address], cluster, {"tls": listener_tls(web, client_ca=authority.path)})
        async with running(text) as app:
            gc.collect()
            gc.disable()
            try:
                for _ in range(5):
                    assert await handshake_error(app, good) is None
                    assert await handshake_error(app, bad) is not None
                    async with secure(app, good) as client, client.get("/") as response:
                        await response.read()
                for pool in app.runtime.snapshot.clusters["web"].endpoints[0].pools.values():
                    pool.close()
                for _ in range(20):
                    await asyncio.sleep(0.01)
                    layers = [each for each in gc.get_objects() if type(each) is TlsLayer]
                    if not layers:
                        break
                assert layers == []
            finally:
                gc.enable()


async def test_an_endpoint_over_tls_is_asked_again_on_the_same_connection(authority: Authority) -> None:
    """Also by requests that nobody may repeat: the session tickets of TLS 1.3, which come
    behind the handshake, are no close."""
    async with FaultServer(tls=authority.issue(NAME).as_server()) as server:
        text = config([server.address], {"tls": cluster_tls(authority)})
        async with running(text) as app, session(app) as client:
            for _ in range(10):
                async with client.post("/", data=b"once") as response:
                    assert response.status == 200
            assert len(server.connections) == 1
