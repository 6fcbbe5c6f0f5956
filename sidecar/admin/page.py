"""GET /: a plain page that leads to the rest."""

from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import Final

from aiohttp import web

from sidecar.admin.access import HEADERS
from sidecar.admin.operations import Operations

_LINKS: Final = (
    ("/healthz", "whether the process works"),
    ("/readyz", "whether it wants traffic"),
    ("/metrics", "metrics, for Prometheus"),
    ("/api/clusters", "clusters and endpoints: breakers, load, health"),
    ("/api/requests", "the latest slow, failed and retried requests, and why"),
    ("/api/events", "events as they happen"),
    ("/api/config", "the effective configuration"),
)

_STYLE: Final = """
body { font: 16px/1.6 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem }
dt { font-family: ui-monospace, monospace } dd { margin: 0 0 .6rem 1.5rem; color: #555 }
"""
# CSP 3: this style, no script, nothing from anywhere.
_STYLE_HASH: Final = b64encode(sha256(_STYLE.encode()).digest()).decode()
_POLICY: Final = f"{HEADERS['content-security-policy']}; style-src 'sha256-{_STYLE_HASH}'"

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>sidecar: {service}</title>
<style>{style}</style>
</head>
<body>
<h1>{service}</h1>
<p>sidecar {version}, configuration {config}, {state}</p>
<dl>
{links}
</dl>
</body>
</html>
"""


class PageViews:
    """The start page."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def index(self, _: web.Request) -> web.Response:
        """Links, without a script."""
        operations = self._operations
        text = _PAGE.format(
            style=_STYLE,
            service=escape(operations.service),
            version=escape(operations.version),
            config=operations.runtime.snapshot.version,
            state="draining" if operations.runtime.draining else "serving",
            links="\n".join(f'<dt><a href="{path}">{path}</a></dt><dd>{what}</dd>' for path, what in _LINKS),
        )
        return web.Response(text=text, content_type="text/html", headers={"content-security-policy": _POLICY})
