"""Each RPC: what is asked of the turns, and what comes back."""

import asyncio

import grpc
import pytest
from google.protobuf import duration_pb2

from server.domain import (
    Ask,
    Content,
    Delta,
    MediaPart,
    Missing,
    Owed,
    Progress,
    ProgressStage,
    Rating,
    Reasoning,
    Sender,
    TurnName,
    TurnOptions,
)
from server.domain import Replacement as Replaced
from server.domain import ReplacementCause as Cause
from server.errors import ConversationBusy, TurnCancelled
from server.rpc.convert import turn_message
from tests.server.rpc.fakes import open_server, turn_of
from weconverse.v1 import conversation_pb2 as pb

TURN = "conversations/a/turns/b"


def request(text: str = "问", **fields: object) -> pb.ConverseRequest:
    return pb.ConverseRequest(conversation="conversations/a", input=pb.Content(parts=[pb.Part(text=text)]), **fields)


async def test_converse_converts_both_ways() -> None:
    async with open_server() as server:
        options = pb.TurnOptions(
            model="m",
            temperature=0.7,
            max_output_tokens=9,
            bypass_cache=True,
            delta_interval=duration_pb2.Duration(nanos=200_000_000),
            can_hand_off=True,
        )
        asked = request(
            request_id="r-1",
            sender=pb.Sender(id="张", display_name="张三"),
            assistant="assistants/hr",
            channel="wecom",
            language_code="zh-CN",
            options=options,
        )
        asked.input.parts.add().media.CopyFrom(pb.Media(mime_type="image/png", inline_data=b"x", display_name="图"))
        asked.input.parts.add().media.CopyFrom(pb.Media(mime_type="video/mp4", missing=pb.Media.TOO_LARGE))
        turn = (await server.conversation.Converse(asked)).turn
        (ask,) = server.turns.asks
        assert ask.name == TurnName("a", "r-1")
        assert ask.repeatable
        assert ask.input.text == "问"
        assert ask.input.media == (
            MediaPart("image/png", inline_data=b"x", display_name="图"),
            MediaPart("video/mp4", missing=Missing.TOO_LARGE),
        )
        assert (ask.assistant, ask.channel, ask.language_code) == ("hr", "wecom", "zh-CN")
        assert ask.sender == Sender("张", "张三")
        assert ask.options == TurnOptions(
            model="m",
            temperature=0.7,
            max_output_tokens=9,
            bypass_cache=True,
            delta_interval=0.2,
            can_hand_off=True,
        )
        assert turn.name == "conversations/a/turns/r-1"
        assert turn.state == pb.Turn.SUCCEEDED
        assert turn.reply.parts[0].text == "答:问"
        assert turn.input == asked.input
        assert turn.create_time.ToNanoseconds() == 1_000_500_000_000
        assert turn.end_time.ToNanoseconds() == 1_001_250_000_000
        assert turn.assistant == "assistants/hr"
        assert not turn.HasField("first_delta_latency")


async def test_a_turn_without_request_id_gets_one_and_is_not_repeatable() -> None:
    async with open_server() as server:
        first, second = await server.conversation.Converse(request()), await server.conversation.Converse(request())
        names = {turn.turn.name.rpartition("/")[2] for turn in (first, second)}
        assert len(names) == 2
        assert all(len(name) >= 26 for name in names)
        assert not any(ask.repeatable for ask in server.turns.asks)
        assert server.turns.asks[0].assistant == "default"


async def test_the_deadline_is_the_budget() -> None:
    async with open_server() as server:
        await server.conversation.Converse(request(), timeout=3)
        await server.conversation.Converse(request())
        await server.conversation.Converse(request(), timeout=100_000)
        given, default, capped = (budget.remaining() for budget in server.turns.budgets)
        assert 2 < given < 3.5  # a deadline travels in whole units
        assert 4 < default <= 5
        assert 590 < capped <= 600


async def test_a_stream_gives_every_kind_of_event_in_order() -> None:
    async with open_server() as server:
        server.turns.events = [
            Progress(ProgressStage.QUEUED, 0.0),
            Reasoning("想"),
            Delta("好"),
            Replaced("", Cause.FAILOVER),
            Delta("的"),
        ]
        events = [event async for event in server.conversation.StreamConverse(request(request_id="r"))]
        assert [event.sequence for event in events] == [1, 2, 3, 4, 5, 6, 7]
        started, progress, reasoning, delta, replacement, _, completed = events
        assert started.started == pb.TurnStarted(turn="conversations/a/turns/r", attached=False)
        assert progress.progress.stage == pb.Progress.QUEUED
        assert progress.progress.HasField("elapsed")
        assert (reasoning.reasoning.text, delta.delta.text) == ("想", "好")
        assert replacement.replacement == pb.TextReplacement(text="", cause=pb.TextReplacement.FAILOVER)
        assert replacement.WhichOneof("event") == "replacement"
        assert completed.completed.turn.reply.parts[0].text == "好的"


async def test_following_goes_on_behind_a_sequence() -> None:
    async with open_server() as server:
        events = [
            event async for event in server.conversation.FollowTurn(pb.FollowTurnRequest(name=TURN, after_sequence=2))
        ]
        assert [event.sequence for event in events] == [3, 4]
        assert server.turns.calls == [("follow", TurnName("a", "b"), 2)]


async def test_submitting_takes_on_a_debt() -> None:
    async with open_server() as server:
        turn = await server.conversation.SubmitTurn(
            pb.SubmitTurnRequest(turn=request(request_id="r"), account="channels/wecom/accounts/a", address=b"\x00\xff")
        )
        assert turn.name == "conversations/a/turns/r"
        assert server.turns.owed == [Owed("channels/wecom/accounts/a", b"\x00\xff")]


async def test_who_asks_often_gets_a_turn_without_its_input() -> None:
    async with open_server() as server:
        whole = await server.conversation.GetTurn(pb.GetTurnRequest(name=TURN))
        asked = await server.conversation.GetTurn(pb.GetTurnRequest(name=TURN, omit_input=True))
        assert (whole.HasField("input"), asked.HasField("input")) == (True, False)
        whole.ClearField("input")
        assert asked == whole


async def test_the_calls_about_turns_and_conversations() -> None:
    async with open_server() as server:
        rpc, calls = server.conversation, server.turns.calls
        assert (await rpc.GetTurn(pb.GetTurnRequest(name=TURN))).name == TURN
        assert (await rpc.CancelTurn(pb.CancelTurnRequest(name=TURN))).name == TURN
        page = await rpc.ListTurns(pb.ListTurnsRequest(parent="conversations/a", page_token="p"))
        assert (len(page.turns), page.next_page_token) == (2, "next")
        await rpc.ListTurns(pb.ListTurnsRequest(parent="conversations/a", page_size=1000))
        rating = pb.RateTurnRequest(name=TURN, rating=pb.RateTurnRequest.UNHELPFUL, comment="长" * 1001)
        await rpc.RateTurn(rating)
        await rpc.RateTurn(pb.RateTurnRequest(name=TURN, rater=pb.Sender(id="u")))
        conversation = await rpc.GetConversation(pb.GetConversationRequest(name="conversations/a"))
        assert conversation.name == "conversations/a"
        assert conversation.remembered_message_count == 4
        assert conversation.expire_time.ToNanoseconds() == 3_500_000_000
        assert conversation.state == pb.Conversation.ACTIVE
        reset = await rpc.ResetConversation(pb.ResetConversationRequest(name="conversations/a"))
        assert not reset.HasField("expire_time")
        handed_off = await rpc.HandOffConversation(pb.HandOffConversationRequest(name="conversations/a"))
        assert handed_off.state == pb.Conversation.HANDED_OFF
        resumed = await rpc.ResumeConversation(pb.ResumeConversationRequest(name="conversations/a"))
        assert resumed.state == pb.Conversation.ACTIVE
        await rpc.DeleteConversation(pb.DeleteConversationRequest(name="conversations/a"))
        assert await rpc.GetAssistant(pb.GetAssistantRequest(name="assistants/default")) == pb.Assistant(
            name="assistants/default", version="v1", greeting="您好"
        )
        turn, any_turn = TurnName("a", "b"), TurnName("a", "t")
        assert calls == [
            ("get", turn),
            ("cancel", turn),
            ("list", any_turn, 50, "p"),
            ("list", any_turn, 200, ""),
            ("rate", turn, None, Rating.UNHELPFUL, "长" * 1000),
            ("rate", turn, Sender("u"), Rating.WITHDRAWN, ""),
            ("conversation", any_turn),
            ("reset", any_turn),
            ("hand_off", any_turn),
            ("resume", any_turn),
            ("delete", any_turn),
        ]


# --- batches ----------------------------------------------------------------------------


async def test_a_batch_gives_every_result_and_a_bad_turn_fails_alone() -> None:
    async with open_server() as server:
        turns = [request(str(number)) for number in range(99)] + [pb.ConverseRequest()]
        batch = pb.BatchConverseRequest(requests=turns)
        results = {each.index: each async for each in server.conversation.BatchConverse(batch)}
        assert sorted(results) == list(range(100))
        assert all(results[number].turn.reply.parts[0].text == f"答:{number}" for number in range(99))
        assert results[99].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        assert results[99].error.message.startswith("requests[99].conversation: is required")
        assert server.turns.most_running == 32


async def test_a_failure_in_a_batch_is_a_result() -> None:
    async with open_server() as server:
        server.turns.error = ConversationBusy(5, 1.0)
        (result,) = [
            each async for each in server.conversation.BatchConverse(pb.BatchConverseRequest(requests=[request()]))
        ]
        assert result.error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        assert len(result.error.details) == 2


async def test_an_abandoned_batch_leaves_every_turn() -> None:
    async with open_server() as server:
        server.turns.go_on.clear()
        call = server.conversation.BatchConverse(pb.BatchConverseRequest(requests=[request()] * 3))
        await server.turns.arrived.wait()
        call.cancel()
        async with asyncio.timeout(5):
            while server.turns.running or not server.turns.left.is_set():
                await asyncio.sleep(0.005)


async def test_a_stray_cancellation_in_a_batch_ends_it() -> None:
    async with open_server() as server:
        server.turns.error = asyncio.CancelledError()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in server.conversation.BatchConverse(
                pb.BatchConverseRequest(requests=[request()] * 3), timeout=5
            ):
                pass
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


# --- leaving, and faults ------------------------------------------------------------------


async def test_an_abandoned_unary_call_leaves_its_turn() -> None:
    async with open_server() as server:
        server.turns.go_on.clear()
        call = server.conversation.Converse(request())
        await server.turns.arrived.wait()
        call.cancel()
        async with asyncio.timeout(5):
            await server.turns.left.wait()


async def test_an_abandoned_stream_leaves_its_turn() -> None:
    for start in ("StreamConverse", "FollowTurn"):
        async with open_server() as server:
            server.turns.go_on.clear()
            asked = request() if start == "StreamConverse" else pb.FollowTurnRequest(name=TURN)
            call = getattr(server.conversation, start)(asked)
            await call.read()
            call.cancel()
            async with asyncio.timeout(5):
                await server.turns.left.wait()


async def test_a_deadline_leaves_its_turn_and_is_counted_as_one() -> None:
    async with open_server() as server:
        server.turns.go_on.clear()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.conversation.Converse(request(), timeout=0.2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        async with asyncio.timeout(5):
            await server.turns.left.wait()
        labels = {"method": "ConversationService/Converse", "code": "DEADLINE_EXCEEDED"}
        assert server.sample("rpc_calls_total", **labels) == 1


@pytest.mark.parametrize("start", ["Converse", "StreamConverse"])
async def test_a_stray_cancellation_is_unavailable_and_never_a_hang(start: str) -> None:
    async with open_server() as server:
        server.turns.error = asyncio.CancelledError()
        call = getattr(server.conversation, start)(request(), timeout=10)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            if start == "Converse":
                await call
            else:
                _ = [event async for event in call]
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_defect_tells_the_caller_a_number_and_nothing_else() -> None:
    async with open_server() as server:
        server.turns.error = ValueError("secret path /etc/passwd")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.conversation.GetTurn(pb.GetTurnRequest(name=TURN))
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert caught.value.details() == "internal error"
        assert "passwd" not in str(caught.value.trailing_metadata())


def test_a_failed_turn_carries_its_error() -> None:
    turn = turn_of(Ask(TurnName("a", "b"), Content.of_text("问"), repeatable=True, assistant="default"))
    turn.failure = TurnCancelled().as_failure()
    assert turn_message(turn).error.code == grpc.StatusCode.CANCELLED.value[0]
