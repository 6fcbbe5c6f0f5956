"""The sidecar and other proxies, each as a process in front of the same two services.

What is attacked leads to tests.support.http_service, what a bystander asks for (`/ok`) to
tests.support.swift_service, so that a busy service is not taken for a busy proxy.
"""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.support.processes import ROOT, Processes

# Where the commands are that are not on the PATH.
_ENVOY: Final = os.environ.get("ENVOY", "envoy")


@dataclass(frozen=True)
class Proxy:
    """One that runs. `attacked` speaks HTTP/2 with prior knowledge, `asked` HTTP/1.1."""

    pid: int
    attacked: int
    asked: int


@dataclass(frozen=True)
class Ports:
    """What a configuration is made of: ports of the services, and free ones to listen on."""

    http: int
    swift: int
    attacked: int
    asked: int


def prefer(pid: int) -> None:
    """Let a process, its threads and children go before all others; only root may."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(PermissionError):
            os.sched_setscheduler(int(task.name), os.SCHED_RR, os.sched_param(1))
        for child in (task / "children").read_text().split():
            prefer(int(child))


@contextmanager
def preferred() -> Iterator[None]:
    """The same for this process alone, for a while: its children are what it was said of them."""
    tasks = [int(task.name) for task in Path("/proc/self/task").iterdir()]
    with suppress(PermissionError):
        for task in tasks:
            os.sched_setscheduler(task, os.SCHED_RR, os.sched_param(1))
    try:
        yield
    finally:
        for task in tasks:
            with suppress(ProcessLookupError):
                os.sched_setscheduler(task, os.SCHED_OTHER, os.sched_param(0))


def _sidecar(ports: Ports, folder: Path) -> list[str]:
    (folder / "sidecar.yaml").write_text(f"""
admin: {{bind: "unix:{folder}/admin.sock"}}
clusters:
  http: {{endpoints: ["127.0.0.1:{ports.http}"], protocol: http1, limits: {{requests: 5000, connections: 5000}}}}
  swift: {{endpoints: ["127.0.0.1:{ports.swift}"], protocol: http1}}
listeners:
  attacked: {{bind: "127.0.0.1:{ports.attacked}", routes: [{{to: http}}]}}
  asked: {{bind: "127.0.0.1:{ports.asked}", routes: [{{to: swift}}]}}
""")
    return [sys.executable, "-m", "sidecar", "run", "--config", str(folder / "sidecar.yaml")]


def _envoy(ports: Ports, folder: Path) -> list[str]:
    manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"

    def listener(name: str, port: int) -> str:
        return f"""
  - name: {name}
    address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {manager}
          stat_prefix: {name}
          codec_type: AUTO
          http2_protocol_options: {{max_concurrent_streams: 1000}}
          route_config:
            virtual_hosts:
            - {{name: v, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: {name}, timeout: 0s}}}}]}}
          http_filters: [{{name: envoy.filters.http.router, typed_config: {{"@type": {router}}}}}]"""

    def cluster(name: str, port: int) -> str:
        address = f"{{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}"
        return f"""
  - name: {name}
    connect_timeout: 1s
    type: STATIC
    circuit_breakers: {{thresholds: [{{max_connections: 5000, max_requests: 5000, max_pending_requests: 5000}}]}}
    load_assignment: {{cluster_name: {name}, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {address}}}}}]}}]}}"""

    (folder / "envoy.yaml").write_text(
        f"static_resources:\n  listeners:{listener('http', ports.attacked)}{listener('swift', ports.asked)}"
        f"\n  clusters:{cluster('http', ports.http)}{cluster('swift', ports.swift)}\n"
    )
    return [_ENVOY, "-c", str(folder / "envoy.yaml"), "--concurrency", "1", "-l", "error", "--disable-hot-restart"]


def _haproxy(ports: Ports, folder: Path) -> list[str]:
    (folder / "haproxy.cfg").write_text(f"""
global
  maxconn 8000
  nbthread 1
  tune.h2.max-concurrent-streams 1000
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend attacked
  bind 127.0.0.1:{ports.attacked} proto h2
  default_backend http
frontend asked
  bind 127.0.0.1:{ports.asked}
  default_backend swift
backend http
  server s1 127.0.0.1:{ports.http}
backend swift
  server s1 127.0.0.1:{ports.swift}
""")
    return ["/usr/sbin/haproxy", "-f", str(folder / "haproxy.cfg")]


def _nginx(ports: Ports, folder: Path) -> list[str]:
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(f"""
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 100000000; http2_max_concurrent_streams 1000; proxy_buffering on;
  client_body_temp_path {folder}/body; {temporary}
  upstream http {{ server 127.0.0.1:{ports.http}; keepalive 256; }}
  upstream swift {{ server 127.0.0.1:{ports.swift}; keepalive 256; }}
  proxy_http_version 1.1; proxy_set_header Connection "";
  server {{ listen 127.0.0.1:{ports.attacked} http2; location / {{ proxy_pass http://http; }} }}
  server {{ listen 127.0.0.1:{ports.asked}; location / {{ proxy_pass http://swift; }} }}
}}
""")
    return ["/usr/sbin/nginx", "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]


PROXIES: Final[dict[str, Callable[[Ports, Path], list[str]]]] = {
    "sidecar": _sidecar,
    "envoy": _envoy,
    "haproxy": _haproxy,
    "nginx": _nginx,
}


@asynccontextmanager
async def running(name: str) -> AsyncIterator[Proxy]:
    """One of PROXIES in front of its services; all of them are gone afterwards."""
    processes = Processes()
    try:
        http = await processes.service("tests.support.http_service")
        swift = await processes.service("tests.support.swift_service")
        # What is attacked is on another machine in earnest: it goes behind what is measured,
        # and that before whatever else the machine does, if we may.
        os.sched_setscheduler(http.pid, os.SCHED_OTHER, os.sched_param(0))
        prefer(swift.pid)
        with TemporaryDirectory() as temporary:
            folder = Path(temporary)
            ports = Ports(http.port, swift.port, *_free(2))
            with (folder / "output").open("wb") as output:
                process = await asyncio.create_subprocess_exec(
                    *PROXIES[name](ports, folder), cwd=ROOT, stdout=output, stderr=output
                )
            try:
                for port in (ports.attacked, ports.asked):
                    await _listens(port, process, folder / "output")
                prefer(process.pid)
                yield Proxy(process.pid, ports.attacked, ports.asked)
            finally:
                await _end(process)
    finally:
        processes.reap()


def _free(number: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 3)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _listens(port: int, process: asyncio.subprocess.Process, output: Path) -> None:
    async with asyncio.timeout(20):
        while True:
            assert process.returncode is None, output.read_text()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
