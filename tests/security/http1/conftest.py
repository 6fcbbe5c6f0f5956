"""The readers, started once for all tests of a process."""

from collections.abc import Callable, Iterator

import pytest

from tests.security.http1.readers import programs
from tests.security.http1.readers.python_readers import READERS
from tests.security.http1.readers.reading import Reading


@pytest.fixture(scope="session")
def readers(pytestconfig: pytest.Config) -> Iterator[dict[str, Callable[[bytes], Reading]]]:
    """Eight independent parsers by their names. The one in Go is compiled when its source
    changed, which takes up to a minute."""
    cache = pytestconfig.cache
    assert cache is not None
    with programs.go(cache.mkdir("go")) as go, programs.node() as node, programs.tornado() as tornado:
        yield {**READERS, "net/http": go, "node": node, "tornado": tornado}
