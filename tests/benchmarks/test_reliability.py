"""Each fault runs once against the sidecar, with tiny numbers; nothing is judged here."""

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.reliability import files, overload, reloads, slow, texts
from benchmarks.reliability.__main__ import PARTS
from benchmarks.reliability.plan import Plan
from benchmarks.reliability.proxies import all_of_them

PLANS = (
    Plan(15001, ["127.0.0.1:1", "127.0.0.1:2"]),
    Plan(15001, ["127.0.0.1:1"], limited=True, files=64, patience=3, version=1),
)


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
async def test_a_part_gives_its_figures(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloads, "RELOADS", 2)
    monkeypatch.setattr(files, "HELD_SECONDS", 0.1)
    monkeypatch.setattr(overload, "CASES", (("refuse", True),))
    monkeypatch.setattr(overload, "AFTER", 1.0)
    monkeypatch.setattr(slow, "ATTACKERS", dict.fromkeys(slow.ATTACKERS, 2))
    call, _ = PARTS[part]
    figures = await call(all_of_them("envoy")["sidecar"], 1.0)
    assert len(figures) >= 2
    assert len({figure.name for figure in figures}) == len(figures)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
@pytest.mark.parametrize("plan", PLANS)
def test_nginx_takes_its_configuration(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "nginx.conf"
    path.write_text(texts.nginx(plan, tmp_path))
    subprocess.run(["nginx", "-t", "-c", path, "-p", tmp_path], check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="HAProxy is not installed")
@pytest.mark.parametrize("plan", PLANS)
def test_haproxy_takes_its_configuration(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text(texts.haproxy(plan, tmp_path))
    subprocess.run(["haproxy", "-c", "-f", path], check=True, capture_output=True)
