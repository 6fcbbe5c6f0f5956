"""Somebody who asks again and again, on a kept connection, and takes the time."""

import asyncio
import math

from tests.support.swift_client import Http1Client

_EVERY = 0.01
_PATIENCE = 5.0


class Bystander:
    """One request after the other. `failed` counts whatever was no 200 within five seconds,
    `dialled` the connections that it took."""

    def __init__(self, port: int, path: bytes) -> None:
        self.failed = 0
        self._client = Http1Client("127.0.0.1", port)
        self._path = path

    @property
    def dialled(self) -> int:
        return self._client.dialled

    async def p99(self, seconds: float) -> float:
        """Of that much time, in seconds."""
        loop = asyncio.get_running_loop()
        took: list[float] = []
        end = loop.time() + seconds
        while loop.time() < end:
            began = loop.time()
            try:
                async with asyncio.timeout(_PATIENCE):
                    answer = await self._client.request(b"GET", self._path)
                self.failed += answer.status != 200
            except (TimeoutError, OSError):
                self.failed += 1
            took.append(loop.time() - began)
            await asyncio.sleep(_EVERY)
        return sorted(took)[math.ceil(len(took) * 0.99) - 1]

    def close(self) -> None:
        """Leave."""
        self._client.close()
