"""Who is let in under load: priorities, pressure, the adaptive limit and admission control."""

import json
from random import Random

import pytest

from sidecar.model.headers import Headers
from sidecar.model.outcome import Failure
from sidecar.policy.adaptive import AdaptiveLimit, AdaptivePolicy
from sidecar.policy.admission import Admission, AdmissionPolicy
from sidecar.policy.priority import CRITICAL, DEFAULT, SHEDDABLE
from tests.proxy.fakes import Client
from tests.proxy.world import World, message, policy


def asks(world: World, priority: str = "", **request: object) -> Client:
    """A request that says how important it is."""
    headers: Headers = [(b"x-sidecar-priority", priority.encode())] if priority else []
    return world.request(headers=headers, **request)  # type: ignore[arg-type]


def refusal(client: Client) -> str | None:
    """What the client was told instead of an answer."""
    if client.status != 503:
        return None
    assert client.got(b"x-sidecar-error") == b"overloaded"
    told: str = json.loads(client.body)["message"]
    return told


def let_all_end(world: World) -> None:
    """Every endpoint answers."""
    for stream in world.streams:
        if not stream.over:
            stream.answer()


def adaptive(world: World, **knobs: object) -> AdaptiveLimit:
    """The world's cluster gets an adaptive limit."""
    limit = AdaptiveLimit(AdaptivePolicy(**knobs), Random(1), world.clock.now)  # type: ignore[arg-type]
    world.cluster.regulate(limit, None, 1024)
    return limit


def admission(world: World, **knobs: object) -> Admission:
    """The world's cluster gets admission control."""
    found = Admission(AdmissionPolicy(**knobs), Random(1))  # type: ignore[arg-type]
    world.cluster.regulate(None, found, 1024)
    return found


def test_the_last_places_are_for_what_matters_more() -> None:
    # Given a limit of 10 of which 8 places are taken
    world = World(limits={"requests": 10})
    for _ in range(8):
        asks(world)

    # Then sheddable requests stay out, the next two places are for others, one more for critical ones
    told = [refusal(asks(world, name)) for name in ("sheddable", "default", "", "default", "critical", "critical")]

    full = "too many requests under way: limits.requests"
    assert told == [full, None, None, full, None, full]
    shed = {key: number for key, number in world.cluster.shed.items() if number}
    assert shed == {("requests", "sheddable"): 1, ("requests", "default"): 1, ("requests", "critical"): 1}
    let_all_end(world)
    world.at_rest()


def test_a_route_says_it_for_those_who_do_not() -> None:
    world = World(limits={"requests": 5}, priority=SHEDDABLE)
    for _ in range(4):
        asks(world)

    assert refusal(asks(world)) is not None
    assert refusal(asks(world, "nonsense")) is not None
    assert refusal(asks(world, "critical")) is None
    let_all_end(world)
    world.at_rest()


def test_a_field_of_another_name_and_no_field_at_all() -> None:
    world = World(limits={"requests": 5}, priority_header=b"x-criticality")
    for _ in range(5):
        asks(world)
    assert refusal(asks(world, "critical")) is not None, "this listener asks for another field"
    assert refusal(world.request(headers=[(b"x-criticality", b"critical")])) is None
    let_all_end(world)
    world.at_rest()

    world = World(limits={"requests": 5}, priority_header=b"")
    for _ in range(5):
        asks(world)
    assert refusal(asks(world, "critical")) is not None, "this listener believes nobody"
    let_all_end(world)
    world.at_rest()


def test_the_field_goes_on_as_it_came() -> None:
    world = World()
    client = asks(world, "Sheddable")
    assert world.last.sent(b"x-sidecar-priority") == b"Sheddable"
    world.last.answer()
    assert client.status == 200
    world.at_rest()


@pytest.mark.parametrize(("pressure", "out"), [(0, ""), (1, ""), (2, "sheddable"), (3, "default sheddable")])
def test_a_process_under_pressure_sheds(pressure: int, out: str) -> None:
    world = World()
    world.runtime.pressure = pressure

    told = {name: refusal(asks(world, name)) for name in ("critical", "default", "sheddable")}

    assert {name for name, said in told.items() if said} == set(out.split())
    assert set(told.values()) <= {None, "the sidecar is short of resources"}
    let_all_end(world)
    world.at_rest()


def test_a_grpc_call_is_told_which_limit_too() -> None:
    world = World(limits={"requests": 1})
    adaptive(world, minimum=1, initial=1)
    first = world.call("/pkg.S/Get", message(b"q"))

    call = world.call("/pkg.S/Get", message(b"q"))

    assert call.grpc_status == b"14"
    assert b"limits.adaptive" in call.got(b"grpc-message")  # type: ignore[operator]
    assert world.ended["failure"] is Failure.ADAPTIVE
    world.last.answer_grpc(b"a")
    assert first.ended
    world.at_rest()


def test_slow_answers_lower_the_limit_and_quick_ones_raise_it() -> None:
    # Given a cluster whose first answers take 10 ms
    world = World(1)
    limit = adaptive(world, initial=20, window=0.05)

    def rounds(count: int, seconds: float, at_once: int) -> None:
        for _ in range(count):
            for _ in range(at_once):
                asks(world)
            world.after(seconds)
            let_all_end(world)

    rounds(10, 0.01, 8)
    assert limit.baseline == pytest.approx(0.01)

    # When they take ten times as long, and all places are wanted
    rounds(8, 0.1, 40)

    # Then there are fewer places
    assert limit.limit < 12
    assert world.cluster.requests.maximum == limit.limit
    assert world.cluster.shed["adaptive", "default"] > 100

    # And when they are quick again there are more
    lowest = limit.limit
    rounds(100, 0.01, 40)
    assert limit.limit > 2 * lowest
    world.at_rest()


def test_failures_do_not_look_like_quick_answers() -> None:
    world = World(1, retry=policy(attempts=1), breaker={"consecutive": 0, "min_requests": 1000})
    limit = adaptive(world, initial=20, window=0.05)
    for _ in range(100):
        asks(world)
        world.after(0.01)
        let_all_end(world)
    before = limit.baseline

    for _ in range(300):
        client = asks(world)
        world.after(0.001)
        world.last.answer(503)
        assert client.status == 503

    assert limit.baseline == before
    world.at_rest()


def test_requests_that_time_out_lower_the_limit() -> None:
    world = World(1, retry=policy(attempts=1), request_timeout=0.5, breaker={"consecutive": 0, "min_requests": 100_000})
    limit = adaptive(world, initial=20, window=0.05)
    for _ in range(100):
        asks(world)
        world.after(0.01)
        let_all_end(world)
    assert limit.limit == 20

    for _ in range(60):
        for _ in range(10):
            asks(world)
        world.after(0.6)

    assert limit.limit == AdaptivePolicy().minimum
    world.at_rest()


def test_a_stream_does_not_take_an_adaptive_place() -> None:
    # Given four places, and ten calls that turn out to be streams
    world = World()
    adaptive(world, minimum=4, initial=4)
    streams = [world.call("/pkg.S/Watch", message(b"a"), end=False) for _ in range(10)]
    assert world.cluster.apart == 10

    # Then there are four places still
    clients = [asks(world) for _ in range(5)]
    assert [refusal(client) is None for client in clients] == [True] * 4 + [False]

    # And when all of it is over nothing is left
    let_all_end(world)
    for stream in streams:
        if not stream.ended:
            stream.leaves()
    assert world.cluster.apart == 0
    assert world.cluster.requests.maximum == 4
    world.at_rest()


def test_a_websocket_does_not_take_an_adaptive_place() -> None:
    world = World(1)
    adaptive(world, minimum=1, initial=1)
    pipe = world.request(upgrade=b"websocket", end=False)
    world.last.head(101)

    client = asks(world)
    world.last.answer()

    assert client.status == 200
    world.streams[0].data(b"bye", end=True)
    pipe.sends(b"", end=True)
    assert world.cluster.apart == 0
    world.at_rest()


def test_a_failing_service_is_asked_less() -> None:
    # Given a service that fails everything, without breakers in the way
    world = World(1, retry=policy(attempts=1), breaker={"consecutive": 0, "min_requests": 100_000})
    control = admission(world)

    clients = []
    for _ in range(300):
        clients.append(asks(world))
        world.after(0.005)
        if not clients[-1].ended:
            world.last.answer(500)
    told = [client.got(b"x-sidecar-error") for client in clients]

    # Then it is asked a tenth of it
    assert told[:10] == [None] * 10
    assert 0.8 < told[100:].count(b"overloaded") / 200 < 0.98
    assert world.cluster.shed["admission", "default"] == told.count(b"overloaded") == control.rejected[DEFAULT]
    assert {refusal(client) for client in clients} == {None, "too many of the last requests failed: admission"}
    world.at_rest()


@pytest.mark.parametrize(
    ("answer", "served"),
    [(200, True), (404, True), (429, False), (500, False), (503, False)],
)
def test_what_counts_as_served(answer: int, served: bool) -> None:
    world = World(1, retry=policy(attempts=1), breaker={"consecutive": 0, "min_requests": 100_000})
    control = admission(world, min_requests=1)

    asks(world)
    world.last.answer(answer)

    assert (control.probability(DEFAULT, world.clock.now) == 0.0) is served
    world.at_rest()


def test_what_a_retry_rescued_was_served() -> None:
    world = World(2)
    control = admission(world, min_requests=1)

    client = asks(world)
    world.last.answer(503)
    world.after(0.3)
    world.last.answer()

    assert client.status == 200
    assert control.probability(SHEDDABLE, world.clock.now) == 0.0
    world.at_rest()


def test_what_no_endpoint_was_asked_for_is_not_counted() -> None:
    world = World(2)
    control = admission(world, min_requests=1)
    world.open_breaker(0)
    world.open_breaker(1)

    for _ in range(20):
        client = asks(world)
        assert client.got(b"x-sidecar-error") == b"breaker_open"
    gone = World(2)
    other = admission(gone, min_requests=1)
    asks(gone).leaves()

    assert control.probability(SHEDDABLE, world.clock.now) == 0.0
    assert other.probability(SHEDDABLE, gone.clock.now) == 0.0
    world.at_rest()
    gone.at_rest()


def test_while_breakers_keep_everybody_out_admission_keeps_still() -> None:
    """Else what it rejects in the meantime keeps callers away when the probes are over."""
    # Given a service of which admission thinks nothing
    world = World(1)
    control = admission(world)
    for _ in range(100):
        control.record(False, world.clock.now)
    assert control.probability(DEFAULT, world.clock.now) > 0.8

    # When its breaker is open
    world.open_breaker(0)
    told = {asks(world).got(b"x-sidecar-error") for _ in range(50)}

    # Then that alone is the reason, and nothing is counted
    assert told == {b"breaker_open"}
    assert control.rejected[DEFAULT] == 0
    world.at_rest()


@pytest.mark.parametrize(
    ("priority", "pressure", "tries"),
    [("", 0, 2), ("sheddable", 0, 2), ("sheddable", 1, 1), ("", 1, 2), ("", 3, 1), ("critical", 9, 2)],
)
def test_who_is_less_important_is_not_asked_twice_for(priority: str, pressure: int, tries: int) -> None:
    world = World(2)
    client = asks(world, priority)
    world.runtime.pressure = pressure

    world.last.answer(503)
    world.after(0.3)
    if tries == 2:
        world.last.answer()

    assert len(world.asked) == tries
    assert client.got(b"x-sidecar-retry-skipped") == (b"overloaded" if tries == 1 else None)
    world.at_rest()


def test_a_full_house_repeats_no_sheddable_request() -> None:
    world = World(2, limits={"requests": 5})
    client = asks(world, "sheddable")
    for _ in range(4):
        asks(world)

    world.streams[0].answer(503)

    assert client.got(b"x-sidecar-retry-skipped") == b"overloaded"
    assert world.cluster.retries_skipped == {"overloaded": 1}
    let_all_end(world)
    world.at_rest()


def test_critical_is_the_last_that_admission_rejects() -> None:
    world = World()
    control = admission(world)
    for number in range(100):
        control.record(number < 30, world.clock.now)

    told = {name: [refusal(asks(world, name)) for _ in range(50)] for name in ("critical", "sheddable")}

    assert told["critical"] == [None] * 50
    assert sum(said is not None for said in told["sheddable"]) > 15
    assert control.rejected[CRITICAL] == 0
    let_all_end(world)
    world.at_rest()


def test_a_policy_that_is_taken_away_leaves_nothing_behind() -> None:
    # Given requests under way through an adaptive limit with admission control
    world = World()
    world.cluster.regulate(
        AdaptiveLimit(AdaptivePolicy(minimum=2, initial=2), Random(1), 0.0), Admission(AdmissionPolicy(), Random(1)), 9
    )
    asks(world)
    asks(world)
    assert refusal(asks(world)) is not None

    # When a reload takes both away
    world.cluster.regulate(None, None, 9)

    assert world.cluster.requests.maximum == 9
    assert refusal(asks(world)) is None
    let_all_end(world)
    world.at_rest()


def test_a_limit_that_a_reload_brings_leaves_streams_apart_that_were_there() -> None:
    # Given ten calls that stream, under no adaptive limit
    world = World()
    streams = [world.call("/pkg.S/Watch", message(b"a"), end=False) for _ in range(10)]

    # When a reload brings one of four places
    adaptive(world, minimum=4, initial=4)

    # Then these are for others, and one that begins later is apart like those before
    clients = [asks(world) for _ in range(4)]
    streams.append(world.call("/pkg.S/Watch", message(b"a"), end=False))
    assert [refusal(client) for client in clients] == [None] * 4
    assert refusal(asks(world)) is not None
    let_all_end(world)
    for stream in streams:
        if not stream.ended:
            stream.leaves()
    assert world.cluster.requests.maximum == 4
    world.at_rest()


def test_streams_that_end_while_no_limit_is_adaptive_are_forgotten() -> None:
    # Given streams and a tunnel under an adaptive limit that a reload takes away
    world = World(1)
    adaptive(world, minimum=4, initial=4)
    stream = world.call("/pkg.S/Watch", message(b"a"), end=False)
    pipe = world.request(upgrade=b"websocket", end=False)
    world.last.head(101)
    world.cluster.regulate(None, None, 1024)

    # When they end
    stream.leaves()
    pipe.leaves()

    # Then a limit that comes later owes them nothing
    assert world.cluster.apart == 0
    adaptive(world, minimum=4, initial=4)
    assert world.cluster.requests.maximum == 4
    world.at_rest()
