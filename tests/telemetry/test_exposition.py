"""The text of the metrics, in both formats, and that it comes in pieces."""

from collections.abc import Iterator

import pytest
from prometheus_client import openmetrics, parser
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.openmetrics import parser as openmetrics_parser

from sidecar.telemetry.collector import Collector
from sidecar.telemetry.exposition import FAMILY, LINES, render
from tests.telemetry.parts import Parts, route_to

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Pauses:
    """Counts the pauses, and runs something in the first one."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def collector(parts: Parts) -> Collector:
    users = parts.cluster("users", *(f"10.0.0.{number}:80" for number in range(1, 31)))
    route = route_to(users)
    route.targets[0].codes.update({("http1", 200): 5, ("grpc", 14): 2})
    users.endpoints[3].durations.record(0.5)
    parts.go_live(route)
    return Collector(parts.runtime, reloads={}, version='1"2')


class _OursAlone:
    """The families that do not change from one scrape to the next."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def families(self) -> object:
        return (pair for pair in self._collector.families() if pair[0].name.startswith("sidecar_"))

    def collect(self) -> list[Metric]:
        return [family for family in self._collector.collect() if family.name.startswith("sidecar_")]


async def test_the_pieces_make_the_text_that_prometheus_client_would_make(collector: Collector) -> None:
    ours = _OursAlone(collector)
    pauses = Pauses()

    body, content_type = await render(ours, "", pauses)  # type: ignore[arg-type]

    assert body == generate_latest(ours)
    assert content_type.startswith("text/plain")
    # 30 endpoints with 22 lines of histogram each: the loop got its turns.
    assert pauses.count > 15


async def test_small_families_share_a_piece(parts: Parts) -> None:
    """Each pause is a turn of the event loop, which under overload takes milliseconds."""
    parts.go_live(route_to(parts.cluster("users", "10.0.0.1:80")))
    ours = _OursAlone(Collector(parts.runtime, reloads={}, version="1"))
    pauses = Pauses()

    body, _ = await render(ours, "", pauses)  # type: ignore[arg-type]

    families = body.count(b"# TYPE ")
    lines = body.count(b"\n") - body.count(b"# ")
    assert families > 40
    assert 1 <= pauses.count <= (lines + FAMILY * families) // LINES + 1
    assert pauses.count < families / 2


async def test_no_piece_is_longer_than_one_row_over_its_length() -> None:
    work = [0]
    longest = [0]

    class Families:
        def families(self) -> Iterator[tuple[Metric, Iterator[None]]]:
            for number in range(200):
                family = GaugeMetricFamily(f"family_{number}", "One of many.", labels=["row"])
                work[0] += FAMILY
                yield family, self._rows(family, number % 7 * 30)

        def _rows(self, family: GaugeMetricFamily, count: int) -> Iterator[None]:
            for row in range(count):
                family.add_metric([str(row)], row)
                work[0] += 1
                yield

    async def pause() -> None:
        longest[0], work[0] = max(longest[0], work[0]), 0

    await render(Families(), "", pause)

    assert 0 < longest[0] <= LINES + FAMILY


async def test_openmetrics_when_asked_for(collector: Collector) -> None:
    ours = _OursAlone(collector)

    body, content_type = await render(ours, OPENMETRICS)  # type: ignore[arg-type]

    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert body == openmetrics.exposition.generate_latest(ours)
    assert body.count(b"# EOF") == 1


async def test_parsers_read_both(collector: Collector) -> None:
    text, _ = await render(collector, "text/plain")
    opened, _ = await render(collector, OPENMETRICS)

    plain = {family.name: family for family in parser.text_string_to_metric_families(text.decode())}
    strict = {family.name: family for family in openmetrics_parser.text_string_to_metric_families(opened.decode())}

    assert plain.keys() == strict.keys()
    for families in (plain, strict):
        samples = families["sidecar_requests"].samples
        assert {(sample.labels["code"], sample.value) for sample in samples} == {("200", 5.0), ("UNAVAILABLE", 2.0)}
        assert families["sidecar_build_info"].samples[0].labels["version"] == '1"2'


async def test_counts_may_change_between_the_pieces(collector: Collector, parts: Parts) -> None:
    cluster = parts.clusters["users"]

    async def traffic() -> None:
        # New keys, other endpoints, another snapshot: what a live sidecar does.
        parts.runtime.snapshot.listeners["out"].table.routes[0].targets[0].codes["http1", len(cluster.endpoints)] = 1
        cluster.retries[f"reason{len(cluster.retries)}"] = 1
        cluster.durations.record(0.1)
        if len(cluster.endpoints) > 1:
            cluster.replace_endpoints(list(cluster.endpoints[1:]))

    body, _ = await render(collector, OPENMETRICS, traffic)

    families = list(openmetrics_parser.text_string_to_metric_families(body.decode()))
    assert "sidecar_config_version" in {family.name for family in families}
