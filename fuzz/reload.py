"""Any texts as configurations that `POST /api/reload` brings in, one after the other, into a
sidecar that serves: each is live or rejected with its errors, never anything else.

- Rejected, it changed nothing: snapshot, configuration, listeners and timers are what they were.
- Live, it is what was read; clusters and endpoints that stay are the same objects; every page of
  the admin API can be made of it, and every listener takes a request and gives it back.
- Back at the first text nothing of those between is left.
- No secret variable is told, in an error, an event or a page.

A MARK ends a text. Nothing is bound, dialled or checked: only those edges are not the real ones.
"""

import json
import random
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.world import World
from fuzz import config
from fuzz.desk import Desk, check_answer
from fuzz.mutate import mutated
from fuzz.quiet import quiet
from fuzz.stage import MARK, Clock
from sidecar.admin.operations import Check
from sidecar.app import App
from sidecar.assembly import Parts
from sidecar.config.load import load_text
from sidecar.config.schema import Spec
from sidecar.config.secrets import tells
from sidecar.lifecycle.listeners import Listeners
from sidecar.lifecycle.shutdown import Shutdown
from sidecar.model.outcome import Failure
from sidecar.overload.watch import Watch
from sidecar.proxy.runtime import Runtime
from sidecar.telemetry.logs import get_logger
from sidecar.wire.certificates import Certificates
from sidecar.wire.gate import Gate
from sidecar.wire.listener import BindError, Listener

_FIRST: Final = """\
service: checkout
clusters:
  users: {listen: "127.0.0.1:19002", endpoints: ["10.0.0.1:80", "10.0.0.2:80"], balance: {policy: ring_hash, key: path}}
  orders: {endpoints: ["10.0.0.3:80"]}
listeners:
  outbound: {bind: "127.0.0.1:15001", routes: [{match: {prefix: /v1}, to: users}, {to: orders}]}
"""
_NOTHING: Final = b"clusters: {}\n"
_MORE: Final = (
    b"clusters:\n  users: {listen: '127.0.0.1:19002', endpoints: ['10.0.0.1:80', '10.0.0.9:80'], protocol: http2}\n",
    b"clusters: {orders: {endpoints: ['10.0.0.3:80', {address: '10.0.0.4:80', priority: 1}], hedge: {after: p95},"
    b" limits: {adaptive: true}, admission: {}, outlier_ejection: {}}}\n"
    b"listeners: {proxy: {bind: '127.0.0.1:3128', mode: forward}}\n",
    b"service: b\nclusters: {users: {listen: '127.0.0.1:19003', endpoints: ['a:1']}}\n",
    b"admin: {bind: '127.0.0.1:1'}\nclusters: {}\n",
    b"admin: {token_file: '/nowhere/${TOKEN}'}\nclusters: {}\n",
    b"clusters: {a: {endpoints: ['h:1'], tls: {ca: '/nowhere/${TOKEN}.pem'}}}\n",
    b"clusters: {}\nlisteners: {x: {bind: 'unix:/nowhere/${TOKEN}', routes: [{respond: {status: 200}}]}}\n",
    b"clusters: {}\nexit_with: {process: x}\noverload: {}\nshutdown: 1s\n",
)
SEEDS: Final = (
    *_MORE,
    MARK.join(_MORE),
    _FIRST.encode() + MARK + _MORE[0] + MARK + b"nonsense",
    *(seed + MARK + _MORE[1] for seed in config.SEEDS[:6]),
)
WORDS: Final = (
    *config.WORDS,
    MARK,
    b"listen: ",
    b"tls: ",
    b"cert: ",
    b"bind: ",
    b"unix:",
    b"hedge: ",
    b"/nowhere/${TOKEN}",
)
_MOST_TEXTS: Final = 5
_SECRET: Final = "q7z9x4w2v8j3"
_ENV: Final = {"A": "users", "NAME": "orders", "TOKEN": _SECRET}
_PAGES: Final = ("/", "/metrics", "/api/clusters", "/api/config", "/api/requests", "/healthz")


def draw(rng: Random) -> bytes:
    """Texts of the seeds, some of them changed."""
    texts = [rng.choice(_MORE + config.SEEDS) for _ in range(1 + rng.randrange(4))]
    return MARK.join(mutated(rng, [text], WORDS) if rng.random() < 0.6 else text for text in texts)


def check(data: bytes) -> None:
    """One sidecar's life."""
    with quiet(), TemporaryDirectory() as folder:
        path = Path(folder, "sidecar.yaml")
        path.write_text(_FIRST)
        world = World(_FIRST, Clock())
        try:
            world.loop.run_until_complete(_live(world, path, data.split(MARK)[:_MOST_TEXTS]))
        finally:
            world.close()


async def _live(world: World, path: Path, texts: list[bytes]) -> None:
    app = _App(path, world)
    desk = Desk(app, "/run/admin.sock")
    try:
        timers = len(world.timers)
        for text in texts:
            await _reload(app, desk, text)
            await _check_pages(desk)
            _check_listeners(app, world)
        for text in (_NOTHING, _FIRST.encode()):  # a listener's address cannot be changed, but it can go
            await _reload(app, desk, text)
        assert app.spec == load_text(_FIRST, str(path), _ENV), "the first configuration is not live again"
        assert len(world.timers) == timers, f"{len(world.timers)} timers, not {timers}"
        assert app.listeners.keys() == app.spec.all_listeners().keys()
        for event in app.events.latest():
            assert not tells(repr(event.fields), _SECRET), event
    finally:
        await desk.close()


async def _reload(app: "_App", desk: Desk, text: bytes) -> None:
    """One text; what holds of its answer."""
    app.write(text)
    before, spec, listeners = app.runtime.snapshot, app.spec, dict(app.listeners)
    timers = len(app.world.timers)
    (answer,) = await desk.ask([b"POST /api/reload HTTP/1.1\r\nHost: localhost\r\n\r\n"])
    check_answer(answer)
    said = json.loads(answer.body)
    after = app.runtime.snapshot
    assert not tells(answer.body.decode(), _SECRET), "an error tells a secret"
    if answer.status == 422:
        assert said["errors"]
        assert all(isinstance(error, str) and error for error in said["errors"]), said
        assert (app.runtime.snapshot, app.spec, dict(app.listeners)) == (before, spec, listeners)
        assert after is before, "a rejected configuration changed something"
        assert len(app.world.timers) == timers, "a rejected configuration left timers"
        return
    assert answer.status == 200, answer
    assert said["version"] == after.version
    assert app.spec == load_text(text.decode(), app.path, _ENV), "what is live is not what was read"
    assert after.version == before.version + (app.spec != spec)
    assert app.listeners.keys() == app.spec.all_listeners().keys()
    for name in after.clusters.keys() & before.clusters.keys():
        assert after.clusters[name] is before.clusters[name], f"{name} was made anew"
        assert [each.name for each in after.clusters[name].endpoints] == [
            str(each.address) for each in app.spec.clusters[name].endpoints
        ]


async def _check_pages(desk: Desk) -> None:
    for page in _PAGES:
        (answer,) = await desk.ask([f"GET {page} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()])
        assert answer.status == 200, (page, answer)
        assert not tells(answer.body.decode(), _SECRET), f"{page} tells a secret"


def _check_listeners(app: "_App", world: World) -> None:
    """Every listener takes a request; whoever asked leaves."""
    for listener in app.listeners.values():
        client = world.accept(listener._accept())
        if not client.closing:
            client.protocol.data_received(b"GET /v1/x HTTP/1.1\r\nHost: users.internal\r\n\r\n")
        client.protocol.connection_lost(None)
        while world.dials.pools:
            world.turn.begin()
            world.dials.pools.pop(0).on_connect_failed(Failure.CONNECT_FAILED)
            world.turn.end()
        assert not listener.connections
        assert world.runtime.in_flight == 0


class _App(App):
    """The application as it is once it has started, in a world without sockets."""

    def __init__(self, path: Path, world: World) -> None:
        super().__init__(path, _ENV, random.Random(1))
        self.world = world
        self.runtime = world.runtime
        self.spec = load_text(_FIRST, str(path), _ENV)
        self.listeners = _Listeners()
        for name, each in self.spec.all_listeners().items():
            self.listeners[name] = Listener(self.runtime, name, each.bind, each.mode)
        self._certificates = Certificates(self.runtime.tls.expiries, self.events.publish)
        self._parts = Parts(
            world.dials, world.timers, world.runtime.clock, self._rng, self._client_tls, self._server_tls,
            self.events.publish,
        )  # fmt: skip
        self._shutdown = Shutdown(self.runtime, self.listeners.everyone, lambda fields: None)
        self.runtime.gate = self._gate = Gate(self.runtime, world.loop)
        self._overload = Watch(self.runtime, self.listeners.everyone, self.events.publish, get_logger())
        nobody: Any = _Nobody()
        self._checks = self._companion = nobody

    def write(self, text: bytes) -> None:
        """Another configuration in the file."""
        Path(self.path).write_bytes(text)

    def checks(self) -> dict[str, Check]:
        return {}


class _Listeners(Listeners):
    """Those that are not bound."""

    async def added(self, runtime: Runtime, spec: Spec) -> Listeners:
        new = _Listeners()
        for name, each in spec.all_listeners().items():
            if each.bind.unix and name not in self:
                raise BindError(f"cannot listen on {each.bind} (listeners.{name}.bind): there is nothing")
            if name not in self:
                new[name] = Listener(runtime, name, each.bind, each.mode)
        return new

    async def join(self, new: Listeners) -> None:
        self.update(new)


class _Nobody:
    """Who follows the configuration, but probes and waits for nothing."""

    def follow(self, *_: Any) -> None:
        """Nothing follows."""
