"""sidecar.codec.h2: heads both ways, and error codes."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ngh2 import NeverIndexedHeader

from sidecar.codec import h2
from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.headers import Headers
from sidecar.model.outcome import Failure

PSEUDO = ((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/a?b=c"), (b":authority", b"host:80"))


class TestRequestHead:
    @pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
    def test_pseudo_header_fields_in_any_order(self, order: tuple[int, ...]) -> None:
        head = h2.request_head((*(PSEUDO[index] for index in order), (b"x", b"1"), (b"y", b"2")), True)
        assert head is not None
        assert (head.method, head.scheme, head.path, head.authority) == (b"GET", b"http", b"/a?b=c", b"host:80")
        assert head.headers == [(b"x", b"1"), (b"y", b"2")]
        assert head.length == 0

    def test_length(self) -> None:
        declared = h2.request_head((*PSEUDO, (b"content-length", b"5")), False)
        unknown = h2.request_head(PSEUDO, False)
        assert declared is not None
        assert unknown is not None
        assert (declared.length, unknown.length) == (5, None)
        repeated = h2.request_head((*PSEUDO, (b"x", b"1"), (b"x", b"2"), (b"content-length", b"5")), False)
        assert repeated is not None
        assert repeated.length == 5

    def test_repeated_fields_keep_their_order(self) -> None:
        fields = ((b"x", b"1"), (b"y", b"2"), (b"x", b"3"))
        head = h2.request_head((*PSEUDO, *fields), True)
        assert head is not None
        assert head.headers == list(fields)

    def test_cookie_crumbs_are_joined_where_the_first_stood(self) -> None:
        fields = ((b"a", b"1"), (b"cookie", b"x=1"), (b"b", b"2"), (b"cookie", b"y=2"), (b"cookie", b"z=3"))
        head = h2.request_head((*PSEUDO, *fields), True)
        assert head is not None
        assert head.headers == [(b"a", b"1"), (b"cookie", b"x=1; y=2; z=3"), (b"b", b"2")]

    def test_empty_crumbs_leave_no_space_at_an_end(self) -> None:
        # RFC 9113 8.2.1.
        for values, joined in (((b"x=1", b""), b"x=1"), ((b"", b"x=1", b"y=2"), b"x=1; y=2"), ((b"", b""), b"")):
            head = h2.request_head((*PSEUDO, *((b"cookie", value) for value in values)), True)
            assert head is not None
            assert head.headers == [(b"cookie", joined)]

    def test_crumbs_of_which_one_must_not_be_indexed_stay_so(self) -> None:
        # RFC 7541 6.2.3.
        crumbs = (NeverIndexedHeader(b"cookie", b"secret=1"), (b"cookie", b"y=2"))
        for fields in (crumbs, crumbs[::-1]):
            head = h2.request_head((*PSEUDO, *fields), True)
            assert head is not None
            assert isinstance(head.headers[0], NeverIndexedHeader)
            assert isinstance(h2.request_fields(head)[4], NeverIndexedHeader)
        plain = h2.request_head((*PSEUDO, (b"cookie", b"x=1"), (b"cookie", b"y=2")), True)
        assert plain is not None
        assert not isinstance(plain.headers[0], NeverIndexedHeader)

    def test_more_fields_than_allowed_are_looked_into(self) -> None:
        fields = [(b"x%d" % number, b"") for number in range(257)]
        for number, usual in ((256, True), (257, False)):
            head = h2.request_head((*PSEUDO, *fields[:number]), True)
            assert head is not None
            assert (head.fields is not None) is usual
            assert h2.oversized((*PSEUDO, *fields[:number])) is not usual

    def test_one_cookie_is_left_alone(self) -> None:
        head = h2.request_head((*PSEUDO, (b"cookie", b"x=1")), True)
        assert head is not None
        assert head.headers == [(b"cookie", b"x=1")]

    @pytest.mark.parametrize(
        ("authority", "hosts", "expected"),
        [
            (b"a:80", [], b"a:80"),
            (b"a:80", [b"a:80"], b"a:80"),
            (b"a:80", [b"A:80"], b"a:80"),
            (None, [b"a"], b"a"),
            (b"a:80", [b"a:81"], None),
            (b"a", [b"b"], None),
            (None, [b"a", b"b"], None),
            (None, [], None),
            (b"user@a", [], None),
            (None, [b"user:secret@a"], None),
        ],
    )
    def test_one_authority(self, authority: bytes | None, hosts: list[bytes], expected: bytes | None) -> None:
        pseudo = PSEUDO[:3] if authority is None else (*PSEUDO[:3], (b":authority", authority))
        head = h2.request_head((*pseudo, *((b"host", host) for host in hosts), (b"x", b"1")), True)
        if expected is None:
            assert head is None
        else:
            assert head is not None
            assert head.authority == expected
            assert head.headers == [(b"x", b"1")]

    def test_connect_has_no_path(self) -> None:
        head = h2.request_head(((b":method", b"CONNECT"), (b":authority", b"host:443"), (b"x", b"1")), False)
        assert head is not None
        assert (head.method, head.path, head.authority) == (b"CONNECT", b"", b"host:443")
        assert head.headers == [(b"x", b"1")]


class TestResponseHead:
    def test_status_and_fields(self) -> None:
        head = h2.response_head(((b":status", b"404"), (b"content-length", b"5"), (b"x", b"1")))
        assert head is not None
        assert (head.status, head.length) == (404, 5)
        assert head.headers == [(b"content-length", b"5"), (b"x", b"1")]

    @pytest.mark.parametrize("status", [b"200", b"204", b"304"])
    def test_length_that_is_not_declared(self, status: bytes) -> None:
        head = h2.response_head(((b":status", status),))
        assert head is not None
        assert head.length is None

    @pytest.mark.parametrize("status", [b"099", b"000", b"abc", b""])
    def test_no_status(self, status: bytes) -> None:
        assert h2.response_head(((b":status", status),)) is None


class TestSent:
    def test_a_request(self) -> None:
        head = RequestHead(b"GET", b"/a", b"host", [(b"x", b"1")], scheme=b"https")
        assert h2.request_fields(head) == [
            (b":method", b"GET"),
            (b":scheme", b"https"),
            (b":path", b"/a"),
            (b":authority", b"host"),
            (b"x", b"1"),
        ]

    def test_a_request_without_a_host(self) -> None:
        names = [name for name, _ in h2.request_fields(RequestHead(b"GET", b"/a", b"", []))]
        assert names == [b":method", b":scheme", b":path"]

    def test_connect(self) -> None:
        assert h2.request_fields(RequestHead(b"CONNECT", b"", b"host:443", [])) == [
            (b":method", b"CONNECT"),
            (b":authority", b"host:443"),
        ]

    def test_a_response(self) -> None:
        assert h2.response_fields(ResponseHead(503, [(b"x", b"1")])) == [(b":status", b"503"), (b"x", b"1")]

    @pytest.mark.parametrize(
        "name",
        [
            b"connection",
            b"keep-alive",
            b"proxy-connection",
            b"transfer-encoding",
            b"upgrade",
            b"http2-settings",
            b"host",
        ],
    )
    def test_connection_specific_fields_stay_here(self, name: bytes) -> None:
        fields = [(b"x", b"1"), (name, b"value"), (name.title(), b"value")]
        for _ in range(2):
            assert h2.response_fields(ResponseHead(200, fields)) == [(b":status", b"200"), (b"x", b"1")]
            assert h2.trailer_fields(fields) == [(b"x", b"1")]
            assert h2.request_fields(RequestHead(b"GET", b"/", b"a", fields))[4:] == [(b"x", b"1")]

    def test_te_says_trailers_or_nothing(self) -> None:
        assert h2.sendable([(b"te", b"trailers")]) == [(b"te", b"trailers")]
        assert h2.sendable([(b"te", b"gzip")]) == []

    def test_names_are_lower_case(self) -> None:
        assert h2.sendable([(b"X-Some", b"Value")]) == [(b"x-some", b"Value")]

    @pytest.mark.parametrize("name", [b"", b":path", b"a b", b"a\r\nb", b"a:", b"\xe4"])
    def test_what_is_no_name_is_not_sent(self, name: bytes) -> None:
        assert h2.trailer_fields([(name, b"1"), (b"x", b"2")]) == [(b"x", b"2")]

    def test_what_is_learnt_of_names_is_bounded(self) -> None:
        for number in range(10_000):
            name = b"x-learn-%d" % number
            assert h2.sendable([(name, b"1")]) == [(name, b"1")]
        assert len(h2._known) <= 4096
        h2._known.difference_update({name for name in h2._known if name.startswith(b"x-learn-")})
        long = b"y" * 1000
        assert h2.sendable([(long, b"1")]) == [(long, b"1")]
        assert long not in h2._known

    @given(
        st.lists(
            st.tuples(
                st.one_of(st.binary(max_size=12), st.sampled_from([b"te", b"connection", b"Cookie", b"x-a", b":path"])),
                st.sampled_from([b"trailers", b"1"]),
            ),
            max_size=8,
        )
    )
    @example([(b"*", b"trailers"), (b"te", b"1")])
    def test_whatever_comes_what_goes_out_is_fit_for_it(self, fields: Headers) -> None:
        sent = h2.response_fields(ResponseHead(200, fields))[1:]
        assert sent == h2.response_fields(ResponseHead(200, fields))[1:], "learning a name changes nothing"
        for name, value in sent:
            assert name == name.lower()
            assert name
            assert not name.startswith(b":")
            assert name not in (b"connection", b"host")
            assert name != b"te" or value == b"trailers" or (b"te", value) in fields


def test_oversized_counts_as_the_rfc_does() -> None:
    just = ((b"x", b"v" * (h2.MAX_HEADER_LIST - 33)),)
    assert not h2.oversized(just)
    assert h2.oversized(((b"x", b"v" * (h2.MAX_HEADER_LIST - 32)),))


def test_goaway_frame() -> None:
    assert h2.goaway(11, 5) == b"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x0b"


def test_stream_limit() -> None:
    assert h2.stream_limit({3: 10}, -1) == 10
    assert h2.stream_limit({}, -1) > 1_000_000
    assert h2.stream_limit({4: 1}, 10) == 10
    assert h2.stream_limit({3: 0}, 10) == 0


@pytest.mark.parametrize(
    ("code", "answered", "failure"),
    [(7, False, Failure.REFUSED), (7, True, Failure.RESET), (8, False, Failure.RESET), (2, False, Failure.RESET)],
)
def test_upstream_failure(code: int, answered: bool, failure: Failure) -> None:
    assert h2.upstream_failure(code, answered) is failure


def test_refused_is_never_said_after_an_answer() -> None:
    for failure in Failure:
        assert h2.reset_code(failure, True) != 7
        assert 0 < h2.reset_code(failure, False) <= 13
