"""A bystander's latency while somebody else attacks, of any proxy. By hand:

    python -m tests.security.http2.siege PROXY [SECONDS] [ATTACK,...]
    python -m tests.security.http2.siege PROXY musts

PROXY is one of tests.security.http2.proxies. One line for each attack: how its connections
ended, the bystander's p50 and p99 before, during and after it in milliseconds, the growth of
the proxy's memory in MiB, and its share of one core. `musts` plays the table of
test_musts_of_clients against it and prints the rows that are answered otherwise.

The proxy and the bystander run in real time (by root), the attacker does not: what
is measured is what the proxy does, not whom the machine serves first.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

from tests.security.http2 import frames as f
from tests.security.http2.attacks import ATTACKS
from tests.security.http2.cases import check, play
from tests.security.http2.proxies import Proxy, preferred, running
from tests.security.http2.test_musts_of_clients import CASES

_TICK = os.sysconf("SC_CLK_TCK")
_RATE = 200  # requests of the bystander in a second
_GET = b"GET /ok HTTP/1.1\r\nHost: service.test\r\n\r\n"


@dataclass(frozen=True)
class Latency:
    """Of the bystander's requests, in seconds. `failed` were not answered, or by an error."""

    p50: float
    p99: float
    requests: int
    failed: int


async def bystand(port: int, over: Callable[[], bool]) -> Latency:
    """Ask at a fixed rate over HTTP/1.1 until `over`; a request that waits delays no other."""
    times: list[float] = []
    failed = 0
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask() -> None:
        nonlocal failed
        began = time.perf_counter()
        try:
            connection = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
            reader, writer = connection
            writer.write(_GET)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
            await reader.readexactly(_length(head))
            failed += not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 204"))
            idle.append(connection)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            failed += 1
        times.append(time.perf_counter() - began)

    asked: set[asyncio.Task[None]] = set()
    due = time.perf_counter()
    while not over():
        task = asyncio.create_task(ask())
        asked.add(task)
        task.add_done_callback(asked.discard)
        due += 1 / _RATE
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
    await asyncio.gather(*asked)
    for _, writer in idle:
        writer.close()
    cuts = quantiles(times, n=100)
    return Latency(cuts[49], cuts[98], len(times), failed)


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)


def memory(pid: int) -> int:
    """The bytes of a process and its children that are its own (private), in memory."""
    total = 0
    for one in (pid, *_children(pid)):
        try:
            rows = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(row.split()[1]) for row in rows if row.startswith(("Private_Dirty:", "Private_Clean:")))
    return total * 1024


def processor(pid: int) -> float:
    """Seconds of processor time that a process and its children have used."""
    total = 0
    for one in (pid, *_children(pid)):
        try:
            row = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(row[11]) + int(row[12])
    return total / _TICK


def _children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


@dataclass(frozen=True)
class Siege:
    """What one attack did to a bystander and to the proxy."""

    before: Latency
    during: Latency
    after: Latency
    grown: int  # bytes, at the end of the attack
    kept: int  # bytes, when the attacker has gone
    cores: float
    outcome: dict[str, Any]


async def besiege(proxy: Proxy, name: str, seconds: float) -> Siege:
    """Measure a bystander before, during and after an attack, which runs in a process of its own."""
    pid = proxy.pid
    before = await bystand(proxy.asked, _after(min(seconds, 2.0)))
    held, used, began = memory(pid), processor(pid), time.monotonic()
    attacker = await asyncio.create_subprocess_exec(
        *("chrt", "--other", "0", sys.executable, "-m", "tests.security.http2.attacks"),
        *(str(proxy.attacked), name, str(seconds)),
        stdout=asyncio.subprocess.PIPE,
    )
    waiting = asyncio.create_task(attacker.communicate())
    peak = _Peak(pid)
    try:
        during = await bystand(proxy.asked, waiting.done)
        output, _ = await waiting
    finally:
        peak.stop()
        if attacker.returncode is None:
            attacker.kill()
            await attacker.wait()
    cores = (processor(pid) - used) / (time.monotonic() - began)
    grown = max(peak.bytes, memory(pid)) - held
    after = await bystand(proxy.asked, _after(min(seconds, 2.0)))
    return Siege(before, during, after, grown, memory(pid) - held, cores, json.loads(output))


class _Peak:
    """The most memory of a process that was seen, looked at every half second."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._pid = pid
        self._handle = asyncio.get_running_loop().call_later(0.5, self._look)

    def stop(self) -> None:
        self._handle.cancel()

    def _look(self) -> None:
        self.bytes = max(self.bytes, memory(self._pid))
        self._handle = asyncio.get_running_loop().call_later(0.5, self._look)


def _after(seconds: float) -> Callable[[], bool]:
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until


def row(name: str, siege: Siege) -> str:
    """A line of the report."""
    three = (siege.before, siege.during, siege.after)
    ends = ", ".join(f"{end} {number}" for end, number in siege.outcome["ends"].items())
    latencies = "  ".join(f"{one.p50 * 1e3:6.1f} /{one.p99 * 1e3:7.1f}" for one in three)
    failed = sum(one.failed for one in three)
    mib = 1024 * 1024
    return (
        f"{name:24} {latencies}  {failed:4} failed  {siege.grown / mib:+7.1f} {siege.kept / mib:+7.1f} MiB  "
        f"{siege.cores:4.2f} cores  {siege.outcome['connections']:5} connections: {ends}"
    )


async def musts(proxy: Proxy) -> None:
    """Print the rows that are answered otherwise than the table asks, and how many are not."""
    right, harsher, ended = 0, 0, 0
    for case in CASES:
        peer = await f.connect(proxy.attacked, greet=case.greet)
        try:
            await play(peer, case)
            await check(peer, case.answer)
            right += 1
        except AssertionError as error:
            # RFC 9113 5.4.1 lets a stream error be treated as one of the connection.
            said = [got.code for got in peer.of(f.GOAWAY)]
            if case.answer.stream and said and said[-1] in case.answer.codes:
                harsher += 1
            else:
                ended += peer.closed
                print(f"{case}: {str(error)[:200]}")
        finally:
            peer.close()
    taken = len(CASES) - right - harsher - ended
    print(
        f"{right} of {len(CASES)} rows as the table has them, {harsher} by the end of the connection, "
        f"{ended} ended in another way, {taken} answered in another way or let pass"
    )


async def main(name: str, what: str, attacks: list[str]) -> None:
    """Print a line for each attack."""
    async with running(name) as proxy:
        if what == "musts":
            await musts(proxy)
            return
        with preferred():
            for attack in attacks:
                print(row(attack, await besiege(proxy, attack, float(what))), flush=True)


if __name__ == "__main__":
    chosen = sys.argv[3].split(",") if len(sys.argv) > 3 else [*ATTACKS]
    asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "10", chosen))
