"""Why a TLS handshake failed, as one word for metrics and a few for people.

May import ssl, sidecar.identity.
"""

import ssl
from typing import Final

# By the word in `sidecar_tls_handshake_errors_total`: what is wrong with the peer, or
# with us in the peer's view. A client is told the text about its endpoint, after
# "no endpoint could be reached: "; contract "Headers" says which words it may not hold.
TEXTS: Final = {
    "expired": "its certificate has expired",
    "not_yet_valid": "its certificate is not valid yet",
    "unknown_ca": "its certificate is of an authority that is not trusted",
    "wrong_name": "its certificate is for another name",
    "no_certificate": "it showed no certificate",
    "bad_certificate": "its certificate cannot be accepted",
    "peer_expired": "it says that our certificate has expired",
    "peer_unknown_ca": "it does not trust the authority of our certificate",
    "peer_no_certificate": "it asks for a client certificate",
    "peer_bad_certificate": "it does not accept our certificate",
    "peer_unknown_name": "it has no certificate for the name that it was asked for",
    "peer_no_protocol": "it speaks no protocol that it was offered",
    "peer_refused": "it refused the TLS handshake",
    "peer_protocol_version": "it speaks no TLS version from 1.2 on",
    "protocol_version": "it speaks no TLS version from 1.2 on",
    "no_shared_cipher": "there is no cipher that both sides take",
    "no_http2": "it does not speak HTTP/2 over TLS",
    "not_tls": "it does not speak TLS",
    "timeout": "its TLS handshake took too long",
    "closed": "it left during the TLS handshake",
    "other": "the TLS handshake failed",
}
REASONS: Final = tuple(TEXTS)
# What a server says that has looked at our certificate, and before that at nothing that we asked.
OF_OUR_CERTIFICATE: Final = frozenset(
    ("peer_expired", "peer_unknown_ca", "peer_no_certificate", "peer_bad_certificate")
)
SIDES: Final = ("downstream", "upstream")

# X509_V_ERR_* of openssl/x509_vfy.h.
_VERIFY: Final = {
    2: "unknown_ca",  # the issuer's certificate is not there
    7: "unknown_ca",  # another authority of the same name has signed it
    9: "not_yet_valid",
    10: "expired",
    18: "unknown_ca",  # self-signed
    19: "unknown_ca",  # a self-signed one at the end of the chain
    20: "unknown_ca",  # its issuer is not known here
    21: "unknown_ca",
    62: "wrong_name",
    64: "wrong_name",  # an IP address
}

# OpenSSL's own findings, by their names.
_REASONS: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no_certificate",
    "HTTP_REQUEST": "not_tls",
    "HTTPS_PROXY_REQUEST": "not_tls",
    "WRONG_VERSION_NUMBER": "not_tls",
    "RECORD_LAYER_FAILURE": "not_tls",
    "PACKET_LENGTH_TOO_LONG": "not_tls",
    "UNKNOWN_PROTOCOL": "not_tls",
    "UNSUPPORTED_PROTOCOL": "protocol_version",
    "VERSION_TOO_LOW": "protocol_version",
    "NO_PROTOCOLS_AVAILABLE": "protocol_version",
    "NO_SHARED_CIPHER": "no_shared_cipher",
    "NO_SUITABLE_SIGNATURE_ALGORITHM": "no_shared_cipher",
    "NO_SUITABLE_KEY_SHARE": "no_shared_cipher",
    "UNEXPECTED_EOF_WHILE_READING": "closed",
    "TLSV1_UNRECOGNIZED_NAME": "peer_unknown_name",  # an alert too, by another name
}

# Alerts of the peer (RFC 8446 6.2), by the end of OpenSSL's names for them.
_ALERTS: Final = {
    "UNKNOWN_CA": "peer_unknown_ca",
    "CERTIFICATE_EXPIRED": "peer_expired",
    "CERTIFICATE_REQUIRED": "peer_no_certificate",
    "BAD_CERTIFICATE": "peer_bad_certificate",
    "UNSUPPORTED_CERTIFICATE": "peer_bad_certificate",
    "CERTIFICATE_REVOKED": "peer_bad_certificate",
    "CERTIFICATE_UNKNOWN": "peer_bad_certificate",
    "ACCESS_DENIED": "peer_bad_certificate",
    "DECRYPT_ERROR": "peer_bad_certificate",
    "PROTOCOL_VERSION": "peer_protocol_version",
    "NO_APPLICATION_PROTOCOL": "peer_no_protocol",
    "UNRECOGNIZED_NAME": "peer_unknown_name",
}


class HandshakeError(ssl.SSLError):
    """A handshake that failed by our own doing. `word` is one of REASONS."""

    def __init__(self, word: str, message: str) -> None:
        super().__init__(message)
        self.word = word

    def __str__(self) -> str:
        return str(self.args[0])


def reason_of(error: Exception) -> str:
    """One of REASONS."""
    if isinstance(error, HandshakeError):
        return error.word
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY.get(error.verify_code, "bad_certificate")
    if isinstance(error, ssl.SSLError):
        name = error.reason or ""
        before, alert, after = name.partition("_ALERT_")
        if alert:
            return _ALERTS.get(after, "peer_refused")
        return _REASONS.get(before, "other")
    return "closed" if isinstance(error, OSError) else "other"


def detail_of(error: Exception) -> str:
    """What is known beyond the word, for a log: one line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message)
    if isinstance(error, HandshakeError):
        return str(error)
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return str(error) or type(error).__name__
