"""A sidecar in this process with one endpoint, that keeps what it is sent."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sidecar.app import App
from tests.security.http1.recorder import Recorder, recording
from tests.support.sidecar import running

CONFIG = """
admin: {bind: 127.0.0.1:0}
clusters:
  web: {endpoints: ["127.0.0.1:%d"], protocol: http1, retry: {attempts: 1}}
listeners:
  in:
    bind: 127.0.0.1:0
    routes: [{to: web}]
"""


@dataclass
class Scene:
    """The two ends of the path: where a client connects, and what an endpoint got."""

    app: App
    upstream: Recorder

    @property
    def port(self) -> int:
        """Of the listener, HTTP/1.1 and HTTP/2."""
        return self.app.address("in").port


@asynccontextmanager
async def serving(config: str = CONFIG) -> AsyncIterator[Scene]:
    """Both, until the end. `config` has a place for the endpoint's port."""
    async with recording() as upstream, running(config % upstream.port) as app:
        yield Scene(app, upstream)
