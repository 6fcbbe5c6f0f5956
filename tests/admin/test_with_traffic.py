"""The admin API of a whole sidecar that carries requests: what is written down of
real exchanges, by every way of looking at them."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from prometheus_client.openmetrics import parser

from sidecar.app import App
from tests.admin.conftest import Client
from tests.support.grpc_service import GrpcService
from tests.support.http_service import HttpService

CONFIG = """
service: checkout
admin: {{bind: 127.0.0.1:0}}
access_log: {log}
clusters:
  web: {{endpoints: [{web}], retry: {{backoff: {{base: 1ms, max: 1ms}}}}}}
  rpc: {{endpoints: [{rpc}]}}
  gone: {{endpoints: [127.0.0.1:1], retry: {{backoff: {{base: 1ms, max: 1ms}}}}}}
listeners:
  out:
    bind: 127.0.0.1:0
    routes:
      - {{match: {{prefix: /fixed}}, respond: {{status: 204}}}}
      - {{match: {{grpc: test.Echo}}, to: rpc}}
      - {{match: {{host: gone.internal}}, to: gone}}
      - {{match: {{host: web.internal}}, to: web}}
"""


@pytest.fixture
async def app(tmp_path: Path, http_service: HttpService, grpc_service: GrpcService) -> AsyncIterator[App]:
    path = tmp_path / "sidecar.yaml"
    text = CONFIG.format(log=tmp_path / "access.log", web=http_service.address, rpc=grpc_service.address)
    path.write_text(text.replace("grpc: test.Echo", "grpc: test.Echo/*"))
    app = App(path, {})
    await app.start()
    yield app
    await app.stop()


@pytest.fixture
async def client(app: App) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        yield Client(session, f"http://{app.address('admin')}")


async def send(app: App, client: Client, method: str, host: str, path: str, **headers: str) -> int:
    url = f"http://{app.address('out')}{path}"
    async with client.session.request(method, url, headers={"host": host, **headers}) as response:
        await response.read()
        return response.status


async def metrics(client: Client) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    headers = {"accept": "application/openmetrics-text; version=1.0.0"}
    async with client.session.get(f"{client.base}/metrics", headers=headers) as response:
        text = await response.text()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_one_story_in_metrics_access_log_and_api(app: App, client: Client, tmp_path: Path) -> None:
    assert await send(app, client, "GET", "web.internal", "/status/200") == 200
    first = {"x-request-id": "a"}
    assert await send(app, client, "GET", "web.internal", "/fail-first?n=1&code=503", **first) == 200
    assert await send(app, client, "POST", "web.internal", "/status/503") == 503
    assert await send(app, client, "GET", "gone.internal", "/") == 502
    assert await send(app, client, "GET", "nobody.internal", "/") == 404
    assert await send(app, client, "GET", "web.internal", "/fixed") == 204
    async with grpc.aio.insecure_channel(str(app.address("out"))) as channel:
        await channel.unary_unary("/test.Echo/Unary")(b"hello")
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary("/test.Echo/Fail")(b"hello", metadata=(("x-code", "UNAVAILABLE"),))

    seen = await metrics(client)

    def value(name: str, **labels: str) -> float:
        return seen[name, frozenset(labels.items())]

    total = "sidecar_requests_total"
    assert value(total, cluster="web", route="out[3]", protocol="http1", code="200") == 2
    assert value(total, cluster="web", route="out[3]", protocol="http1", code="503") == 1
    assert value(total, cluster="gone", route="out[2]", protocol="http1", code="502") == 1
    assert value(total, cluster="", route="out[0]", protocol="http1", code="204") == 1
    assert value(total, cluster="", route="", protocol="http1", code="404") == 1
    assert value(total, cluster="rpc", route="out[1]", protocol="grpc", code="OK") == 1
    assert value(total, cluster="rpc", route="out[1]", protocol="grpc", code="UNAVAILABLE") == 1
    assert value("sidecar_retries_total", cluster="web", reason="503") == 1
    assert value("sidecar_retries_total", cluster="gone", reason="connect_failed") == 2
    assert value("sidecar_retries_skipped_total", cluster="web", reason="not_idempotent") == 1
    assert value("sidecar_local_replies_total", cluster="gone", reason="connect_failed") == 1
    assert value("sidecar_local_replies_total", cluster="", reason="no_route") == 1
    assert value("sidecar_requests_in_flight", cluster="web") == 0

    requests = (await client.get("/api/requests"))[1]["requests"]
    by_path: dict[str, Any] = {each["path"]: each for each in requests}
    assert by_path["/fail-first?***"]["kind"] == "retried"
    assert [each["status"] for each in by_path["/fail-first?***"]["tries"]] == [503, 200]
    assert by_path["/status/503"]["retry_skipped"] == "not_idempotent"
    assert by_path["/test.Echo/Fail"]["grpc_code"] == "UNAVAILABLE"
    gone = next(each for each in requests if each["cluster"] == "gone")
    assert [each["failure"] for each in gone["tries"]] == ["connect_failed"] * 3
    assert [each["number"] for each in gone["tries"]] == [1, 2, 3]
    assert "/status/200" not in by_path

    clusters = {each["name"]: each for each in (await client.get("/api/clusters"))[1]["clusters"]}
    assert clusters["web"]["requests"] == {"in_flight": 0, "total": 3}
    assert clusters["web"]["endpoints"][0]["attempts"]["success"] == 2
    assert clusters["web"]["endpoints"][0]["connections"]["open"] >= 1

    await app.stop()
    lines = [json.loads(line) for line in (tmp_path / "access.log").read_text().splitlines()]
    told = [(line["cluster"], line["protocol"], line["status"], line["attempts"], line["verdict"]) for line in lines]
    assert told == [
        ("web", "http1", 200, 1, "success"),
        ("web", "http1", 200, 2, "success"),
        ("web", "http1", 503, 1, "failure"),
        ("gone", "http1", 502, 3, "failure"),
        ("", "http1", 404, 0, None),
        ("", "http1", 204, 0, None),
        ("rpc", "grpc", 200, 1, "success"),
        ("rpc", "grpc", 200, 1, "failure"),
    ]
    assert lines[-1]["grpc_code"] == "UNAVAILABLE"
    assert all(line["peer"].startswith("127.0.0.1:") for line in lines)


async def test_a_bad_file_is_rejected_by_the_api_and_remembered(app: App, client: Client, tmp_path: Path) -> None:
    good = (tmp_path / "sidecar.yaml").read_text()
    (tmp_path / "sidecar.yaml").write_text(good.replace("to: web", "to: wed"))

    status, answer = await client.post("/api/reload")

    assert status == 422
    assert "wed" in answer["errors"][0]
    config = (await client.get("/api/config"))[1]
    assert config["last_rejected"]["errors"] == answer["errors"]
    assert config["version"] == 1
    assert (await client.get("/readyz"))[0] == 200

    (tmp_path / "sidecar.yaml").write_text(good.replace("status: 204", "status: 202"))
    assert await client.post("/api/reload") == (200, {"status": "ok", "version": 2})
    seen = await metrics(client)
    results = {result: seen["sidecar_config_reloads_total", frozenset({("result", result)})] for result in app.reloads}
    assert results["rejected"] >= 1  # the file is watched as well
    assert results["ok"] == 1


async def test_draining_by_the_api(app: App, client: Client) -> None:
    assert (await client.get("/readyz"))[0] == 200
    assert (await client.post("/api/drain"))[0] == 200
    assert (await client.get("/readyz"))[0] == 503
    assert (await client.get("/healthz"))[0] == 200
    assert await send(app, client, "GET", "web.internal", "/status/200") == 200  # still answered
