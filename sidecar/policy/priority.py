"""How important a request is, and a limit that keeps room for what matters more.

Under load the less important goes first: `sheddable` before `default`, and `critical`
last (the criticality of Google's SRE book, "Handling Overload"). Imports the model only.
"""

from math import ceil
from sys import maxsize
from typing import Final

from sidecar.model.headers import Headers, get
from sidecar.policy.limit import Limit

CRITICAL: Final = 0
DEFAULT: Final = 1
SHEDDABLE: Final = 2

# By number, as in the configuration, in headers and in metrics.
PRIORITIES: Final = ("critical", "default", "sheddable")

# The field in which a request says it, unless a listener names another.
HEADER: Final = "x-sidecar-priority"

# The steps of the process's own pressure, by priority (0 is no pressure).
_REFUSED_FROM: Final = (maxsize, 3, 2)

_NUMBERS: Final = {name.encode(): number for number, name in enumerate(PRIORITIES)}


def priority_of(headers: Headers, name: bytes, otherwise: int) -> int:
    """The priority that the first field `name` (lower case) gives; `otherwise` where
    there is none, or one that nobody knows. An empty name asks nobody."""
    value = get(headers, name) if name else None
    return otherwise if value is None else _NUMBERS.get(value.strip().lower(), otherwise)


def refuses(pressure: int, priority: int) -> bool:
    """Whether a process under this pressure turns this priority away: `sheddable` from
    the second step on, `default` from the third, `critical` never."""
    return pressure >= _REFUSED_FROM[priority]


class PriorityLimit(Limit):
    """A limit whose last places are for the more important.

    `sheddable` requests get in up to a share of the maximum below 1, `default` ones up to
    the maximum, `critical` ones up to a share of 1 and more. So who never names a
    priority never meets a share, and nobody has to be asked while there is room for
    the least: `try_acquire` answers for all, and where it says no, `has_room` answers
    for one priority.
    """

    __slots__ = ("_asks", "_ceilings", "_maximum", "_shares")

    def __init__(self, maximum: int | None, *, sheddable: float = 0.8, critical: float = 1.1) -> None:
        """Nothing is in use yet."""
        self._asks = False
        self._shares = (critical, 1.0, sheddable)
        super().__init__(maximum)

    def configure(self, maximum: int | None) -> None:
        """Change the maximum in place; takes nothing back."""
        self._maximum = maximum or maxsize
        if maximum:
            critical, _, sheddable = self._shares
            # One is always let in: else a limit of 1 would shut a priority out for good.
            self._ceilings = (ceil(maximum * critical), maximum, max(1, int(maximum * sheddable)))
        else:
            self._ceilings = (maxsize, maxsize, maxsize)
        self._ceiling = 0 if self._asks else self._ceilings[SHEDDABLE]

    def share(self, sheddable: float, critical: float) -> None:
        """Change the shares in place."""
        self._shares = (critical, 1.0, sheddable)
        self.configure(self.maximum)

    def ask_always(self, asks: bool) -> None:
        """Whether `try_acquire` is to let nobody in, because there is more to decide than
        the number of requests."""
        self._asks = asks
        self.configure(self.maximum)

    @property
    def maximum(self) -> int | None:
        """What `default` requests may use, None for no limit."""
        return None if self._maximum == maxsize else self._maximum

    def has_room(self, priority: int) -> bool:
        """Whether one more of this priority would get in. Takes nothing."""
        return self.in_use < self._ceilings[priority]

    def acquire(self) -> None:
        """Take one, having asked `has_room`. Needs one `release`."""
        self.in_use += 1
