"""What a parser made of a stream of bytes, and when two of them contradict each other."""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class Request(NamedTuple):
    """What smuggling is about: whose bytes are whose."""

    method: bytes
    target: bytes
    body: bytes


class End(Enum):
    """How the reading of a stream ended."""

    CLEAN = "clean"  # at the end of a message
    CLOSED = "closed"  # the parser refused what came, or read no further
    PARTIAL = "partial"  # it waits for the rest of a message


@dataclass(frozen=True)
class Reading:
    """The requests that were read to their ends, and what came of the rest."""

    requests: tuple[Request, ...]
    end: End


def contradict(one: Reading, other: Reading) -> bool:
    """Whether two servers behind the same proxy would act on different requests.

    A server that refuses what another one takes is only stricter: what it did accept
    has to be what the other one began with. One that waits for more where the other
    sees a next request has taken that request for a body, or a head, of another.
    """
    shorter, longer = sorted((one, other), key=lambda reading: len(reading.requests))
    if longer.requests[: len(shorter.requests)] != shorter.requests:
        return True
    return len(shorter.requests) < len(longer.requests) and shorter.end is not End.CLOSED
