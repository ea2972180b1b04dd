"""When a reply counts as complete, whatever wire it came over."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.domain import FinishReason, Usage
from server.llm.base import ErrorClass, ProviderError
from server.llm.reply import Reply


def test_pieces_are_taken_together_and_the_first_and_last_name_the_route() -> None:
    reply = Reply("路由")
    assert reply.take() is None
    reply.put("一")
    reply.put("二", "想")
    first = reply.take()
    assert first is not None
    assert (first.text, first.reasoning, first.model) == ("一二", "想", "路由")
    assert reply.take() is None
    reply.put("三")
    second = reply.take()
    assert second is not None
    assert (second.text, second.model) == ("三", "")
    reply.end("stop")
    reply.usage = Usage(1, 2)
    last = reply.close()
    assert (last.text, last.finish, last.usage, last.model) == ("", FinishReason.STOP, Usage(1, 2), "路由")


def test_nothing_but_a_finish_reason_ends_a_reply() -> None:
    reply = Reply("m")
    reply.put("好")
    with pytest.raises(ProviderError) as caught:
        reply.close()
    assert caught.value.kind is ErrorClass.INCOMPLETE


def test_an_empty_piece_is_no_arrival() -> None:
    reply = Reply("m")
    reply.put("", "")
    assert not reply.arrived
    reply.put(thought="想")
    assert reply.arrived


@pytest.mark.parametrize("word", ["tool_use", "FUNCTION_CALL", "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"])
def test_a_reply_that_waits_for_a_tool_is_none(word: str) -> None:
    reply = Reply("m")
    reply.end(word)
    with pytest.raises(ProviderError) as caught:
        reply.close()
    assert caught.value.kind is ErrorClass.INCOMPLETE


def test_a_tool_call_counts_more_than_a_full_stop_and_less_than_a_refusal() -> None:
    for word, complete in (("STOP", False), ("max_tokens", False), ("SAFETY", True)):
        reply = Reply("m")
        reply.asked_for_tool = True
        reply.end(word)
        assert reply.finished is complete


def test_an_unknown_word_ends_a_reply_and_is_kept_for_the_log() -> None:
    reply = Reply("m")
    reply.end("OTHER")
    assert reply.close().finish is FinishReason.STOP
    assert reply.unknown_finish == "OTHER"


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.text(max_size=3)),
            st.tuples(st.just("think"), st.text(max_size=3)),
            st.tuples(st.just("end"), st.sampled_from(["stop", "MAX_TOKENS", "tool_use", "abort", "SAFETY", "what"])),
            st.tuples(st.just("fail"), st.just("")),
            st.tuples(st.just("take"), st.just("")),
        ),
        max_size=12,
    )
)
def test_a_reply_is_complete_exactly_if_it_ended_before_it_failed(steps: list[tuple[str, str]]) -> None:
    reply, text, thoughts, ended, failed = Reply("m"), "", "", False, False
    chunks = []
    for step, value in steps:
        if step == "put":
            reply.put(value)
            text += value
        elif step == "think":
            reply.put(thought=value)
            thoughts += value
        elif step == "end":
            reply.end(value)
            if value in ("tool_use", "abort"):
                failed = failed or not ended
            else:
                ended = True
        elif step == "fail":
            reply.fail(ProviderError(ErrorClass.TRANSIENT, "broken"))
            failed = failed or not ended
        elif (chunk := reply.take()) is not None:
            chunks.append(chunk)
    try:
        chunks.append(reply.close())
    except ProviderError:
        assert failed or not ended
        return
    assert ended
    assert not failed
    assert ("".join(c.text for c in chunks), "".join(c.reasoning for c in chunks)) == (text, thoughts)
