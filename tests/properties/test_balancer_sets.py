"""Any set, weights, tried ones and times: a pick is a usable one that was not tried."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.upstream.balance.make import POLICIES, make_balancer
from tests.upstream.balance.endpoints import make_endpoints

changes = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 19), st.integers(1, 300)), max_size=20, unique_by=lambda member: member[0]),
        st.lists(
            st.tuples(
                st.sets(st.integers(0, 19), max_size=20),
                st.integers(0, 2**64 - 1),
                st.sampled_from([0.0, 0.1, 5.0, 200.0]),
                st.integers(0, 9),
            ),
            max_size=8,
        ),
    ),
    max_size=4,
)


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(changes=changes, seed=st.integers(0, 1000), slow_start=st.sampled_from([0.0, 10.0]))
def test_a_pick_is_a_member_that_was_not_tried(
    policy: str,
    changes: list[tuple[list[tuple[int, int]], list[tuple[set[int], int, float, int]]]],
    seed: int,
    slow_start: float,
) -> None:
    balancer = make_balancer(policy, rng=Random(seed), slow_start=slow_start)
    now = 1000.0
    endpoints = make_endpoints(20)
    for members, picks in changes:
        for index, weight in members:
            endpoints[index].weight = weight
            endpoints[index].ready_since = now if weight % 3 == 0 else 0.0
        chosen = [endpoints[index] for index, _ in members]
        balancer.update(chosen)
        for tried_indexes, key, wait, in_flight in picks:
            now += wait
            tried = [endpoints[index] for index in tried_indexes]
            left = set(chosen) - set(tried)
            endpoint = balancer.pick(tried, key, now)
            if endpoint is None:
                assert not left
            else:
                assert endpoint in left
                endpoint.in_flight = in_flight
                balancer.observe(endpoint, in_flight / 100, now)
