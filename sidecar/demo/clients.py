"""The clients: an HTTP one with keep-alive (aiohttp) and an unmodified gRPC one (grpcio).

The same classes call straight and through the sidecar; only the addresses differ.
Straight they go round robin: the HTTP client in turn over its addresses, the gRPC
channel by grpcio's own policy of that name, which leaves out servers that it
cannot reach.
"""

import asyncio
import os
from collections.abc import Sequence
from itertools import cycle
from typing import Any, Final, Protocol

import aiohttp

from sidecar.demo.scenario import CLIENT_TIMEOUT, Call
from sidecar.demo.services import SERVICE

_READY_SECONDS: Final = 10.0


class Client(Protocol):
    """One client on one way."""

    async def call(self, call: Call) -> str:
        """Make a call: "" when it succeeded, else why not. Raises nothing."""

    async def close(self) -> None:
        """Close its connections."""


class HttpClient:
    """GET /users/{id}, and POST /orders with an Idempotency-Key."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = cycle(addresses)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=CLIENT_TIMEOUT)
        )

    async def call(self, call: Call) -> str:
        """Make a call: "" when it succeeded, else why not."""
        base = f"http://{next(self._addresses)}"
        try:
            if call.post:
                request = self._session.post(
                    f"{base}/orders", json={"item": call.number}, headers={"idempotency-key": f"order-{call.number}"}
                )
            else:
                request = self._session.get(f"{base}/users/{call.number}")
            async with request as response:
                await response.read()
                return "" if response.status < 400 else f"status {response.status}"
        except TimeoutError:
            return "timeout"
        except aiohttp.ClientConnectorError:
            return "refused"
        except aiohttp.ClientError:
            return "reset"

    async def close(self) -> None:
        """Close its connections."""
        await self._session.close()


class GrpcClient:
    """demo.Users/Get."""

    def __init__(self, addresses: Sequence[str]) -> None:
        # Its log lines would be printed into the table.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        import grpc

        self._error: type[Exception] = grpc.aio.AioRpcError
        self._channel = grpc.aio.insecure_channel(
            f"ipv4:{','.join(addresses)}",
            options=(
                ("grpc.lb_policy_name", "round_robin"),
                # An $http_proxy is for others: everything here is on this machine.
                ("grpc.enable_http_proxy", 0),
            ),
        )
        self._get = self._channel.unary_unary(f"/{SERVICE}/Get")

    async def ready(self) -> None:
        """Wait for a first connection, as long as it makes sense."""
        waiting = asyncio.ensure_future(self._channel.channel_ready())
        try:
            await asyncio.wait([waiting], timeout=_READY_SECONDS)
        finally:
            waiting.cancel()

    async def call(self, call: Call) -> str:
        """Make a call: "" when it succeeded, else why not."""
        try:
            await self._get(b"%d" % call.number, timeout=CLIENT_TIMEOUT)
        except self._error as error:
            return _code(error)
        return ""

    async def close(self) -> None:
        """Close its connections."""
        await self._channel.close()


def _code(error: Any) -> str:
    name: str = error.code().name
    return name
