"""The path of one request, from its head to its last byte: one coroutine, read top down.

It is driven by hand: connections call `wake`, which sends an event into the
coroutine (PEP 342: a generator that waits where it says `yield`), from within their
own callbacks. There is no Task and no hop through the event loop. See docs/life-of-a-request.md.

Beside it: waiting.py (events, timers, deadlines), upload.py (the request's body),
judge.py (verdicts and retries), race.py (hedges), heads.py and local.py (what the client
is told).
"""

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

from sidecar.identity.clients import admitted
from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.headers import Headers
from sidecar.model.outcome import Failure, Skipped, Verdict
from sidecar.policy import classify
from sidecar.policy.breaker import CLOSED, REFUSED
from sidecar.proxy import reply
from sidecar.proxy.admit import admit, learn
from sidecar.proxy.attempt import Attempt
from sidecar.proxy.events import DEADLINE, END, FAILED, GONE, HEAD, IDLE, START, STREAM, TIMER
from sidecar.proxy.heads import client_head, outgoing_head
from sidecar.proxy.judge import client_time_is_over, count_skipped, delay_before_retry, verdict_of
from sidecar.proxy.local import refuse_by_a_bug, send_failure, send_fixed, send_late_failure
from sidecar.proxy.race import Race, patience
from sidecar.proxy.route import Route, Target, is_grpc_head
from sidecar.proxy.runtime import Runtime
from sidecar.proxy.upload import Upload
from sidecar.proxy.waiting import Waiting
from sidecar.proxy.websocket import WebSocketStream
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.endpoint import Endpoint

# Nothing faster is worth a note for its time alone.
_SLOW_SECONDS = 1.0

# A fast failure must not look like a fast endpoint to a latency-minded balancer.
_FAILURE_SECONDS = 0.25


class Exchange(Waiting):
    """A request and its response, as the client sees them.

    The receiver of the client's stream. `listener` names the listener, `protocol`
    is "http1", "http2" or "grpc".
    """

    __slots__ = (
        "_answer",
        "_place",
        "attempts",
        "bytes_in",
        "bytes_out",
        "code",
        "failure",
        "listener",
        "noted",
        "number",
        "protocol",
        "refused",
        "request_ended",
        "skipped",
        "status",
        "stream",
        "target",
        "tried",
        "tunnel",
        "upload",
    )

    def __init__(self, runtime: Runtime, listener: str, stream: Any, head: RequestHead, end: bool) -> None:
        self.runtime = runtime
        self.listener = listener
        self.stream = stream
        self.head = head
        self.request_ended = end
        self.upload = None if end else Upload(self)
        grpc = head.grpc
        if grpc is None:
            grpc = stream.protocol == "http2" and is_grpc_head(head)
        self.grpc = grpc
        self.protocol: str = "grpc" if grpc else stream.protocol
        self.route: Route | None = None
        self.target: Target | None = None
        self.cluster: Cluster | None = None
        self._place: Cluster | None = None  # under whose limit it counts
        # Tries: the one under way, those that are worth a note, how many there were.
        self.attempt: Attempt | None = None
        self.attempts: Sequence[Attempt] = ()
        self.number = 0
        self.noted = False  # there is something to say of our own doing: `heads.notes`
        self.tried: tuple[Endpoint, ...] = ()
        self.refused: tuple[Endpoint, ...] = ()  # whose breakers did not let it in
        self.skipped: Skipped | None = None
        self._answer: Attempt | None = None  # the last real response, kept for the client
        self.committed = False
        self.tunnel = False  # the answer turned the connection into a pipe
        # What it came to, for meters and logs.
        self.failure: Failure | None = None
        self.status = 0
        self.code = 0
        self.bytes_in = 0
        self.bytes_out = 0
        # Waiting.
        self.started = self.active_at = runtime.turn.now
        self.streaming = False
        self._deadline = 0.0
        self.client_deadline = 0.0
        self._deadline_token = 0
        self._timer_token = 0
        self.inbox = None
        self._running = False
        self._done = False
        self._coroutine = self._path()

    # ------------------------------------------------------------------ the path

    def _path(self) -> Generator[None, int | None, None]:  # noqa: C901 - one function, so that the path reads in one place
        """The whole path. Positions matter; docs/life-of-a-request.md says why."""
        runtime = self.runtime
        head = self.head
        now = self.started

        # route: on the snapshot that is live now; a reload does not move this request
        listener = runtime.snapshot.listeners[self.listener]
        route = listener.only if head.method != b"CONNECT" else None
        if route is None:
            found = listener.match(head)
            if not isinstance(found, Route):
                self._reply(found if admitted(listener.guards, self.stream.peer) else Failure.KEPT_OUT)
                return
            route = found
        self.route = route
        if not route.direct:
            if not admitted(route.guards, self.stream.peer):
                self._reply(Failure.KEPT_OUT)
                return
            if not route.targets:
                send_fixed(self, route)
                self._finish()
                return
        target = self.target = route.target(runtime.rng.random) if route.bounds else route.targets[0]
        cluster = self.cluster = target.cluster

        # admit: before any work is done for it
        if runtime.pressure or not cluster.requests.try_acquire():
            refusal = admit(self, cluster, route, now)
            if refusal is not None:
                self._reply(refusal)
                return
        self._place = cluster
        cluster.budget.deposit(now)
        if self.grpc:
            self._start_grpc_deadline(route, cluster)
        elif route.request_timeout:
            self._deadline = now + route.request_timeout
            self._deadline_token = runtime.timers.add(route.request_timeout, self)
        protocol = self.stream.protocol if cluster.protocol == "auto" else cluster.protocol
        if head.upgrade or head.method == b"CONNECT":
            protocol = "http1" if head.upgrade else "tcp"  # only HTTP/1.1 has Upgrade
        key = cluster.key_of(head, self.stream.peer) if cluster.key_of is not None else 0

        failure = _RESET  # of an answer that was kept and broke off
        while True:
            # pick and permit: an endpoint whose breaker lets this try in
            attempt = self._open_attempt(cluster, key, now)
            if attempt is None:
                if self.number:
                    self.skipped = Skipped.NO_ENDPOINT
                    self.noted = True
                    count_skipped(Skipped.NO_ENDPOINT, cluster)
                if not self.number or failure is Failure.UNSENT:
                    # Else what the last try came to stands: `breaker_open` would say
                    # that nothing ran.
                    failure = cluster.why_none()
                break

            # acquire: a stream now, or later, or a failure
            pool = attempt.endpoint.pools.get(protocol) or cluster.pool(attempt.endpoint, protocol)
            repeatable = head.method == b"GET" and self.number < route.retry.attempts
            stream = pool.acquire(attempt, now, repeatable)
            event: int | None = STREAM
            if stream is None:
                self.arm(patience(self, attempt, route, cluster, cluster.connect_timeout))
                event = self.inbox.pop(0) if self.inbox else (yield)
                self.disarm()
                if event != STREAM and event != FAILED and not (event == TIMER and route.hedge is not None):
                    pool.leave(attempt)
                    if event == TIMER:
                        # Without a dial it waited for our own connection limit.
                        attempt.failure = Failure.CONNECT_TIMEOUT if pool.dialling else Failure.OVERLOADED
                        attempt.detail = attempt.endpoint.stage
            elif type(stream) is Failure:  # isinstance asks an Enum's metaclass, in Python
                attempt.failure, event = stream, FAILED
            else:
                attempt.stream = stream

            # send, then wait for the head
            if event == STREAM:
                self.send(attempt, route)
                if route.timed and not self.streaming:
                    bound = patience(self, attempt, route, cluster, route.try_timeout)
                    if bound:
                        self.arm(bound)
                event = self.inbox.pop(0) if self.inbox else (yield)
                if self._timer_token:
                    self.disarm()
            if event != HEAD:
                if event == TIMER and route.hedge is not None:
                    # hedge: the first is slow, so another one beside it; the better of the two goes on
                    attempt, event = yield from Race(self, attempt, route, cluster, protocol).run(key)
                if event == GONE:
                    self._cancelled(attempt)
                    return
                if event == IDLE:
                    attempt.failure = Failure.IDLE_TIMEOUT
                elif event in (TIMER, DEADLINE) and attempt.failure is None:
                    attempt.failure = self.late()

            # judge and retry: or be content with what there is, unless that is nothing
            # but a gRPC status
            answer = attempt.head
            if (
                answer is not None
                and answer.status < 400
                and attempt.failure is None
                and (not self.grpc or attempt.held or not attempt.finished)
            ):
                break
            now = runtime.turn.now
            delay = delay_before_retry(self, attempt, route, cluster, now)
            failure = attempt.failure or failure
            if delay is None:
                break
            self.settle(attempt, verdict_of(self, attempt))
            self.keep_answer(attempt)
            if delay > 0:
                self.arm(delay)
                event = self.inbox.pop(0) if self.inbox else (yield)
                self.disarm()
                now = runtime.turn.now
                if event == GONE:
                    self._cancelled(None)
                    return
                if event != TIMER:
                    attempt, failure = None, Failure.TIMEOUT
                    break

        # give up: the last real response if there was one, else a reply of our own
        if attempt is None or attempt.failure is not None:
            attempt = self._fall_back(attempt)
            if attempt is None:
                self._reply(failure)
                return
            if not attempt.sent:
                self.resume_request()  # what still comes of the request has no taker

        # commit: from here on there is no other try
        self._commit(attempt, route)

        # relay: body chunks go from stream to stream; only the end comes back here
        while not attempt.finished or (self.tunnel and not self.request_ended):
            event = self.inbox.pop(0) if self.inbox else (yield)
            if event == GONE:
                self._cancelled(attempt)
                return
            if event in (FAILED, DEADLINE, IDLE):
                self._break_off(attempt, event)
                return

        # settle and finish
        plain = self.status < 400 and not self.grpc
        self.settle(attempt, _SUCCESS if plain else verdict_of(self, attempt))
        self.code = attempt.code or 0
        if not (self.request_ended and attempt.sent):
            attempt.give_back()
        self._finish()

    # ---------------------------------------------------------- steps of the path

    def _open_attempt(self, cluster: Cluster, key: int, now: float) -> Attempt | None:
        """Pick until a breaker lets us in."""
        while True:
            if self.tried or self.refused:
                endpoint = cluster.pick_another(self.tried, self.refused, key, now)
            else:
                endpoint = cluster.balancer.pick((), key, now)
            if endpoint is None:
                return None
            permit = endpoint.breaker.admit(now)
            if permit != REFUSED:
                break
            self.refused += (endpoint,)
        self.number += 1
        endpoint.in_flight += 1
        attempt = self.attempt = Attempt(self, endpoint, self.number, permit, now)
        return attempt

    def send(self, attempt: Attempt, route: Route) -> None:
        """Head, the body so far, then whatever comes (`on_data`)."""
        stream = attempt.stream
        attempt.sent = True
        head = self.head
        if not route.plain or attempt.number > 1 or (self.client_deadline and self.runtime.turn.now > self.started):
            head = outgoing_head(self, route, attempt.number)
        upload = self.upload
        if upload is None:
            stream.send_head(head, True)
            return
        whole = self.request_ended and not (upload.chunks or upload.trailers)
        stream.send_head(head, whole)
        if not whole:
            upload.replay(stream, self.request_ended)

    def keep_answer(self, attempt: Attempt) -> None:
        """Keep the last real response until a later try has one: the client gets it
        when the tries run out."""
        self.attempt = None
        self.noted = True
        self.tried += (attempt.endpoint,)
        if attempt not in self.attempts:
            self.attempts = (*self.attempts, attempt)
        if attempt.head is None or attempt.failure is not None:
            attempt.abandon()
            return
        if self._answer is not None:
            self._answer.abandon()
        self._answer = attempt
        if not self.request_ended:
            # The rest of the request goes to other tries: never again to this one,
            # which would see a body with a hole.
            attempt.sent = False

    def _fall_back(self, attempt: Attempt | None) -> Attempt | None:
        """The last real response, when the tries ran out without a better one."""
        if attempt is not None:
            self.settle(attempt, verdict_of(self, attempt))
            attempt.abandon()
        answer, self._answer = self._answer, None
        return answer if answer is not None and answer.failure is None else None

    def _commit(self, attempt: Attempt, route: Route) -> None:
        """The client gets this answer."""
        head = attempt.head
        assert head is not None
        if self._answer is not None:
            self._answer.abandon()
            self._answer = None
        self.committed = True
        self.attempt = attempt
        if self.upload is not None:
            self.upload.let_go()
        self.status = head.status
        if head.status == 101 or (self.head.method == b"CONNECT" and head.status < 300):
            self.tunnel = True
            if self.cluster is not None:
                self.cluster.set_apart(1)
            if self.head.upgrade.lower() == b"websocket":
                self.stream = WebSocketStream(self.stream, masked=False)
                attempt.stream = WebSocketStream(attempt.stream, masked=True)
        self.active_at = self.runtime.turn.now
        if self.noted or route.response_headers is not None:
            head = client_head(self, attempt, head, route)
        if not attempt.held and attempt.trailers is None:
            attempt.committed = True
            self.stream.send_head(head, attempt.finished)
        else:
            self.stream.send_head(head, False)
            attempt.hand_over()
        if attempt.finished:
            return
        # The answer goes on: a probe's breaker need not wait for its end, and what
        # bounds it from here on may be the idle timeout.
        if attempt.endpoint.breaker.state != CLOSED and not attempt.settled:
            self._prove(attempt, head)
        sooner = not self._deadline_token or self.active_at + route.idle_timeout < self._deadline
        if sooner and (self.streaming or not self.grpc):
            self._bound_by_idle(self.active_at)

    def _prove(self, attempt: Attempt, head: ResponseHead) -> None:
        """A probe has its answer when it is established, which for a stream may be
        hours before its end. That end counts once the breaker is closed."""
        breaker = attempt.endpoint.breaker
        now = self.runtime.turn.now
        breaker.record(attempt.permit, classify.of_status(head.status), now)
        attempt.permit = breaker.admit(now) if breaker.state == CLOSED else REFUSED

    def settle(self, attempt: Attempt, verdict: Verdict) -> None:
        """Tell breaker, balancer and meters, exactly once per try."""
        if attempt.settled:
            return
        attempt.settled = True
        attempt.verdict = verdict
        now = attempt.ended = self.runtime.turn.now
        endpoint = attempt.endpoint
        endpoint.in_flight -= 1
        endpoint.verdicts[verdict] += 1
        endpoint.durations.record(now - attempt.started)
        endpoint.breaker.record(attempt.permit, verdict, now)
        cluster = self.cluster
        if cluster is not None and (verdict is _SUCCESS or _tells_of_load(attempt, verdict)):
            seconds = attempt.latency if verdict is _SUCCESS else max(now - attempt.started, _FAILURE_SECONDS)
            cluster.balancer.observe(endpoint, seconds, now)
        if self.number > 1 or verdict is not _SUCCESS:
            self.attempts = (*self.attempts, attempt)

    # ------------------------------------------------------------ ends of the path

    def _reply(self, failure: Failure) -> None:
        """A reply of our own."""
        self.attempt = None
        if failure is Failure.SLOW_REQUEST:
            self.runtime.too_slow("body")
        send_failure(self, failure)
        self._finish()

    def late(self) -> Failure:
        """Whose time was over: a client that is not done asking keeps its endpoint waiting."""
        upload = self.upload
        if upload is None or self.request_ended or upload.is_paused or not self.bytes_in:
            return Failure.TIMEOUT
        return Failure.SLOW_REQUEST

    def _break_off(self, attempt: Attempt, event: int) -> None:
        """The answer broke off after the client got its head."""
        if event == FAILED:
            failure = attempt.failure or Failure.RESET
        else:
            failure = Failure.TIMEOUT if event == DEADLINE else Failure.IDLE_TIMEOUT
        attempt.failure = failure
        # A stream that its client wanted no longer than this says nothing of its endpoint, nor
        # does a tunnel whose server had said all and takes no more of what the client says.
        nothing = attempt.finished or (event == DEADLINE and self.streaming)
        self.settle(attempt, _IGNORED if nothing else verdict_of(self, attempt))
        attempt.abandon()
        send_late_failure(self, failure)
        self._finish()

    def _cancelled(self, attempt: Attempt | None) -> None:
        """The client left: neither success nor failure of the endpoint, unless it left
        because its own deadline was over, which it nearly always sees before we do."""
        expired = client_time_is_over(self)
        told = self.failure  # by the connection, which knows more than that it is over
        self.failure = Failure.TIMEOUT if expired else told or Failure.CANCELLED
        quiet = expired or self.committed or self.grpc  # nothing said it to the client
        self.status = reply.status_of(Failure.CANCELLED if quiet else self.failure)
        self.code = reply.grpc_code_of(self.failure)
        if attempt is not None:
            verdict = _IGNORED
            if expired and not self.streaming and not self._has_message():
                attempt.failure = Failure.TIMEOUT
                verdict = verdict_of(self, attempt)
            self.settle(attempt, verdict)
            attempt.abandon()
        if self._answer is not None:
            self._answer.abandon()
        self._finish()

    def on_crash(self, error: Exception) -> None:
        """A bug, on the path or in what was told to it: this request fails, the process lives."""
        self.runtime.on_crash(error)
        self._give_up(Failure.INTERNAL)

    def cut_off(self) -> None:
        """The process ends: so does this, with a word for the client. Outside of the path."""
        attempt = self.attempt
        if isinstance(self.stream, WebSocketStream) and not self._done:
            self.stream.go_away()
            if attempt is not None and isinstance(attempt.stream, WebSocketStream):
                attempt.stream.go_away()
            return  # its ends close it now
        self._give_up(Failure.CUT_OFF)

    def _give_up(self, failure: Failure) -> None:
        """End it in whatever state it is. What fails in doing so does not keep the rest from
        being done: places and permits are given back, the client is told."""
        if self._done:
            return
        attempt = self.attempt
        steps: list[Callable[[], None]] = [self.disarm, partial(self._tell, failure, attempt), self._finish]
        if self._answer is not None:
            steps.insert(0, self._answer.abandon)
        if attempt is not None:
            leave = [partial(pool.leave, attempt) for pool in attempt.endpoint.pools.values()]
            steps = [*leave, partial(self.settle, attempt, _IGNORED), attempt.abandon, *steps]
        if not self._running:  # else it has ended by itself: its bug it was
            steps.insert(0, self._coroutine.close)  # first, for a race lets go of its tries
        for step in steps:
            try:
                step()
            except Exception as error:
                self.runtime.on_crash(error)

    def _tell(self, failure: Failure, attempt: Attempt | None) -> None:
        try:
            if not self.committed:
                send_failure(self, failure)
            elif failure is Failure.INTERNAL:
                # Nobody knows what of the answer went out. A stream that said all is not
                # ours any more, or takes no reset.
                self.failure, self.code = failure, reply.grpc_code_of(failure)
                if self.stream.receiver is self:
                    self.stream.reset(failure)
            elif self.tunnel or attempt is None or not attempt.finished:
                send_late_failure(self, failure)
        except Exception:
            self.stream.reset(failure)
            raise

    def _finish(self) -> None:
        """Meters and logs, exactly once per exchange; then everything is let go."""
        if self._done:
            return
        self._done = True
        runtime = self.runtime
        runtime.in_flight -= 1
        seconds = runtime.turn.now - self.started
        if self._deadline_token:
            runtime.timers.cancel(self._deadline_token)
            self._deadline_token = 0
        cluster = self._place
        if cluster is not None:
            if cluster.learning or self.streaming or self.tunnel:
                try:
                    learn(self, cluster, runtime.turn.now)
                except Exception as error:  # the place is given back whatever comes
                    runtime.on_crash(error)
            cluster.requests.release()
            cluster.durations.record(seconds)
        codes = runtime.local_codes(self.route) if self.target is None else self.target.codes
        seen = (self.protocol, self.code if self.grpc and self.status in _GRPC_STATUSES else self.status)
        codes[seen] = codes.get(seen, 0) + 1
        if runtime.records:
            for record in runtime.records:
                record.finished(self)
        unusual = self.attempts or self.failure is not None or self.skipped is not None or seconds >= _SLOW_SECONDS
        if unusual and runtime.notable is not None:
            runtime.notable.finished(self)
        # No reference cycle is left: what is freed at once stays out of the
        # collector's way, and its memory in the processor's cache.
        self.attempt = self._answer = self.upload = None
        self.attempts = ()

    @property
    def is_over(self) -> bool:
        """Whether it was finished."""
        return self._done

    # --------------------------------------------- Receiver: what the client sends

    def on_data(self, data: bytes, end: bool) -> None:
        """Request body, or tunnelled bytes."""
        self.active_at = self.runtime.turn.now
        self.bytes_in += len(data)
        self.request_ended = end
        if self._done:
            return
        if self.upload is not None:
            self.upload.take(data, end)
        if end and self.tunnel:
            self.wake(None, END)

    def on_trailers(self, trailers: Headers) -> None:
        """Request trailers."""
        self.request_ended = True
        if self.upload is not None and not self._done:
            self.upload.take_trailers(trailers)

    def on_head(self, head: Any, end: bool) -> None:
        """A downstream stream is made with its head."""

    def on_informational(self, head: ResponseHead) -> None:
        """Requests have none."""

    def on_full(self) -> None:
        """The client takes no more of the response for now."""
        attempt = self.attempt
        if attempt is not None and attempt.committed and attempt.stream is not None and not attempt.finished:
            attempt.hold_up()

    def on_writable(self) -> None:
        """The client takes response bytes again."""
        self.active_at = self.runtime.turn.now
        attempt = self.attempt
        if attempt is not None and attempt.committed and attempt.stream is not None and not attempt.finished:
            attempt.stream.resume()

    def resume_request(self) -> None:
        """There is room again for what the client sends."""
        if self.upload is not None:
            self.upload.resume()

    def on_reset(self, failure: Failure) -> None:
        """The client left, took too long, or broke the protocol."""
        if failure in _TOLD:
            self.failure = failure
        self.wake(None, GONE)


def _tells_of_load(attempt: Attempt, verdict: Verdict) -> bool:
    """Whether a failed try says something to a balancer. An endpoint that is gone is
    the breaker's: were it avoided at the first failure, the breaker would hear of it
    too seldom to open."""
    return verdict is not _IGNORED and (attempt.head is not None or attempt.failure is Failure.TIMEOUT)


# A member read off an Enum class costs more than the comparison that it is for.
_SUCCESS = Verdict.SUCCESS
_IGNORED = Verdict.IGNORED
_RESET = Failure.RESET

# What ends a request besides that its client leaves; the client was told, if it could be.
_TOLD = (Failure.BAD_REQUEST, Failure.SLOW_REQUEST)

# HTTP statuses under which a gRPC call is counted by its gRPC code: an answer, and
# a client that left.
_GRPC_STATUSES = frozenset((200, reply.status_of(Failure.CANCELLED)))


Begin = Callable[[Any, RequestHead, bool], None]


def beginner(runtime: Runtime, listener: str) -> Begin:
    """What a listener's connections call for each request."""

    def begin(stream: Any, head: RequestHead, end: bool) -> None:
        try:
            exchange = Exchange(runtime, listener, stream, head, end)
        except Exception as error:
            runtime.on_crash(error)
            refuse_by_a_bug(runtime, stream, head)
            return
        stream.receiver = exchange
        runtime.in_flight += 1
        exchange.wake(None, START)

    return begin
