"""Another server as a model, over a real connection to the fake service that ships with the client."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import msgspec
import pytest

from server.budget import Budget
from server.domain import FinishReason
from server.llm.base import Chunk, ErrorClass, Message, Prompt, ProviderError, Role
from server.llm.weconverse_grpc import WeConverseBackend
from server.settings import ModelSettings
from weconverse import errors
from weconverse.testing import FakeService, Piece, Script
from weconverse.v1.conversation_pb2 import CancelTurnRequest, ConverseRequest, Turn

PROMPT = Prompt(
    model="centre",
    messages=(Message(Role.SYSTEM, "你是助手"), Message(Role.USER, "你好")),
    request_id="m-1",
    conversation="a",
)


def backend(target: str, **settings: object) -> WeConverseBackend:
    entry = ModelSettings(protocol="weconverse", target=target, **settings)  # type: ignore[arg-type]  # as a test needs them
    return WeConverseBackend("centre", entry, "here", random=lambda: 0.0)


async def read(provider: WeConverseBackend, prompt: Prompt = PROMPT, seconds: float = 10, key: str = "") -> list[Chunk]:
    try:
        async with aclosing(provider.generate(prompt, Budget(seconds), key)) as chunks:
            return [chunk async for chunk in chunks]
    finally:
        await provider.aclose()


class Pieces:
    """A reply of which the test lets out one piece after the other."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Piece | None] = asyncio.Queue()

    def say(self, *pieces: Piece | None) -> None:
        for piece in pieces:
            self._queue.put_nowait(piece)

    async def __aiter__(self) -> AsyncIterator[Piece]:
        while (piece := await self._queue.get()) is not None:
            yield piece


def scripted(pieces: Pieces) -> Script:
    return lambda request: aiter(pieces)


async def texts(chunks: AsyncGenerator[Chunk, None], count: int) -> str:
    """The text of the next chunks."""
    return "".join([(await anext(chunks)).text for _ in range(count)])


async def test_a_question_is_answered_with_the_callers_key() -> None:
    async with FakeService({"你好": "你好，这里是总部"}, token="secret-1") as fake:
        chunks = await read(backend(fake.target), key="secret-1")
        (request,) = fake.requests("StreamConverse", ConverseRequest)
    assert "".join(chunk.text for chunk in chunks) == "你好，这里是总部"
    assert chunks[-1].finish is FinishReason.STOP
    assert (chunks[0].model, chunks[-1].model) == ("centre", "centre")
    assert list(request.via) == ["here"]
    assert not request.history


async def test_a_wrong_key_is_named_by_its_class_and_kept_out_of_the_error() -> None:
    async with FakeService(token="secret-1") as fake:
        with pytest.raises(ProviderError) as caught:
            await read(backend(fake.target), key="secret-2")
    assert (caught.value.kind, caught.value.code, caught.value.model) == (ErrorClass.AUTH, "CALLER_UNKNOWN", "centre")
    assert "secret-2" not in caught.value.detail


async def test_an_error_of_the_other_server_keeps_its_reason_and_its_wait() -> None:
    async with FakeService() as fake:
        fake.fail_next(errors.Overloaded("full", retry_after=1.5))
        with pytest.raises(ProviderError) as caught:
            await read(backend(fake.target))
    assert (caught.value.kind, caught.value.retry_after) == (ErrorClass.OVERLOADED, 1.5)


async def test_a_failure_in_the_middle_is_no_end() -> None:
    answer: list[Piece] = ["一半", errors.ReplyInterrupted("broke off", metadata={"model": "m"})]
    async with FakeService(lambda request: answer) as fake:
        provider, got = backend(fake.target), []
        with pytest.raises(ProviderError) as caught:
            async with aclosing(provider.generate(PROMPT, Budget(10))) as chunks:
                async for chunk in chunks:
                    got.append(chunk)
        await provider.aclose()
    assert caught.value.kind is ErrorClass.INCOMPLETE
    assert [chunk.finish for chunk in got] == [None]


async def test_the_deadline_is_the_budget() -> None:
    first, second = Pieces(), Pieces()
    first.say("好", None)
    answers = iter([first, second])
    async with FakeService(lambda request: aiter(next(answers))) as fake:
        provider = backend(fake.target)
        # Once there is a connection, making it takes nothing of the time.
        async with aclosing(provider.generate(PROMPT, Budget(10))) as chunks:
            assert await texts(chunks, 1) == "好"
        with pytest.raises(ProviderError) as caught:
            await read(provider, msgspec.structs.replace(PROMPT, request_id="another"), seconds=0.5)
        assert caught.value.kind is ErrorClass.TIMEOUT
        left = [call for call in fake.calls if call.method == "StreamConverse"][-1].timeout
        assert left is not None
        assert 0 < left < 1  # gRPC gives or takes a part of a millisecond; every setting is longer


async def test_leaving_ends_the_turn_there() -> None:
    pieces = Pieces()
    pieces.say("第一")
    async with FakeService(scripted(pieces)) as fake:
        provider = backend(fake.target)
        async with aclosing(provider.generate(PROMPT, Budget(10))) as chunks:
            assert await texts(chunks, 1) == "第一"
        await provider.aclose()
        (cancel,) = fake.requests("CancelTurn", CancelTurnRequest)
        (turn,) = fake.turns()
        assert (turn.name, turn.state) == (cancel.name, Turn.CANCELLED)


async def test_being_cancelled_ends_the_turn_there_and_stays_a_cancellation() -> None:
    async with FakeService(scripted(Pieces())) as fake:
        provider = backend(fake.target)
        task = asyncio.create_task(read(provider))
        await fake.until(lambda: bool(fake.turns()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [turn.state for turn in fake.turns()] == [Turn.CANCELLED]


async def test_a_whole_reply_is_not_stopped_afterwards() -> None:
    async with FakeService({"你好": "好"}) as fake:
        provider = backend(fake.target)
        async with aclosing(provider.generate(PROMPT, Budget(10))) as chunks:
            async for chunk in chunks:
                if chunk.finish is not None:
                    break  # as the router does
        await provider.aclose()
        assert [call.method for call in fake.calls] == ["StreamConverse"]


async def test_a_cut_line_goes_on_where_it_was() -> None:
    pieces = Pieces()
    pieces.say("第一，")
    async with FakeService(scripted(pieces)) as fake:
        provider = backend(fake.target)
        async with aclosing(provider.generate(PROMPT, Budget(10))) as chunks:
            assert await texts(chunks, 1) == "第一，"
            for number, word in enumerate(("第二，", "第三"), 2):
                fake.break_streams()
                pieces.say(word)
                chunk = await anext(chunks)
                assert (chunk.text, chunk.restart) == (word, False)
                assert len(fake.requests("StreamConverse", ConverseRequest)) == number
            pieces.say(None)
            assert (await anext(chunks)).finish is FinishReason.STOP
        await provider.aclose()
        assert len({request.request_id for request in fake.requests("StreamConverse", ConverseRequest)}) == 1
        assert len(fake.turns()) == 1


async def test_a_line_that_is_cut_before_any_text_is_for_others_to_mend() -> None:
    async with FakeService(scripted(Pieces())) as fake:
        task = asyncio.create_task(read(backend(fake.target)))
        await fake.until(lambda: bool(fake.turns()))
        fake.break_streams()
        with pytest.raises(ProviderError) as caught:
            await task
        assert caught.value.kind in (ErrorClass.TRANSIENT, ErrorClass.INCOMPLETE)
        assert len(fake.requests("StreamConverse", ConverseRequest)) == 1


async def test_the_next_attempt_finds_the_turn_of_the_last() -> None:
    pieces = Pieces()
    async with FakeService(scripted(pieces)) as fake:
        task = asyncio.create_task(read(backend(fake.target)))
        await fake.until(lambda: bool(fake.turns()))
        fake.break_streams()
        with pytest.raises(ProviderError):
            await task
        pieces.say("只问一次", None)
        chunks = await read(backend(fake.target))
        assert "".join(chunk.text for chunk in chunks) == "只问一次"
        assert len(fake.turns()) == 1


async def test_a_line_that_stays_cut_is_given_up() -> None:
    pieces, pauses = Pieces(), []
    pieces.say("第一")

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async with FakeService(scripted(pieces)) as fake:
        entry = ModelSettings(protocol="weconverse", target=fake.target)
        provider = WeConverseBackend("centre", entry, "here", random=lambda: 0.5, sleep=sleep)
        async with aclosing(provider.generate(PROMPT, Budget(1.0))) as chunks:
            assert await texts(chunks, 1) == "第一"
            fake.fail_next(errors.Unavailable("gone"), method="StreamConverse", times=10_000)
            fake.break_streams()
            with pytest.raises(ProviderError) as caught:
                await anext(chunks)
        await provider.aclose()
    assert caught.value.kind in (ErrorClass.TRANSIENT, ErrorClass.INCOMPLETE, ErrorClass.TIMEOUT)
    assert pauses[:4] == pytest.approx([0.15, 0.3, 0.6, 0.75])


async def test_nobody_there_is_trouble_that_may_pass() -> None:
    async with FakeService() as fake:
        target = fake.target
    with pytest.raises(ProviderError) as caught:
        await read(backend(target, connect_seconds=2.0))
    assert caught.value.kind in (ErrorClass.TRANSIENT, ErrorClass.TIMEOUT)


def test_an_address_is_needed() -> None:
    with pytest.raises(ValueError, match="target: names no address"):
        backend("")
