"""`python -m tests.support.watched_sidecar -c FILE`: `sidecar run`, which on SIGUSR1 prints what it
holds at that moment as one JSON line: `Leftovers`, and `dirty`, its private memory in KiB."""

import argparse
import asyncio
import gc
import json
import re
import signal
from dataclasses import asdict
from pathlib import Path

import uvloop

from sidecar.app import App
from sidecar.telemetry import logs
from tests.chaos.watching import Leftovers


class WatchedApp(App):
    """An App that tells on itself."""

    _asked = _up = False

    async def start(self) -> None:
        """As every App; and listen for the signal, which may come before all is up."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._report)
        await super().start()
        self._up = True
        if self._asked:
            self._report()

    def _report(self) -> None:
        self._asked = True
        if not self._up:
            return
        gc.collect()
        print(json.dumps({**asdict(Leftovers.of(self)), "dirty": _private_dirty()}), flush=True)


def _private_dirty() -> int:
    found = re.search(r"^Private_Dirty: +(\d+) kB", Path("/proc/self/smaps_rollup").read_text(), re.M)
    assert found is not None
    return int(found[1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    parser.add_argument("-c", dest="path")
    arguments = parser.parse_args()
    logs.configure()
    uvloop.run(WatchedApp(arguments.path).run())
