"""PEM files into a TLS context, with an error that says which file and why.

Shared by the check of the configuration and by what loads the files again when they
change. May import ssl, sidecar.identity.
"""

import os
import ssl
import stat

from sidecar.identity.x509 import Validity, certificates, validity

# A bundle of every public authority is 220 KB.
_MAX_BYTES = 8 << 20


class FileError(OSError):
    """A file that cannot be used. `path` is its name, `why` the reason."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path
        self.why = why


def load_pair(context: ssl.SSLContext, cert: str, key: str) -> Validity:
    """Our certificate with its chain, and its key; FileError. The validity that it
    returns is that of the whole chain."""
    chain = _certificates(cert)
    _text(key)
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise FileError(key, f"it is not the key of {cert}") from None
        if error.reason == "EE_KEY_TOO_SMALL":
            raise FileError(cert, "its key is too short to be safe") from None
        raise FileError(key, f"no private key can be read from it ({error.reason})") from None
    except _EncryptedError:
        raise FileError(key, "it is encrypted: a key without a pass phrase is needed") from None
    except OSError as error:
        raise FileError(cert, error.strerror or str(error)) from None
    spans = [_validity(cert, each) for each in chain]
    return Validity(max(span.not_before for span in spans), min(span.not_after for span in spans))


def load_authorities(context: ssl.SSLContext, path: str) -> Validity:
    """Whom to trust; FileError. Valid for as long as one of them is."""
    found = _certificates(path)
    try:
        # From memory: what is trusted is what was read, also while the file changes.
        context.load_verify_locations(cadata=b"".join(found))
    except ssl.SSLError as error:
        raise FileError(path, f"a certificate in it cannot be read ({error.reason})") from None
    spans = [_validity(path, each) for each in found]
    return Validity(min(span.not_before for span in spans), max(span.not_after for span in spans))


def read(path: str) -> bytes:
    """The content of a file; FileError."""
    try:
        # O_NONBLOCK: opening a pipe must not stop the event loop.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            content = (file.read(_MAX_BYTES + 1) if regular else None) or b""
    except (OSError, ValueError) as error:
        raise FileError(path, f"cannot read it: {getattr(error, 'strerror', None) or error}") from None
    if not regular:
        raise FileError(path, "it is no regular file")
    if len(content) > _MAX_BYTES:
        raise FileError(path, "it is larger than 8 MiB")
    return content


def _text(path: str) -> str:
    text = read(path).decode("latin-1")
    if "-----BEGIN " not in text:
        raise FileError(path, "it is no PEM file")
    return text


def _certificates(path: str) -> list[bytes]:
    try:
        found = certificates(_text(path))
    except ValueError as error:
        raise FileError(path, str(error)) from None
    if not found:
        raise FileError(path, "there is no certificate in it")
    return found


def _validity(path: str, der: bytes) -> Validity:
    try:
        return validity(der)
    except ValueError as error:
        raise FileError(path, str(error)) from None


class _EncryptedError(Exception):
    """OpenSSL would ask for the pass phrase on the terminal."""


def _no_password() -> str:
    raise _EncryptedError
