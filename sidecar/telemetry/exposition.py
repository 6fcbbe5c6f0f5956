"""Metrics as text, in pieces: rendering thousands of lines at once would hold up
every request for as long."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, Protocol

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

# Lines between two looks at the event loop: about a third of a millisecond. Under load each
# look costs a turn of everybody else's, so there are no more of them than that.
LINES: Final = 64
# What a family costs beside its lines, in lines.
FAMILY: Final = 4
_END: Final = b"# EOF\n"


class Families(Protocol):
    """Metric families whose rows come step by step; see collector.Collector."""

    def families(self) -> Iterator[tuple[Metric, Iterator[None]]]:
        """Each family, and the iterator that fills it."""


async def render(
    source: Families, accept: str, pause: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0)
) -> tuple[bytes, str]:
    """The text and its content type: Prometheus text, or OpenMetrics if `accept` asks for it.

    Awaits `pause` after every few lines, of one family or several.
    """
    encode, content_type = choose_encoder(accept)
    parts: list[bytes] = []
    done = 0
    for family, rows in source.families():
        done += FAMILY
        head = True
        for _ in rows:
            if done + len(family.samples) >= LINES:
                parts.append(_text(encode, family, head))
                head = False
                family.samples.clear()
                done = 0
                await pause()
        if head or family.samples:
            parts.append(_text(encode, family, head))
            done += len(family.samples)
        if done >= LINES:
            done = 0
            await pause()
    if content_type.startswith("application/openmetrics-text"):
        parts.append(_END)
    return b"".join(parts), content_type


class _One:
    """A single family, as the encoders take it."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> list[Metric]:
        return [self._family]


def _text(encode: Callable[..., bytes], family: Metric, head: bool) -> bytes:
    """A family's lines, without the end of the document; without `head` the samples alone."""
    text = encode(_One(family)).removesuffix(_END)
    while not head and text.startswith(b"# "):
        text = text.partition(b"\n")[2]
    return text
