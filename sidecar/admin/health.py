"""/healthz and /readyz."""

from dataclasses import asdict
from datetime import UTC, datetime

from aiohttp import web

from sidecar.admin.answers import json_answer
from sidecar.admin.operations import FAILED, OK, Operations


class HealthViews:
    """Whether the process works, and whether it wants traffic."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def healthz(self, _: web.Request) -> web.Response:
        """200 for as long as anything can answer at all."""
        return self._answer(True)

    async def readyz(self, _: web.Request) -> web.Response:
        """503 before a configuration is live, while draining, or when a part is down."""
        runtime = self._operations.runtime
        well = all(check.status != FAILED for check in self._operations.checks().values())
        return self._answer(well and runtime.snapshot.version > 0 and not runtime.draining)

    def _answer(self, well: bool) -> web.Response:
        operations = self._operations
        return json_answer(
            {
                "status": OK if well else FAILED,
                "service": operations.service,
                "version": operations.version,
                "timestamp": datetime.now(UTC),
                "checks": {name: asdict(check) for name, check in operations.checks().items()},
            },
            200 if well else 503,
        )
