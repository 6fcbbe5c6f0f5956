"""Configuration errors and the shown configuration tell nobody a secret."""

import pytest

from sidecar.config.mask import masked
from sidecar.config.secrets import sounds_secret, tells, variable_sounds_secret, without_credentials
from tests.config.loading import errors_of, lines_of, load

CANARY = "cAnArY-7f3e9b-hunter2"

# Where a variable's value can be wrong: every kind of value that the YAML has.
PLACES = [
    "service: [${V}]",
    "shutdown: ${V}",
    "shutdown: 5s${V}",
    "access_log: {a: ${V}}",
    "admin: {bind: '${V}'}",
    "admin: {bind: 'http://${V}@h:1'}",
    "admin: {bind: '127.0.0.1:${V}'}",
    "admin: {allowed_hosts: ['${V}/']}",
    "admin: {open_metrics: ${V}}",
    "admin: {socket_mode: ${V}}",
    "clusters: {u: {endpoints: ['${V}']}}",
    "clusters: {u: {endpoints: ['redis://me:${V}@db:1']}}",
    "clusters: {u: {endpoints: ['a:${V}']}}",
    "clusters: {u: {endpoints: [{address: a:1, weight: ${V}}]}}",
    "clusters: {u: {endpoints: [a:1], protocol: ${V}}}",
    "clusters: {u: {endpoints: [a:1], timeouts: {connect: ${V}}}}",
    "clusters: {u: {endpoints: [a:1], retry: {on: [${V}]}}}",
    "clusters: {u: {endpoints: [a:1], retry: {grpc_on: [${V}]}}}",
    "clusters: {u: {endpoints: [a:1], retry: {idempotent: ['${V} x']}}}",
    "clusters: {u: {endpoints: [a:1], retry: {attempts: ${V}}}}",
    "clusters: {u: {endpoints: [a:1], retry: {replay: ${V}}}}",
    "clusters: {u: {endpoints: [a:1], balance: {policy: maglev, key: 'cookie:${V}='}}}",
    "clusters: {u: {endpoints: [a:1], breaker: {failure_ratio: ${V}}}}",
    "clusters: {u: {endpoints: [a:1], health_check: ${V}}}",
    "clusters: {u: {endpoints: [a:1], tls: {verify: ${V}}}}",
    "clusters: {u: {endpoints: [a:1], tls: {cert: '/no/${V}'}}}",
    "clusters: {u: {endpoints: [a:1]}}\nlisteners: {o: {bind: '${V}', routes: [{to: u}]}}",
    "clusters: {u: {endpoints: [a:1]}}\nlisteners: {o: {bind: 'a:1', mode: ${V}, routes: [{to: u}]}}",
    "clusters: {u: {endpoints: [a:1]}}\nlisteners: {o: {bind: 'a:1', mode: forward, allow: ['${V}!']}}",
    "clusters: {u: {endpoints: [a:1]}}\nlisteners: {o: {bind: 'a:1', routes: [{to: '${V}'}]}}",
]
ROUTE = "clusters: {u: {endpoints: [a:1]}}\nlisteners: {o: {bind: 'a:1', routes: [{to: u, %s}]}}"
PLACES += [
    ROUTE % keys
    for keys in (
        "name: '${V}!'",
        "match: {host: '${V}:80'}",
        "match: {path: '${V}'}",
        "match: {prefix: '/a?${V}'}",
        "match: {regex: '(${V}'}",
        "match: {regex: '${V}['}",
        "match: {grpc: '${V}'}",
        "match: {methods: ['a${V}']}",
        "match: {headers: {x: {present: '${V}'}}}",
        "timeout: ${V}",
        "rewrite: {host: '${V}/'}",
        "rewrite: {prefix: '${V}'}",
        "headers: {request: {set: ['${V}']}}",
        "headers: {request: {remove: ['${V}:']}}",
        'headers: {request: {set: {x-a: ["${V}"]}}}',
    )
]
VALUES = [CANARY, CANARY.upper(), f"'{CANARY}\"", f"{CANARY}\n{CANARY}", CANARY * 20, f"http://{CANARY}:{CANARY}@h"]


@pytest.mark.parametrize("place", PLACES)
def test_no_error_tells_what_a_variable_holds(place: str) -> None:
    for value in VALUES:
        text = " ".join(lines_of(place, {"V": value}))
        assert not tells(text, CANARY), text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("shutdown: ${V}", "shutdown: '${V}' is no duration"),
        ("shutdown: 5${V}", "shutdown: '5${V}' is no duration"),
        ("admin: {bind: '${H:-127.0.0.1}:${V}'}", "admin.bind: '${V}' is no port: 0 to 65535"),
        ("admin: {bind: '${V}:80'}", "admin.bind: '${V}' is no host name"),
        ("admin: {open_metrics: '${V}'}", "admin.open_metrics: must be true or false"),
    ],
)
def test_an_error_names_the_variable_instead(text: str, line: str) -> None:
    (error,) = errors_of(f"clusters: {{u: {{endpoints: ['a:1']}}}}\n{text}\n", {"V": f"{CANARY}!"})
    assert line.replace("'", "") in str(error).replace("'", "")


@pytest.mark.parametrize(
    ("text", "value"), [("shutdown: '${V}'", ""), ("admin: {bind: '${V}'}", ""), ("shutdown: ${V}", "5")]
)
def test_an_empty_or_short_value_does_not_garble_the_error(text: str, value: str) -> None:
    (error,) = errors_of(f"clusters: {{u: {{endpoints: ['a:1']}}}}\n{text}\n", {"V": value})
    assert len(str(error)) < 150
    assert error.reason.count("${V}") <= 1


def test_a_value_without_worth_leaves_the_error_as_it_is() -> None:
    (error,) = errors_of("clusters: {u: {endpoints: ['a:1'], retry: {attempts: ${N}}}}", {"N": "0"})
    assert error.reason == "must be at least 1"


def test_an_error_elsewhere_does_not_tell_it_either() -> None:
    text = """
        clusters: {u: {endpoints: ['a:1'], listen: 'h-${V}:1'}}
        listeners: {o: {bind: 'h-${V}:1', routes: [{to: u, name: 'n-${V}'}, {to: u, name: 'n-${V}', match: {path: /}}]}}
    """
    lines = lines_of(text, {"V": CANARY})
    assert len(lines) >= 2
    assert not tells(" ".join(lines), CANARY), lines


@pytest.mark.parametrize(
    "text",
    [
        "headers: {request: {set: {authorization: 1234567890}}}",
        "headers: {request: {set: {x-api-key: 1234567890}}}",
        "match: {headers: {cookie: {present: 1234567890}}}",
    ],
)
def test_what_stands_under_a_secret_name_is_not_quoted(text: str) -> None:
    assert "123456" not in " ".join(lines_of(ROUTE % text))


def test_a_broken_reference_does_not_show_its_default() -> None:
    for text in ("${V:-hunter2", "${1V:-hunter2}", "${V-x:-hunter2}"):
        assert "hunter2" not in " ".join(lines_of(f"service: '{text}'"))


def test_a_variable_that_is_no_text_is_refused() -> None:
    (error,) = errors_of("service: ${V}", {"V": "\udcff\udcfe"})
    assert error.reason == "variable V is not UTF-8"


def test_the_shown_configuration_has_none() -> None:
    env = {"A": f"{CANARY}-a", "DB_PASSWORD": f"{CANARY}-b", "MY_KEY": f"{CANARY}-c", "PLAIN": "db.internal"}
    spec = load(
        """
        service: 'checkout-${MY_KEY}'
        access_log: '/var/log/${DB_PASSWORD}'
        clusters: {u: {endpoints: ['${PLAIN}:1']}}
        listeners:
          o:
            bind: a:1
            routes:
              - match: {headers: {x-plain: '${A}', x-other: {regex: '.*${A}.*'}}}
                to: u
                headers:
                  request: {set: {x-plain: '${A}', x-cb: 'https://me:hunter2@h/', x-b: 'Bearer hunter2'}}
                  response: {add: {x-auth: hunter2, x-signature: hunter2}}
              - respond: {body: 'hello ${A}', headers: {x-plain: '${A}'}}
        """,
        env,
    )
    text = repr(masked(spec))
    assert CANARY not in text
    assert "hunter2" not in text
    assert "'db.internal:1'" in text
    assert "hello ***" in text


def test_a_cluster_may_be_called_what_it_likes() -> None:
    spec = load(
        """
        admin: {token_file: /run/token}
        clusters: {auth: {endpoints: ["a:1"]}, token-service: {endpoints: ["b:1"]}}
        listeners: {secrets: {bind: "a:1", routes: [{to: auth}]}}
        """
    )
    shown = masked(spec)
    assert shown["clusters"]["auth"]["endpoints"][0]["address"] == "a:1"
    assert shown["clusters"]["token-service"]["timeouts"]["request"] == "15s"
    assert shown["listeners"]["secrets"]["bind"] == "a:1"
    assert shown["admin"]["token_file"] == "/run/token"
    (error,) = errors_of("clusters: {auth: {endpoints: [a:1], retry: {attempts: 99}}}")
    assert error.reason == "must be at most 10"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://me:pw@db:1/0", "redis://***@db:1/0"),
        ("https://token@h/p?q", "https://***@h/p?q"),
        ("write me:pw@db:1", "write ***@db:1"),
        ("Bearer abcdef", "Bearer ***"),
        ("x basic dXNlcjpwdw==, y", "x basic ***, y"),
        ("me@example.org", "me@example.org"),
        ("10.0.0.1:80", "10.0.0.1:80"),
    ],
)
def test_credentials_in_text(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


def test_names_that_sound_secret() -> None:
    for name in ("Authorization", "x-api-key", "X-Auth", "cookie", "set-cookie", "x-auth-token", "db_passwd", "jwt"):
        assert sounds_secret(name), name
    for name in ("author", "x-user", "key", "authority", "accept", "sessions", "tls"):
        assert not sounds_secret(name), name
    for name in ("API_KEY", "DB_PASS", "REDIS_DSN", "AUTH", "TOKEN_FILE"):
        assert variable_sounds_secret(name), name
    for name in ("HOST", "KEYBOARD", "PASSENGERS", "NAMESPACE"):
        assert not variable_sounds_secret(name), name


def test_a_sentence_tells_a_part_of_a_value() -> None:
    assert tells("'hunt... is no host", "HUNTER2")
    assert not tells("is no host", "HUNTER2")
    assert tells("not 12", "12")
    assert not tells("anything", "")
