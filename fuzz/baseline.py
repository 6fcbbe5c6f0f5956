"""What a connection that is gone must have given back: requests, tries, places, connections,
permits and timers. What the targets of whole connections share."""

from typing import Any

from benchmarks.world import World
from sidecar.policy.breaker import HALF_OPEN
from sidecar.upstream.cluster import Cluster


def check_baseline(world: World, listener: Any) -> None:
    """AssertionError names what is still held when nobody is connected any more."""
    runtime = world.runtime
    assert not listener.connections, "whoever took the connection over did not tell its end"
    assert runtime.in_flight == 0, f"{runtime.in_flight} requests are still under way"
    assert not any(runtime.connections.values()), f"connections are still counted: {runtime.connections}"
    for cluster in runtime.snapshot.clusters.values():
        _check_cluster(cluster)
    waiting = [
        timed
        for tick in world.timers._ticks.values()
        for timed in tick.values()
        if not isinstance(timed, Cluster)  # its sweep, and when a breaker is to be probed
    ]
    assert not waiting, f"timers still wait: {waiting}"


def _check_cluster(cluster: Cluster) -> None:
    assert cluster.requests.in_use == 0, "a request's place was not given back"
    assert cluster.pending.in_use == 0, "a place in a queue was not given back"
    assert cluster.connections.in_use == 0, f"{cluster.connections.in_use} connections were not given back"
    assert not cluster.starving, "somebody still wants a connection"
    assert cluster.apart == 0, "a stream is still set apart"
    for endpoint in cluster.endpoints:
        assert endpoint.in_flight == 0, "a try was not settled"
        breaker = endpoint.breaker
        if breaker.state == HALF_OPEN:
            assert breaker._free + breaker._successes == breaker._probes, "a probe's permit was not given back"
        for pool in endpoint.pools.values():
            held: Any = pool
            assert not held.waiters, "somebody still waits for a stream"
            assert not held.dialling, "a dial was not answered"
            assert not held.connections, "a pool keeps a connection that is gone"
            assert not getattr(held, "idle", None), "a pool keeps an idle connection that is gone"
