"""Streams of a connection that is gone, whose requests are ended one by one."""

from collections.abc import Callable
from typing import Any

from sidecar.model.outcome import Failure


class Gone:
    """To end a thousand requests takes as long as to begin them: they are Unfinished.

    `receivers` are told `failure`; `on_crash` hears of what one of them raises.
    """

    __slots__ = ("_failure", "_on_crash", "_receivers")

    # Each may end a connection upstream, which is done, and paid for, after the turn.
    steps = 4

    def __init__(self, receivers: list[Any], failure: Failure, on_crash: Callable[[BaseException], None]) -> None:
        self._receivers = receivers[::-1]
        self._failure = failure
        self._on_crash = on_crash

    def step(self) -> bool:
        """Tell the next one; whether there are more."""
        if self._receivers:
            try:
                self._receivers.pop().on_reset(self._failure)
            except Exception as error:
                self._on_crash(error)
        return bool(self._receivers)
