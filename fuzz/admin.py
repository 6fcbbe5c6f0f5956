"""Any bytes from a client of the admin server, over TCP or a unix socket, where a token is wanted
or not: each request gets one well-formed answer that is no 500; nothing is changed but by a POST
that was answered with 200, and nothing without the token where there is one; no secret of the
configuration is told; byte by byte the same; no connection, follower or timer stays.

The first byte chooses: odd, a token is wanted; its second bit, over a unix socket.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.world import World
from fuzz.desk import Answer, Asked, Desk, check_answer
from fuzz.mutate import mutated
from fuzz.quiet import quiet
from fuzz.stage import Clock
from sidecar.admin.operations import OK, Check
from sidecar.config.load import load_text
from sidecar.telemetry.events import Events
from sidecar.telemetry.notable import Notable

_TOKEN: Final = "t0ken-of-the-admin.API"
# Nothing that an input could have by chance.
_SECRET: Final = "q7z9x4w2v8j3"
_CONFIG: Final = """\
service: checkout
admin: {bind: "127.0.0.1:0", token_file: %s, allowed_hosts: ["*.ops.internal", admin.internal]}
clusters:
  users: {endpoints: ["10.0.0.1:80", "[::1]:80", "unix:/run/users.sock"]}
listeners:
  out:
    bind: 127.0.0.1:0
    routes: [{to: users, headers: {request: {set: {x-api-key: "${SECRET}"}}}}]
"""
_READS: Final = ("/", "/healthz", "/readyz", "/metrics", "/api/clusters", "/api/clusters/users", "/api/config",
                 "/api/requests", "/api/requests?limit=3", "/api/events")  # fmt: skip
_CHANGES: Final = {"/api/reload": "reload", "/api/drain": "drain", "/api/quit": "quit"}
_ENDPOINT: Final = "/api/clusters/users/endpoints/"
_PATHS: Final = (
    *_READS,
    *_CHANGES,
    _ENDPOINT + "10.0.0.1:80/drain",
    _ENDPOINT + "10.0.0.1:80/drain?ttl=5s",
    _ENDPOINT + "10.0.0.1:80/undrain",
    _ENDPOINT + "[::1]:80/drain?ttl=1m",
    _ENDPOINT + "unix%3A%2Frun%2Fusers.sock/drain?ttl=0",
    "/api/clusters/%75sers",
    "/api/nothing",
    "*",
    "http://localhost/api/drain",
)
_METHODS: Final = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "PATCH")
_HOSTS: Final = ("localhost:15000", "127.0.0.1", "[::1]:1", "a.ops.internal", "evil.example", "", "[", "localhost@x")
_FIELDS: Final = (
    f"Authorization: Bearer {_TOKEN}", "Authorization: Bearer x", "Authorization: Basic eDp5", "Origin: null",
    "Origin: http://localhost:15000", "Origin: http://evil.example", "Origin: http://[", "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-Site: cross-site", "Content-Length: 2", "Content-Length: 5000", "Transfer-Encoding: chunked",
    "Expect: 100-continue", "Expect: x", "Connection: close", "Connection: upgrade", "Upgrade: websocket",
    "Last-Event-ID: 1", "Last-Event-ID: -1", "Accept: application/openmetrics-text", "Accept: ;;=,q",
    "Range: bytes=0-1", "Content-Encoding: gzip", "Content-Type: multipart/form-data", "If-None-Match: *",
    "Cookie: a=\"\\",
)  # fmt: skip
_BODIES: Final = (b"", b"{}", b"2\r\nhi\r\n0\r\n\r\n", b"x" * 40)


def _request(method: str, path: str, *fields: str, host: str = "localhost:15000", body: bytes = b"") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode() + body


SEEDS: Final = (
    b"\0" + _request("GET", "/"),
    b"\0" + b"".join(_request("GET", path) for path in _READS[1:]),
    b"\0" + b"".join(_request("POST", path, "Content-Length: 0") for path in _PATHS[10:18]),
    b"\1" + _request("POST", "/api/drain") + _request("POST", "/api/drain", _FIELDS[0]),
    b"\1" + _request("GET", "/api/config", _FIELDS[1]) + _request("HEAD", "/api/config", _FIELDS[0]),
    b"\2" + _request("POST", "/api/reload", _FIELDS[4], "Sec-Fetch-Site: same-origin", host="any"),
    b"\3" + _request("POST", "/api/quit", _FIELDS[0], "Content-Length: 2", body=b"{}") + _request("GET", "/readyz"),
    b"\0" + _request("GET", "/api/requests?limit=99999999999") + _request("GET", "/api/drain", host="evil.example"),
    b"\0GET /healthz HTTP/1.0\r\n\r\n",
    b"\0nonsense\r\n\r\n",
)
WORDS: Final = (
    *(f"{field}\r\n".encode() for field in _FIELDS),
    *(text.encode() for text in (*_PATHS, *_METHODS)),
    b"?ttl=", b"%", b"%2e%2e/", b"//", b"\xff", b"\0", b"\r\n", b"HTTP/1.0", b"#", b"\xc3\xa9",
)  # fmt: skip


def draw(rng: Random) -> bytes:
    """Requests of somebody who knows the API, mostly; some of them changed."""
    asked = b"".join(_drawn(rng) for _ in range(1 + rng.randrange(3)))
    return bytes([rng.randrange(4)]) + (mutated(rng, [asked], WORDS) if rng.random() < 0.6 else asked)


def _drawn(rng: Random) -> bytes:
    fields = rng.sample(_FIELDS, rng.randrange(4))
    host = _HOSTS[0] if rng.random() < 0.7 else rng.choice(_HOSTS)
    method = rng.choice(_METHODS[:2]) if rng.random() < 0.8 else rng.choice(_METHODS)
    return _request(method, rng.choice(_PATHS), *fields, host=host, body=rng.choice(_BODIES))


def check(data: bytes) -> None:
    """One connection in one read, and one byte by byte."""
    chosen, said = (data[0] if data else 0), data[1:]
    with quiet(), TemporaryDirectory() as folder:
        token = ""
        if chosen & 1:
            token = str(Path(folder, "token"))
            Path(token).write_text(_TOKEN)
        name: Any = "/run/admin.sock" if chosen & 2 else ("127.0.0.1", 15000)
        whole = _conversation([said], said, token, name)
        step = 1 if len(said) < 1000 else 13
        pieces = [said[place : place + step] for place in range(0, len(said), step)]
        assert _alike(whole, _conversation(pieces, said, token, name)), "byte by byte the answers are others"


class _Sidecar:
    """What the admin server asks and changes: notes what is asked of it."""

    service = "checkout"
    version = "1.2.3"
    loaded_at = datetime(2026, 1, 2, tzinfo=UTC)
    last_rejected: dict[str, Any] | None = None

    def __init__(self, world: World, text: str) -> None:
        self.runtime = world.runtime
        self.spec = load_text(text, "sidecar.yaml", {"SECRET": _SECRET})
        self.reloads = {"ok": 1}
        self.events = Events()
        self.notable = Notable()
        self.calls: list[str] = []

    async def reload(self) -> list[str]:
        self.calls.append("reload")
        return []

    def drain(self) -> None:
        self.calls.append("drain")

    def quit(self) -> None:
        self.calls.append("quit")

    def checks(self) -> dict[str, Check]:
        return {"config": Check(OK)}


def _alike(one: "_Told", other: "_Told") -> bool:
    """Whether the answers are the same. aiohttp forgets the requests that came in one read with
    what is none, so that a refusal of it may stand for those before it."""
    return one.refused or other.refused or one == other


@dataclass(frozen=True)
class _Told:
    """Each request with its answer; `refused` is whether something was none."""

    asked: list[Asked]
    answers: list[tuple[int, str]]

    @property
    def refused(self) -> bool:
        return len(self.answers) > len(self.asked)


def _conversation(pieces: list[bytes], said: bytes, token: str, name: Any) -> _Told:
    """One connection."""
    text = _CONFIG % (token or "null")
    clock = Clock()
    world = World(text, clock, {"SECRET": _SECRET})
    sidecar = _Sidecar(world, text)
    errors: list[Any] = []
    world.loop.set_exception_handler(lambda loop, report: errors.append(report.get("exception") or report))

    async def talk() -> tuple[list[Asked], list[Answer]]:
        desk = Desk(sidecar, name)
        answers = await desk.ask(pieces)
        await desk.close()
        return desk.asked, answers

    try:
        asked, answers = world.loop.run_until_complete(talk())
    finally:
        world.close()
    assert not errors, errors[0]
    for answer in answers:
        check_answer(answer)
        told = answer.body + str(answer.fields).encode()
        assert _SECRET.encode() not in told or _SECRET.encode() in said, "a secret is told"
    _check_changes(sidecar, asked, clock.now)
    if token and _TOKEN.encode() not in said:
        for each in asked:
            assert each.status >= 400 or each.path in ("/healthz", "/readyz"), f"{each} without the token"
    return _Told(asked, [(answer.status, answer.error) for answer in answers])


def _check_changes(sidecar: _Sidecar, asked: Sequence[Asked], now: float) -> None:
    """State is as the POSTs that were answered with 200 left it."""
    done = [each.path for each in asked if each.method == "POST" and each.status == 200]
    assert sidecar.calls == [_CHANGES[path] for path in done if path in _CHANGES], (sidecar.calls, asked)
    drained = [each for each in sidecar.runtime.snapshot.clusters["users"].endpoints if each.drained_until > now]
    assert len(drained) <= sum(path.endswith("/drain") and path.startswith(_ENDPOINT) for path in done), (
        asked,
        drained,
    )
    for each in asked:
        assert each.method in ("GET", "HEAD", "POST") or each.status >= 400, each
