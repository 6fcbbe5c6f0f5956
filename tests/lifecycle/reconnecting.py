"""Callers that make a new connection for each request, and callers that keep theirs: HTTP/1.1,
raw, and gRPC by unmodified grpcio. Whatever is not a good answer is counted."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc

from tests.support.grpc_service import SERVICE

# No two channels share a connection, and a refused one is not waited for.
_CHANNEL = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
# A call that grpcio gives to a connection in the moment in which it reads a GOAWAY there never
# leaves the process; it takes another connection by itself, unless retries are off.
_KEPT_CHANNEL = (("grpc.use_local_subchannel_pool", 1),)
_ANSWER_WITHIN = 20.0


class Callers:
    """What they saw: `seen` counts answers by caller and outcome; "ok" is the good one."""

    def __init__(self) -> None:
        self.seen: Counter[tuple[str, str]] = Counter()
        self._stopped = False
        self._changed = asyncio.Condition()

    @property
    def failed(self) -> dict[tuple[str, str], int]:
        """Everything but good answers."""
        return {key: count for key, count in self.seen.items() if key[1] != "ok"}

    def good(self, kind: str) -> int:
        """How many good answers a kind of caller got."""
        return self.seen[kind, "ok"]

    async def more(self, requests: int) -> None:
        """Wait until each kind of caller got so many more."""
        kinds = {kind for kind, _ in self.seen}
        before = {kind: sum(n for (k, _), n in self.seen.items() if k == kind) for kind in kinds}
        async with self._changed:
            await self._changed.wait_for(
                lambda: all(
                    sum(n for (k, _), n in self.seen.items() if k == kind) >= before[kind] + requests for kind in kinds
                )
            )

    async def repeat(self, kind: str, call: Callable[[], Awaitable[str]]) -> None:
        """One caller: the next call when the last one has ended."""
        while not self._stopped:
            try:
                async with asyncio.timeout(_ANSWER_WITHIN):
                    outcome = await call()
            except grpc.aio.AioRpcError as error:
                outcome = f"{error.code().name}: {error.details()}"
            except Exception as error:
                outcome = repr(error)
            self.seen[kind, outcome] += 1
            async with self._changed:
                self._changed.notify_all()

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopped = True


async def _one_shot(host: str, port: int) -> str:
    """A connection for one POST, which nobody may repeat."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"POST /empty HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbody")
        answer = await reader.read()
    finally:
        writer.close()
    return "ok" if answer.startswith(b"HTTP/1.1 200 ") else repr(answer[:80])


class _KeptAlive:
    """One connection until the server says that it closes, as careful clients do."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __call__(self) -> str:
        try:
            return await self._ask()
        except BaseException:
            self.close()  # the next one opens another
            raise

    async def _ask(self) -> str:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
        reader, writer = self._streams
        writer.write(b"POST /bytes/9 HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody")
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        if b"connection: close" in head.lower():
            self.close()
        return "ok" if head.startswith(b"HTTP/1.1 200 ") else repr(head[:80])

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _unary(channel: grpc.aio.Channel) -> str:
    answer: bytes = await channel.unary_unary(f"/{SERVICE}/Unary")(b"ping")
    return "ok" if answer == b"ping" else repr(answer)


async def _new_channel(target: str) -> str:
    async with grpc.aio.insecure_channel(target, options=_CHANNEL) as channel:
        return await _unary(channel)


@asynccontextmanager
async def calling(http: str, grpc_target: str | None = None, callers: int = 2) -> AsyncIterator[Callers]:
    """`callers` of each kind on two addresses, from now until the end; without the second one, HTTP/1.1 alone."""
    host, _, port = http.rpartition(":")
    load = Callers()
    kept = [_KeptAlive(host, int(port)) for _ in range(callers)]
    kinds: dict[str, list[Callable[[], Awaitable[str]]]] = {
        "http1, new": [lambda: _one_shot(host, int(port))] * callers,
        "http1, kept": [*kept],
    }
    channel = None if grpc_target is None else grpc.aio.insecure_channel(grpc_target, options=_KEPT_CHANNEL)
    if grpc_target is not None:
        kinds["grpc, new"] = [lambda: _new_channel(grpc_target)] * callers
        kinds["grpc, kept"] = [lambda: _unary(channel)] * callers
    tasks = [asyncio.create_task(load.repeat(kind, call)) for kind, calls in kinds.items() for call in calls]
    try:
        yield load
    finally:
        load.stop()
        await asyncio.gather(*tasks)
        if channel is not None:
            await channel.close()
        for each in kept:
            each.close()
