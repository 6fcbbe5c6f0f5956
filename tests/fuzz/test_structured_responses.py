"""HTTP/1 responses built from their grammar: what is right is read as it was meant and reaches the
client, what is broken in one named way ends in 502, and neither depends on how the bytes are cut."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from fuzz import h1_responses
from fuzz.stage import Heard, Stage
from sidecar.model.head import RequestHead
from tests.fuzz.test_structured import BODY, FIELDS
from tests.fuzz.views import Lines, answer, requests

BODYLESS = (204, 304)


@dataclass(frozen=True)
class Response:
    """One response; `framing` is how its end is told, and `interim` how many 1xx come before it."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes
    framing: str
    interim: int

    def written(self, method: str, line: str = "", more: str = "") -> bytes:
        """Its bytes to a method; another status line, or fields in place of the right framing."""
        own = {"length": f"Content-Length: {len(self.body)}\r\n", "chunks": "Transfer-Encoding: chunked\r\n"}
        framing = "" if self.status in BODYLESS else own.get(self.framing, "")
        fields = "".join(f"{name}: {value}\r\n" for name, value in self.fields)
        head = f"{line or f'HTTP/1.1 {self.status} Fine'}\r\n{more or framing}{fields}\r\n"
        return b"HTTP/1.1 103 Early Hints\r\n\r\n" * self.interim + head.encode() + self.framed(method)

    def framed(self, method: str) -> bytes:
        """The body as it goes out."""
        if not self.told(method) and (method == "HEAD" or self.status in BODYLESS):
            return b""
        if self.framing != "chunks":
            return self.body
        pieces = [self.body[place : place + 7] for place in range(0, len(self.body), 7)]
        return b"".join(b"%x;a=b\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"

    def told(self, method: str) -> bytes:
        """The body that the client is to get."""
        return b"" if method == "HEAD" or self.status in BODYLESS else self.body


METHOD = st.sampled_from(["GET", "HEAD"])
RESPONSE = st.builds(
    Response,
    st.sampled_from([200, 201, 204, 206, 302, 304, 404, 500, 599]),
    FIELDS,
    BODY,
    st.sampled_from(["length", "chunks", "close"]),
    st.integers(0, 2),
)

BREAKAGES = {
    "length and chunks": {"more": "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"},
    "two lengths": {"more": "Content-Length: 3\r\nContent-Length: 4\r\n"},
    "a signed length": {"more": "Content-Length: -1\r\n"},
    "a list of lengths": {"more": "Content-Length: 3,3\r\n"},
    "another coding": {"more": "Transfer-Encoding: xchunked\r\n"},
    "chunks twice": {"more": "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"},
    "space before the colon": {"more": "x : y\r\n"},
    "a folded line": {"more": "x: y\r\n z\r\n"},
    "a bare line feed": {"more": "x: y\nz: w\r\n"},
    "a null byte": {"more": "x: \0\r\n"},
    "an empty name": {"more": ": y\r\n"},
    "another version": {"line": "HTTP/2.0 200 OK"},
    "no status": {"line": "HTTP/1.1 OK"},
    "four digits": {"line": "HTTP/1.1 2000 OK"},
    "an upgrade that nobody asked for": {"line": "HTTP/1.1 101 Switching Protocols"},
}


def asked(method: str) -> bytes:
    return f"{method} /a HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def heard(method: str, *acts: bytes) -> Heard:
    """A play in which endpoints say this, one act after the other; said in one piece and byte by byte it is
    the same play."""
    said = [asked(method)]
    for act in acts:
        said += [act, b"\r\n"]
    whole, bytewise = (Stage("http1", "http", bytewise).play(said[:-1]) for bytewise in (False, True))
    assert answer(whole.client, method) == answer(bytewise.client, method)
    assert requests(whole.endpoints) == requests(bytewise.endpoints)
    return whole


def body_of(lines: Lines) -> bytes:
    return b"".join(line[1] for line in lines if line[0] == "data")


@given(METHOD, RESPONSE)
def test_what_is_right_is_read_as_it_was_meant(method: str, response: Response) -> None:
    # Given a response that keeps to the grammar
    data = response.written(method)
    # When it is read in one piece, byte by byte and in random pieces
    h1_responses.check(data)
    lines = h1_responses.read(RequestHead(method.encode(), b"/", b"a", []), [data])
    # Then it is there, with its body, behind its interim ones
    assert [line[0] for line in lines if line[0] != "data"] == ["informational"] * response.interim + ["head", "end"]
    head = lines[response.interim]
    assert head[1] == response.status
    expected = [(name.encode(), value.encode()) for name, value in response.fields]
    assert [pair for pair in head[2] if pair[0] != b"content-length"] == expected
    assert body_of(lines) == response.told(method)


@given(METHOD, RESPONSE)
def test_what_is_right_reaches_the_client(method: str, response: Response) -> None:
    # Given an endpoint that gives such a response and closes, when somebody asks
    lines = answer(heard(method, response.written(method), b"").client, method)
    # Then it is what they get
    (head,) = [line for line in lines if line[0] == "head"]
    assert head[1] == response.status
    assert body_of(lines) == response.told(method)
    assert lines[-1][0] == "end"


@given(st.sampled_from(sorted(BREAKAGES)), METHOD, RESPONSE)
def test_what_is_broken_in_one_way_is_an_error(breakage: str, method: str, response: Response) -> None:
    # Given a response that is broken
    data = response.written(method, **BREAKAGES[breakage])
    # When it is read, cut in any way
    h1_responses.check(data)
    lines = h1_responses.read(RequestHead(method.encode(), b"/", b"a", []), [data])
    # Then it is refused behind the interim ones, and nothing of it gets to whoever asked
    assert [line[0] for line in lines] == ["informational"] * response.interim + ["error"]
    got = answer(heard(method, *[data] * 4).client, method)
    (head,) = [line for line in got if line[0] == "head"]
    assert head[1] == 502
    assert b"x-sidecar-error" in dict(head[2])
