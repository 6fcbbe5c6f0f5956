"""A real gRPC service (unmodified grpcio), in this process or as one of its own.

    async with GrpcService() as service: ... service.port, service.runs
    python -m tests.support.grpc_service --port 0

Messages are plain bytes: no generated code. What a method does is told by the
call's metadata, so that one method serves every test. Calls are counted by
method in `calls`, and by their `x-request-id` in `runs`.
"""

import argparse
import asyncio
import base64
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.rpc import code_pb2, status_pb2

from tests.support.processes import announce

SERVICE = "test.Echo"
OPTIONS = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
SERVING, NOT_SERVING = 1, 2


class GrpcService:
    """`test.Echo`, and `grpc.health.v1.Health/Check` for the names in `health`.

    - `Unary`: the request back; `ServerStream`: the request `x-count` times (3);
      `ClientStream`: the requests joined; `Bidi`: each back as it comes
    - `Fail`, and `FailStream` after `x-count` messages: aborts with `x-code` (a name,
      UNAVAILABLE) and `x-details` (`x-details-bin` for UTF-8); trailers `x-trace`, `x-blob-bin` and, when
      `x-status-details` is given, `grpc-status-details-bin`
    - `FailFirst`: fails the first `x-count` runs of an `x-request-id`
    - `Hang`: no answer until cancelled (counted in `cancelled`); `HangStream` after
      its first message; `Slow`: after `x-ms` milliseconds
    - `Metadata`: what it saw as JSON: `{"metadata": [[name, value], ...], "remaining": seconds or null,
      "peer": ...}`, values of `-bin` names in base64
    - `Large`: as many bytes as the request's decimal number says
    - `Count`: `{"runs": n, "calls": {...}, "cancelled": n}` for the request id in the request

    Every method: `x-gzip` compresses the answer; `x-initial: VALUE` is sent back as
    initial metadata, with `x-initial-bin` beside it. `deadlines` holds the seconds that each
    `Hang` had left at its start.
    """

    def __init__(self, port: int = 0, name: str = "grpc") -> None:
        self.port = port
        self.name = name
        self.calls: Counter[str] = Counter()
        self.runs: Counter[str] = Counter()
        self.cancelled = 0
        self.deadlines: list[float | None] = []
        self.health: dict[str, int] = {"": SERVING, SERVICE: SERVING}
        self._server: Any = None

    @property
    def address(self) -> str:
        """`host:port`, as a cluster's `endpoints` take it."""
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> "GrpcService":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; RuntimeError when the port is taken."""
        server = grpc.aio.server(options=OPTIONS)
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(SERVICE, self._methods()),
                grpc.method_handlers_generic_handler(
                    "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(self._check)}
                ),
            )
        )
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()
        self._server = server

    async def stop(self, grace: float | None = None) -> None:
        """Stop; calls in flight get `grace` seconds, and are cancelled then."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(grace)

    def _methods(self) -> dict[str, Any]:
        one, many = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        return {
            "Unary": one(self._unary("Unary", self._same)),
            "Fail": one(self._unary("Fail", self._fail)),
            "FailFirst": one(self._unary("FailFirst", self._fail_first)),
            "Hang": one(self._unary("Hang", self._hang)),
            "Slow": one(self._unary("Slow", self._slow)),
            "Metadata": one(self._unary("Metadata", self._metadata)),
            "Large": one(self._unary("Large", self._large)),
            # Not counted: it must not change what it tells.
            "Count": one(self._count),
            "ServerStream": many(self._server_stream),
            "FailStream": many(self._fail_stream),
            "HangStream": many(self._hang_stream),
            "ClientStream": grpc.stream_unary_rpc_method_handler(self._client_stream),
            "Bidi": grpc.stream_stream_rpc_method_handler(self._bidi),
        }

    def _unary(self, method: str, answer: Callable[[bytes, Any], Any]) -> Callable[[bytes, Any], Any]:
        async def run(request: bytes, call: Any) -> bytes:
            await self._begin(method, call)
            result: bytes = await answer(request, call)
            return result

        return run

    async def _begin(self, method: str, call: Any) -> None:
        metadata = _metadata(call)
        self.calls[method] += 1
        if "x-request-id" in metadata:
            self.runs[metadata["x-request-id"]] += 1
        if "x-gzip" in metadata:
            call.set_compression(grpc.Compression.Gzip)
        if "x-initial" in metadata:
            await call.send_initial_metadata(
                (("x-initial", metadata["x-initial"]), ("x-initial-bin", metadata["x-initial"].encode()))
            )

    async def _same(self, request: bytes, _: Any) -> bytes:
        return request

    async def _fail(self, _: bytes, call: Any) -> bytes:
        metadata = _metadata(call)
        code = grpc.StatusCode[metadata.get("x-code", "UNAVAILABLE")]
        details = metadata.get("x-details", "failed on purpose")
        if "x-details-bin" in metadata:
            details = metadata["x-details-bin"].decode()
        trailers: list[tuple[str, str | bytes]] = [("x-trace", "abc"), ("x-blob-bin", b"\x00\xff\x01")]
        if "x-status-details" in metadata:
            status = status_pb2.Status(code=code_pb2.Code.Value(code.name), message=details)
            status.details.add(type_url="type.example/Detail", value=metadata["x-status-details"].encode())
            trailers.append(("grpc-status-details-bin", status.SerializeToString()))
        await call.abort(code, details, tuple(trailers))
        raise AssertionError("abort raises")

    async def _fail_first(self, request: bytes, call: Any) -> bytes:
        metadata = _metadata(call)
        if self.runs[metadata["x-request-id"]] <= int(metadata.get("x-count", "1")):
            return await self._fail(request, call)
        return request

    async def _hang(self, _: bytes, call: Any) -> bytes:
        self.deadlines.append(_remaining(call))
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled += 1
        raise AssertionError("an event that nobody sets was set")

    async def _slow(self, request: bytes, call: Any) -> bytes:
        await asyncio.sleep(int(_metadata(call).get("x-ms", "100")) / 1000)
        return request

    async def _metadata(self, _: bytes, call: Any) -> bytes:
        seen = [
            [name, base64.b64encode(value).decode() if isinstance(value, bytes) else value]
            for name, value in call.invocation_metadata()
        ]
        return json.dumps({"metadata": seen, "remaining": _remaining(call), "peer": call.peer()}).encode()

    async def _large(self, request: bytes, _: Any) -> bytes:
        return bytes(int(request))

    async def _count(self, request: bytes, _: Any) -> bytes:
        told = {"runs": self.runs[request.decode()], "calls": dict(self.calls), "cancelled": self.cancelled}
        return json.dumps(told).encode()

    async def _server_stream(self, request: bytes, call: Any) -> AsyncIterator[bytes]:
        await self._begin("ServerStream", call)
        for _ in range(int(_metadata(call).get("x-count", "3"))):
            yield request

    async def _fail_stream(self, request: bytes, call: Any) -> AsyncIterator[bytes]:
        await self._begin("FailStream", call)
        for _ in range(int(_metadata(call).get("x-count", "1"))):
            yield request
        await self._fail(request, call)

    async def _hang_stream(self, request: bytes, call: Any) -> AsyncIterator[bytes]:
        await self._begin("HangStream", call)
        yield request
        await self._hang(request, call)

    async def _client_stream(self, requests: AsyncIterator[bytes], call: Any) -> bytes:
        await self._begin("ClientStream", call)
        return b"".join([request async for request in requests])

    async def _bidi(self, requests: AsyncIterator[bytes], call: Any) -> AsyncIterator[bytes]:
        await self._begin("Bidi", call)
        async for request in requests:
            yield request

    async def _check(self, request: bytes, call: Any) -> bytes:
        # HealthCheckRequest {string service = 1}, HealthCheckResponse {enum status = 1}: short
        # enough to read by hand, so that no generated code is needed.
        self.calls["Check"] += 1
        name = request[2:].decode()
        if name not in self.health:
            await call.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {name!r}")
        return bytes([0x08, self.health[name]])


def _metadata(call: Any) -> dict[str, Any]:
    return dict(call.invocation_metadata())


def _remaining(call: Any) -> float | None:
    seconds: float | None = call.time_remaining()
    return seconds


async def _serve(port: int, name: str) -> None:
    async with GrpcService(port, name) as service:
        announce(service.port)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--name", default="grpc")
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.port, arguments.name))
