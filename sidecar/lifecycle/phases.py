"""How the one knob `shutdown` is divided. Imports nothing of ours."""

from dataclasses import dataclass
from typing import Final

# Load balancers look every few seconds; waiting longer for them helps nobody.
_LONGEST_PAUSE: Final = 5.0
# The last words: a status for each stream, a close frame for each WebSocket and its answer.
_LONGEST_FAREWELL: Final = 1.0

SERVING: Final = "serving"
PAUSE: Final = "pause"
FINISH: Final = "finish"
FAREWELL: Final = "farewell"
STOPPED: Final = "stopped"


@dataclass(frozen=True, slots=True)
class Phases:
    """Seconds. In the pause everything is served as before; then what is under way
    finishes, and nothing new begins; in the farewell what is left is told that it ends."""

    pause: float
    finish: float
    farewell: float

    @classmethod
    def of(cls, shutdown: float, pause: bool = True) -> "Phases":
        """What `shutdown` seconds come to; `pause` is False where no load balancer needs one."""
        farewell = min(_LONGEST_FAREWELL, shutdown / 10)
        waits = min(_LONGEST_PAUSE, shutdown / 5) if pause else 0.0
        return cls(waits, shutdown - waits - farewell, farewell)

    def __str__(self) -> str:
        return f"pause {self.pause:g}s, finish {self.finish:g}s, farewell {self.farewell:g}s"
