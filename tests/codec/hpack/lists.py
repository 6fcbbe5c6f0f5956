"""Random header lists, as real ones are and as none is: repeated names and values, empty ones, every
byte that RFC 9113 8.2.1 allows, fields larger than the table, fields that are never indexed."""

from random import Random
from typing import Final

from hpack.table import HeaderTable

from tests.codec.hpack.peers import Field

# What means something to HTTP/2 itself, or may not stand in it (RFC 9113 8.2.2).
_ELSEWHERE: Final = {b"content-length", b"host", b"transfer-encoding", b"te", b"connection"}
# Of the static table (RFC 7541 A), in whose order encoders look for a name.
STATIC: Final = [
    (bytes(name), bytes(value))
    for name, value in HeaderTable.STATIC_TABLE
    if not name.startswith(b":") and name not in _ELSEWHERE
]
_TOKEN: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-_.!#$%&'*+^`|~"
_NAME_BYTE: Final = bytes(_TOKEN[byte % len(_TOKEN)] for byte in range(256))
# Whatever a value may hold: not NUL, CR, LF, nor the other control bytes that libnghttp2 refuses.
_ALLOWED: Final = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
_VALUE_BYTE: Final = bytes(_ALLOWED[byte % len(_ALLOWED)] for byte in range(256))
# What most values are made of.
_PLAIN: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-/;=., "
_PLAIN_BYTE: Final = bytes(_PLAIN[byte % len(_PLAIN)] for byte in range(256))

_METHODS: Final = (b"GET", b"POST", b"PUT", b"DELETE", b"PURGE-IT")
_STATUSES: Final = (b"200", b"200", b"206", b"304", b"400", b"404", b"500", b"299", b"431", b"599")


class Lists:
    """An endless source of lists for one connection. `static` says that names of the static table are used too."""

    def __init__(self, random: Random, static: bool = True) -> None:
        self._random = random
        self._names = [self._name() for _ in range(random.randint(1, 30))]
        if static:
            self._names.extend(name for name, _ in random.sample(STATIC, 20))
        self._known = [self._fresh() for _ in range(random.randint(1, 60))]
        if static:
            self._known.extend(Field(*pair) for pair in random.sample(STATIC, 10))

    def request(self) -> list[Field]:
        """The list of a request; its pseudo-header fields stand in any order."""
        random = self._random
        text = random.randbytes(random.randrange(20)).hex().encode()
        pseudo = [
            Field(b":method", random.choice(_METHODS)),
            Field(b":scheme", random.choice((b"http", b"https"))),
            Field(b":path", b"/" if random.random() < 0.3 else b"/" + text),
            Field(b":authority", b"service.test" if random.random() < 0.5 else b"a-" + text[:6] + b".test:80"),
        ]
        if random.random() < 0.2:
            random.shuffle(pseudo)
        return pseudo + self._fields()

    def response(self) -> list[Field]:
        """The list of a response."""
        return [Field(b":status", self._random.choice(_STATUSES)), *self._fields()]

    def trailers(self) -> list[Field]:
        """A list without pseudo-header fields."""
        return self._fields() or [self._fresh()]

    def _fields(self) -> list[Field]:
        random = self._random
        number = int(random.expovariate(0.2)) if random.random() > 0.001 else random.randrange(500)
        fields = [random.choice(self._known) if random.random() < 0.75 else self._fresh() for _ in range(number)]
        if fields and random.random() < 0.1:
            fields.append(fields[0])
        return fields

    def _fresh(self) -> Field:
        random = self._random
        name = random.choice(self._names) if random.random() < 0.8 else self._name()
        never = random.random() < 0.05
        # An encoder may find a value in its table all the same, as an empty one of a name of the static
        # table: one that was never sent before cannot be there.
        value = b"secret-" + random.randbytes(12).hex().encode() if never else self._value()
        return Field(name, value, never)

    def _name(self) -> bytes:
        random = self._random
        size = random.randint(1, 24) if random.random() < 0.98 else random.randrange(1, 300)
        name = random.randbytes(size).translate(_NAME_BYTE)
        return b"x-" + name if name in _ELSEWHERE else name

    def _value(self) -> bytes:
        random = self._random
        kind = random.random()
        size = (
            random.randrange(48) if kind < 0.95 else random.randrange(600) if kind < 0.999 else random.randrange(9000)
        )
        table = _PLAIN_BYTE if random.random() < 0.8 else _VALUE_BYTE
        return random.randbytes(size).translate(table).strip(b" \t")
