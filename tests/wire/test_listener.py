"""sidecar.wire.listener: binding. What goes through it is in test_h1_sockets.py."""

import os
import socket
from pathlib import Path

import pytest

from sidecar.model.address import Address
from sidecar.wire.listener import BindError, bound_socket


def test_a_port_is_chosen() -> None:
    with bound_socket(Address("127.0.0.1", 0)) as bound:
        assert bound.getsockname()[1] > 0


def test_a_name_can_be_bound() -> None:
    with bound_socket(Address("localhost", 0)) as bound:
        assert bound.getsockname()[0] in ("127.0.0.1", "::1")


def test_a_conflict_names_the_address_and_its_holder() -> None:
    with bound_socket(Address("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
        comm = Path("/proc/self/comm").read_text().strip()
        with pytest.raises(BindError) as caught:
            bound_socket(Address("127.0.0.1", port))
    assert str(caught.value).startswith(f"cannot listen on 127.0.0.1:{port}: Address already in use")
    assert f"held by {comm} (pid {os.getpid()})" in str(caught.value)


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
def test_a_host_that_is_not_ours(host: str) -> None:
    with pytest.raises(BindError, match=f"cannot listen on {host}:1234: .+"):
        bound_socket(Address(host, 1234))


def test_a_unix_socket_that_its_owner_left_over_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
        left_over.listen()
    with bound_socket(Address("", 0, str(path))) as bound:
        bound.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_unix_socket_in_use_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with bound_socket(Address("", 0, str(path))) as bound:
        bound.listen()
        with pytest.raises(BindError, match="another process listens there"):
            bound_socket(Address("", 0, str(path)))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_file_is_not_removed_for_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(BindError, match="a file is in the way"):
        bound_socket(Address("", 0, str(path)))
    assert path.read_text() == "precious"


@pytest.mark.parametrize("path", ["/nowhere/at/all/s", "/tmp/" + "x" * 200])
def test_a_path_that_cannot_be(path: str) -> None:
    with pytest.raises(BindError, match=r"cannot listen on unix:/.*: (?!None).+"):
        bound_socket(Address("", 0, path))
