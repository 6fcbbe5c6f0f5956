"""The Autobahn cases, some five hundred WebSocket conversations of which many are broken on
purpose: through the sidecar each gets the verdict that it gets without it."""

from pathlib import Path

import pytest
from kosoku import FailureError, run_fuzzingclient

from tests.support.processes import Processes
from tests.support.sidecar import SidecarProcess

# The suite reads its test data without closing the files.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")

Verdicts = dict[str, tuple[str, str, int | None]]

# Megabytes in one message (9), thousands of compressed messages (12, 13): minutes, for the soak.
LONG = ("9.*", "12.*", "13.*")
# Of the long ones, one each of the kinds: large messages, tiny frames, compression.
SAMPLES = ("9.1.3", "9.3.2", "9.4.4", "9.5.6", "12.1.3", "12.2.6", "13.3.3")

_GOOD = ("OK", "NON-STRICT", "INFORMATIONAL")

CONFIG = """
admin: {{bind: "127.0.0.1:0"}}
clusters: {{web: {{endpoints: ["{address}"]}}}}
listeners: {{out: {{bind: "127.0.0.1:0", routes: [{{to: web}}]}}}}
"""


async def _verdicts(port: int, cases: tuple[str, ...] | None, without: tuple[str, ...]) -> Verdicts:
    """By case: of the messages, of the closing handshake, and with which code the server closed.

    The code is left out where the server fails: it turns a message down and resets the connection
    with the rest unread, and whether its last word is read before the reset is chance."""
    try:
        results = await run_fuzzingclient(f"ws://127.0.0.1:{port}/websocket", cases, without, concurrency=4)
    except FailureError as error:  # cases at which the server itself fails
        results = error.results
    return {
        result.case_id: (
            result.behavior.value,
            result.behavior_close.value,
            None if result.behavior_close.value == "FAILED" else result.remote_close_code,
        )
        for result in results
    }


async def _compare(
    processes: Processes, folder: Path, cases: tuple[str, ...] | None, without: tuple[str, ...] = ()
) -> Verdicts:
    # Given a real WebSocket server, and a sidecar in front of it
    service = await processes.service("tests.support.http_service")
    sidecar = SidecarProcess(folder, CONFIG.format(address=service.address))
    processes.own(sidecar)
    await sidecar.serve()
    # When the cases are run against both
    direct = await _verdicts(service.port, cases, without)
    proxied = await _verdicts(sidecar.port("out"), cases, without)
    # Then the sidecar changes none of the verdicts, and they are not all the same failure
    assert proxied == direct
    assert 2 * sum(messages in _GOOD for messages, _, _ in direct.values()) > len(direct)
    return direct


@pytest.mark.slow
async def test_the_cases_have_the_same_verdicts_through_the_sidecar(processes: Processes, tmp_path: Path) -> None:
    first = await _compare(processes, tmp_path, None, LONG)
    assert len(first) > 200


@pytest.mark.slow
async def test_a_few_of_the_long_cases_too(processes: Processes, tmp_path: Path) -> None:
    await _compare(processes, tmp_path, SAMPLES)


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_every_case_has_the_same_verdict(processes: Processes, tmp_path: Path) -> None:
    found = await _compare(processes, tmp_path, None)
    assert len(found) > 500
