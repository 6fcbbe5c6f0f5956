"""The active health checks of all clusters, kept in step with the configuration."""

import asyncio
from functools import partial
from typing import NamedTuple

from sidecar.config import clusters as c
from sidecar.config import tls as t
from sidecar.config.schema import Spec
from sidecar.health.checker import Checker
from sidecar.health.probe import Probe
from sidecar.proxy.runtime import Runtime
from sidecar.proxy.snapshot import Snapshot
from sidecar.upstream.cluster import Cluster
from sidecar.wire.lookups import Lookups


class _Checked(NamedTuple):
    """A checker, and what it was made from."""

    checker: Checker
    check: c.HealthCheck
    tls: t.Tls | None


class Checks:
    """One Checker for each cluster that has a `health_check`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lookups = Lookups()  # apart from those of requests
        self._checked: dict[str, _Checked] = {}
        self._stopping: set[asyncio.Task[None]] = set()

    def follow(self, spec: Spec, snapshot: Snapshot) -> None:
        """Check what this configuration says. What was known of an endpoint is kept,
        and a check whose settings stay goes on: reloads must not keep it from its turn."""
        previous, self._checked = self._checked, {}
        for name, cluster in spec.clusters.items():
            old = previous.pop(name, None)
            if cluster.health_check is None:
                if old is not None:
                    self._stop(old.checker)
                    # Nobody will say any more that an endpoint is well again.
                    old.checker.forgive()
                continue
            self._checked[name] = self._next(old, cluster.health_check, cluster.tls, snapshot.clusters[name])
        for removed in previous.values():
            self._stop(removed.checker)

    def _next(self, old: _Checked | None, check: c.HealthCheck, tls: t.Tls | None, cluster: Cluster) -> _Checked:
        if old is not None and old.checker.cluster is cluster and old.check == check and old.tls == tls:
            old.checker.sync(cluster.endpoints)
            return old
        checker = Checker(
            self._runtime,
            cluster,
            make_probe(check, tls, cluster, self._lookups),
            interval=check.interval,
            timeout=check.timeout,
            rise=check.rise,
            fall=check.fall,
        )
        if old is not None:
            checker.adopt(old.checker)
            self._stop(old.checker)
        checker.start()
        return _Checked(checker, check, tls)

    def passed(self, cluster: str, endpoint: str) -> bool | None:
        """Whether a check has ever found an endpoint well; None where nothing checks it."""
        checked = self._checked.get(cluster)
        if checked is None:
            return None
        tally = checked.checker.tallies.get(endpoint)
        return tally is not None and tally.passed and not tally.reason

    def _stop(self, checker: Checker) -> None:
        checker.halt()
        task = asyncio.ensure_future(checker.stop())
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    async def stop(self) -> None:
        """End every check."""
        for checked in self._checked.values():
            self._stop(checked.checker)
        self._checked.clear()
        await asyncio.gather(*self._stopping)
        self._lookups.close()


def make_probe(check: c.HealthCheck, tls: t.Tls | None, cluster: Cluster, lookups: Lookups | None = None) -> Probe:
    """What the check asks. Imports what it needs, and only that: grpcio costs 9 MiB."""
    if check.http is not None:
        from sidecar.health.http_probe import HttpProbe

        # Asked for at each check: certificates change.
        context = partial(cluster.tls.context, "http1") if cluster.tls is not None else None
        server_name = tls.server_name if tls is not None else ""
        return HttpProbe(check.http.path, lookups, host=check.http.host, tls=context, server_name=server_name)
    if check.grpc is not None:
        from sidecar.health.grpc_probe import GrpcProbe

        setting = cluster.tls
        pem = None if setting is None else lambda: setting.loaded.pem
        return GrpcProbe(check.grpc.service, tls=pem, server_name=tls.server_name if tls is not None else "")
    from sidecar.health.tcp_probe import TcpProbe

    return TcpProbe(lookups)
