"""One target under atheris: inputs that reach new code are kept and changed further.

`python -m fuzz.guided MODULE SECONDS SEED FOLDER` is a process of its own, for atheris marks
the code of the sidecar as it is imported and ends its process. The folder begins with the
target's seeds; an input at which the invariant does not hold is left in it as `broken`.
"""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final

_BROKEN: Final = "broken"
_CORPUS: Final = "corpus"
_LONGEST: Final = 8192
_EXIT: Final = 77
_GRACE_SECONDS: Final = 60.0  # importing what is marked, and the input under way at the end


def available() -> bool:
    """Whether there is a wheel of atheris for this machine and Python."""
    return find_spec("atheris") is not None


def guided(
    name: str, seeds: Sequence[bytes], seconds: float, seed: int, package: str = "fuzz"
) -> tuple[int, bytes | None]:
    """Try inputs in another process: how many, and one that breaks the invariant or None.
    RuntimeError when the process ends of itself in another way."""
    with TemporaryDirectory(prefix="sidecar-fuzz-") as folder:
        corpus = Path(folder, _CORPUS)
        corpus.mkdir()
        for number, each in enumerate(seeds):
            corpus.joinpath(f"seed{number}").write_bytes(each)
        command = [
            sys.executable,
            "-m",
            "fuzz.guided",
            f"{package}.{name}",
            str(max(1, round(seconds))),
            str(seed),
            folder,
        ]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds + _GRACE_SECONDS, check=False)
        broken = Path(folder, _BROKEN)
        if ended.returncode and not broken.exists():
            raise RuntimeError(f"{name}: atheris ended with {ended.returncode}:\n{ended.stderr[-3000:]}")
        count = Path(folder, "count")
        return int(count.read_text()) if count.exists() else 0, broken.read_bytes() if broken.exists() else None


def _main(name: str, seconds: str, seed: str, folder: str) -> None:
    import atheris

    with atheris.instrument_imports(include=["sidecar"]):
        target = importlib.import_module(name)
    draw: Callable[[Random], bytes] | None = getattr(target, "draw", None)
    tried = 0

    def one_input(data: bytes) -> None:
        nonlocal tried
        tried += 1
        if tried % 64 == 0:
            Path(folder, "count").write_text(str(tried))
        try:
            target.check(data)
        except Exception:
            Path(folder, _BROKEN).write_bytes(data)
            Path(folder, "count").write_text(str(tried))
            os._exit(_EXIT)

    def changed(data: bytes, most: int, seed: int) -> bytes:
        """What the target would draw itself, or what libFuzzer makes of what it knows."""
        rng = Random(seed)
        if draw is not None and rng.random() < 0.3:
            return draw(rng)[:most]
        return bytes(atheris.Mutate(data, most))

    words = Path(folder, "words")
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.WORDS if word))
    arguments = [
        name,
        f"-max_total_time={seconds}",
        f"-seed={int(seed) % 2**31 or 1}",
        f"-max_len={_LONGEST}",
        f"-dict={words}",
        f"-artifact_prefix={folder}/",
        "-timeout=20",
        str(Path(folder, _CORPUS)),
    ]
    extra: dict[str, Any] = {"custom_mutator": changed} if draw is not None else {}
    atheris.Setup(arguments, one_input, **extra)
    atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    _main(*sys.argv[1:])
