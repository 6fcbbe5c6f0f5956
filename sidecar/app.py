"""The composition root: builds the edges, starts, reloads, drains, stops.

How each of these goes is in sidecar/lifecycle.
"""

import asyncio
import gc
import os
import random
import signal
import socket
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sidecar
from sidecar.admin import server as admin
from sidecar.admin.operations import Check
from sidecar.admin.token import TokenError, read_token, readable_by_all
from sidecar.assembly import Parts, assemble
from sidecar.config.errors import ConfigErrors, Problem
from sidecar.config.load import load_file, placed
from sidecar.config.schema import Spec
from sidecar.config.secrets import without_credentials
from sidecar.config.tls import ListenerTls, Tls
from sidecar.config.watch import Fingerprint, fingerprint, watch
from sidecar.health.checks import Checks
from sidecar.identity.files import FileError
from sidecar.lifecycle import signals
from sidecar.lifecycle.companion import Companion
from sidecar.lifecycle.crashes import Crashes
from sidecar.lifecycle.fixed import fixed_changes
from sidecar.lifecycle.listeners import Listeners
from sidecar.lifecycle.phases import SERVING, Phases
from sidecar.lifecycle.readiness import Readiness
from sidecar.lifecycle.shutdown import Shutdown
from sidecar.lifecycle.sockets import ADMIN, Inherited, Offered
from sidecar.lifecycle.start_order import StartOrder
from sidecar.lifecycle.succession import Succession
from sidecar.lifecycle.systemd import notifications
from sidecar.lifecycle.takeover import TakeoverError
from sidecar.model.address import Address
from sidecar.overload import files
from sidecar.overload.watch import Watch
from sidecar.proxy.runtime import Runtime
from sidecar.proxy.snapshot import Snapshot
from sidecar.telemetry import logs
from sidecar.telemetry.access_log import AccessLog, AccessLogError, open_access_log
from sidecar.telemetry.events import Events
from sidecar.telemetry.notable import Notable
from sidecar.wire.certificates import Certificates
from sidecar.wire.connector import Connector
from sidecar.wire.gate import Gate
from sidecar.wire.listener import BindError, Listener, holder
from sidecar.wire.timers import Timers
from sidecar.wire.tls import ClientTls, ServerTls
from sidecar.wire.turn import Turn

_WATCH_SECONDS = 1.0

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
        self.listeners = Listeners()
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
        self._overload: Watch
        self._gate: Gate
        self._watch: asyncio.Future[Any] | None = None
        self._reloading = asyncio.Lock()
        self._order: StartOrder
        self._shutdown: Shutdown
        self._readiness: Readiness
        self._companion = Companion(lambda why: self._ask_to_stop(why, pause=False))
        self._succession = Succession(self.version, self.events.publish, self._offers, self._on_handed_over)
        self._notify = notifications()
        self._stopping = asyncio.Event()
        self._pauses = True
        self._tasks: set[asyncio.Future[Any]] = set()

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
        turn = Turn(loop)
        self._timers = Timers(loop, turn, time.monotonic)
        self._connector = Connector(loop)
        self.runtime = turn.load = Runtime(turn, self._timers, time.monotonic, self._rng, Snapshot())
        self.runtime.crowd.on_change += [self._connector.adapt_to_crowd, self.listeners.adapt_to_crowd]
        self.runtime.on_crash = crashes = Crashes(self.runtime)
        loop.set_exception_handler(crashes.on_loop_error)
        self._connector.runtime = self.runtime
        self._checks = Checks(self.runtime)
        self._order = StartOrder(self._checks)
        self._shutdown = Shutdown(
            self.runtime,
            self.listeners.everyone,
            lambda fields: self.events.publish("shutdown", fields),
            lambda: self._companion.alive,
        )
        self.runtime.tls.on_warning = lambda event, fields: log.warning(event, **fields)
        self.runtime.abuse.on_warning = lambda fields: self.events.publish("http2_abuse", fields)
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
        self.runtime.gate = self._gate = Gate(self.runtime, loop)
        self._overload = Watch(self.runtime, self.listeners.everyone, self.events.publish, log)
        self._readiness = Readiness(self.runtime, self._shutdown, self._order, self._certificates)
        try:
            self._open_access_log(self.spec.access_log)
            self.runtime.notable = self.notable
            self.runtime.snapshot = assemble(self.spec, self.runtime.snapshot, self._parts)
            self._check_token(self.spec)
            await self._open(await self._succession.inherit(self.spec, os.environ))
        except BaseException:
            await self.stop()
            raise
        self._companion.follow(self.spec.exit_with)
        self._watch = asyncio.gather(
            self._watch_file(), self._certificates.watch(_WATCH_SECONDS), self._notify.keep_alive()
        )
        log.info("started", service=self.service, version=self.version, config=self.path)

    def _client_tls(self, tls: Tls) -> ClientTls:
        return self._certificates.client(tls.ca, tls.cert, tls.key, tls.server_name, tls.verify, tuple(tls.sans or ()))

    def _server_tls(self, tls: ListenerTls) -> ServerTls:
        optional = tls.client_certificate == "optional"
        return self._certificates.server(tls.cert, tls.key, tls.client_ca, optional, tls.handshake_timeout)

    async def _open(self, inherited: Inherited) -> None:
        """Bind what is to be bound, then accept. A predecessor goes on until we do: what can
        fail is done before."""
        self.listeners.prepare(self.runtime, self.spec, inherited, self._succession.relieves)
        admin_socket = inherited.take(ADMIN, self.spec.admin.bind)
        inherited.close()
        self._checks.follow(self.spec, self.runtime.snapshot)
        self._order.begin([self.runtime.snapshot.clusters[name] for name in self.spec.wait_for])
        if self._succession.relieves:
            await self._succession.may_serve(self._order.done())
        self._watch_overload(self.spec)
        self._overload.start()
        await self.listeners.start()
        await self._start_admin(self.spec.admin.bind, admin_socket)
        await self._succession.serving(self.spec, inherited)
        self.listeners.take_all()
        # Told last: whoever starts a successor when it reads this finds all sockets, the takeover's too.
        assert self._admin is not None
        log.info("listening", listener=ADMIN, address=str(self._admin.address))
        self.listeners.tell()

    def _watch_overload(self, spec: Spec) -> None:
        self._overload.configure(None if spec.overload is None else spec.overload.policy())

    def _offers(self) -> list[Offered]:
        """The sockets that a successor may have."""
        offers = self.listeners.offers()
        if self._admin is not None:
            offers.append(Offered(ADMIN, str(self.spec.admin.bind), self._admin.listening))
        return offers

    def _on_handed_over(self, pid: int, names: Sequence[str]) -> None:
        """Another process serves what is new: here what is under way finishes."""
        self.listeners.handed_over(names)
        self._notify.replaced_by(pid)
        self._shutdown.hand_over()
        self._spawn(self._stop_admin(handed_over=ADMIN in names))
        self._ask_to_stop(f"process {pid} has taken over", pause=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start_admin(self, address: Address, inherited: socket.socket | None = None) -> None:
        try:
            self._admin = await admin.start(self, address, inherited)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise BindError(f"cannot listen on {address} (admin.bind): {reason}{holder(address, error)}") from None

    def _check_token(self, spec: Spec) -> None:
        """The file itself is read anew for each use; one that cannot be is refused here."""
        path = spec.admin.token_file
        if path is None:
            return
        try:
            read_token(path)
        except TokenError as error:
            raise placed(self.path, self._env, [Problem(("admin", "token_file"), str(error))]) from None
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
        self._spawn(self._reload_and_tell())

    async def _reload_and_tell(self) -> None:
        self._notify.reloading()
        await self.reload()
        self._notify.ready(f"configuration {self.runtime.snapshot.version}")

    async def reload(self) -> list[str]:
        """Read the file again: [] when it is live now, else its errors and no change."""
        if self._shutdown.phase != SERVING:
            return [f"{self.path}: the sidecar is stopping"]
        async with self._reloading:
            self._seen = fingerprint(self.path)
            self._certificates.look(at_once=True)
            secrets: Iterable[str] = ()
            try:
                spec = load_file(self.path, self._env, at_once=True)
                secrets = spec.secrets
                await self._apply(spec)
            except ConfigErrors as errors:
                return self._rejected([str(error) for error in errors.errors], secrets)
            except (BindError, OSError) as error:
                return self._rejected([f"{self.path}: {error}"], secrets)
            return []

    async def _apply(self, spec: Spec) -> None:
        if spec.same_as(self.spec):
            self.reloads["unchanged"] += 1
            log.info("reload_unchanged", config=self.path)
            return
        if changed := fixed_changes(self.spec, spec):
            raise placed(self.path, self._env, changed)
        self._check_token(spec)
        added = await self.listeners.added(self.runtime, spec)
        try:
            snapshot = assemble(spec, self.runtime.snapshot, self._parts)
        except BaseException:
            await added.stop()
            raise
        # Nothing above has changed what is live; nothing below can fail.
        gone = self.listeners.retire(spec)
        before = self.runtime.snapshot.listeners
        retired = {listener.name: before[listener.name] for listener in self.listeners.retired}
        self.runtime.snapshot = snapshot.with_retired(retired)
        self.spec = spec
        self.loaded_at = datetime.now(UTC)
        self.last_rejected = None
        self.reloads["ok"] += 1
        await self.listeners.join(added)
        for listener in gone:
            listener.close_socket()
        self._shutdown.in_turn(gone, Listener.drain)
        self._shutdown.in_turn(gone, Listener.close_idle)
        self._checks.follow(spec, snapshot)
        self._watch_overload(spec)
        self._companion.follow(spec.exit_with)
        self.events.publish("reload", {"result": "ok", "version": snapshot.version})

    def _rejected(self, errors: list[str], secrets: Iterable[str]) -> list[str]:
        errors = [without_credentials(error, secrets) for error in errors]
        self.reloads["rejected"] += 1
        self.last_rejected = {"at": datetime.now(UTC).isoformat(), "errors": errors}
        self.events.publish("reload", {"result": "rejected", "errors": errors})
        return errors

    # ------------------------------------------------------------------ drain, stop

    def checks(self) -> dict[str, Check]:
        """What readiness depends on."""
        return self._readiness.checks(self.spec.shutdown, self.spec.wait_for)

    def drain(self) -> None:
        """Fail readiness, ask every client to go elsewhere; go on answering."""
        if self.runtime.draining:
            return
        self.runtime.draining = True
        self.events.publish("drain", {"state": "started"})
        self._shutdown.in_turn(list(self.listeners.values()), Listener.drain)

    def quit(self) -> None:
        """End the process: what is under way finishes, and no load balancer is waited for."""
        self._ask_to_stop("quit", pause=False)

    def _ask_to_stop(self, why: str, *, pause: bool) -> None:
        if not self._stopping.is_set():
            self._pauses = pause
            log.info("stopping", why=why)
            self._stopping.set()

    async def _stop_admin(self, *, handed_over: bool = False) -> None:
        server, self._admin = self._admin, None
        if server is not None:
            server.handed_over = handed_over
            await server.stop()

    async def stop(self) -> None:
        """Close everything. Safe to call after a failed start."""
        self._companion.stop()
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._succession.close()
        if hasattr(self, "_overload"):
            self._overload.stop()
            self._gate.close()
        if hasattr(self, "_checks"):
            await self._order.stop()
            await self._checks.stop()
        await self.listeners.stop()
        if hasattr(self, "_connector"):
            await self._connector.close()
        await asyncio.sleep(0)  # aborted transports tell their protocols now
        self.events.close()
        await self._stop_admin()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._access_log is not None:
            self._access_log.stop()
        if hasattr(self, "runtime"):
            for cluster in self.runtime.snapshot.clusters.values():
                cluster.close()
            self._timers.close()

    async def run(self) -> int:
        """Start, serve until a signal, drain, stop; the exit code."""
        signals.hear(asyncio.get_running_loop(), self._on_signal)
        try:
            if await self._started():
                await self._serve()
        finally:
            signals.ignore()
        log.info("stopped")
        return 0

    async def _serve(self) -> None:
        """From the start to the end, in good order."""
        # What exists now lives until the end: the collector need not walk it.
        gc.collect()
        gc.freeze()
        # What dies is freed without it. It is for the few cycles that are left, and looks at
        # so few objects at a time that nobody waits longer than a third of a millisecond.
        gc.set_threshold(1_000, 20, 50)
        self._spawn(self._tell_ready())
        await self._stopping.wait()
        self._notify.stopping()
        self.drain()
        await self._succession.end()
        await self._shutdown.run(Phases.of(self.spec.shutdown, self._pauses))
        await self.stop()

    async def _started(self) -> bool:
        """Start, unless a signal comes first."""
        if self._stopping.is_set():
            return False
        starting, stopping = asyncio.ensure_future(self.start()), asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.wait((starting,))
            return False
        await starting
        return True

    async def _tell_ready(self) -> None:
        await self._order.done()
        self._notify.ready(f"configuration {self.runtime.snapshot.version}")

    def _on_signal(self, number: int) -> None:
        """SIGHUP asks to reload; of the others the first to stop, the next ones for more haste."""
        if number == signal.SIGHUP:
            self._on_hangup()
        elif self._stopping.is_set():
            log.info("hurrying", signal=signal.Signals(number).name)
            self._shutdown.hurry()
        else:
            # Nobody presses Ctrl-C with a load balancer in mind.
            self._ask_to_stop(signal.Signals(number).name, pause=number != signal.SIGINT)

    def _on_hangup(self) -> None:
        if self._watch is None:
            return  # the file has just been read
        if self._access_log is not None:
            self._access_log.reopen()
        self._on_file_changed()


def run(path: str) -> int:
    """`sidecar run`: the exit code. Errors of the start are one line each on stderr."""
    files.open_standard()
    # Whoever reads standard error may stop, or go: requests do not wait for it.
    stderr = logs.Unhurried(os.dup(2))
    logs.configure(stderr)
    files.raise_limit()
    try:
        if 0 < files.limit() < files.LEAST:
            stderr.write(f"sidecar: it may open {files.limit()} files, and needs {files.LEAST} (ulimit -n)\n")
            return 1
        import uvloop

        return uvloop.run(App(path).run())
    except ConfigErrors as errors:
        for error in errors.errors:
            stderr.write(f"{error}\n")
        return 2
    except (BindError, AccessLogError, FileError, TakeoverError) as error:
        stderr.write(f"sidecar: {error}\n")
        return 1
    finally:
        stderr.stop()
