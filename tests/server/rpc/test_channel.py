"""Attach: who speaks first, what is passed on, and how each side leaves. And Push."""

import asyncio

import grpc
import pytest
from google.protobuf import duration_pb2, timestamp_pb2

from server.domain import Ask, Content, MediaPart, Push, TextPart, Turn, TurnName, TurnState
from server.errors import Overloaded, ShuttingDown
from server.turn.base import Delivery, Granted, Hello, Report, Revoked
from tests.server.rpc.fakes import open_server, turn_of
from weconverse.v1 import channel_pb2 as pb
from weconverse.v1 import conversation_pb2

ACCOUNT = "channels/wecom/accounts/a"
HELLO = pb.AttachRequest(hello=pb.Hello(account=ACCOUNT, instance="i-1", exclusive=True, ended_only=True))


async def test_grants_and_deliveries_go_out_and_results_come_in() -> None:
    async with open_server() as server:
        name = TurnName("a", "b")
        ended = turn_of(Ask(name, Content.of_text("问"), repeatable=True, assistant="default"))
        for said in (
            Granted(7),
            Delivery(name, b"\xff", 2, b"p", None),
            Delivery(name, b"", 1, b"", ended),
            Revoked(7),
        ):
            server.deliveries.attachment.outgoing.put_nowait(said)
        call = server.attaching.Attach()
        await call.write(HELLO)
        said = [await call.read() for _ in range(4)]
        assert server.deliveries.hellos == [
            Hello(ACCOUNT, "i-1", exclusive=True, max_open_deliveries=0, ended_only=True)
        ]
        assert said[0].granted.epoch == 7
        assert said[1].delivery == pb.Delivery(turn=str(name), address=b"\xff", attempt=2, progress=b"p")
        assert said[2].delivery.ended_turn.reply.parts[0].text == "好的"
        assert said[3].revoked.epoch == 7
        result = pb.DeliveryResult(
            turn=str(name),
            outcome=pb.DeliveryResult.RETRY,
            retry_delay=duration_pb2.Duration(seconds=2, nanos=500_000_000),
            progress=b"p2",
            detail="长" * 501,
            expire_time=timestamp_pb2.Timestamp(seconds=7, nanos=500_000_000),
        )
        await call.write(pb.AttachRequest(result=result))
        assert await server.deliveries.attachment.reports.get() == Report(name, "retry", 2.5, b"p2", "长" * 500, 7.5)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK
        assert server.deliveries.left.is_set()


@pytest.mark.parametrize(
    ("requests", "field"),
    [
        ([], "hello"),
        ([pb.AttachRequest()], "hello"),
        ([pb.AttachRequest(hello=pb.Hello(account="x", instance="i"))], "hello.account"),
        ([HELLO, HELLO], "result"),
        ([HELLO, pb.AttachRequest(result=pb.DeliveryResult(turn="x"))], "result.turn"),
    ],
)
async def test_what_is_out_of_order_ends_the_stream(requests: list[pb.AttachRequest], field: str) -> None:
    async with open_server() as server:
        call = server.attaching.Attach(iter(requests))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in call:
                pass
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details().startswith(f"{field}: ")
        assert server.deliveries.left.is_set() or not server.deliveries.hellos


async def test_an_instance_that_dies_leaves() -> None:
    async with open_server() as server:
        call = server.attaching.Attach()
        await call.write(HELLO)
        server.deliveries.attachment.outgoing.put_nowait(Granted(1))
        await call.read()
        call.cancel()
        async with asyncio.timeout(5):
            await server.deliveries.left.wait()


async def test_a_server_that_stops_says_so() -> None:
    async with open_server() as server:
        call = server.attaching.Attach()
        await call.write(HELLO)
        server.deliveries.attachment.outgoing.put_nowait(ShuttingDown())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert server.deliveries.left.is_set()


# --- Push ------------------------------------------------------------------------------------


async def test_a_push_arrives_whole_and_comes_back_as_a_turn() -> None:
    content = conversation_pb2.Content(
        parts=[
            conversation_pb2.Part(text="报警"),
            conversation_pb2.Part(media=conversation_pb2.Media(mime_type="image/png", inline_data=b"png")),
        ]
    )
    request = pb.PushRequest(account=ACCOUNT, recipient="user:u", content=content, request_id="p1")
    async with open_server() as server:
        turn = await server.attaching.Push(request, timeout=3)
        await server.attaching.Push(request)
    first, _ = server.pushes.pushes
    parts = (TextPart("报警"), MediaPart("image/png", inline_data=b"png"))
    assert first == Push(ACCOUNT, "user:u", Content(parts), "p1", "default")
    given, default = (budget.remaining() for budget in server.pushes.budgets)
    assert given < 3.5
    assert 4 < default <= 5
    assert turn.reply.parts[0] == content.parts[0]
    assert turn.reply.parts[1].media == conversation_pb2.Media(mime_type="image/png"), "its caller has the bytes"
    assert not turn.HasField("input") or not turn.input.parts
    assert turn.delivery_state == conversation_pb2.Turn.OWED


async def test_a_push_is_refused_as_every_request_is() -> None:
    request = pb.PushRequest(account=ACCOUNT, content={"parts": [{"text": "x"}]}, request_id="p1")
    async with open_server() as server:
        for bad, error in ((pb.PushRequest(), None), (request, Overloaded(7.0))):
            server.pushes.error = error
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await server.attaching.Push(bad)
            expected = grpc.StatusCode.INVALID_ARGUMENT if error is None else grpc.StatusCode.RESOURCE_EXHAUSTED
            assert caught.value.code() is expected
        assert not server.pushes.pushes


async def test_a_delivery_of_a_push_says_so() -> None:
    async with open_server() as server:
        name = TurnName("push.a.0", "p1")
        pushed = Turn(name, TurnState.SUCCEEDED, Content(), 1.0, pushed=Content((TextPart("报警"),)))
        server.deliveries.attachment.outgoing.put_nowait(Delivery(name, b"", 1, b"", pushed, "user:u", pushed=True))
        call = server.attaching.Attach()
        await call.write(HELLO)
        delivery = (await call.read()).delivery
        call.cancel()
    assert (delivery.recipient, delivery.pushed, delivery.address) == ("user:u", True, b"")
    assert delivery.ended_turn.reply.parts[0].text == "报警"
