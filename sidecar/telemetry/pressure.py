"""Metrics of what the process runs short of, and of clients that it did not wait for."""

from collections.abc import Iterator, Mapping
from sys import maxsize

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from sidecar.proxy.runtime import Runtime


def families(runtime: Runtime) -> Iterator[Metric]:
    """Each family, complete: there are few rows."""
    places, readings = runtime.places, runtime.readings
    yield _one("sidecar_overload_level", "0 well, 1 hold, 2 shed, 3 refuse.", runtime.pressure)
    yield _gauges(
        "sidecar_overload_pressure",
        "Use of a resource as a share of that from which on connections are refused.",
        "resource",
        readings.pressure,
    )
    yield _one("sidecar_event_loop_lag_seconds", "How late the event loop was at the last look.", readings.lag)
    yield _one(
        "sidecar_memory_limit_bytes", "The memory that the sidecar reckons with; 0 for no limit.", readings.memory_limit
    )
    yield _one("sidecar_open_files", "Open files.", readings.files)
    yield _one("sidecar_open_files_limit", "How many may be open; 0 for no limit.", readings.files_limit)
    ceiling = places.ceiling.clients
    yield _one(
        "sidecar_client_connections_limit",
        "How many clients may be connected; 0 for no limit.",
        0 if ceiling == maxsize else ceiling,
    )
    yield _counters("sidecar_connections_refused", "Clients that found no place, by why.", "reason", places.refused)
    yield _counters("sidecar_accept_errors", "Connections that could not be accepted.", "reason", places.errors)
    idle = CounterMetricFamily("sidecar_idle_connections_closed", "Idle clients that were closed to make room.")
    idle.add_metric([], readings.idle_closed)
    yield idle
    yield _counters(
        "sidecar_slow_clients", "Clients that were not waited for any longer.", "what", runtime.slow_clients
    )


def _one(name: str, documentation: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, documentation)
    family.add_metric([], value)
    return family


def _gauges(name: str, documentation: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _counters(name: str, documentation: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(name, documentation, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
