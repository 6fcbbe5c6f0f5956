"""TLS to the endpoints: HTTP/1.1 and HTTP/2 by ALPN, and every way in which trust can fail."""

import io
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.interop.setups import QUICK, config, session
from tests.support import faults
from tests.support.fault_server import FaultServer
from tests.support.http_service import pattern
from tests.support.sidecar import running


@dataclass
class Trust:
    """Two authorities as files, and what a server of the first presents."""

    ca: str
    stranger: str
    server: ssl.SSLContext
    client: str  # certificate and key of a client, in one file


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    folder: Path = tmp_path_factory.mktemp("trust")
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    stranger.cert_pem.write_to_path(folder / "stranger.pem")
    authority.issue_cert("client.internal").private_key_and_cert_chain_pem.write_to_path(folder / "client.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.pem"))
    context.set_alpn_protocols(["h2", "http/1.1"])
    authority.issue_cert("web.internal").configure_cert(context)
    return Trust(str(folder / "ca.pem"), str(folder / "stranger.pem"), context, str(folder / "client.pem"))


@pytest.fixture
async def server(trust: Trust) -> AsyncIterator[FaultServer]:
    async with FaultServer(then=faults.answer(200, pattern(100_000)), tls=trust.server) as server:
        yield server


@pytest.mark.parametrize("protocol", ["http1", "http2"])
async def test_https_endpoints_in_either_version(trust: Trust, server: FaultServer, protocol: str) -> None:
    tls = {"ca": trust.ca, "server_name": "web.internal"}
    cluster = {"protocol": protocol, "tls": tls}
    async with running(config([server.address], cluster)) as app, session(app) as client:
        for _ in range(3):
            async with client.post("/path", data=pattern(50_000)) as response:
                assert (response.status, await response.read()) == (200, pattern(100_000))
    assert {request.stream > 0 for request in server.requests} == {protocol == "http2"}
    assert [request.body for request in server.requests] == [pattern(50_000)] * 3
    assert len(server.connections) == 1


@pytest.mark.parametrize("protocol", ["http1", "http2"])
@pytest.mark.parametrize("wrong", ["authority", "name", "nobody"])
async def test_who_is_not_trusted_is_not_talked_to(
    trust: Trust, server: FaultServer, wrong: str, protocol: str
) -> None:
    tls = {
        "authority": {"ca": trust.stranger, "server_name": "web.internal"},
        "name": {"ca": trust.ca, "server_name": "other.internal"},
        "nobody": {"server_name": "web.internal"},  # the system's authorities alone
    }[wrong]
    cluster = {"protocol": protocol, "tls": tls, "retry": dict(QUICK)}
    async with (
        running(config([server.address], cluster)) as app,
        session(app) as client,
        client.post("/", data=b"secret") as response,
    ):
        assert (response.status, response.headers["x-sidecar-error"]) == (502, "connect_failed")
        assert (await response.json())["attempts"] == 3
    assert server.heads == []


async def test_verify_none_trusts_anybody(trust: Trust, server: FaultServer) -> None:
    cluster = {"tls": {"verify": "none"}}
    async with running(config([server.address], cluster)) as app, session(app) as client, client.get("/") as response:
        assert await response.read() == pattern(100_000)


async def test_plain_http_to_a_tls_port_and_tls_to_a_plain_port(trust: Trust, server: FaultServer) -> None:
    async with (
        running(config([server.address], {"retry": dict(QUICK)})) as app,
        session(app) as client,
        client.get("/") as response,
    ):
        assert (response.status, response.headers["x-sidecar-error"]) == (502, "reset")
    async with FaultServer() as plain:
        cluster = {"tls": {"ca": trust.ca}, "retry": dict(QUICK), "timeouts": {"connect": "100ms"}}
        async with (
            running(config([plain.address], cluster)) as app,
            session(app) as client,
            client.get("/") as response,
        ):
            assert (response.status, response.headers["x-sidecar-error"]) == (502, "connect_failed")
        plain.errors.clear()  # a TLS hello is no HTTP


@pytest.mark.parametrize("known", [True, False])
async def test_a_client_certificate_is_shown_when_there_is_one(trust: Trust, tmp_path: Path, known: bool) -> None:
    authority = trustme.CA()
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=trust.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.issue_cert("web.internal").configure_cert(context)
    tls = {"ca": str(ca), "server_name": "web.internal"}
    if known:
        tls |= {"cert": trust.client, "key": trust.client}
    async with FaultServer(tls=context) as server:
        cluster = {"tls": tls, "retry": dict(QUICK)}
        async with (
            running(config([server.address], cluster)) as app,
            session(app) as client,
            client.get("/") as response,
        ):
            assert response.status == (200 if known else 502)
        assert len(server.requests) == int(known)


async def test_a_body_of_8_mib_over_tls_both_ways(trust: Trust) -> None:
    big = pattern(8 << 20)
    async with FaultServer(then=faults.answer(200, big), tls=trust.server) as server:
        cluster = {"tls": {"ca": trust.ca, "server_name": "web.internal"}}
        async with (
            running(config([server.address], cluster)) as app,
            session(app) as client,
            client.put("/", data=io.BytesIO(big)) as response,
        ):
            assert await response.read() == big
        assert server.requests[0].body == big
