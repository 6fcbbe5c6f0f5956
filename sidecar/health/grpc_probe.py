"""Health by gRPC: grpc.health.v1.Health/Check.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md. Its two messages
have one field each, so they are written and read here, without generated code.
grpcio is imported by whoever imports this file: only when a check speaks gRPC.
"""

from collections.abc import Callable
from typing import Any, Final

import grpc
import grpc.aio

from sidecar.model.address import Address

Pem = tuple[bytes | None, bytes | None, bytes | None]

_METHOD: Final = "/grpc.health.v1.Health/Check"
_STATUSES: Final = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
_SERVING: Final = 1

_OPTIONS: Final = (
    # A proxy from the environment may be this very sidecar.
    ("grpc.enable_http_proxy", 0),
    # Else it would share connections with the checks before.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)


class GrpcProbe:
    """One Check on a new channel each time: a kept one would wait for its own
    reconnect backoff, up to two minutes, before it saw the endpoint come back.

    `service` is the name to ask for, "" for the server as a whole. `tls` is None for
    plaintext, else gives (authorities, key, certificate) as PEM, each of which may be
    None: the system's authorities, no client certificate. It is asked at each check. `server_name` is whom the
    server's certificate has to be for; grpcio always verifies.
    """

    def __init__(
        self,
        service: str = "",
        *,
        tls: Callable[[], Pem] | None = None,
        server_name: str = "",
    ) -> None:
        self._request = encode_request(service)
        self._options: list[tuple[str, int | str]] = list(_OPTIONS)
        self._tls = tls
        if tls is not None and server_name:
            self._options.append(("grpc.ssl_target_name_override", server_name))

    async def ask(self, address: Address) -> str:
        """Empty for SERVING, else the status or the gRPC error."""
        channel = self._channel(address)
        try:
            status = await channel.unary_unary(_METHOD)(self._request)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        finally:
            await channel.close(None)
        if status is None:
            return "the answer holds no message"
        try:
            number = decode_status(status)
        except ValueError as error:
            return f"the answer is no HealthCheckResponse: {error}"
        if number == _SERVING:
            return ""
        return _STATUSES[number] if number < len(_STATUSES) else f"status {number}"

    def _channel(self, address: Address) -> Any:
        target = str(address) if address.unix else f"dns:///{address}"
        if self._tls is not None:
            credentials = grpc.ssl_channel_credentials(*self._tls())
            return grpc.aio.secure_channel(target, credentials, options=self._options)
        return grpc.aio.insecure_channel(target, options=self._options)

    async def close(self) -> None:
        """Nothing is kept."""


# Protocol buffers, https://protobuf.dev/programming-guides/encoding/: a field is a
# varint `number << 3 | wire type`, followed by its value.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def encode_request(service: str) -> bytes:
    """A HealthCheckRequest: `string service = 1`, left out when empty."""
    name = service.encode()
    return b"\x0a" + _varint(len(name)) + name if name else b""


def decode_status(message: bytes) -> int:
    """The status of a HealthCheckResponse (`ServingStatus status = 1`), 0 when it is
    left out. Fields that it does not know are skipped. ValueError when malformed."""
    status = position = 0
    while position < len(message):
        tag, position = _read_varint(message, position)
        if tag & 7 == _VARINT:
            value, position = _read_varint(message, position)
            if tag >> 3 == 1:
                status = value
        else:
            position = _skip(message, position, tag & 7)
    return status


def _skip(message: bytes, position: int, kind: int) -> int:
    if kind == _BYTES:
        size, position = _read_varint(message, position)
        position += size
    elif kind in (_FIXED64, _FIXED32):
        position += 8 if kind == _FIXED64 else 4
    else:
        raise ValueError(f"wire type {kind}")
    if position > len(message):
        raise ValueError("it is cut short")
    return position


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while position < len(message):
        byte = message[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")
    raise ValueError("it is cut short")
