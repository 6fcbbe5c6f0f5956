"""What the process measures of itself. Imports nothing of ours."""

from typing import Final

RESOURCES: Final = ("lag", "memory", "files")


class Readings:
    """The latest. Seconds and bytes; a limit of 0 is none, or one that nobody knows.

    `pressure` is each resource as a share of what there may be at most: from 1.0 on
    connections are refused.
    """

    __slots__ = ("files", "files_limit", "idle_closed", "lag", "memory", "memory_limit", "pressure")

    def __init__(self) -> None:
        self.lag = 0.0
        self.memory = 0
        self.memory_limit = 0
        self.files = 0
        self.files_limit = 0
        self.pressure = dict.fromkeys(RESOURCES, 0.0)
        self.idle_closed = 0  # connections that were closed to make room, ever
