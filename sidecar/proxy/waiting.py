"""How an exchange waits: its coroutine, its events, its timers.

The path in exchange.py is one coroutine. Here is what drives it: connections
call `wake`, timers call `on_timer`, and what time does to the exchange is
decided in one place. A base class, not an object of its own: it is made once a
request, and the path reads its slots all the time.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING

from sidecar.codec import grpc
from sidecar.model.head import RequestHead
from sidecar.model.headers import get
from sidecar.proxy.events import DEADLINE, IDLE, TIMER
from sidecar.proxy.route import Route
from sidecar.proxy.runtime import Runtime
from sidecar.upstream.cluster import Cluster

if TYPE_CHECKING:
    from sidecar.proxy.attempt import Attempt

# What is said of an answer that was given up.
TOO_SLOW = "its answer came slower than timeouts.min_rate"
# A deadline that is over when it comes in is still told as one.
_SHORTEST_TIMEOUT = 0.001


class Waiting:
    """The part of an exchange that waits. Times are monotonic seconds, 0.0 for never."""

    __slots__ = (
        "_coroutine",
        "_deadline",
        "_deadline_token",
        "_done",
        "_pace",
        "_running",
        "_timer_token",
        "active_at",
        "attempt",
        "client_deadline",
        "cluster",
        "committed",
        "grpc",
        "head",
        "held_up",
        "inbox",
        "route",
        "runtime",
        "started",
        "streaming",
    )

    runtime: Runtime
    head: RequestHead
    grpc: bool
    route: Route | None
    cluster: Cluster | None
    attempt: "Attempt | None"
    committed: bool
    # It is a stream of gRPC: no default deadline.
    streaming: bool
    started: float
    bytes_out: int
    request_ended: bool
    # Whether the client was behind with the answer since `_pace`: a time, and bytes that had come.
    # Neither is set before it has to be.
    held_up: bool
    _pace: tuple[float, int]
    # When a byte moved last.
    active_at: float
    # The client's own deadline, and the one that bounds the exchange by default.
    client_deadline: float
    _deadline: float
    _deadline_token: int
    _timer_token: int
    _coroutine: Generator[None, int | None, None]
    # Events that came while the coroutine was running.
    inbox: list[int | None] | None
    _running: bool
    _done: bool

    # Events.

    def wake(self, attempt: "Attempt | None", event: int | None) -> None:
        """Something happened; `attempt` says to whom, None for the exchange itself. Of
        tries that are not the current one only a race wants to hear, while they last."""
        if self._done or (attempt is not self.attempt and attempt is not None and attempt.settled):
            return
        if self._running:
            # Never re-entered: told at the next suspension.
            if self.inbox is None:
                self.inbox = []
            self.inbox.append(event)
            return
        self._running = True
        try:
            self._coroutine.send(event)
        except StopIteration:
            pass
        except Exception as error:  # one request's bug ends that request
            self.on_crash(error)
        finally:
            self._running = False

    def on_crash(self, error: Exception) -> None:
        """A bug of ours: the request fails."""
        raise NotImplementedError

    # Timers.

    def arm(self, delay: float) -> None:
        self._timer_token = self.runtime.timers.add(delay, self)

    def disarm(self) -> None:
        if self._timer_token:
            self.runtime.timers.cancel(self._timer_token)
            self._timer_token = 0

    def on_timer(self, token: int) -> None:
        """A wait of the path, the deadline, or a look whether anything still moves."""
        if token == self._timer_token:
            self._timer_token = 0
            self.wake(None, TIMER)
        elif token == self._deadline_token:
            self._deadline_token = 0
            self._on_deadline()

    # Deadlines.

    @property
    def deadline(self) -> float:
        """When the exchange must be over. A call that turned out to be a stream is
        bounded by its client's own deadline alone."""
        return self.client_deadline if self.streaming else self._deadline

    def _start_grpc_deadline(self, route: Route, cluster: Cluster) -> None:
        """The deadline of a gRPC call: its own, and the default one unless it streams."""
        head = self.head
        timeout = route.request_timeout
        if head.path in cluster.streaming or (route.streams is not None and head.path in route.streams):
            self._becomes_stream(cluster)
            timeout = 0.0
        value = get(head.headers, b"grpc-timeout") if head.grpc is None else head.grpc_timeout
        wanted = grpc.parse_timeout(value) if value is not None else None
        if wanted is not None:
            if wanted < _SHORTEST_TIMEOUT:
                wanted = _SHORTEST_TIMEOUT
            self.client_deadline = self.started + wanted
            if not timeout or wanted < timeout:
                timeout = wanted
        if timeout:
            self._deadline = self.started + timeout
        if self.streaming:
            self._watch_idle(self.started)
        elif timeout:
            self._deadline_token = self.runtime.timers.add(timeout, self)

    def _on_deadline(self) -> None:
        """The default deadline bounds a unary call and the wait for an HTTP head;
        streams and bodies are bounded by the idle timeout, a client's own deadline
        bounds everything."""
        now = self.runtime.turn.now
        if self.grpc and not self.streaming and self.cluster is not None and self._has_message():
            self._becomes_stream(self.cluster)
            self.cluster.learn_stream(self.head.path)
        over = self.client_deadline and now >= self.client_deadline
        if over or not (self.streaming if self.grpc else self.committed):
            self.wake(None, DEADLINE)
        elif self.committed and self._comes_slowly(now):
            self.wake(None, IDLE)
        else:
            self._watch_idle(now)

    def _comes_slowly(self, now: float) -> bool:
        """Whether an answer whose length is known, which is no stream then, came at less than
        `min_rate` while its client took what there was. Asked when the idle timeout is looked
        at, about all that came since a look that is so long ago."""
        attempt, route = self.attempt, self.route
        if attempt is None or route is None or not route.min_rate or not route.idle_timeout or self.grpc:
            return False
        if attempt.head is None or attempt.head.length is None:
            return False
        since, seen = getattr(self, "_pace", (0.0, 0))  # neither is set for nearly all answers
        if since and now - since < route.idle_timeout:
            return False
        slow = since and self.bytes_out - seen < route.min_rate * (now - since)
        # An answer may wait for what its client still sends.
        if slow and self.request_ended and not getattr(self, "held_up", False):
            attempt.detail = TOO_SLOW
            return True
        self._pace = now, self.bytes_out
        self.held_up = False
        return False

    def _watch_idle(self, now: float) -> None:
        """Look again when nothing may have moved for the idle timeout."""
        idle = self.route.idle_timeout if self.route is not None else 0.0
        left = self.active_at + idle - now if idle else 0.0
        if idle and left <= 0:
            self.wake(None, IDLE)
            return
        if self.client_deadline:
            until = self.client_deadline - now
            left = min(left, until) if idle else until
        if left > 0:
            self._deadline_token = self.runtime.timers.add(left, self)

    def _bound_by_idle(self, now: float) -> None:
        """From now on the idle timeout ends it, which may be over before the timer of
        the deadline fires and looks."""
        if self._deadline_token:
            idle = self.route.idle_timeout if self.route is not None else 0.0
            if not idle or self.active_at + idle >= self._deadline:
                return
            self.runtime.timers.cancel(self._deadline_token)
            self._deadline_token = 0
        self._watch_idle(now)

    def saw_answer_data(self, attempt: "Attempt", data: bytes) -> None:
        """A second message in the answer makes a stream too. Unary answers are seldom
        longer than one chunk, so counting starts with the second one."""
        counter = attempt.counter
        if counter is None:
            if attempt.first is None:
                attempt.first = data
                return
            counter = attempt.counter = grpc.MessageCounter()
            counter.feed(attempt.first)
        if counter.feed(data) > 1:
            self.saw_stream()

    def _has_message(self) -> bool:
        """Whether a whole message of the answer went to the client, and its end did not.
        Nobody looks before time is up: ends often come a read later."""
        attempt = self.attempt
        return attempt is not None and attempt.first is not None and grpc.is_whole(attempt.first)

    def _becomes_stream(self, cluster: Cluster) -> None:
        self.streaming = True
        cluster.set_apart(1)

    def saw_stream(self) -> None:
        """This call streams: no default deadline, no time for a try's head, and the
        method is remembered."""
        if self.streaming or self.cluster is None:
            return
        self._becomes_stream(self.cluster)
        self.cluster.learn_stream(self.head.path)
        if self.attempt is not None and self.attempt.sent:
            self.disarm()
        self._bound_by_idle(self.runtime.turn.now)
