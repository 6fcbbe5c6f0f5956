"""What goes wrong when, which calls are made, and how the sidecar is configured.

Everything here is fixed by the length of the run and a seed: both ways get the
very same calls at the same rate.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Final

DEFAULT_SECONDS: Final = 15.0

# Calls per second of each protocol on each way: 200 in all leave two slow cores at ease.
_RATE: Final = 50.0
# A short run makes at least so many calls, or chance alone would decide it.
_FEWEST: Final = 200.0
_HIGHEST_RATE: Final = 100.0

# Every client, on either way, gives up after so many seconds.
CLIENT_TIMEOUT: Final = 2.0

_FAIL_RATIO: Final = 0.6
_SLOW_SECONDS: Final = 0.8
_POST_SHARE: Final = 0.2

PROTOCOLS: Final = ("http", "grpc")

# The four services of each protocol, and what happens to them.
ROLES: Final = {"a": "steady", "b": "flaky", "c": "slow", "d": "killed"}


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the run. `share` of it is spent here; `fault` is what `service` is told."""

    name: str
    share: float
    says: str
    service: str = ""
    fault: str = ""


SLOW: Final = "slow"
KILLED: Final = "killed"
BACK: Final = "back"

PHASES: Final = (
    Phase("healthy", 0.14, "all services are well"),
    Phase("flaky", 0.22, f"service b fails {_FAIL_RATIO:.0%} of its calls", "b", f"fail:{_FAIL_RATIO}"),
    Phase(SLOW, 0.24, f"service c takes {_SLOW_SECONDS * 1000:.0f} ms", "c", f"slow:0:{_SLOW_SECONDS}"),
    Phase(KILLED, 0.22, "service d was killed with SIGKILL", "d"),
    Phase(BACK, 0.18, "service d is started again", "d"),
)


class Timeline:
    """When each phase begins, in seconds from the start."""

    def __init__(self, seconds: float, phases: Sequence[Phase] = PHASES) -> None:
        self.seconds = seconds
        self.phases = tuple(phases)
        total = sum(phase.share for phase in phases)
        ends = [seconds * end / total for end in accumulate(phase.share for phase in phases)]
        self.starts = (0.0, *ends[:-1])

    def at(self, time: float) -> Phase:
        """The phase at this time; the last one after the end."""
        return self.phases[max(0, bisect_right(self.starts, time) - 1)]


@dataclass(frozen=True, slots=True)
class Call:
    """One call, `at` seconds from the start."""

    at: float
    phase: str
    number: int
    post: bool


def plan(protocol: str, timeline: Timeline, seed: int = 1) -> list[Call]:
    """The calls of one protocol, evenly spread with a little chance."""
    random = Random(f"{protocol} {seed}")
    rate = call_rate(timeline.seconds)
    calls = []
    for number in range(max(1, round(timeline.seconds * rate))):
        at = min((number + random.random()) / rate, timeline.seconds)
        post = protocol == "http" and random.random() < _POST_SHARE
        calls.append(Call(at, timeline.at(at).name, number, post))
    return calls


def call_rate(seconds: float) -> float:
    """Calls per second of each protocol on each way, in a run of this length."""
    return min(_HIGHEST_RATE, max(_RATE, _FEWEST / seconds))


def configuration(http: Sequence[str], grpc: Sequence[str]) -> str:
    """The sidecar's YAML for these endpoints (`host:port`)."""
    return f"""\
# Written by `sidecar demo`. With --keep, change it while it runs: it is taken over.
service: demo
shutdown: 2s

admin:
  bind: 127.0.0.1:0              # 0: any port that is free

defaults:
  timeouts: {{try: 400ms}}         # a try that takes longer is made again elsewhere
  breaker:
    open: {{base: 500ms, max: 1s}} # shorter than by default: a demo is short

clusters:
  http:
    endpoints: [{", ".join(http)}]
    # GET may be repeated, and so may a POST with an Idempotency-Key, as the client sends it.
  grpc:
    endpoints: [{", ".join(grpc)}]
    retry:
      idempotent: [demo.Users/Get] # a gRPC method may be repeated only if it is listed

listeners:
  outbound:                      # one port for HTTP/1.1, HTTP/2 and gRPC
    bind: 127.0.0.1:0
    routes:
      - match: {{grpc: demo.*}}
        to: grpc
      - to: http
"""
