"""What other proxies make of the table of refused requests. Run by hand:

    python -m tests.security.http1.peers [--envoy PATH] [--rows]

HAProxy and nginx are looked for on the path. Each proxy stands before a recording endpoint
with its defaults, and gets every row over a connection of its own. Printed is, for each part
of the table, how many rows were refused with nothing sent on, how many were let through
(the endpoint's own answer came back), and of how many bytes went on although no answer of the
endpoint came back. `--rows` names those that were not refused.
"""

import argparse
import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.security.http1.client import say
from tests.security.http1.recorder import Recorder, recording
from tests.security.http1.refused import TABLES, Refused
from tests.security.http1.scene import serving

# A proxy that waits for more, or keeps the connection, says nothing in this time.
PATIENCE = 0.4

HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
frontend in
  bind 127.0.0.1:%(port)d
  default_backend web
backend web
  server web 127.0.0.1:%(endpoint)d
"""

NGINX = """
daemon off;
worker_processes 1;
pid %(folder)s/pid;
error_log %(folder)s/error.log;
events {}
http {
  access_log off;
  client_body_temp_path %(folder)s/body;
  proxy_temp_path %(folder)s/proxy;
  fastcgi_temp_path %(folder)s/fastcgi;
  uwsgi_temp_path %(folder)s/uwsgi;
  scgi_temp_path %(folder)s/scgi;
  upstream web { server 127.0.0.1:%(endpoint)d; keepalive 4; }
  server {
    listen 127.0.0.1:%(port)d;
    location / { proxy_pass http://web; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
}
"""

ENVOY = """
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: %(port)d}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          route_config:
            virtual_hosts:
            - {name: all, domains: ["*"], routes: [{match: {prefix: "/"}, route: {cluster: web}}]}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: web
    connect_timeout: 5s
    load_assignment:
      cluster_name: web
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %(endpoint)d}}}
"""


async def verdict(case: Refused, port: int, upstream: Recorder) -> str:
    """What became of one row."""
    before = len(upstream.received)
    said = await say(port, case.data, patience=PATIENCE)
    if len(upstream.received) == before:
        return "refused" if said.closed or said.statuses[:1] >= [400] else "waits"
    return "let through" if 200 in said.statuses[:1] else "bytes went on"


async def verdicts(port: int, upstream: Recorder) -> dict[tuple[str, str], str]:
    """Of all rows, by part and name."""
    return {
        (part, name): await verdict(case, port, upstream)
        for part, rows in TABLES.items()
        for name, case in rows.items()
    }


@asynccontextmanager
async def proxy(command: str, config: str) -> AsyncIterator[tuple[int, Recorder]]:
    """A proxy as a process of its own: its port, and its endpoint. `command` names its file."""
    async with recording() as upstream:
        with tempfile.TemporaryDirectory() as folder:
            port = _free_port()
            path = Path(folder) / "config.yaml"
            path.write_text(config % {"port": port, "endpoint": upstream.port, "folder": folder})
            process = await asyncio.create_subprocess_exec(
                *command.format(path=path).split(),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                await _until_open(port)
                yield port, upstream
            finally:
                process.terminate()
                await process.wait()


def _free_port() -> int:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


async def _until_open(port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return


async def main(envoy: str, rows: bool) -> None:
    """Print the comparison."""
    found: dict[str, dict[tuple[str, str], str]] = {}
    async with serving() as scene:
        found["sidecar"] = await verdicts(scene.port, scene.upstream)
    for name, program, arguments, config in (
        ("HAProxy", shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin"), "-db -f {path}", HAPROXY),
        ("nginx", shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin"), "-c {path}", NGINX),
        ("Envoy", shutil.which(envoy), "-c {path} --disable-hot-restart --concurrency 1", ENVOY),
    ):
        if program is None:
            continue
        async with AsyncExitStack() as stack:
            port, upstream = await stack.enter_async_context(proxy(f"{program} {arguments}", config))
            found[name] = await verdicts(port, upstream)
    print("| part | rows | " + " | ".join(found) + " |\n|---|---|" + "---|" * len(found))
    for part, table in TABLES.items():
        print(f"| {part} | {len(table)} | " + " | ".join(_cell(each, part) for each in found.values()) + " |")
    print(
        f"| all | {sum(map(len, TABLES.values()))} | " + " | ".join(_cell(each, "") for each in found.values()) + " |"
    )
    if rows:
        for proxy_name, each in found.items():
            for (part, name), what in each.items():
                if what != "refused":
                    print(f"{proxy_name}: {what}: {part}: {name}")


def _cell(found: dict[tuple[str, str], str], part: str) -> str:
    counts = Counter(what for (where, _), what in found.items() if part in ("", where))
    return ", ".join(
        f"{counts[what]} {what}" for what in ("refused", "let through", "bytes went on", "waits") if counts[what]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envoy", default="envoy", help="where Envoy is")
    parser.add_argument("--rows", action="store_true", help="name the rows that were not refused")
    given = parser.parse_args()
    asyncio.run(main(given.envoy, given.rows))
