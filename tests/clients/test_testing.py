"""The fake service keeps the promises that other people's tests lean on."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from weconverse import (
    BlockingClient,
    ConversationClient,
    ConverseRequest,
    InternalError,
    InvalidField,
    Overloaded,
    Progress,
    ReplyInterrupted,
    ResourceNotFound,
    Turn,
    Unavailable,
    converse_request,
    text_of,
)
from weconverse.testing import FakeService
from weconverse.v1.conversation_pb2 import SubmitTurnRequest
from weconverse.v1.conversation_pb2_grpc import ConversationServiceStub


async def test_it_echoes_without_a_script() -> None:
    async with FakeService() as fake, ConversationClient(fake.target) as client:
        assert text_of((await client.converse("c", "早")).reply) == "你说:早"
        assert text_of((await client.converse("c", "")).reply) == "你说:"


async def test_a_request_is_checked() -> None:
    async with FakeService() as fake, ConversationClient(fake.target) as client:
        for conversation, text, request_id, field in (
            ("a b", "x", "1", "conversation"),
            ("c", "x", "a/b", "request_id"),
            ("c", [], "1", "input.parts"),
        ):
            with pytest.raises(InvalidField) as caught:
                await client.converse(conversation, text, request_id=request_id)
            assert caught.value.field == field
        with pytest.raises(InvalidField) as caught:
            await client.submit("c", "x", request_id="1", account="nonsense")
        assert caught.value.field == "account"
        for account, content, request_id, field in (
            ("nonsense", "x", "1", "account"),
            ("channels/a/accounts/b", "x", "a/b", "request_id"),
            ("channels/a/accounts/b", [], "1", "content"),
        ):
            with pytest.raises(InvalidField) as caught:
                await client.push(account, content, request_id=request_id)
            assert caught.value.field == field
        async with grpc.aio.insecure_channel(fake.target) as channel:
            stub = ConversationServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as raw:
                await stub.SubmitTurn(SubmitTurnRequest(turn=converse_request("c", "x")), timeout=5)
            assert raw.value.details() == "turn.request_id: is required"
        assert fake.turns() == []
        with pytest.raises(ResourceNotFound):
            await client.get_turn("conversations/c/turns/1")


async def test_turns_of_a_conversation_wait_for_each_other() -> None:
    go_on = asyncio.Event()

    async def halting(request: ConverseRequest) -> AsyncIterator[str | Progress]:
        yield Progress(stage=Progress.WAITING_FOR_MODEL)
        yield "半"
        await go_on.wait()
        yield "整"

    async with FakeService(halting) as fake, ConversationClient(fake.target) as client:
        first = asyncio.create_task(client.converse("c", "1", request_id="1"))
        await fake.until(lambda: any(text_of(turn.reply) == "半" for turn in fake.turns()))
        second = asyncio.create_task(client.converse("c", "2", request_id="2"))
        await fake.until(lambda: len(fake.turns()) == 2)
        assert [turn.state for turn in fake.turns()] == [Turn.RUNNING, Turn.QUEUED]
        assert text_of((await client.get_turn("conversations/c/turns/1")).reply) == "半"
        go_on.set()
        assert [text_of(turn.reply) for turn in await asyncio.gather(first, second)] == ["半整", "半整"]


async def test_a_failed_turn_fails_each_kind_of_call() -> None:
    async with FakeService({"x": ["半", ReplyInterrupted("cut")]}) as fake, ConversationClient(fake.target) as client:
        with pytest.raises(ReplyInterrupted):
            await client.converse("c", "x", request_id="1")
        turn = await client.get_turn("conversations/c/turns/1")
        assert (turn.state, text_of(turn.reply)) == (Turn.FAILED, "半")
        async with client.follow(turn.name) as stream:
            with pytest.raises(ReplyInterrupted):
                await stream.result()
        async with client.batch([converse_request("c", "x")]) as results:
            assert [type(result) async for _, result in results] == [ReplyInterrupted]


async def test_a_script_that_is_wrong_fails_its_call_and_the_test() -> None:
    async def wrong(request: ConverseRequest) -> AsyncIterator[str]:
        yield str(1 // len(request.sender.id))

    with pytest.raises(ExceptionGroup) as caught:
        async with FakeService(wrong) as fake, ConversationClient(fake.target) as client:
            with pytest.raises(InternalError, match="ZeroDivisionError"):
                await client.converse("c", "x")
    assert isinstance(caught.value.exceptions[0], ZeroDivisionError)


async def test_failures_are_met_in_order_and_by_method() -> None:
    async with FakeService() as fake, ConversationClient(fake.target) as client:
        fake.fail_next(Overloaded("1"), method="GetAssistant")
        fake.fail_next(Overloaded("2"), times=2)
        for method, message in (("x", "2"), ("a", "1"), ("a", "2")):
            with pytest.raises(Overloaded, match=message):
                await (client.get_assistant() if method == "a" else client.converse("c", "x"))
        assert (await client.get_assistant()).version == "fake"


async def test_waiting_for_what_never_comes_ends() -> None:
    async with FakeService() as fake:
        with pytest.raises(TimeoutError):
            await fake.until(lambda: False, timeout=0.01)


async def test_nothing_is_left_when_it_ends() -> None:
    async def endless(request: ConverseRequest) -> AsyncIterator[str]:
        await asyncio.Event().wait()
        yield ""

    before = asyncio.all_tasks()
    async with ConversationClient("127.0.0.1:1") as unused:
        with pytest.raises(Unavailable):
            await unused.get_assistant()
    fake = FakeService(endless)
    with pytest.raises(RuntimeError, match="async with"):
        _ = fake.target
    async with fake, ConversationClient(fake.target) as client:
        waiting = asyncio.create_task(client.converse("c", "x"))
        async with client.attach("channels/a/accounts/b", "i") as session:
            await anext(session)
            await client.submit("d", "x", request_id="1", account="channels/a/accounts/b")
            await anext(session)
            await session.retry("conversations/d/turns/1", 100)
            await fake.until(lambda: len(fake.results) == 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    with BlockingClient(fake.target, timeout=5) as blocking, pytest.raises(Unavailable):
        await asyncio.to_thread(blocking.get_assistant)
    left = {task for task in asyncio.all_tasks() - before if "weconverse" in repr(task)}
    assert left == set()
