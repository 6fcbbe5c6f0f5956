"""The admin API, path by path."""

import socket
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import parser
from yarl import URL

from sidecar.admin.server import AdminServer, start
from sidecar.model.address import Address
from sidecar.model.outcome import Failure, Verdict
from tests.admin.conftest import Client, FakeSidecar
from tests.telemetry.parts import Ended, Parts

# ---------------------------------------------------------------------- health


async def test_healthz(client: Client, sidecar: FakeSidecar) -> None:
    sidecar.drain()
    status, answer = await client.get("/healthz")
    assert status == 200  # draining or not: the process works
    assert answer.pop("timestamp").endswith("Z")
    assert answer == {
        "status": "ok",
        "service": "checkout",
        "version": "1.2.3",
        "checks": {
            "config": {"status": "ok", "message": "", "latency_ms": 0.0},
            "listeners": {"status": "ok", "message": "", "latency_ms": 0.0},
        },
    }


async def test_readyz_is_200_when_all_is_well(client: Client) -> None:
    status, answer = await client.get("/readyz")
    assert (status, answer["status"]) == (200, "ok")


async def test_readyz_fails_before_the_first_snapshot(client: Client, parts: Parts) -> None:
    parts.go_live(version=0)
    status, answer = await client.get("/readyz")
    assert (status, answer["status"]) == (503, "failed")


async def test_readyz_fails_while_draining(client: Client) -> None:
    assert (await client.post("/api/drain"))[0] == 200
    assert (await client.get("/readyz"))[0] == 503


async def test_readyz_fails_when_a_part_is_down(client: Client, sidecar: FakeSidecar) -> None:
    sidecar.parts_down.add("listeners")
    status, answer = await client.get("/readyz")
    assert status == 503
    assert answer["checks"]["listeners"]["status"] == "failed"


# --------------------------------------------------------------------- metrics


async def test_metrics_as_text_and_as_openmetrics(client: Client) -> None:
    async with client.session.get(f"{client.base}/metrics") as response:
        text = await response.text()
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in parser.text_string_to_metric_families(text)}
    reloads = {sample.labels["result"]: sample.value for sample in families["sidecar_config_reloads"].samples}
    assert reloads == {"ok": 4, "rejected": 0, "unchanged": 0}

    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    async with client.session.get(f"{client.base}/metrics", headers=accept) as response:
        assert response.headers["content-type"].startswith("application/openmetrics-text")
        assert (await response.text()).endswith("# EOF\n")


# -------------------------------------------------------------------- clusters


async def test_clusters(client: Client, parts: Parts) -> None:
    users = parts.clusters["users"]
    one, two, three = users.endpoints
    one.verdicts[Verdict.SUCCESS], one.verdicts[Verdict.FAILURE], one.verdicts[Verdict.SOFT_FAILURE] = 5, 1, 2
    users.balancer.observe(one, 0.25, parts.clock.now)
    two.healthy = False
    for _ in range(2):
        three.breaker.record(three.breaker.admit(parts.clock.now), Verdict.FAILURE, parts.clock.now)
    users.durations.record(0.25)
    parts.runtime.snapshot.listeners["out"].table.routes[0].targets[0].codes["http1", 200] = 8

    status, answer = await client.get("/api/clusters")

    assert status == 200
    (cluster,) = answer["clusters"]
    endpoints = cluster.pop("endpoints")
    assert cluster == {
        "name": "users",
        "policy": "peak_ewma",
        "protocol": "auto",
        "requests": {"in_flight": 0, "total": 8},
        "retry_budget_remaining": 100.0,
        "retries": {},
        "retries_skipped": {},
        "local_replies": {},
        "limits": {
            **{name: {"in_use": 0, "maximum": 8} for name in ("requests", "connections", "pending")},
            "adaptive": None,
        },
        "shed": {
            by: {"critical": 0, "default": 0, "sheddable": 0}
            for by in ("requests", "adaptive", "admission", "pressure")
        },
        "rejection_probability": None,
        "panic": False,
        "hedging": None,
        "latency_ms": {"p50": 250.0, "p99": 250.0},
    }
    assert endpoints[0] == {
        "address": "10.0.0.1:80",
        "weight": 1,
        "zone": "",
        "priority": 0,
        "healthy": True,
        "unhealthy_because": None,
        "trouble": None,
        "usable": True,
        "draining": False,
        "ejected": False,
        "breaker": "closed",
        "in_flight": 0,
        "ewma_ms": 250.0,
        "attempts": {"success": 5, "failure": 3, "ignored": 0},
        "connections": {"open": 0, "idle": 0},
    }
    assert (endpoints[1]["healthy"], endpoints[1]["usable"], endpoints[1]["ewma_ms"]) == (False, False, 0.0)
    assert (endpoints[2]["breaker"], endpoints[2]["usable"]) == ("open", False)


async def test_one_cluster_or_none(client: Client) -> None:
    status, answer = await client.get("/api/clusters/users")
    assert (status, answer["name"]) == (200, "users")
    status, answer = await client.get("/api/clusters/orders")
    assert (status, answer["error"]) == (404, "unknown_cluster")
    assert "orders" in answer["message"]


@pytest.mark.parametrize(
    ("path", "index"),
    [
        ("10.0.0.1:80", 0),
        ("10.0.0.1%3A80", 0),
        ("[::1]:80", 1),
        ("%5B%3A%3A1%5D%3A80", 1),
        ("unix:/run/users.sock", 2),
        ("unix%3A%2Frun%2Fusers.sock", 2),
    ],
)
async def test_an_endpoint_is_taken_out_and_brought_back(client: Client, parts: Parts, path: str, index: int) -> None:
    users = parts.clusters["users"]
    endpoint = users.endpoints[index]
    # As it is written: no client library may tidy it up.
    base = f"{client.base}/api/clusters/users/endpoints/{path}"

    async with client.session.post(URL(f"{base}/drain?ttl=1m30s", encoded=True)) as response:
        answer = await response.json()
        assert response.status == 200, answer
    assert answer["endpoint"]["draining"] is True
    assert endpoint.drained_until == parts.clock.now + 90
    assert parts.turn.depth == 0

    async with client.session.post(URL(f"{base}/undrain", encoded=True)) as response:
        assert (await response.json())["endpoint"]["draining"] is False
    assert endpoint.usable(parts.clock.now)


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/api/clusters/users/endpoints/10.0.0.9:80/drain", 404, "unknown_endpoint"),
        ("/api/clusters/orders/endpoints/10.0.0.1:80/drain", 404, "unknown_cluster"),
        ("/api/clusters/users/endpoints/10.0.0.1:80/drain?ttl=60", 400, "bad_ttl"),
        ("/api/clusters/users/endpoints/10.0.0.1:80/drain?ttl=0", 400, "bad_ttl"),
        ("/api/clusters/users/endpoints/10.0.0.1:80/drain?ttl=", 400, "bad_ttl"),
        ("/api/clusters/users/endpoints/10.0.0.1:80/burn", 404, "not_found"),
    ],
)
async def test_what_cannot_be_drained(client: Client, parts: Parts, path: str, status: int, error: str) -> None:
    seen, answer = await client.post(path)
    assert (seen, answer["error"]) == (status, error)
    assert answer["message"]
    assert all(not endpoint.drained_until for endpoint in parts.clusters["users"].endpoints)


# -------------------------------------------------------- config, reload, drain


async def test_config_is_shown_without_secrets(client: Client, sidecar: FakeSidecar) -> None:
    sidecar.last_rejected = {"at": "2026-01-03T00:00:00Z", "errors": ["x"]}
    status, answer = await client.get("/api/config")
    assert status == 200
    assert (answer["version"], answer["loaded_at"]) == (1, "2026-01-02T00:00:00Z")
    assert answer["last_rejected"]["errors"] == ["x"]
    assert answer["config"]["clusters"]["users"]["timeouts"]["request"] == "15s"
    assert "hunter2" not in str(answer)


async def test_reload(client: Client, sidecar: FakeSidecar) -> None:
    assert await client.post("/api/reload") == (200, {"status": "ok", "version": 1})
    sidecar.errors = ["sidecar.yaml:1:1: clusters: missing", "another"]
    status, answer = await client.post("/api/reload")
    assert (status, answer["error"]) == (422, "rejected")
    assert answer["errors"] == sidecar.errors
    assert sidecar.errors[0] in answer["message"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/reload",
        "/api/drain",
        *(f"/api/clusters/users/endpoints/10.0.0.1:80/{verb}" for verb in ("drain", "undrain")),
    ],
)
async def test_nothing_that_changes_answers_to_get(
    client: Client, sidecar: FakeSidecar, parts: Parts, path: str
) -> None:
    async with client.session.get(client.base + path) as response:
        assert response.status == 405
        assert response.headers["allow"] == "POST"
        assert (await response.json())["error"] == "method_not_allowed"
    assert sidecar.calls == []
    assert not parts.clusters["users"].endpoints[0].drained_until


async def test_a_page_of_another_site_changes_nothing(client: Client, sidecar: FakeSidecar) -> None:
    status, answer = await client.post("/api/drain", {"origin": "https://evil.example"})
    assert (status, answer["error"]) == (403, "foreign_origin")
    assert sidecar.calls == []
    status, _ = await client.post("/api/drain", {"origin": client.base})
    assert (status, sidecar.calls) == (200, ["drain"])


# -------------------------------------------------------------------- requests


async def test_requests(client: Client, sidecar: FakeSidecar, parts: Parts) -> None:
    for _ in range(3):
        sidecar.notable.finished(Ended(parts, parts.clusters["users"]).end(status=503, failure=Failure.BREAKER_OPEN))
    status, answer = await client.get("/api/requests?limit=2")
    assert (status, len(answer["requests"])) == (200, 2)
    assert answer["requests"][0]["why"] == "answered with breaker_open"
    assert len((await client.get("/api/requests"))[1]["requests"]) == 3


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "many", "", "1.5", "²", "9" * 400])
async def test_a_bad_limit_is_refused(client: Client, limit: str) -> None:
    status, answer = await client.get(f"/api/requests?limit={limit}")
    assert (status, answer["error"]) == (400, "bad_limit")


# ------------------------------------------------------------------ everything


async def test_unknown_paths_and_methods_are_json_errors(client: Client) -> None:
    status, answer = await client.get("/api/nothing")
    assert (status, answer["error"]) == (404, "not_found")
    status, answer = await client.call("DELETE", "/api/clusters")
    assert (status, answer["error"]) == (405, "method_not_allowed")


async def test_an_error_of_ours_is_a_json_error(
    client: Client, sidecar: FakeSidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sidecar, "checks", lambda: 1 / 0)
    status, answer = await client.get("/readyz")
    assert (status, answer["error"]) == (500, "internal")


async def test_the_page_leads_to_the_rest(client: Client, sidecar: FakeSidecar) -> None:
    sidecar.service = "<b>checkout"
    async with client.session.get(client.base + "/") as response:
        page = await response.text()
        assert response.headers["content-type"].startswith("text/html")
    assert 'href="/metrics"' in page
    assert "&lt;b&gt;checkout" in page
    assert "<script" not in page


async def test_on_a_unix_socket(sidecar: FakeSidecar, socket_folder: Path) -> None:
    path = socket_folder / "admin.sock"
    server = await start(sidecar, Address("", 0, str(path)))
    try:
        assert str(server.address) == f"unix:{path}"
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
            session.get("http://admin/healthz") as response,
        ):
            assert response.status == 200
    finally:
        await server.stop()
    assert not path.exists()


async def test_a_taken_port_is_an_os_error(sidecar: FakeSidecar, server: AdminServer) -> None:
    with pytest.raises(OSError, match="address already in use"):
        await start(sidecar, server.address)


async def test_stop_closes_the_port(sidecar: FakeSidecar) -> None:
    server = await start(sidecar, Address("127.0.0.1", 0))
    await server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server.address.host, server.address.port), timeout=5).close()
