"""The phases of the end: what is served, what finishes, what the rest is told.

Case 7 of the reliability cases: SIGTERM with 200 open gRPC streams and unary load.
"""

import asyncio
import json
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import h2.config
import h2.connection
import hpack
import pytest
import yaml
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from sidecar.lifecycle.phases import Phases
from sidecar.proxy.websocket import WebSocketStream
from tests.chaos.watching import eventually
from tests.interop.setups import TIMEOUT, config, session
from tests.support.grpc_service import SERVICE, GrpcService
from tests.support.http_service import HttpService
from tests.support.processes import Child, Processes
from tests.support.sidecar import SidecarProcess, running

STREAMS = 200
_CHANNEL = (("grpc.use_local_subchannel_pool", 1),)


async def start(processes: Processes, folder: Path, text: str) -> SidecarProcess:
    sidecar = SidecarProcess(folder, text)
    processes.own(sidecar)
    await sidecar.serve()
    return sidecar


def phase(name: str) -> Any:
    """For `until`: the phase has begun."""

    def begun(child: Child) -> dict[str, Any] | None:
        for line in child.stderr:
            if line.startswith("{") and '"shutdown"' in line:
                event: dict[str, Any] = json.loads(line)
                if event.get("phase") == name:
                    return event
        return None

    return begun


@pytest.mark.parametrize(
    ("shutdown", "pause", "expected"),
    [
        (25.0, True, Phases(5.0, 19.0, 1.0)),
        (25.0, False, Phases(0.0, 24.0, 1.0)),
        (5.0, True, Phases(1.0, 3.5, 0.5)),
        (300.0, True, Phases(5.0, 294.0, 1.0)),
        (0.0, True, Phases(0.0, 0.0, 0.0)),
    ],
)
def test_one_knob_gives_every_phase(shutdown: float, pause: bool, expected: Phases) -> None:
    assert Phases.of(shutdown, pause) == expected


# ---------------------------------------------------------------------- case 7


@pytest.mark.slow
async def test_two_hundred_streams_and_unary_load_outlive_sigterm(processes: Processes, tmp_path: Path) -> None:
    async with GrpcService() as service:
        sidecar = await start(processes, tmp_path, config([service.address], shutdown="20s"))
        target = sidecar.addresses["out"]
        channels = [grpc.aio.insecure_channel(target, options=_CHANNEL) for _ in range(4)]
        unary: Counter[str] = Counter()
        stopped = asyncio.Event()

        async def ask(channel: grpc.aio.Channel) -> None:
            while not stopped.is_set():
                try:
                    await channel.unary_unary(f"/{SERVICE}/Unary")(b"x")
                    unary["OK"] += 1
                except grpc.aio.AioRpcError as error:
                    unary[f"{error.code().name} {error.details()}"] += 1

        async def ask_anew() -> None:
            while not stopped.is_set():
                async with grpc.aio.insecure_channel(target, options=_CHANNEL) as channel:
                    try:
                        await channel.unary_unary(f"/{SERVICE}/Unary")(b"x")
                        unary["OK"] += 1
                    except grpc.aio.AioRpcError as error:
                        unary[f"{error.code().name} {error.details()}"] += 1

        # Given 200 streams that are open, and calls beside them
        streams = [channels[n % 4].stream_stream(f"/{SERVICE}/Bidi")() for n in range(STREAMS)]
        await asyncio.gather(*(_talk(stream, b"before") for stream in streams))
        callers = [asyncio.create_task(ask(channels[0])) for _ in range(4)]
        callers += [asyncio.create_task(ask_anew()) for _ in range(2)]
        await _until(lambda: unary["OK"] >= 50)
        # When the process is told to end
        sidecar.terminate()
        await sidecar.until(phase("pause"))
        answered = unary["OK"]
        # Then streams and calls, on old and new connections, go on for the pause
        await asyncio.gather(*(_talk(stream, b"in the pause") for stream in streams))
        await _until(lambda: unary["OK"] >= answered + 200)
        stopped.set()
        await asyncio.gather(*callers)
        assert set(unary) == {"OK"}
        # And when new calls are refused, what is open talks on, and ends as it wants to
        event = await sidecar.until(phase("finish"))
        assert event["in_flight"] == STREAMS
        await asyncio.gather(*(_talk(stream, b"at the end") for stream in streams))
        for stream in streams:
            await stream.done_writing()
        assert await asyncio.gather(*(stream.code() for stream in streams)) == [grpc.StatusCode.OK] * STREAMS
        # And the process ends when the last one has, long before its time is up
        assert await sidecar.exited() == 0
        assert phase("farewell")(sidecar) is None
        for channel in channels:
            await channel.close()


async def _talk(stream: Any, message: bytes) -> None:
    await stream.write(message)
    assert await stream.read() == message


async def _until(true: Any) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - counters tell nobody
            await asyncio.sleep(0.01)


# ------------------------------------------------------------- after the pause


async def test_after_the_pause_a_request_is_told_that_we_drain(
    processes: Processes, tmp_path: Path, http_service: HttpService
) -> None:
    sidecar = await start(processes, tmp_path, config([http_service.address], shutdown="3s"))
    # Given connections on which a request has begun to come, and one that holds the process
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port("out"))
    writer.write(b"GET /bytes/5 HTTP/1.1\r\n")
    h2_reader, h2_writer, h2_client = await _http2(sidecar)
    async with (
        aiohttp.ClientSession(timeout=TIMEOUT) as client,
        # What holds the process.
        client.get(sidecar.url("out", "/stream?id=s&chunks=1")) as long,
    ):
        sidecar.terminate()
        await sidecar.until(phase("finish"))
        # When they ask after the pause
        writer.write(b"host: x\r\n\r\n")
        h2_client.send_headers(1, _HEAD, end_stream=True)
        h2_client.send_headers(3, [*_HEAD, ("content-type", "application/grpc"), ("te", "trailers")])
        h2_writer.write(h2_client.data_to_send())
        # Then each is told so, in its protocol's form
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"x-sidecar-error: draining\r\n" in answer
        assert b"connection: close\r\n" in answer
        plain, rpc = await _answers(h2_reader, 1, 3)
        assert (plain[":status"], plain["x-sidecar-error"]) == ("503", "draining")
        assert (rpc[":status"], rpc["grpc-status"], rpc["x-sidecar-error"]) == ("200", "14", "draining")
        # And who comes anew is refused
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", sidecar.port("out"))
        async with client.get(sidecar.url("admin", "/metrics")) as response:
            text = await response.text()
        assert 'sidecar_local_replies_total{cluster="",reason="draining"} 3.0' in text
        async with client.get(sidecar.url("admin", "/readyz")) as response:
            assert response.status == 503
            assert (await response.json())["checks"]["draining"]["message"].startswith("finish, ")
        http_service.release("s")
        assert await long.read() == b"chunk 0\n"
    writer.close()
    h2_writer.close()
    assert await sidecar.exited() == 0


_HEAD = [(":method", "GET"), (":scheme", "http"), (":path", "/bytes/5"), (":authority", "x")]


async def _http2(sidecar: SidecarProcess) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port("out"))
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    client.initiate_connection()
    writer.write(client.data_to_send())
    client.receive_data(await reader.read(4096))  # SETTINGS, so that it is known to be open
    writer.write(client.data_to_send())
    return reader, writer, client


async def _answers(reader: asyncio.StreamReader, *streams: int) -> list[dict[str, str]]:
    """The heads on these streams. Not by h2, which hears nothing behind a GOAWAY."""
    heads: dict[int, dict[str, str]] = {}
    decoder = hpack.Decoder()
    async with asyncio.timeout(10):
        while not heads.keys() >= set(streams):
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3]))
            if head[3] == 1:
                heads[int.from_bytes(head[5:])] = {str(name): str(value) for name, value in decoder.decode(payload)}
    return [heads[stream] for stream in streams]


async def test_the_first_goaway_lets_everything_in_and_the_second_says_what_was(
    processes: Processes, tmp_path: Path, http_service: HttpService
) -> None:
    """RFC 9113 6.8: the notice, a round trip, the real number."""
    text = config([http_service.address], {"protocol": "http1"}, shutdown="5s")
    sidecar = await start(processes, tmp_path, text)
    reader, writer, client = await _http2(sidecar)
    client.send_headers(1, [*_HEAD[:2], (":path", "/hang"), _HEAD[3]], end_stream=True)
    writer.write(client.data_to_send())
    await eventually(lambda: http_service.calls["/hang"] == 1, "the call is under way")
    sidecar.terminate()
    frames: list[tuple[int, bytes]] = []
    while [kind for kind, _ in frames] != [7, 6]:
        frames += [frame for frame in [await _frame(reader)] if frame[0] in (6, 7)]
    goaway, ping = frames[0][1], frames[1][1]
    assert int.from_bytes(goaway[:4]) == 2**31 - 1
    # A request that crosses the notice is answered: the round trip is not over.
    client.send_headers(3, _HEAD, end_stream=True)
    writer.write(client.data_to_send() + b"\x00\x00\x08\x06\x01\x00\x00\x00\x00" + ping)
    seen: list[tuple[int, bytes]] = []
    while 7 not in [kind for kind, _ in seen]:
        seen.append(await _frame(reader))
    assert int.from_bytes(next(payload for kind, payload in seen if kind == 7)[:4]) == 3
    while 1 not in [kind for kind, _ in seen]:
        seen.append(await _frame(reader))
    writer.close()
    assert await sidecar.exited() == 0


async def _frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readexactly(9)
    return head[3], await reader.readexactly(int.from_bytes(head[:3]))


async def test_who_is_in_the_queue_is_let_in(http_service: HttpService) -> None:
    from tests.support.sidecar import running

    async with running(config([http_service.address])) as app:
        # Given a client that is connected, and that nobody has accepted yet
        listener = app.listeners["out"]
        port = listener.address.port
        socket = await asyncio.to_thread(_connected, port)
        # When the listener closes in the same breath
        listener.last_call()
        socket.sendall(b"GET /bytes/5 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        reader, writer = await asyncio.open_connection(sock=socket)
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


def _connected(port: int) -> Any:
    import socket

    return socket.create_connection(("127.0.0.1", port))


# ------------------------------------------------------------------ last words


async def test_streams_that_do_not_end_are_told_why(
    processes: Processes, tmp_path: Path, http_service: HttpService
) -> None:
    async with GrpcService() as service:
        text = yaml.safe_load(config([http_service.address], shutdown="1s"))
        text["clusters"]["rpc"] = {"listen": "127.0.0.1:0", "endpoints": [service.address]}
        sidecar = await start(processes, tmp_path, yaml.safe_dump(text))
        async with (
            grpc.aio.insecure_channel(sidecar.addresses["rpc"], options=_CHANNEL) as channel,
            aiohttp.ClientSession(timeout=TIMEOUT) as client,
        ):
            # Given a stream, a call, an answer that has begun, and one that has not
            stream = channel.stream_stream(f"/{SERVICE}/Bidi")()
            await _talk(stream, b"hello")
            call = channel.unary_unary(f"/{SERVICE}/Hang")(b"")
            half = await client.get(sidecar.url("out", "/stream?id=s&chunks=2"))
            waiting = asyncio.create_task(client.get(sidecar.url("out", "/hang"))._coro)
            await eventually(lambda: http_service.calls["/hang"] and service.calls["Hang"], "all are under way")
            sidecar.terminate()
            # Then gRPC gets a status with words, not a bare reset
            assert await stream.code() is grpc.StatusCode.UNAVAILABLE
            assert "(draining; cluster rpc" in await stream.details()
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
            # And HTTP a 503, or an answer that breaks off and cannot be taken for whole
            async with await waiting as refused:
                assert (refused.status, refused.headers["x-sidecar-error"]) == (503, "draining")
            with pytest.raises(aiohttp.ClientPayloadError):
                await half.read()
        assert await sidecar.exited() == 0
        assert service.cancelled == 1


async def test_a_websocket_gets_1001_on_both_sides(processes: Processes, tmp_path: Path) -> None:
    codes: list[int | None] = []

    async def serve(request: web.Request) -> web.WebSocketResponse:
        served = web.WebSocketResponse()
        await served.prepare(request)
        async for message in served:
            await served.send_str(message.data)
        codes.append(served.close_code)
        return served

    application = web.Application()
    application.router.add_get("/", serve)
    async with TestServer(application) as server:
        sidecar = await start(processes, tmp_path, config([f"127.0.0.1:{server.port}"], shutdown="2s"))
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT) as client,
            client.ws_connect(sidecar.url("out", "/")) as socket,
        ):
            await socket.send_str("hello")
            assert await socket.receive_str() == "hello"
            sidecar.terminate()
            # It works until its time is up
            await sidecar.until(phase("finish"))
            await socket.send_str("still here")
            assert await socket.receive_str() == "still here"
            message = await socket.receive()
            assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)
        assert await sidecar.exited() == 0
        await eventually(lambda: codes == [1001], "the service was told too")


async def test_a_tunnel_is_closed(processes: Processes, tmp_path: Path) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    forward = {"mode": "forward", "allow": [address], "routes": []}
    sidecar = await start(processes, tmp_path, config(["127.0.0.1:1"], listener=forward, shutdown="1s"))
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port("out"))
    writer.write(f"CONNECT {address} HTTP/1.1\r\nhost: {address}\r\n\r\n".encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    writer.write(b"ping")
    assert await reader.readexactly(4) == b"ping"
    sidecar.terminate()
    await sidecar.until(phase("finish"))
    writer.write(b"pong")
    assert await reader.readexactly(4) == b"pong"
    with pytest.raises(ConnectionResetError):
        await reader.read()
    assert await sidecar.exited() == 0
    writer.close()
    server.close()


class Inner:
    """The stream inside a WebSocketStream."""

    def __init__(self) -> None:
        self.sent = b""
        self.ended = False

    def send_data(self, data: bytes, end: bool) -> bool:
        assert not self.ended
        self.sent += data
        self.ended = end
        return True


def frame(opcode: int, payload: bytes, masked: bool = False) -> bytes:
    size = len(payload)
    bit = 0x80 if masked else 0
    if size < 126:
        head = bytes((0x80 | opcode, bit | size))
    elif size < 1 << 16:
        head = bytes((0x80 | opcode, bit | 126)) + size.to_bytes(2)
    else:
        head = bytes((0x80 | opcode, bit | 127)) + size.to_bytes(8)
    return head + (b"\0\0\0\0" if masked else b"") + payload


CLOSE = b"\x88\x02\x03\xe9"


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("step", [1, 2, 3, 7, 100, 1 << 20])
@pytest.mark.parametrize("sizes", [(0,), (1, 0, 5), (125, 126, 127), (65535, 65536), (3, 70_000, 2)])
def test_the_close_frame_stands_behind_a_whole_frame(masked: bool, step: int, sizes: tuple[int, ...]) -> None:
    # Given frames that come in pieces, of which the last is not all there
    frames = b"".join(frame(2, b"x" * size, masked) for size in sizes)
    *pieces, last = [frames[at : at + step] for at in range(0, len(frames), step)]
    inner = Inner()
    stream = WebSocketStream(inner, masked)
    for piece in pieces:
        stream.send_data(piece, False)
    # When it is to go away, and the rest comes
    stream.go_away()
    stream.send_data(last, False)
    # Then what was said is whole unless all was at a frame's end before, and the close frame comes next
    said = inner.sent
    ends = _ends(said)
    assert ends[-1] == len(said)
    closing = said[ends[-2] if len(ends) > 1 else 0 :]
    payload = closing[2:] if not masked else bytes(b ^ closing[2 + n] for n, b in enumerate(closing[6:]))
    assert (closing[0], closing[1], payload) == (0x88, 0x82 if masked else 2, b"\x03\xe9")
    assert frames.startswith(said[: len(said) - len(closing)])
    # And nothing comes behind it but the end
    stream.send_data(frame(1, b"more"), False)
    assert inner.sent == said
    stream.send_data(b"", True)
    assert inner.ended


def _ends(data: bytes) -> list[int]:
    """Where frames end, by another reading of RFC 6455 5.2."""
    at, ends = 0, []
    while at < len(data):
        length, skip = data[at + 1] & 127, 2
        if length == 126:
            length, skip = int.from_bytes(data[at + 2 : at + 4]), 4
        elif length == 127:
            length, skip = int.from_bytes(data[at + 2 : at + 10]), 10
        at += skip + (4 if data[at + 1] & 128 else 0) + length
        ends.append(at)
    return ends


def test_a_websocket_that_was_closed_is_not_closed_again() -> None:
    inner = Inner()
    stream = WebSocketStream(inner, masked=False)
    stream.send_data(CLOSE, False)
    stream.go_away()
    assert inner.sent == CLOSE


# -------------------------------------------------------------- with whom, how


async def test_quit_ends_it_in_good_order(processes: Processes, tmp_path: Path, http_service: HttpService) -> None:
    sidecar = await start(processes, tmp_path, config([http_service.address], shutdown="300s"))
    async with aiohttp.ClientSession(timeout=TIMEOUT) as client:
        async with client.get(sidecar.url("admin", "/api/quit")) as response:
            assert response.status == 405
        async with client.get(sidecar.url("out", "/stream?id=s&chunks=1")) as long:
            async with client.post(sidecar.url("admin", "/api/quit")) as response:
                assert (response.status, await response.json()) == (200, {"status": "stopping"})
            await sidecar.until(phase("finish"))
            http_service.release("s")
            assert await long.read() == b"chunk 0\n"
    assert await sidecar.exited() == 0


class Work:
    """A process whose end is awaited."""

    def __init__(self, folder: Path, name: str = "work") -> None:
        script = folder / name
        script.write_text("#!/bin/sh\nread line\n")
        script.chmod(0o755)
        self.process = subprocess.Popen([script], stdin=subprocess.PIPE)

    @property
    def pid(self) -> int:
        return self.process.pid

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)


@pytest.mark.parametrize("way", ["pid", "pid_file", "process"])
async def test_it_ends_with_the_process_it_serves(processes: Processes, tmp_path: Path, way: str) -> None:
    name = f"w{tmp_path.stat().st_ino}"[:15]
    work = Work(tmp_path, name)
    (tmp_path / "pid").write_text(f"{work.pid}\n")
    named = {"pid": work.pid, "pid_file": str(tmp_path / "pid"), "process": name}[way]
    try:
        sidecar = await start(processes, tmp_path, config(["127.0.0.1:1"], exit_with={way: named}, shutdown="300s"))
        await sidecar.until(lambda child: any('"goes_with"' in line for line in child.stderr) or None)
        assert sidecar.returncode is None
    finally:
        work.end()
    assert await sidecar.exited() == 0
    assert any("the process of exit_with has ended" in line for line in sidecar.stderr)


async def test_a_process_that_is_gone_already_ends_it_at_once(processes: Processes, tmp_path: Path) -> None:
    work = Work(tmp_path)
    work.end()
    sidecar = await start(processes, tmp_path, config(["127.0.0.1:1"], exit_with={"pid": work.pid}))
    assert await sidecar.exited() == 0


async def test_a_pid_file_that_is_a_pipe_holds_nobody_up(tmp_path: Path, http_service: HttpService) -> None:
    os.mkfifo(tmp_path / "pid")
    text = config([http_service.address], exit_with={"pid_file": str(tmp_path / "pid")})
    async with running(text) as app, session(app) as client, client.get("/empty") as response:
        assert response.status == 200


async def test_while_its_process_lives_sigterm_is_no_reason_to_refuse(
    processes: Processes, tmp_path: Path, http_service: HttpService
) -> None:
    """A pod's containers are all told at once: the service still calls while it drains."""
    work = Work(tmp_path)
    try:
        text = config([http_service.address], exit_with={"pid": work.pid}, shutdown="2s")
        sidecar = await start(processes, tmp_path, text.replace("shutdown: 2s", "shutdown: 60s"))
        await sidecar.until(lambda child: any('"goes_with"' in line for line in child.stderr) or None)
        sidecar.terminate()
        paused = await sidecar.until(phase("pause"))
        assert paused["seconds"] == 5.0
        # Longer than the silence that ends the pause of a sidecar nobody uses.
        await asyncio.sleep(1.3)
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT) as client,
            client.get(sidecar.url("out", "/bytes/5")) as response,
        ):
            assert response.status == 200
    finally:
        work.end()
    assert await sidecar.exited() == 0


async def test_a_sidecar_that_nobody_uses_does_not_wait_for_load_balancers(
    processes: Processes, tmp_path: Path
) -> None:
    sidecar = await start(processes, tmp_path, config(["127.0.0.1:1"]))
    sidecar.signal(signal.SIGTERM)
    # `shutdown` is 25s, its pause 5s: a second of silence is enough on loopback.
    assert await sidecar.exited(4.0) == 0
