"""Fixtures of the TLS tests."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.security.tls.setups import NAME
from tests.support import faults
from tests.support.authority import Authority, Identity
from tests.support.fault_server import FaultServer
from tests.support.http_service import pattern


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Whom everybody trusts."""
    return Authority(tmp_path)


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """Whom nobody trusts."""
    return Authority(tmp_path, "stranger")


@pytest.fixture
def web(authority: Authority) -> Identity:
    """What a server shows: good for its name and for the address that tests connect to."""
    return authority.issue(NAME, "127.0.0.1", "::1", file="web")


@pytest.fixture
def trusting(authority: Authority) -> ssl.SSLContext:
    """A client without a certificate."""
    return authority.as_client()


@pytest.fixture
async def upstream() -> AsyncIterator[FaultServer]:
    """A plain service."""
    async with FaultServer(then=faults.answer(200, pattern(1000))) as server:
        yield server
