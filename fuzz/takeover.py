"""Any bytes as messages of a takeover, with any files, from a process that may ask: each side
ends in time with TakeoverError or a state that it can be in, no other exception gets out,
no open file stays behind, and a predecessor that nobody has relieved can still be asked.

A MARK ends a message; `F` as a message's first byte sends a pipe with it, `S` a listening
socket and a pipe. The first byte of all chooses the side that is fed.
"""

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from fuzz.quiet import quiet
from fuzz.stage import MARK
from sidecar.lifecycle.channel import listen
from sidecar.lifecycle.takeover import Predecessor, TakeoverError, claim

_HELLO: Final = b'{"protocol": 1, "version": "0.2.0"}'
_SOCKETS: Final = b'{"protocol": 1, "version": "1", "sockets": [["", "unix:/x"]], "more": false}'
_TWO: Final = b'{"protocol": 1, "version": "1", "sockets": [["", "a"], ["b", "c"]], "more": false}'
SEEDS: Final = (
    b"P" + _HELLO + MARK + b'{"ready": true}' + MARK + b'{"serving": ["out"]}',
    b"P" + _HELLO + MARK + b'{"ready": true}' + MARK + b'{"serving": 5}',
    b"PF" + _HELLO + MARK + b'F{"ready": 1}',
    b"P[]",
    b"P" + b"[" * 8000,
    b"C" + _SOCKETS + MARK + b'{"go": true}',
    b"CS" + _TWO + MARK + b'{"go": true}',
    b"CF" + _SOCKETS + MARK + b"F" + b"[" * 8000,
    b'C{"refused": "no"}',
    b"C",
)
WORDS: Final = (MARK, MARK + b"F", MARK + b"S", b"null", b"true", b"[]", b"{}", b"1e999", b'"sockets"', b'"serving"')


def check(data: bytes) -> None:
    """One conversation, on either side."""
    before = len(os.listdir("/proc/self/fd"))
    with TemporaryDirectory() as folder, quiet():
        path = str(Path(folder, "s"))
        asyncio.run((_successor if data[:1] == b"C" else _predecessor)(path, data[1:].split(MARK)[:8]))
    left = len(os.listdir("/proc/self/fd"))
    assert left == before, f"{left - before} open files stay behind"


async def _predecessor(path: str, messages: list[bytes]) -> None:
    handed: list[Any] = []
    states: list[str] = []
    predecessor = Predecessor(
        "0.1.0", list, lambda state, fields: states.append(state), lambda pid, names: handed.append(names)
    )
    predecessor.open(path)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
            peer.connect(path)
            for message in messages:
                _say(peer, message)
            peer.shutdown(socket.SHUT_WR)
            for _ in range(200):
                await asyncio.sleep(0)
                if not predecessor._serving and states:
                    break
        assert ("handed_over" in states) == bool(handed), f"{states}, but {len(handed)} were told"
        assert predecessor._asking is None
    finally:
        await predecessor.close()


async def _successor(path: str, messages: list[bytes]) -> None:
    loop = asyncio.get_running_loop()
    listening = listen(path)

    async def answer() -> None:
        peer, _ = await loop.sock_accept(listening)
        with peer:
            for message in messages:
                _say(peer, message)
            peer.shutdown(socket.SHUT_WR)
            await asyncio.wait_for(loop.sock_recv(peer, 65536), 5)

    task = loop.create_task(answer())
    try:
        successor = await claim(path, "0.2.0")
        assert successor is not None
        try:
            await successor.may_go()
        finally:
            successor.close()
            successor.own.close()
            for offered in successor.offered:
                offered.socket.close()
    except TakeoverError:
        pass
    finally:
        await task
        listening.close()


def _say(peer: socket.socket, message: bytes) -> None:
    reading, writing = os.pipe()
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", 0)) as listening:
        files = {b"F": [reading], b"S": [listening.fileno(), reading]}.get(message[:1], [])
        text = message[1:] if files else message
        socket.send_fds(peer, [text], files, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
    os.close(reading)
    os.close(writing)
