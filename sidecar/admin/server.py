"""The admin server: health, metrics and the API, on an address of its own.

It shares the event loop with the requests, so nothing here may take long: metrics
are rendered in pieces, lists are bounded.
"""

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from sidecar.admin.answers import refusal
from sidecar.admin.clusters import ClusterViews
from sidecar.admin.control import ControlViews
from sidecar.admin.health import HealthViews
from sidecar.admin.operations import Operations
from sidecar.admin.page import PageViews
from sidecar.admin.requests import RequestViews
from sidecar.admin.stream import EventViews
from sidecar.model.address import Address
from sidecar.telemetry.collector import Collector
from sidecar.telemetry.exposition import render
from sidecar.telemetry.logs import get_logger

# No call of this API has a body.
_BODY_BYTES: Final = 4096
_STOP_SECONDS: Final = 1.0
_ENDPOINT: Final = "/api/clusters/{name}/endpoints/{address:.+}"

View = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AdminServer:
    """A running server; `address` is where it really listens."""

    def __init__(self, runner: web.AppRunner, address: Address) -> None:
        self._runner = runner
        self.address = address

    async def stop(self) -> None:
        """Close the port and every connection; requests get a second to finish."""
        await self._runner.cleanup()
        if self.address.unix:
            with suppress(OSError):
                os.unlink(self.address.unix)


async def start(operations: Operations, address: Address) -> AdminServer:
    """Listen on `address`; OSError when that cannot be had."""
    runner = web.AppRunner(
        application(operations),
        access_log=None,
        handle_signals=False,
        shutdown_timeout=_STOP_SECONDS,
        keepalive_timeout=75.0,
    )
    await runner.setup()
    try:
        site: web.BaseSite = (
            web.UnixSite(runner, address.unix)
            if address.unix
            else web.TCPSite(runner, address.host, address.port, reuse_address=True)
        )
        await site.start()
    except BaseException:
        await runner.cleanup()
        raise
    if address.unix:
        return AdminServer(runner, address)
    host, port = runner.addresses[0][:2]
    return AdminServer(runner, Address(host, port))


def application(operations: Operations) -> web.Application:
    """Every path of the API."""
    app = web.Application(middlewares=[_errors_as_json()], client_max_size=_BODY_BYTES)
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


def _errors_as_json() -> Middleware:
    log = get_logger("sidecar.admin")

    @web.middleware
    async def answer(request: web.Request, handler: Any) -> web.StreamResponse:
        if request.method == hdrs.METH_POST and not _is_ours(request):
            return refusal(403, "foreign_origin", "a page of another site may not change anything here")
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


def _is_ours(request: web.Request) -> bool:
    """Browsers send cross-site POSTs without asking, and name their origin. Any page
    that somebody looks at on this machine could drain the sidecar."""
    origin = request.headers.get(hdrs.ORIGIN)
    return origin is None or urlsplit(origin).netloc == request.host
