"""The event decoder: the grammar, what servers make of it, and every way of cutting it."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder as OpenAiDecoder

from server.llm.sse import EventTooLarge, ServerSentEvent, SseDecoder
from tests.server.llm import recording


def decode(*pieces: bytes, close: bool = False) -> list[tuple[bytes, bytes]]:
    decoder = SseDecoder()
    events: list[ServerSentEvent] = []
    for piece in pieces:
        events += decoder.feed(piece)
    if close:
        events += decoder.close()
    return [(event.data, event.event) for event in events]


@pytest.mark.parametrize(
    ("stream", "data"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data\ndata: b\n\n", [b"\nb"]),
        (b"data: a\n\n\n\ndata: b\n\n\n", [b"a", b"b"]),
        (b": keep-alive\n\n:\n\ndata: a\n\n: PROCESSING\n\n", [b"a"]),
        (b": inside\ndata: a\n: of it\n\n", [b"a"]),
        (b"id: 7\nretry: 10\nunknown\ndata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        ("data: 你好😀\n\n".encode(), ["你好😀".encode()]),
        (b"data: \xff\xfe\n\n", [b"\xff\xfe"]),
        (b"data: a\x0bb\x85c\xe2\x80\xa8d\n\n", [b"a\x0bb\x85c\xe2\x80\xa8d"]),
        (b"data: unfinished\n", []),
        (b"\n\n\n", []),
    ],
)
def test_grammar_at_every_split(stream: bytes, data: list[bytes]) -> None:
    for split in range(len(stream) + 1):
        assert [event for event, _ in decode(stream[:split], stream[split:])] == data, split
    assert [event for event, _ in decode(*(stream[i : i + 1] for i in range(len(stream))))] == data


def test_names_of_events() -> None:
    assert decode(b"event: error\ndata: x\n\ndata: y\n\nevent: gone\n\ndata: z\n\n") == [
        (b"x", b"error"),
        (b"y", b""),
        (b"z", b""),
    ]


def test_an_error_field_is_an_error_event() -> None:
    assert decode(b'error: {"message": "busy"}\n\n') == [(b'{"message": "busy"}', b"error")]


def test_comments_are_counted_and_carry_nothing() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b": ping\n\n:") == []
    assert decoder.feed(b"\n\n") == []
    assert decoder.comments == 2


def test_closing_gives_the_event_that_has_no_blank_line() -> None:
    assert decode(b"data: a\n\ndata: b", close=True) == [(b"a", b""), (b"b", b"")]
    assert decode(b"data: a\n\ndata: b\n", close=True) == [(b"a", b""), (b"b", b"")]
    assert decode(b"data: a\n\n", close=True) == [(b"a", b"")]
    assert decode(b"", close=True) == []


@pytest.mark.parametrize("line", [b"data: " + b"x" * 100, b":" + b"x" * 100, b"x" * 101, b"data: 0123456789\n" * 7])
def test_events_are_bounded(line: bytes) -> None:
    for size in (1, 7, 1000):
        decoder = SseDecoder(max_event_bytes=100)
        with pytest.raises(EventTooLarge):
            for start in range(0, len(line) + 2, size):
                decoder.feed((line + b"\n\n")[start : start + size])


def test_a_bound_is_for_an_event_and_not_for_the_stream() -> None:
    decoder = SseDecoder(max_event_bytes=100)
    assert sum(len(decoder.feed(b"data: 0123456789\n\n: 0123456789\n\n")) for _ in range(1000)) == 1000


def test_a_long_line_in_small_pieces_is_not_quadratic() -> None:
    decoder = SseDecoder()
    for _ in range(50_000):
        decoder.feed(b"data: 0123456789"[:16])
    assert len(decoder.feed(b"\n\n")) == 1


_lines = st.sampled_from(
    [
        b"data: a",
        b"data:",
        b"data: \xe4\xbd\xa0",
        b"data",
        b":",
        b": c",
        b"event: error",
        b"event:",
        b"id: 1",
        b"",
        b"x",
    ]
)
_ends = st.sampled_from([b"\n", b"\r", b"\r\n"])


@given(
    st.lists(st.tuples(_lines, _ends), max_size=20).map(lambda lines: b"".join(line + end for line, end in lines)),
    st.lists(st.integers(0, 200), max_size=6),
    st.booleans(),
)
def test_any_way_of_cutting_gives_the_same(stream: bytes, cuts: list[int], mark: bool) -> None:
    stream = (b"\xef\xbb\xbf" if mark else b"") + stream
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(places)]
    assert decode(*pieces, close=True) == decode(stream, close=True)


@pytest.mark.parametrize("name", sorted(path.stem for path in recording.FOLDER.glob("*_stream*.http")))
def test_the_decoder_of_the_openai_sdk_reads_the_same(name: str) -> None:
    body = recording.load(name).body
    theirs = [(event.data.encode(), (event.event or "").encode()) for event in OpenAiDecoder().iter_bytes(iter([body]))]
    assert decode(body) == theirs
