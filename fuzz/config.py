"""Any text: a configuration, or ConfigErrors of which each says where and why; and a
configuration that was accepted can be shown, explained and assembled. Neither an error
nor what is shown tells what a secret variable holds.
"""

from collections.abc import Sequence
from typing import Final

from benchmarks.world import World
from sidecar.config.errors import ConfigError, ConfigErrors
from sidecar.config.explain import explain, request_head
from sidecar.config.load import load_text
from sidecar.config.mask import masked
from sidecar.config.secrets import tells
from sidecar.config.tree import MAX_ERRORS

_FULL = b"""\
service: ${NAME:-checkout}
shutdown: 25s
defaults: {timeouts: {request: 2s}}
clusters:
  users:
    listen: 127.0.0.1:19002
    endpoints:
      - 10.0.0.1:50051
      - {address: "[::1]:50051", weight: 2, priority: 1}
    balance: {policy: ring_hash, key: "header:x-user"}
    timeouts: {connect: 1s, try: null, streams: [pkg.Users/Watch]}
    retry: {attempts: 3, on: [unsent, reset, 503], grpc_on: [unavailable], idempotent: ["POST /a*"], replay: 1MiB}
    breaker: {window: 10s, failure_ratio: 0.5, open: {base: 1s, max: 60s}}
    health_check: {http: {path: /healthz}, interval: 5s}
  canary: {endpoints: [unix:/run/app.sock]}
listeners:
  outbound:
    bind: 127.0.0.1:15001
    routes:
      - match: {host: [users.internal, "*.users.internal"], prefix: /v1, methods: [GET], headers: {x: {regex: "a+"}}}
        to: {users: 90, canary: 10}
        rewrite: {prefix: /api}
        headers: {request: {set: {a: b}, remove: [c]}}
      - match: {regex: "/v[0-9]+/.*"}
        redirect: {status: 308, path: /new}
      - match: {grpc: pkg.Users/Get}
        to: users
        timeout: 0
      - respond: {status: 200, body: pong}
  proxy: {bind: 127.0.0.1:0, mode: forward, allow: ["*.example.com:443"]}
"""
SEEDS: Final = (
    _FULL,
    b"clusters: {a: {endpoints: ['h:1']}}\n",
    b"a: &x {b: *x}\n",
    b"clusters:\n  a: {endpoints: [h:1], tls: {verify: none}}\n",
    b"service: ${TOKEN}\nshutdown: ${TOKEN}s\nclusters: {a: {endpoints: ['${TOKEN}:1', 'redis://u:${TOKEN}@h:1']}}\n",
    b"admin: {bind: '0.0.0.0:1', token_file: ${TOKEN}, allowed_hosts: [\"*.${TOKEN}\"]}\nclusters: {}\n",
    b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c {k: *b, l: *b}\nd: [*c, *c, *c]\n",
    b"",
)
WORDS: Final = (
    b"{", b"}", b"[", b"]", b": ", b"\n", b"\n  ", b"- ", b"null", b"~", b"on", b"010", b"12:30", b"1e9", b".inf",
    b"-1", b"${", b"${A}", b"${A:-}", b"${TOKEN}", b"x@", b"://", b"Bearer ", b"$${", b"&a ", b"*a",
    b"<<: ", b"!!python/object:x ", b"!!int ", b"? ", b"| ",
    b">-\n", b"# ", b"'", b'"', b"\\x00", b"\t", b"---\n", b"...\n",
    b"%YAML 1.1\n", b"\xef\xbb\xbf", b"\xff", b"\xc2\x85",
    b"0", b"0s", b"clusters:", b"routes:", b"match:", b"to:", b"endpoints:", b"99999999999h", b"1.5.5s", b"4294967296",
    b"(a+)+$", b"*.",
)  # fmt: skip


# Nothing that a text or an error could have by chance.
_SECRET: Final = "q7z9x4w2v8j3"
_ENV: Final = {"A": "users", "TOKEN": _SECRET}
_LONGEST: Final = 3000


def check(data: bytes) -> None:
    """Load it; use what was accepted."""
    text = data.decode("utf-8", "replace")
    try:
        spec = load_text(text, "fuzz.yaml", _ENV)
    except ConfigErrors as errors:
        _check_errors(errors.errors)
        return
    shown = masked(spec)
    assert shown["clusters"].keys() == spec.clusters.keys()
    explained = explain(spec, request_head("GET", "http://users.internal/v1/x", []))
    assert _SECRET not in f"{shown} {[each.lines() for each in explained]}"
    World(text, env=_ENV).close()


def _check_errors(errors: Sequence[ConfigError]) -> None:
    assert 0 < len(errors) <= MAX_ERRORS + 1
    for error in errors:
        assert error.line >= 1, error
        assert error.column >= 1, error
        assert error.reason, error
        assert "\n" not in str(error), error
        assert len(str(error)) < _LONGEST, error
        assert not tells(str(error), _SECRET), error
