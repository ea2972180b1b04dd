# ruff: noqa: N802  # RPCs are named as in the contract
"""``ConversationService`` on the wire: check, convert, call, convert, return."""

import asyncio
import itertools
import secrets
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Final, TypeAlias

import grpc
from google.protobuf import empty_pb2

from server.budget import Budget
from server.domain import Ask, Completed, Rating, TurnName
from server.errors import DomainError
from server.rpc import checks, convert
from server.rpc.call import Call, current
from server.rpc.status import status_of
from server.turn.base import Follower, TurnService
from weconverse.v1 import conversation_pb2 as pb
from weconverse.v1 import conversation_pb2_grpc

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

BATCH_AT_A_TIME: Final = 32
"""Turns of one batch that run together: enough to keep a model busy, too few to crowd out everybody else."""


class RequestIds:
    """Makes identifiers for turns whose callers chose none: 32 hexadecimal digits, never the same twice.

    64 random bits of this process and a count, because a random number for each turn asks
    the system each time. They name turns and protect nothing: who may see a turn is the
    caller's right to its conversation.
    """

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(8)
        self._count = itertools.count(1)

    def __call__(self) -> str:
        return f"{self._prefix}{next(self._count):016x}"


class ConversationServicer(conversation_pb2_grpc.ConversationServiceServicer):
    """Answers ``weconverse.v1.ConversationService`` from a :class:`TurnService`."""

    def __init__(self, turns: TurnService, turn_timeout: float, new_id: Callable[[], str] | None = None) -> None:
        """Args: seconds a turn may take when nothing else says so, and what makes request ids."""
        self._turns = turns
        self._turn_timeout = turn_timeout
        self._new_id = new_id or RequestIds()

    # --- running turns ---------------------------------------------------------------------

    async def Converse(self, request: pb.ConverseRequest, context: Context) -> pb.ConverseResponse:
        """Runs one turn and returns it when it is complete."""
        checks.converse(request)
        call, ask = self._ask(request)
        turn = await self._turns.converse(ask, self._budget(call))
        response = pb.ConverseResponse()
        convert.fill_turn(response.turn, turn)
        return response

    async def StreamConverse(  # type: ignore[override]  # stubs know generators only; see interceptors/wrap.py
        self, request: pb.ConverseRequest, context: Context
    ) -> None:
        """Runs one turn and streams its events as they happen."""
        checks.converse(request)
        call, ask = self._ask(request)
        async with self._turns.stream(ask, self._budget(call)) as follower:
            await _relay(follower, call, context)

    async def SubmitTurn(self, request: pb.SubmitTurnRequest, context: Context) -> pb.Turn:
        """Accepts one turn that is then owed an answer, and returns at once."""
        checks.submit(request)
        call, ask = self._ask(request.turn)
        return convert.turn_message(await self._turns.submit(ask, convert.owed(request), self._budget(call)))

    async def BatchConverse(  # type: ignore[override]  # stubs know generators only; see interceptors/wrap.py
        self, request: pb.BatchConverseRequest, context: Context
    ) -> None:
        """Runs independent turns together and streams each result as it completes, in any order."""
        checks.batch(request)
        call = current.get()
        places = asyncio.Semaphore(BATCH_AT_A_TIME)
        ended: asyncio.Queue[asyncio.Task[pb.BatchConverseResponse]] = asyncio.Queue()  # bounded by the batch
        tasks = [
            asyncio.create_task(self._one_of_batch(index, turn, places, self._budget(call)))
            for index, turn in enumerate(request.requests)
        ]
        try:
            for task in tasks:
                task.add_done_callback(ended.put_nowait)
            for _ in tasks:
                await context.write((await ended.get()).result())
                call.messages_out += 1
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one_of_batch(
        self, index: int, request: pb.ConverseRequest, places: asyncio.Semaphore, budget: Budget
    ) -> pb.BatchConverseResponse:
        response = pb.BatchConverseResponse(index=index)
        try:
            checks.converse(request, f"requests[{index}].")
            ask = convert.ask(request, self._new_id(), current.get().caller, patient=True)
            async with places:
                turn = await self._turns.converse(ask, budget)
            convert.fill_turn(response.turn, turn)
        except DomainError as error:
            response.error.CopyFrom(status_of(error.as_failure()))
        return response

    # --- turns that exist ------------------------------------------------------------------

    async def GetTurn(self, request: pb.GetTurnRequest, context: Context) -> pb.Turn:
        """Gets a turn, with the text so far while it runs."""
        checks.turn(request)
        return convert.turn_message(await self._turns.get(_named(request.name)), omit_input=request.omit_input)

    async def FollowTurn(  # type: ignore[override]  # stubs know generators only; see interceptors/wrap.py
        self, request: pb.FollowTurnRequest, context: Context
    ) -> None:
        """Streams the events of a turn that exists."""
        checks.follow(request)
        async with self._turns.follow(_named(request.name), request.after_sequence) as follower:
            await _relay(follower, current.get(), context)

    async def ListTurns(self, request: pb.ListTurnsRequest, context: Context) -> pb.ListTurnsResponse:
        """Lists the turns of a conversation, newest first."""
        checks.list_turns(request)
        size = min(request.page_size or checks.DEFAULT_PAGE_SIZE, checks.MAX_PAGE_SIZE)
        page = await self._turns.list_turns(_conversation(request.parent), size, request.page_token)
        response = pb.ListTurnsResponse(next_page_token=page.next_page_token)
        for turn in page.turns:
            convert.fill_turn(response.turns.add(), turn)
        return response

    async def CancelTurn(self, request: pb.CancelTurnRequest, context: Context) -> pb.Turn:
        """Stops a running turn."""
        checks.turn(request)
        return convert.turn_message(await self._turns.cancel(_named(request.name)))

    async def RateTurn(self, request: pb.RateTurnRequest, context: Context) -> pb.RateTurnResponse:
        """Records what a person thought of a reply."""
        checks.rate(request)
        rater = convert.sender(request.rater) if request.HasField("rater") else None
        comment = request.comment[: checks.MAX_COMMENT_CHARACTERS]
        await self._turns.rate(_named(request.name), rater, Rating(request.rating), comment)
        return pb.RateTurnResponse()

    # --- conversations and assistants --------------------------------------------------------

    async def GetConversation(self, request: pb.GetConversationRequest, context: Context) -> pb.Conversation:
        """Gets the state of a conversation."""
        checks.conversation(request)
        return convert.conversation_message(await self._turns.conversation(_conversation(request.name)))

    async def ResetConversation(self, request: pb.ResetConversationRequest, context: Context) -> pb.Conversation:
        """Forgets the remembered context."""
        checks.conversation(request)
        return convert.conversation_message(await self._turns.reset(_conversation(request.name)))

    async def HandOffConversation(self, request: pb.HandOffConversationRequest, context: Context) -> pb.Conversation:
        """Gives a conversation to a person."""
        checks.conversation(request)
        return convert.conversation_message(await self._turns.hand_off(_conversation(request.name)))

    async def ResumeConversation(self, request: pb.ResumeConversationRequest, context: Context) -> pb.Conversation:
        """Gives a conversation back to the assistant."""
        checks.conversation(request)
        return convert.conversation_message(await self._turns.resume(_conversation(request.name)))

    async def DeleteConversation(self, request: pb.DeleteConversationRequest, context: Context) -> empty_pb2.Empty:
        """Deletes a conversation."""
        checks.conversation(request)
        await self._turns.delete(_conversation(request.name))
        return empty_pb2.Empty()

    async def GetAssistant(self, request: pb.GetAssistantRequest, context: Context) -> pb.Assistant:
        """Gets what a channel may show of an assistant."""
        checks.assistant(request)
        return convert.assistant_message(self._turns.assistant(convert.assistant_id(request.name)))

    # --- what the handlers share -------------------------------------------------------------

    def _ask(self, request: pb.ConverseRequest) -> tuple[Call, Ask]:
        call = current.get()
        ask = convert.ask(request, "" if request.request_id else self._new_id(), call.caller)
        call.conversation, call.turn = ask.name.conversation, ask.name.request_id
        return call, ask

    def _budget(self, call: Call) -> Budget:
        return call.budget if call.budget is not None else Budget(self._turn_timeout)


def _named(name: str) -> TurnName:
    """The turn that a request names, noted for the journal."""
    call, parsed = current.get(), convert.turn_name(name)
    call.conversation, call.turn = parsed.conversation, parsed.request_id
    return parsed


def _conversation(name: str) -> str:
    """The conversation that a request names, noted for the journal."""
    call = current.get()
    call.conversation = convert.conversation_id(name)
    return call.conversation


async def _relay(follower: Follower, call: Call, context: Context) -> None:
    """Sends the events of a turn as they come. The turn itself goes with the last one."""
    name, attached = str(follower.turn.name), follower.attached
    async with aclosing(follower.batches()) as batches:  # type: ignore[type-var]  # the promise is an iterator; every one is a generator
        async for batch in batches:
            for sequence, event in batch:
                turn = follower.turn if isinstance(event, Completed) else None
                await context.write(convert.event_message(sequence, event, turn, attached=attached, name=name))
                call.messages_out += 1
