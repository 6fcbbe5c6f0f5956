"""Callers that go on while the sidecar's configuration or its life changes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from tests.interop.setups import TIMEOUT

METHODS = ("GET", "POST", "PUT", "PATCH")


class Load:
    """Requests one after the other, by several callers; `seen` counts what each one got."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seen: Counter[str] = Counter()
        self.finished = 0
        self._stopped = False
        self._changed = asyncio.Condition()

    async def more(self, requests: int) -> None:
        """Wait for so many further answers."""
        wanted = self.finished + requests
        async with self._changed:
            await self._changed.wait_for(lambda: self.finished >= wanted)

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopped = True

    async def work(self, client: aiohttp.ClientSession) -> None:
        """One caller."""
        number = 0
        while not self._stopped:
            number += 1
            try:
                async with client.request(METHODS[number % len(METHODS)], self.url, data=b"body") as response:
                    await response.read()
                    error = response.headers.get("x-sidecar-error", "")
                    self.seen[f"{response.status} {error}".strip()] += 1
            except aiohttp.ClientConnectorError:
                self.seen["refused"] += 1
                return  # nobody listens any more
            except Exception as error:
                self.seen[repr(error)] += 1
            self.finished += 1
            async with self._changed:
                self._changed.notify_all()


@asynccontextmanager
async def loaded(url: str, callers: int = 8) -> AsyncIterator[Load]:
    """Load on a URL from now until the end."""
    load = Load(url)
    async with aiohttp.ClientSession(timeout=TIMEOUT, connector=aiohttp.TCPConnector(limit=0)) as client:
        tasks = [asyncio.create_task(load.work(client)) for _ in range(callers)]
        try:
            await load.more(callers)
            yield load
        finally:
            load.stop()
            await asyncio.gather(*tasks)
