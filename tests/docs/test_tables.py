"""Tables that say all of something do so: replies, reasons, metrics, log fields."""

import re
from typing import Any

from benchmarks.paths import Http1Path
from sidecar.codec.grpc import STATUS_NAMES
from sidecar.model.outcome import Failure, Skipped
from sidecar.proxy import reply
from sidecar.telemetry.access_log import entry
from sidecar.telemetry.collector import Collector
from tests.docs.pages import blocks, docs, marked, names, text_of


def test_replies() -> None:
    rows = marked(docs("life-of-a-request.md"), "replies")
    for row, failure in zip(rows, Failure, strict=True):
        name, status, code, reason, breaker = row
        assert name == f"`{failure.name}`"
        assert int(status) == reply.status_of(failure)
        assert code == STATUS_NAMES[reply.grpc_code_of(failure)].upper()
        assert reason == f"`{reply.reason_of(failure)}`"
        assert (breaker == "failure") is failure.blames_endpoint, name


def test_reasons() -> None:
    rows = marked(docs("troubleshooting.md"), "reasons")
    told = {next(names(row[0])): row[0] for row in rows}
    assert set(told) == {reply.reason_of(failure) for failure in Failure}
    for failure in Failure:
        assert str(reply.status_of(failure)) in told[reply.reason_of(failure)], failure


def test_skipped_retries() -> None:
    rows = marked(docs("troubleshooting.md"), "skipped")
    assert {next(names(row[0])) for row in rows} == {each.value for each in Skipped}


class Kept:
    """Records that keep what was said of an exchange."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def finished(self, exchange: Any) -> None:
        self.entries.append(entry(exchange, None))  # type: ignore[arg-type]


def test_metrics_and_log_fields() -> None:
    path = Http1Path()
    kept = Kept()
    runtime = path.world.runtime
    runtime.records.append(kept)
    path.cycle(lambda receive, data: receive(data))
    metrics = Collector(runtime, reloads={}, version="1").collect()
    real = {
        metric.name + ("_total" if metric.type == "counter" else ""): _labels(metric)
        for metric in metrics
        if metric.name.startswith("sidecar_")
    }
    path.close()
    told = {next(names(row[0])): set(names(row[1])) for row in marked(docs("operations.md"), "metrics")}
    assert told.keys() == real.keys()
    assert {name: labels for name, labels in told.items() if real[name]} == {k: v for k, v in real.items() if v}

    fields = [name for row in marked(docs("operations.md"), "access log") for name in names(row[0])]
    assert fields == list(kept.entries[0])


def _labels(metric: Any) -> set[str]:
    return {label for sample in metric.samples for label in sample.labels} - {"le"}


def test_alerts_and_queries_use_metrics_that_exist() -> None:
    known = {next(names(row[0])) for row in marked(docs("operations.md"), "metrics")}
    text = text_of(docs("operations.md")) + "".join(block.text for block in blocks("yaml prometheus"))
    used = set(re.findall(r"\bsidecar_[a-z0-9_]+", text))
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in used} == known
