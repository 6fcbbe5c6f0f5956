"""sidecar.identity.x509 against what `cryptography` writes and says."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.identity.x509 import Validity, certificates, validity
from tests.support.authority import Authority

KEY = ec.generate_private_key(ec.SECP256R1())
# Seconds; RFC 5280 4.1.2.5 changes the form of a time in 2050.
TIMES = st.integers(
    int(datetime(1950, 1, 1, tzinfo=UTC).timestamp()), int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())
)


def certificate(begins: int, ends: int, names: list[str], serial: int = 1) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(KEY.public_key())
        .serial_number(serial)
        .not_valid_before(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=begins))
        .not_valid_after(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=ends))
        .sign(KEY, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.DER)


# Signed once: a signature is never the same twice.
ONE = certificate(0, 10, ["a"])


@settings(max_examples=60, deadline=None)
@given(
    one=TIMES,
    other=TIMES,
    # Long subjects make long lengths: one byte, two, three.
    names=st.lists(st.text("ab", min_size=1, max_size=64), max_size=12),
    serial=st.integers(1, 2**158),
)
def test_the_validity_is_what_was_written(one: int, other: int, names: list[str], serial: int) -> None:
    begins, ends = sorted((one, other))
    assert validity(certificate(begins, ends, names, serial)) == Validity(begins, ends)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_anything_else_is_an_error_of_one_kind(data: st.DataObject) -> None:
    der = bytearray(ONE)
    for _ in range(data.draw(st.integers(0, 4))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(der[: data.draw(st.integers(0, len(der)))])
    try:
        found = validity(cut)
    except ValueError:
        return
    assert isinstance(found, Validity)


def test_a_file_of_several(tmp_path: Path) -> None:
    one, other = Authority(tmp_path, "one"), Authority(tmp_path, "other")
    text = (b"Subject: one\n" + one.pem + b"\n# other\n" + other.pem).decode()
    found = certificates(text)
    assert found == [each.certificate.public_bytes(serialization.Encoding.DER) for each in (one, other)]
    with pytest.raises(ValueError, match="in the middle of a certificate"):
        certificates(text[:-40])
