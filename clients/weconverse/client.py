"""The asyncio client: one connection, the methods of the contract, typed errors."""

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Unpack, cast

import grpc
import grpc.aio

from weconverse._connecting import Connecting
from weconverse._names import assistant_name, checked_turn_name, conversation_name, new_request_id
from weconverse._options import checked_timeout
from weconverse._requests import Input, TurnSettings, converse_request, push_request
from weconverse.channel import AttachCall, ChannelSession
from weconverse.stream import BatchResults, ReadableCall, TurnStream
from weconverse.v1.channel_pb2 import Hello
from weconverse.v1.channel_pb2_grpc import ChannelServiceStub
from weconverse.v1.conversation_pb2 import (
    Assistant,
    BatchConverseRequest,
    BatchConverseResponse,
    CancelTurnRequest,
    Conversation,
    ConverseRequest,
    DeleteConversationRequest,
    FollowTurnRequest,
    GetAssistantRequest,
    GetConversationRequest,
    GetTurnRequest,
    HandOffConversationRequest,
    ListTurnsRequest,
    ListTurnsResponse,
    RateTurnRequest,
    ResetConversationRequest,
    ResumeConversationRequest,
    Sender,
    StreamConverseResponse,
    SubmitTurnRequest,
    Turn,
)
from weconverse.v1.conversation_pb2_grpc import ConversationServiceStub

ATTACH_SECONDS = 24 * 3600.0
"""How long a session of ``attach`` lasts unless its caller says otherwise: no call is without a deadline."""


class _Stubs:
    """Both services of a conversation, on one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.conversations = ConversationServiceStub(channel)
        self.channels = ChannelServiceStub(channel)


class ConversationClient(Connecting[_Stubs]):
    """Talks to a conversation service.

    ::

        async with ConversationClient("127.0.0.1:50051") as client:
            turn = await client.converse("demo", "你好")
            print(text_of(turn.reply))

    Cheap to make: it connects with the first call, inside the running event loop, and
    belongs to that loop from then on. One client serves any number of tasks.

    Every call has a deadline. Where the service says how long to wait (``RetryInfo``), a
    unary call waits and asks again within its deadline, at most three times and with the
    same ``request_id``. ``UNAVAILABLE`` before the first message is repeated by gRPC itself.

    Methods raise :class:`weconverse.WeConverseError` for everything that the service or
    the way to it fails with, and ``ValueError`` for what is wrong before it is sent.
    """

    # --- One turn ---------------------------------------------------------------------

    async def converse(
        self,
        conversation: str,
        input: Input,  # noqa: A002 — the name of the field in the contract
        *,
        request_id: str | None = None,
        timeout: float | None = None,
        **settings: Unpack[TurnSettings],
    ) -> Turn:
        """Runs one turn and returns it when it is complete.

        Args:
            conversation: with or without the prefix ``conversations/``.
            input: what the person said.
            request_id: the idempotency key. ``None`` makes one up, so that a try after a
                broken connection finds the turn instead of asking twice; the price is that
                a turn nobody waits for any more runs on for half a minute. Empty sends
                none: a repetition then may answer twice.
            timeout: seconds for all tries together.
            settings: see :class:`weconverse.TurnSettings`.
        """
        identity = new_request_id() if request_id is None else request_id
        request = converse_request(conversation, input, request_id=identity, **settings)
        response = await self._unary(self._connected().conversations.Converse, request, timeout)
        return response.turn

    def stream(
        self,
        conversation: str,
        input: Input,  # noqa: A002 — the name of the field in the contract
        *,
        request_id: str | None = None,
        resume: bool = False,
        timeout: float | None = None,
        **settings: Unpack[TurnSettings],
    ) -> TurnStream:
        """Runs one turn; its events come from the context manager that is returned.

        Args:
            conversation: with or without the prefix ``conversations/``.
            input: what the person said.
            request_id: the idempotency key; one that exists attaches to its turn. ``None``
                sends none, so that the turn stops when the stream is left; with ``resume``
                it makes one up.
            resume: whether to follow the same turn again when the connection breaks after
                the first event, within the deadline.
            timeout: seconds for the whole stream, from the moment it is entered.
            settings: see :class:`weconverse.TurnSettings`.
        """
        identity = request_id or (new_request_id() if resume and request_id is None else "")
        request = converse_request(conversation, input, request_id=identity, **settings)
        return self._turn_stream(partial(self._open_stream, request), timeout, resume=resume and bool(identity))

    def follow(
        self, name: str, after_sequence: int = 0, *, resume: bool = True, timeout: float | None = None
    ) -> TurnStream:
        """The events of a turn that exists, from the one behind ``after_sequence``.

        Args:
            name: the full name of the turn.
            after_sequence: the ``sequence`` of the last event the caller has.
            resume: whether to go on behind the last event when the connection breaks.
            timeout: seconds for the whole stream, from the moment it is entered.
        """
        if after_sequence < 0:
            raise ValueError(f"after_sequence: {after_sequence} is below 0")
        checked_turn_name(name)
        open_call = partial(self._open_follow, name, after_sequence)
        return self._turn_stream(open_call, timeout, resume=resume, name=name, after_sequence=after_sequence)

    async def submit(
        self,
        conversation: str,
        input: Input,  # noqa: A002 — the name of the field in the contract
        *,
        request_id: str,
        account: str,
        address: bytes = b"",
        timeout: float | None = None,
        **settings: Unpack[TurnSettings],
    ) -> Turn:
        """Hands over one turn that the service then owes an answer, and returns at once.

        When this returns, the turn is on durable storage, and is offered to whoever
        attaches to ``account`` until it is reported as delivered.

        Args:
            conversation: with or without the prefix ``conversations/``.
            input: what the person said.
            request_id: the identifier that the platform gave the message, so that its
                redelivery is the same turn.
            account: ``channels/{channel}/accounts/{account}``.
            address: where to deliver, in a form that only the channel reads; at most 4096 bytes.
            timeout: seconds for all tries together.
            settings: see :class:`weconverse.TurnSettings`.
        """
        if not request_id:
            raise ValueError("request_id: is required, or a redelivery would be answered twice")
        request = SubmitTurnRequest(
            # Not kept beside its copy while it is sent: a message may have 20 MiB.
            turn=converse_request(conversation, input, request_id=request_id, **settings),
            account=account,
            address=address,
        )
        return await self._unary(self._connected().conversations.SubmitTurn, request, timeout)

    def batch(self, requests: Sequence[ConverseRequest], *, timeout: float | None = None) -> BatchResults:
        """Runs independent turns together; the results come from the context manager that is returned.

        Args:
            requests: 1 to 256 of them, made by :func:`weconverse.converse_request`.
            timeout: seconds for all of them together, from the moment it is entered.
        """
        request = BatchConverseRequest(requests=requests)
        seconds = self._seconds(timeout)
        return BatchResults(partial(self._open_batch, request, seconds), count=len(requests))

    # --- Turns that exist -------------------------------------------------------------

    async def get_turn(self, name: str, *, omit_input: bool = False, timeout: float | None = None) -> Turn:
        """Gets a turn; while it runs, its reply holds the text so far.

        Args:
            name: of the turn.
            omit_input: leaves the input out, whose pictures may have megabytes; for whoever asks often.
            timeout: seconds for all tries together.
        """
        request = GetTurnRequest(name=checked_turn_name(name), omit_input=omit_input)
        return await self._unary(self._connected().conversations.GetTurn, request, timeout)

    async def list_turns(
        self, conversation: str, *, page_size: int = 0, timeout: float | None = None
    ) -> AsyncIterator[Turn]:
        """All turns of a conversation, newest first, asked for page by page.

        Args:
            conversation: with or without the prefix ``conversations/``.
            page_size: the most turns to ask for at once; 0 leaves it to the service.
            timeout: seconds for each page.
        """
        page_token = ""
        while True:
            page = await self.list_turns_page(conversation, page_size=page_size, page_token=page_token, timeout=timeout)
            for turn in page.turns:
                yield turn
            page_token = page.next_page_token
            if not page_token:
                return

    async def list_turns_page(
        self, conversation: str, *, page_size: int = 0, page_token: str = "", timeout: float | None = None
    ) -> ListTurnsResponse:
        """One page of a conversation's turns, newest first; ``next_page_token`` leads to the next."""
        request = ListTurnsRequest(parent=conversation_name(conversation), page_size=page_size, page_token=page_token)
        return await self._unary(self._connected().conversations.ListTurns, request, timeout)

    async def cancel_turn(self, name: str, *, timeout: float | None = None) -> Turn:
        """Stops a running turn, and returns it. Does nothing to one that has ended."""
        request = CancelTurnRequest(name=checked_turn_name(name))
        return await self._unary(self._connected().conversations.CancelTurn, request, timeout)

    async def rate_turn(
        self,
        name: str,
        rating: RateTurnRequest.Rating.ValueType,
        *,
        comment: str = "",
        rater: Sender | None = None,
        timeout: float | None = None,
    ) -> None:
        """Records what a person thought of a reply; the last rating of a rater wins."""
        request = RateTurnRequest(name=checked_turn_name(name), rating=rating, comment=comment, rater=rater)
        await self._unary(self._connected().conversations.RateTurn, request, timeout)

    # --- Conversations and assistants -------------------------------------------------

    async def get_conversation(self, conversation: str, *, timeout: float | None = None) -> Conversation:
        """The state of a conversation."""
        request = GetConversationRequest(name=conversation_name(conversation))
        return await self._unary(self._connected().conversations.GetConversation, request, timeout)

    async def reset(self, conversation: str, *, timeout: float | None = None) -> Conversation:
        """Forgets what was said; the log of the conversation is kept."""
        request = ResetConversationRequest(name=conversation_name(conversation))
        return await self._unary(self._connected().conversations.ResetConversation, request, timeout)

    async def hand_off(self, conversation: str, *, timeout: float | None = None) -> Conversation:
        """Gives a conversation to a person: its turns are kept without an answer until it is resumed."""
        request = HandOffConversationRequest(name=conversation_name(conversation))
        return await self._unary(self._connected().conversations.HandOffConversation, request, timeout)

    async def resume(self, conversation: str, *, timeout: float | None = None) -> Conversation:
        """Gives a conversation back to the assistant."""
        request = ResumeConversationRequest(name=conversation_name(conversation))
        return await self._unary(self._connected().conversations.ResumeConversation, request, timeout)

    async def delete(self, conversation: str, *, timeout: float | None = None) -> None:
        """Deletes a conversation: its memory, cached replies and logged turns."""
        request = DeleteConversationRequest(name=conversation_name(conversation))
        await self._unary(self._connected().conversations.DeleteConversation, request, timeout)

    async def get_assistant(self, assistant: str = "default", *, timeout: float | None = None) -> Assistant:
        """What a channel may show of an assistant, such as its greeting."""
        request = GetAssistantRequest(name=assistant_name(assistant))
        return await self._unary(self._connected().conversations.GetAssistant, request, timeout)

    # --- Channels ---------------------------------------------------------------------

    async def push(
        self,
        account: str,
        content: Input,
        *,
        recipient: str = "",
        request_id: str | None = None,
        assistant: str = "",
        timeout: float | None = None,
    ) -> Turn:
        """Sends a message of the company's own accord through a channel.

        When this returns, it is on durable storage, and is offered to whoever attaches to
        ``account`` until it is reported as delivered. ``get_turn`` of its name tells what
        has become of it (``delivery_state``).

        Args:
            account: ``channels/{channel}/accounts/{account}``.
            content: a text, a ``Content``, or parts: texts, pictures, files, and cards in
                the form that the channel documents.
            recipient: who gets it, in the terms of the channel; empty where the account has
                one receiver only, such as the robot of a group.
            request_id: the idempotency key within account and recipient. ``None`` makes one
                up, so that what this call tries again arrives once.
            assistant: whose filter the texts pass, with or without ``assistants/``.
            timeout: seconds for all tries together.
        """
        request = push_request(account, content, recipient=recipient, request_id=request_id, assistant=assistant)
        return await self._unary(self._connected().channels.Push, request, timeout)

    def attach(
        self,
        account: str,
        instance: str,
        *,
        exclusive: bool = False,
        max_open_deliveries: int = 64,
        ended_only: bool = False,
        lifetime: float = ATTACH_SECONDS,
    ) -> ChannelSession:
        """The lease of one adapter instance on one account, as a context manager.

        Args:
            account: ``channels/{channel}/accounts/{account}``.
            instance: a name for this instance in logs, at most 64 characters.
            exclusive: whether only one instance may be active; others wait to be granted.
            max_open_deliveries: how many may be open at once.
            ended_only: whether to offer turns only when they have ended.
            lifetime: seconds after which the session ends with ``DeadlineExceeded``; attach again.
        """
        hello = Hello(
            account=account,
            instance=instance,
            exclusive=exclusive,
            max_open_deliveries=max_open_deliveries,
            ended_only=ended_only,
        )
        return ChannelSession(partial(self._open_attach, checked_timeout(lifetime)), hello)

    # --- Inside -----------------------------------------------------------------------

    def _stubs(self, channel: grpc.aio.Channel) -> _Stubs:
        return _Stubs(channel)

    def _turn_stream(
        self,
        open_call: Callable[[float], ReadableCall[StreamConverseResponse]],
        timeout: float | None,
        *,
        resume: bool,
        name: str = "",
        after_sequence: int = 0,
    ) -> TurnStream:
        return TurnStream(
            open_call,
            self._open_follow,
            timeout=self._seconds(timeout),
            resume=resume,
            name=name,
            after_sequence=after_sequence,
        )

    def _open_stream(self, request: ConverseRequest, seconds: float) -> ReadableCall[StreamConverseResponse]:
        return self._connected().conversations.StreamConverse(request, timeout=seconds, metadata=self._metadata())

    def _open_follow(self, name: str, after_sequence: int, seconds: float) -> ReadableCall[StreamConverseResponse]:
        request = FollowTurnRequest(name=name, after_sequence=after_sequence)
        return self._connected().conversations.FollowTurn(request, timeout=seconds, metadata=self._metadata())

    def _open_batch(self, request: BatchConverseRequest, seconds: float) -> ReadableCall[BatchConverseResponse]:
        return self._connected().conversations.BatchConverse(request, timeout=seconds, metadata=self._metadata())

    def _open_attach(self, seconds: float) -> AttachCall:
        call = self._connected().channels.Attach(timeout=seconds, metadata=self._metadata())
        return cast("AttachCall", call)
