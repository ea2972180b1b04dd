"""What a body means, whatever the way in which it arrives."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.domain import FinishReason, Usage
from server.llm.base import ErrorClass
from server.llm.openai.chunks import ReplyReader
from server.llm.sse import SseDecoder
from tests.server.llm import recording
from tests.server.llm.reading import Taken, read_pieces
from tests.server.llm.upstream import DONE, piece

STOP, LENGTH, BLOCKED = FinishReason.STOP, FinishReason.LENGTH, FinishReason.PROVIDER_BLOCKED

COMPLETE = {
    "aimock_azure_stream": Taken("你好,世界!这是一个测试。", "", STOP, Usage(1, 4)),
    "aimock_openai_filter_stream": Taken("…", "", BLOCKED, Usage(2, 1)),
    "aimock_openai_reasoning_stream": Taken("最终答案是 42。", "先想一想…", STOP, Usage(2, 3)),
    "llmock_mistral_stream": Taken("mistral-small-latest mock reply: I saw 'hi'.", "", STOP, None),
    "llmock_xai_stream": Taken("Simulated answer from grok-4 for 'hi'.", "", STOP, Usage(0, 9)),
    "tserve_chat_nonstream": Taken("", "", LENGTH, Usage(18, 8)),
    "tserve_chat_stream": Taken("\n" * 8, "", LENGTH, Usage(18, 8)),
    "vllm_chat_batch": Taken(" pr", "", LENGTH, Usage(36, 8)),
    "vllm_chat_n2": Taken(" pr", "", LENGTH, None),
    "vllm_chat_nonstream": Taken(" pr", "", LENGTH, Usage(20, 6)),
    "vllm_chat_stream_contusage": Taken(" pr", "", LENGTH, Usage(20, 4)),
    "vllm_chat_stream_usage": Taken(" pr��� 转��#�{", "", LENGTH, Usage(20, 12)),
    "vllm_json_schema_stream": Taken('{"intent":"退款"}', "", STOP, None),
    "vllm_reasoning_stream": Taken("", " pr��� 转��#�{", LENGTH, Usage(18, 10)),
}
"""Recordings that are whole replies: thoughts apart, counts of the last piece that has them, index 0 alone."""

BROKEN = {
    "llmock_openai_disconnect": "Simulated answer ",
    "llmock_openai_malformed": "Simulated answer ",
    "llmock_openai_truncate": "Simulated answer ",
    "llmock_openai_tool_cut": "",
    "vllm_cut_client": " pr",
    "vllm_enginedead_midstream": " pr",
    "vllm_server_killed_midstream": "",
    # Replies that wait for a tool, whatever word they end with.
    "aimock_openai_tools_stream": "",
    "llmock_openai_tool_stream": "",
    "vllm_tool_named_stream": "",
    "vllm_tool_required_stream": "",
}
"""Recordings that are no replies, and how their text begins."""

SMALL = 8000


@pytest.mark.parametrize("name", sorted(COMPLETE))
def test_recorded_replies(name: str) -> None:
    assert read_pieces([recording.load(name).body]) == COMPLETE[name]


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_recorded_failures_are_never_complete(name: str) -> None:
    taken = read_pieces([recording.load(name).body])
    assert taken.error is ErrorClass.INCOMPLETE
    assert taken.finish is None
    assert taken.text.startswith(BROKEN[name])


def test_a_killed_server_leaves_thoughts_behind() -> None:
    taken = read_pieces([recording.load("vllm_server_killed_midstream").body])
    assert not taken.text
    assert taken.reasoning.startswith(" pr")


@pytest.mark.parametrize("name", sorted({**COMPLETE, **BROKEN}))
def test_every_split_of_a_recording_reads_the_same(name: str) -> None:
    body = recording.load(name).body
    whole = read_pieces([body])
    for split in range(0, len(body), 1 if len(body) < SMALL else 37):
        assert read_pieces([body[:split], body[split:]]) == whole, split
    assert read_pieces(body[i : i + 1] for i in range(len(body))) == whole


@pytest.mark.parametrize("name", ["vllm_enginedead_midstream", "vllm_server_killed_midstream"])
def test_every_split_of_each_event_of_a_long_recording_gives_the_same_events(name: str) -> None:
    body = recording.load(name).body
    whole = SseDecoder().feed(body)
    pieces = [piece + b"\n\n" for piece in body.split(b"\n\n")[:-1]]
    assert len(pieces) == len(whole)
    # Every event is cut at its n-th byte at the same time: all places take one reading for each n.
    for split in range(max(map(len, pieces))):
        decoder = SseDecoder()
        found = [event for piece in pieces for part in (piece[:split], piece[split:]) for event in decoder.feed(part)]
        assert found + decoder.close() == whole, split


@pytest.mark.parametrize("name", sorted(COMPLETE))
def test_a_cut_anywhere_before_the_finish_reason_is_not_complete(name: str) -> None:
    body = recording.load(name).body
    marks = ('"finish_reason":"stop"', '"finish_reason":"length"', '"finish_reason":"content_filter"')
    # JSON bodies are whole or nothing; a stream is whole when the piece with the reason is.
    end = len(body) if body.startswith(b"{") else next(body.find(m.encode()) for m in marks if m.encode() in body)
    for cut in range(end):
        assert read_pieces([body[:cut]]).error is ErrorClass.INCOMPLETE, cut


def test_several_tokens_at_once_are_one_chunk() -> None:
    reader = ReplyReader("路由")
    first = reader.feed(piece("一") + piece("二") + piece("三"))
    assert first is not None
    assert (first.text, first.model) == ("一二三", "路由")
    second = reader.feed(piece("四"))
    assert second is not None
    assert (second.text, second.model) == ("四", "")
    assert reader.feed(piece("五", finish="stop") + DONE) is None
    last = reader.close()
    assert (last.text, last.finish, last.model) == ("五", STOP, "路由")


@pytest.mark.parametrize(
    ("reason", "finish", "error"),
    [
        ("stop", STOP, None),
        ("COMPLETE", STOP, None),
        ("eos", STOP, None),
        ("max_tokens", LENGTH, None),
        ("model_length", LENGTH, None),
        ("sensitive", BLOCKED, None),
        ("content_filter", BLOCKED, None),
        ("network_error", None, ErrorClass.TRANSIENT),
        ("insufficient_system_resource", None, ErrorClass.TRANSIENT),
        ("error", None, ErrorClass.INCOMPLETE),
        ("abort", None, ErrorClass.INCOMPLETE),
        ("tool_calls", None, ErrorClass.INCOMPLETE),
        ("function_call", None, ErrorClass.INCOMPLETE),
        ("", None, ErrorClass.INCOMPLETE),
        ("whatever_comes_next", STOP, None),
    ],
)
def test_finish_reasons(reason: str, finish: FinishReason | None, error: ErrorClass | None) -> None:
    taken = read_pieces([piece("好"), piece(finish=reason), DONE])
    assert (taken.text, taken.finish, taken.error) == ("好", finish, error)


def test_an_unknown_finish_reason_is_kept_for_the_log() -> None:
    reader = ReplyReader("m")
    reader.feed(piece("好", finish="whatever_comes_next"))
    reader.close()
    assert reader.unknown_finish == "whatever_comes_next"


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (b'data: {"error": {"message": "dead", "type": "InternalServerError", "code": 500}}', ErrorClass.INCOMPLETE),
        (b'data: {"error": "dead"}', ErrorClass.INCOMPLETE),
        (b'data: {"object": "error", "message": "dead", "code": 50001}', ErrorClass.INCOMPLETE),
        (b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}', ErrorClass.OVERLOADED),
        (b"event: error\ndata: dead", ErrorClass.INCOMPLETE),
        (b'error: {"code": 503, "message": "loading"}', ErrorClass.INCOMPLETE),
        (b'data: {"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}', ErrorClass.RATE_LIMIT),
        (b'data: {"choices": [], "base_resp": {"status_code": 1027}}', ErrorClass.CONTENT),
        (b'data: {"code": 10013, "message": "sensitive", "sid": "x"}', ErrorClass.CONTENT),
        (b'data: {"code": "DataInspectionFailed", "message": "no", "request_id": "x"}', ErrorClass.CONTENT),
        (b'data: {"error_code": 336100, "error_msg": "try again"}', ErrorClass.OVERLOADED),
        (b'data: {"detail": "broken"}', ErrorClass.INCOMPLETE),
        (b'data: {"error":{"code":429,"message":"slow down"},"choices":[{"delta":{}}]}', ErrorClass.RATE_LIMIT),
        (b'data: {"error":{"message":"maximum context length is 8192"}}', ErrorClass.CONTEXT),
        (b"data: {half", ErrorClass.INCOMPLETE),
        (b"data: 17", ErrorClass.INCOMPLETE),
    ],
)
def test_errors_inside_of_a_stream(event: bytes, kind: ErrorClass) -> None:
    stream = piece("好") + event + b"\n\n" + DONE
    for split in range(len(stream)):
        taken = read_pieces([stream[:split], stream[split:]])
        assert (taken.text, taken.finish, taken.error) == ("好", None, kind)


def test_nothing_spoils_a_reply_that_has_ended() -> None:
    behind = b'data: {"error": "too late"}\n\ndata: {half\n\n'
    assert read_pieces([piece("好", finish="stop") + behind]) == Taken("好", "", STOP, None)


@pytest.mark.parametrize(
    "body",
    [
        b'data: {"choices":[{"delta":{"content":null,"role":"assistant"}}]}',
        b'data: {"choices":[],"prompt_filter_results":[{}]}',
        b'data: {"choices":[{"delta":null}]}',
        b'data: {"choices":[{}]}',
        b'data: {"choices":null,"id":""}',
        b'data: {"code":0,"message":"Success","sid":"x","choices":[{"delta":{"content":""}}]}',
        b'data: {"choices":[{"delta":{"content":""},"finish_reason":""}],"usage":null,"error":null}',
        b'data: {"base_resp":{"status_code":0},"choices":[{"delta":{}}]}',
        b'data: {"choices":[{"index":1,"delta":{"content":"no"},"finish_reason":"stop"}]}',
        b"data:",
        b"data:  ",
        b": ping",
        b"event: ping",
    ],
)
def test_pieces_that_say_nothing(body: bytes) -> None:
    reader = ReplyReader("m")
    assert reader.feed(body + b"\n\n") is None
    assert not reader.arrived
    assert reader.failure is None
    assert not reader.finished


def test_odd_shapes_are_read_patiently() -> None:
    parts = [
        {"choices": [{"delta": {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "嗯"}]}]}}]},
        {"choices": [{"delta": {"content": [{"type": "text", "text": "好"}]}}]},
        {"choices": [{"index": None, "delta": {"content": "的"}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": None, "total_tokens": 7}},
    ]
    stream = b"".join(b"data: " + json.dumps(part).encode() + b"\n\n" for part in parts)
    assert read_pieces([stream]) == Taken("好的", "嗯", STOP, Usage(3, 4))


def test_half_a_surrogate_pair_does_not_break_a_reply() -> None:
    stream = b'data: {"choices":[{"delta":{"content":"a\\ud83d"},"finish_reason":"stop"}]}\n\n'
    taken = read_pieces([stream])
    assert taken == Taken("a\ufffd", "", STOP, None)
    taken.text.encode()


def test_thoughts_in_tags() -> None:
    stream = piece("<thi") + piece("nk>嗯</think>") + piece("\n\n好") + piece(finish="stop") + DONE
    for split in range(len(stream)):
        assert read_pieces([stream[:split], stream[split:]]) == Taken("好", "嗯", STOP, None)


def test_both_names_of_thoughts_are_one_thought() -> None:
    delta = {"reasoning": "嗯", "reasoning_content": "嗯", "content": None}
    stream = b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n"
    assert read_pieces([stream + piece("<think>", finish="stop")]) == Taken("<think>", "嗯", STOP, None)


def test_a_message_behind_the_pieces_is_a_repetition() -> None:
    repeated = {"choices": [{"message": {"content": "好的"}, "finish_reason": "stop"}], "usage": {"total_tokens": 9}}
    stream = piece("好") + piece("的", finish="stop") + b"data: " + json.dumps(repeated).encode() + b"\n\n"
    assert read_pieces([stream]) == Taken("好的", "", STOP, Usage(0, 9))


def test_counts_inside_of_a_choice() -> None:
    choice = {"index": 0, "delta": {}, "finish_reason": "stop", "usage": {"prompt_tokens": 2, "completion_tokens": 5}}
    stream = piece("好") + b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"
    assert read_pieces([stream]) == Taken("好", "", STOP, Usage(2, 5))


@pytest.mark.parametrize(
    ("counts", "cached"),
    [
        ({}, 0),
        ({"prompt_tokens_details": None}, 0),
        ({"prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0}}, 4),
        ({"prompt_tokens_details": {"cached_tokens": None}}, 0),
        # DeepSeek, who says it both ways; and Moonshot.
        ({"prompt_cache_hit_tokens": 6, "prompt_cache_miss_tokens": 3}, 6),
        ({"prompt_tokens_details": {"cached_tokens": 6}, "prompt_cache_hit_tokens": 6}, 6),
        ({"cached_tokens": 7}, 7),
        # Odd shapes, and counts that cannot be.
        ({"prompt_tokens_details": [], "prompt_cache_hit_tokens": 2.0}, 2),
        ({"prompt_tokens_details": {"cached_tokens": 90}}, 9),
        ({"prompt_tokens_details": {"cached_tokens": -1}}, 0),
    ],
)
def test_tokens_that_the_vendor_had_cached(counts: dict[str, object], cached: int) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2, **counts}
    stream = piece("好", finish="stop") + b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"
    assert read_pieces([stream]) == Taken("好", "", STOP, Usage(9, 2, cached_input_token_count=cached))


ANOTHER_PROTOCOL = [
    *("aimock_anthropic_thinking_stream", "llmock_anthropic_stream", "vllm_anthropic_messages_stream"),
    *("aimock_gemini_stream", "llmock_gemini_truncate", "aimock_ollama_chat", "aimock_bedrock_eventstream"),
]


@pytest.mark.parametrize("name", ANOTHER_PROTOCOL)
def test_what_speaks_another_protocol_is_no_reply(name: str) -> None:
    taken = read_pieces([recording.load(name).body])
    assert (taken.text, taken.finish, taken.error) == ("", None, ErrorClass.INCOMPLETE)


@pytest.mark.parametrize("before", [b"", b"\n", b"\r\n\r\n\n", b"\xef\xbb\xbf", b" \n\xef\xbb\xbf"])
def test_a_json_body_in_the_place_of_a_stream(before: bytes) -> None:
    reply = {
        "choices": [{"message": {"content": "<think>嗯</think>好", "reasoning": None}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }
    body = before + json.dumps(reply, ensure_ascii=False).encode() + b"\n"
    for split in range(len(body)):
        assert read_pieces([body[:split], body[split:]]) == Taken("好", "嗯", STOP, Usage(1, 2))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", ErrorClass.INCOMPLETE),
        (b"<html>busy</html>", ErrorClass.INCOMPLETE),
        (b'{"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}', ErrorClass.QUOTA),
        (b'[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}]', ErrorClass.RATE_LIMIT),
        (b'{"choices":[{"message":{"content":"ha', ErrorClass.INCOMPLETE),
        (b'{"choices":[]}', ErrorClass.INCOMPLETE),
        (b"data: [DONE]\n\n", ErrorClass.INCOMPLETE),
        (b'{"x":' + b"[" * 100_000, ErrorClass.INCOMPLETE),
        (b'{"error":' + b'{"error":' * 5_000 + b"1" + b"}" * 5_001, ErrorClass.INCOMPLETE),
    ],
)
def test_bodies_that_are_no_reply(body: bytes, kind: ErrorClass) -> None:
    assert read_pieces([body]).error is kind


def test_an_endless_event_is_a_failure() -> None:
    taken = read_pieces([piece("好"), *([b"data: " + b"x" * 65536] * 20)])
    assert (taken.text, taken.error) == ("好", ErrorClass.INCOMPLETE)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    read_pieces([data])
    read_pieces([b"data: " + data + b"\n\n"])
    read_pieces([b'data: {"choices":' + data + b"}\n\n"])


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["choices", "delta", "message", "content", "index", "usage", "finish_reason", "error", "base_resp", "code",
             "status_code", "tool_calls", "text", "thinking", "type", "detail", "prompt_tokens", "reasoning", "details",
             "prompt_tokens_details", "cached_tokens"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=12,
)  # fmt: skip


@given(_json)
def test_no_json_raises_anything_else(value: object) -> None:
    read_pieces([b"data: " + json.dumps(value).encode() + b"\n\n"])
    read_pieces([json.dumps({"choices": [value]}).encode()])
