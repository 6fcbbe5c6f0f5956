"""Checks follow the configuration, reload by reload."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from sidecar.config.load import load_text
from sidecar.config.schema import Spec
from sidecar.health.checker import Checker
from sidecar.health.checks import Checks
from tests.support.clock import FakeClock
from tests.telemetry.parts import Parts


def spec(check: str = "{tcp: {}, interval: 1h}") -> Spec:
    lines = "clusters: {users: {listen: 127.0.0.1:0, endpoints: [10.0.0.1:80]%s}}"
    return load_text(lines % (f", health_check: {check}" if check else ""), "sidecar.yaml", {})


@pytest.fixture
def parts(clock: FakeClock) -> Parts:
    parts = Parts(clock)
    parts.cluster("users", "10.0.0.1:80")
    parts.go_live()
    return parts


@pytest.fixture
async def checks(parts: Parts) -> AsyncIterator[Checks]:
    checks = Checks(parts.runtime)
    yield checks
    await checks.stop()
    assert running() == set()


def running() -> set[asyncio.Task[object]]:
    return {task for task in asyncio.all_tasks() if task.get_name().startswith("health ") and not task.cancelling()}


async def test_a_check_whose_settings_stay_goes_on(checks: Checks, parts: Parts) -> None:
    checks.follow(spec(), parts.runtime.snapshot)
    before = running()
    checks.follow(spec(), parts.runtime.snapshot)
    assert len(before) == 1
    assert running() == before


async def test_other_settings_make_a_new_check_that_knows_the_old_counts(
    checks: Checks, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopted: list[tuple[Checker, Checker]] = []
    monkeypatch.setattr(Checker, "adopt", lambda new, old: adopted.append((new, old)))
    checks.follow(spec(), parts.runtime.snapshot)
    before = running()
    checks.follow(spec("{tcp: {}, interval: 2h}"), parts.runtime.snapshot)
    assert len(adopted) == 1
    assert len(running()) == 1
    assert running() != before


async def test_without_a_check_everybody_is_well_again(checks: Checks, parts: Parts) -> None:
    (endpoint,) = parts.clusters["users"].endpoints
    checks.follow(spec(), parts.runtime.snapshot)
    endpoint.healthy = False
    checks.follow(spec(""), parts.runtime.snapshot)
    assert endpoint.healthy
    assert running() == set()


async def test_a_removed_cluster_is_no_longer_checked(checks: Checks, parts: Parts) -> None:
    checks.follow(spec(), parts.runtime.snapshot)
    other = load_text("clusters: {orders: {listen: 127.0.0.1:0, endpoints: [10.0.0.1:80]}}", "sidecar.yaml", {})
    parts.clusters.clear()
    parts.cluster("orders", "10.0.0.1:80")
    checks.follow(other, parts.runtime.snapshot)
    assert running() == set()


def test_grpcio_is_imported_only_for_grpc_checks() -> None:
    code = (
        "import sys; from sidecar.health.checks import make_probe; from sidecar.config.load import load_text\n"
        'def check(kind): return load_text(\'clusters: {u: {listen: "127.0.0.1:0", endpoints: ["10.0.0.1:80"],'
        " health_check: {%s}}}' % kind, 'x', {}).clusters['u']\n"
        "class C: tls = None\n"
        "for kind in ('tcp: {}', 'http: {path: /}'): make_probe(check(kind).health_check, None, C)\n"
        "assert 'grpc' not in sys.modules\n"
        "make_probe(check('grpc: {}').health_check, None, C)\n"
        "assert 'grpc' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], timeout=30, check=True)
