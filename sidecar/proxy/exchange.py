"""The path of one request, from its head to its last byte: one coroutine, read top down.

It is driven by hand: connections call `wake`, which sends an event into the
coroutine, from within their own callbacks. There is no Task and no hop through
the event loop. See docs/life-of-a-request.md.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from sidecar.codec import grpc
from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.headers import Headers, get, without
from sidecar.model.outcome import Failure, Skipped, Verdict
from sidecar.policy import classify
from sidecar.policy.backoff import backoff
from sidecar.policy.breaker import CLOSED, REFUSED
from sidecar.policy.retry import Try, forbids
from sidecar.proxy import reply
from sidecar.proxy.attempt import Attempt
from sidecar.proxy.events import DEADLINE, END, FAILED, GONE, IDLE, START, STREAM, TIMER, suspension
from sidecar.proxy.outgoing import outgoing_head, retry_after
from sidecar.proxy.route import Route, Target, is_grpc_head
from sidecar.proxy.runtime import Runtime
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.endpoint import Endpoint

# Request bytes that are taken in while no stream can carry them yet.
_HOLD_BYTES = 256 * 1024

# A fast failure must not look like a fast endpoint to a latency-minded balancer.
_FAILURE_SECONDS = 0.25

# A server's Retry-After is honoured within the deadline; without one, up to this.
_LONGEST_WAIT = 60.0

# A timeout of zero is over, but 0.0 stands for none.
_SHORTEST_TIMEOUT = 0.001

# By how much a client may see its deadline before us: seconds, and a part of it.
_EARLY = 0.01
_EARLY_PART = 0.01

# What belongs to the head of a gRPC answer even where that is its only block.
_HEAD_FIELDS = frozenset((b"content-type", b"content-length"))


class Exchange:
    """A request and its response, as the client sees them.

    The receiver of the client's stream. `listener` names the listener, `protocol`
    is "http1", "http2" or "grpc".
    """

    __slots__ = (
        "_admitted",
        "_answer",
        "_coroutine",
        "_counter",
        "_deadline",
        "_deadline_token",
        "_done",
        "_inbox",
        "_paused",
        "_refused",
        "_running",
        "_timer_token",
        "_tried",
        "active_at",
        "attempt",
        "attempts",
        "body",
        "bytes_in",
        "bytes_out",
        "client_deadline",
        "cluster",
        "code",
        "committed",
        "dropped",
        "failure",
        "grpc",
        "head",
        "held_bytes",
        "listener",
        "messages_sent",
        "number",
        "protocol",
        "request_ended",
        "route",
        "runtime",
        "skipped",
        "started",
        "status",
        "stream",
        "streaming",
        "target",
        "trailers",
        "tunnel",
    )

    def __init__(self, runtime: Runtime, listener: str, stream: Any, head: RequestHead, end: bool) -> None:
        self.runtime = runtime
        self.listener = listener
        self.stream = stream
        self.head = head
        self.request_ended = end
        known = head.grpc
        self.grpc = stream.protocol == "http2" and (is_grpc_head(head) if known is None else known)
        self.protocol: str = "grpc" if self.grpc else stream.protocol
        self.started = self.active_at = runtime.turn.now
        self.route: Route | None = None
        self.target: Target | None = None
        self.cluster: Cluster | None = None
        # Request body: what may be needed for a repeat, or has no stream yet.
        self.body: list[bytes] = []
        self.held_bytes = 0
        self.dropped = False  # bytes were let go: no repeat is possible
        self.trailers: Headers | None = None
        self.messages_sent = 0
        self.streaming = False
        # Tries.
        self.attempt: Attempt | None = None
        self.attempts: list[Attempt] = []
        self.number = 0
        self.skipped: Skipped | None = None
        self.committed = False
        self.tunnel = False  # the answer turned the connection into a pipe
        # Time, monotonic seconds; 0.0 for no deadline.
        self._deadline = 0.0
        self.client_deadline = 0.0
        # What it came to, for meters and logs.
        self.failure: Failure | None = None
        self.status = 0
        self.code = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self._answer: Attempt | None = None  # the last real response, kept for the client
        self._tried: tuple[Endpoint, ...] = ()
        self._refused: tuple[Endpoint, ...] = ()
        self._counter: grpc.MessageCounter | None = None
        self._admitted = False
        self._done = False
        self._paused = False
        self._deadline_token = 0
        self._timer_token = 0
        self._inbox: list[int | None] | None = None  # events that came while it was running
        self._running = False
        self._coroutine: Coroutine[Any, int | None, None] = self._path()

    # ------------------------------------------------------------------ the path

    async def _path(self) -> None:  # noqa: C901 - one function, so that the path reads in one place
        """The whole path. Positions matter; docs/life-of-a-request.md says why."""
        runtime = self.runtime
        head = self.head
        now = self.started

        # route: on the snapshot that is live now; a reload does not move this request
        listener = runtime.snapshot.listeners[self.listener]
        only = listener.only if head.method != b"CONNECT" else None
        found = only or listener.match(head)
        if isinstance(found, Failure):
            self._reply(found)
            return
        route = self.route = found
        if not route.targets:
            self._answer_locally(route)
            return
        target = self.target = route.target(runtime.rng.random)
        cluster = self.cluster = target.cluster

        # admit: before any work is done for it
        if not cluster.requests.try_acquire():
            self._reply(Failure.OVERLOADED)
            return
        self._admitted = True
        cluster.budget.deposit(now)
        if self.grpc:
            self._start_deadline(route, cluster)
        elif route.request_timeout:
            self._deadline = now + route.request_timeout
            self._deadline_token = runtime.timers.add(route.request_timeout, self)
        protocol = self.stream.protocol if cluster.protocol == "auto" else cluster.protocol
        if head.upgrade or head.method == b"CONNECT":
            protocol = "http1" if head.upgrade else "tcp"  # only HTTP/1.1 has Upgrade
        key = cluster.key_of(head, self.stream.peer) if cluster.key_of is not None else 0

        failure = Failure.RESET  # of an answer that was kept and broke off
        while True:
            # pick and permit: an endpoint whose breaker lets this try in
            attempt = self._open_attempt(cluster, key, now)
            if attempt is None:
                if self.number:
                    self._skip(Skipped.NO_ENDPOINT, cluster)
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
                self._arm(cluster.connect_timeout)
                event = self._inbox.pop(0) if self._inbox else await suspension()
                self._disarm()
                if event != STREAM and event != FAILED:
                    pool.leave(attempt)
                    if event == TIMER:
                        # Without a dial it waited for our own connection limit.
                        attempt.failure = Failure.CONNECT_TIMEOUT if pool.dialling else Failure.OVERLOADED
            elif isinstance(stream, Failure):
                attempt.failure, event = stream, FAILED
            else:
                attempt.stream = stream

            # send, then wait for the head
            if event == STREAM:
                self._send(attempt, route)
                if route.try_timeout and not self.streaming:
                    self._arm(route.try_timeout)
                event = self._inbox.pop(0) if self._inbox else await suspension()
                if self._timer_token:
                    self._disarm()
            if event == GONE:
                self._cancelled(attempt)
                return
            if event == IDLE:
                attempt.failure = Failure.IDLE_TIMEOUT
            elif event in (TIMER, DEADLINE) and attempt.failure is None:
                attempt.failure = Failure.TIMEOUT

            # judge and retry: or be content with what there is
            answer = attempt.head
            if answer is not None and answer.status < 400 and attempt.failure is None:
                if not self.grpc or not attempt.finished or attempt.held:
                    break
            now = runtime.turn.now
            delay = self._judge(attempt, route, cluster, now)
            failure = attempt.failure or failure
            if delay is None:
                break
            if delay > 0:
                self._arm(delay)
                event = self._inbox.pop(0) if self._inbox else await suspension()
                self._disarm()
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
            event = self._inbox.pop(0) if self._inbox else await suspension()
            if event == GONE:
                self._cancelled(attempt)
                return
            if event in (FAILED, DEADLINE, IDLE):
                self._break_off(attempt, event)
                return

        # settle and finish
        self._settle(attempt, self._verdict(attempt))
        self.code = attempt.code or 0
        if not (self.request_ended and attempt.sent):
            attempt.give_back()
        self._finish()

    # ------------------------------------------------------- driving the coroutine

    def wake(self, attempt: Attempt | None, event: int | None) -> None:
        """Something happened; `attempt` says to whom, None for the exchange itself."""
        if self._done or (attempt is not None and attempt is not self.attempt):
            return
        if self._running:
            # Never re-entered: told at the next suspension.
            if self._inbox is None:
                self._inbox = []
            self._inbox.append(event)
            return
        self._running = True
        try:
            self._coroutine.send(event)
        except StopIteration:
            pass
        except Exception as error:  # one request's bug ends that request
            self._crash(error)
        finally:
            self._running = False

    def on_timer(self, token: int) -> None:
        """A wait of the path, the deadline, or a look whether anything still moves."""
        if token == self._timer_token:
            self._timer_token = 0
            self.wake(None, TIMER)
        elif token == self._deadline_token:
            self._deadline_token = 0
            self._on_deadline()

    def _on_deadline(self) -> None:
        """The default deadline bounds a unary call and the wait for an HTTP head;
        streams and bodies are bounded by the idle timeout, a client's own deadline
        bounds everything."""
        now = self.runtime.turn.now
        if self.grpc and not self.streaming and self.cluster is not None and self._has_message():
            self.streaming = True
            self.cluster.learn_stream(self.head.path)
        if (self.client_deadline and now >= self.client_deadline) or not (
            self.streaming if self.grpc else self.committed
        ):
            self.wake(None, DEADLINE)
        else:
            self._watch_idle(now)

    def _watch_idle(self, now: float) -> None:
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

    def _arm(self, delay: float) -> None:
        self._timer_token = self.runtime.timers.add(delay, self)

    def _disarm(self) -> None:
        if self._timer_token:
            self.runtime.timers.cancel(self._timer_token)
            self._timer_token = 0

    # ---------------------------------------------------------- steps of the path

    def _start_deadline(self, route: Route, cluster: Cluster) -> None:
        """The deadline of a gRPC call: its own, and the default one unless it streams."""
        path = self.head.path
        timeout = route.request_timeout
        if path in cluster.streaming or path in route.streams:
            self.streaming = True
            timeout = 0.0
        head = self.head
        value = get(head.headers, b"grpc-timeout") if head.grpc is None else head.grpc_timeout
        wanted = grpc.parse_timeout(value) if value is not None else None
        if wanted is not None:
            wanted = max(wanted, _SHORTEST_TIMEOUT)
            self.client_deadline = self.started + wanted
            timeout = min(timeout, wanted) if timeout else wanted
        if timeout:
            self._deadline = self.started + timeout
        if self.streaming:
            self._watch_idle(self.started)
        elif timeout:
            self._deadline_token = self.runtime.timers.add(timeout, self)

    def _open_attempt(self, cluster: Cluster, key: int, now: float) -> Attempt | None:
        """Pick until a breaker lets us in."""
        while True:
            if self._tried or self._refused:
                endpoint = cluster.pick_another(self._tried, self._refused, key, now)
            else:
                endpoint = cluster.balancer.pick((), key, now)
            if endpoint is None:
                return None
            permit = endpoint.breaker.admit(now)
            if permit != REFUSED:
                break
            self._refused += (endpoint,)
        self.number += 1
        endpoint.in_flight += 1
        attempt = self.attempt = Attempt(self, endpoint, self.number, permit, now)
        self._tried += (endpoint,)
        return attempt

    def _send(self, attempt: Attempt, route: Route) -> None:
        """Head, the body so far, then whatever comes (`on_data`)."""
        stream = attempt.stream
        attempt.sent = True
        body = self.body
        last = len(body) if self.request_ended and self.trailers is None else 0
        head = self.head
        if not route.plain or self.number > 1 or (self.client_deadline and self.runtime.turn.now > self.started):
            head = outgoing_head(self, route)
        if self.request_ended and not body and self.trailers is None:
            stream.send_head(head, True)
            return
        stream.send_head(head, False)
        writable = True
        for index, data in enumerate(body, 1):
            writable = stream.send_data(data, index == last)
        if self.trailers is not None:
            stream.send_trailers(self.trailers)
        if body and self.held_bytes > self._replay_limit():
            self._let_go()
        if writable:
            self.resume_request()

    def _judge(self, attempt: Attempt, route: Route, cluster: Cluster, now: float) -> float | None:
        """Seconds to wait before another try, or None: this try is the last one.

        Settles a try that is repeated; the last one is settled at its end.
        """
        policy = route.retry
        head = attempt.head
        failure = attempt.failure
        code: int | None = None
        if failure is not None:
            wanted, reason, processed = failure in policy.failures, failure.reason, failure.processed
        else:
            assert head is not None  # an event without a failure is a head
            if not self.grpc:
                if head.status < 400 or head.status not in policy.statuses:
                    return None
                wanted, reason = True, str(head.status)
            else:
                # Trailers-only, or trailers behind a head with no message between.
                code = self._early_grpc_code(attempt)
                if code is not None:
                    wanted, reason = code in policy.grpc_codes, grpc.STATUS_NAMES[code]
                else:
                    wanted, reason = head.status in policy.statuses, str(head.status)
            processed = True
        if not wanted or policy.attempts <= 1:
            return None

        self.skipped = forbids(
            policy,
            Try(
                number=self.number,
                processed=processed,
                idempotent=not processed or policy.idempotency.allows(self.head),
                replayable=not self.dropped,
                committed=self.messages_sent > 1 and attempt.sent,
            ),
        )
        delay = 0.0
        if processed or len(self._tried) >= len(cluster.endpoints):
            delay = backoff(self.number, policy.backoff_base, policy.backoff_max, self.runtime.rng)
        if head is not None:
            asked = retry_after(head, self.grpc, attempt.trailers)
            if asked is not None:
                if asked < 0 and self.skipped is None:
                    self.skipped = Skipped.PUSHBACK
                delay = max(delay, asked)
        if self.skipped is None and now + delay >= (self.deadline or now + _LONGEST_WAIT):
            self.skipped = Skipped.DEADLINE
        if self.skipped is None and not cluster.budget.try_withdraw(now):
            self.skipped = Skipped.BUDGET
        if self.skipped is not None:
            self._skip(self.skipped, cluster)
            return None

        cluster.retries[reason] = cluster.retries.get(reason, 0) + 1
        self._settle(attempt, self._verdict(attempt))
        self._keep_answer(attempt)
        return delay

    def _skip(self, why: Skipped, cluster: Cluster) -> None:
        """A retry that was wanted is not made."""
        self.skipped = why
        cluster.retries_skipped[why.value] = cluster.retries_skipped.get(why.value, 0) + 1

    @property
    def deadline(self) -> float:
        """When the exchange must be over, a monotonic time; 0.0 for never. A call that
        turned out to be a stream is bounded by its client's own deadline alone."""
        return self.client_deadline if self.streaming else self._deadline

    @property
    def refused(self) -> tuple[Endpoint, ...]:
        """Endpoints whose breakers let this request not in."""
        return self._refused

    @staticmethod
    def _early_grpc_code(attempt: Attempt) -> int | None:
        """The gRPC status of an answer without messages, or None."""
        if attempt.held or not attempt.finished:
            return None
        assert attempt.head is not None
        return grpc.status_number(attempt.trailers if attempt.trailers is not None else attempt.head.headers)

    def _keep_answer(self, attempt: Attempt) -> None:
        """Keep the last real response until a later try has one: the client gets it
        when the tries run out."""
        if attempt.head is not None and attempt.failure is None:
            if self._answer is not None:
                self._answer.abandon()
            self._answer = attempt
            if not self.request_ended:
                # The rest of the request goes to other tries: never again to this one,
                # which would see a body with a hole.
                attempt.sent = False
        else:
            attempt.abandon()
        self.attempt = None

    def _commit(self, attempt: Attempt, route: Route) -> None:
        """The client gets this answer."""
        head = attempt.head
        assert head is not None
        if self._answer is not None:
            self._answer.abandon()
            self._answer = None
        self.committed = True
        self.attempt = attempt
        if self.body:
            self._let_go()
        self.status = head.status
        self.tunnel = head.status == 101 or (head.status < 300 and self.head.method == b"CONNECT")
        self.active_at = self.runtime.turn.now
        # An unlisted gRPC method's own error passes byte for byte: a note would stand
        # among its trailers.
        unnoted = self.skipped is None or (self.grpc and self.skipped is Skipped.NOT_IDEMPOTENT)
        if self.number > 1 or not unnoted or route.response_headers is not None:
            head = self._client_head(attempt, head, route)
        if not attempt.held and attempt.trailers is None:
            attempt.committed = True
            self.stream.send_head(head, attempt.finished)
        else:
            self.stream.send_head(head, False)
            attempt.hand_over()
        if not attempt.finished:
            if attempt.endpoint.breaker.state != CLOSED and not attempt.settled:
                self._prove(attempt, head)
            if (self.streaming or not self.grpc) and (
                not self._deadline_token or self.active_at + route.idle_timeout < self._deadline
            ):
                self._bound_by_idle(self.active_at)

    def _prove(self, attempt: Attempt, head: ResponseHead) -> None:
        """A probe has its answer when it is established, which for a stream may be
        hours before its end. That end counts once the breaker is closed."""
        breaker = attempt.endpoint.breaker
        now = self.runtime.turn.now
        breaker.record(attempt.permit, classify.of_status(head.status), now)
        attempt.permit = breaker.admit(now) if breaker.state == CLOSED else REFUSED

    def _client_head(self, attempt: Attempt, head: ResponseHead, route: Route) -> ResponseHead:
        """The endpoint's head with the route's edits and our notes.

        The only header block of a failed gRPC call holds its trailers. Those of a call
        that was not ours to repeat go on as they came: with a head before them, a
        client's own retry policy would have to give up (gRFC A6). Else the notes get a
        head of their own, so that the trailers stay the endpoint's.
        """
        edit = route.response_headers
        headers = head.headers if edit is None else edit.apply(head.headers)
        notes = self._notes()
        if notes and self.grpc and attempt.finished and attempt.trailers is None and not attempt.held:
            if self.number == 1 and self.skipped is Skipped.NOT_IDEMPOTENT:
                return ResponseHead(head.status, headers, head.length)
            attempt.trailers = without(headers, _HEAD_FIELDS)
            headers = [pair for pair in headers if pair[0] in _HEAD_FIELDS]
        return ResponseHead(head.status, [*headers, *notes], head.length)

    def _notes(self) -> Headers:
        """What we say about our own doing, in response headers."""
        notes: Headers = []
        if self.number > 1:
            notes.append((b"x-sidecar-attempts", b"%d" % self.number))
        if self.skipped is not None:
            notes.append((b"x-sidecar-retry-skipped", self.skipped.value.encode()))
        return notes

    def _verdict(self, attempt: Attempt) -> Verdict:
        """What the try says about its endpoint."""
        if attempt.failure is not None:
            if attempt.failure is Failure.TIMEOUT and self._client_time_is_over():
                return Verdict.SOFT_FAILURE  # as likely the caller's impatience
            return Verdict.FAILURE if attempt.failure.blames_endpoint else Verdict.IGNORED
        head = attempt.head
        assert head is not None
        if self.grpc:
            code = attempt.code = self._grpc_code(attempt)
            if code is not None:
                return classify.of_grpc(code)
        return classify.of_status(head.status)

    def _client_time_is_over(self) -> bool:
        """Whether the client's own deadline is over by the client's clock: it began
        before ours, and grpcio rounds a grpc-timeout up to three digits."""
        whole = self.client_deadline - self.started
        return self.client_deadline > 0 and self.runtime.turn.now >= self.client_deadline - _EARLY - _EARLY_PART * whole

    def _grpc_code(self, attempt: Attempt) -> int | None:
        """The gRPC status that an answer ended with; None when it is no gRPC answer."""
        head = attempt.head
        if head is None or head.status != 200:
            return None
        code = None
        if attempt.trailers is not None:
            code = grpc.status_number(attempt.trailers)
        elif not self.bytes_out:  # trailers-only: the head is all there is
            code = grpc.status_number(head.headers)
        if code is None and grpc.head_is_grpc(head.headers):
            return grpc.UNKNOWN  # the protocol's word for a missing status
        return code

    # ------------------------------------------------------------ ends of the path

    def _fall_back(self, attempt: Attempt | None) -> Attempt | None:
        """The last real response, when the tries ran out without a better one."""
        if attempt is not None:
            self._settle(attempt, self._verdict(attempt))
            attempt.abandon()
        answer, self._answer = self._answer, None
        return answer if answer is not None and answer.failure is None else None

    def _reply(self, failure: Failure) -> None:
        """A reply of our own."""
        self.failure = failure
        cluster = self.cluster
        name = cluster.name if cluster is not None else ""
        self.attempt = None
        if cluster is not None:
            reason = reply.reason_of(failure)
            cluster.local_replies[reason] = cluster.local_replies.get(reason, 0) + 1
        if self.grpc:
            self.status, self.code = 200, reply.grpc_code_of(failure)
            self.stream.send_head(reply.grpc_reply(failure, name, self.number, self._notes()), True)
        else:
            head, body = reply.http_reply(failure, name, self.number, self._notes())
            self.status = head.status
            self._send_local(head, body)
        self._finish()

    def _answer_locally(self, route: Route) -> None:
        """`redirect` and `respond` routes."""
        if route.redirect is not None:
            location = route.redirect.location(self.head).encode("latin-1", "replace")
            head, body = (
                ResponseHead(route.redirect.status, [(b"location", location), (b"content-length", b"0")], 0),
                b"",
            )
        else:
            assert route.respond is not None
            body = route.respond.body
            length = (b"content-length", b"%d" % len(body))
            head = ResponseHead(route.respond.status, [*route.respond.headers, length], len(body))
        if route.response_headers is not None:
            head.headers = route.response_headers.apply(head.headers)
        self.status = head.status
        self._send_local(head, body)
        self._finish()

    def _send_local(self, head: ResponseHead, body: bytes) -> None:
        bodyless = not body or self.head.method == b"HEAD" or head.status in (204, 304)
        self.stream.send_head(head, bodyless)
        if not bodyless:
            self.bytes_out += len(body)
            self.stream.send_data(body, True)

    def _break_off(self, attempt: Attempt, event: int) -> None:
        """The answer broke off after the client got its head."""
        if event == FAILED:
            failure = attempt.failure or Failure.RESET
        else:
            failure = Failure.TIMEOUT if event == DEADLINE else Failure.IDLE_TIMEOUT
        attempt.failure = failure
        self.failure = failure
        # A stream that its client wanted no longer than this says nothing of its endpoint.
        expired = event == DEADLINE and self.streaming
        self._settle(attempt, Verdict.IGNORED if expired else self._verdict(attempt))
        attempt.abandon()
        if self.grpc:
            self.code = reply.grpc_code_of(failure)
            head = reply.grpc_reply(failure, self.cluster.name if self.cluster else "", self.number, [])
            self.stream.send_trailers([pair for pair in head.headers if pair[0] != b"content-type"])
        else:
            self.stream.reset(failure)
        self._finish()

    def _cancelled(self, attempt: Attempt | None) -> None:
        """The client left: neither success nor failure of the endpoint, unless it left
        because its own deadline was over, which it nearly always sees before we do."""
        expired = self._client_time_is_over()
        self.failure = Failure.TIMEOUT if expired else Failure.CANCELLED
        self.status = reply.status_of(Failure.CANCELLED)
        self.code = reply.grpc_code_of(self.failure)
        if attempt is not None:
            verdict = Verdict.IGNORED
            if expired and not self.streaming and not self._has_message():
                attempt.failure = Failure.TIMEOUT
                verdict = self._verdict(attempt)
            self._settle(attempt, verdict)
            attempt.abandon()
        if self._answer is not None:
            self._answer.abandon()
        self._finish()

    def _settle(self, attempt: Attempt, verdict: Verdict) -> None:
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
        if cluster is not None:
            if verdict is Verdict.SUCCESS:
                cluster.balancer.observe(endpoint, attempt.latency, now)
            elif verdict is not Verdict.IGNORED:
                cluster.balancer.observe(endpoint, max(now - attempt.started, _FAILURE_SECONDS), now)
        if self.number > 1 or verdict is not Verdict.SUCCESS:
            self.attempts.append(attempt)

    def _finish(self) -> None:
        """Meters and logs, exactly once per exchange; then everything is let go."""
        if self._done:
            return
        self._done = True
        runtime = self.runtime
        runtime.in_flight -= 1
        if self._deadline_token:
            runtime.timers.cancel(self._deadline_token)
            self._deadline_token = 0
        if self._timer_token:
            self._disarm()
        cluster = self.cluster
        if self._admitted and cluster is not None:
            cluster.requests.release()
            cluster.durations.record(runtime.turn.now - self.started)
        codes = self.target.codes if self.target is not None else runtime.local_codes(self.route)
        seen = (self.protocol, self.code if self.protocol == "grpc" and self.status in (200, 499) else self.status)
        codes[seen] = codes.get(seen, 0) + 1
        for record in runtime.records:
            record.finished(self)
        # No reference cycle is left: what is freed at once stays out of the
        # collector's way, and its memory in the processor's cache.
        self.body = []
        self.attempt = self._answer = None
        self.attempts = []

    def _crash(self, error: Exception) -> None:
        """A bug on the path: this request fails, the process lives."""
        self.runtime.on_crash(error)
        if self._done:
            return
        attempt = self.attempt
        if attempt is not None:
            for pool in attempt.endpoint.pools.values():
                pool.leave(attempt)
            self._settle(attempt, Verdict.IGNORED)
            attempt.abandon()
        if self._answer is not None:
            self._answer.abandon()
        if self.committed:
            self.stream.reset(Failure.INTERNAL)
            self.failure = Failure.INTERNAL
            self._finish()
        else:
            self._reply(Failure.INTERNAL)

    # --------------------------------------------- Receiver: what the client sends

    def on_data(self, data: bytes, end: bool) -> None:
        """Request body: on to the endpoint, and kept while a repeat is possible."""
        self.active_at = self.runtime.turn.now
        self.bytes_in += len(data)
        self.request_ended = end
        if self._done:
            return
        if self.grpc and data and not (end and self._counter is None and _is_one_message(data)):
            self._count_messages(data, end)
        attempt = self.attempt
        stream = attempt.stream if attempt is not None and attempt.sent else None
        if not self.committed and (stream is None or not self.dropped):
            self._keep(data, stream is not None)
        if stream is not None and not stream.send_data(data, end) and not end:
            self._pause()
        if end and self.tunnel:
            self.wake(None, END)

    def _keep(self, data: bytes, sent: bool) -> None:
        """Hold request bytes for a repeat, or because nobody can take them yet."""
        if data:
            self.body.append(data)
            self.held_bytes += len(data)
        if sent:
            if self.held_bytes > self._replay_limit():
                self._let_go()
        elif self.held_bytes > _HOLD_BYTES:
            self._pause()

    def _replay_limit(self) -> int:
        return self.route.retry.replay if self.route is not None and self.route.retry.attempts > 1 else 0

    def _let_go(self) -> None:
        """Keep nothing of the request any more: no repeat will be possible."""
        if self.body:
            self.dropped = True
            self.body = []
            self.held_bytes = 0

    def _pause(self) -> None:
        """Ask the client to wait; `on_writable` of the attempt, or a send, resumes."""
        if not self._paused and not self.request_ended:
            self._paused = True
            self.stream.pause()

    def resume_request(self) -> None:
        """There is room again for what the client sends."""
        if self._paused:
            self._paused = False
            self.stream.resume()

    def on_trailers(self, trailers: Headers) -> None:
        """Request trailers."""
        self.request_ended = True
        self.trailers = trailers
        attempt = self.attempt
        if attempt is not None and attempt.stream is not None and attempt.sent:
            attempt.stream.send_trailers(trailers)

    def on_head(self, head: Any, end: bool) -> None:
        """A downstream stream is made with its head."""

    def on_informational(self, head: ResponseHead) -> None:
        """Requests have none."""

    def on_writable(self) -> None:
        """The client takes response bytes again."""
        self.active_at = self.runtime.turn.now
        attempt = self.attempt
        if attempt is not None and attempt.committed and attempt.stream is not None and not attempt.finished:
            attempt.stream.resume()

    def on_reset(self, failure: Failure) -> None:
        """The client left, or broke the protocol."""
        self.wake(None, GONE)

    # ------------------------------------------------------------ streams of gRPC

    def _count_messages(self, data: bytes, end: bool) -> None:
        """Find out whether this is a stream: a second message, or a first one
        without half-close behind it in the same read."""
        if self.messages_sent > 1:
            return
        if self._counter is None:
            self._counter = grpc.MessageCounter()
        self.messages_sent = self._counter.feed(data)
        if self.messages_sent > 1:
            self.saw_stream()
        elif self.messages_sent == 1 and not end:
            self.runtime.turn.at_end(self)

    def on_turn_end(self) -> None:
        """The first message has come, its end has not."""
        if not self.request_ended and not self._done:
            self.saw_stream()

    def saw_answer_data(self, attempt: Attempt, data: bytes) -> None:
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

    def saw_stream(self) -> None:
        """This call streams: no default deadline, no time for a try's head, and the
        method is remembered."""
        if self.streaming or self.cluster is None:
            return
        self.streaming = True
        self.cluster.learn_stream(self.head.path)
        if self.attempt is not None and self.attempt.sent:
            self._disarm()
        self._bound_by_idle(self.runtime.turn.now)


def _is_one_message(data: bytes) -> bool:
    """Whether a whole gRPC request is one message at most: prefix and length."""
    return len(data) <= 5 + int.from_bytes(data[1:5], "big")


Begin = Callable[[Any, RequestHead, bool], None]


def beginner(runtime: Runtime, listener: str) -> Begin:
    """What a listener's connections call for each request."""

    def begin(stream: Any, head: RequestHead, end: bool) -> None:
        exchange = Exchange(runtime, listener, stream, head, end)
        stream.receiver = exchange
        runtime.in_flight += 1
        exchange.wake(None, START)

    return begin
