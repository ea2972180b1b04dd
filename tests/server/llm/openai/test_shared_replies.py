"""Each prompt gets its own reply, however the answer is cut."""

import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.domain import FinishReason, Usage
from server.llm.base import Chunk, ErrorClass, ProviderError
from server.llm.openai.shared_replies import MAX_BYTES_PER_REPLY, SharedReplies
from tests.server.llm import recording


def read(pieces: Iterable[bytes], lengths: tuple[int, ...] = (7, 7)) -> list[Chunk | tuple[ErrorClass, str]]:
    replies, error = SharedReplies("m", lengths), None
    for piece in pieces:
        if replies.failure is None:
            replies.feed(piece)
    try:
        replies.close()
    except ProviderError as caught:
        error = caught
    return [
        outcome if isinstance(outcome, Chunk) else (outcome.kind, outcome.detail) for outcome in replies.outcomes(error)
    ]


def reply(text: str, usage: Usage | None, finish: FinishReason = FinishReason.STOP) -> Chunk:
    return Chunk(text, "", finish, usage, "m")


def piece(index: int, text: str, finish: str | None = None) -> bytes:
    body = {"choices": [{"index": index, "text": text, "finish_reason": finish}]}
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


def message(index: int, finish: str | None = "stop", **fields: object) -> dict[str, object]:
    return {"index": index, "message": {"role": "assistant", **fields}, "finish_reason": finish}


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        ("vllm_chat_batch", Usage(18, 4)),
        ("vllm_completions_array", Usage(1, 4)),
        ("vllm_completions_array_nonstream", Usage(1, 4)),
    ],
)
def test_recordings_of_vllm_cut_anywhere(name: str, usage: Usage) -> None:
    body = recording.load(name).body
    expected = [reply(" pr", usage, FinishReason.LENGTH)] * 2
    for cut in range(len(body) + 1):
        assert read([body[:cut], body[cut:]]) == expected
    assert read([body[at : at + 1] for at in range(len(body))]) == expected


def test_pieces_of_several_replies_are_told_apart() -> None:
    stream = [
        piece(1, "乙"),
        piece(0, "甲"),
        piece(2, "<think>想"),
        piece(0, "一", "stop"),
        piece(2, "</think>丙"),
        piece(1, "二", "length"),
        piece(2, "三", "stop"),
    ]
    body = b"".join(stream) + b"data: [DONE]\n\n"
    expected = [
        reply("甲一", None),
        reply("乙二", None, FinishReason.LENGTH),
        Chunk("丙三", "想", FinishReason.STOP, None, "m"),
    ]
    for cut in range(len(body) + 1):
        assert read([body[:cut], body[cut:]], (1, 1, 1)) == expected


def test_what_breaks_the_answer_off_spoils_only_what_was_not_complete() -> None:
    error = b'data: {"error":{"message":"EngineCore died","type":"InternalServerError","code":500}}\n\n'
    whole, cut = read([piece(0, "好", "stop"), piece(1, "半"), error])
    assert whole == reply("好", None)
    assert isinstance(cut, tuple)
    assert cut[0] in (ErrorClass.TRANSIENT, ErrorClass.INCOMPLETE)


def test_a_stream_that_ends_early_is_incomplete_for_those_who_wait() -> None:
    whole, cut, missing = read([piece(0, "好", "stop"), piece(1, "半")], (1, 1, 1))
    assert whole == reply("好", None)
    assert cut == missing == (ErrorClass.INCOMPLETE, "the reply ended without a finish reason")


def test_a_call_of_a_tool_fails_alone() -> None:
    choices = [message(0, content="好"), message(1, "tool_calls", tool_calls=[{"id": "1"}]), message(2, "sensitive")]
    one, two, three = read([json.dumps({"choices": choices}).encode()], (1, 1, 1))
    assert one == reply("好", None)
    assert isinstance(two, tuple)
    assert two[0] is ErrorClass.INCOMPLETE
    assert three == reply("", None, FinishReason.PROVIDER_BLOCKED)


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]", b'{"choices": 3}', b'{"error": "no"}', b"data: x\n\n", b""])
def test_what_is_no_answer_is_an_error_for_all(body: bytes) -> None:
    for outcome in read([body]):
        assert isinstance(outcome, tuple)
        assert outcome[0] in (ErrorClass.INCOMPLETE, ErrorClass.TRANSIENT)


def test_indexes_that_nobody_asked_for_are_nobodys() -> None:
    body = json.dumps({"choices": [message(5, content="x"), message(-1, content="y"), message(0, content="好")]})
    assert read([body.encode()], (1,)) == [reply("好", None)]


def test_an_endless_answer_is_let_go() -> None:
    replies = SharedReplies("m", (1,))
    for _ in range(2 * MAX_BYTES_PER_REPLY // 1000):
        if replies.failure is None:
            replies.feed(piece(0, "x" * 1000))
    assert replies.failure is not None


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.lists(st.integers(0, 200), min_size=1, max_size=16))
def test_shares_of_the_tokens_come_to_the_whole(read_tokens: int, written: int, lengths: list[int]) -> None:
    choices = [message(index, content="x" * (length % 7)) for index, length in enumerate(lengths)]
    usage = {"prompt_tokens": read_tokens, "completion_tokens": written}
    outcomes = read([json.dumps({"choices": choices, "usage": usage}).encode()], tuple(lengths))
    usages = [outcome.usage for outcome in outcomes if isinstance(outcome, Chunk) and outcome.usage]
    assert len(usages) == len(lengths)
    assert sum(share.input_token_count for share in usages) == read_tokens
    assert sum(share.output_token_count for share in usages) == written
