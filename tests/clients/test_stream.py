"""Streams: what they add up to, and that they end their call in any case."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.clients.raw import serving
from weconverse import (
    ConversationClient,
    ConverseRequest,
    NoRouteAvailable,
    Progress,
    ReplyInterrupted,
    ReplyReplaced,
    ResourceNotFound,
    SequenceGap,
    StreamConverseResponse,
    TextDelta,
    TextReplacement,
    Turn,
    TurnCancelled,
    TurnCompleted,
    TurnStarted,
    Unavailable,
    UnfinishedStream,
    converse_request,
    text_of,
    turn_name,
)
from weconverse._reply import Reply
from weconverse.testing import APOLOGY, FakeService, Piece
from weconverse.v1.conversation_pb2 import BatchConverseResponse, Content, Part

FILTERED = TextReplacement(text="不能显示。", cause=TextReplacement.FILTERED)
FAILOVER = TextReplacement(text="", cause=TextReplacement.FAILOVER)


def started(sequence: int = 1) -> StreamConverseResponse:
    return StreamConverseResponse(sequence=sequence, started=TurnStarted(turn="conversations/c/turns/1"))


def delta(sequence: int, text: str = "x") -> StreamConverseResponse:
    return StreamConverseResponse(sequence=sequence, delta=TextDelta(text=text))


def completed(sequence: int, text: str = "") -> StreamConverseResponse:
    turn = Turn(state=Turn.SUCCEEDED, reply=Content(parts=[Part(text=text)]))
    return StreamConverseResponse(sequence=sequence, completed=TurnCompleted(turn=turn))


# --- Against the fake service ---------------------------------------------------------


async def test_the_events_add_up_to_the_reply() -> None:
    async with FakeService({"ping": "一二三四五六七八九"}) as fake, ConversationClient(fake.target) as client:
        async with client.stream("c", "ping", request_id="1") as stream:
            texts = [stream.text async for _ in stream]
        assert texts == ["", "一二三四", "一二三四五六七八", "一二三四五六七八九", "一二三四五六七八九"]
        assert stream.turn is not None
        assert text_of(stream.turn.reply) == stream.text
        assert (stream.sequence, stream.name, stream.attached) == (5, "conversations/c/turns/1", False)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

        async with client.stream("c", "ping", request_id="1") as again:
            assert text_of((await again.result()).reply) == stream.text
            assert again.attached

        async with client.follow(turn_name("c", "1"), after_sequence=3) as rest:
            events = [event.sequence async for event in rest]
        assert events == [4, 5]
        assert rest.text == stream.text


async def test_pieces_are_handed_out_and_taken_back() -> None:
    script: dict[str, list[Piece]] = {
        "q": ["好的", Progress(stage=Progress.WAITING_FOR_MODEL), ",因为", FAILOVER, "不,", "因为"]
    }
    async with FakeService(script) as fake, ConversationClient(fake.target) as client:
        async with client.stream("c", "q") as stream:
            shown = ""
            taken_back = []
            while stream.turn is None:
                try:
                    async for piece in stream.text_deltas():
                        shown += piece
                except ReplyReplaced as replaced:
                    taken_back.append(shown)
                    shown = replaced.text
        assert (taken_back, shown) == (["好的,因为"], "不,因为")
        assert shown == text_of(stream.turn.reply)


async def test_a_replacement_that_only_adds_is_a_piece() -> None:
    extended = TextReplacement(text="好的,完。", cause=TextReplacement.FAILOVER)
    async with (
        FakeService({"q": ["好的", extended]}) as fake,
        ConversationClient(fake.target) as client,
        client.stream("c", "q") as stream,
    ):
        assert [piece async for piece in stream.text_deltas()] == ["好的", ",完。"]


async def test_a_stream_left_early_is_told_to_the_server() -> None:
    async def endless(request: ConverseRequest) -> AsyncIterator[str]:
        yield "好"
        await asyncio.Event().wait()

    async with FakeService(endless) as fake, ConversationClient(fake.target) as client:
        async with client.stream("c", "q") as stream:
            async for event in stream:
                if event.HasField("delta"):
                    break
        await fake.until(lambda: fake.turns()[0].state == Turn.CANCELLED, timeout=1)

        with pytest.raises(KeyError):
            async with client.stream("c", "q") as stream:
                await anext(stream)
                raise KeyError
        await fake.until(lambda: fake.turns()[1].state == Turn.CANCELLED, timeout=1)

        async def reads() -> None:
            async with client.stream("c", "q") as stream:
                async for _ in stream:
                    pass

        child = asyncio.create_task(reads())
        await fake.until(lambda: len(fake.turns()) == 3)
        child.cancel()
        with pytest.raises(asyncio.CancelledError):
            await child
        await fake.until(lambda: fake.turns()[2].state == Turn.CANCELLED, timeout=1)


async def test_closing_from_another_task_ends_the_iteration() -> None:
    async def endless(request: ConverseRequest) -> AsyncIterator[str]:
        await asyncio.Event().wait()
        yield ""

    async with (
        FakeService(endless) as fake,
        ConversationClient(fake.target) as client,
        client.stream("c", "q") as stream,
    ):
        seen = asyncio.Event()

        async def reads() -> list[int]:
            sequences = []
            async for event in stream:
                sequences.append(event.sequence)
                seen.set()
            return sequences

        reader = asyncio.create_task(reads())
        await seen.wait()
        await stream.aclose()
        assert await reader == [1]
        with pytest.raises(UnfinishedStream):
            await stream.result()


async def test_a_cancelled_turn_says_so() -> None:
    async def endless(request: ConverseRequest) -> AsyncIterator[str]:
        await asyncio.Event().wait()
        yield ""

    async with (
        FakeService(endless) as fake,
        ConversationClient(fake.target) as client,
        client.stream("c", "q", request_id="1") as stream,
    ):
        await anext(stream)
        assert (await client.cancel_turn(stream.name)).state == Turn.CANCELLED
        with pytest.raises(TurnCancelled):
            await stream.result()


async def test_a_failed_turn_raises_and_runs_anew() -> None:
    async with (
        FakeService({"q": ["半", ReplyInterrupted("cut", metadata={"model": "模型"})]}) as fake,
        ConversationClient(fake.target) as client,
    ):
        async with client.stream("c", "q", request_id="1", resume=True) as stream:
            with pytest.raises(ReplyInterrupted) as caught:
                await stream.result()
        assert caught.value.metadata == {"model": "模型"}
        assert stream.text == "半"
        fake.answer({"q": "整"})
        async with client.stream("c", "q", request_id="1") as stream:
            assert text_of((await stream.result()).reply) == "整"


async def test_an_owed_turn_that_failed_still_completes() -> None:
    async with FakeService({"q": ["半", NoRouteAvailable("no")]}) as fake, ConversationClient(fake.target) as client:
        name = (await client.submit("c", "q", request_id="1", account="channels/a/accounts/b")).name
        async with client.follow(name) as stream:
            turn = await stream.result()
    assert (turn.state, stream.text, text_of(turn.reply)) == (Turn.FAILED, APOLOGY, APOLOGY)


async def test_a_broken_connection_is_taken_up_again() -> None:
    go_on = asyncio.Event()

    async def halting(request: ConverseRequest) -> AsyncIterator[str]:
        yield "一"
        await go_on.wait()
        yield "二"

    async with FakeService(halting) as fake, ConversationClient(fake.target) as client:
        async with client.stream("c", "q", resume=True) as stream:
            assert [(await anext(stream)).sequence for _ in range(2)] == [1, 2]
            fake.break_streams()
            go_on.set()
            assert [event.sequence async for event in stream] == [3, 4]
        assert stream.text == "一二"
        assert [call.method for call in fake.calls] == ["StreamConverse", "FollowTurn"]
        assert fake.calls[1].request.after_sequence == 2  # type: ignore[attr-defined]
        assert fake.requests("StreamConverse", ConverseRequest)[0].request_id != ""


async def test_without_resume_a_broken_connection_is_an_error() -> None:
    async def endless(request: ConverseRequest) -> AsyncIterator[str]:
        await asyncio.Event().wait()
        yield ""

    async with (
        FakeService(endless) as fake,
        ConversationClient(fake.target) as client,
        client.stream("c", "q", request_id="1") as stream,
    ):
        await anext(stream)
        fake.break_streams()
        with pytest.raises(Unavailable):
            await stream.result()


async def test_following_what_does_not_exist() -> None:
    async with FakeService() as fake, ConversationClient(fake.target) as client:
        async with client.follow("conversations/c/turns/1") as stream:
            with pytest.raises(ResourceNotFound):
                await anext(stream)
        with pytest.raises(ValueError, match="after_sequence"):
            client.follow("conversations/c/turns/1", -1)
        with pytest.raises(ValueError, match="turn"):
            client.follow("1")


async def test_a_stream_is_entered_once_and_first() -> None:
    async with ConversationClient() as client:
        stream = client.stream("c", "q")
        with pytest.raises(RuntimeError, match="async with"):
            await anext(stream)
        await stream.aclose()
        async with stream:
            with pytest.raises(RuntimeError, match="once"):
                await stream.__aenter__()


# --- Against servers that misbehave -----------------------------------------------------


async def test_a_server_is_told_within_a_second() -> None:
    told = asyncio.Event()

    async def stream_converse(request: object, context: Any) -> None:
        try:
            for sequence in range(1, 1_000_000):
                await context.write(started() if sequence == 1 else delta(sequence))
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            told.set()
            raise

    async with serving(StreamConverse=stream_converse) as target, ConversationClient(target) as client:
        async with client.stream("c", "q") as stream:
            await anext(stream)
        async with asyncio.timeout(1):
            await told.wait()


@pytest.mark.parametrize("resume", [False, True])
async def test_a_gap_is_noticed(resume: bool) -> None:
    async def stream_converse(request: object, context: Any) -> None:
        for event in (started(), delta(2), delta(4)):
            await context.write(event)

    async with (
        serving(StreamConverse=stream_converse) as target,
        ConversationClient(target) as client,
        client.stream("c", "q", resume=resume) as stream,
    ):
        with pytest.raises(SequenceGap) as caught:
            await stream.result()
    assert (caught.value.expected, caught.value.received, stream.sequence) == (3, 4, 2)


async def test_success_without_completed_is_an_error() -> None:
    async def stream_converse(request: object, context: Any) -> None:
        await context.write(started())

    async def batch_converse(request: object, context: Any) -> None:
        await context.write(BatchConverseResponse(index=1, turn=Turn()))

    handlers: dict[str, Any] = {"StreamConverse": stream_converse, "BatchConverse": batch_converse}
    async with serving(**handlers) as target, ConversationClient(target) as client:
        async with client.stream("c", "q") as stream:
            with pytest.raises(UnfinishedStream, match="after event 1"):
                await stream.result()
        async with client.batch([converse_request("c", text) for text in "abc"]) as results:
            with pytest.raises(UnfinishedStream, match=r"\[0, 2\]"):
                _ = [result async for result in results]


async def test_a_server_that_aborts_midway_is_followed_until_the_deadline() -> None:
    follows: list[int] = []

    async def stream_converse(request: object, context: Any) -> None:
        await context.write(started())
        await context.write(delta(2, "一"))
        await context.abort(grpc.StatusCode.UNAVAILABLE, "goaway")

    async def follow_turn(request: Any, context: Any) -> None:
        follows.append(request.after_sequence)
        if len(follows) < 3:
            # Behind a first message, so that gRPC itself does not repeat the call.
            await context.write(delta(request.after_sequence, "old"))
            await context.abort(grpc.StatusCode.UNAVAILABLE, "goaway")
        await context.write(delta(3, "二"))
        await context.write(completed(4, "一二"))

    handlers: dict[str, Any] = {"StreamConverse": stream_converse, "FollowTurn": follow_turn}
    async with serving(**handlers) as target, ConversationClient(target) as client:
        async with client.stream("c", "q", request_id="1", resume=True) as stream:
            await stream.result()
        assert (stream.text, follows) == ("一二", [2, 2, 2])
        follows[:] = [0] * -100
        async with client.stream("c", "q", request_id="1", resume=True, timeout=0.05) as stream:
            with pytest.raises(Unavailable, match="goaway"):
                await stream.result()
        assert follows == []


async def test_closing_while_it_waits_to_take_up_again() -> None:
    async def stream_converse(request: object, context: Any) -> None:
        await context.write(started())
        await context.abort(grpc.StatusCode.UNAVAILABLE, "goaway")

    async with (
        serving(StreamConverse=stream_converse) as target,
        ConversationClient(target) as client,
        client.stream("c", "q", request_id="1", resume=True) as stream,
    ):
        await anext(stream)
        reader = asyncio.create_task(anext(stream, None))
        while stream._tries == 0:
            await asyncio.sleep(0.001)
        await stream.aclose()
        assert await reader is None


# --- What a stream adds up to -------------------------------------------------------------


events = st.lists(
    st.one_of(
        st.text(min_size=1, max_size=5).map(lambda text: StreamConverseResponse(delta=TextDelta(text=text))),
        st.text(max_size=5).map(lambda text: StreamConverseResponse(replacement=TextReplacement(text=text))),
        st.builds(lambda: StreamConverseResponse(progress=Progress())),
        st.builds(lambda: StreamConverseResponse(reasoning=TextDelta(text="hm"))),
    ),
    max_size=12,
)


@given(events, st.data())
def test_repeats_change_nothing(bodies: list[StreamConverseResponse], data: st.DataObject) -> None:
    for number, event in enumerate(bodies, 1):
        event.sequence = number
    expected = ""
    for event in bodies:
        expected = event.replacement.text if event.HasField("replacement") else expected + event.delta.text
    reply = Reply()
    position = 0
    for _ in range(3):  # Each time from somewhere before the break, as after a lost connection.
        position = data.draw(st.integers(0, position))
        until = data.draw(st.integers(position, len(bodies)))
        for event in bodies[position:until]:
            reply.add(event)
        position = reply.sequence
    for event in bodies[position:]:
        assert reply.add(event)
    assert (reply.text, reply.sequence) == (expected, len(bodies))
    with pytest.raises(UnfinishedStream):
        reply.finished()
