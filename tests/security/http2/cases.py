"""One row of the tables of RFC 9113's rules: what a peer sends, and how it has to be answered."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from tests.security.http2 import frames as f
from tests.security.http2.frames import Peer

# A connection that has to end does so at once; one that does not is seen after this.
WITHIN: Final = 5.0

Send = bytes | Callable[[Peer], Awaitable[None]]


@dataclass(frozen=True)
class Answer:
    """What the other end has to say. `stream` 0 is GOAWAY and the end of the connection."""

    stream: int | None
    codes: tuple[int, ...] = ()
    refused: bool = False  # a status of 4xx in place of RST_STREAM will do as well

    def __str__(self) -> str:
        if self.stream is None:
            return "nothing"
        names = "|".join(f.CODES[code] for code in self.codes)
        return f"RST_STREAM({self.stream}, {names})" if self.stream else f"GOAWAY({names})"


def goaway(*codes: int) -> Answer:
    """A connection error (RFC 9113 5.4.1)."""
    return Answer(0, codes)


def rst(stream: int, *codes: int) -> Answer:
    """A stream error (RFC 9113 5.4.2): the connection goes on."""
    return Answer(stream, codes)


IGNORED: Final = Answer(None)


@dataclass(frozen=True)
class Case:
    """`section` of RFC 9113, what is broken, the bytes, the answer. `greet` False: the bytes come first of all."""

    section: str
    name: str
    send: Send
    answer: Answer
    greet: bool = True

    def __str__(self) -> str:
        return f"{self.section} {self.name}"


# Frames that a connection may have seen before a rule is broken: none, and more than are looked
# at of any connection whatever else is going on (docs/adr/0016).
BEFORE: Final = (0, 300)


def everywhere(cases: list[Case]) -> list[tuple[Case, int]]:
    """The cases, each behind as many frames as may have been before it."""
    return [(case, before) for before in BEFORE for case in cases if case.greet or not before]


async def play(peer: Peer, case: Case, before: int = 0) -> None:
    """Send what the case sends, behind so many frames that nobody minds (RFC 9113 5.5)."""
    if before:
        await peer.send(f.frame(f.UNKNOWN) * before)
    if isinstance(case.send, bytes):
        await peer.send(case.send)
    else:
        await case.send(peer)


async def check(peer: Peer, answer: Answer) -> None:
    """Hold the other end to the answer; AssertionError says what came in its place."""
    try:
        async with asyncio.timeout(WITHIN):
            await _check(peer, answer)
    except TimeoutError:
        raise AssertionError(f"{answer} did not come: {_said(peer)}") from None


async def _check(peer: Peer, answer: Answer) -> None:
    if answer.stream == 0:
        await peer.until_closed()
        said = peer.of(f.GOAWAY)
        assert said, f"closed without GOAWAY: {_said(peer)}"
        assert any(got.code in answer.codes for got in said), f"{answer} expected: {_said(peer)}"
        return
    # A PING overtakes what was queued before it: two of them do not.
    for _ in range(2):
        assert await peer.alive(), f"{answer} expected, the connection ended: {_said(peer)}"
    assert not peer.of(f.GOAWAY), f"{answer} expected: {_said(peer)}"
    resets = [(got.stream, got.code) for got in peer.of(f.RST_STREAM)]
    if answer.stream is None:
        assert not resets, f"nothing expected: {_said(peer)}"
    else:
        assert [code for stream, code in resets if stream == answer.stream and code in answer.codes], (
            f"{answer} expected: {_said(peer)}"
        )
        assert {stream for stream, _ in resets} == {answer.stream}, f"{answer} alone expected: {_said(peer)}"


def _said(peer: Peer) -> str:
    return ", ".join(str(got) for got in peer.frames if got.kind != f.SETTINGS) or "not a frame"
