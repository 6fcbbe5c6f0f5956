"""/api/config, and what changes the sidecar as a whole: reload, drain and quit."""

from aiohttp import web

from sidecar.admin.answers import json_answer, refusal
from sidecar.admin.operations import Operations
from sidecar.config.mask import masked


class ControlViews:
    """The configuration and the state of the whole."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def config(self, _: web.Request) -> web.Response:
        """The effective configuration without its secrets, and the last rejected one's errors."""
        operations = self._operations
        return json_answer(
            {
                "version": operations.runtime.snapshot.version,
                "loaded_at": operations.loaded_at,
                "config": masked(operations.spec),
                "last_rejected": operations.last_rejected,
            }
        )

    async def reload(self, _: web.Request) -> web.Response:
        """200 when the configuration is live, 422 with its errors when nothing was changed."""
        errors = await self._operations.reload()
        if errors:
            return refusal(422, "rejected", "the configuration was not changed: " + errors[0], errors=errors)
        return json_answer({"status": "ok", "version": self._operations.runtime.snapshot.version})

    async def drain(self, _: web.Request) -> web.Response:
        """Start draining."""
        self._operations.drain()
        return json_answer({"status": "draining"})

    async def quit(self, _: web.Request) -> web.Response:
        """End the process: what is under way finishes, and nobody is waited for."""
        self._operations.quit()
        return json_answer({"status": "stopping"})
