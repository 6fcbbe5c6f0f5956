"""What is shipped: metadata, locked requirements, the image, the CI entry."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ["build.txt", "run.txt", "test.txt"]


def normal(name: str) -> str:
    """A distribution's name as PEP 503 normalizes it, without extras and versions."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~ ;]", name)[0]).lower()


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return found


@pytest.fixture(scope="module")
def dockerfile() -> list[tuple[str, str]]:
    """(instruction, arguments) in order, continued lines joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    pairs = (line.split(maxsplit=1) for line in joined.splitlines() if line.strip())
    return [(instruction, rest) for instruction, rest in pairs]


def last_stage(dockerfile: list[tuple[str, str]]) -> dict[str, str]:
    start = max(index for index, (instruction, _) in enumerate(dockerfile) if instruction == "FROM")
    return dict(dockerfile[start:])


def imported_packages() -> set[str]:
    found = set()
    for path in (ROOT / "sidecar").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"sidecar"}


def test_every_imported_package_is_declared(project: dict[str, Any]) -> None:
    extras = project["project"]["optional-dependencies"].values()
    declared = {normal(name) for name in project["project"]["dependencies"] + [n for extra in extras for n in extra]}
    distributions = packages_distributions()
    undeclared = {
        package
        for package in imported_packages()
        if not any(normal(name) in declared for name in distributions.get(package, [package]))
    }
    assert undeclared == set()


def test_every_folder_is_a_package() -> None:
    # One without __init__.py would be shipped, and seen by neither import-linter nor mypy as what it is.
    folders = {path.parent for path in (ROOT / "sidecar").rglob("*.py")}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_all_holds_every_extra(project: dict[str, Any]) -> None:
    extras = project["project"]["optional-dependencies"]
    (every,) = extras["all"]
    assert set(re.findall(r"\w+", every)) == (set(extras) - {"all"}) | {"sidecar"}


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_pin_and_hash_everything_and_name_no_place(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text()
    entries = re.sub(r"\\\n\s*", " ", text).splitlines()
    for entry in entries:
        if entry.strip() and not entry.startswith("#"):
            assert re.match(r"[a-z0-9._\[\],-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", entry), entry
    assert not re.search(r"://|--(find-links|index|extra|trusted)|^-[efi]|/(home|root|tmp|opt)/", text, re.MULTILINE)


def test_locks_hold_every_dependency_in_one_version(project: dict[str, Any]) -> None:
    pins = {}
    for lock in LOCKS:
        text = (ROOT / "requirements" / lock).read_text()
        pins[lock] = dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^\]]*\])?==(\S+)", text, re.MULTILINE))
    assert {normal(name) for name in project["project"]["dependencies"]} <= pins["run.txt"].keys()
    assert pins["run.txt"].items() <= pins["test.txt"].items()


def test_image_is_staged_slim_and_runs_without_root(dockerfile: list[tuple[str, str]]) -> None:
    bases = [rest.split()[0] for instruction, rest in dockerfile if instruction == "FROM"]
    assert len(bases) == 2
    assert all(re.fullmatch(r"python:3\.\d+-slim", base) for base in bases)
    assert len(set(bases)) == 1, "the virtual environment needs the interpreter that it was made with"
    user = last_stage(dockerfile)["USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "numeric, and not 0"


def test_image_starts_the_sidecar_and_checks_its_health(dockerfile: list[tuple[str, str]]) -> None:
    stage = last_stage(dockerfile)
    assert json.loads(stage["ENTRYPOINT"]) == ["sidecar"]
    assert json.loads(stage["CMD"]) == ["run"]
    options, _, command = stage["HEALTHCHECK"].partition("CMD")
    assert "--timeout" in options
    program, flag, code = json.loads(command)
    assert (program, flag) == ("python", "-c")
    compile(code, "HEALTHCHECK", "exec")
    assert "/healthz" in code


def test_image_writes_nothing_at_run_time(dockerfile: list[tuple[str, str]]) -> None:
    environment = dict(word.split("=", 1) for word in shlex.split(last_stage(dockerfile)["ENV"]))
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    built = " ".join(rest for instruction, rest in dockerfile if instruction == "RUN")
    assert "compileall" in built
    assert "--require-hashes" in built


def test_image_copies_only_what_the_context_holds(dockerfile: list[tuple[str, str]]) -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for instruction, rest in dockerfile:
        if instruction == "COPY" and "--from" not in rest:
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert source in allowed or f"{source}/**" in allowed, source


@pytest.mark.slow
def test_every_step_that_builds_the_image_works(dockerfile: list[tuple[str, str]], tmp_path: Path) -> None:
    # Given the first stage's files, laid out as it copies them
    source, image = tmp_path / "src", tmp_path / "image"
    source.mkdir()
    second = [index for index, (instruction, _) in enumerate(dockerfile) if instruction == "FROM"][1]
    for instruction, rest in dockerfile[1:second]:
        if instruction == "COPY":
            *names, to = rest.split()
            for name in names:
                copy(ROOT / name, source / to / ("" if (ROOT / name).is_dir() else Path(name).name))
        # When its commands are run one after the other, as any user may run them
        elif instruction == "RUN":
            command = rest.replace("/opt/sidecar", str(image)).replace("python -m venv", f"{sys.executable} -m venv")
            done = subprocess.run(command, shell=True, cwd=source, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    # Then what they leave runs with nothing beside it, is compiled, and cannot install anything
    program: list[str | Path] = [image / "bin" / "sidecar", "check", ROOT / "config" / "reference.yaml"]
    done = subprocess.run(program, cwd="/", env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [*image.glob("lib/python*/site-packages/sidecar/__pycache__/app.*.pyc")]
    assert not (image / "bin" / "pip").exists()


def copy(what: Path, to: Path) -> None:
    """As COPY does: the contents of a folder, or a file."""
    if what.is_dir():
        shutil.copytree(what, to, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(what, to)


def test_ci_is_make_test_and_nothing_else() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert commands == ["set -eu", 'cd "$(dirname "$0")/.."', "exec make test"]
