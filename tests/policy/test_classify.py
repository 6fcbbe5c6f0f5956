"""What an answer says about its endpoint."""

import pytest

from sidecar.codec.grpc import STATUS_NUMBERS
from sidecar.model.outcome import Verdict
from sidecar.policy import classify


@pytest.mark.parametrize("status", [200, 204, 301, 400, 404, 408, 429, 499, 501, 505])
def test_a_working_server_is_a_success_whatever_it_says_of_the_caller(status: int) -> None:
    assert classify.of_status(status) is Verdict.SUCCESS


@pytest.mark.parametrize("status", [500, 502, 503, 504, 507, 599])
def test_a_server_in_trouble_is_a_failure(status: int) -> None:
    assert classify.of_status(status) is Verdict.FAILURE


@pytest.mark.parametrize("name", sorted(STATUS_NUMBERS))
def test_grpc_codes(name: str) -> None:
    soft = name in ("internal", "unavailable", "data_loss")
    expected = Verdict.SOFT_FAILURE if soft else Verdict.SUCCESS
    assert classify.of_grpc(STATUS_NUMBERS[name]) is expected
