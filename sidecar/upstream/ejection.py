"""Takes out of a cluster who fails more than its other endpoints do, for a while."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from sidecar.model.outcome import Verdict
from sidecar.policy.outlier import Outlier, OutlierPolicy, Outliers
from sidecar.upstream.endpoint import Endpoint

if TYPE_CHECKING:
    from sidecar.upstream.cluster import Cluster


class Ejection:
    """Looks at intervals at what the attempts said of each endpoint (`Endpoint.verdicts`): the
    path counts nothing for it. `after(seconds, call)` is the cluster's timer.
    """

    __slots__ = ("_after", "_cluster", "_outliers", "_stopped")

    def __init__(self, cluster: "Cluster", policy: OutlierPolicy, after: Callable[[float, Callable[[], None]], None]):
        """Looks for the first time after one interval."""
        self._cluster = cluster
        self._outliers: Outliers[Endpoint] = Outliers(policy)
        self._after = after
        self._stopped = False
        self._count(frozenset())
        after(policy.interval, self._look)

    @property
    def policy(self) -> OutlierPolicy:
        """What it goes by."""
        return self._outliers.policy

    def configure(self, policy: OutlierPolicy) -> None:
        """Change the policy in place: who is out stays out for as long as was said, and the
        interval that runs is not changed."""
        self._outliers.policy = policy

    def stop(self) -> None:
        """Look no more; who is out comes back."""
        self._stopped = True
        for endpoint in self._cluster.endpoints:
            if endpoint.ejected:
                self._cluster.set_ejected(endpoint, False)

    def _look(self) -> None:
        if self._stopped:
            return
        self._after(self.policy.interval, self._look)
        out = frozenset(endpoint for endpoint in self._cluster.endpoints if endpoint.ejected)
        for outlier in self._count(out):
            if self._cluster.can_spare(outlier.key):
                self._eject(outlier)

    def _count(self, out: frozenset[Endpoint]) -> list[Outlier[Endpoint]]:
        counts = {}
        for endpoint in self._cluster.endpoints:
            verdicts = endpoint.verdicts
            failures = verdicts[Verdict.FAILURE] + verdicts[Verdict.SOFT_FAILURE]
            counts[endpoint] = (verdicts[Verdict.SUCCESS], failures)
        return self._outliers.look(counts, out)

    def _eject(self, outlier: Outlier[Endpoint]) -> None:
        endpoint = outlier.key
        seconds = self._outliers.eject(endpoint)
        endpoint.ejections += 1
        self._cluster.set_ejected(
            endpoint,
            True,
            success_rate=round(outlier.rate, 4),
            threshold=round(outlier.threshold, 4),
            seconds=seconds,
        )
        self._after(seconds, lambda: self._bring_back(endpoint))

    def _bring_back(self, endpoint: Endpoint) -> None:
        if not self._stopped and endpoint in self._cluster.endpoints:
            self._cluster.set_ejected(endpoint, False)
