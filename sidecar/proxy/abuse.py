"""Connections that were ended because their peer asked too much of us, counted and told."""

from collections.abc import Callable
from typing import Any

from sidecar.model.seldom import Seldom
from sidecar.policy.calm import REASONS

SIDES = ("downstream", "upstream")


class Abuse:
    """One process's. `counts` is by (side, reason): a side of SIDES, a reason of
    sidecar.policy.calm.REASONS. `on_warning(fields)` hears of at most one connection in ten
    seconds for each of them, with how many were like it since."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.counts = {(side, reason): 0 for side in SIDES for reason in REASONS}
        self.on_warning: Callable[[dict[str, Any]], None] = lambda fields: None
        self._seldom = Seldom(clock)

    def ended(self, side: str, peer: str, reason: str) -> None:
        """A connection was ended. `peer` is who was at its other end."""
        self.counts[side, reason] += 1
        like_it = self._seldom.due((side, reason))
        if like_it is not None:
            self.on_warning({"side": side, "peer": peer, "reason": reason, "more_like_it": like_it})
