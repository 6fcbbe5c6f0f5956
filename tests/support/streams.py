"""asyncio's streams, but an error of the connection comes behind what was read, not in its place.

A peer that says its last word and closes is often met in writing: the reset that answers it
would have a StreamReader forget that word.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Reader(asyncio.StreamReader):
    """Ends where its connection does, in whichever way."""

    def set_exception(self, exc: BaseException) -> None:
        self.feed_eof()


async def connect(host: str, port: int, **options: Any) -> Streams:
    """As asyncio.open_connection."""
    loop = asyncio.get_running_loop()
    reader = Reader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.create_connection(lambda: protocol, host, port, **options)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def serve(
    accepted: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], host: str, port: int
) -> asyncio.Server:
    """As asyncio.start_server."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(
        lambda: asyncio.StreamReaderProtocol(Reader(loop=loop), accepted, loop=loop), host, port
    )
