"""HTTP/1 requests built from their grammar: what is right is read as it was meant, what is
broken in one named way is refused, and neither depends on how the bytes are cut."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import h1_requests

TOKEN = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.!", min_size=1, max_size=12).map(lambda text: "x-" + text)
VALUE = st.text("abcXYZ019 ,;=/\"'()", max_size=20).map(str.strip)
FIELDS = st.lists(st.tuples(TOKEN, VALUE), max_size=4)
BODY = st.binary(max_size=40)
PATH = st.text("abc/019?=&%2e.-~", max_size=20).map(lambda text: "/" + text)


@dataclass(frozen=True)
class Request:
    """One request; `sizes` are those of its chunks, none when it is sent by length."""

    method: str
    path: str
    fields: list[tuple[str, str]]
    body: bytes
    chunked: bool

    def written(self, framing: str = "", line: str = "", host: str = "Host: a\r\n") -> bytes:
        """Its bytes; another framing, another start line or more fields in place of the right ones."""
        own = "Transfer-Encoding: chunked\r\n" if self.chunked else f"Content-Length: {len(self.body)}\r\n"
        fields = "".join(f"{name}: {value}\r\n" for name, value in self.fields)
        head = f"{line or f'{self.method} {self.path} HTTP/1.1'}\r\n{host}{framing or own}{fields}\r\n"
        return head.encode() + self.framed()

    def framed(self) -> bytes:
        """The body as it goes out."""
        if not self.chunked:
            return self.body
        pieces = [self.body[place : place + 7] for place in range(0, len(self.body), 7)]
        return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


REQUEST = st.builds(Request, st.sampled_from(["POST", "PUT", "PATCH"]), PATH, FIELDS, BODY, st.booleans())

BREAKAGES = {
    "length and chunks": {"framing": "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"},
    "two lengths": {"framing": "Content-Length: 3\r\nContent-Length: 4\r\n"},
    "a signed length": {"framing": "Content-Length: +3\r\n"},
    "a list of lengths": {"framing": "Content-Length: 5,5\r\n"},
    "another coding": {"framing": "Transfer-Encoding: xchunked\r\n"},
    "chunks that are not last": {"framing": "Transfer-Encoding: chunked, gzip\r\n"},
    "no host": {"host": ""},
    "two hosts": {"host": "Host: a\r\nHost: b\r\n"},
    "space before the colon": {"host": "Host: a\r\nx : y\r\n"},
    "a folded line": {"host": "Host: a\r\nx: y\r\n z\r\n"},
    "a bare line feed": {"host": "Host: a\r\nx: y\nz: w\r\n"},
    "a null byte": {"host": "Host: a\r\nx: \0\r\n"},
    "an empty name": {"host": "Host: a\r\n: y\r\n"},
    "another version": {"line": "POST / HTTP/2.0"},
}


@given(st.lists(REQUEST, min_size=1, max_size=3))
@settings(derandomize=True, max_examples=60, deadline=None)
def test_what_is_right_is_read_as_it_was_meant(requests: list[Request]) -> None:
    # Given pipelined requests that keep to the grammar
    data = b"".join(request.written() for request in requests)
    # When they are read in one piece, byte by byte and in random pieces
    h1_requests.check(data)
    lines = h1_requests.read([data])
    # Then each is there, with its body
    heads = [line for line in lines if line[0] == "head"]
    assert [(head[1], head[4]) for head in heads] == [
        (request.method.encode(), request.path.encode()) for request in requests
    ]
    assert [line[1] for line in lines if line[0] == "data"] == [request.body for request in requests if request.body]
    assert ("error",) not in lines


@given(st.sampled_from(sorted(BREAKAGES)), st.lists(REQUEST, max_size=2), REQUEST)
@settings(derandomize=True, max_examples=150, deadline=None)
def test_what_is_broken_in_one_way_is_refused(breakage: str, before: list[Request], request_: Request) -> None:
    # Given a request that is broken, behind some that are not
    good = b"".join(request.written() for request in before)
    data = good + request_.written(**BREAKAGES[breakage])
    # When it is read, cut in any way
    h1_requests.check(data)
    lines = h1_requests.read([data])
    # Then the good ones are read, and it is refused
    assert lines[:-1] == h1_requests.read([good])
    assert lines[-1] == ("error",)
