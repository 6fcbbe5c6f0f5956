"""A sidecar without sockets: the real path, with transports that only keep what is
written to them."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from sidecar.assembly import Parts, assemble
from sidecar.config.load import load_text
from sidecar.proxy.runtime import Runtime
from sidecar.proxy.snapshot import Snapshot
from sidecar.wire.timers import Timers
from sidecar.wire.turn import Turn

Clock = Callable[[], float]


class Transport:
    """Takes what is written. `take` gives it out; `closing` says that it was closed,
    `protocol` who is to be told of what comes."""

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.closing = False
        self._out: list[bytes] = []
        self.write = self._out.append
        self.writelines = self._out.extend
        self.clear = self._out.clear

    def take(self) -> bytes:
        """Everything that was written since the last time."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def get_extra_info(self, name: str) -> Any:
        """The peer's address alone is known."""
        return ("127.0.0.1", 40000) if name == "peername" else None

    def get_protocol(self) -> Any:
        """Who is told."""
        return self.protocol

    def set_protocol(self, protocol: Any) -> None:
        """Another one takes over."""
        self.protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is buffered."""

    def is_closing(self) -> bool:
        """Whether this end was closed."""
        return self.closing

    def pause_reading(self) -> None:
        """Whoever feeds the connection decides."""

    def resume_reading(self) -> None:
        """Whoever feeds the connection decides."""

    def write_eof(self) -> None:
        """Nobody reads this end."""

    def can_write_eof(self) -> bool:
        """As with TCP."""
        return True

    def get_write_buffer_size(self) -> int:
        """Everything has left at once."""
        return 0

    def close(self) -> None:
        """Note it."""
        self.closing = True

    def abort(self) -> None:
        """Note it."""
        self.closing = True


class Dials:
    """A connector whose dials are answered by hand: `pools` wait for a connection."""

    def __init__(self) -> None:
        self.pools: list[Any] = []

    def dial(self, pool: Any, timeout: float) -> None:
        """Note who wants a connection."""
        self.pools.append(pool)

    def readable(self, connection: Any) -> bool:
        """Nothing ever closes here."""
        return False


class World:
    """One runtime with the clusters of `config` (YAML). `clock` is monotonic, in seconds;
    `env` holds the variables of the configuration."""

    def __init__(self, config: str, clock: Clock = time.monotonic, env: Mapping[str, str] | None = None) -> None:
        self.loop = asyncio.new_event_loop()
        self.turn = Turn(self.loop, clock)
        self.timers = Timers(self.loop, self.turn, clock)
        self.dials = Dials()
        self.runtime = Runtime(self.turn, self.timers, clock, random.Random(1), Snapshot())
        self.runtime.on_crash = _raise
        parts = Parts(self.dials, self.timers, clock, self.runtime.rng, lambda tls: None)
        spec = load_text(config, "world", env or {})
        self.runtime.snapshot = assemble(spec, self.runtime.snapshot, parts)

    def accept(self, connection: Any) -> Transport:
        """A client has connected."""
        transport = Transport(connection)
        connection.connection_made(transport)
        self.turn.begin()
        self.turn.end()  # what the connection says first
        return transport

    def connect(self, connection: Any) -> Transport:
        """Give a connection a transport, and hand it to the pool that waits first."""
        transport = Transport(connection)
        connection.connection_made(transport)
        self.turn.begin()
        self.dials.pools.pop(0).on_connected(connection)
        self.turn.end()
        return transport

    def go_on(self) -> None:
        """What was put off to the next iteration of the event loop: the rest of a long read."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def close(self) -> None:
        """Let go of timers and loop."""
        for cluster in self.runtime.snapshot.clusters.values():
            cluster.close()
        self.timers.close()
        self.loop.close()


def _raise(error: BaseException) -> None:
    raise error
