"""A client that sends bytes as they are and tells what it was answered."""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

# Whatever is to come comes at once; a peer that says nothing for so long is broken.
WITHIN = 10.0

_HEAD = re.compile(rb"HTTP/1\.[01] (\d\d\d)[^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")


@dataclass(frozen=True)
class Said:
    """Everything that came back, and whether the peer ended the connection."""

    data: bytes
    closed: bool

    @property
    def statuses(self) -> list[int]:
        """Status codes in order, those of 1xx included."""
        return [int(found[1]) for found in _HEAD.finditer(self.data)]

    @property
    def error(self) -> bytes:
        """`x-sidecar-error` of the last answer, or empty."""
        heads = [found[2] for found in _HEAD.finditer(self.data)]
        found = re.search(rb"(?im)^x-sidecar-error: (.*)\r$", heads[-1]) if heads else None
        return found[1] if found else b""


async def say(
    port: int,
    data: bytes,
    answers: int = 0,
    patience: float = WITHIN,
    half_close: bool = False,
    cut: int | None = None,
    hold: Callable[[], Awaitable[None]] | None = None,
) -> Said:
    """Send `data`; read until so many answers came (0: until the peer closes).

    `half_close` ends our direction behind the data; `cut` sends it in pieces of so
    many bytes, each in a packet of its own; with `hold` the rest waits for it behind the
    first head. After `patience` seconds without a
    byte, whatever came is returned.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    got = b""
    closed = False
    try:
        if hold is not None:
            head, end, data = data.partition(b"\r\n\r\n")
            writer.write(head + end)
            await hold()
        for piece in _pieces(data, cut):
            writer.write(piece)
            await writer.drain()
        if half_close:
            writer.write_eof()
        async with asyncio.timeout(patience):
            while not answers or len(Said(got, closed).statuses) < answers:
                more = await reader.read(65536)
                if not more:
                    closed = True
                    break
                got += more
    except TimeoutError:
        pass
    except ConnectionError:
        closed = True
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except ConnectionError:
            pass
    return Said(got, closed)


def _pieces(data: bytes, cut: int | None) -> list[bytes]:
    if cut is None:
        return [data]
    return [data[place : place + cut] for place in range(0, len(data), cut)]
