"""How long to wait before a retry."""

from random import Random

# Doublings beyond which any sensible maximum has been reached.
_MOST = 62


def backoff(attempt: int, base: float, maximum: float, rng: Random) -> float:
    """Seconds to wait before the next try, when `attempt` tries were made (1 or more).

    Exponential with full jitter: uniform between 0 and `base` before the first
    retry, the upper end doubling each time up to `maximum`. Full jitter spreads
    clients that failed together best for the least work (M. Brooker, "Exponential
    Backoff And Jitter", AWS Architecture Blog, 2015).
    """
    doublings = min(max(attempt, 1) - 1, _MOST)
    return rng.random() * min(maximum, base * (1 << doublings))
