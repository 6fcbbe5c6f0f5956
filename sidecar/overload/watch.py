"""Watches what the process itself may run out of: time, memory, files.

Four times a second; each look costs some twenty microseconds. What it finds is a step
(policy/pressure.py) in `runtime.pressure`, which the path reads, and in `runtime.places`,
which the listeners read.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from sidecar.model.readings import RESOURCES
from sidecar.model.seldom import Seldom
from sidecar.overload import files, memory
from sidecar.policy.places import Ceiling, ceiling_for, reserve_of
from sidecar.policy.pressure import HOLD, REFUSE, STEPS, OverloadPolicy, Standing, Steps, memory_share
from sidecar.proxy.runtime import Runtime

INTERVAL: Final = 0.25
# Files are counted, and the ceiling derived, at every so manieth look.
_SELDOM: Final = 4
# Less than this share of what is too much of it is plenty.
_PLENTY: Final = 0.5
# By growth memory is looked at no sooner than so many seconds after the last look: while there
# is plenty, and else.
_GROWTH_SECONDS: Final = (0.05, 0.005)
# Free memory is given back again and again while it is short, by the step.
_GIVE_BACK_SECONDS: Final = (0.0, 5.0, 5.0, 1.0)
# Memory does not come and go as lag does: a step is left a little below where it begins. A process
# that is small beside its limit would never come so far down as to leave it otherwise.
_MEMORY_CLEAR: Final = 0.95
# From this share of the ceiling on idle clients are closed, down to the other.
_CROWDED: Final = 0.9
_ROOMY: Final = 0.8
# Who was idle for less may be about to ask again.
_IDLE_SECONDS: Final = 1.0
# At a time: closing takes time itself.
_CLOSE_AT_ONCE: Final = 256


class Sheds(Protocol):
    """A listener: it knows its idle connections."""

    def idle_connections(self) -> Iterable[tuple[float, Any]]:
        """Since when, by the runtime's clock, and the connection."""

    def give_up_heads(self) -> None:
        """Let go of what is read of heads that are not whole."""


@dataclass(slots=True)
class Sources:
    """What is measured: replaced by tests."""

    resident: Callable[[], int] = memory.resident
    group: Callable[[], memory.Group | None] = memory.find_group
    give_back: Callable[[], None] = memory.give_back
    files_limit: Callable[[], int] = files.limit
    open_files: Callable[[], int] = files.count_open
    cheap: Callable[[], bool] = files.counts_cheaply


@dataclass(slots=True)
class _State:
    lag: Steps
    memory: Steps
    standing: Standing = field(default_factory=Standing)


class Watch:
    """Looks, and acts. `listeners()` are those that may close idle connections;
    `on_event(kind, fields)` hears of each step, `log` of the rest."""

    def __init__(
        self,
        runtime: Runtime,
        listeners: Callable[[], Iterable[Sheds]],
        on_event: Callable[[str, dict[str, Any]], None],
        log: Any,
        sources: Sources | None = None,
    ) -> None:
        self._runtime = runtime
        self._listeners = listeners
        self._on_event = on_event
        self._log = log
        self._sources = sources or Sources()
        self._policy: OverloadPolicy | None = None
        self._state: _State | None = None
        self._group: memory.Group | None = None
        self._others = self._at_start = 0  # open files that are no connections
        self._cheap = False
        self._short_of = ""  # since it was last well
        self._looks = 0
        self._looked_at_memory = self._gave_back = 0.0
        self._due = 0.0
        self._handle: asyncio.TimerHandle | None = None
        self._seldom = Seldom(runtime.clock)
        runtime.places.on_error = self._on_accept_error
        runtime.places.on_refusal = self._on_refusal
        runtime.growth.on_much = self._on_growth

    def configure(self, policy: OverloadPolicy | None) -> None:
        """At the start, and when the configuration changed. None: nothing is watched."""
        changed = policy != self._policy
        self._policy = policy
        if policy is None:
            self._state = None
            self._runtime.readings.pressure.update(dict.fromkeys(RESOURCES, 0.0))
            self._runtime.readings.memory_limit = 0
            self._runtime.growth.short = False
            self._set(0)
            self._runtime.places.ceiling = Ceiling()
        elif changed or self._state is None:
            if self._state is None:
                self._state = _State(Steps(policy.lag), Steps(policy.memory, clear=_MEMORY_CLEAR))
            else:  # the step stays until it is calm
                self._state.lag.thresholds, self._state.memory.thresholds = policy.lag, policy.memory
            self._group = self._sources.group()
            self._cheap = self._sources.cheap()
            readings = self._runtime.readings
            readings.files = self._sources.open_files()
            self._others = self._at_start = max(0, readings.files - self._connections)
            self._derive_ceiling(policy)
            ceiling = self._runtime.places.ceiling
            self._log.info(
                "limits",
                open_files=readings.files_limit or None,
                client_connections=ceiling.clients if ceiling != Ceiling() else None,
                memory=self._memory_limit(policy) or None,
            )

    def start(self) -> None:
        """Look from now on."""
        self._due = self._runtime.clock() + INTERVAL
        self._handle = asyncio.get_running_loop().call_later(INTERVAL, self._on_alarm)

    def stop(self) -> None:
        """Look no more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _on_alarm(self) -> None:
        try:
            self.look(max(0.0, self._runtime.clock() - self._due))
        finally:
            self.start()

    @property
    def _connections(self) -> int:
        places = self._runtime.places
        return places.clients + places.upstream

    def look(self, late: float) -> None:
        """One look; `late` seconds after it was due."""
        policy, state, runtime = self._policy, self._state, self._runtime
        readings = runtime.readings
        readings.lag = late
        if policy is None or state is None:
            return
        now = runtime.clock()
        self._looks += 1
        lag = state.standing.update(late)
        state.lag.update(lag, now)
        readings.pressure["lag"] = lag / policy.lag[-1]
        self._look_at_memory(policy, state, now)
        if self._looks % _SELDOM == 0:
            self._look_at_files(policy)
        places = runtime.places
        readings.pressure["files"] = places.served / places.ceiling.clients
        self._step(state)
        self._make_room(state.memory.level)

    def _on_growth(self) -> None:
        """Much may have been taken. Called from within a connection: what is done about it that
        touches others has to wait for the next look."""
        policy, state = self._policy, self._state
        if policy is None or state is None or not self._memory_limit(policy):
            return
        now = self._runtime.clock()
        short = self._runtime.readings.pressure["memory"] >= _PLENTY
        if now - self._looked_at_memory >= _GROWTH_SECONDS[short]:
            try:
                self._look_at_memory(policy, state, now)
                self._step(state)
            except Exception as error:  # who takes memory does not expect one
                self._runtime.on_crash(error)

    def _step(self, state: _State) -> None:
        level = max(state.lag.level, state.memory.level)
        if level:
            self._short_of = "memory" if state.memory.level == level else "lag"
        self._set(level)

    def _set(self, level: int) -> None:
        runtime = self._runtime
        before, runtime.pressure = runtime.pressure, level
        runtime.places.refusing = level >= REFUSE
        if level != before:
            readings = runtime.readings
            self._on_event(
                "overload",
                {
                    "level": level,
                    "step": STEPS[level],
                    "before": STEPS[before],
                    "resource": self._short_of,
                    "lag_seconds": round(readings.lag, 3),
                    "memory_bytes": readings.memory,
                },
            )

    # Memory.

    def _memory_limit(self, policy: OverloadPolicy) -> int:
        if policy.memory_limit is not None:
            return policy.memory_limit
        return self._group.limit if self._group is not None else 0

    def _look_at_memory(self, policy: OverloadPolicy, state: _State, now: float) -> None:
        readings = self._runtime.readings
        limit = self._memory_limit(policy)
        own = self._sources.resident()
        used = own
        group = self._group if policy.memory_limit is None else None
        # The rest of the group is asked only when there is not much room for sure.
        if group is not None:
            used = max(own, group.in_use())
        share = memory_share(own, used, limit)
        before = state.memory.level
        after = state.memory.update(share, now)
        self._looked_at_memory = now
        self._runtime.growth.short = after >= REFUSE
        readings.memory, readings.memory_limit = own, limit
        readings.pressure["memory"] = share / policy.memory[-1]
        if after >= HOLD and (after != before or now - self._gave_back >= _GIVE_BACK_SECONDS[after]):
            self._gave_back = now
            self._sources.give_back()

    # Files.

    def _look_at_files(self, policy: OverloadPolicy) -> None:
        readings = self._runtime.readings
        readings.files = self._at_start + self._connections
        if self._cheap:
            readings.files = self._sources.open_files()
            # What opens files for a moment, the admin server above all, has the reserve.
            slack = reserve_of(readings.files_limit) // 2
            self._others = max(self._at_start, readings.files - self._connections - slack)
        self._derive_ceiling(policy)

    def _derive_ceiling(self, policy: OverloadPolicy) -> None:
        runtime = self._runtime
        limit = self._sources.files_limit()
        if policy.files_limit is not None:
            limit = min(policy.files_limit, limit) if limit else policy.files_limit
        runtime.readings.files_limit = limit
        if limit:
            runtime.places.ceiling = ceiling_for(limit, self._others, policy.max_connections)
        elif policy.max_connections is not None:
            runtime.places.ceiling = Ceiling(policy.max_connections)

    def _make_room(self, memory: int) -> None:
        """Close connections to endpoints that nobody uses, and clients that ask for nothing,
        those first that have for the longest."""
        places = self._runtime.places
        connections = places.ceiling.connections
        if places.served + places.upstream >= _CROWDED * connections:
            self._evict(places.served + places.upstream - int(_ROOMY * connections))
        served = places.served
        most = places.ceiling.clients
        if served >= _CROWDED * most:
            wanted = served - int(_ROOMY * most)
        elif memory >= HOLD:
            wanted = _CLOSE_AT_ONCE
        else:
            return
        until = self._runtime.clock() - _IDLE_SECONDS
        idle = [each for listener in self._listeners() for each in listener.idle_connections() if each[0] <= until]
        idle.sort(key=lambda each: each[0])
        turn = self._runtime.turn
        turn.begin()
        try:
            if memory >= REFUSE:
                for listener in self._listeners():
                    listener.give_up_heads()
            for _, connection in idle[: min(wanted, _CLOSE_AT_ONCE)]:
                close = getattr(connection, "close_idle", None) or connection.drain
                close()
                self._runtime.readings.idle_closed += 1
        finally:
            turn.end()

    def _evict(self, wanted: int) -> None:
        for cluster in self._runtime.snapshot.clusters.values():
            for endpoint in cluster.endpoints:
                for pool in endpoint.pools.values():
                    while wanted > 0 and pool.evict():
                        wanted -= 1

    def _on_refusal(self, reason: str) -> None:
        like_it = self._seldom.due(("refused", reason))
        if like_it is not None:
            clients = self._runtime.places.served
            self._log.warning("connection_refused", reason=reason, clients=clients, more_like_it=like_it)

    def _on_accept_error(self, reason: str, error: OSError) -> None:
        like_it = self._seldom.due(reason)
        if like_it is not None:
            self._log.warning("accept_failed", reason=reason, detail=error.strerror, more_like_it=like_it)
