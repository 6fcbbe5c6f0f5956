"""From files and texts to a Spec, or to every error with its place."""

import json
import os
from pathlib import Path

import pytest

from sidecar.config.errors import ConfigErrors
from sidecar.config.load import MAX_BYTES, load_file, load_text
from sidecar.config.mask import masked
from sidecar.config.schema import Spec
from tests.config.loading import cluster, errors_of, lines_of, load


def file_error(path: Path) -> str:
    with pytest.raises(ConfigErrors) as caught:
        load_file(str(path), {})
    return str(caught.value)


class TestFiles:
    def test_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.yaml"
        path.write_text("service: ${NAME}\n")
        assert load_file(str(path), {"NAME": "x"}).service == "x"

    def test_missing(self, tmp_path: Path) -> None:
        path = tmp_path / "a.yaml"
        hint = "`sidecar init FILE` writes a starter"
        assert file_error(path) == f"{path}:1:1: cannot be read: No such file or directory ({hint})"

    def test_a_directory(self, tmp_path: Path) -> None:
        assert file_error(tmp_path) == f"{tmp_path}:1:1: cannot be read: Is a directory"

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_unreadable(self, tmp_path: Path) -> None:
        path = tmp_path / "a.yaml"
        path.touch(0o000)
        assert file_error(path) == f"{path}:1:1: cannot be read: Permission denied"

    @pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null\n"])
    def test_empty(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "a.yaml"
        path.write_text(text)
        assert file_error(path) == f"{path}:1:1: is empty (`sidecar init` writes a starter)"

    def test_not_utf8(self, tmp_path: Path) -> None:
        path = tmp_path / "a.yaml"
        path.write_bytes("service: a\nä: ".encode() + b"\xff\n")
        assert file_error(path) == f"{path}:2:4: is not UTF-8"

    def test_too_large(self, tmp_path: Path) -> None:
        path = tmp_path / "a.yaml"
        path.write_bytes(b"#" * (MAX_BYTES + 1))
        assert file_error(path) == f"{path}:1:1: is larger than 1 MiB"

    def test_a_byte_order_mark_is_no_part_of_the_text(self, tmp_path: Path) -> None:
        path = tmp_path / "a.yaml"
        path.write_bytes(b"\xef\xbb\xbfservice: x\n")
        assert load_file(str(path), {}).service == "x"

    def test_a_pipe_is_read(self, tmp_path: Path) -> None:
        """`sidecar run -c <(make-my-yaml)`."""
        reader, writer = os.pipe()
        os.write(writer, b"service: x\n")
        os.close(writer)
        assert load_file(f"/dev/fd/{reader}", {}).service == "x"
        os.close(reader)

    def test_a_path_that_cannot_be(self) -> None:
        with pytest.raises(ConfigErrors):
            load_file("a\x00b", {})


@pytest.mark.parametrize("text", ["- 1", "x", "1"])
def test_the_root_is_a_mapping(text: str) -> None:
    assert lines_of(text) == ["f.yaml:1:1: must be a mapping"]


def test_all_errors_at_once_in_the_order_of_the_file() -> None:
    text = """\
        service: ${NOT_SET}
        shutdown: 5
        clusters:
          u:
            endpoints: ["a:1"]
            endpoints: []
            retry: {attempts: 0, backof: {}}
        listeners:
          o:
            bind: 127.0.0.1
            routes: [{to: v}]
    """
    assert lines_of(text) == [
        "f.yaml:1:10: service: variable NOT_SET is not set (set it, or write ${NOT_SET:-default})",
        "f.yaml:2:11: shutdown: 5 has no unit (write 5s)",
        "f.yaml:6:5: clusters.u: key 'endpoints' stands twice (first at line 5, column 5)",
        "f.yaml:7:23: clusters.u.retry.attempts: must be at least 1",
        "f.yaml:7:26: clusters.u.retry.backof: unknown key (did you mean backoff?)",
        "f.yaml:10:11: listeners.o.bind: an address is host:port, [v6]:port or unix:/path",
        "f.yaml:11:19: listeners.o.routes[0].to: no cluster 'v' (known: u)",
    ]


def test_two_keys_that_are_missing_in_one_mapping() -> None:
    text = """\
        listeners:
          o: {bind: "127.0.0.1:0", tls: {}, routes: [{respond: {status: 200}}]}
    """
    assert lines_of(text) == [
        "f.yaml:2:33: listeners.o.tls.cert: is required",
        "f.yaml:2:33: listeners.o.tls.key: is required",
    ]


def test_a_missing_key_is_told_where_it_is_missing() -> None:
    assert lines_of("clusters:\n  u:\n    protocol: http1\n") == ["f.yaml:3:5: clusters.u.endpoints: is required"]


class TestDefaults:
    def test_mappings_merge_and_lists_do_not(self) -> None:
        spec = load(
            """
            defaults:
              timeouts: {connect: 2s, request: 9s}
              retry: {on: [reset], attempts: 5}
            clusters:
              u: {endpoints: ["a:1"], timeouts: {request: 3s}, retry: {on: [503]}}
              v: {endpoints: ["a:1"]}
            """
        )
        u, v = spec.clusters["u"], spec.clusters["v"]
        assert (u.timeouts.connect, u.timeouts.request, u.retry.on, u.retry.attempts) == (2.0, 3.0, [503], 5)
        assert (v.timeouts.connect, v.timeouts.request, v.retry.on, v.retry.attempts) == (2.0, 9.0, ["reset"], 5)

    def test_a_cluster_takes_a_default_away(self) -> None:
        spec = load(
            """
            defaults: {tls: {}, health_check: {tcp: {}}}
            clusters: {u: {endpoints: ["a:1"], tls: null, health_check: null}, v: {endpoints: ["a:1"]}}
            """
        )
        u, v = spec.clusters["u"], spec.clusters["v"]
        assert (u.tls, u.health_check) == (None, None)
        assert v.tls is not None
        assert v.health_check is not None

    def test_another_kind_takes_its_place(self) -> None:
        spec = load(
            """
            defaults: {health_check: {tcp: {}, interval: 9s}, balance: {policy: maglev, key: path, slow_start: 1s}}
            clusters: {u: {endpoints: ["a:1"], health_check: {grpc: {}}, balance: {policy: random}}}
            """
        )
        check, balance = spec.clusters["u"].health_check, spec.clusters["u"].balance
        assert check is not None
        assert (check.tcp, check.grpc is None, check.interval) == (None, False, 9.0)
        assert (balance.policy, balance.key, balance.slow_start) == ("random", None, 1.0)

    def test_a_mistake_in_them_is_told_once_and_there(self) -> None:
        text = """\
            defaults:
              retry: {attempts: 99}
            clusters: {u: {endpoints: ["a:1"]}, v: {endpoints: ["a:1"]}}
        """
        assert lines_of(text) == ["f.yaml:2:21: defaults.retry.attempts: must be at most 10"]

    def test_what_only_the_two_together_get_wrong(self) -> None:
        text = """\
            defaults: {retry: {backoff: {max: 50ms}}}
            clusters:
              u: {endpoints: ["a:1"], retry: {backoff: {base: 60ms}}}
        """
        assert lines_of(text) == ["f.yaml:3:44: clusters.u.retry.backoff: max is shorter than base"]


def test_the_service_is_the_host_when_nobody_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "box")
    assert load("clusters: {}").service == "box"
    assert load("service:\n").service == "box"
    assert load("service: a", {"SIDECAR_SERVICE": "b"}).service == "a"


def test_an_error_is_one_line_whatever_the_file_holds() -> None:
    with pytest.raises(ConfigErrors) as caught:
        load_text('"a\\nb": 1\nshutdown: "x\\ny"', "f", {})
    assert len(str(caught.value).splitlines()) == len(caught.value.errors) == 2


class TestMasked:
    def test_secrets_do_not_show(self) -> None:
        spec = load(
            """
            clusters: {u: {endpoints: ["a:1"]}}
            listeners:
              o:
                bind: a:1
                routes:
                  - match: {headers: {Authorization: hush1, cookie: {regex: hush2}, x-ok: seen}}
                    to: u
                    headers: {request: {set: {x-api-key: hush3, x-url: "redis://me:hush4@db/0"}}}
            """
        )
        text = repr(masked(spec))
        assert "hush" not in text
        assert "seen" in text
        assert "redis://***@db/0" in text

    def test_it_is_the_effective_configuration_and_loads_again(self) -> None:
        spec = load(
            """
            service: s
            defaults: {retry: {attempts: 5}}
            clusters: {u: {endpoints: ["a:1"], listen: "127.0.0.1:1", timeouts: {try: 1500ms}}}
            listeners: {o: {bind: "unix:/x", routes: [{to: u, timeout: 0}]}}
            """
        )
        plain = masked(spec)
        assert plain["clusters"]["u"]["retry"]["attempts"] == 5
        assert plain["clusters"]["u"]["timeouts"]["try"] == "1.5s"
        again = load_text(repr(plain).replace("None", "null").replace("True", "true"), "again", {})
        assert masked(again) == plain

    def test_what_is_not_set_reads_null_but_for_a_routes_keys(self) -> None:
        """A route without `timeouts` has its cluster's; one with `timeouts: {try: null}` has no bound."""
        plain = masked(
            load(
                """
                clusters: {u: {endpoints: ["a:1"]}}
                listeners: {o: {bind: "unix:/x", routes: [{to: u, timeouts: {request: 1s}}]}}
                """
            )
        )
        cluster, listener = plain["clusters"]["u"], plain["listeners"]["o"]
        assert (cluster["tls"], cluster["timeouts"]["try"], listener["tls"]) == (None, None, None)
        assert listener["routes"][0]["timeouts"] == {"request": "1s"}

    def test_the_reference_loads_again_as_it_is_shown(self) -> None:
        plain = masked(load_file("config/reference.yaml", os.environ))
        assert masked(load_text(json.dumps(plain), "again", {})) == plain


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "${" * 200_000,
        "a: " + "$" * 200_000,
        "shutdown: " + "1s" * 200_000,
        "clusters: {u: {endpoints: ['" + "a-" * 200_000 + "!:1']}}",
        "x: " + "[" * 100_000,
        "\n".join(f"k{number}: 1" for number in range(5_000)),
    ],
    ids=["references", "dollars", "duration", "host", "nesting", "keys"],
)
def test_a_hostile_text_takes_no_time(text: str) -> None:
    """Quadratic work would run into the suite's time limit."""
    with pytest.raises(ConfigErrors):
        load_text(text + "\nwrong: 1", "f", {})


def test_the_order_within_a_split_is_a_difference() -> None:
    """Its first cluster gives the route's policies, so a reload must not pass over it."""

    def split(to: str) -> Spec:
        return load(
            "clusters: {a: {endpoints: ['10.0.0.1:1']}, b: {endpoints: ['10.0.0.2:1']}}\n"
            f"listeners: {{l: {{bind: '127.0.0.1:0', routes: [{{to: {to}}}]}}}}"
        )

    assert split("{a: 1, b: 1}").same_as(split("{a: 1, b: 1}"))
    assert not split("{a: 1, b: 1}").same_as(split("{b: 1, a: 1}"))
    assert not split("{a: 1, b: 1}").same_as(split("{a: 1, b: 2}"))


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("'10'", "write 10 without quotes"),
        ("99999999999999999999", "18 digits at most, and no zero before them"),
        ("010", "18 digits at most, and no zero before them"),
        ("1e3", ""),
    ],
)
def test_how_a_number_is_written_is_told(written: str, hint: str) -> None:
    (error,) = errors_of(cluster(f"limits: {{requests: {written}}}"))
    assert (error.reason, error.hint) == ("must be a whole number", hint)
