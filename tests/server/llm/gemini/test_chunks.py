"""What Gemini's answers mean, whatever the way in which they arrive."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.domain import FinishReason, Usage
from server.llm.base import ErrorClass, ProviderError
from server.llm.gemini.chunks import ReplyReader
from tests.server.llm import recording
from tests.server.llm.gemini_words import WHOLE as WHOLE_STREAM
from tests.server.llm.gemini_words import counted, finish, piece, sse
from tests.server.llm.reading import Taken, read_pieces

STOP, LENGTH, BLOCKED = FinishReason.STOP, FinishReason.LENGTH, FinishReason.PROVIDER_BLOCKED

RECORDED = {
    "aimock_gemini_stream": Taken("最终答案是 42。", "先想一想…", STOP, Usage(0, 0)),
    "aimock_gemini_tool_stream": Taken("", "", None, None, ErrorClass.INCOMPLETE),
    "llmock_gemini_truncate": Taken("Hi there. ", "", None, None, ErrorClass.INCOMPLETE),
}


def read(*pieces: bytes) -> Taken:
    return read_pieces(pieces, ReplyReader("m"))


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_every_split_of_a_recording_reads_the_same(name: str) -> None:
    body = recording.load(name).body
    for split in range(len(body)):
        assert read(body[:split], body[split:]) == RECORDED[name], split
    assert read(*(body[i : i + 1] for i in range(len(body)))) == RECORDED[name]


def test_a_cut_anywhere_before_the_finish_reason_is_not_complete() -> None:
    body = recording.load("aimock_gemini_stream").body
    # An event whose blank line is missing counts; it is whole when its object is.
    end = body.rindex(b"}") + 1
    for cut in range(end):
        assert read(body[:cut]).error is ErrorClass.INCOMPLETE, cut
    assert read(body[:end]).complete


def test_text_is_passed_on_as_it_comes_and_only_the_end_of_the_body_is_the_end() -> None:
    reader = ReplyReader("m")
    first = reader.feed(sse(piece("一"), piece("二")))
    assert first is not None
    assert (first.text, first.model) == ("一二", "m")
    second = reader.feed(sse(finish("STOP", "三")))
    assert second is not None
    assert (second.text, second.model) == ("三", "")
    assert reader.finished
    assert not reader.done
    assert reader.close().finish is STOP


@pytest.mark.parametrize(
    ("reason", "ended", "error"),
    [
        ("STOP", STOP, None),
        ("MAX_TOKENS", LENGTH, None),
        ("SAFETY", BLOCKED, None),
        ("RECITATION", BLOCKED, None),
        ("LANGUAGE", BLOCKED, None),
        ("BLOCKLIST", BLOCKED, None),
        ("PROHIBITED_CONTENT", BLOCKED, None),
        ("SPII", BLOCKED, None),
        ("IMAGE_SAFETY", BLOCKED, None),
        ("MALFORMED_FUNCTION_CALL", None, ErrorClass.INCOMPLETE),
        ("UNEXPECTED_TOOL_CALL", None, ErrorClass.INCOMPLETE),
        ("TOO_MANY_TOOL_CALLS", None, ErrorClass.INCOMPLETE),
        ("FINISH_REASON_UNSPECIFIED", None, ErrorClass.INCOMPLETE),
        ("OTHER", STOP, None),
    ],
)
def test_finish_reasons(reason: str, ended: FinishReason | None, error: ErrorClass | None) -> None:
    taken = read(sse(piece("好"), finish(reason)))
    assert (taken.text, taken.finish, taken.error) == ("好", ended, error)


def test_a_finish_reason_on_every_piece_does_not_end_the_text() -> None:
    taken = read(sse(finish("STOP", "一"), finish("STOP", "二")), sse(finish("MAX_TOKENS", "三")))
    assert (taken.text, taken.finish) == ("一二三", LENGTH)


def test_thoughts_stand_apart() -> None:
    thought: dict[str, Any] = {
        "candidates": [{"content": {"parts": [{"text": "想", "thought": True}, {"text": "好"}]}}]
    }
    assert read(sse(thought, finish("STOP"))) == Taken("好", "想", STOP, None)


def test_a_tool_call_counts_whatever_the_word_behind_it() -> None:
    call = {"candidates": [{"content": {"parts": [{"functionCall": {"name": "n", "args": {}}}]}}]}
    assert read(sse(piece("好"), call, finish("STOP"))).error is ErrorClass.INCOMPLETE


def test_other_candidates_are_not_read() -> None:
    other = {"candidates": [{"index": 1, "content": {"parts": [{"text": "别的"}]}, "finishReason": "STOP"}]}
    assert read(sse(piece("好"), other)).error is ErrorClass.INCOMPLETE
    assert read(sse(piece("好"), other, finish("STOP"))).text == "好"


def test_a_refused_prompt_is_an_error_and_nothing_was_generated() -> None:
    reader = ReplyReader("m")
    reader.feed(
        sse({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 4}})
    )
    with pytest.raises(ProviderError) as caught:
        reader.close()
    assert (caught.value.kind, caught.value.code) == (ErrorClass.CONTENT, "PROHIBITED_CONTENT")
    assert not reader.arrived
    harmless: dict[str, Any] = {"promptFeedback": {"safetyRatings": []}}
    unset: dict[str, Any] = {"promptFeedback": {"blockReason": "BLOCK_REASON_UNSPECIFIED"}}
    assert read(sse(harmless, unset, finish("STOP", "好"))).complete


def test_thoughts_and_cached_tokens_are_counted_and_the_last_count_stands() -> None:
    early = counted(promptTokenCount=10, thoughtsTokenCount=5)
    late = counted(
        promptTokenCount=10, candidatesTokenCount=3, thoughtsTokenCount=8, cachedContentTokenCount=6, totalTokenCount=21
    )
    taken = read(sse(early, piece("好"), finish("STOP") | late))
    assert taken.usage == Usage(10, 11, cached_input_token_count=6)


def test_counts_may_come_behind_the_end() -> None:
    taken = read(sse(finish("STOP", "好")), sse(counted(promptTokenCount=1, candidatesTokenCount=2)))
    assert taken == Taken("好", "", STOP, Usage(1, 2))


EXHAUSTED = {
    "code": 429,
    "status": "RESOURCE_EXHAUSTED",
    "message": "slow down",
    "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}],
}


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        (sse({"error": EXHAUSTED}), ErrorClass.RATE_LIMIT),
        (sse({"error": {"code": 503, "status": "UNAVAILABLE", "message": "x"}}), ErrorClass.TRANSIENT),
        (sse({"error": {"code": 500, "status": "INTERNAL", "message": "x"}}), ErrorClass.INCOMPLETE),
        (b"event: error\ndata: dead\n\n", ErrorClass.INCOMPLETE),
        (b"data: {half\n\n", ErrorClass.INCOMPLETE),
        (b"data: 17\n\n", ErrorClass.INCOMPLETE),
        (b'data: {"candidates": 17}\n\n', ErrorClass.INCOMPLETE),
    ],
)
def test_errors_inside_of_a_stream(broken: bytes, kind: ErrorClass) -> None:
    stream = sse(piece("好")) + broken + sse(finish("STOP"))
    for split in range(len(stream)):
        taken = read(stream[:split], stream[split:])
        assert (taken.text, taken.finish, taken.error) == ("好", None, kind)


def test_nothing_spoils_a_reply_that_has_ended() -> None:
    late = sse({"error": EXHAUSTED}) + b"data: {half\n\n"
    assert read(sse(finish("STOP", "好")) + late) == Taken("好", "", STOP, None)


@pytest.mark.parametrize("indent", [None, 2])
def test_a_stream_as_a_json_array(indent: int | None) -> None:
    last = finish("STOP", "好") | counted(promptTokenCount=1, candidatesTokenCount=2)
    body = json.dumps([piece("你"), last], indent=indent, ensure_ascii=False).encode()
    for split in range(len(body)):
        assert read(body[:split], body[split:]) == Taken("你好", "", STOP, Usage(1, 2))
        assert read(body[:split]).error is ErrorClass.INCOMPLETE
    failed = json.dumps([piece("你"), {"error": EXHAUSTED}]).encode()
    assert read(failed).error is ErrorClass.RATE_LIMIT


def test_a_reply_as_one_json_body() -> None:
    body = json.dumps(finish("STOP", "好")).encode()
    assert read(body) == Taken("好", "", STOP, None)
    assert read(b"[]").error is ErrorClass.INCOMPLETE


def test_half_a_surrogate_pair() -> None:
    half = b'data: {"candidates":[{"content":{"parts":[{"text":"a\\ud83db"}]},"finishReason":"STOP"}]}\n\n'
    assert read(half).text == "a\ufffdb"


@given(st.binary(max_size=200), st.integers(0, len(WHOLE_STREAM)), st.integers(0, 60))
def test_whatever_comes_is_a_reply_or_an_error(noise: bytes, place: int, dropped: int) -> None:
    for stream in (noise, WHOLE_STREAM[:place] + noise + WHOLE_STREAM[place + dropped :]):
        taken = read(stream)
        assert taken.complete is (taken.error is None)


FIELDS = (
    *("candidates", "content", "parts", "text", "thought", "functionCall", "finishReason", "index", "error"),
    *("promptFeedback", "blockReason", "usageMetadata", "promptTokenCount"),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.sampled_from(["STOP", "SAFETY"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4)),
    max_leaves=12,
)


@given(JSON)
def test_fields_of_any_type_are_a_reply_or_an_error(found: object) -> None:
    body = json.dumps(found).encode()
    for stream in (body, b"data: " + body + b"\n\n"):
        taken = read(stream)
        assert taken.complete is (taken.error is None)
