"""sidecar.codec.grpc against PROTOCOL-HTTP2."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.codec import grpc


def message(data: bytes) -> bytes:
    return b"\0" + len(data).to_bytes(4, "big") + data


class TestTimeout:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            (b"1H", 3600.0),
            (b"2M", 120.0),
            (b"15S", 15.0),
            (b"500m", 0.5),
            (b"1u", 1e-6),
            (b"99999999n", 0.099999999),
            (b"0S", 0.0),
        ],
    )
    def test_parse(self, value: bytes, seconds: float) -> None:
        parsed = grpc.parse_timeout(value)
        assert parsed == pytest.approx(seconds)

    @pytest.mark.parametrize("value", [b"", b"S", b"1", b"1s", b"-1S", b"1.5S", b"123456789S", b" 1S", b"1S ", b"1S\n"])
    def test_malformed(self, value: bytes) -> None:
        assert grpc.parse_timeout(value) is None

    @pytest.mark.parametrize(
        ("seconds", "value"),
        [
            (0.5, b"500000u"),
            (0.05, b"50000000n"),
            (15.0, b"15000000u"),
            (3600.0, b"3600000m"),
            (1e6, b"1000000S"),
            (1e9, b"16666666M"),
            (1e11, b"27777777H"),
            (1e300, b"99999999H"),
            (0.0, b"1n"),
            (-1.0, b"1n"),
            (1e-12, b"1n"),
        ],
    )
    def test_format(self, seconds: float, value: bytes) -> None:
        assert grpc.format_timeout(seconds) == value

    @given(st.floats(min_value=1e-9, max_value=1e11))
    def test_never_more_than_is_left_and_hardly_less(self, seconds: float) -> None:
        parsed = grpc.parse_timeout(grpc.format_timeout(seconds))
        assert parsed is not None
        assert 0 < parsed <= seconds * (1 + 1e-12)
        assert seconds - parsed <= max(1e-9, seconds * 1e-4)


class TestMessage:
    @pytest.mark.parametrize(
        ("text", "value"),
        [("plain text", b"plain text"), ("100%", b"100%25"), ("a\nb", b"a%0Ab"), ("ü", b"%C3%BC"), ("~!/=", b"~!/=")],
    )
    def test_encode(self, text: str, value: bytes) -> None:
        assert grpc.encode_message(text) == value
        assert grpc.decode_message(value) == text

    @pytest.mark.parametrize(("value", "text"), [(b"%", "%"), (b"%zz", "%zz"), (b"a%2", "a%2"), (b"%ff", "\ufffd")])
    def test_malformed_stays(self, value: bytes, text: str) -> None:
        assert grpc.decode_message(value) == text

    @given(st.text())
    def test_there_and_back(self, text: str) -> None:
        value = grpc.encode_message(text)
        assert all(0x20 <= byte <= 0x7E for byte in value)
        assert grpc.decode_message(value) == text.encode("utf-8", "replace").decode()


class TestStatus:
    def test_names_and_numbers(self) -> None:
        assert len(grpc.STATUS_NAMES) == 17
        assert grpc.STATUS_NUMBERS["unavailable"] == grpc.UNAVAILABLE == 14
        assert grpc.STATUS_NUMBERS["unauthenticated"] == grpc.UNAUTHENTICATED == 16

    @pytest.mark.parametrize(
        ("value", "number"), [(b"0", 0), (b"14", 14), (b"16", 16), (b"17", 2), (b"x", 2), (b"", 2), (b"-1", 2)]
    )
    def test_status_number(self, value: bytes, number: int) -> None:
        assert grpc.status_number([(b"grpc-status", value)]) == number

    def test_none(self) -> None:
        assert grpc.status_number([(b"x", b"0")]) is None

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (b"application/grpc", True),
            (b"application/grpc+proto", True),
            (b"application/grpc;x=y", True),
            (b"application/grpc-web", False),
            (b"application/grpcx", False),
            (b"application/json", False),
            (None, False),
        ],
    )
    def test_is_grpc(self, value: bytes | None, expected: bool) -> None:
        assert grpc.is_grpc(value) is expected


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"0", 0.0), (b"1500", 1.5), (b"-1", -1.0), (b"soon", -1.0), (b"", -1.0), (b"1.5", -1.0), (b"+5", -1.0)],
)
def test_retry_pushback(value: bytes, seconds: float) -> None:
    assert grpc.retry_pushback([(b"grpc-retry-pushback-ms", value)]) == seconds
    assert grpc.retry_pushback([]) is None


class TestMessageCounter:
    def test_one_chunk_one_message(self) -> None:
        counter = grpc.MessageCounter()
        assert counter.feed(message(b"abc")) == 1
        assert not counter.partial
        assert counter.feed(message(b"")) == 2

    def test_many_in_one_chunk_and_a_part(self) -> None:
        counter = grpc.MessageCounter()
        assert counter.feed(message(b"abc") + message(b"") + message(b"x" * 100)[:50]) == 2
        assert counter.partial
        assert counter.feed(bytes(55)) == 3
        assert not counter.partial

    def test_a_split_prefix(self) -> None:
        counter = grpc.MessageCounter()
        assert counter.feed(b"\0\0") == 0
        assert counter.partial
        assert counter.feed(b"\0\0\2a") == 0
        assert counter.feed(b"b") == 1

    @given(st.lists(st.binary(max_size=40), max_size=8), st.data())
    def test_chunks_do_not_matter(self, messages: list[bytes], data: st.DataObject) -> None:
        body = b"".join(map(message, messages))
        cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=10)))
        counter = grpc.MessageCounter()
        for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
            counter.feed(body[start:end])
        assert counter.complete == len(messages)
        assert not counter.partial
