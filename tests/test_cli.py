"""The commands, with their exit codes: 0 done, 1 failed, 2 bad usage or bad config."""

import json
import os
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import sidecar
from sidecar import cli

GOOD = "clusters: {u: {endpoints: ['a:1'], listen: '127.0.0.1:0'}}\n"


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("SIDECAR_CONFIG", "SIDECAR_ADMIN", "SIDECAR_SERVICE"):
        monkeypatch.delenv(name, raising=False)


def run(*args: str) -> Result:
    result = CliRunner().invoke(cli.main, args)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


class TestCheck:
    def test_a_good_file(self) -> None:
        Path("a.yaml").write_text(GOOD)
        result = run("check", "a.yaml")
        assert (result.exit_code, result.output) == (0, "a.yaml: ok, 1 cluster, 1 listener\n")

    def test_one_line_for_each_error(self) -> None:
        Path("a.yaml").write_text("servic: x\nshutdown: 5\n")
        result = run("check", "a.yaml")
        assert result.exit_code == 2
        assert result.stdout.splitlines() == [
            "a.yaml:1:1: servic: unknown key (did you mean service?)",
            "a.yaml:2:11: shutdown: 5 has no unit (write 5s)",
        ]

    def test_a_missing_file(self) -> None:
        result = run("check", "none.yaml")
        assert (result.exit_code, result.stdout) == (
            2,
            "none.yaml:1:1: cannot be read: No such file or directory (`sidecar init FILE` writes a starter)\n",
        )

    def test_the_environment_fills_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("a.yaml").write_text("shutdown: ${HOW_LONG}\n")
        assert run("check", "a.yaml").exit_code == 2
        monkeypatch.setenv("HOW_LONG", "1s")
        assert run("check", "a.yaml").exit_code == 0


class TestDefaultFile:
    def test_the_order(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert cli.default_file() == "/etc/sidecar/sidecar.yaml"
        Path("config").mkdir()
        Path("config/sidecar.yaml").touch()
        assert cli.default_file() == "config/sidecar.yaml"
        monkeypatch.setenv("SIDECAR_CONFIG", "mine.yaml")
        assert cli.default_file() == "mine.yaml"
        monkeypatch.setenv("SIDECAR_CONFIG", "")
        assert cli.default_file() == "config/sidecar.yaml"


class TestRun:
    @pytest.mark.parametrize(("args", "path"), [(("-c", "a.yaml"), "a.yaml"), ((), "/etc/sidecar/sidecar.yaml")])
    def test_it_hands_the_file_over_and_the_exit_code_back(
        self, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], path: str
    ) -> None:
        asked: list[str] = []
        app = types.ModuleType("sidecar.app")

        def run_app(path: str) -> int:
            asked.append(path)
            return 1

        app.run = run_app  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "sidecar.app", app)
        monkeypatch.setattr(sidecar, "app", app, raising=False)
        assert run("run", *args).exit_code == 1
        assert asked == [path]


def test_demo_hands_its_options_over(monkeypatch: pytest.MonkeyPatch) -> None:
    import sidecar.demo

    asked: list[object] = []

    def main(seconds: float | None, keep: bool, as_json: bool) -> int:
        asked.append((seconds, keep, as_json))
        return 0

    monkeypatch.setattr(sidecar.demo, "main", main, raising=False)
    assert run("demo", "--seconds", "3", "--json").exit_code == 0
    assert asked == [(3.0, False, True)]


def test_schema_is_json() -> None:
    result = run("schema")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["title"] == "sidecar configuration"


class TestExplain:
    def test_in_words(self) -> None:
        Path("a.yaml").write_text(GOOD)
        result = run("explain", "a.yaml", "GET", "http://x/y", "-H", "x-a: b")
        assert result.exit_code == 0
        assert "u[0]: matches" in result.stdout
        assert "request 15s" in result.stdout

    def test_as_json(self) -> None:
        Path("a.yaml").write_text(GOOD)
        (found,) = json.loads(run("explain", "a.yaml", "GET", "/", "--json").stdout)
        assert (found["route"], list(found["targets"])) == ("u[0]", ["u"])

    @pytest.mark.parametrize("args", [("GET", "x"), ("G T", "/"), ("GET", "/", "-H", "nothing")])
    def test_what_is_no_request(self, args: tuple[str, ...]) -> None:
        Path("a.yaml").write_text(GOOD)
        assert run("explain", "a.yaml", *args).exit_code == 2

    def test_a_bad_file(self) -> None:
        Path("a.yaml").write_text("x: 1")
        assert run("explain", "a.yaml", "GET", "/").exit_code == 2


class TestInit:
    def test_it_writes_a_starter_that_is_good(self) -> None:
        assert run("init").exit_code == 0
        assert run("check").stdout.startswith("config/sidecar.yaml: ok")

    def test_it_never_overwrites(self) -> None:
        Path("mine.yaml").write_text("mine")
        result = run("init", "mine.yaml")
        assert (result.exit_code, result.stderr) == (1, "sidecar: mine.yaml exists and stays as it is\n")
        assert Path("mine.yaml").read_text() == "mine"

    def test_not_even_through_a_dangling_link(self) -> None:
        os.symlink("elsewhere.yaml", "link.yaml")
        assert run("init", "link.yaml").exit_code == 1
        assert not Path("elsewhere.yaml").exists()

    def test_where_nothing_can_be_written(self) -> None:
        Path("file").touch()
        result = run("init", "file/a.yaml")
        assert result.exit_code == 1
        assert "cannot be written" in result.stderr or "stays as it is" in result.stderr


CLUSTERS = {
    "clusters": [
        {
            "name": "users[1]",
            "policy": "peak_ewma",
            "requests": {"in_flight": 7, "total": 1234},
            "retry_budget_remaining": 42.5,
            "panic": True,
            "endpoints": [
                {
                    "address": f"10.0.0.{number}:50051",
                    "weight": 1,
                    "zone": "",
                    "priority": 0,
                    "healthy": number != 2,
                    "usable": number == 1,
                    "draining": number == 3,
                    "ejected": number == 4,
                    "breaker": breaker,
                    "in_flight": 3,
                    "ewma_ms": 12.34,
                    "attempts": {"success": 100, "failure": 20, "ignored": 3},
                }
                for number, breaker in ((1, "closed"), (2, "open"), (3, "half_open"), (4, "closed"))
            ],
        }
    ]
}


class Admin:
    """An admin API that answers what it is told to."""

    def __init__(self) -> None:
        self.status = 200
        self.body = json.dumps(CLUSTERS).encode()
        self.seen: list[str] = []
        admin = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                admin.seen.append(f"{self.command} {self.path}")
                self.send_response(admin.status)
                self.send_header("content-length", str(len(admin.body)))
                self.end_headers()
                self.wfile.write(admin.body)

            do_POST = do_GET

            def log_message(self, *args: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})


@pytest.fixture
def admin() -> Iterator[Admin]:
    api = Admin()
    api.thread.start()
    yield api
    api.server.shutdown()
    api.server.server_close()
    api.thread.join()


class TestStatus:
    def test_a_table(self, admin: Admin) -> None:
        result = run("status", "--admin", admin.url)
        assert result.exit_code == 0
        assert admin.seen == ["GET /api/clusters"]
        for word in (
            "users[1]",
            "1234",
            "42.5",
            "10.0.0.1:50051",
            "usable",
            "unhealthy",
            "draining",
            "half_open",
            "ejected",
            "panic",
        ):
            assert word in result.stdout

    def test_as_json(self, admin: Admin) -> None:
        assert json.loads(run("status", "--admin", f"{admin.url}/", "--json").stdout) == CLUSTERS

    @pytest.mark.parametrize(("as_json", "word"), [([], "10.0.0.1:50051"), (["--json"], '"clusters": [')])
    def test_watched_off_a_terminal_each_look_is_printed(
        self, admin: Admin, monkeypatch: pytest.MonkeyPatch, as_json: list[str], word: str
    ) -> None:
        waits = iter([None, KeyboardInterrupt])

        def sleep(seconds: float) -> None:
            if (ends := next(waits)) is not None:
                raise ends

        monkeypatch.setattr("sidecar.cli.time.sleep", sleep)
        result = run("status", "--admin", admin.url, "--watch", *as_json)
        assert result.exit_code == 0
        assert len(admin.seen) == 2
        assert result.stdout.count(word) == 2

    def test_the_environment_names_the_admin(self, admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SIDECAR_ADMIN", admin.url.removeprefix("http://"))
        # Through a proxy nothing would come back from here.
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        assert run("status").exit_code == 0

    @pytest.mark.parametrize(
        ("status", "body", "words"),
        [
            (503, b"", "answered 503"),
            (200, b"<html>", "answered no JSON"),
            (200, b"[]", "something else than clusters"),
            (200, b'{"clusters": [{}]}', "something else than clusters"),
        ],
    )
    def test_answers_that_are_none(self, admin: Admin, status: int, body: bytes, words: str) -> None:
        admin.status, admin.body = status, body
        result = run("status", "--admin", admin.url)
        assert result.exit_code == 1
        assert words in result.stderr
        assert len(result.stderr.splitlines()) == 1

    def test_nobody_there(self) -> None:
        with socket.socket() as bound:
            # Bound and not listening: nobody else can take the port, and nobody answers.
            bound.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{bound.getsockname()[1]}"
            result = run("status", "--admin", url)
        assert result.exit_code == 1
        assert result.stderr == f"sidecar: no sidecar answers at {url}: Connection refused\n"

    @pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a"])
    def test_what_is_no_url(self, url: str) -> None:
        assert run("status", "--admin", url).exit_code == 2


class TestWait:
    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (
                b'{"checks": {"config": {"status": "ok", "message": ""}, '
                b'"wait_for": {"status": "failed", "message": "no usable endpoint yet: users"}}}',
                "not ready within 0s: wait_for: no usable endpoint yet: users\n",
            ),
            (b"[]", "/readyz answered 503 Service Unavailable\n"),
            (b'{"checks": [1]}', "/readyz answered 503 Service Unavailable\n"),
            (b"busy", "/readyz answered 503 Service Unavailable\n"),
        ],
    )
    def test_it_says_what_is_missing(self, admin: Admin, body: bytes, words: str) -> None:
        admin.status, admin.body = 503, body
        result = run("wait", "--admin", admin.url, "--timeout", "0s")
        assert result.exit_code == 1
        assert result.stderr.endswith(words)


def test_drain(admin: Admin) -> None:
    admin.body = b"{}"
    assert run("drain", "--admin", admin.url).exit_code == 0
    assert admin.seen == ["POST /api/drain"]


def test_bad_usage_is_2() -> None:
    assert run("chekc").exit_code == 2
    assert run("explain").exit_code == 2
    assert run("demo", "--seconds", "x").exit_code == 2


@pytest.mark.parametrize("command", sorted(cli.main.commands))
def test_every_command_has_help(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 3


def test_version() -> None:
    result = run("version")
    assert result.exit_code == 0
    assert result.stdout.startswith("sidecar ")


def test_as_a_module_and_without_what_a_command_does_not_need() -> None:
    root = str(Path(sidecar.__file__).parents[1])
    code = (
        "import sys; sys.argv = ['sidecar', 'version']\n"
        "import sidecar.cli\n"
        "try: sidecar.cli.main()\n"
        "except SystemExit as end: assert not end.code\n"
        "print(sorted({'rich', 'pydantic', 'yaml', 'aiohttp', 'grpc'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.splitlines()[-1] == "[]"
    module = subprocess.run(
        [sys.executable, "-m", "sidecar", "version"], cwd=root, capture_output=True, text=True, check=True, timeout=30
    )
    assert module.stdout == done.stdout.splitlines()[0] + "\n"
