"""Control groups of both versions, from files as the kernel writes them."""

from pathlib import Path

import pytest

from sidecar.overload import files
from sidecar.overload.memory import find_group, resident

STAT = "anon 1000\nfile 5000\ninactive_file 300\ntotal_inactive_file 400\n"


def tree(root: Path, **limits: str) -> None:
    for path, limit in limits.items():
        folder = root / path.replace("__", "/").strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        if path.startswith("memory"):
            (folder / "memory.limit_in_bytes").write_text(limit)
            (folder / "memory.usage_in_bytes").write_text("5000\n")
        else:
            (folder / "memory.max").write_text(limit)
            (folder / "memory.current").write_text("5000\n")
        (folder / "memory.stat").write_text(STAT)


def own(root: Path, text: str) -> str:
    path = root / "cgroup"
    path.write_text(text)
    return str(path)


def test_version_2_takes_the_lowest_limit_above(tmp_path: Path) -> None:
    tree(tmp_path, pods="8000\n", pods__one="6000\n", pods__one__sidecar="max\n")
    group = find_group(str(tmp_path), own(tmp_path, "0::/pods/one/sidecar\n"))
    assert group is not None
    assert (group.limit, group.in_use()) == (6000, 4700)


def test_version_2_in_a_container_is_the_root(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("6000\n")
    (tmp_path / "memory.current").write_text("100\n")
    (tmp_path / "memory.stat").write_text(STAT)
    for path in ("/", "/kubepods/of/the/host"):
        group = find_group(str(tmp_path), own(tmp_path, f"0::{path}\n"))
        assert group is not None
        assert (group.limit, group.in_use()) == (6000, 0)


def test_version_1(tmp_path: Path) -> None:
    tree(tmp_path, memory="9223372036854771712\n", memory__docker="7000\n")
    group = find_group(str(tmp_path), own(tmp_path, "4:cpu,cpuacct:/docker\n3:memory:/docker\n"))
    assert group is not None
    assert (group.limit, group.in_use()) == (7000, 4600)


@pytest.mark.parametrize("text", ["0::/\n", "3:memory:/\n", "1:cpu:/\n", ""])
def test_without_a_limit_there_is_no_group(tmp_path: Path, text: str) -> None:
    tree(tmp_path, memory="9223372036854771712\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert find_group(str(tmp_path), own(tmp_path, text)) is None
    assert find_group(str(tmp_path), str(tmp_path / "nowhere")) is None


def test_the_process_itself() -> None:
    assert resident() > 5 << 20
    assert resident("/nowhere") == 0
    before = files.count_open()
    with open("/dev/null"):
        assert files.count_open() == before + 1
