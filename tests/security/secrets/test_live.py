"""One sidecar, given a secret in every place that has one and asked everything: none of
its outputs holds any of them."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import aiohttp
import trustme
import yaml

from tests.support.http_service import HttpService
from tests.support.processes import ROOT, Processes
from tests.support.sidecar import SidecarProcess

# One for each place, so that a leak names its source.
PLACES = (
    "env-secret",
    "env-plain",
    "env-broken",
    "header-literal",
    "match-literal",
    "admin-token",
    "wrong-token",
    "authorization",
    "cookie",
    "proxy-authorization",
    "query",
    "userinfo",
    "body",
    "response-header",
    "malformed",
    "admin-malformed",
    "tls-key",
    "url-literal",
)
CANARY = {place: f"C4nAry.{place}.5f2d91" for place in PLACES}


def configuration(service: str, folder: Path) -> dict[str, Any]:
    return {
        "service": "checkout",
        "admin": {"bind": "127.0.0.1:0", "token_file": str(folder / "token")},
        "access_log": str(folder / "access.log"),
        "clusters": {
            "web": {"endpoints": [service], "retry": {"backoff": {"base": "1ms", "max": "1ms"}}},
            "dead": {"endpoints": ["127.0.0.1:1"]},
            "safe": {
                "endpoints": [service],
                "tls": {"ca": str(folder / "ca.pem"), "cert": str(folder / "cert.pem"), "key": str(folder / "key.pem")},
            },
        },
        "listeners": {
            "out": {
                "bind": "127.0.0.1:0",
                "routes": [
                    {"match": {"headers": {"x-api-key": CANARY["match-literal"]}}, "to": "web"},
                    {"match": {"headers": {"x-other": "${PLAIN}"}}, "to": "web"},
                    {"match": {"prefix": "/dead"}, "to": "dead"},
                    {"match": {"prefix": "/safe"}, "to": "safe"},
                    {
                        "match": {"prefix": "/answer"},
                        "respond": {"body": "${PLAIN}", "headers": {"x-plain": "${PLAIN}"}},
                    },
                    {
                        "to": "web",
                        "headers": {
                            "request": {
                                "set": {
                                    "authorization": f"Bearer {CANARY['header-literal']}",
                                    "x-from-env": "${SECRET_KEY}",
                                    "x-plain": "${PLAIN}",
                                    "x-callback": f"https://me:{CANARY['url-literal']}@db.internal/",
                                }
                            },
                            "response": {"set": {"x-token": CANARY["response-header"]}},
                        },
                    },
                ],
            },
            "proxy": {"bind": "127.0.0.1:0", "mode": "forward", "routes": [{"match": {"host": "web"}, "to": "web"}]},
        },
    }


ENV = {"SECRET_KEY": CANARY["env-secret"], "PLAIN": CANARY["env-plain"], "BROKEN": CANARY["env-broken"]}


async def raw(port: int, *lines: str, body: str = "") -> bytes:
    """What comes back for bytes as they are."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(("\r\n".join([*lines, "", ""]) + body).encode("latin-1"))
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def traffic(sidecar: SidecarProcess) -> None:
    """Requests with secrets wherever clients put them, good ones and bad ones."""
    headers = {
        "authorization": f"Bearer {CANARY['authorization']}",
        "cookie": f"session={CANARY['cookie']}",
        "proxy-authorization": f"Basic {CANARY['proxy-authorization']}",
    }
    query = {"token": CANARY["query"], "q": CANARY["query"]}
    async with aiohttp.ClientSession(headers=headers) as client:
        for path in ("/echo", "/status/503", "/dead", "/safe", "/answer", "/fail?rate=1&code=500"):
            async with client.post(sidecar.url("out", path), params=query, data=CANARY["body"]) as response:
                text = await response.text()
            async with client.get(sidecar.url("out", path), params=query) as response:
                await response.read()
            if path == "/echo":  # otherwise nothing below would prove anything
                for place in ("env-secret", "env-plain", "header-literal", "url-literal", "query", "body"):
                    assert CANARY[place] in text, place
    out, proxy = sidecar.port("out"), sidecar.port("proxy")
    secret = CANARY["malformed"]
    end = ("host: web", "connection: close")
    for lines in (
        (f"GET /{secret}\x01 HTTP/1.1", *end),
        ("GET / HTTP/1.1", f"x: {secret}\x00", *end),
        ("GET / HTTP/1.1", f"{secret} : y", *end),
        ("GET / HTTP/1.1", f"host: me:{secret}@web", "connection: close"),
        ("GET / HTTP/1.1", f"content-length: {secret}", *end),
        (f"GET / HTTP/{secret}", *end),
        (f"{secret.upper()} / HTTP/1.1", *end),
    ):
        assert not (await raw(out, *lines)).startswith(b"HTTP/1.1 200")
    credentials = f"proxy-authorization: Basic {CANARY['proxy-authorization']}"
    for lines in (
        (f"GET http://me:{CANARY['userinfo']}@web/ HTTP/1.1", credentials, *end),
        (f"CONNECT me:{CANARY['userinfo']}@web:80 HTTP/1.1", credentials, *end),
        ("CONNECT 169.254.169.254:80 HTTP/1.1", credentials, *end),
        (f"GET http://elsewhere/?token={CANARY['query']} HTTP/1.1", credentials, *end),
    ):
        assert not (await raw(proxy, *lines)).startswith(b"HTTP/1.1 200")


async def admin_answers(sidecar: SidecarProcess) -> dict[str, str]:
    """What every page of the admin API says to who has the token."""
    right = {"authorization": f"Bearer {CANARY['admin-token']}"}
    answers: dict[str, str] = {}
    async with aiohttp.ClientSession(headers=right) as client:
        for path in ("/", "/healthz", "/readyz", "/metrics", "/api/clusters", "/api/clusters/web", "/api/config"):
            async with client.get(sidecar.url("admin", path)) as response:
                assert response.status in (200, 503), path
                answers[path] = await response.text() + str(response.headers)
        async with client.get(sidecar.url("admin", "/api/requests?limit=1000")) as response:
            answers["/api/requests"] = await response.text()
        async with client.post(sidecar.url("admin", "/api/reload")) as response:
            answers["/api/reload"] = await response.text()
        async with client.get(sidecar.url("admin", "/api/events"), headers={"Last-Event-ID": "0"}) as response:
            text = b""
            while b"event: reload" not in text:
                text += await response.content.readany()
            answers["/api/events"] = text.decode()
    wrong = {"authorization": f"Bearer {CANARY['wrong-token']}"}
    async with (
        aiohttp.ClientSession(headers=wrong) as client,
        client.get(sidecar.url("admin", "/api/config")) as refused,
    ):
        assert refused.status == 401
        answers["refused"] = await refused.text() + str(refused.headers)
    await raw(sidecar.port("admin"), "GET / HTTP/1.1", f"x: {CANARY['admin-malformed']}\x00", "host: localhost")
    await raw(sidecar.port("admin"), f"GET /{CANARY['admin-malformed']} HTTP/9", "host: localhost")
    return answers


async def command(*arguments: str) -> str:
    """Everything that a command prints, on both streams."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sidecar", *arguments),
        cwd=ROOT,
        env=os.environ | ENV,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert output
    return output.decode()


async def test_no_output_holds_a_secret(tmp_path: Path, processes: Processes, http_service: HttpService) -> None:
    (tmp_path / "token").write_text(CANARY["admin-token"])
    authority = trustme.CA()
    certificate = authority.issue_cert("web.internal")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    key_line = certificate.private_key_pem.bytes().splitlines()[1].decode()
    good = configuration(http_service.address, tmp_path)

    sidecar = SidecarProcess(tmp_path, yaml.safe_dump(good), env=ENV)
    processes.own(sidecar)
    await sidecar.serve()
    outputs: dict[str, str] = {}
    await traffic(sidecar)
    path = str(sidecar.path)
    outputs["check"] = await command("check", path)
    outputs["explain"] = await command(
        "explain", path, "GET", f"http://me:{CANARY['userinfo']}@x/a?token={CANARY['query']}", "-H", "x-other: no"
    )
    outputs["explain -H"] = await command("explain", path, "GET", "/", "-H", f"Bearer {CANARY['authorization']}")
    token = ("--token-file", str(tmp_path / "token"))
    outputs["status"] = await command("status", "--admin", sidecar.url("admin"), *token)
    outputs["status --json"] = await command("status", "--admin", sidecar.url("admin"), "--json", *token)

    # A reload that is refused tells its errors in the log, the event and /api/config.
    (tmp_path / "broken.pem").write_text(
        f"-----BEGIN PRIVATE KEY-----\n{CANARY['tls-key']}\n-----END PRIVATE KEY-----\n"
    )
    bad = configuration(http_service.address, tmp_path)
    bad["shutdown"] = "${BROKEN}"
    bad["clusters"]["web"]["endpoints"] = ["redis://me:${BROKEN}@db:1", "${BROKEN}:${BROKEN}"]
    bad["clusters"]["safe"]["tls"]["key"] = str(tmp_path / "broken.pem")
    bad["listeners"]["out"]["routes"][-1]["headers"]["request"]["set"]["authorization"] = [CANARY["header-literal"]]
    sidecar.rewrite(yaml.safe_dump(bad))
    outputs |= await admin_answers(sidecar)
    outputs["check of a broken file"] = await command("check", path)
    assert "shutdown: ${BROKEN} is no duration" in outputs["check of a broken file"]
    assert json.loads(outputs["/api/reload"])["error"] == "rejected"
    assert json.loads(outputs["/api/config"].partition("\n")[0])["config"]["clusters"].keys() == {"web", "dead", "safe"}

    sidecar.terminate()
    assert await sidecar.exited(30) == 0
    outputs["stdout"], outputs["stderr"] = "\n".join(sidecar.stdout), "\n".join(sidecar.stderr)
    outputs["access log"] = (tmp_path / "access.log").read_text()
    assert outputs["access log"].count("\n") >= 14
    assert "rejected" in outputs["stderr"]

    leaks = [(name, place) for name, text in outputs.items() for place in PLACES if CANARY[place] in text]
    leaks += [(name, "key.pem") for name, text in outputs.items() if key_line in text]
    assert leaks == []
