"""The ceiling on connections, and who is let in below it."""

import errno
from sys import maxsize

import pytest

from sidecar.policy.places import Places, ceiling_for


@pytest.mark.parametrize("limit", [64, 100, 256, 1024, 4096, 65536, 1 << 20])
def test_files_are_left_for_endpoints_admin_and_configuration(limit: int) -> None:
    others = 15
    ceiling = ceiling_for(limit, others)
    left = limit - others - ceiling.connections
    assert ceiling.clients <= ceiling.connections // 2
    assert left >= min(16, limit // 4)
    assert ceiling.refusals <= left // 2, "who is refused leaves as much again for the admin server"
    assert ceiling.clients >= (limit - others) // 4


@pytest.mark.parametrize(("limit", "others"), [(16, 14), (32, 40), (8, 0)])
def test_however_few_files_there_are_one_client_is_served(limit: int, others: int) -> None:
    ceiling = ceiling_for(limit, others)
    assert ceiling.clients >= 1
    assert ceiling.refusals >= 1


def test_the_configuration_may_want_fewer_and_not_more_than_there_are() -> None:
    assert ceiling_for(1024, 20, 10).clients == 10
    assert ceiling_for(64, 20, 5000).clients < 64 - 20


def test_without_a_limit_everybody_is_let_in() -> None:
    places = Places()
    places.clients = 10**6
    assert places.refusal() is None
    assert places.ceiling.clients == maxsize
    assert places.may_dial


def test_who_is_being_refused_takes_no_place() -> None:
    places = Places()
    places.ceiling = ceiling_for(64, 20)
    places.clients = places.ceiling.clients + 5
    assert places.refusal() == "ceiling"
    places.refusals = 5
    assert places.refusal() is None
    assert places.may_dial


def test_endpoints_and_clients_share_what_there_is() -> None:
    places = Places()
    places.ceiling = ceiling_for(64, 20)
    places.clients = 1
    places.upstream = places.ceiling.connections
    assert places.refusal() == "ceiling"
    assert not places.may_dial


def test_under_pressure_nobody_is_let_in() -> None:
    places = Places()
    places.refusing = True
    places.clients = 1
    assert places.refusal() == "pressure"


def test_who_waits_hears_once_of_the_next_that_leaves() -> None:
    places = Places()
    heard: list[str] = []
    places.clients = 3
    places.when_one_left(lambda: heard.append("a"))
    places.left()
    places.left()
    assert (heard, places.clients) == (["a"], 1)


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EMFILE, "emfile"),
        (errno.ENFILE, "enfile"),
        (errno.ENOBUFS, "enobufs"),
        (errno.ENOMEM, "enomem"),
        (errno.EINVAL, "other"),
    ],
)
def test_errors_are_counted_by_reason_and_told(number: int, reason: str) -> None:
    places = Places()
    heard: list[str] = []
    places.on_error = lambda reason, error: heard.append(reason)
    places.failed(OSError(number, "no"))
    assert places.errors[reason] == 1
    assert sum(places.errors.values()) == 1
    assert heard == [reason]
