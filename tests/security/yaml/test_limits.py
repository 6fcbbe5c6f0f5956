"""Hostile YAML gets a clear error with its place, within bounds of time and memory."""

import resource
import subprocess
import sys
import time

import pytest

from sidecar.config.errors import ConfigErrors
from sidecar.config.load import load_file, load_text
from sidecar.config.tree import MAX_ERRORS
from tests.security.yaml.texts import TEXTS
from tests.support.processes import ROOT

ENV = {"A": "x" * 1000}


@pytest.mark.parametrize("name", TEXTS)
def test_a_hostile_text_gets_a_clear_error_with_its_place(name: str) -> None:
    text, words = TEXTS[name]
    with pytest.raises(ConfigErrors) as caught:
        load_text(text, "f.yaml", ENV)
    errors = caught.value.errors
    assert any(words in error.reason for error in errors), errors[:3]
    assert len(errors) <= MAX_ERRORS + 1
    lines = text.count("\n") + 1
    for error in errors:
        assert 1 <= error.line <= lines + 1
        assert error.column >= 1
        assert len(str(error)) < 2000
        assert "\n" not in str(error)


def test_many_errors_are_told_up_to_a_bound_that_is_told_too() -> None:
    with pytest.raises(ConfigErrors) as caught:
        load_text("\n".join(f"k{n}: 1" for n in range(2 * MAX_ERRORS)), "f.yaml", {})
    errors = caught.value.errors
    assert len(errors) == MAX_ERRORS + 1
    assert errors[-1].reason == "has more errors, which are not shown"
    assert errors[0].line == 1


@pytest.mark.parametrize(
    "data", [b"service: \xff\n", b"\xfe\xff\x00a", b"\xff\xfea\x00", b"service: \xc0\x80", b"\x80"]
)
def test_bytes_that_are_no_utf_8(data: bytes, tmp_path: object) -> None:
    path = f"{tmp_path}/f.yaml"
    with open(path, "wb") as file:
        file.write(data)
    with pytest.raises(ConfigErrors) as caught:
        load_file(path, {})
    assert [error.reason for error in caught.value.errors] == ["is not UTF-8"]


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/proc/self/mem", "/"])
def test_a_path_that_is_no_file_ends(path: str) -> None:
    with pytest.raises(ConfigErrors):
        load_file(path, {})


# VmHWM and not ru_maxrss, which a new program inherits: it is at least the size of who started it.
_MEASURE = """
import re, sys
from sidecar.config.errors import ConfigErrors
from sidecar.config.load import load_text
from tests.security.yaml.texts import TEXTS
for text, _ in TEXTS.values():
    try:
        load_text(text, "f.yaml", {"A": "x" * 1000})
    except ConfigErrors:
        continue
    sys.exit("accepted")
print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024)
"""


def test_all_of_them_together_take_little_time_and_memory() -> None:
    began = time.process_time()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE], cwd=ROOT, capture_output=True, text=True, check=True, timeout=55
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert time.process_time() - began < 55
    mebibytes = int(done.stdout)
    assert mebibytes < 256, f"{mebibytes} MiB"
    # 55 texts: the worst take two to three seconds, of which pydantic has the most.
    assert after.ru_utime - before.ru_utime < 50
