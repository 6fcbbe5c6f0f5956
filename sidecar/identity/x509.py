"""From when until when a certificate is valid: all that we have to know of one.

The standard library does not tell it of a certificate that was not shown by a peer,
and `cryptography` costs 10 MiB (measured) in every process that imports it. OpenSSL
has taken the certificate before it comes here. May import the standard library alone.
"""

import re
import ssl
from datetime import UTC, datetime
from typing import Final, NamedTuple

_BLOCK: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

# Universal tags, X.690 8.
_INTEGER, _SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x02, 0x30, 0x17, 0x18, 0xA0


class Validity(NamedTuple):
    """Seconds since the epoch."""

    not_before: float
    not_after: float


def certificates(pem: str) -> list[bytes]:
    """Each certificate of a PEM file, in DER; ValueError for one that is cut short."""
    blocks = _BLOCK.findall(pem)
    if len(blocks) != pem.count("-----BEGIN CERTIFICATE-----"):
        raise ValueError("it ends in the middle of a certificate")
    return [ssl.PEM_cert_to_DER_cert(block) for block in blocks]


def validity(der: bytes) -> Validity:
    """The validity of a certificate (RFC 5280 4.1); ValueError if it is none."""
    try:
        inside = _Reader(_Reader(_Reader(der).expect(_SEQUENCE)).expect(_SEQUENCE))
        if inside.tag() == _VERSION:
            inside.next()
        inside.expect(_INTEGER)  # the serial number
        inside.expect(_SEQUENCE)  # the signature's algorithm
        inside.expect(_SEQUENCE)  # the issuer
        times = _Reader(inside.expect(_SEQUENCE))
        return Validity(_seconds(*times.next()), _seconds(*times.next()))
    except IndexError:
        raise ValueError("it is cut short") from None


class _Reader:
    """DER values one behind the other (X.690 8.1)."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def tag(self) -> int:
        return self._data[self._at]

    def next(self) -> tuple[int, bytes]:
        tag, size = self._data[self._at], self._data[self._at + 1]
        start = self._at + 2
        if size & 0x80:
            start, size = start + (size & 0x7F), int.from_bytes(self._data[start : start + (size & 0x7F)], "big")
        self._at = start + size
        if self._at > len(self._data):
            raise ValueError("it is cut short")
        return tag, self._data[start : self._at]

    def expect(self, wanted: int) -> bytes:
        tag, value = self.next()
        if tag != wanted:
            raise ValueError("it is no X.509 certificate")
        return value


def _seconds(tag: int, value: bytes) -> float:
    """RFC 5280 4.1.2.5: both forms end in Z and have seconds."""
    text = value.decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text >= "5" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("its validity is no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
