"""Bytecodes and Python calls of one request: figures that no load of the machine moves.

They say what a change to the path adds or takes away. They depend on the version of
Python, and say nothing of the time that is spent in C.
"""

import sys
from collections import Counter
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from benchmarks.measure import Figure
from benchmarks.paths import PATHS, Path, Receive

_WARM_UP = 64
_COUNTED = 32


@dataclass(slots=True)
class Tally:
    """Of the requests that were traced: by "file:function"."""

    requests: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)

    @property
    def codes_per_request(self) -> float:
        """Bytecodes that the interpreter ran."""
        return self.codes.total() / self.requests

    @property
    def calls_per_request(self) -> float:
        """Calls of Python functions, resumed coroutines included."""
        return self.calls.total() / self.requests


def count(path: Path, requests: int = _COUNTED, warm_up: int = _WARM_UP) -> Tally:
    """Trace so many requests, at least. What traced the process before goes on after."""
    tally = Tally()

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        name = _name(frame)
        if event == "call":
            tally.calls[name] += 1
        elif event == "opcode":
            tally.codes[name] += 1
        return trace

    def traced(receive: Receive, data: bytes) -> None:
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            receive(data)
        finally:
            sys.settrace(before)

    done = 0
    while done < warm_up:
        done += path.cycle(lambda receive, data: receive(data))
    while tally.requests < requests:
        tally.requests += path.cycle(traced)
    return tally


def _stillness() -> float:
    """A clock that stands: no timer's tick and no window's bucket ends in between."""
    return 1000.0


def _name(frame: FrameType) -> str:
    code = frame.f_code
    return f"{code.co_filename.rpartition('/sidecar/')[2]}:{code.co_qualname}"


def figures() -> list[Figure]:
    """Bytecodes and calls of each path."""
    found = []
    version = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    for make in PATHS:
        path = make(_stillness)
        tally = count(path)
        path.close()
        found.append(Figure("path, counted", path.name, tally.codes_per_request, "bytecodes/request", version))
        found.append(Figure("path, counted", path.name, tally.calls_per_request, "calls/request", version))
    return found


def functions(most: int = 25) -> str:
    """Where the bytecodes of a request are, function by function."""
    lines = []
    for make in PATHS:
        path = make(_stillness)
        tally = count(path)
        path.close()
        lines.append(f"{path.name}: {tally.codes_per_request:.1f} bytecodes, {tally.calls_per_request:.1f} calls")
        for name, codes in tally.codes.most_common(most):
            lines.append(f"{codes / tally.requests:9.1f} {tally.calls[name] / tally.requests:6.2f}  {name}")
    return "\n".join(lines)
