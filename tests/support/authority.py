"""A certificate authority that issues whatever a test needs, as files.

trustme makes what is right; this makes what is wrong as well: expired certificates,
SPIFFE IDs, keys that belong to nothing.
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)
_CA_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its key, as files."""

    cert: str
    key: str

    def as_server(self, ca: str | None = None, alpn: Sequence[str] = ("h2", "http/1.1")) -> ssl.SSLContext:
        """A server that shows this certificate, and asks for one of `ca`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        context.set_alpn_protocols([*alpn])
        if ca is not None:
            context.load_verify_locations(ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class Authority:
    """An authority with its files in `folder`; `path` is its certificate."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder = folder
        self.name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])
        self._number = 0
        now = datetime.now(UTC)
        self.certificate = (
            _builder(self._subject, self._subject, self._key.public_key(), now - DAY, now + 3650 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_CA_USAGE, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = _pem(self.certificate)
        self.path = self._write(f"{name}.pem", self.pem)

    def issue(self, *names: str, begins: timedelta = -DAY, ends: timedelta = 90 * DAY, file: str = "") -> Identity:
        """A certificate for host names, addresses and URIs, valid from and until so far
        from now. `file` names its files, over those of before."""
        cert, key = self.issue_pem(*names, begins=begins, ends=ends)
        self._number += 1
        stem = file or f"{self.name}-{self._number}"
        return Identity(self._write(f"{stem}.pem", cert), self._write(f"{stem}.key", key))

    def issue_pem(self, *names: str, begins: timedelta = -DAY, ends: timedelta = 90 * DAY) -> tuple[bytes, bytes]:
        """The same in memory: certificate, key."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leaf")])
        builder = _builder(subject, self._subject, key.public_key(), now + begins, now + ends)
        # RFC 5280 4.2.1.1, which Python asks for from 3.13 on.
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_san(name) for name in names]), critical=False)
        return _pem(builder.sign(self._key, hashes.SHA256())), _key_pem(key)

    def as_client(self, shown: Identity | None = None, alpn: Sequence[str] = ("http/1.1",)) -> ssl.SSLContext:
        """A client that trusts this authority, and shows a certificate."""
        context = ssl.create_default_context(cafile=self.path)
        context.set_alpn_protocols([*alpn])
        if shown is not None:
            context.load_cert_chain(shown.cert, shown.key)
        return context

    def _write(self, name: str, content: bytes) -> str:
        # In one step, as tools that renew certificates do.
        path = self.folder / name
        fresh = path.with_suffix(".new")
        fresh.write_bytes(content)
        fresh.replace(path)
        return str(path)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )


def _san(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def encrypted_key(password: bytes = b"secret") -> bytes:
    """A private key that nobody can use without its pass phrase."""
    return _key_pem(ec.generate_private_key(ec.SECP256R1()), password)
