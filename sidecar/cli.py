"""The `sidecar` command. Exit codes: 0 done, 1 failed while running, 2 bad usage or bad config.

Each command imports what it needs when it runs: a running sidecar holds no
table printer in its memory, and `sidecar version` starts at once.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from rich.table import Table

    from sidecar.admin.client import AdminApi
    from sidecar.config.schema import Spec

_FAILED = 1
_BAD_CONFIG = 2
_SYSTEM_FILE = "/etc/sidecar/sidecar.yaml"
_LOCAL_FILE = "config/sidecar.yaml"
_ASK_SECONDS = 0.1
_DEFAULT_ADMIN = "http://127.0.0.1:15000"


def default_file() -> str:
    """$SIDECAR_CONFIG, else config/sidecar.yaml when it is there, else /etc/sidecar/sidecar.yaml."""
    named = os.environ.get("SIDECAR_CONFIG")
    if named:
        return named
    return _LOCAL_FILE if os.path.exists(_LOCAL_FILE) else _SYSTEM_FILE


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """A resilience sidecar: retries, breakers and load balancing for HTTP and gRPC."""


@main.command()
@click.option(
    "-c",
    "--config",
    "path",
    metavar="FILE",
    help="Default: $SIDECAR_CONFIG, else config/sidecar.yaml, else /etc/sidecar/sidecar.yaml.",
)
def run(path: str | None) -> None:
    """Run until SIGTERM or SIGINT. SIGHUP or a changed file reloads."""
    from sidecar import app

    sys.exit(app.run(path or default_file()))


@main.command()
@click.argument("file", required=False)
def check(file: str | None) -> None:
    """Validate FILE: one line per error, and exit code 2 if there is any."""
    path = file or default_file()
    spec = _load(path)
    clusters, listeners = len(spec.clusters), len(spec.all_listeners())
    click.echo(f"{path}: ok, {_count(clusters, 'cluster')}, {_count(listeners, 'listener')}")


@main.command()
def schema() -> None:
    """Print the JSON Schema of the YAML."""
    from sidecar.config.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@main.command()
@click.argument("file")
@click.argument("method")
@click.argument("url")
@click.option("-H", "--header", "headers", multiple=True, metavar="K:V", help="A request header; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(file: str, method: str, url: str, headers: tuple[str, ...], as_json: bool) -> None:
    """Show which route, cluster and policy a request gets, and why."""
    from sidecar.config.explain import explain as explain_request
    from sidecar.config.explain import request_head
    from sidecar.config.units import BadValueError

    spec = _load(file)
    try:
        head = request_head(method, url, [_header(text) for text in headers])
    except BadValueError as error:
        raise click.UsageError(f"{error.reason}{f' ({error.hint})' if error.hint else ''}") from None
    found = explain_request(spec, head)
    if as_json:
        click.echo(json.dumps([each.as_json() for each in found], indent=2))
        return
    for each in found:
        click.echo("\n".join(each.lines()))
    if not found:
        click.echo("no listener: nothing is received")


@main.command()
@click.option("--seconds", type=click.FloatRange(min=1), default=None, metavar="N", help="How long the traffic lasts.")
@click.option("--keep", is_flag=True, help="Keep everything running at the end, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def demo(seconds: float | None, keep: bool, as_json: bool) -> None:
    """Send the same traffic to faulty services straight and through a sidecar, and compare."""
    import sidecar.demo

    sys.exit(sidecar.demo.main(seconds, keep, as_json))


def _admin_options(command: Callable[..., None]) -> Callable[..., None]:
    """--admin and --token-file."""
    where = f"Default: $SIDECAR_ADMIN, else {_DEFAULT_ADMIN}. Or unix:/path."
    token = "Holds the admin API's bearer token. Default: $SIDECAR_ADMIN_TOKEN_FILE."
    command = click.option("--token-file", metavar="FILE", envvar="SIDECAR_ADMIN_TOKEN_FILE", help=token)(command)
    return click.option("--admin", metavar="URL", help=where)(command)


@main.command()
@_admin_options
@click.option("--watch", is_flag=True, help="Refresh every second until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print what the admin API answers.")
def status(admin: str | None, token_file: str | None, watch: bool, as_json: bool) -> None:
    """Show clusters, endpoints, breakers and load as a table."""
    api = admin_api(admin, token_file)
    from rich.console import Console
    from rich.live import Live

    # Off a terminal there is no width to fit into: no name may be cut. Nor can anything be
    # drawn over there: one look is printed after the other.
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else 160)
    with Live(console=console, auto_refresh=False) if watch and terminal and not as_json else nullcontext() as live:
        try:
            while True:
                found = call_admin(api, "GET", "/api/clusters")
                if live is not None:
                    live.update(status_table(found), refresh=True)
                elif as_json:
                    click.echo(json.dumps(found, indent=2))
                else:
                    console.print(status_table(found))
                sys.stdout.flush()
                if not watch:
                    return
                time.sleep(1)
        except KeyboardInterrupt:
            return


@main.command()
@_admin_options
def drain(admin: str | None, token_file: str | None) -> None:
    """Make a running sidecar finish what it has and take nothing new."""
    api = admin_api(admin, token_file)
    call_admin(api, "POST", "/api/drain")
    click.echo(f"{api.base} drains")


@main.command()
@_admin_options
@click.option("--timeout", metavar="DURATION", default="60s", show_default=True, help="How long to wait at most.")
def wait(admin: str | None, token_file: str | None, timeout: str) -> None:
    """Wait until a sidecar is ready: for a postStart hook, or before a Job's work."""
    from sidecar.admin.client import AdminError
    from sidecar.config.units import BadValueError, parse_duration

    try:
        end = time.monotonic() + parse_duration(timeout)
    except BadValueError as error:
        raise click.UsageError(f"--timeout: {error.reason}{f' ({error.hint})' if error.hint else ''}") from None
    api = admin_api(admin, token_file)
    while True:
        try:
            api.call("GET", "/readyz")
            return
        except AdminError as error:
            if time.monotonic() >= end:
                _fail(f"not ready within {timeout}: {_missing(error.body) or error}")
        time.sleep(_ASK_SECONDS)


@main.command()
@click.argument("file", required=False, default=_LOCAL_FILE)
def init(file: str) -> None:
    """Write a commented starter to FILE (config/sidecar.yaml). Never overwrites."""
    from importlib.resources import files

    text = files("sidecar.config").joinpath("starter.yaml").read_text(encoding="utf-8")
    try:
        os.makedirs(os.path.dirname(file) or ".", exist_ok=True)
        # x: two of us at once, or a dangling symlink, and still nothing is overwritten.
        with open(file, "x", encoding="utf-8") as target:
            target.write(text)
    except FileExistsError:
        _fail(f"{file} exists and stays as it is")
    except (OSError, ValueError) as error:
        _fail(f"{file} cannot be written: {getattr(error, 'strerror', None) or error}")
    click.echo(f"wrote {file}: see `sidecar check {file}` and `sidecar run -c {file}`")


@main.command()
def version() -> None:
    """Print the version."""
    from sidecar import __version__

    click.echo(f"sidecar {__version__}")


def admin_api(given: str | None, token_file: str | None) -> "AdminApi":
    """The admin API to call; a usage error when the URL is none."""
    from sidecar.admin.client import AdminApi
    from sidecar.admin.token import TokenError, read_token

    url = (given or os.environ.get("SIDECAR_ADMIN") or _DEFAULT_ADMIN).rstrip("/")
    if "://" not in url and not url.startswith("unix:"):
        url = f"http://{url}"
    try:
        token = read_token(token_file).decode() if token_file else None
        return AdminApi(url, token)
    except TokenError as error:
        _fail(str(error))
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def call_admin(api: "AdminApi", method: str, path: str) -> Any:
    """What the admin API answers; ends with one clear line and exit code 1 when it does not."""
    from sidecar.admin.client import AdminError

    try:
        body = api.call(method, path)
    except AdminError as error:
        _fail(str(error))
    try:
        return json.loads(body or b"null")
    except ValueError:
        _fail(f"{api.base}{path} answered no JSON: is this a sidecar's admin port?")


def _missing(body: bytes) -> str:
    """What an answer of /readyz says is missing; empty for an answer that is none."""
    try:
        checks = json.loads(body)["checks"].items()
        return "; ".join(f"{name}: {check['message']}" for name, check in checks if check["status"] == "failed")
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""


def _fail(message: str) -> NoReturn:
    click.echo(f"sidecar: {message}", err=True)
    sys.exit(_FAILED)


def _load(path: str) -> "Spec":
    from sidecar.config.errors import ConfigErrors
    from sidecar.config.load import load_file

    try:
        return load_file(path, os.environ)
    except ConfigErrors as errors:
        click.echo(str(errors))
        sys.exit(_BAD_CONFIG)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        # Not shown: it may be a credential without its name.
        raise click.UsageError("-H has no colon: write -H 'name: value'")
    return name.strip(), value.strip()


def status_table(answer: Any) -> "Table":
    """The answer of /api/clusters as a table: a line for each cluster and each endpoint."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("cluster", "endpoint", "state", "breaker"):
        table.add_column(title, no_wrap=True)
    for title in ("in flight", "ewma", "ok", "failed", "ignored"):
        table.add_column(title, justify="right", no_wrap=True)
    try:
        for cluster in answer["clusters"]:
            requests, budget = cluster["requests"], cluster["retry_budget_remaining"]
            load = f"{requests['in_flight']}"
            about = f"{cluster['policy']}, {requests['total']} requests, {budget:g} retries left"
            panic = "[red]panic[/]" if cluster.get("panic") else ""
            table.add_row(escape(cluster["name"]), escape(about), panic, "", load, "", "", "", "", style="bold")
            for endpoint in cluster["endpoints"]:
                table.add_row("", *_endpoint_cells(endpoint))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        _fail(f"the admin API answered something else than clusters ({error!r}): is it another version?")
    return table


def _endpoint_cells(endpoint: dict[str, Any]) -> list[str]:
    attempts, breaker, ewma = endpoint["attempts"], endpoint["breaker"], endpoint["ewma_ms"]
    if endpoint["draining"]:
        state = "[yellow]draining[/]"
    elif not endpoint["healthy"]:
        state = "[red]unhealthy[/]"
    elif endpoint.get("ejected"):
        state = "[red]ejected[/]"
    else:
        state = "[green]usable[/]" if endpoint["usable"] else "[red]not usable[/]"
    color = {"closed": "green", "half_open": "yellow"}.get(breaker, "red")
    return [
        str(endpoint["address"]),
        state,
        f"[{color}]{breaker}[/]",
        str(endpoint["in_flight"]),
        f"{ewma:.1f} ms" if ewma else "-",
        str(attempts["success"]),
        str(attempts["failure"]),
        str(attempts["ignored"]),
    ]
