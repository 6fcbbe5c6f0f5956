from collections.abc import Callable

import pytest

from sidecar.config import grammar
from sidecar.config.units import BadValueError
from sidecar.model.address import Address


@pytest.mark.parametrize(
    ("parse", "text", "canonical"),
    [
        (grammar.parse_bind, "127.0.0.1:0", Address("127.0.0.1", 0)),
        (grammar.parse_bind, "[::1]:80", Address("::1", 80)),
        (grammar.parse_bind, "unix:/run/a.sock", Address("", 0, "/run/a.sock")),
        (grammar.parse_target, "my_app.local:8080", Address("my_app.local", 8080)),
        (grammar.parse_host, "Users.Internal", "users.internal"),
        (grammar.parse_host, "*.Internal", "*.internal"),
        (grammar.parse_host, "[::1]", "[::1]"),
        (grammar.parse_allowed, "*.Example.com:443", "*.example.com:443"),
        (grammar.parse_allowed, "*:443", "*:443"),
        (grammar.parse_grpc, "pkg.Users/Get", "/pkg.Users/Get"),
        (grammar.parse_grpc, "/pkg.Users/*", "/pkg.Users/*"),
        (grammar.parse_grpc, "a.b.*", "/a.b.*"),
        (grammar.parse_grpc, "Greeter/Hello", "/Greeter/Hello"),
        (grammar.parse_repeatable, "a.B/C", "/a.B/C"),
        (grammar.parse_repeatable, "POST /x*", "POST /x*"),
        (grammar.parse_field_name, "X-User", "x-user"),
        (grammar.parse_field_value, " a\tb ", "a\tb"),
        (grammar.parse_balance_key, "header:X-User", "header:x-user"),
        (grammar.parse_balance_key, "cookie:SID", "cookie:SID"),
        (grammar.parse_balance_key, "source", "source"),
        (grammar.parse_method, "PURGE", "PURGE"),
        (grammar.parse_name, "users-v1.eu/1", "users-v1.eu/1"),
    ],
)
def test_canonical_forms(parse: Callable[[object], object], text: str, canonical: object) -> None:
    assert parse(text) == canonical


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (grammar.parse_bind, "127.0.0.1"),
        (grammar.parse_bind, "127.0.0.300:80"),
        (grammar.parse_bind, "[::g]:80"),
        (grammar.parse_bind, "::1:80"),
        (grammar.parse_bind, "a b:80"),
        (grammar.parse_bind, "a:70000"),
        (grammar.parse_bind, "unix:"),
        (grammar.parse_bind, "unix:/" + "x" * 107),
        (grammar.parse_bind, 80),
        (grammar.parse_target, "a:0"),
        (grammar.parse_host, "*"),
        (grammar.parse_host, "a.*.b"),
        (grammar.parse_host, "http://a"),
        (grammar.parse_host, ""),
        (grammar.parse_host, "[::1]:80"),
        (grammar.parse_allowed, "a:0"),
        (grammar.parse_allowed, "a:x"),
        (grammar.parse_path, "x"),
        (grammar.parse_path, "/a?b"),
        (grammar.parse_path, "/a b"),
        (grammar.parse_regex, "("),
        (grammar.parse_regex, "a{1001}"),
        (grammar.parse_regex, "(?!a)b"),
        (grammar.parse_method, "get"),
        (grammar.parse_method, "G T"),
        (grammar.parse_grpc, "pkg/Get/More"),
        (grammar.parse_grpc, "*"),
        (grammar.parse_grpc, "pkg.Users"),
        (grammar.parse_repeatable, "POST x"),
        (grammar.parse_repeatable, "post /x"),
        (grammar.parse_repeatable, "POST /*/x"),
        (grammar.parse_field_name, "a:b"),
        (grammar.parse_edited_field_name, "Transfer-Encoding"),
        (grammar.parse_edited_field_name, "host"),
        (grammar.parse_field_value, "a\r\nb: c"),
        (grammar.parse_field_value, "a\x00"),
        (grammar.parse_balance_key, "header:"),
        (grammar.parse_balance_key, "query"),
        (grammar.parse_balance_key, "cookie:a b"),
        (grammar.parse_name, "a b"),
        (grammar.parse_name, "x" * 129),
    ],
)
def test_what_cannot_stand(parse: Callable[[object], object], text: object) -> None:
    with pytest.raises(BadValueError):
        parse(text)


@pytest.mark.parametrize(
    ("parse", "value", "hint"),
    [
        (grammar.parse_bind, "http://10.0.0.1:80/", "write 10.0.0.1:80"),
        (grammar.parse_host, "users:80", "write users"),
        (grammar.parse_host, "*", "leave host out to match every host"),
        (grammar.parse_method, "get", "write GET"),
        (grammar.parse_path, "healthz", "write /healthz"),
        (grammar.parse_repeatable, "POST /a*b", 'write "POST /a*"'),
        (grammar.parse_edited_field_name, "Host", "use rewrite.host"),
        (grammar.parse_text, 1, 'write "1"'),
        (grammar.parse_text, True, 'write "true"'),
    ],
)
def test_the_hint_says_what_to_write(parse: Callable[[object], object], value: object, hint: str) -> None:
    with pytest.raises(BadValueError) as caught:
        parse(value)
    assert caught.value.hint == hint
