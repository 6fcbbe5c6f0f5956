"""Whether a request is worth sending, by how many of the last ones a cluster served.

After the adaptive throttling of Google's SRE book ("Handling Overload", equation 1): a
client that sees its requests fail rejects some itself, so that a service in trouble is
not kept there by the work of refusing. Imports policies and the model only.
"""

from dataclasses import dataclass
from random import Random

from sidecar.policy.priority import CRITICAL, DEFAULT, PRIORITIES, SHEDDABLE
from sidecar.policy.window import Window


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """`k` requests are let out for each one that was served over the last `window`
    seconds. However bad it is, a part of 1 - `max_rejection` goes out, to find out when
    it ends. Fewer than `min_requests` in the window say nothing.
    """

    window: float = 2.0
    k: float = 2.0
    max_rejection: float = 0.9
    min_requests: int = 10


class Admission:
    """Rejects at random, as often as it must; one for each cluster.

    A critical request counts half as much and a sheddable one up to twice: theirs are
    `2 k` and `(1 + k) / 2` in place of k. What was rejected counts against its own priority and
    those below: else the many sheddable ones that are kept out would keep critical ones out too.
    """

    __slots__ = ("_kept_out", "_ks", "_let_out", "_policy", "_rng", "rejected")

    def __init__(self, policy: AdmissionPolicy, rng: Random) -> None:
        """Nothing was asked for, so nothing is rejected."""
        self._rng = rng
        self._let_out = Window(policy.window)  # requests that were sent; of them, those that were served
        self._kept_out = [Window(policy.window) for _ in PRIORITIES]  # those that were rejected
        self.rejected = [0] * len(PRIORITIES)
        self.configure(policy)

    def configure(self, policy: AdmissionPolicy) -> None:
        """Change the policy in place: what was counted stays."""
        self._policy = policy
        for window in (self._let_out, *self._kept_out):
            window.resize(policy.window)
        self._ks = [0.0] * len(PRIORITIES)
        self._ks[CRITICAL] = 2 * policy.k
        self._ks[DEFAULT] = policy.k
        self._ks[SHEDDABLE] = (1 + policy.k) / 2

    def rejects(self, priority: int, now: float) -> bool:
        """Decide about one request. A rejected one counts as asked for and not served:
        while callers go on asking, nobody believes that the trouble is over."""
        probability = self.probability(priority, now)
        if probability <= 0.0 or self._rng.random() >= probability:
            return False
        self._kept_out[priority].total += 1
        self.rejected[priority] += 1
        return True

    def record(self, served: bool, now: float) -> None:
        """What came of a request that was let out."""
        window = self._let_out
        if now >= window.ends:
            window.rotate(now)
        window.total += 1
        window.hits += served

    def probability(self, priority: int, now: float) -> float:
        """How likely a request of this priority is to be rejected at `now`."""
        requests, served = self._let_out.counts(now)
        for window in self._kept_out[: priority + 1]:
            requests += window.counts(now)[0]
        if requests < self._policy.min_requests:
            return 0.0
        wanted = (requests - self._ks[priority] * served) / (requests + 1)
        return min(max(wanted, 0.0), self._policy.max_rejection)
