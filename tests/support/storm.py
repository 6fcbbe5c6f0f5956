"""A load on services that keep ledgers, and that are killed by turns meanwhile.

callers = Callers(port, "http1", rate=400)
killer = asyncio.create_task(kill_by_turns(services, every=1.25))
await callers.run(60)
callers.gets, callers.posts, callers.acknowledged
"""

import asyncio
from collections import Counter
from itertools import count, cycle

from tests.support.processes import Service
from tests.support.swift_client import Fields, Http1Client, Http2Client
from tests.support.swift_service import METHODS

PROTOCOLS = ("http1", "http2", "grpc")
# What a good answer says.
GOOD = {"http1": "200", "http2": "200", "grpc": "grpc 0"}
HTTP2_CONNECTIONS = 4


class Callers:
    """An open loop of `rate` requests per second, every fourth one a POST: a request begins when
    its time has come, whatever became of those before. What each got is in `gets` and `posts`,
    and `acknowledged` are the ids of the POSTs that were answered well.

    With gRPC, GET is a method that is listed as idempotent, and POST one that is not."""

    def __init__(self, port: int, protocol: str, rate: float) -> None:
        self._port = port
        self._protocol = protocol
        self._rate = rate
        self._idle: list[Http1Client] = []
        self._shared = [Http2Client("127.0.0.1", port) for _ in range(HTTP2_CONNECTIONS)]
        self._numbers = count()
        # By turns one that is answered at once, and one that is under way for 20 ms.
        methods = list(METHODS.items())
        self._reads, self._writes = cycle(methods[:2]), cycle(methods[2:])
        self.gets: Counter[str] = Counter()
        self.posts: Counter[str] = Counter()
        self.acknowledged: list[str] = []

    async def run(self, seconds: float) -> None:
        """So many seconds of load."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with asyncio.TaskGroup() as group:
            for number in range(int(seconds * self._rate)):
                await asyncio.sleep(max(0.0, start + number / self._rate - loop.time()))
                group.create_task(self._post() if number % 4 == 0 else self._get())

    def close(self) -> None:
        """Cut all connections."""
        for single in self._idle:
            single.close()
        for shared in self._shared:
            shared.close()

    async def _get(self) -> None:
        self.gets[await self._said(b"GET", *next(self._reads), b"", [])] += 1

    async def _post(self) -> None:
        identity = f"order-{next(self._numbers)}"
        said = await self._said(b"POST", *next(self._writes), b"{}", [(b"x-request-id", identity.encode())])
        self.posts[said] += 1
        if said == GOOD[self._protocol]:
            self.acknowledged.append(identity)

    async def _said(self, method: bytes, rpc: bytes, path: bytes, body: bytes, fields: Fields) -> str:
        try:
            if self._protocol == "http1":
                # A connection for each that waits: none is held up by another.
                client = self._idle.pop() if self._idle else Http1Client("127.0.0.1", self._port)
                try:
                    return (await client.request(method, path, body, fields)).said
                finally:
                    self._idle.append(client)
            shared = self._shared[next(self._numbers) % HTTP2_CONNECTIONS]
            if self._protocol == "grpc":
                return (await shared.call(rpc, body, fields)).said
            return (await shared.request(method, path, body, fields)).said
        except ConnectionError as error:
            return repr(error)


async def kill_by_turns(services: list[Service], every: float) -> None:
    """SIGKILL, and back half of `every` seconds later; without end."""
    for service in cycle(services):
        await asyncio.sleep(every / 2)
        service.kill()
        await asyncio.sleep(every / 2)
        await service.restart()
