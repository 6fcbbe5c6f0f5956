"""Imports without what they would import only because it happens to be installed."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hidden(module: str) -> Iterator[None]:
    """Within it `import module` raises ImportError, as if it was not installed.

    For libraries that look for optional ones: what a running sidecar does not use
    it does not hold in memory. A module that somebody has imported already stays.
    """
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # the import system's own way to say no
    try:
        yield
    finally:
        del sys.modules[module]
