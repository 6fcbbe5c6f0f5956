"""Fixtures that every folder of tests shares."""

import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.clock import FakeClock
from tests.support.grpc_service import GrpcService
from tests.support.http_service import HttpService
from tests.support.processes import Processes

# The same examples each time, however busy the machine is: `make fuzz` looks for new ones.
settings.register_profile("tests", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@pytest.fixture
def clock() -> FakeClock:
    """A monotonic clock that the test moves."""
    return FakeClock()


@pytest.fixture
def socket_folder() -> Iterator[Path]:
    """A folder for unix sockets, whose paths have 107 bytes at most: `tmp_path` may be longer."""
    with tempfile.TemporaryDirectory(prefix="sidecar-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def processes() -> Iterator[Processes]:
    """Child processes, all gone at the end of the test."""
    owner = Processes()
    yield owner
    owner.reap()


@pytest.fixture
async def http_service() -> AsyncIterator[HttpService]:
    """A real aiohttp server in this process."""
    async with HttpService() as service:
        yield service


@pytest.fixture
async def grpc_service() -> AsyncIterator[GrpcService]:
    """A real grpcio server in this process."""
    async with GrpcService() as service:
        yield service


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the test's processes printed when it failed."""
    report = yield
    owner = getattr(item, "funcargs", {}).get("processes")
    if report.failed and isinstance(owner, Processes):
        for child in owner.children:
            report.sections.append((f"output of {child.module}", child.output))
    return report
