"""What the admin server asks of the running sidecar, and asks it to do."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from sidecar.config.schema import Spec
from sidecar.proxy.runtime import Runtime
from sidecar.telemetry.events import Events
from sidecar.telemetry.notable import Notable

OK: Final = "ok"
WARN: Final = "warn"  # somebody should look; no reason to send traffic elsewhere
FAILED: Final = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One part's state: `status` is OK, WARN or FAILED."""

    status: str
    message: str = ""
    latency_ms: float = 0.0


class Operations(Protocol):
    """The composition root, as the admin server sees it."""

    @property
    def runtime(self) -> Runtime:
        """Clusters, listeners and meters."""

    @property
    def service(self) -> str:
        """Who this sidecar sits beside."""

    @property
    def version(self) -> str:
        """The sidecar's version."""

    @property
    def spec(self) -> Spec:
        """The live configuration."""

    @property
    def loaded_at(self) -> datetime:
        """When it went live, UTC."""

    @property
    def last_rejected(self) -> Mapping[str, Any] | None:
        """The reload that was rejected since: `at` and `errors`."""

    @property
    def reloads(self) -> Mapping[str, int]:
        """Reloads by result: "ok", "rejected", "unchanged"."""

    @property
    def events(self) -> Events:
        """What happens beside the requests."""

    @property
    def notable(self) -> Notable:
        """The latest slow, failed and retried requests."""

    async def reload(self) -> list[str]:
        """Read the configuration again: its errors, none when it is live."""

    def drain(self) -> None:
        """Start draining; again does nothing."""

    def quit(self) -> None:
        """End the process in good order; again does nothing."""

    def checks(self) -> Mapping[str, Check]:
        """The parts that readiness depends on."""
