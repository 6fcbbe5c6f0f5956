"""sidecar.identity.errors: one word for each way in which a handshake fails."""

import ssl

import pytest

from sidecar.identity.errors import REASONS, SIDES, TEXTS, HandshakeError, detail_of, reason_of
from sidecar.identity.meters import TlsMeters

# Contract "Headers": in-process gRPC clients retry on these by themselves.
FORBIDDEN = (
    *("connection error", "connection refused", "connection reset", "client connection is closing"),
    *("transport is closing", "transport: error", "name resolver error", "no such host", "broken pipe", "eof"),
    *("keepalive ping failed", "server preface", "connect:"),
)


def test_no_text_holds_words_that_clients_retry_on() -> None:
    for text in TEXTS.values():
        assert not [word for word in FORBIDDEN if word in f"no endpoint could be reached: {text}".lower()]


def ssl_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] {reason}")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "no_certificate"),
        ("HTTP_REQUEST", "not_tls"),
        ("WRONG_VERSION_NUMBER", "not_tls"),
        ("UNSUPPORTED_PROTOCOL", "protocol_version"),
        ("NO_SHARED_CIPHER", "no_shared_cipher"),
        ("TLSV1_ALERT_UNKNOWN_CA", "peer_unknown_ca"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "peer_expired"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "peer_no_certificate"),
        ("SSLV3_ALERT_BAD_CERTIFICATE", "peer_bad_certificate"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "peer_refused"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "peer_protocol_version"),
        ("TLSV1_UNRECOGNIZED_NAME", "peer_unknown_name"),
        ("TLSV1_ALERT_NO_APPLICATION_PROTOCOL", "peer_no_protocol"),
        ("TLSV1_ALERT_SOMETHING_NEW", "peer_refused"),
        ("SOMETHING_ELSE", "other"),
    ],
)
def test_openssls_names(reason: str, word: str) -> None:
    assert reason_of(ssl_error(reason)) == word
    assert word in REASONS


@pytest.mark.parametrize(
    ("code", "word"),
    [(10, "expired"), (9, "not_yet_valid"), (62, "wrong_name"), (20, "unknown_ca"), (26, "bad_certificate")],
)
def test_why_a_certificate_is_not_good(code: int, word: str) -> None:
    error = ssl.SSLCertVerificationError(1, "no")
    error.verify_code, error.verify_message = code, "words"
    assert (reason_of(error), detail_of(error)) == (word, "words")


def test_ours_and_those_of_the_system() -> None:
    assert reason_of(HandshakeError("timeout", "too long")) == "timeout"
    assert detail_of(HandshakeError("timeout", "too long")) == "too long"
    assert reason_of(ConnectionResetError("gone")) == "closed"
    assert reason_of(ValueError("what")) == "other"


def test_equal_failures_are_told_once_in_ten_seconds() -> None:
    now = 100.0
    meters = TlsMeters(lambda: now)
    told: list[tuple[str, dict[str, object]]] = []
    meters.on_warning = lambda event, fields: told.append((event, fields))
    gone = ConnectionResetError("gone")
    for _ in range(5):
        assert meters.failed("downstream", {"listener": "in"}, "10.0.0.1:5", gone) == TEXTS["closed"]
    meters.failed("downstream", {"listener": "in"}, "10.0.0.1:6", HandshakeError("timeout", "too long"))
    assert [fields["reason"] for _, fields in told] == ["closed", "timeout"]
    assert meters.errors["downstream", "closed"] == 5
    assert {side for side, _ in meters.errors} == set(SIDES)
    now = 110.0
    meters.failed("downstream", {"listener": "in"}, "10.0.0.1:7", gone)
    event, fields = told[-1]
    assert (event, fields["listener"], fields["peer"]) == ("tls_handshake_failed", "in", "10.0.0.1:7")
    assert (fields["reason"], fields["detail"], fields["more_like_it"]) == ("closed", "gone", 4)
