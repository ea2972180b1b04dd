"""The client without asyncio, in a thread beside the fake service."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import grpc
import pytest

from tests.clients.raw import serving
from weconverse import (
    BlockingClient,
    Conversation,
    ConverseRequest,
    RateLimited,
    ReplyInterrupted,
    ResourceNotFound,
    SequenceGap,
    StreamConverseResponse,
    TextDelta,
    Turn,
    TurnStarted,
    UnfinishedStream,
    text_of,
)
from weconverse.testing import FakeService

R = TypeVar("R")


async def with_client(target: str, script: Callable[[BlockingClient], R], **more: Any) -> R:
    """Runs a script as a script runs: from top to bottom, in a thread of its own."""

    def run() -> R:
        with BlockingClient(target, timeout=10, **more) as client:
            return script(client)

    return await asyncio.to_thread(run)


async def test_a_script_has_what_it_needs() -> None:
    def script(client: BlockingClient) -> None:
        turn = client.converse("c", "ping", request_id="1", channel="cron")
        assert text_of(turn.reply) == "pong"
        assert client.converse("c", "ping", request_id="1") == turn
        assert client.get_turn(turn.name) == turn
        assert not client.get_turn(turn.name, omit_input=True).HasField("input")
        assert client.cancel_turn(turn.name) == turn
        for number in range(3):
            client.converse("c", f"{number}")
        assert [text_of(one.input) for one in client.list_turns("c", page_size=2)] == ["2", "1", "0", "ping"]
        owed = client.submit("c", "ping", request_id="2", account="channels/a/accounts/b", address=b"x")
        assert owed.delivery_state == Turn.OWED
        with pytest.raises(ValueError, match="request_id"):
            client.submit("c", "ping", request_id="", account="channels/a/accounts/b")
        assert client.hand_off("c").state == Conversation.HANDED_OFF
        assert client.converse("c", "ping").finish_reason == Turn.HANDED_OFF
        assert client.resume("c").state == Conversation.ACTIVE
        pushed = client.push("channels/a/accounts/b", "报警", recipient="u", request_id="p", assistant="ops")
        assert text_of(client.get_turn(pushed.name).reply) == "报警"
        assert client.reset("c").remembered_message_count == 0
        assert client.get_assistant().name == "assistants/default"
        with pytest.raises(ResourceNotFound):
            client.reset("nowhere")

    async with FakeService({"ping": "pong"}, token="t") as fake:
        await with_client(fake.target, script, token="t")
        assert all(call.timeout is not None and call.timeout < 10.1 for call in fake.calls)
        assert len(fake.requests("Converse", ConverseRequest)[2].request_id) == 32


async def test_a_stream_adds_up() -> None:
    def script(client: BlockingClient) -> None:
        stream = client.stream("c", "ping")
        with pytest.raises(RuntimeError, match="with"):
            next(iter(stream))
        stream.__exit__(None, None, None)
        with stream:
            texts = [stream.text for _ in stream]
            with pytest.raises(RuntimeError, match="once"):
                stream.__enter__()
        assert texts == ["", "一二三四", "一二三四五", "一二三四五"]
        assert stream.turn is not None
        assert (stream.sequence, stream.name) == (4, stream.turn.name)

    async with FakeService({"ping": "一二三四五"}) as fake:
        await with_client(fake.target, script)


async def test_a_stream_left_early_is_told_to_the_server() -> None:
    async def endless(request: ConverseRequest) -> AsyncIterator[str]:
        yield "好"
        await asyncio.Event().wait()

    def script(client: BlockingClient) -> None:
        with client.stream("c", "q") as stream:
            for _ in stream:
                if stream.text:
                    return

    async with FakeService(endless) as fake:
        # Not awaited before the service knows: closing the channel would tell it as well.
        async def told() -> None:
            await fake.until(lambda: bool(fake.turns()) and fake.turns()[0].state == Turn.CANCELLED)

        await asyncio.gather(told(), with_client(fake.target, script))


async def test_errors_are_typed_and_waited_for() -> None:
    def script(client: BlockingClient) -> None:
        with client.stream("c", "broken", request_id="1") as stream, pytest.raises(ReplyInterrupted):
            list(stream)
        assert text_of(client.converse("c", "x").reply) == "你说:x"
        with pytest.raises(RateLimited):
            client.get_assistant(timeout=1)

    async with FakeService({"broken": ["半", ReplyInterrupted("cut")]}) as fake:
        fake.fail_next(RateLimited("slow", retry_after=0.02), method="Converse")
        fake.fail_next(RateLimited("slow", retry_after=9), method="GetAssistant")
        await with_client(fake.target, script)
        assert sum(call.method == "Converse" for call in fake.calls) == 2


async def test_a_broken_order_is_noticed() -> None:
    async def stream_converse(request: Any, context: Any) -> None:
        await context.write(StreamConverseResponse(sequence=1, started=TurnStarted(turn="t")))
        if request.request_id == "gap":
            await context.write(StreamConverseResponse(sequence=3, delta=TextDelta(text="x")))

    def script(client: BlockingClient) -> None:
        with client.stream("c", "q", request_id="gap") as stream, pytest.raises(SequenceGap):
            list(stream)
        with client.stream("c", "q") as stream, pytest.raises(UnfinishedStream):
            list(stream)

    async with serving(StreamConverse=stream_converse) as target:
        await with_client(target, script)


def test_a_token_is_guarded_here_too() -> None:
    with pytest.raises(ValueError, match="plain text"):
        BlockingClient("example.com:1", token="t")
    with pytest.raises(ValueError, match="timeout"):
        BlockingClient(timeout=0)
    BlockingClient("example.com:1", token="t", credentials=grpc.ssl_channel_credentials()).close()
