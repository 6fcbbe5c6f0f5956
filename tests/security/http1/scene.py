"""A sidecar in this process with one endpoint, that keeps what it is sent."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from sidecar.app import App
from tests.security.http1.recorder import Recorder, recording
from tests.support.sidecar import running

CONFIG = """
admin: {bind: 127.0.0.1:0}
clusters:
  web: {listen: 127.0.0.1:0, endpoints: ["127.0.0.1:%d"], protocol: http1, retry: {attempts: 1}}
listeners:
  in:
    bind: 127.0.0.1:0
    routes: [{to: web}]
  forward:
    bind: 127.0.0.1:0
    mode: forward
    routes: [{to: web}]
"""
LISTENERS: Final = ("in", "forward", "web")


@dataclass
class Scene:
    """The two ends of the path: where a client connects, and what an endpoint got."""

    app: App
    upstream: Recorder

    @property
    def port(self) -> int:
        """Of the listener with routes, HTTP/1.1 and HTTP/2."""
        return self.port_of("in")

    def port_of(self, listener: str) -> int:
        """Of one of LISTENERS."""
        return self.app.address(listener).port


@asynccontextmanager
async def serving(config: str = CONFIG) -> AsyncIterator[Scene]:
    """Both, until the end. `config` has a place for the endpoint's port."""
    async with recording() as upstream, running(config % upstream.port) as app:
        yield Scene(app, upstream)
