"""What every balancer promises, whatever its algorithm."""

from collections.abc import Callable
from random import Random

import pytest

from sidecar.upstream.balance.base import Balancer
from sidecar.upstream.balance.make import POLICIES, make_balancer
from sidecar.upstream.endpoint import Endpoint
from tests.upstream.balance.endpoints import make_endpoints, spread_keys, tally

NOW = 1000.0
HASHING = ("ring_hash", "maglev")

Make = Callable[..., Balancer]


@pytest.fixture(params=POLICIES)
def policy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[0.0, 30.0], ids=["steady", "slow_start"])
def make(request: pytest.FixtureRequest, policy: str) -> Make:
    """A balancer over the given endpoints; with slow start, one of them just came back."""

    def build(endpoints: list[Endpoint], seed: int = 1) -> Balancer:
        if endpoints and request.param:
            endpoints[-1].ready_since = NOW - 1.0
        balancer = make_balancer(policy, rng=Random(seed), slow_start=request.param)
        balancer.update(endpoints)
        return balancer

    return build


def test_without_endpoints_there_is_none(make: Make) -> None:
    balancer = make([])

    assert balancer.pick((), 1, NOW) is None
    assert balancer.pick(make_endpoints(1), 1, NOW) is None


def test_before_the_first_update_there_is_none(policy: str) -> None:
    assert make_balancer(policy, rng=Random(1), slow_start=0.0).pick((), 1, NOW) is None


def test_the_only_endpoint_is_picked_until_it_was_tried(make: Make) -> None:
    endpoints = make_endpoints(1)
    balancer = make(endpoints)

    assert [balancer.pick((), key, NOW) for key in (0, 1, 2**64 - 1)] == endpoints * 3
    assert balancer.pick(endpoints, 1, NOW) is None


@pytest.mark.parametrize("count", [2, 3, 16, 17, 40])
def test_only_members_are_picked_and_each_of_them(make: Make, count: int) -> None:
    endpoints = make_endpoints(count)

    picked = tally(make(endpoints), spread_keys(count * 200), NOW)

    assert set(picked) == set(endpoints)


@pytest.mark.parametrize("count", [2, 5, 20])
def test_tried_ones_are_never_picked_again(make: Make, count: int) -> None:
    endpoints = make_endpoints(count, [1 + index % 3 for index in range(count)])
    balancer = make(endpoints)

    for key in spread_keys(30):
        tried: list[Endpoint] = []
        while (endpoint := balancer.pick(tried, key, NOW)) is not None:
            assert endpoint not in tried
            tried.append(endpoint)
        assert set(tried) == set(endpoints), "None only when none is left"


def test_a_set_of_tried_ones_will_do(make: Make) -> None:
    endpoints = make_endpoints(3)

    assert make(endpoints).pick({endpoints[0], endpoints[2]}, 5, NOW) is endpoints[1]


def test_an_update_replaces_the_whole_set(make: Make) -> None:
    old, new = make_endpoints(4)[:2], make_endpoints(4)[2:]
    balancer = make(old)
    tally(balancer, spread_keys(50), NOW)

    balancer.update(new)
    assert set(tally(balancer, spread_keys(200), NOW)) == set(new)
    balancer.update([])
    assert balancer.pick((), 1, NOW) is None


def test_the_given_list_is_not_kept(make: Make) -> None:
    endpoints = make_endpoints(3)
    balancer = make(endpoints)
    members = set(endpoints)

    endpoints.clear()

    assert set(tally(balancer, spread_keys(200), NOW)) == members


def test_observing_anything_is_allowed(make: Make) -> None:
    endpoints = make_endpoints(2)
    balancer = make(endpoints)
    stranger = make_endpoints(3)[2]

    for endpoint in (*endpoints, stranger):
        balancer.observe(endpoint, 0.0, NOW)
        balancer.observe(endpoint, 60.0, NOW + 1)
        balancer.observe(endpoint, 0.001, NOW)

    assert balancer.pick((), 1, NOW + 2) in endpoints


@pytest.mark.parametrize("weights", [[1, 1, 1, 1], [4, 2, 1, 1], [100, 100, 50, 50]])
def test_shares_follow_the_weights(policy: str, weights: list[int]) -> None:
    """With load held in flight, as two choices compare load, not picks."""
    endpoints = make_endpoints(4, weights)
    balancer = make_balancer(policy, rng=Random(3), slow_start=0.0)
    balancer.update(endpoints)
    for endpoint in endpoints:
        balancer.observe(endpoint, 0.010, NOW)
    picks = 16000
    counted = dict.fromkeys(endpoints, 0)
    working: list[Endpoint] = []

    for key in spread_keys(picks):
        picked = balancer.pick((), key, NOW)
        assert picked is not None
        counted[picked] += 1
        picked.in_flight += 1
        working.append(picked)
        if len(working) > 200:
            working.pop(0).in_flight -= 1

    for endpoint in endpoints:
        share = endpoint.weight / sum(weights)
        assert counted[endpoint] / picks == pytest.approx(share, rel=0.15)


def test_a_weight_that_changed_in_place_is_seen_at_the_next_update(policy: str) -> None:
    """A reload carries endpoints over and changes their weights."""
    endpoints = make_endpoints(2)
    balancer = make_balancer(policy, rng=Random(3), slow_start=0.0)
    balancer.update(endpoints)
    tally(balancer, spread_keys(10), NOW)

    endpoints[0].weight = 9
    balancer.update(endpoints)

    assert tally(balancer, spread_keys(4000), NOW)[endpoints[0]] / 4000 == pytest.approx(0.9, rel=0.1)


@pytest.mark.parametrize("policy", HASHING)
class TestHashing:
    def test_a_key_keeps_its_endpoint(self, policy: str) -> None:
        endpoints = make_endpoints(10)
        here = make_balancer(policy, rng=Random(1), slow_start=0.0)
        there = make_balancer(policy, rng=Random(2), slow_start=0.0)
        here.update(endpoints)
        there.update(endpoints[::-1])

        for key in spread_keys(500):
            owner = here.pick((), key, NOW)
            assert owner is here.pick((), key, NOW + 1)
            assert owner is there.pick((), key, NOW), "another sidecar, another order: the same place"

    @pytest.mark.parametrize("weights", [[1] * 10, [3, 1, 2, 1, 1, 3, 2, 1, 1, 1], [100] * 10])
    def test_few_keys_move_when_one_goes(self, policy: str, weights: list[int]) -> None:
        endpoints = make_endpoints(10, weights)
        balancer = make_balancer(policy, rng=Random(1), slow_start=0.0)
        keys = spread_keys(5000)
        balancer.update(endpoints)
        before = {key: balancer.pick((), key, NOW) for key in keys}

        balancer.update(endpoints[1:])

        moved = sum(before[key] is not balancer.pick((), key, NOW) for key in keys)
        must = sum(owner is endpoints[0] for owner in before.values())
        assert must <= moved <= 2 * must

    def test_a_retry_goes_where_the_key_would_go_without_the_tried_one(self, policy: str) -> None:
        """So that a retry warms the same second cache each time."""
        endpoints = make_endpoints(5)
        balancer = make_balancer(policy, rng=Random(1), slow_start=0.0)
        balancer.update(endpoints)

        for key in spread_keys(200):
            first = balancer.pick((), key, NOW)
            assert first is not None
            second = balancer.pick([first], key, NOW)
            assert second is balancer.pick([first], key, NOW + 9)


def test_an_unknown_policy_is_named() -> None:
    with pytest.raises(ValueError, match="'p2c' is no balancing policy: peak_ewma"):
        make_balancer("p2c", rng=Random(1), slow_start=0.0)
