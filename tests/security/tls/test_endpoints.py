"""TLS to endpoints: whom we trust, and what our clients are told when that fails."""

import asyncio
import socket
import ssl
import threading
from typing import Any

import aiohttp
import grpc
import pytest

from tests.interop import grpc_calls
from tests.interop.setups import QUICK, config, session
from tests.security.tls.setups import NAME, cluster_tls, counted, threaded_server
from tests.support import faults
from tests.support.authority import DAY, Authority, Identity
from tests.support.fault_server import FaultServer, silent_port
from tests.support.sidecar import running

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
UNREACHED = "no endpoint could be reached: "


def yaml(endpoint: str, tls: dict[str, Any], **cluster: Any) -> str:
    return config([endpoint], {"tls": tls, "retry": dict(QUICK), **cluster})


async def told(response: aiohttp.ClientResponse) -> tuple[int, str, str]:
    """Status, reason and words of a reply of ours."""
    return response.status, response.headers["x-sidecar-error"], (await response.json())["message"]


WRONG = {
    # What the server shows, or we want: what is counted, what the client is told.
    "authority": ("unknown_ca", "its certificate is of an authority that is not trusted"),
    "same name": ("unknown_ca", "its certificate is of an authority that is not trusted"),
    "name": ("wrong_name", "its certificate is for another name"),
    "address": ("wrong_name", "its certificate is for another name"),
    "san": ("wrong_name", "its certificate is for another name"),
    "expired": ("expired", "its certificate has expired"),
    "tomorrow": ("not_yet_valid", "its certificate is not valid yet"),
    "system": ("unknown_ca", "its certificate is of an authority that is not trusted"),
}


@pytest.mark.parametrize("protocol", ["http1", "http2"])
@pytest.mark.parametrize("wrong", WRONG)
async def test_a_server_that_is_not_trusted_gets_nothing_and_the_client_is_told_why(
    authority: Authority, stranger: Authority, tmp_path_factory: pytest.TempPathFactory, wrong: str, protocol: str
) -> None:
    shown = {
        "authority": lambda: stranger.issue(NAME),
        # Another authority that calls itself like ours.
        "same name": lambda: Authority(tmp_path_factory.mktemp("other")).issue(NAME),
        "name": lambda: authority.issue("other.internal", "*.web.internal"),
        "address": lambda: authority.issue("10.0.0.1"),
        "expired": lambda: authority.issue(NAME, begins=-9 * DAY, ends=-DAY),
        "tomorrow": lambda: authority.issue(NAME, begins=DAY, ends=9 * DAY),
    }.get(wrong, lambda: authority.issue(NAME))()
    tls = cluster_tls(authority)
    if wrong == "address":
        tls["server_name"] = ""
    elif wrong == "san":
        tls["sans"] = ["spiffe://td/web", "other.internal"]
    elif wrong == "system":
        del tls["ca"]
    counts, words = WRONG[wrong]
    async with FaultServer(tls=shown.as_server()) as server:
        async with (
            running(yaml(server.address, tls, protocol=protocol)) as app,
            session(app) as client,
            client.post("/", data=b"secret") as response,
        ):
            assert await told(response) == (502, "connect_failed", UNREACHED + words)
            assert counted(app, "upstream") == {counts: 3}  # tries
        assert server.heads == []


async def test_a_grpc_client_is_told_in_its_own_form(authority: Authority, stranger: Authority) -> None:
    async with FaultServer(tls=stranger.issue(NAME).as_server()) as server:
        text = grpc_calls.config(server.address, tls=cluster_tls(authority), retry=dict(QUICK))
        async with running(text) as app, grpc_calls.through(app) as channel:
            outcome = await grpc_calls.unary(channel, "Unary")
            assert outcome.code is grpc.StatusCode.UNAVAILABLE
            assert outcome.details is not None
            assert UNREACHED + WRONG["authority"][1] in outcome.details
            assert not [word for word in grpc_calls.FORBIDDEN_WORDS if word in outcome.details.lower()]


REFUSED = {
    # What we show: what the server's alert says (TLS 1.3, TLS 1.2), and what the client is told.
    "nothing": ("peer_no_certificate", "peer_refused", "it asks for a client certificate"),
    "a stranger's": ("peer_unknown_ca", "peer_unknown_ca", "it does not trust the authority of our certificate"),
    "an expired one": ("peer_expired", "peer_expired", "it says that our certificate has expired"),
}


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("shown", REFUSED)
async def test_a_server_that_does_not_accept_our_certificate(
    authority: Authority, stranger: Authority, shown: str, version: ssl.TLSVersion
) -> None:
    """With TLS 1.3 the handshake is over for us when the server's alert comes. It has
    read nothing: even a POST may be tried again, and the failure has a name."""
    context = authority.issue(NAME).as_server(authority.path, ["http/1.1"])
    context.minimum_version = context.maximum_version = version
    tls = cluster_tls(authority)
    if shown != "nothing":
        mine = stranger.issue("me") if shown == "a stranger's" else authority.issue("me", begins=-9 * DAY, ends=-DAY)
        tls |= {"cert": mine.cert, "key": mine.key}
    on_13, on_12, words = REFUSED[shown]
    reason = on_13 if version is V13 else on_12
    if reason == "peer_refused":
        words = "it refused the TLS handshake"
    with threaded_server(context) as address:
        async with (
            running(yaml(address, tls)) as app,
            session(app) as client,
            client.post("/", data=b"once") as response,
        ):
            assert await told(response) == (502, "connect_failed", UNREACHED + words)
            assert counted(app, "upstream") == {reason: 3}


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("how", ["nonsense", "an alert"])
async def test_what_a_server_has_read_is_not_sent_again_for_what_its_tls_says_then(
    authority: Authority, version: ssl.TLSVersion, how: str
) -> None:
    """Only an alert about our certificate means that it has read nothing: it may have done what it was asked."""
    context = authority.issue(NAME).as_server(alpn=["http/1.1"])
    context.minimum_version = context.maximum_version = version
    ran: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(incoming, outgoing, server_side=True)
            asked = b""
            with sock:
                while b"\r\n\r\n" not in asked:
                    try:
                        asked += tls.read(65536)
                    except ssl.SSLWantReadError:
                        sock.sendall(outgoing.read())
                        incoming.write(sock.recv(65536))
                ran.append(asked.partition(b" ")[0])
                nonsense = b"\x17\x03\x03\x00\x20" + bytes(32)
                if how == "an alert":  # encrypted: what OpenSSL says of nonsense
                    incoming.write(nonsense)
                    with pytest.raises(ssl.SSLError):
                        tls.read(1)
                    nonsense = outgoing.read()
                sock.sendall(nonsense)
                while sock.recv(65536):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        text = yaml(f"127.0.0.1:{listener.getsockname()[1]}", cluster_tls(authority))
        async with running(text) as app, session(app) as client, client.post("/pay") as response:
            assert await told(response) == (502, "reset", "the endpoint went away before it answered")
            assert response.headers["x-sidecar-retry-skipped"] == "not_idempotent"
        listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        thread.join(10)
        assert ran == [b"POST"]


async def test_one_endpoint_that_refuses_us_costs_nobody_an_answer(authority: Authority, stranger: Authority) -> None:
    identity, mine = authority.issue(NAME), authority.issue("me")
    with (
        threaded_server(identity.as_server(stranger.path, ["http/1.1"])) as picky,
        threaded_server(identity.as_server(authority.path, ["http/1.1"])) as well,
    ):
        cluster = {"tls": cluster_tls(authority, cert=mine.cert, key=mine.key), "retry": dict(QUICK)}
        cluster["balance"] = {"policy": "round_robin"}
        async with running(config([picky, well], cluster)) as app, session(app) as client:
            for _ in range(20):
                async with client.post("/", data=b"once") as response:  # not idempotent
                    assert response.status == 200
            assert counted(app, "upstream")["peer_unknown_ca"] >= 1


@pytest.mark.parametrize(
    "sans",
    [["spiffe://td/web"], ["spiffe://td/*"], ["spiffe://other/x", "spiffe://td/web"], "spiffe://td/web"],
)
@pytest.mark.parametrize("protocol", ["http1", "http2"])
async def test_a_server_may_be_known_by_its_spiffe_id(authority: Authority, sans: Any, protocol: str) -> None:
    async with FaultServer(tls=authority.issue("spiffe://td/web").as_server()) as server:
        tls = {"ca": authority.path, "sans": sans}
        async with (
            running(yaml(server.address, tls, protocol=protocol)) as app,
            session(app) as client,
            client.get("/") as response,
        ):
            assert response.status == 200


async def test_a_cut_connection_is_no_end_of_a_body(authority: Authority) -> None:
    """RFC 9112 9.8: without a close_notify nobody knows whether that was all."""
    cut = faults.raw(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhalf of it", end="stall")
    async with FaultServer(then=cut, tls=authority.issue(NAME).as_server()) as server:
        text = yaml(server.address, cluster_tls(authority))
        async with running(text) as app, session(app) as client, client.get("/") as response:
            assert response.status == 200
            assert await response.content.read(4) == b"half"
            server.connections[0].writer.transport.abort()  # a FIN, and no close_notify
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        server.errors.clear()


async def test_a_handshake_that_never_ends(authority: Authority) -> None:
    async with silent_port() as port:
        text = yaml(f"127.0.0.1:{port}", cluster_tls(authority), timeouts={"connect": "50ms"})
        async with running(text) as app, session(app) as client, client.get("/") as response:
            assert await told(response) == (502, "connect_failed", "no endpoint could be reached in time")


async def says_nothing(connection: Any) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("attempts", [1, 2])
async def test_a_server_that_is_silent_in_the_handshake(authority: Authority, attempts: int) -> None:
    async with FaultServer(accepts=(says_nothing,) * attempts) as server:
        retry = {**QUICK, "attempts": attempts}
        text = yaml(server.address, cluster_tls(authority), timeouts={"connect": "50ms"}, retry=retry)
        async with running(text) as app, session(app) as client, client.get("/") as response:
            words = "no endpoint could be reached in time: its TLS handshake took too long"
            assert await told(response) == (502, "connect_failed", words)


async def test_the_words_are_of_the_try_that_was_the_last(authority: Authority, stranger: Authority) -> None:
    """Also where it was the only one."""
    async with FaultServer(tls=stranger.issue(NAME).as_server()) as server:
        text = yaml(server.address, cluster_tls(authority), retry={"attempts": 1})
        async with running(text) as app, session(app) as client:
            async with client.get("/") as response:
                assert await told(response) == (502, "connect_failed", UNREACHED + WRONG["authority"][1])
            (record,) = app.notable.latest(1)
            assert record["why"].endswith(f"connect_failed ({WRONG['authority'][1]})")
            assert record["tries"][0]["detail"] == WRONG["authority"][1]


async def test_a_server_without_http2(authority: Authority) -> None:
    async with FaultServer(tls=authority.issue(NAME).as_server(alpn=["http/1.1"])) as server:
        text = yaml(server.address, cluster_tls(authority), protocol="http2")
        async with running(text) as app, session(app) as client, client.get("/") as response:
            assert await told(response) == (502, "connect_failed", UNREACHED + "it does not speak HTTP/2 over TLS")


async def test_a_server_that_speaks_no_tls(authority: Authority) -> None:
    async with FaultServer(accepts=(answers_anything,) * 3) as server:
        text = yaml(server.address, cluster_tls(authority))
        async with running(text) as app, session(app) as client, client.get("/") as response:
            assert await told(response) == (502, "connect_failed", UNREACHED + "it does not speak TLS")


async def answers_anything(connection: Any) -> None:
    connection.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
    await connection.flush()


async def test_the_words_go_when_the_trouble_is_over(authority: Authority, stranger: Authority) -> None:
    web: Identity = stranger.issue(NAME)
    server = FaultServer(tls=web.as_server())
    async with server:
        breaker = {"consecutive": 0, "min_requests": 100}
        text = yaml(server.address, cluster_tls(authority), breaker=breaker)
        async with running(text) as app, session(app) as client:
            async with client.get("/") as response:
                assert (await told(response))[2] == UNREACHED + WRONG["authority"][1]
            endpoint = app.runtime.snapshot.clusters["web"].endpoints[0]
            assert endpoint.trouble
            await server.stop()
            async with FaultServer(port=server.port, tls=authority.issue(NAME).as_server()):
                async with client.get("/") as response:
                    assert response.status == 200
                assert endpoint.trouble == ""
            async with client.get("/") as response:
                assert (await told(response))[2] == UNREACHED + "it takes no connections"


@pytest.mark.parametrize("protocol", ["http1", "http2"])
@pytest.mark.parametrize("wanted", ["spiffe://td/other", "spiffe://td/web"])
async def test_a_health_check_is_made_with_the_same_trust(authority: Authority, protocol: str, wanted: str) -> None:
    """By SPIFFE ID too, which aiohttp knows nothing of."""
    async with FaultServer(tls=authority.issue("spiffe://td/web").as_server()) as server:
        check = {"http": {"path": "/"}, "interval": "20ms", "rise": 1, "fall": 1}
        tls = {"ca": authority.path, "sans": [wanted]}
        async with running(yaml(server.address, tls, protocol=protocol, health_check=check)) as app:
            endpoint = app.runtime.snapshot.clusters["web"].endpoints[0]
            if wanted == "spiffe://td/web":
                await server.until(lambda server: len(server.heads) >= 3)
                assert endpoint.healthy
            else:
                await grpc_calls.eventually(lambda: not endpoint.healthy, "is found out")
                assert server.heads == []
