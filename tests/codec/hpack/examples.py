"""The examples of RFC 7541, Appendix C.2 to C.6: what is on the wire, the header list in it, and the
dynamic table afterwards (newest first). Those of one group are sent over one connection, in order."""

from dataclasses import dataclass
from typing import Final

from tests.codec.hpack.peers import Field


@dataclass(frozen=True)
class Example:
    """`size` is that of the table as the RFC states it, in bytes."""

    section: str
    block: bytes
    fields: tuple[Field, ...]
    table: tuple[Field, ...]
    size: int


@dataclass(frozen=True)
class Group:
    """`limit` is SETTINGS_HEADER_TABLE_SIZE, in bytes."""

    section: str
    examples: tuple[Example, ...]
    responses: bool = False
    limit: int = 4096

    def __str__(self) -> str:
        return self.section


def _example(section: str, block: str, fields: tuple[Field, ...], table: tuple[Field, ...], size: int) -> Example:
    return Example(section, bytes.fromhex(block), fields, table, size)


_CUSTOM: Final = Field(b"custom-key", b"custom-header")
_GET: Final = Field(b":method", b"GET")

# C.2: one representation each.
_C21: Final = _example("C.2.1", "400a637573746f6d2d6b65790d637573746f6d2d686561646572", (_CUSTOM,), (_CUSTOM,), 55)
_C22: Final = _example("C.2.2", "040c2f73616d706c652f70617468", (Field(b":path", b"/sample/path"),), (), 0)
_C23: Final = _example("C.2.3", "100870617373776f726406736563726574", (Field(b"password", b"secret", True),), (), 0)
_C24: Final = _example("C.2.4", "82", (_GET,), (), 0)

# C.3 and C.4: three requests, without Huffman codes and with them.
_AUTHORITY: Final = Field(b":authority", b"www.example.com")
_NO_CACHE: Final = Field(b"cache-control", b"no-cache")
_VALUE: Final = Field(b"custom-key", b"custom-value")
_HTTP: Final = Field(b":scheme", b"http")
_REQUESTS: Final = (
    (_GET, _HTTP, Field(b":path", b"/"), _AUTHORITY),
    (_GET, _HTTP, Field(b":path", b"/"), _AUTHORITY, _NO_CACHE),
    (_GET, Field(b":scheme", b"https"), Field(b":path", b"/index.html"), _AUTHORITY, _VALUE),
)
_REQUEST_TABLES: Final = (
    ((_AUTHORITY,), 57),
    ((_NO_CACHE, _AUTHORITY), 110),
    ((_VALUE, _NO_CACHE, _AUTHORITY), 164),
)

# C.5 and C.6: three responses, with a table of 256 bytes that has to evict.
_PRIVATE: Final = Field(b"cache-control", b"private")
_DATE_21: Final = Field(b"date", b"Mon, 21 Oct 2013 20:13:21 GMT")
_DATE_22: Final = Field(b"date", b"Mon, 21 Oct 2013 20:13:22 GMT")
_LOCATION: Final = Field(b"location", b"https://www.example.com")
_GZIP: Final = Field(b"content-encoding", b"gzip")
_COOKIE: Final = Field(b"set-cookie", b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1")
_302, _307, _200 = (Field(b":status", code) for code in (b"302", b"307", b"200"))
_RESPONSES: Final = (
    (_302, _PRIVATE, _DATE_21, _LOCATION),
    (_307, _PRIVATE, _DATE_21, _LOCATION),
    (_200, _PRIVATE, _DATE_22, _LOCATION, _GZIP, _COOKIE),
)
_RESPONSE_TABLES: Final = (
    ((_LOCATION, _DATE_21, _PRIVATE, _302), 222),
    ((_307, _LOCATION, _DATE_21, _PRIVATE), 222),
    ((_COOKIE, _GZIP, _DATE_22), 215),
)


def _three(
    section: str,
    blocks: tuple[str, str, str],
    lists: tuple[tuple[Field, ...], ...],
    tables: tuple[tuple[tuple[Field, ...], int], ...],
) -> tuple[Example, ...]:
    return tuple(
        _example(f"{section}.{number}", block, fields, *table)
        for number, (block, fields, table) in enumerate(zip(blocks, lists, tables, strict=True), 1)
    )


_C3: Final = (
    "828684410f7777772e6578616d706c652e636f6d",
    "828684be58086e6f2d6361636865",
    "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
)
_C4: Final = (
    "828684418cf1e3c2e5f23a6ba0ab90f4ff",
    "828684be5886a8eb10649cbf",
    "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
)
_C5: Final = (
    "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54"
    "6e1768747470733a2f2f7777772e6578616d706c652e636f6d",
    "4803333037c1c0bf",
    "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d"
    "4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
)
_C6: Final = (
    "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
    "4883640effc1c0bf",
    "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af"
    "27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
)

GROUPS: Final = (
    *(Group(one.section, (one,)) for one in (_C21, _C22, _C23, _C24)),
    Group("C.3", _three("C.3", _C3, _REQUESTS, _REQUEST_TABLES)),
    Group("C.4", _three("C.4", _C4, _REQUESTS, _REQUEST_TABLES)),
    Group("C.5", _three("C.5", _C5, _RESPONSES, _RESPONSE_TABLES), responses=True, limit=256),
    Group("C.6", _three("C.6", _C6, _RESPONSES, _RESPONSE_TABLES), responses=True, limit=256),
)
