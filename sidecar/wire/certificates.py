"""Every TLS setting in use: its files are looked at, read again when they change, and
their ends are told in time.

Looking is a stat a second for each file, and its content when that has changed: as with
the configuration it works for editors, `..data` symlinks that are swapped, and network file
systems. May import asyncio, sidecar.identity, sidecar.wire.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from sidecar.identity.files import FileError, read
from sidecar.wire.tls import ClientTls, Dated, ServerTls

Tls = ServerTls | ClientTls
_Status = tuple[tuple[int, ...] | None, ...]


class _Seen(NamedTuple):
    """A setting's files as they were looked at last: cheaply, and by content."""

    status: _Status
    digest: bytes


# A warning comes when less is left: a week, or a fifth of a short-lived one's time.
_SOON_SECONDS = 7 * 24 * 3600.0
_SOON_PART = 0.2


class Certificates:
    """Makes settings and keeps them up to date; equal ones are one object. A setting that
    nobody holds any more is forgotten.

    `expiries` is kept up to date: by (file, kind) the end in seconds since the epoch.
    `on_event("certificate", fields)` hears of files that were read again, or could not
    be, and of those that are about to end. `now` is the wall clock.
    """

    def __init__(
        self,
        expiries: dict[tuple[str, str], float],
        on_event: Callable[[str, dict[str, Any]], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._expiries = expiries
        self._on_event = on_event
        self._now = now
        self._live: WeakValueDictionary[tuple[Any, ...], Tls] = WeakValueDictionary()
        self._seen: dict[tuple[Any, ...], _Seen] = {}
        self._candidates: dict[tuple[Any, ...], bytes] = {}
        self._rejected: dict[tuple[Any, ...], FileError] = {}
        self._states: dict[tuple[str, str], str] = {}

    def server(self, cert: str, key: str, client_ca: str | None, optional: bool, timeout: float) -> ServerTls:
        """A listener's setting; FileError."""
        values = ("server", cert, key, client_ca, optional, timeout)
        make = lambda: ServerTls(cert, key, client_ca, optional=optional, timeout=timeout)  # noqa: E731
        made: Any = self._known(values, (cert, key, client_ca), make)
        return made  # type: ignore[no-any-return]

    def client(
        self, ca: str | None, cert: str | None, key: str | None, server_name: str, verify: bool, sans: tuple[str, ...]
    ) -> ClientTls:
        """A cluster's setting; FileError."""
        values = ("client", ca, cert, key, server_name, verify, sans)
        make = lambda: ClientTls(ca, cert, key, server_name, verify, sans)  # noqa: E731
        made: Any = self._known(values, (ca, cert, key), make)
        return made  # type: ignore[no-any-return]

    def _known(self, values: tuple[Any, ...], paths: tuple[str | None, ...], make: Callable[[], Tls]) -> Tls:
        tls = self._live.get(values)
        if tls is None:
            # Before the files are read, so that a change right after is seen.
            seen = _Seen(_status(paths), _digest(paths))
            tls = self._live[values] = make()
            self._seen[values] = seen
            self._rejected.pop(values, None)
            self._judge()
        return tls

    # Looking.

    async def watch(self, interval: float, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Look every `interval` seconds, until cancelled."""
        while True:
            await sleep(interval)
            self.look()

    def look(self, *, at_once: bool = False) -> None:
        """Read again what has changed: at once when that is asked for, else when two
        looks saw the same, so that a pair that is being written is not read by halves."""
        live = dict(self._live)
        for known in (self._seen, self._candidates, self._rejected):
            for values in known.keys() - live.keys():
                del known[values]
        events: dict[tuple[str, str], dict[str, Any]] = {}  # one for each file, however many use it
        for values, tls in live.items():
            if self._has_changed(values, tls.paths, at_once):
                for event in self._read_again(values, tls):
                    events[event["file"], event["state"]] = event
        for event in events.values():
            self._on_event("certificate", event)
        self._judge()

    def _has_changed(self, values: tuple[Any, ...], paths: tuple[str, ...], at_once: bool) -> bool:
        """Whether files hold something new, and are not being written any more."""
        seen = self._seen[values]
        status = _status(paths)
        candidate = self._candidates.pop(values, None)
        if status == seen.status:
            return False
        digest = _digest(paths)
        if digest != seen.digest and digest != candidate and not at_once:
            self._candidates[values] = digest
            return False
        self._seen[values] = _Seen(status, digest)
        return digest != seen.digest

    def _read_again(self, values: tuple[Any, ...], tls: Tls) -> list[dict[str, Any]]:
        try:
            fresh = tls.load()
            self._refuse_expired(tls.loaded.dated, fresh.dated)
        except (OSError, ValueError) as failed:
            # Whatever OpenSSL finds: nobody would look any more if it came out here.
            error = failed if isinstance(failed, FileError) else FileError(tls.paths[0], str(failed))
            self._rejected[values] = error
            return [{"file": error.path, "state": "rejected", "reason": error.why}]
        tls.loaded = fresh
        self._rejected.pop(values, None)
        return [
            {"file": each.path, "state": "loaded", "expires": _date(each.validity.not_after)} for each in fresh.dated
        ]

    def _refuse_expired(self, before: tuple[Dated, ...], after: tuple[Dated, ...]) -> None:
        """A certificate that is over never takes the place of one that is not."""
        now = self._now()
        well = {each.path for each in before if each.validity.not_after > now}
        for each in after:
            if each.path in well and each.validity.not_after <= now:
                raise FileError(each.path, f"it has expired: {_date(each.validity.not_after)}")

    # Judging.

    def _dated(self) -> Iterator[Dated]:
        for tls in list(self._live.values()):
            yield from tls.loaded.dated

    def _judge(self) -> None:
        """Who is about to end: told once, when it begins to be."""
        now = self._now()
        states: dict[tuple[str, str], str] = {}
        self._expiries.clear()
        for each in self._dated():
            key = (each.path, each.kind)
            self._expiries[key] = each.validity.not_after
            states[key] = state = _state(each, now)
            if state and self._states.get(key, "") != state:
                ends = _date(each.validity.not_after)
                self._on_event("certificate", {"file": each.path, "state": state, "expires": ends})
        self._states = states

    @property
    def in_use(self) -> bool:
        """Whether anything speaks TLS."""
        return bool(self._live)

    def warnings(self) -> list[str]:
        """What somebody should look at, a sentence for each file; none when all is well."""
        bad = {str(error): None for error in self._rejected.values()}
        found = [f"{text}; the one before is still in use" for text in bad]
        for (path, kind), state in self._states.items():
            if state:
                verb = "expired" if state == "expired" else "expires"
                found.append(f"{path}: {verb} {_date(self._expiries[path, kind])}")
        return found


def _state(dated: Dated, now: float) -> str:
    begin, end = dated.validity
    if end <= now:
        return "expired"
    return "expiring" if end - now < min(_SOON_SECONDS, _SOON_PART * (end - begin)) else ""


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _status(paths: tuple[str | None, ...]) -> _Status:
    return tuple(_status_of(path) for path in paths if path is not None)


def _digest(paths: tuple[str | None, ...]) -> bytes:
    """Of the content of them all, or why there is none."""
    digest = hashlib.sha256()
    for path in paths:
        if path is not None:
            try:
                content = read(path)
            except FileError as error:
                content = error.why.encode()
            digest.update(b"%d:" % len(content) + content)
    return digest.digest()


def _status_of(path: str) -> tuple[int, ...] | None:
    try:
        status = os.stat(path)  # through symlinks: a swap leads to another inode
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
