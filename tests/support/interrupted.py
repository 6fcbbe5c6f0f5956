"""`python -m tests.support.interrupted run -c FILE`: the sidecar, with a signal in the middle of its start.

`$SIGNALS` are their numbers; they come when the first of the sidecar's parts is imported, long
before anything listens for signals.
"""

import os
import runpy
import sys
from importlib.abc import MetaPathFinder
from typing import Any


class _Interrupts(MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        """Finds nothing."""
        if name == "sidecar.app":
            sys.meta_path.remove(self)
            for number in os.environ.pop("SIGNALS").split():
                os.kill(os.getpid(), int(number))


if __name__ == "__main__":
    sys.meta_path.insert(0, _Interrupts())
    runpy.run_module("sidecar", run_name="__main__", alter_sys=True)
