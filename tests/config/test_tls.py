"""`tls` and `clients` in the YAML: files are looked into before anything starts."""

import re
from pathlib import Path

import pytest

from tests.config.loading import cluster, errors_of, lines_of, load
from tests.support.authority import Authority, Identity, encrypted_key


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def pair(authority: Authority) -> Identity:
    return authority.issue("a", file="a")


def listener(keys: str, route: str = "") -> str:
    """A configuration with one listener `o` with these keys, and one route."""
    inside = f"bind: '127.0.0.1:0', routes: [{{to: u{route}}}], {keys}"
    return f"clusters: {{u: {{endpoints: ['a:1']}}}}\nlisteners: {{o: {{{inside}}}}}"


def test_a_clusters_tls(authority: Authority, pair: Identity) -> None:
    keys = f"ca: {authority.path}, cert: {pair.cert}, key: {pair.key}, sans: [spiffe://td/a, '*.b.C']"
    tls = load(cluster(f"tls: {{{keys}}}")).clusters["u"].tls
    assert tls is not None
    assert (tls.ca, tls.cert, tls.key, tls.verify) == (authority.path, pair.cert, pair.key, True)
    assert tls.sans == ["spiffe://td/a", "*.b.c"]
    assert load(cluster("tls: {verify: none}")).clusters["u"].tls.verify is False  # type: ignore[union-attr]


def test_a_listeners_tls_and_clients(authority: Authority, pair: Identity) -> None:
    tls = f"tls: {{cert: {pair.cert}, key: {pair.key}, client_ca: {authority.path}}}"
    clients = "clients: {san: 'spiffe://td/*', cidr: [10.0.0.0/8, '::1']}"
    found = load(listener(f"{tls}, {clients}", ", clients: {san: a.internal}")).listeners["o"]
    assert found.tls is not None
    assert (found.tls.client_certificate, found.tls.handshake_timeout) == ("required", 10.0)
    assert found.clients is not None
    assert (found.clients.san, found.clients.cidr) == (["spiffe://td/*"], ["10.0.0.0/8", "::1/128"])
    assert found.routes[0].clients is not None
    assert found.routes[0].clients.san == ["a.internal"]


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("cert: CERT", "cert without key (add key: FILE)"),
        ("key: KEY", "key without cert (add cert: FILE)"),
        ("cert: CERT, key: OTHER", "OTHER: it is not the key of CERT"),
        ("cert: CERT, key: LOCKED", "LOCKED: it is encrypted: a key without a pass phrase is needed"),
        ("ca: KEY", "KEY: there is no certificate in it"),
        ("ca: HALF", "HALF: it ends in the middle of a certificate"),
        ("ca: NOTHING", "is no PEM file"),
        ("ca: /no/such", "cannot read '/no/such': No such file or directory"),
        ("verify: none, sans: [a]", "sans cannot be asked for with verify: none"),
        ("sans: []", "at least 1"),
        ("sans: ['spiffe://td*']", "is no SPIFFE ID"),
        ("sans: ['a b']", "is neither a host name nor a URI"),
    ],
)
def test_what_a_clusters_tls_refuses(
    tmp_path: Path, authority: Authority, pair: Identity, keys: str, says: str
) -> None:
    (tmp_path / "locked.key").write_bytes(encrypted_key())
    (tmp_path / "half.pem").write_bytes(authority.pem[:-40])
    (tmp_path / "nothing.pem").write_text("nothing")
    files = {
        "CERT": pair.cert,
        "KEY": pair.key,
        "OTHER": authority.issue("b").key,
        "LOCKED": str(tmp_path / "locked.key"),
        "HALF": str(tmp_path / "half.pem"),
        "NOTHING": str(tmp_path / "nothing.pem"),
    }

    def filled(text: str) -> str:
        return re.sub(r"\b(CERT|KEY|OTHER|LOCKED|HALF|NOTHING)\b", lambda match: files[match[0]], text)

    (line,) = lines_of(cluster(f"tls: {{{filled(keys)}}}"))
    assert line.startswith("f.yaml:1:")
    assert "clusters.u.tls" in line
    assert filled(says) in line


@pytest.mark.parametrize(
    ("listener_keys", "route", "says"),
    [
        ("tls: {cert: CERT}", "", "listeners.o.tls.key: is required"),
        ("tls: {}", "", "listeners.o.tls.cert: is required"),
        ("tls: {TLS, client_certificate: optional}", "", "client_certificate without client_ca"),
        ("tls: {TLS, handshake_timeout: 0}", "", "must be longer than 0"),
        ("clients: {}", "", "needs san or cidr"),
        ("clients: {san: []}", "", "at least 1"),
        ("clients: {san: [a]}", "", "clients.san needs clients to show certificates (add tls.client_ca)"),
        ("tls: {TLS}, clients: {san: [a]}", "", "clients.san needs clients to show certificates"),
        ("tls: {TLS}", ", clients: {san: [a]}", "routes[0].clients.san needs clients to show certificates"),
        ("clients: {cidr: [10.0.0.1/8]}", "", "write 10.0.0.0/8"),
        ("clients: {cidr: [a.example]}", "", "is no network"),
        ("clients: {cidr: [10]}", "", 'must be text (write "10")'),
        ("clients: {sans: [a]}", "", "did you mean san?"),
    ],
)
def test_what_a_listener_refuses(pair: Identity, listener_keys: str, route: str, says: str) -> None:
    keys = listener_keys.replace("TLS", f"cert: {pair.cert}, key: {pair.key}").replace("CERT", pair.cert)
    assert any(says in line for line in lines_of(listener(keys, route))), lines_of(listener(keys, route))


def test_a_unix_socket_has_no_source_address() -> None:
    for keys, route in (("clients: {cidr: [10.0.0.0/8]}", ""), ("", ", clients: {cidr: [10.0.0.0/8]}")):
        text = listener(keys, route).replace("'127.0.0.1:0'", "'unix:/tmp/s'")
        (error,) = errors_of(text)
        assert "a unix socket has no source address" in error.reason
        assert error.hint == "the file's permissions say who may connect"


@pytest.mark.parametrize(
    ("tls", "says"),
    [
        ("{verify: none}", "a gRPC health check cannot do without verifying"),
        ("{sans: [a.internal]}", "a gRPC health check cannot verify tls.sans"),
        ("{sans: [a.internal], server_name: b.internal}", ""),
        ("{}", ""),
    ],
)
def test_a_grpc_health_check_verifies_one_name(tls: str, says: str) -> None:
    text = cluster(f"tls: {tls}, health_check: {{grpc: {{}}}}")
    if says:
        (error,) = errors_of(text)
        assert error.reason == says
        assert error.hint
        load(text.replace("grpc", "http"))
    else:
        load(text)


def test_a_clusters_own_port_is_plain_text() -> None:
    spec = load(cluster("listen: '127.0.0.1:0'"))
    assert spec.all_listeners()["u"].tls is None
    assert spec.all_listeners()["u"].clients is None
