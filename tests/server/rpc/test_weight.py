"""Requests with files: how large they may be, and how many there may be at a time."""

import asyncio

import grpc
import pytest

from server.rpc.checks import MAX_INLINE_BYTES
from server.rpc.interceptors.weight import LARGE_BYTES
from server.rpc.options import MAX_MESSAGE_BYTES
from server.settings import GrpcSettings
from tests.server.rpc.fakes import open_server
from weconverse._options import MAX_MESSAGE_BYTES as CLIENTS_MOST
from weconverse._options import channel_options
from weconverse.v1 import conversation_pb2 as pb

OPTIONS = channel_options("localhost:1")


def of(size: int) -> pb.ConverseRequest:
    media = pb.Media(mime_type="application/pdf", inline_data=bytes(size))
    return pb.ConverseRequest(conversation="conversations/a", input=pb.Content(parts=[pb.Part(media=media)]))


async def test_a_message_with_the_most_that_is_allowed_goes_both_ways() -> None:
    async with open_server(options=OPTIONS) as server:
        answer = await server.conversation.Converse(of(MAX_INLINE_BYTES))
        assert len(answer.turn.input.parts[0].media.inline_data) == MAX_INLINE_BYTES
    assert CLIENTS_MOST == MAX_MESSAGE_BYTES


async def test_too_many_at_a_time_are_refused_and_small_ones_are_not() -> None:
    settings = GrpcSettings(address="127.0.0.1:0", max_large_mebibytes=32)
    async with open_server(settings, options=OPTIONS) as server:
        server.turns.go_on.clear()
        first = asyncio.ensure_future(server.conversation.Converse(of(MAX_INLINE_BYTES)))
        await server.turns.arrived.wait()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await server.conversation.Converse(of(MAX_INLINE_BYTES))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "full" in (refused.value.details() or "")
        small = asyncio.ensure_future(server.conversation.Converse(of(LARGE_BYTES // 2)))
        server.turns.go_on.set()
        await asyncio.gather(first, small)
        # What the first one held is free again.
        await server.conversation.Converse(of(MAX_INLINE_BYTES))


async def test_a_call_hands_its_time_to_whoever_reads_its_files() -> None:
    async with open_server() as server:
        request = pb.SubmitTurnRequest(turn=of(1), account="channels/a/accounts/b")
        request.turn.request_id = "m1"
        await server.conversation.SubmitTurn(request, timeout=3.5)
        # On the wire a deadline is rounded up.
        assert 3.0 < server.turns.budgets[-1].remaining() < 3.6
