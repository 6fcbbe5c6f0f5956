"""The services of the demo: real HTTP (aiohttp) and gRPC (grpcio) servers, healthy or not.

    python -m sidecar.demo.services http --fault fail:0.3
    python -m sidecar.demo.services grpc --fault slow:4:0.5 --port 50051

Each prints one JSON line with its `port` once it listens, and ends with SIGTERM or
when its standard input, if that is a pipe, is closed: no demo that dies leaves one behind.
A line on that pipe is a new fault, in the words of `--fault`.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import stat
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

SERVICE = "demo.Users"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a service.

    `ratio` of the calls fail; from `after` seconds of its life on, every call takes
    `delay` seconds more.
    """

    ratio: float = 0.0
    after: float = 0.0
    delay: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """Read `none`, `fail:RATIO` or `slow:AFTER[:DELAY]`; ValueError says what is wrong."""
        kind, *numbers = text.split(":")
        try:
            values = [float(number) for number in numbers]
        except ValueError:
            raise ValueError(f"{text!r}: a number is wanted after each colon") from None
        if any(value < 0 for value in values):
            raise ValueError(f"{text!r}: no number may be negative")
        match kind, values:
            case "none", []:
                return cls()
            case "fail", [ratio] if ratio <= 1:
                return cls(ratio=ratio)
            case "slow", [after]:
                return cls(after=after, delay=0.5)
            case "slow", [after, delay]:
                return cls(after=after, delay=delay)
        raise ValueError(f"{text!r} is none of none, fail:RATIO (0 to 1), slow:AFTER[:DELAY] (seconds)")


class Conduct:
    """How one service conducts itself, call by call. `now` is a monotonic clock in seconds."""

    def __init__(self, fault: Fault, seed: int = 1, now: Callable[[], float] = time.monotonic) -> None:
        self.calls = 0
        self.failed = 0
        self._fault = fault
        self._random = random.Random(seed)
        self._now = now
        self._started = now()

    def become(self, fault: Fault) -> None:
        """Conduct itself so from now on; the fault's `after` counts from now."""
        self._fault = fault
        self._started = self._now()

    def fails(self) -> bool:
        """Whether this call is to fail. Ask once per call."""
        self.calls += 1
        failed = self._random.random() < self._fault.ratio
        self.failed += failed
        return failed

    def delay(self) -> float:
        """Seconds that this call is held up."""
        return self._fault.delay if self._now() - self._started >= self._fault.after else 0.0


class Server(Protocol):
    """A server of either kind."""

    async def start(self, port: int) -> int:
        """Listen on the port, 0 for any, and return it; OSError or RuntimeError when it is taken."""

    async def stop(self) -> None:
        """Close the port and every connection."""


class HttpUsers:
    """`GET /users/{id}`, `POST /orders`, `GET /healthz`, `GET /stats`. A failure is a 503."""

    def __init__(self, name: str, conduct: Conduct) -> None:
        self._name = name
        self._conduct = conduct
        self._runner: Any = None

    async def start(self, port: int) -> int:
        from aiohttp import web

        conduct = self._conduct

        def work(answer: Callable[[web.Request], dict[str, Any]]) -> Callable[[web.Request], Awaitable[web.Response]]:
            async def serve(request: web.Request) -> web.Response:
                await request.read()
                if delay := conduct.delay():
                    await asyncio.sleep(delay)
                if conduct.fails():
                    return web.json_response({"error": "out of order", "service": self._name}, status=503)
                return web.json_response({"service": self._name} | answer(request))

            return serve

        async def healthz(_: web.Request) -> web.Response:
            return web.json_response({"status": "ok"})

        async def stats(_: web.Request) -> web.Response:
            return web.json_response({"calls": conduct.calls, "failed": conduct.failed})

        app = web.Application()
        app.router.add_get("/users/{id}", work(lambda request: {"id": request.match_info["id"]}))
        app.router.add_post("/orders", work(lambda _: {"order": conduct.calls}))
        app.router.add_get("/healthz", healthz)
        app.router.add_get("/stats", stats)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True).start()
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()


class GrpcUsers:
    """`demo.Users/Get` (one to one) and `demo.Users/Watch` (three messages), with plain bytes for messages,
    and `grpc.health.v1.Health/Check`. A failure is UNAVAILABLE."""

    def __init__(self, name: str, conduct: Conduct) -> None:
        self._name = name.encode()
        self._conduct = conduct
        self._server: Any = None

    async def start(self, port: int) -> int:
        import grpc

        async def hold_up_or_fail(call: Any) -> None:
            if delay := self._conduct.delay():
                await asyncio.sleep(delay)
            if self._conduct.fails():
                await call.abort(grpc.StatusCode.UNAVAILABLE, "out of order")

        async def get(request: bytes, call: Any) -> bytes:
            await hold_up_or_fail(call)
            return self._name + b":" + request

        async def watch(request: bytes, call: Any) -> Any:
            await hold_up_or_fail(call)
            for _ in range(3):
                yield self._name + b":" + request

        async def check(_: bytes, __: Any) -> bytes:
            # HealthCheckResponse{status: SERVING}
            return b"\x08\x01"

        methods = {
            "Get": grpc.unary_unary_rpc_method_handler(get),
            "Watch": grpc.unary_stream_rpc_method_handler(watch),
        }
        health = {"Check": grpc.unary_unary_rpc_method_handler(check)}
        # Without SO_REUSEPORT a port that is taken is an error and not shared.
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(SERVICE, methods),
                grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
            )
        )
        bound: int = self._server.add_insecure_port(f"127.0.0.1:{port}")
        await self._server.start()
        return bound

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(1.0)


async def serve(server: Server, conduct: Conduct, port: int) -> None:
    """Run a server until SIGTERM, SIGINT or the end of a piped standard input."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, done.set)
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        loop.add_reader(0, Orders(conduct, done).read)
    bound = await server.start(port)
    try:
        print(json.dumps({"port": bound, "pid": os.getpid()}), flush=True)
        await done.wait()
    finally:
        loop.remove_reader(0)
        await server.stop()


class Orders:
    """What is said on standard input: a fault per line; its end is ours."""

    def __init__(self, conduct: Conduct, done: asyncio.Event) -> None:
        self._conduct = conduct
        self._done = done
        self._rest = b""

    def read(self) -> None:
        """Take what is there. A line that is no fault is reported on standard error."""
        data = os.read(0, 4096)
        if not data:
            self._done.set()
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                self._conduct.become(Fault.parse(line.decode(errors="replace").strip()))
            except ValueError as error:
                print(error, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; exits with 2 and a reason when it makes no sense."""
    parser = argparse.ArgumentParser(prog="python -m sidecar.demo.services", description=__doc__)
    parser.add_argument("kind", choices=["http", "grpc"])
    parser.add_argument("--port", type=int, default=0, help="0 for any")
    parser.add_argument("--name", default="users", help="named in every answer")
    parser.add_argument("--fault", default="none", metavar="none|fail:RATIO|slow:AFTER[:DELAY]")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    try:
        conduct = Conduct(Fault.parse(options.fault), options.seed)
    except ValueError as error:
        parser.error(str(error))
    server: Server = (HttpUsers if options.kind == "http" else GrpcUsers)(options.name, conduct)
    try:
        asyncio.run(serve(server, conduct, options.port))
    except (OSError, RuntimeError) as error:
        sys.exit(f"cannot listen on 127.0.0.1:{options.port}: {error}")


if __name__ == "__main__":
    main()
