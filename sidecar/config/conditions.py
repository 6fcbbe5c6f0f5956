"""A route's `match` as the tests that the route table runs, each with its wording.

The snapshot takes the tests, `sidecar explain` the wording too, so that what is
explained is what runs.
"""

from sidecar.config.listeners import Match
from sidecar.config.secrets import MASK, sounds_secret
from sidecar.proxy import route


def conditions(match: Match) -> list[tuple[str, route.Test]]:
    """Every condition but the host, which the table looks up by itself; cheap ones first."""
    found: list[tuple[str, route.Test]] = []
    if match.methods is not None:
        found.append((f"method is {' or '.join(match.methods)}", route.method_in(match.methods)))
    if match.path is not None:
        found.append((f"path is {match.path}", route.path_is(match.path.encode())))
    if match.prefix is not None:
        found.append((f"path is under {match.prefix}", route.path_under(match.prefix.encode())))
    if match.regex is not None:
        found.append((f"path matches {match.regex}", route.path_matches(match.regex)))
    if match.grpc is not None:
        found.append((f"is a gRPC call of {match.grpc}", route.grpc_method(match.grpc)))
    for name, wanted in match.headers.items():
        expected = MASK if sounds_secret(name) else wanted.value or wanted.regex
        if wanted.value is not None:
            found.append((f"header {name} is {expected}", route.header_is(name, wanted.value)))
        elif wanted.regex is not None:
            found.append((f"header {name} matches {expected}", route.header_matches(name, wanted.regex)))
        else:
            there = wanted.present is True
            wording = f"header {name} is {'there' if there else 'not there'}"
            found.append((wording, route.header_present(name, there)))
    return found
