"""Mutual TLS between two sidecars: SPIFFE IDs, files from any authority, nothing else to set up."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import yaml

from sidecar.app import App
from tests.interop import grpc_calls
from tests.interop.setups import session
from tests.security.tls.setups import counted
from tests.support.authority import Authority, Identity
from tests.support.fault_server import FaultServer
from tests.support.grpc_service import GrpcService
from tests.support.http_service import HttpService, pattern
from tests.support.sidecar import running

SHOP, BANK = "spiffe://example.org/ns/prod/sa/shop", "spiffe://example.org/ns/prod/sa/bank"


def inbound(service: str, mine: Identity, ca: str, *callers: str) -> str:
    """The sidecar beside the service that is called: TLS in front of it, for these callers."""
    tls = {"cert": mine.cert, "key": mine.key, "client_ca": ca}
    listener = {"bind": "127.0.0.1:0", "tls": tls, "clients": {"san": list(callers)}, "routes": [{"to": "app"}]}
    return _yaml(clusters={"app": {"endpoints": [service]}}, listeners={"in": listener})


def outbound(bank: Any, mine: Identity, ca: str, *expected: str, **cluster: Any) -> str:
    """The sidecar beside the caller: plain text in, TLS out, to whoever is `expected`."""
    tls = {"ca": ca, "cert": mine.cert, "key": mine.key, "sans": list(expected)}
    cluster = {"endpoints": [str(bank)], "tls": tls, "retry": {"backoff": {"base": "1ms", "max": "1ms"}}, **cluster}
    return _yaml(clusters={"bank": {"listen": "127.0.0.1:0", **cluster}})


def _yaml(**sections: Any) -> str:
    return yaml.safe_dump({"service": "test", "admin": {"bind": "127.0.0.1:0"}, **sections})


@asynccontextmanager
async def pair(service: str, authority: Authority, caller: str = SHOP) -> AsyncIterator[tuple[App, App]]:
    """The caller's sidecar and the one that is called, which lets `caller` in."""
    shop, bank = authority.issue(SHOP), authority.issue(BANK)
    async with (
        running(inbound(service, bank, authority.path, caller)) as there,
        running(outbound(there.address("in"), shop, authority.path, BANK)) as here,
    ):
        yield here, there


async def test_http_both_ways(http_service: HttpService, authority: Authority) -> None:
    async with pair(http_service.address, authority) as (here, _), session(here, "bank") as client:
        for _ in range(3):
            async with client.post("/echo/raw", data=pattern(50_000)) as response:
                assert (response.status, await response.read()) == (200, pattern(50_000))
        assert here.runtime.connections["upstream", "http1"] == 1


async def test_grpc_streams(grpc_service: GrpcService, authority: Authority) -> None:
    async with (
        pair(grpc_service.address, authority) as (here, _),
        grpc_calls.channel_to(here.address("bank")) as channel,
    ):
        assert (await grpc_calls.unary(channel, "Unary", b"m")).messages == (b"m",)
        assert len((await grpc_calls.streamed(channel, "ServerStream", b"m")).messages) == 3
        assert here.runtime.connections["upstream", "http2"] == 1


async def test_a_grpc_caller_that_is_not_let_in(grpc_service: GrpcService, authority: Authority) -> None:
    async with (
        pair(grpc_service.address, authority, "spiffe://example.org/other") as (here, _),
        grpc_calls.channel_to(here.address("bank")) as channel,
    ):
        outcome = await grpc_calls.unary(channel, "Unary", b"m")
        assert outcome.code is grpc.StatusCode.PERMISSION_DENIED
        assert outcome.trailer("x-sidecar-error") == "forbidden"


async def test_a_stream_goes_on_while_the_certificates_below_it_are_replaced(
    grpc_service: GrpcService, authority: Authority
) -> None:
    shop, bank = authority.issue(SHOP, file="shop"), authority.issue(BANK, file="bank")
    async with (
        running(inbound(grpc_service.address, bank, authority.path, SHOP)) as there,
        running(outbound(there.address("in"), shop, authority.path, BANK)) as here,
        grpc_calls.channel_to(here.address("bank")) as channel,
    ):
        call = grpc_calls.bidi(channel)
        for number in range(3):
            message = b"message %d" % number
            await call.write(message)
            assert await call.read() == message
            for identity, name in ((shop, SHOP), (bank, BANK)):
                _replace(identity, authority.issue_pem(name))
            for app in (here, there):
                await app.reload()
        assert (await grpc_calls.unary(channel, "Unary", b"m")).messages == (b"m",)
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK
        assert here.runtime.connections["upstream", "http2"] == 1


async def refusal(here: App) -> tuple[int, str, str]:
    async with session(here, "bank") as client, client.get("/") as response:
        message = (await response.json())["message"]
        return response.status, response.headers["x-sidecar-error"], message


async def test_whoever_is_not_expected_is_told_so(
    upstream: FaultServer, authority: Authority, stranger: Authority
) -> None:
    shop, bank = authority.issue(SHOP), authority.issue(BANK)
    other = authority.issue("spiffe://example.org/ns/dev/sa/shop")
    foreign = stranger.issue(SHOP)
    ca = authority.path
    async with running(inbound(upstream.address, bank, ca, "spiffe://example.org/ns/prod/*")) as there:
        address = there.address("in")
        # The right authority and another name: let in by TLS, turned away by `clients`.
        async with running(outbound(address, other, ca, BANK)) as here:
            assert await refusal(here) == (403, "forbidden", "this client may not come in here")
        # Another authority: turned away by TLS, and both sides know why.
        async with running(outbound(address, foreign, ca, BANK)) as here:
            words = "no endpoint could be reached: it does not trust the authority of our certificate"
            assert await refusal(here) == (502, "connect_failed", words)
            assert counted(here, "upstream") == {"peer_unknown_ca": 3}
            assert counted(there, "downstream") == {"unknown_ca": 3}
        # A server that is somebody else.
        async with running(outbound(address, shop, ca, "spiffe://example.org/ns/prod/sa/vault")) as here:
            words = "no endpoint could be reached: its certificate is for another name"
            assert await refusal(here) == (502, "connect_failed", words)
            # Which that server is told, though its handshakes had nothing else against it.
            assert counted(here, "upstream") == {"wrong_name": 3}
            assert counted(there, "downstream") == {"unknown_ca": 3, "peer_bad_certificate": 3}
    assert upstream.heads == []


async def test_an_authority_that_is_replaced_step_by_step(
    upstream: FaultServer, authority: Authority, stranger: Authority
) -> None:
    """Old; both; new certificates; new. No step needs a restart, none fails a request."""
    shop, bank = authority.issue(SHOP, file="shop"), authority.issue(BANK, file="bank")
    bundle = authority.folder / "bundle.pem"
    bundle.write_bytes(authority.pem)
    ca = str(bundle)
    async with (
        running(inbound(upstream.address, bank, ca, SHOP)) as there,
        running(outbound(there.address("in"), shop, ca, BANK)) as here,
    ):

        async def step() -> None:
            for app in (here, there):
                await app.reload()  # reads changed files at once
            here.runtime.snapshot.clusters["bank"].reconnect()
            async with session(here, "bank") as client, client.get("/") as response:
                assert response.status == 200

        await step()
        bundle.write_bytes(authority.pem + stranger.pem)
        await step()
        _replace(shop, stranger.issue_pem(SHOP))
        await step()
        _replace(bank, stranger.issue_pem(BANK))
        await step()
        bundle.write_bytes(stranger.pem)
        await step()
        assert not any(here.runtime.tls.errors.values())
        assert not any(there.runtime.tls.errors.values())
        # What the old authority vouches for is not let in any more.
        old = authority.issue(SHOP)
        async with running(outbound(there.address("in"), old, ca, BANK)) as stale:
            assert (await refusal(stale))[0] == 502
        assert counted(there, "downstream") == {"unknown_ca": 3}


def _replace(identity: Identity, pair: tuple[bytes, bytes]) -> None:
    Path(identity.cert).write_bytes(pair[0])
    Path(identity.key).write_bytes(pair[1])
