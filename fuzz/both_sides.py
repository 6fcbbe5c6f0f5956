"""Any bytes from a client and from its endpoints, in turn, of either version on either side:
no exception gets out, everything is given back.

The first byte chooses the versions; a MARK ends what one side says.
"""

from random import Random
from typing import Final

from fuzz import h1_requests, h1_responses, h2_client, h2_server
from fuzz.mutate import mutated
from fuzz.stage import MARK, play

_ASKED: Final = h1_requests.SEEDS
_CALLED: Final = tuple(h2_server.PREFACE + seed for seed in h2_server.SEEDS)
_ANSWERS: Final = (h1_responses.SEEDS, h2_client.SEEDS)
SEEDS: Final = tuple(
    bytes([number]) + asked + MARK + answer + MARK + asked + MARK
    for number, answers in enumerate(_ANSWERS)
    for asked, answer in zip(_ASKED[:6] + _CALLED, (answers * 3)[: 6 + len(_CALLED)], strict=True)
)
WORDS: Final = (*h1_requests.WORDS, *h1_responses.WORDS, *h2_client.WORDS, h2_server.PREFACE, MARK + b"\r\n" + MARK)


def draw(rng: Random) -> bytes:
    """What somebody could say who knows the protocols, changed."""
    kind = rng.randrange(2)
    acts: list[bytes] = []
    for _ in range(1 + rng.randrange(3)):
        client = rng.random()
        asked = rng.choice(_ASKED) if client < 0.5 else h2_server.PREFACE * (not acts) + h2_server.draw(rng)
        acts.append(mutated(rng, [asked], h1_requests.WORDS) if client < 0.25 else asked)
        answers = _ANSWERS[kind]
        acts.append(mutated(rng, answers, h1_responses.WORDS) if kind == 0 else h2_client.draw(rng))
    return bytes([kind | rng.randrange(2) << 1]) + MARK.join(acts)


def check(data: bytes) -> None:
    """One play."""
    chosen = data[0] if data else 0
    play(data[1:], protocol="http2" if chosen & 1 else "http1", mode="forward" if chosen & 2 else "http")
