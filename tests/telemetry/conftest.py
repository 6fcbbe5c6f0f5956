"""Fixtures of the telemetry tests."""

import pytest

from tests.support.clock import FakeClock
from tests.telemetry.parts import Parts


@pytest.fixture
def parts(clock: FakeClock) -> Parts:
    """A runtime without sockets."""
    return Parts(clock)
