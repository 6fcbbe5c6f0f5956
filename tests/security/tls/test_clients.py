"""Who may come in: `clients` on listeners and routes, by certificate and by address."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from tests.interop import grpc_calls
from tests.interop.setups import config, session
from tests.security.tls.setups import NAME, listener_tls, secure
from tests.support.authority import Authority, Identity
from tests.support.fault_server import FaultServer
from tests.support.grpc_service import GrpcService
from tests.support.sidecar import running

# What a certificate holds, and whether `san: [spiffe://td/ns/*, web.internal, "*.ops.internal"]` takes it.
PATTERNS = ["spiffe://td/ns/*", "web.internal", "*.ops.internal"]
SHOWN = [
    (("spiffe://td/ns/a",), True),
    (("spiffe://td/other/a",), False),
    (("spiffe://td.evil.example/ns/a",), False),
    (("web.internal",), True),
    (("a.b.ops.internal", "x"), True),
    (("ops.internal",), False),
    (("10.0.0.1",), False),
    ((), False),
]


def with_clients(endpoint: str, clients: dict[str, Any] | None, tls: dict[str, Any] | None, **listener: Any) -> str:
    section = {**({"clients": clients} if clients else {}), **({"tls": tls} if tls else {}), **listener}
    return config([endpoint], None, section)


@pytest.fixture
def tls(web: Identity, authority: Authority) -> dict[str, Any]:
    return listener_tls(web, client_ca=authority.path, client_certificate="optional")


@pytest.mark.parametrize(("names", "comes_in"), SHOWN)
@pytest.mark.parametrize("where", ["listener", "route"])
async def test_the_names_in_a_certificate(
    upstream: FaultServer,
    authority: Authority,
    tls: dict[str, Any],
    names: tuple[str, ...],
    comes_in: bool,
    where: str,
) -> None:
    clients = {"san": PATTERNS}
    if where == "listener":
        text = with_clients(upstream.address, clients, tls)
    else:
        text = with_clients(upstream.address, None, tls, routes=[{"to": "web", "clients": clients}])
    shown = authority.as_client(authority.issue(*names))
    async with running(text) as app, secure(app, shown) as client, client.get("/") as response:
        if comes_in:
            assert response.status == 200
        else:
            assert (response.status, response.headers["x-sidecar-error"]) == (403, "forbidden")
            assert await response.json() == {
                "error": "forbidden",
                "message": "this client may not come in here",
                "cluster": "",
                "attempts": 0,
            }
        assert len(upstream.heads) == int(comes_in)


async def test_nobody_without_a_certificate(upstream: FaultServer, authority: Authority, tls: dict[str, Any]) -> None:
    text = with_clients(upstream.address, {"san": ["web.internal"]}, tls)
    async with running(text) as app, secure(app, authority.as_client()) as client, client.get("/") as response:
        assert response.status == 403
    assert upstream.heads == []


async def test_routes_beside_each_other(upstream: FaultServer, authority: Authority, tls: dict[str, Any]) -> None:
    routes = [
        {"match": {"prefix": "/admin"}, "to": "web", "clients": {"san": ["spiffe://td/ops"]}},
        {"match": {"prefix": "/fixed"}, "respond": {"body": "fixed"}, "clients": {"san": ["spiffe://td/ops"]}},
        {"match": {"prefix": "/open"}, "to": "web"},
    ]
    text = with_clients(upstream.address, {"san": ["spiffe://td/*"]}, tls, routes=routes)
    seen: dict[str, list[int]] = {}
    async with running(text) as app:
        for name in ("spiffe://td/ops", "spiffe://td/web", "spiffe://other/web"):
            async with secure(app, authority.as_client(authority.issue(name))) as client:
                for path in ("/admin", "/fixed", "/open", "/nowhere"):
                    async with client.get(path) as response:
                        seen.setdefault(name, []).append(response.status)
        async with session(app, "admin") as client, client.get("/metrics") as response:
            metrics = await response.text()
    assert seen == {
        "spiffe://td/ops": [200, 200, 200, 404],
        "spiffe://td/web": [403, 403, 200, 404],
        "spiffe://other/web": [403, 403, 403, 403],  # not even what there is
    }
    assert 'sidecar_local_replies_total{cluster="",reason="forbidden"} 6.0' in metrics
    assert 'sidecar_local_replies_total{cluster="",reason="no_route"} 2.0' in metrics


async def test_grpc_is_refused_in_its_own_form(
    grpc_service: GrpcService, authority: Authority, tls: dict[str, Any]
) -> None:
    clients = {"san": ["spiffe://td/web"]}
    async with running(grpc_calls.config(grpc_service.address, listener={"tls": tls, "clients": clients})) as app:
        for name, code in (
            ("spiffe://td/web", grpc.StatusCode.OK),
            ("spiffe://td/x", grpc.StatusCode.PERMISSION_DENIED),
        ):
            mine = authority.issue(name)
            key, cert = Path(mine.key).read_bytes(), Path(mine.cert).read_bytes()
            credentials = grpc.ssl_channel_credentials(authority.pem, key, cert)
            options = (("grpc.ssl_target_name_override", NAME), ("grpc.use_local_subchannel_pool", 1))
            async with grpc.aio.secure_channel(str(app.address("out")), credentials, options=options) as channel:
                outcome = await grpc_calls.unary(channel, "Unary", b"m")
                assert outcome.code is code
                if code is not grpc.StatusCode.OK:
                    assert outcome.trailer("x-sidecar-error") == "forbidden"


@pytest.mark.parametrize(
    ("bind", "cidr", "comes_in"),
    [
        ("127.0.0.1:0", ["127.0.0.0/8"], True),
        ("127.0.0.1:0", ["10.0.0.0/8", "127.0.0.1"], True),
        ("127.0.0.1:0", ["10.0.0.0/8", "::/0"], False),
        # A client over IPv4 on a socket for both is known by its IPv4 address.
        ("[::]:0", ["127.0.0.0/8"], True),
        ("[::]:0", ["::/0"], False),
        ("[::1]:0", ["::1"], True),
        ("[::1]:0", ["0.0.0.0/0"], False),
    ],
)
@pytest.mark.parametrize("where", ["listener", "route"])
async def test_where_a_client_comes_from(
    upstream: FaultServer, bind: str, cidr: list[str], comes_in: bool, where: str
) -> None:
    clients = {"cidr": cidr}
    routes = [{"to": "web", **({"clients": clients} if where == "route" else {})}]
    text = with_clients(upstream.address, clients if where == "listener" else None, None, bind=bind, routes=routes)
    async with running(text) as app, aiohttp.ClientSession() as client:
        host = "[::1]" if bind == "[::1]:0" else "127.0.0.1"
        url = f"http://{host}:{app.address('out').port}/"
        if comes_in:
            async with client.get(url) as response:
                assert response.status == 200
        elif where == "route":
            async with client.get(url) as response:
                assert (response.status, response.headers["x-sidecar-error"]) == (403, "forbidden")
        else:
            with pytest.raises(aiohttp.ClientError):
                await client.get(url)
            assert app.runtime.tls.kept_out["out"] >= 1
    assert len(upstream.heads) == int(comes_in)


async def test_a_stranger_by_address_gets_no_handshake(
    upstream: FaultServer, web: Identity, authority: Authority
) -> None:
    text = with_clients(upstream.address, {"cidr": "10.0.0.0/8"}, listener_tls(web))
    async with running(text) as app:
        warnings: list[tuple[str, dict[str, Any]]] = []
        app.runtime.tls.on_warning = lambda event, fields: warnings.append((event, fields))
        address = app.address("out")
        for _ in range(5):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            assert await reader.read() == b""
            writer.close()
        assert app.runtime.tls.kept_out == {"out": 5}
        assert not any(app.runtime.tls.errors.values())
        assert app.listeners["out"].connections == set()
        assert [event for event, _ in warnings] == ["client_kept_out"]


@pytest.mark.parametrize(
    ("cidr", "name", "status"),
    [("127.0.0.0/8", "web.internal", 200), ("127.0.0.0/8", "other.internal", 403)],
)
async def test_both_have_to_hold(
    upstream: FaultServer, authority: Authority, tls: dict[str, Any], cidr: str, name: str, status: int
) -> None:
    text = with_clients(upstream.address, {"cidr": [cidr], "san": ["web.internal"]}, tls)
    shown = authority.as_client(authority.issue(name))
    async with running(text) as app, secure(app, shown) as client, client.get("/") as response:
        assert response.status == status


async def test_a_reload_is_for_connections_that_are_open_too(
    upstream: FaultServer, authority: Authority, tls: dict[str, Any]
) -> None:
    def text(san: str) -> str:
        return with_clients(upstream.address, {"san": [san]}, tls)

    async with (
        running(text("web.internal")) as app,
        secure(app, authority.as_client(authority.issue("web.internal"))) as client,
    ):
        for san, status in (("web.internal", 200), ("other.internal", 403), ("*.internal", 200)):
            Path(app.path).write_text(text(san))
            await app.reload()
            async with client.get("/") as response:
                assert response.status == status
                await response.read()
    assert len(upstream.heads) == 2


async def test_forward_mode_keeps_strangers_from_hosts_and_routes(
    upstream: FaultServer, authority: Authority, tls: dict[str, Any]
) -> None:
    """Neither a CONNECT that would be looked into, nor one that is passed on, nor a plain request."""
    forward = {
        "mode": "forward",
        "allow": ["127.0.0.1"],
        "routes": [{"match": {"host": ["web.internal"]}, "to": "web"}],
    }
    text = with_clients(upstream.address, {"san": ["spiffe://td/web"]}, tls, **forward)
    asked = [
        b"CONNECT web.internal:80 HTTP/1.1\r\nhost: web.internal:80\r\n\r\n",
        f"CONNECT {upstream.address} HTTP/1.1\r\nhost: {upstream.address}\r\n\r\n".encode(),
        f"GET http://{upstream.address}/ HTTP/1.1\r\nhost: {upstream.address}\r\n\r\n".encode(),
        b"GET http://web.internal/ HTTP/1.1\r\nhost: web.internal\r\n\r\n",
    ]
    async with running(text) as app:
        address = app.address("out")
        for name, status in (("spiffe://td/web", b"200"), ("spiffe://td/x", b"403")):
            context = authority.as_client(authority.issue(name))
            for request in asked:
                reader, writer = await asyncio.open_connection(
                    address.host, address.port, ssl=context, server_hostname=NAME
                )
                writer.write(request)
                assert (await reader.readline()).split()[1] == status, (name, request)
                writer.transport.abort()
    upstream.errors.clear()


async def test_the_access_log_says_who_was_refused(
    upstream: FaultServer, authority: Authority, tls: dict[str, Any], tmp_path: Path
) -> None:
    routes = [{"to": "web", "clients": {"san": "spiffe://td/a"}}]
    text = config([upstream.address], None, {"routes": routes, "tls": tls}, access_log=str(tmp_path / "log"))
    async with running(text) as app:
        for identity in (authority.issue("spiffe://td/b", "b.internal", "10.0.0.1"), None):
            async with secure(app, authority.as_client(identity)) as client, client.get("/") as response:
                assert response.status == 403
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["client"] for line in lines] == [["spiffe://td/b", "b.internal"], None]
    assert {(line["status"], line["failure"], line["route"]) for line in lines} == {(403, "forbidden", "out[0]")}
    assert all(line["peer"].startswith("127.0.0.1:") for line in lines)
