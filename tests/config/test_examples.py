"""Every YAML that we hand out is right."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from sidecar.config.load import load_file, load_text
from sidecar.config.schema import Spec
from sidecar.config.translate import keys_of, section_at

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "config").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_it_loads_without_any_variable(path: Path) -> None:
    assert load_file(str(path), {}).clusters


def test_the_starter_is_what_init_writes() -> None:
    packaged = files("sidecar.config").joinpath("starter.yaml").read_text(encoding="utf-8")
    assert (ROOT / "config" / "sidecar.yaml").read_text() == packaged


def test_the_pod_holds_the_kubernetes_configuration() -> None:
    documents = list(yaml.safe_load_all((ROOT / "config" / "kubernetes" / "pod.yml").read_text()))
    assert [document["kind"] for document in documents] == ["ConfigMap", "Deployment"]
    held = documents[0]["data"]["sidecar.yaml"]
    assert held == (ROOT / "config" / "kubernetes.yaml").read_text()
    assert load_text(held, "pod.yml", {}).clusters


def test_the_reference_has_every_key_even_if_in_a_comment() -> None:
    text = (ROOT / "config" / "reference.yaml").read_text()
    seen: set[type[BaseModel]] = set()
    missing: list[str] = []

    def visit(section: type[BaseModel]) -> None:
        if section in seen:
            return
        seen.add(section)
        missing.extend(f"{section.__name__}.{key}" for key in keys_of(section) if f"{key}:" not in text)

    for path in _section_paths():
        section = section_at(path)
        assert section is not None, path
        visit(section)
    assert missing == []
    assert len(seen) > 25


def _section_paths() -> list[tuple[Any, ...]]:
    cluster = ("clusters", "x")
    route = ("listeners", "x", "routes", 0)
    below_cluster = [
        (), ("endpoints", 0), ("balance",), ("timeouts",), ("retry",), ("retry", "backoff"), ("retry", "budget"),
        ("hedge",), ("breaker",), ("breaker", "open"), ("outlier_ejection",), ("limits",),
        ("health_check",), ("health_check", "http"), ("health_check", "grpc"), ("tls",),
    ]  # fmt: skip
    below_route = [
        (), ("match",), ("match", "headers", "x"), ("respond",), ("rewrite",), ("headers",), ("headers", "request"),
        ("retry",), ("retry", "backoff"), ("timeouts",), ("redirect",), ("hedge",),
    ]  # fmt: skip
    return [
        (), ("admin",), ("defaults",), ("listeners", "x"), ("listeners", "x", "tls"), ("listeners", "x", "clients"),
        *((*cluster, *path) for path in below_cluster),
        *((*route, *path) for path in below_route),
    ]  # fmt: skip


def test_the_reference_says_the_defaults() -> None:
    """What the reference's fully written cluster says is what a bare one has."""
    written = load_file(str(ROOT / "config" / "reference.yaml"), {}).clusters["users"]
    bare = load_text("clusters: {u: {endpoints: ['a:1']}}", "f", {}).clusters["u"]
    for key in (
        "protocol",
        "balance",
        "timeouts",
        "retry",
        "breaker",
        "hedge",
        "outlier_ejection",
        "limits",
        "admission",
        "tls",
    ):
        assert getattr(written, key) == getattr(bare, key), key


def test_the_contracts_own_example() -> None:
    spec: Spec = load_text(CONTRACT, "contract", {})
    assert list(spec.all_listeners()) == ["outbound", "users"]


CONTRACT = """\
service: checkout
admin:
  bind: 127.0.0.1:15000
access_log: off
shutdown: 25s
defaults: {}
clusters:
  users:
    listen: 127.0.0.1:19002
    protocol: auto
    endpoints:
      - 10.0.0.1:50051
      - {address: 10.0.0.2:50051, weight: 2, zone: eu-1, priority: 0}
    balance: {policy: peak_ewma}
    timeouts: {connect: 1s, request: 15s, try: null, idle: 5m, streams: []}
    retry:
      attempts: 3
      on: [unsent, reset, timeout, 502, 503, 504]
      grpc_on: [unavailable]
      idempotent: []
      backoff: {base: 25ms, max: 250ms}
      budget: {ratio: 0.2, floor: 10}
      replay: 256KiB
    breaker:
      window: 10s
      failure_ratio: 0.5
      min_requests: 10
      consecutive: 5
      open: {base: 1s, max: 60s}
      probes: 1
    limits: {connections: 1024, pending: 1024, requests: 1024}
    health_check:
      http: {path: /healthz}
      interval: 5s
      timeout: 1s
      rise: 2
      fall: 3
    tls: null
  fallback: {endpoints: [10.0.0.3:80]}
listeners:
  outbound:
    bind: 127.0.0.1:15001
    mode: http
    allow: []
    routes:
      - match: {host: users.internal, prefix: /v1, methods: [GET], headers: {x-beta: "1"}}
        to: users
        timeout: 2s
        retry: {attempts: 2}
      - match: {grpc: pkg.Users/Get}
        to: users
      - to: fallback
"""
