"""Replies of token engines: recorded streams of vLLM, and what both dialects make of the same tokens."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.domain import FinishReason, Usage
from server.llm.base import Chunk, ErrorClass, ProviderError
from server.llm.engine.dialects import VllmDialect
from server.llm.engine.reply import EngineReader
from server.llm.engine.token_pieces import vocabulary_of
from server.llm.engine.vocabulary import Vocabulary, table
from server.llm.prompt_messages import Tokenized
from server.llm.wire import sglang_engine_pb2, vllm_engine_pb2
from tests.server.llm.engine_upstream import DIALECTS
from tests.server.llm.grpc_recording import load
from tests.server.llm.reading import Taken, put_together
from tests.server.llm.tiny_tokenizer import byte_level

NUMBERS = table((f"[{number}]".encode() for number in range(600)), leads_with_space=False)
"""Tokens that write their own numbers: nobody has the tokeniser of the recordings any more."""

SAID = "[374][129][350][187][380][176][5][133]"
"""The reply that four of the recordings have in common."""

TINY = vocabulary_of(byte_level())


def read(
    messages: Sequence[bytes], dialect: str = "vllm", vocabulary: Vocabulary = NUMBERS, stops: Sequence[str] = ()
) -> Taken:
    kind, pb = DIALECTS[dialect]
    reader = EngineReader("m", kind(), vocabulary, Tokenized([1, 2, 3], False), stops)
    chunks: list[Chunk] = []
    for message in messages:
        reader.feed(pb.GenerateResponse.FromString(message))
        chunk = reader.take()
        if chunk is not None:
            chunks.append(chunk)
        if reader.enough:
            break
    try:
        chunks.append(reader.close())
    except ProviderError as error:
        return put_together(chunks, error)
    return put_together(chunks)


@pytest.mark.parametrize(
    ("name", "text", "finish", "count"),
    [
        ("vllm_stream", SAID, FinishReason.LENGTH, 8),
        ("vllm_nonstream", SAID, FinishReason.LENGTH, 8),
        # The second of two replies is not mixed into the first.
        ("vllm_stream_n2", SAID, FinishReason.LENGTH, 8),
    ],
)
def test_recorded_replies_are_whole(name: str, text: str, finish: FinishReason, count: int) -> None:
    assert read(load(name)) == Taken(text, "", finish, Usage(3, count))


def test_a_recorded_reply_under_a_grammar_stops_by_itself() -> None:
    taken = read(load("vllm_json"))
    assert (taken.finish, taken.usage) == (FinishReason.STOP, Usage(3, 27))
    assert taken.text.endswith("[2]")
    assert taken.text.count("[") == 27


def test_a_recorded_reply_goes_on_where_its_stop_string_does_not_come() -> None:
    messages = load("vllm_stream_stopstr")
    taken = read(messages, stops=["never"])
    assert taken.finish is FinishReason.LENGTH
    assert taken.usage == Usage(3, len(messages) - 1)
    assert taken.text.startswith(SAID)


def test_a_stop_string_ends_a_recorded_reply_where_it_stands() -> None:
    taken = read(load("vllm_stream_stopstr"), stops=["[5][133]"])
    assert taken == Taken(SAID.removesuffix("[5][133]"), "", FinishReason.STOP, Usage(3, 8))


@pytest.mark.parametrize("name", ["vllm_stream", "vllm_stream_n2", "vllm_json"])
def test_recorded_replies_that_are_cut_anywhere_are_not_whole(name: str) -> None:
    messages = load(name)
    last = next(
        place
        for place, message in enumerate(messages)
        if vllm_engine_pb2.GenerateResponse.FromString(message).HasField("complete")
    )
    for count in range(last + 1):
        taken = read(messages[:count])
        assert (taken.finish, taken.error) == (None, ErrorClass.INCOMPLETE)


def test_a_message_without_a_word_means_nothing() -> None:
    assert VllmDialect().piece(vllm_engine_pb2.GenerateResponse()) is None
    assert read([b"", *load("vllm_stream"), b""]).text == SAID


def vllm_reply(ids: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
    pb = vllm_engine_pb2
    parts = parts_of(ids, sizes)
    chunks = [
        pb.GenerateResponse(chunk=pb.GenerateChunk(token_ids=part, completion_tokens=len(part))) for part in parts
    ]
    end = pb.GenerateComplete(output_ids=parts[-1], finish_reason="stop")
    return [message.SerializeToString() for message in [*chunks, pb.GenerateResponse(complete=end)]]


def sglang_reply(ids: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
    pb = sglang_engine_pb2
    parts = parts_of(ids, sizes)
    chunks = [pb.GenerateResponse(chunk=pb.GenerateChunk(token_ids=part)) for part in parts]
    end = pb.GenerateComplete(output_ids=parts[-1], finish_reason="stop", completion_tokens=len(ids))
    return [message.SerializeToString() for message in [*chunks, pb.GenerateResponse(complete=end)]]


def parts_of(ids: Sequence[int], sizes: Sequence[int]) -> list[Sequence[int]]:
    parts, at = [], 0
    for size in [*sizes, len(ids)]:
        if ids[at : at + size]:
            parts.append(ids[at : at + size])
        at += size
    return parts


@given(
    st.text(min_size=1, max_size=30),
    st.text(max_size=10),
    st.lists(st.integers(1, 5), max_size=20),
    st.sampled_from(["", "年", "\n\n", "</think>"]),
)
def test_both_dialects_say_the_same_however_the_tokens_come(
    text: str, thought: str, sizes: list[int], stop: str
) -> None:
    written = f"<think>{thought}</think>{text}" if thought else text
    ids = byte_level().encode(written, add_special_tokens=False).ids
    if not ids:
        return
    found = {
        read(messages, dialect, TINY, [stop])._replace(usage=None)
        for way in ([], [1] * len(ids), sizes)
        for dialect, messages in (("vllm", vllm_reply(ids, way)), ("sglang", sglang_reply(ids, way)))
    }
    assert len(found) == 1
    [taken] = found
    assert taken.finish is FinishReason.STOP
    assert not stop or stop not in taken.text
