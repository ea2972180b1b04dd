"""What the body of a Messages API means, whatever the way in which it arrives."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.domain import FinishReason, Usage
from server.llm.anthropic.chunks import ReplyReader
from server.llm.base import ErrorClass
from tests.server.llm import recording
from tests.server.llm.anthropic_words import END, START, delta, event, stop, thought
from tests.server.llm.anthropic_words import WHOLE as WHOLE_STREAM
from tests.server.llm.reading import Taken, read_pieces

STOP, LENGTH, BLOCKED = FinishReason.STOP, FinishReason.LENGTH, FinishReason.PROVIDER_BLOCKED

COMPLETE = {
    "llmock_anthropic_stream": Taken("Hello! claude-sonnet-4-5 received: hi", "", STOP, Usage(0, 9)),
    "aimock_anthropic_thinking_stream": Taken("最终答案是 42。", "先想一想…", STOP, Usage(0, 0)),
    "vllm_anthropic_messages_stream": Taken("\ufffd\ufffd\u0331", "", LENGTH, Usage(20, 8)),
}
"""Recordings that are whole replies."""

NAMES = sorted({**COMPLETE, "aimock_anthropic_tool_stream": None})


def read(*pieces: bytes) -> Taken:
    return read_pieces(pieces, ReplyReader("m"))


@pytest.mark.parametrize("name", sorted(COMPLETE))
def test_recorded_replies(name: str) -> None:
    assert read(recording.load(name).body) == COMPLETE[name]


def test_a_recorded_reply_that_waits_for_a_tool() -> None:
    assert read(recording.load("aimock_anthropic_tool_stream").body) == Taken("", "", None, None, ErrorClass.INCOMPLETE)


@pytest.mark.parametrize("name", NAMES)
def test_every_split_of_a_recording_reads_the_same(name: str) -> None:
    body = recording.load(name).body
    whole = read(body)
    for split in range(len(body)):
        assert read(body[:split], body[split:]) == whole, split
    assert read(*(body[i : i + 1] for i in range(len(body)))) == whole


@pytest.mark.parametrize("name", sorted(COMPLETE))
def test_a_cut_anywhere_before_the_stop_reason_is_not_complete(name: str) -> None:
    body = recording.load(name).body
    # An event whose blank line is missing counts; it is whole when its object is.
    end = body.index(b"}", body.index(b'"output_tokens"', body.index(b"event: message_delta"))) + 2
    for cut in range(end):
        assert read(body[:cut]).error is ErrorClass.INCOMPLETE, cut
    assert read(body[:end]).complete


def test_a_short_reply_is_one_chunk() -> None:
    reader = ReplyReader("路由")
    assert reader.feed(START + delta("好") + stop() + END) is None
    assert reader.done
    last = reader.close()
    assert (last.text, last.finish, last.model) == ("好", STOP, "路由")


def test_text_is_passed_on_as_it_comes() -> None:
    reader = ReplyReader("m")
    first = reader.feed(START + delta("一") + delta("二"))
    assert first is not None
    assert first.text == "一二"
    assert not reader.finished


@pytest.mark.parametrize(
    ("reason", "finish", "error"),
    [
        ("end_turn", STOP, None),
        ("stop_sequence", STOP, None),
        ("max_tokens", LENGTH, None),
        ("pause_turn", LENGTH, None),
        ("model_context_window_exceeded", LENGTH, None),
        ("refusal", BLOCKED, None),
        ("tool_use", None, ErrorClass.INCOMPLETE),
        ("whatever_comes_next", STOP, None),
    ],
)
def test_stop_reasons(reason: str, finish: FinishReason | None, error: ErrorClass | None) -> None:
    taken = read(START, delta("好"), stop(reason), END)
    assert (taken.text, taken.finish, taken.error) == ("好", finish, error)


def test_an_end_without_a_reason_is_none() -> None:
    assert read(START, delta("好"), END).error is ErrorClass.INCOMPLETE
    assert read(START, delta("好"), event("message_delta", delta={}), END).error is ErrorClass.INCOMPLETE


def test_a_tool_call_counts_whatever_the_word_behind_it() -> None:
    call = event("content_block_start", content_block={"type": "tool_use", "id": "t", "name": "n", "input": {}})
    assert read(START, delta("好"), call, stop("end_turn"), END).error is ErrorClass.INCOMPLETE
    # Tools that the vendor runs itself are part of the answer.
    own = call.replace(b"tool_use", b"server_tool_use")
    assert read(START, own, delta("好"), stop("end_turn"), END).complete


def test_thoughts_stand_apart_and_signatures_nowhere() -> None:
    signature = event("content_block_delta", delta={"type": "signature_delta", "signature": "EqQB"})
    hidden = event("content_block_start", content_block={"type": "redacted_thinking", "data": "EmwK"})
    taken = read(START, thought("想"), signature, hidden, delta("<think>是字面意思"), stop(), END)
    assert taken == Taken("<think>是字面意思", "想", STOP, Usage(5, 7))


def test_a_model_that_thinks_in_silence_has_begun() -> None:
    reader = ReplyReader("m")
    assert reader.feed(START) is None
    assert not reader.arrived
    begun = event("content_block_start", content_block={"type": "thinking", "thinking": "", "signature": ""})
    assert reader.feed(begun) is None
    assert reader.arrived


def test_thoughts_between_tags_stand_apart_too() -> None:
    taken = read(START, delta("<thi"), delta("nk>想</think>"), delta("好"), stop(), END)
    assert taken == Taken("好", "想", STOP, Usage(5, 7))
    # What looked like half a tag was text.
    assert read(START, delta("<thi"), stop(), END).text == "<thi"


def test_a_block_may_begin_with_text() -> None:
    begun = event("content_block_start", content_block={"type": "text", "text": "你"})
    assert read(START, begun, delta("好"), stop(), END).text == "你好"


def test_cached_tokens_were_read_as_well() -> None:
    counts = {"input_tokens": 3, "cache_creation_input_tokens": 10, "cache_read_input_tokens": 100, "output_tokens": 1}
    begin = event("message_start", message={"content": [], "usage": counts})
    assert read(begin, delta("好"), stop(output_tokens=9), END).usage == Usage(113, 9, cached_input_token_count=100)
    nulls = stop(output_tokens=9, input_tokens=None, cache_read_input_tokens=None)
    assert read(begin, delta("好"), nulls, END).usage == Usage(113, 9, cached_input_token_count=100)
    later = stop(output_tokens=9, input_tokens=4)
    assert read(begin, delta("好"), later, END).usage == Usage(114, 9, cached_input_token_count=100)


def test_a_server_that_counts_nothing() -> None:
    bare = event("message_delta", delta={"stop_reason": "end_turn"})
    assert read(event("message_start", message={}), delta("好"), bare, END) == Taken("好", "", STOP, None)


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        (event("error", error={"type": "overloaded_error", "message": "Overloaded"}), ErrorClass.OVERLOADED),
        (event("error", error={"type": "api_error", "message": "Internal"}), ErrorClass.INCOMPLETE),
        (event("error", error={"type": "rate_limit_error", "message": "slow"}), ErrorClass.RATE_LIMIT),
        (b'data: {"type":"error","error":{"type":"overloaded_error"}}\n\n', ErrorClass.OVERLOADED),
        (b'data: {"error":{"message":"prompt is too long: 9 > 8"}}\n\n', ErrorClass.CONTEXT),
        (b'data: {"code":"DataInspectionFailed","message":"no"}\n\n', ErrorClass.CONTENT),
        (b"event: error\ndata: dead\n\n", ErrorClass.INCOMPLETE),
        (b"data: {half\n\n", ErrorClass.INCOMPLETE),
        (b"data: 17\n\n", ErrorClass.INCOMPLETE),
        (b"data: []\n\n", ErrorClass.INCOMPLETE),
        (b'data: {"type":"content_block_delta","delta":{"text":17}}\n\n', ErrorClass.INCOMPLETE),
        (b'data: {"type":"ping","deep":' + b"[" * 100000 + b"\n\n", ErrorClass.INCOMPLETE),
    ],
)
def test_errors_inside_of_a_stream(broken: bytes, kind: ErrorClass) -> None:
    stream = START + delta("好") + broken + stop() + END
    splits = range(len(stream)) if len(stream) < 2000 else [len(START), len(stream) // 2]
    for split in splits:
        taken = read(stream[:split], stream[split:])
        assert (taken.text, taken.finish, taken.error) == ("好", None, kind)


def test_nothing_spoils_a_reply_that_has_ended() -> None:
    late = event("error", error={"type": "api_error"})
    assert read(START, delta("好"), stop(), late, b"data: {half\n\n") == Taken("好", "", STOP, Usage(5, 7))


def test_what_is_new_is_passed_over() -> None:
    new = event("something_new", delta={"stop_reason": "end_turn"}) + b": comment\n\n" + b"data: [DONE]\n\n"
    assert read(START, new, delta("好")).error is ErrorClass.INCOMPLETE
    assert read(START, new, delta("好"), stop(), END).complete


def test_events_may_have_their_type_in_one_place_only() -> None:
    lines = [b"data: " + line[6:] for line in (START + delta("好") + stop() + END).split(b"\n") if line[:5] == b"data:"]
    assert read(b"\n\n".join(lines)).complete
    bare = b'event: content_block_delta\ndata: {"delta":{"text":"\xe5\xa5\xbd"}}\n\n'
    assert read(START, bare, stop(), END).text == "好"


def test_half_a_surrogate_pair() -> None:
    half = b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"a\\ud83db"}}\n\n'
    assert read(START, half, stop(), END).text == "a\ufffdb"


WHOLE = {
    "type": "message",
    "role": "assistant",
    "content": [{"type": "thinking", "thinking": "想", "signature": "s"}, {"type": "text", "text": "好"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 5, "output_tokens": 7},
}


def test_a_reply_as_one_json_body() -> None:
    body = b"\n\n" + json.dumps(WHOLE, indent=1).encode()
    for split in range(len(body)):
        assert read(body[:split], body[split:]) == Taken("好", "想", STOP, Usage(5, 7))
        assert read(body[:split]).error is ErrorClass.INCOMPLETE
    error = json.dumps({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}).encode()
    assert read(error).error is ErrorClass.OVERLOADED


def test_a_body_without_end_is_bounded() -> None:
    reader = ReplyReader("m")
    for _ in range(9):
        reader.feed(b'{"content":"' + b"x" * (1 << 20))
    assert reader.failure is not None
    line = ReplyReader("m")
    line.feed(b"data: ")
    for _ in range(3):
        line.feed(b"x" * (1 << 19))
    assert line.failure is not None


@given(st.binary(max_size=200), st.integers(0, len(WHOLE_STREAM)), st.integers(0, 60))
def test_whatever_comes_is_a_reply_or_an_error(noise: bytes, place: int, dropped: int) -> None:
    for stream in (noise, WHOLE_STREAM[:place] + noise + WHOLE_STREAM[place + dropped :]):
        taken = read(stream)
        assert taken.complete is (taken.error is None)
