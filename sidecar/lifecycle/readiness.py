"""What readiness depends on, and what is only a warning.

Were all copies of a service short of something at a time, or given the same bad certificate,
and none of them ready, nobody would be served at all: such things warn.
"""

from sidecar.admin.operations import FAILED, OK, WARN, Check
from sidecar.lifecycle.phases import SERVING, Phases
from sidecar.lifecycle.shutdown import Shutdown
from sidecar.lifecycle.start_order import StartOrder
from sidecar.policy.pressure import STEPS
from sidecar.proxy.runtime import Runtime
from sidecar.wire.certificates import Certificates


class Readiness:
    """The checks of `/healthz` and `/readyz`."""

    def __init__(self, runtime: Runtime, shutdown: Shutdown, order: StartOrder, certificates: Certificates) -> None:
        self._runtime = runtime
        self._shutdown = shutdown
        self._order = order
        self._certificates = certificates

    def checks(self, shutdown: float, wait_for: list[str]) -> dict[str, Check]:
        """By part. `shutdown` and `wait_for` as the live configuration has them."""
        found = {"config": self._config(), "draining": self._draining(shutdown)}
        if wait_for:
            found["wait_for"] = self._waiting()
        if self._certificates.in_use:
            warnings = self._certificates.warnings()
            found["certificates"] = Check(WARN if warnings else OK, "; ".join(warnings))
        found["overload"] = self._overload()
        return found

    def _config(self) -> Check:
        version = self._runtime.snapshot.version
        return Check(OK if version > 0 else FAILED, f"version {version}")

    def _draining(self, shutdown: float) -> Check:
        draining = self._runtime.draining
        message = "draining" if draining else str(Phases.of(shutdown))
        if self._shutdown.phase != SERVING:
            message = self._shutdown.message
        return Check(FAILED if draining else OK, message)

    def _waiting(self) -> Check:
        missing = self._order.missing
        return Check(FAILED if missing else OK, f"no usable endpoint yet: {', '.join(missing)}" if missing else "")

    def _overload(self) -> Check:
        runtime = self._runtime
        if not runtime.pressure and runtime.places.served < runtime.places.ceiling.clients:
            return Check(OK)
        shares = (f"{name} {share:.0%}" for name, share in runtime.readings.pressure.items())
        return Check(WARN, f"{STEPS[runtime.pressure]}: {', '.join(shares)}")
