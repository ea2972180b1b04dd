# ruff: noqa: N802  # RPCs are named as in the contract
"""``ChannelService`` on the wire."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Final, TypeAlias

import grpc

from server.budget import Budget
from server.errors import DomainError
from server.rpc import checks, convert
from server.rpc.call import current
from server.rpc.duplex import first_to_end
from server.turn.base import Attachment, DeliveryService, PushService, Report
from weconverse.v1 import channel_pb2, channel_pb2_grpc, conversation_pb2

Context: TypeAlias = "grpc.aio.ServicerContext[channel_pb2.AttachRequest, channel_pb2.AttachResponse]"
PushContext: TypeAlias = "grpc.aio.ServicerContext[channel_pb2.PushRequest, conversation_pb2.Turn]"
Requests: TypeAlias = "AsyncIterator[channel_pb2.AttachRequest]"

_REPORTS_AT_A_TIME: Final = 256
"""Results of one instance that are being written; more are not read until one is."""


class ChannelServicer(channel_pb2_grpc.ChannelServiceServicer):
    """Answers ``weconverse.v1.ChannelService`` from a :class:`DeliveryService` and a :class:`PushService`."""

    def __init__(self, deliveries: DeliveryService, pushes: PushService, turn_timeout: float) -> None:
        """Args: seconds a push may take when its caller sets no deadline."""
        self._deliveries = deliveries
        self._pushes = pushes
        self._turn_timeout = turn_timeout

    async def Push(self, request: channel_pb2.PushRequest, context: PushContext) -> conversation_pb2.Turn:
        """Takes on a message that a program sends of its own accord."""
        checks.push(request)
        call = current.get()
        budget = call.budget if call.budget is not None else Budget(self._turn_timeout)
        turn = await self._pushes.push(convert.push(request, call.caller), budget)
        call.conversation, call.turn = turn.name.conversation, turn.name.request_id
        return convert.turn_message(turn.without_bytes())  # its caller has them

    async def Attach(  # type: ignore[override]  # stubs know generators only; see interceptors/wrap.py
        self, request_iterator: Requests, context: Context
    ) -> None:
        """Attaches one channel instance, until it or the service leaves."""
        requests = aiter(request_iterator)
        hello = convert.hello(checks.hello(await anext(requests, None)))
        async with self._deliveries.attach(hello) as attachment:
            await first_to_end(_hear(requests, attachment), _tell(attachment, context))


async def _hear(requests: Requests, attachment: Attachment) -> None:
    """Takes results until the instance says no more.

    Each is written on its own, so that what is reported together is written together;
    those of one turn keep their order, because each asks the store before the next begins.
    """
    places = asyncio.Semaphore(_REPORTS_AT_A_TIME)

    async def take(report: Report) -> None:
        try:
            await attachment.report(report)
        finally:
            places.release()

    try:
        async with asyncio.TaskGroup() as reports:
            async for request in requests:
                report = convert.report(checks.result(request))
                await places.acquire()
                reports.create_task(take(report))
    except* DomainError as errors:
        raise errors.exceptions[0] from None


async def _tell(attachment: Attachment, context: Context) -> None:
    """Passes on grants and deliveries."""
    call = current.get()
    async with aclosing(attachment.messages()) as messages:  # type: ignore[type-var]  # as in conversation.py
        async for said in messages:
            await context.write(convert.attach_message(said))
            call.messages_out += 1
