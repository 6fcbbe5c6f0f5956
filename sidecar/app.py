"""The composition root: builds the edges, starts, reloads, drains, stops."""

import asyncio
import gc
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sidecar
from sidecar.admin import server as admin
from sidecar.admin.operations import Check
from sidecar.admin.token import TokenError, read_token, readable_by_all
from sidecar.assembly import Parts, assemble
from sidecar.config.errors import ConfigError, ConfigErrors
from sidecar.config.load import load_file
from sidecar.config.schema import Spec
from sidecar.config.tls import ListenerTls, Tls
from sidecar.config.watch import Fingerprint, fingerprint, watch
from sidecar.health.checks import Checks
from sidecar.identity.files import FileError
from sidecar.model.address import Address
from sidecar.proxy.runtime import Runtime
from sidecar.proxy.snapshot import Snapshot
from sidecar.telemetry import logs
from sidecar.telemetry.access_log import AccessLog, AccessLogError, open_access_log
from sidecar.telemetry.events import Events
from sidecar.telemetry.notable import Notable
from sidecar.wire.certificates import Certificates
from sidecar.wire.connector import Connector
from sidecar.wire.listener import BindError, Listener, holder
from sidecar.wire.timers import Timers
from sidecar.wire.tls import ClientTls, ServerTls
from sidecar.wire.turn import Turn

_WATCH_SECONDS = 1.0
_MAX_PAUSE = 5.0
_POLL_SECONDS = 0.05

log = logs.get_logger()


class App:
    """One sidecar in one event loop. `path` is its YAML file.

    `start` raises ConfigErrors, BindError or AccessLogError; what was opened by
    then is closed again.
    """

    version = sidecar.__version__

    def __init__(self, path: str | Path, env: Mapping[str, str] = os.environ, rng: random.Random | None = None) -> None:
        self.path = str(path)
        self.events = Events()
        self.notable = Notable()
        self.spec: Spec
        self.runtime: Runtime
        self.loaded_at = datetime.now(UTC)
        self.last_rejected: dict[str, Any] | None = None
        self.reloads = {"ok": 0, "rejected": 0, "unchanged": 0}
        self.listeners: dict[str, Listener] = {}
        # Removed by a reload; their last connections are still being answered.
        self._retired: list[Listener] = []
        self._env = env
        self._seen: Fingerprint | None = None  # the file as it was read last
        self._rng = rng or random.Random()
        self._admin: admin.AdminServer | None = None
        self._connector: Connector
        self._timers: Timers
        self._parts: Parts
        self._checks: Checks
        self._access_log: AccessLog | None = None
        self._certificates: Certificates
        self._watch: asyncio.Future[Any] | None = None
        self._reloading = asyncio.Lock()
        self._drain_began = 0.0
        self._hurry = asyncio.Event()
        self._stopping = asyncio.Event()

    # ------------------------------------------------------------------------ start

    @property
    def service(self) -> str:
        """Who this sidecar sits beside."""
        return self.spec.service

    async def start(self) -> None:
        """Load, assemble, bind, serve."""
        self._seen = fingerprint(self.path)
        self.spec = load_file(self.path, self._env)
        loop = asyncio.get_running_loop()
        turn = Turn(loop, together=True)
        self._timers = Timers(loop, turn, time.monotonic)
        self._connector = Connector(loop)
        self.runtime = Runtime(turn, self._timers, time.monotonic, self._rng, Snapshot())
        self.runtime.on_crash = lambda error: log.error("request_failed_by_a_bug", exc_info=error)
        self._connector.runtime = self.runtime
        self._checks = Checks(self.runtime)
        self.runtime.tls.on_warning = lambda event, fields: log.warning(event, **fields)
        self._certificates = Certificates(self.runtime.tls.expiries, self.events.publish)
        self._parts = Parts(
            self._connector,
            self._timers,
            time.monotonic,
            self._rng,
            self._client_tls,
            self._server_tls,
            self.events.publish,
        )
        try:
            self._open_access_log(self.spec.access_log)
            self.runtime.notable = self.notable
            self.runtime.snapshot = assemble(self.spec, self.runtime.snapshot, self._parts)
            for name, spec in self.spec.all_listeners().items():
                self.listeners[name] = await self._bind(name, spec.bind, spec.mode)
            self._check_token(self.spec)
            await self._start_admin(self.spec.admin.bind)
        except BaseException:
            await self.stop()
            raise
        self._checks.follow(self.spec, self.runtime.snapshot)
        for name, listener in self.listeners.items():
            log.info("listening", listener=name, address=str(listener.address))
        self._watch = asyncio.gather(self._watch_file(), self._certificates.watch(_WATCH_SECONDS))
        log.info("started", service=self.service, version=self.version, config=self.path)

    def _client_tls(self, tls: Tls) -> ClientTls:
        return self._certificates.client(tls.ca, tls.cert, tls.key, tls.server_name, tls.verify, tuple(tls.sans or ()))

    def _server_tls(self, tls: ListenerTls) -> ServerTls:
        optional = tls.client_certificate == "optional"
        return self._certificates.server(tls.cert, tls.key, tls.client_ca, optional, tls.handshake_timeout)

    async def _bind(self, name: str, address: Address, mode: str) -> Listener:
        listener = Listener(self.runtime, name, address, mode)
        await listener.start()
        return listener

    async def _start_admin(self, address: Address) -> None:
        try:
            self._admin = await admin.start(self, address)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise BindError(f"cannot listen on {address} (admin.bind): {reason}{holder(address, error)}") from None
        log.info("listening", listener="admin", address=str(self._admin.address))

    def _check_token(self, spec: Spec) -> None:
        """The file itself is read anew for each use; one that cannot be is refused here."""
        path = spec.admin.token_file
        if path is None:
            return
        try:
            read_token(path)
        except TokenError as error:
            raise ConfigErrors([ConfigError(self.path, 1, 1, "admin.token_file", str(error))]) from None
        if readable_by_all(path):
            log.warning("admin_token_readable_by_all", path=path)

    def _open_access_log(self, target: str) -> None:
        self._access_log = open_access_log(target)
        if self._access_log is not None:
            self.runtime.records.append(self._access_log)

    def address(self, listener: str) -> Address:
        """Where a listener, or "admin", really listens."""
        if listener == "admin":
            assert self._admin is not None
            return self._admin.address
        return self.listeners[listener].address

    # ----------------------------------------------------------------------- reload

    async def _watch_file(self) -> None:
        await watch(self.path, _WATCH_SECONDS, self._on_file_changed, self._seen, loaded=lambda: self._seen)

    def _on_file_changed(self) -> None:
        self._spawned = asyncio.ensure_future(self.reload())

    async def reload(self) -> list[str]:
        """Read the file again: [] when it is live now, else its errors and no change."""
        async with self._reloading:
            self._seen = fingerprint(self.path)
            self._certificates.look(at_once=True)
            try:
                spec = load_file(self.path, self._env)
                await self._apply(spec)
            except ConfigErrors as errors:
                return self._rejected([str(error) for error in errors.errors])
            except (BindError, OSError) as error:
                return self._rejected([f"{self.path}: {error}"])
            return []

    async def _apply(self, spec: Spec) -> None:
        if spec == self.spec:
            self.reloads["unchanged"] += 1
            log.info("reload_unchanged", config=self.path)
            return
        self._refuse_static_changes(spec)
        self._check_token(spec)
        wanted = spec.all_listeners()
        opened: dict[str, Listener] = {}
        try:
            for name in wanted.keys() - self.listeners.keys():
                opened[name] = Listener(self.runtime, name, wanted[name].bind, wanted[name].mode)
                opened[name].prepare()
            snapshot = assemble(spec, self.runtime.snapshot, self._parts)
        except BaseException:
            for listener in opened.values():
                await listener.stop()
            raise
        # Nothing above has changed what is live; nothing below can fail.
        gone = [self.listeners.pop(name) for name in self.listeners.keys() - wanted.keys()]
        self._retired = [listener for listener in self._retired if listener.connections] + gone
        retired = {listener.name: self.runtime.snapshot.listeners[listener.name] for listener in self._retired}
        self.runtime.snapshot = snapshot.with_retired(retired)
        self.spec = spec
        self.loaded_at = datetime.now(UTC)
        self.last_rejected = None
        self.reloads["ok"] += 1
        for name, listener in opened.items():
            await listener.start()
            self.listeners[name] = listener
            log.info("listening", listener=name, address=str(listener.address))
        for listener in gone:
            listener.close_socket()
            self._in_turn(listener.drain)
            self._in_turn(listener.close_idle)
        self._checks.follow(spec, snapshot)
        self.events.publish("reload", {"result": "ok", "version": snapshot.version})

    def _refuse_static_changes(self, spec: Spec) -> None:
        """Ports, and where the access log goes, are fixed at the start."""
        changed: list[str] = []
        if spec.admin.bind != self.spec.admin.bind:
            changed.append("admin.bind")
        if spec.admin.socket_mode != self.spec.admin.socket_mode:
            changed.append("admin.socket_mode")
        if spec.access_log != self.spec.access_log:
            changed.append("access_log")
        before = self.spec.all_listeners()
        for name, listener in spec.all_listeners().items():
            old = before.get(name)
            if old is not None and (old.bind != listener.bind or old.mode != listener.mode):
                changed.append(f"listeners.{name}.{'bind' if old.bind != listener.bind else 'mode'}")
        if changed:
            raise ConfigErrors(
                [ConfigError(self.path, 1, 1, key, "changed while running", "restart required") for key in changed]
            )

    def _rejected(self, errors: list[str]) -> list[str]:
        self.reloads["rejected"] += 1
        self.last_rejected = {"at": datetime.now(UTC).isoformat(), "errors": errors}
        self.events.publish("reload", {"result": "rejected", "errors": errors})
        return errors

    # ------------------------------------------------------------------ drain, stop

    def checks(self) -> dict[str, Check]:
        """What readiness depends on."""
        live = self.runtime.snapshot.version > 0
        draining = self.runtime.draining
        return {
            "config": Check("ok" if live else "failed", f"version {self.runtime.snapshot.version}"),
            "draining": Check("failed" if draining else "ok", "draining" if draining else ""),
            **self._check_certificates(),
        }

    def _check_certificates(self) -> dict[str, Check]:
        """A warning and no more: all copies of a service have the same certificates, and
        were none of them ready, nobody would be served at all."""
        if not self._certificates.in_use:
            return {}
        warnings = self._certificates.warnings()
        return {"certificates": Check("warn" if warnings else "ok", "; ".join(warnings))}

    def drain(self) -> None:
        """Fail readiness, ask every client to go elsewhere; go on answering."""
        if self.runtime.draining:
            return
        self.runtime.draining = True
        self._drain_began = time.monotonic()
        self.events.publish("drain", {"state": "started"})
        for listener in self.listeners.values():
            self._in_turn(listener.drain)

    def _in_turn(self, call: Callable[[], None]) -> None:
        turn = self.runtime.turn
        turn.begin()
        try:
            call()
        finally:
            turn.end()

    async def drained(self, pause: float) -> None:
        """Wait until nothing is under way, `shutdown` at the most.

        New requests are answered all that time, and for at least `pause` seconds
        while clients are connected: load balancers need a moment to notice.
        """
        # Draining may have been asked for long ago: `shutdown` counts from now.
        end = time.monotonic() + self.spec.shutdown
        quiet_from = self._drain_began + pause
        listeners = [*self.listeners.values(), *self._retired]

        def connected() -> bool:
            return any(listener.connections for listener in listeners)

        def over() -> bool:
            return time.monotonic() >= end or self._hurry.is_set()

        def quiet() -> bool:
            return not self.runtime.in_flight and (not connected() or time.monotonic() >= quiet_from)

        await _until(lambda: over() or quiet())
        # What is left are idle connections, and answers that their clients still read.
        for listener in listeners:
            listener.close_socket()
            self._in_turn(listener.close_idle)
        await _until(lambda: over() or not connected())

    async def stop(self) -> None:
        """Close everything. Safe to call after a failed start."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if hasattr(self, "_checks"):
            await self._checks.stop()
        for listener in (*self.listeners.values(), *self._retired):
            await listener.stop()
        if hasattr(self, "_connector"):
            await self._connector.close()
        await asyncio.sleep(0)  # aborted transports tell their protocols now
        self.events.close()
        if self._admin is not None:
            await self._admin.stop()
        if self._access_log is not None:
            self._access_log.stop()
        if hasattr(self, "runtime"):
            for cluster in self.runtime.snapshot.clusters.values():
                cluster.close()
            self._timers.close()

    async def run(self) -> int:
        """Start, serve until a signal, drain, stop; the exit code."""
        await self.start()
        loop = asyncio.get_running_loop()
        pause = 0.0

        def ask_to_stop(number: int) -> None:
            nonlocal pause
            if self._stopping.is_set():
                self._hurry.set()
            pause = 0.0 if number == signal.SIGINT else min(_MAX_PAUSE, self.spec.shutdown / 5)
            log.info("stopping", signal=signal.Signals(number).name)
            self._stopping.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ask_to_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        # What exists now lives until the end: the collector need not walk it.
        gc.collect()
        gc.freeze()
        gc.set_threshold(5_000, 20, 50)
        await self._stopping.wait()
        self.drain()
        await self.drained(pause)
        await self.stop()
        log.info("stopped")
        return 0

    def _on_hangup(self) -> None:
        if self._access_log is not None:
            self._access_log.reopen()
        self._on_file_changed()


async def _until(true: Callable[[], bool]) -> None:
    while True:
        if true():
            return
        await asyncio.sleep(_POLL_SECONDS)


def run(path: str) -> int:
    """`sidecar run`: the exit code. Errors of the start are one line each on stderr."""
    logs.configure()
    try:
        import uvloop

        return uvloop.run(App(path).run())
    except ConfigErrors as errors:
        for error in errors.errors:
            print(error, file=sys.stderr)
        return 2
    except (BindError, AccessLogError, FileError) as error:
        print(f"sidecar: {error}", file=sys.stderr)
        return 1
