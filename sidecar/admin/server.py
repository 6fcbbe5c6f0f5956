"""The admin server: health, metrics and the API, on an address of its own.

It shares the event loop with the requests, so nothing here may take long: metrics
are rendered in pieces, lists are bounded.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from sidecar.admin.access import Access, harden
from sidecar.admin.answers import refusal
from sidecar.admin.clusters import ClusterViews
from sidecar.admin.connection import connection
from sidecar.admin.control import ControlViews
from sidecar.admin.guard import Guard
from sidecar.admin.health import HealthViews
from sidecar.admin.operations import Operations
from sidecar.admin.page import PageViews
from sidecar.admin.requests import RequestViews
from sidecar.admin.stream import EventViews
from sidecar.model.address import Address
from sidecar.telemetry.collector import Collector
from sidecar.telemetry.exposition import render
from sidecar.telemetry.logs import get_logger
from sidecar.wire.listener import bound_socket

# No call of this API has a body.
_BODY_BYTES: Final = 4096
_STOP_SECONDS: Final = 1.0
_BACKLOG: Final = 128
_ENDPOINT: Final = "/api/clusters/{name}/endpoints/{address:.+}"

# From 3.13 on a server's end removes its path, which may be the next process's by then.
_KEEP_PATH: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}

View = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AdminServer:
    """A running server; `address` is where it really listens."""

    def __init__(self, runner: web.AppRunner, server: asyncio.Server, address: Address) -> None:
        self._runner = runner
        self._server = server
        self.address = address
        self.handed_over = False  # the socket, its path above all, is another process's too

    @property
    def listening(self) -> Any:
        """The listening socket."""
        return self._server.sockets[0]

    async def stop(self) -> None:
        """Close the port and every connection; requests get a second to finish."""
        self._server.close()
        await self._runner.cleanup()
        if self.address.unix and not self.handed_over:
            with suppress(OSError):
                os.unlink(self.address.unix)


async def start(operations: Operations, address: Address, inherited: socket.socket | None = None) -> AdminServer:
    """Listen on `address`, or on a socket that another process has bound there; OSError or
    BindError when that cannot be had."""
    # Before aiohttp's server exists; it is asked for with the first connection.
    guard = Guard(lambda: connection(runner.server))
    runner = web.AppRunner(
        application(operations, guard), access_log=None, handle_signals=False, shutdown_timeout=_STOP_SECONDS
    )
    await runner.setup()
    try:
        server = await _listen(guard, address, operations.spec.admin.socket_mode, inherited)
    except BaseException:
        await runner.cleanup()
        raise
    if not address.unix:
        host, port = server.sockets[0].getsockname()[:2]
        address = Address(host, port)
    return AdminServer(runner, server, address)


async def _listen(guard: Guard, address: Address, mode: str, inherited: socket.socket | None) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    if address.unix:
        listening = inherited or bound_socket(address, int(mode, 8))
        return await loop.create_unix_server(guard, sock=listening, backlog=_BACKLOG, **_KEEP_PATH)
    if inherited is not None:
        return await loop.create_server(guard, sock=inherited, backlog=_BACKLOG)
    return await loop.create_server(guard, address.host, address.port, reuse_address=True, backlog=_BACKLOG)


def application(operations: Operations, guard: Guard | None = None) -> web.Application:
    """Every path of the API."""
    middlewares = [_guarded(operations, guard), _errors_as_json()]
    app = web.Application(middlewares=middlewares, client_max_size=_BODY_BYTES)
    app.on_response_prepare.append(harden)
    health, clusters = HealthViews(operations), ClusterViews(operations)
    control = ControlViews(operations)
    reads: dict[str, View] = {
        "/": PageViews(operations).index,
        "/healthz": health.healthz,
        "/readyz": health.readyz,
        "/metrics": _metrics(operations),
        "/api/clusters": clusters.every,
        "/api/clusters/{name}": clusters.one,
        "/api/config": control.config,
        "/api/requests": RequestViews(operations).latest,
    }
    changes: dict[str, View] = {
        "/api/reload": control.reload,
        "/api/drain": control.drain,
        "/api/quit": control.quit,
        f"{_ENDPOINT}/drain": clusters.drain,
        f"{_ENDPOINT}/undrain": clusters.undrain,
    }
    for path, view in reads.items():
        app.router.add_get(path, view)
    app.router.add_get("/api/events", EventViews(operations).follow, allow_head=False)
    for path, view in changes.items():
        app.router.add_post(path, view)
    return app


def _metrics(operations: Operations) -> View:
    collector = Collector(operations.runtime, reloads=operations.reloads, version=operations.version)

    async def metrics(request: web.Request) -> web.Response:
        body, content_type = await render(collector, request.headers.get(hdrs.ACCEPT, ""))
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})

    return metrics


def _guarded(operations: Operations, guard: Guard | None) -> Middleware:
    """Who may ask is asked first, of what is not there too."""
    access = Access(operations)

    @web.middleware
    async def answer(request: web.Request, handler: Any) -> web.StreamResponse:
        if guard is None:
            return access.refusal(request) or await handler(request)
        with guard.busy(request.protocol):
            return access.refusal(request) or await handler(request)

    return answer


def _errors_as_json() -> Middleware:
    log = get_logger("sidecar.admin")

    @web.middleware
    async def answer(request: web.Request, handler: Any) -> web.StreamResponse:
        if request.body_exists and (request.content_length is None or request.content_length > _BODY_BYTES):
            refused = refusal(413, "too_large", "no call of this API has a body")
            refused.force_close()
            return refused
        try:
            response: web.StreamResponse = await handler(request)
            return response
        except web.HTTPMethodNotAllowed as error:
            refused = refusal(
                405, "method_not_allowed", f"{request.path} takes {', '.join(sorted(error.allowed_methods))}"
            )
            refused.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
            return refused
        except web.HTTPNotFound:
            return refusal(404, "not_found", f"there is no {request.path}; see /")
        except web.HTTPException as error:
            return refusal(error.status, error.reason.lower().replace(" ", "_"), error.text or error.reason)
        except Exception as error:
            log.exception("admin request failed", method=request.method, path=request.path)
            return refusal(500, "internal", f"{type(error).__name__} while answering")

    return answer
