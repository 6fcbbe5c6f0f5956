"""What every connection and exchange of a process shares.

One object, made by the composition root, in place of module globals: a test
makes its own with a fake clock and a seeded generator.
"""

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from sidecar.identity.meters import TlsMeters
from sidecar.model.readings import Readings
from sidecar.policy.crowd import Crowd
from sidecar.policy.growth import Growth
from sidecar.policy.looks import Looks
from sidecar.policy.places import Places
from sidecar.proxy.abuse import Abuse

if TYPE_CHECKING:
    from sidecar.proxy.exchange import Exchange
    from sidecar.proxy.route import Route
    from sidecar.proxy.snapshot import Snapshot


class Turn(Protocol):
    """One callback of the event loop; see sidecar.wire.turn."""

    now: float
    bulky: bool
    large: int
    calm_from: float
    rest: Any  # see sidecar.wire.rest

    def begin(self) -> None:
        """A callback starts."""

    def end(self) -> None:
        """It ends: what was marked is written."""

    def mark(self, connection: Any) -> None:
        """Flush this connection when the turn ends."""

    def mark_first(self, connection: Any) -> None:
        """Have it flushed before all others."""

    def at_end(self, waiting: Any) -> None:
        """Call `waiting.on_turn_end()` before the turn's output is written."""

    def later(self, callback: Callable[[], None]) -> None:
        """Call it in one of the next turns."""


class Timers(Protocol):
    """One-shot timers; see sidecar.wire.timers."""

    def add(self, delay: float, timed: Any) -> int:
        """Call `timed.on_timer(token)` after `delay` seconds."""

    def cancel(self, token: int) -> None:
        """Forget it."""


# What a refusal comes to, where it is no bad request.
_REFUSED = {408: "too_slow", 413: "too_large", 414: "too_large", 431: "too_large", 503: "overloaded"}


class Records(Protocol):
    """Who hears of finished exchanges: the access log, the list of notable requests."""

    def finished(self, exchange: "Exchange") -> None:
        """Called once for each exchange, inside its turn; must not block."""


class Gate(Protocol):
    """Who waits before being read; see sidecar.wire.gate."""

    def hold(self, connection: Any) -> None:
        """It has stopped reading; `connection.let_go()` lets it read again."""


class Runtime:
    """Clock, timers, randomness, the live snapshot and the process-wide switches."""

    __slots__ = (
        "abuse",
        "clock",
        "connections",
        "crowd",
        "draining",
        "gate",
        "growth",
        "in_flight",
        "internal_errors",
        "looks",
        "notable",
        "on_crash",
        "places",
        "pressure",
        "readings",
        "records",
        "refusals",
        "rng",
        "slow_clients",
        "snapshot",
        "timers",
        "tls",
        "turn",
        "unrouted",
        "wall",
    )

    def __init__(
        self,
        turn: Turn,
        timers: Timers,
        clock: Callable[[], float],
        rng: random.Random,
        snapshot: "Snapshot",
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.turn = turn
        self.timers = timers
        self.clock = clock
        # Seconds since 1970, for the dates in header fields.
        self.wall = wall
        self.rng = rng
        self.snapshot = snapshot
        self.draining = False
        self.in_flight = 0
        # How short the process is of time, memory or files: 0 is well; see policy/priority.py.
        self.pressure = 0
        # The connections that there are files for.
        self.places = Places()
        # What may have taken memory since that was looked at.
        self.growth = Growth()
        self.places.on_client = self.growth.one_more
        self.readings = Readings()
        # Holds connections back under pressure; see sidecar.wire.gate.
        self.gate: Gate | None = None
        # Clients that took too long over something, by what it was.
        self.slow_clients = {"header": 0, "body": 0, "write": 0}
        # Open connections by (side, protocol).
        self.connections: dict[tuple[str, str], int] = {
            (side, protocol): 0 for side in ("downstream", "upstream") for protocol in ("http1", "http2")
        }
        # The bodies that wait for whoever takes them.
        self.crowd = Crowd()
        # Who hears of every exchange, and who only of those that are worth a note:
        # slow, failed or tried again.
        self.records: list[Records] = []
        self.notable: Records | None = None
        # Replies to bytes that never became a request, and to clients that a route kept
        # out, by reason.
        self.refusals: dict[str, int] = {"bad_request": 0, "too_large": 0, "too_slow": 0, "overloaded": 0}
        # Requests that no route took, by (protocol, code).
        self.unrouted: dict[tuple[str, int], int] = {}
        self.tls = TlsMeters(clock)
        self.abuse = Abuse(clock)
        # When connections are looked at more closely; see sidecar.wire.h2_watch.
        self.looks = Looks()
        # Bugs of ours that were met while the process ran, and who logs them.
        self.internal_errors = 0
        self.on_crash: Callable[[BaseException], None] = lambda error: None

    def local_codes(self, route: "Route | None") -> dict[tuple[str, int], int]:
        """Where an exchange without a cluster is counted."""
        return self.unrouted if route is None else route.codes

    def too_slow(self, what: str) -> None:
        """A client took too long over what Pace bounds."""
        self.slow_clients[what] += 1

    def refused(self, connection: Any, status: int, message: str) -> None:
        """A client's bytes were no request; it was told so."""
        self.refusals[_REFUSED.get(status, "bad_request")] += 1
