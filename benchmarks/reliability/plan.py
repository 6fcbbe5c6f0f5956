"""What a proxy is asked to do, the same for each of them."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """One listener in front of some HTTP/1.1 endpoints: retries of GETs alone and breakers or their like,
    everything else as the proxy has it.

    `limited`: with what the proxy has against a service that is slower than it is asked.
    `budget`: retries are bounded by a share of the requests, where that is a choice.
    `files`: how many it may have open, if not 0; what does not see to that by itself is told.
    `patience`: seconds that a slow client gets, 0 for the proxy's own. `version` makes one
    configuration differ from the last.
    """

    port: int
    endpoints: Sequence[str]
    limited: bool = False
    budget: bool = False
    files: int = 0
    patience: int = 0
    version: int = 0
