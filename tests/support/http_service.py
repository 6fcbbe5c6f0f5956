"""A real HTTP/1.1 service (aiohttp), in this process or as one of its own.

    async with HttpService() as service: ... service.port, service.runs
    python -m tests.support.http_service --port 0

Every request is counted by path in `calls` and by its `x-request-id` in `runs`,
so that a test can tell how often a request was executed.
"""

import argparse
import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable

from aiohttp import WSMsgType, web
from aiohttp.typedefs import Middleware

from tests.support.processes import announce

Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpService:
    """Routes:

    - `/echo` (any method): method, path, headers and body back as JSON;
      `/echo/raw`: the body back as it came in, chunk by chunk
    - `/status/{code}`, `/bytes/{n}` (n bytes of 0..250 repeated), `/empty`
    - `/fail?rate=0.3&code=503`: seeded; `/fail-first?n=2&code=503`: by x-request-id
    - `/slow?ms=100`; `/hang`: no answer until the client goes (counted in `cancelled`)
    - `/stream?id=a&chunks=3`: one chunk per `POST /release?id=a`; without id all at once
    - `/sse?id=a&events=3`: the same as server-sent events
    - `/sink`: reads the body slowly if told so by `?ms=` per read; says how many bytes came
    - `/cookies` (two of them), `/redirect`
    - `/websocket`: echoes text and binary; `/count?id=`: how often that request id ran
    - `/close`: answers with `Connection: close`
    """

    def __init__(self, port: int = 0, seed: int = 1, keepalive: float = 75.0, name: str = "http") -> None:
        self.port = port
        self.name = name
        self.calls: Counter[str] = Counter()
        self.runs: Counter[str] = Counter()
        self.cancelled = 0
        self.connections = 0
        self._random = random.Random(seed)
        self._keepalive = keepalive
        self._releases: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(0))
        self._runner: web.AppRunner | None = None

    @property
    def address(self) -> str:
        """`host:port`, as a cluster's `endpoints` take it."""
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> "HttpService":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; OSError when the port is taken."""
        runner = web.AppRunner(
            self._application(),
            access_log=None,
            keepalive_timeout=self._keepalive,
            # A client that goes must be seen by /hang.
            handler_cancellation=True,
            shutdown_timeout=0.1,
        )
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self._runner = runner
        self.port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def release(self, stream: str, chunks: int = 1) -> None:
        """Let `chunks` more go out on the stream of that id."""
        for _ in range(chunks):
            self._releases[stream].release()

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[self._counted()], client_max_size=64 << 20)
        routes: dict[str, Respond] = {
            "/echo": self._echo,
            "/echo/raw": self._echo_raw,
            "/status/{code}": self._status,
            "/bytes/{n}": self._bytes,
            "/empty": self._empty,
            "/fail": self._fail,
            "/fail-first": self._fail_first,
            "/slow": self._slow,
            "/hang": self._hang,
            "/stream": self._stream,
            "/sse": self._sse,
            "/sink": self._sink,
            "/cookies": self._cookies,
            "/redirect": self._redirect,
            "/release": self._release,
            "/count": self._count,
            "/close": self._close,
            "/websocket": self._websocket,
        }
        for path, respond in routes.items():
            app.router.add_route("*", path, respond)
        return app

    def _counted(self) -> Middleware:
        @web.middleware
        async def count(request: web.Request, handler: Respond) -> web.StreamResponse:
            self.calls[request.path] += 1
            if identity := request.headers.get("x-request-id"):
                self.runs[identity] += 1
            return await handler(request)

        return count

    async def _echo(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        return web.json_response(
            {
                "service": self.name,
                "method": request.method,
                "path": request.raw_path,
                "headers": [[name, value] for name, value in request.headers.items()],
                "body": body.decode("latin-1"),
            }
        )

    async def _echo_raw(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "application/octet-stream"})
        await response.prepare(request)
        async for chunk in request.content.iter_any():
            await response.write(chunk)
        return response

    async def _status(self, request: web.Request) -> web.StreamResponse:
        code = int(request.match_info["code"])
        return web.Response(status=code, text=None if code in (204, 304) else f"{self.name} {code}")

    async def _bytes(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=pattern(int(request.match_info["n"])))

    async def _empty(self, _: web.Request) -> web.StreamResponse:
        return web.Response()

    async def _fail(self, request: web.Request) -> web.StreamResponse:
        if self._random.random() < float(request.query.get("rate", "1")):
            return web.Response(status=int(request.query.get("code", "503")), text="failed on purpose")
        return web.Response(text=self.name)

    async def _fail_first(self, request: web.Request) -> web.StreamResponse:
        if self.runs[request.headers["x-request-id"]] <= int(request.query.get("n", "1")):
            return web.Response(status=int(request.query.get("code", "503")), text="failed on purpose")
        return web.Response(text=self.name)

    async def _slow(self, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(int(request.query.get("ms", "100")) / 1000)
        return web.Response(text=self.name)

    async def _hang(self, _: web.Request) -> web.StreamResponse:
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled += 1
        raise AssertionError("an event that nobody sets was set")

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        return await self._released(request, "application/octet-stream", "chunks", lambda i: b"chunk %d\n" % i)

    async def _sse(self, request: web.Request) -> web.StreamResponse:
        return await self._released(request, "text/event-stream", "events", lambda i: b"id: %d\ndata: tick\n\n" % i)

    async def _released(
        self, request: web.Request, content_type: str, number: str, chunk: Callable[[int], bytes]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": content_type})
        await response.prepare(request)
        stream = request.query.get("id")
        for index in range(int(request.query.get(number, "3"))):
            if stream is not None:
                await self._releases[stream].acquire()
            await response.write(chunk(index))
        return response

    async def _sink(self, request: web.Request) -> web.StreamResponse:
        total = 0
        async for chunk in request.content.iter_any():
            total += len(chunk)
            if pause := int(request.query.get("ms", "0")):
                await asyncio.sleep(pause / 1000)
        return web.json_response({"bytes": total})

    async def _cookies(self, _: web.Request) -> web.StreamResponse:
        response = web.Response(text=self.name)
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    async def _redirect(self, _: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"location": "/echo"})

    async def _release(self, request: web.Request) -> web.StreamResponse:
        self.release(request.query["id"], int(request.query.get("chunks", "1")))
        return web.Response()

    async def _count(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"runs": self.runs[request.query["id"]], "calls": dict(self.calls)})

    async def _close(self, _: web.Request) -> web.StreamResponse:
        response = web.Response(text=self.name)
        response.force_close()
        return response

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=("echo",))
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await socket.send_bytes(message.data)
        return socket


def pattern(length: int) -> bytes:
    """Bytes in which a lost, doubled or moved piece shows: 251 is prime to every buffer size."""
    whole = bytes(range(251))
    return (whole * (length // 251 + 1))[:length]


async def _serve(port: int, seed: int, keepalive: float, name: str) -> None:
    async with HttpService(port, seed, keepalive, name) as service:
        announce(service.port)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keepalive", type=float, default=75.0, help="seconds that an idle connection is kept")
    parser.add_argument("--name", default="http")
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.port, arguments.seed, arguments.keepalive, arguments.name))
