"""A client that sends bytes as they are and tells what it was answered."""

import asyncio
import re
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


async def say(port: int, data: bytes, answers: int = 0, patience: float = WITHIN, half_close: bool = False) -> Said:
    """Send `data`; read until so many answers came (0: until the peer closes).

    `half_close` ends our direction behind the data. After `patience` seconds without a
    byte, whatever came is returned.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = b""
    closed = False
    try:
        writer.write(data)
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
