"""sidecar.identity.files: what each broken file is refused with."""

import os
import ssl
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from sidecar.identity.files import FileError, load_authorities, load_pair
from tests.support.authority import DAY, Authority, encrypted_key


def context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def test_the_validity_of_a_pair_is_that_of_its_chain(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    long, short = authority.issue("a", ends=90 * DAY), authority.issue("b", ends=9 * DAY)
    only = load_pair(context(), long.cert, long.key)
    assert timedelta(seconds=only.not_after - only.not_before) == timedelta(days=91)
    chain = tmp_path / "chain.pem"
    chain.write_bytes(Path(long.cert).read_bytes() + Path(short.cert).read_bytes())
    assert load_pair(context(), str(chain), long.key).not_after < only.not_after


def test_a_bundle_is_good_for_as_long_as_one_of_it_is(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    old = authority.issue("old", begins=-9 * DAY, ends=-DAY)
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(Path(old.cert).read_bytes() + authority.pem)
    alone = load_authorities(context(), authority.path)
    made = context()
    assert load_authorities(made, str(bundle)).not_after == alone.not_after
    assert made.cert_store_stats()["x509"] == 2


@pytest.mark.parametrize(
    ("cert", "key", "why"),
    [
        ("a.pem", "b.key", "it is not the key of"),
        ("a.pem", "a.pem", "no private key can be read from it"),
        ("a.key", "a.key", "there is no certificate in it"),
        ("gone.pem", "a.key", "cannot read it: No such file"),
        ("a.pem", "gone.key", "cannot read it: No such file"),
        ("empty.pem", "a.key", "it is no PEM file"),
        ("half.pem", "a.key", "it ends in the middle of a certificate"),
        ("a.pem", "half.key", "no private key can be read from it"),
        ("a.pem", "locked.key", "it is encrypted"),
        ("garbage.pem", "a.key", "."),
        ("folder", "a.key", "cannot read it: Is a directory"),
    ],
)
def test_a_pair_that_cannot_be_used(tmp_path: Path, cert: str, key: str, why: str) -> None:
    authority = Authority(tmp_path)
    authority.issue("a", file="a")
    authority.issue("b", file="b")
    (tmp_path / "empty.pem").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "half.pem").write_bytes((tmp_path / "a.pem").read_bytes()[:-60])
    (tmp_path / "half.key").write_bytes((tmp_path / "a.key").read_bytes()[:-60])
    (tmp_path / "locked.key").write_bytes(encrypted_key())
    garbage = (tmp_path / "a.pem").read_text().splitlines()
    garbage[3] = garbage[3][::-1]
    (tmp_path / "garbage.pem").write_text("\n".join(garbage))
    with pytest.raises(FileError, match=why) as caught:
        load_pair(context(), str(tmp_path / cert), str(tmp_path / key))
    assert caught.value.path in (str(tmp_path / cert), str(tmp_path / key))


@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\n", b"-----BEGIN PRIVATE KEY-----\n"])
def test_authorities_that_cannot_be_used(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(content)
    with pytest.raises(FileError):
        load_authorities(context(), str(path))


def test_a_file_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no regular file"):
        load_authorities(context(), "/dev/zero")
    big = tmp_path / "big.pem"
    with big.open("wb") as file:
        file.truncate(9 << 20)
    with pytest.raises(FileError, match="larger than 8 MiB"):
        load_authorities(context(), str(big))


def test_a_pipe_that_nobody_writes_to_does_not_block(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    told: list[Exception] = []

    def load() -> None:
        try:
            load_authorities(context(), str(path))
        except Exception as error:
            told.append(error)

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert isinstance(told[0], FileError)
