"""sidecar.wire.certificates: files that change, files that are wrong, dates that come near."""

import os
import ssl
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sidecar.wire.certificates import Certificates
from sidecar.wire.tls import ClientTls, ServerTls
from tests.support.authority import DAY, Authority, Identity


class World:
    def __init__(self) -> None:
        self.now = time.time()
        self.events: list[dict[str, Any]] = []
        self.expiries: dict[tuple[str, str], float] = {}
        self.certificates = Certificates(self.expiries, self._on_event, lambda: self.now)

    def _on_event(self, kind: str, fields: dict[str, Any]) -> None:
        assert kind == "certificate"
        self.events.append(fields)

    def server(self, identity: Identity, ca: str | None = None) -> ServerTls:
        return self.certificates.server(identity.cert, identity.key, ca, False, 10.0)

    def client(self, ca: str | None = None, identity: Identity | None = None) -> ClientTls:
        cert, key = (identity.cert, identity.key) if identity is not None else (None, None)
        return self.certificates.client(ca, cert, key, "", True, ())

    def look_twice(self) -> None:
        self.certificates.look()
        self.certificates.look()

    @property
    def states(self) -> list[str]:
        return [fields["state"] for fields in self.events]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_equal_settings_are_one_and_are_forgotten_with_their_last_holder(world: World, authority: Authority) -> None:
    web = authority.issue("web", file="web")
    one, same, other = world.server(web), world.server(web), world.server(web, authority.path)
    assert one is same
    assert one is not other
    assert world.expiries.keys() == {(web.cert, "certificate"), (authority.path, "authorities")}
    del one, same, other
    world.certificates.look()
    assert not world.certificates.in_use
    assert world.expiries == {}
    assert world.certificates._seen == {}


def test_a_new_pair_is_for_new_handshakes_alone(world: World, authority: Authority) -> None:
    tls = world.server(authority.issue("web", ends=9 * DAY, file="web"))
    before, ends = tls.context(), world.expiries[tls.cert, "certificate"]
    world.look_twice()
    assert tls.context() is before
    authority.issue("web", ends=99 * DAY, file="web")
    world.certificates.look()
    assert tls.context() is before  # perhaps it is being written
    world.certificates.look()
    assert tls.context() is not before
    assert world.expiries[tls.cert, "certificate"] > ends
    assert (world.states, world.certificates.warnings()) == (["loaded"], [])


def test_files_that_are_touched_again_and_again_are_read_when_they_change(world: World, authority: Authority) -> None:
    web = authority.issue("web", file="web")
    tls = world.server(web)
    before = tls.context()
    for number in range(1, 4):
        os.utime(web.cert, (number, number))
        world.certificates.look()
    assert (tls.context(), world.events) == (before, [])
    authority.issue("web", file="web")
    for number in range(4, 6):
        os.utime(web.cert, (number, number))
        world.certificates.look()
    assert tls.context() is not before
    assert world.states == ["loaded"]


def test_one_event_for_a_file_that_many_use(world: World, authority: Authority) -> None:
    web = authority.issue("web", file="web")
    kept = world.server(web), world.server(web, authority.path), world.client(authority.path, web)
    authority.issue("web", file="web")
    world.look_twice()
    assert [(event["file"], event["state"]) for event in world.events] == [
        (web.cert, "loaded"),
        (authority.path, "loaded"),
    ]
    assert len(kept) == 3


def test_asked_for_it_is_read_at_once(world: World, authority: Authority) -> None:
    tls = world.server(authority.issue("web", file="web"))
    before = tls.context()
    authority.issue("web", file="web")
    world.certificates.look(at_once=True)
    assert tls.context() is not before


def test_a_pair_that_is_written_slowly_is_read_when_it_is_whole(world: World, authority: Authority) -> None:
    web = authority.issue("web", file="web")
    tls = world.server(web)
    before = tls.context()
    cert, key = authority.issue_pem("web")
    for size in range(100, len(cert), 100):
        Path(web.cert).write_bytes(cert[:size])
        world.certificates.look()
    Path(web.cert).write_bytes(cert)
    world.certificates.look()
    Path(web.key).write_bytes(key)
    world.certificates.look()
    assert tls.context() is before
    world.certificates.look()
    assert tls.context() is not before
    assert world.states == ["loaded"]


@pytest.mark.parametrize("what", ["other key", "half", "gone", "no PEM", "expired", "not allowed"])
def test_a_bad_pair_leaves_the_old_one_in_use(world: World, authority: Authority, what: str) -> None:
    web = authority.issue("web", file="web")
    tls = world.server(web)
    before, ends = tls.context(), dict(world.expiries)
    good = Path(web.cert).read_bytes()
    if what == "other key":
        Path(web.cert).write_bytes(authority.issue_pem("web")[0])
    elif what == "half":
        Path(web.cert).write_bytes(good[:-100])
    elif what == "gone":
        os.unlink(web.cert)
    elif what == "no PEM":
        Path(web.cert).write_text("oops")
    elif what == "expired":
        authority.issue("web", begins=-9 * DAY, ends=-DAY, file="web")
    else:
        os.unlink(web.cert)
        os.mkdir(web.cert)
    world.look_twice()
    world.look_twice()
    assert tls.context() is before
    assert world.expiries == ends
    (event,) = world.events
    assert event["state"] == "rejected"
    assert event["file"] == (web.key if what == "other key" else web.cert)
    (warning,) = world.certificates.warnings()
    assert warning == f"{event['file']}: {event['reason']}; the one before is still in use"
    # And back again.
    if what == "not allowed":
        os.rmdir(web.cert)
    authority.issue("web", file="web")
    world.look_twice()
    assert tls.context() is not before
    assert (world.states, world.certificates.warnings()) == (["rejected", "loaded"], [])


def test_what_openssl_says_of_its_own_is_a_rejection_too(
    world: World, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = world.server(authority.issue("web", file="web"))
    before = tls.context()
    authority.issue("web", file="web")

    def fail() -> None:
        raise ssl.SSLError(1, "out of luck")

    monkeypatch.setattr(tls, "load", fail)
    world.look_twice()
    assert tls.context() is before
    assert [(event["file"], event["state"]) for event in world.events] == [(tls.cert, "rejected")]
    assert "out of luck" in world.certificates.warnings()[0]


def test_a_folder_that_is_swapped_by_its_symlink(world: World, authority: Authority, tmp_path: Path) -> None:
    """As the kubelet does it: tls.crt -> ..data/tls.crt, and ..data -> ..2026_1."""
    mount = tmp_path / "mount"
    mount.mkdir()

    def publish(version: str) -> None:
        folder = mount / f"..{version}"
        folder.mkdir()
        cert, key = authority.issue_pem("web")
        (folder / "tls.crt").write_bytes(cert)
        (folder / "tls.key").write_bytes(key)
        fresh = mount / "..data_tmp"
        fresh.symlink_to(folder.name)
        fresh.rename(mount / "..data")

    publish("1")
    for name in ("tls.crt", "tls.key"):
        (mount / name).symlink_to(f"..data/{name}")
    tls = world.server(Identity(str(mount / "tls.crt"), str(mount / "tls.key")))
    before = tls.context()
    publish("2")
    world.look_twice()
    assert tls.context() is not before
    assert world.states == ["loaded"]


def test_authorities_and_a_clients_pair_are_read_again_too(world: World, authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    me = authority.issue("me", file="me")
    tls = world.client(authority.path, me)
    first = tls.context("http1")
    second = tls.context("http2")
    assert tls.context("http2") is second
    Path(authority.path).write_bytes(authority.pem + other.pem)
    world.look_twice()
    assert tls.context("http1") is not first
    assert tls.context("http2") is not second
    assert tls.context("http1").cert_store_stats()["x509_ca"] == 2
    assert tls.loaded.pem[0] == authority.pem + other.pem
    authority.issue("me", file="me")
    third = tls.context("http1")
    world.look_twice()
    assert tls.context("http1") is not third
    assert tls.loaded.pem[1:] == (Path(me.key).read_bytes(), Path(me.cert).read_bytes())


@pytest.mark.parametrize(
    ("lasts", "left", "state"),
    [
        (90 * DAY, 8 * DAY, ""),
        (90 * DAY, 6 * DAY, "expiring"),
        (DAY, timedelta(hours=5), ""),
        (DAY, timedelta(hours=4), "expiring"),
        (timedelta(hours=1), timedelta(minutes=30), ""),
        (DAY, timedelta(), "expired"),
        (DAY, -DAY, "expired"),
    ],
)
def test_an_end_is_told_before_it_comes(
    world: World, authority: Authority, lasts: timedelta, left: timedelta, state: str
) -> None:
    web = authority.issue("web", begins=left - lasts, ends=left)
    world.now = time.time()  # which a slow machine needed a second for
    tls = world.server(web)
    world.look_twice()
    assert world.states == ([state] if state else [])
    assert [warning.partition(" 2")[0] for warning in world.certificates.warnings()] == (
        [f"{tls.cert}: {'expires' if state == 'expiring' else 'expired'}"] if state else []
    )


def test_time_goes_by(world: World, authority: Authority) -> None:
    tls = world.server(authority.issue("web", ends=30 * DAY, file="web"))
    for days in (20, 25, 29, 31, 32):
        world.now = time.time() + days * 86400
        world.look_twice()
    assert world.states == ["expiring", "expired"]
    authority.issue("web", ends=90 * DAY, file="web")
    world.look_twice()
    assert (world.states[2:], world.certificates.warnings()) == (["loaded"], [])
    assert tls.loaded.dated


async def test_it_looks_until_it_is_cancelled(world: World, authority: Authority) -> None:
    tls = world.server(authority.issue("web", file="web"))
    before = tls.context()
    naps: list[float] = []

    async def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 2:
            authority.issue("web", file="web")
        if len(naps) == 5:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        await world.certificates.watch(1.0, sleep)
    assert naps == [1.0] * 5
    assert tls.context() is not before
