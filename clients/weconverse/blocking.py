"""A small client without asyncio, for scripts, notebooks and the command line.

It has the calls that a script needs; a program that serves people takes
:class:`weconverse.ConversationClient`. What both must agree on (names, requests, retries,
how events add up) is shared, so that this file holds little but calls.
"""

import random
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol, Self, TypeVar, Unpack

import grpc
from google.protobuf.message import Message

from weconverse._names import assistant_name, checked_turn_name, conversation_name, new_request_id
from weconverse._options import (
    DEFAULT_TARGET,
    DEFAULT_TIMEOUT,
    call_metadata,
    channel_options,
    check_token,
    checked_timeout,
)
from weconverse._reply import Reply
from weconverse._requests import Input, TurnSettings, converse_request, push_request
from weconverse._retry import pause_before_retry
from weconverse.errors import from_rpc_error
from weconverse.v1.channel_pb2_grpc import ChannelServiceStub
from weconverse.v1.conversation_pb2 import (
    Assistant,
    CancelTurnRequest,
    Conversation,
    ConverseRequest,
    GetAssistantRequest,
    GetTurnRequest,
    HandOffConversationRequest,
    ListTurnsRequest,
    ResetConversationRequest,
    ResumeConversationRequest,
    StreamConverseResponse,
    SubmitTurnRequest,
    Turn,
)
from weconverse.v1.conversation_pb2_grpc import ConversationServiceStub

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)


class BlockingCall(Protocol):
    """The part of a gRPC call that a stream needs."""

    def __iter__(self) -> Iterator[StreamConverseResponse]:
        """Yields the messages."""

    def cancel(self) -> bool:
        """Ends the call, and tells the server."""


class BlockingTurnStream:
    """The events of one turn, as they happen. A context manager that ends its call in any case."""

    def __init__(self, open_call: Callable[[], BlockingCall]) -> None:
        """Made by the client."""
        self._open_call = open_call
        self._call: BlockingCall | None = None
        self._reply = Reply()

    @property
    def name(self) -> str:
        """The name of the turn; empty before ``started`` told it."""
        return self._reply.name

    @property
    def sequence(self) -> int:
        """The number of the last event that came."""
        return self._reply.sequence

    @property
    def text(self) -> str:
        """The reply so far, replacements applied."""
        return self._reply.text

    @property
    def turn(self) -> Turn | None:
        """The whole turn, once ``completed`` came."""
        return self._reply.turn

    def __enter__(self) -> Self:
        if self._call is not None:
            raise RuntimeError("a stream can be entered once")
        self._call = self._open_call()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._call is not None:
            self._call.cancel()

    def __iter__(self) -> Iterator[StreamConverseResponse]:
        """Yields the events.

        Raises:
            WeConverseError: if the turn or the call failed, or the order was broken.
        """
        if self._call is None:
            raise RuntimeError("a stream is opened by 'with'")
        try:
            for event in self._call:
                if self._reply.add(event):
                    yield event
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        self._reply.finished()


class BlockingClient:
    """Talks to a conversation service from a program without an event loop.

    ::

        with BlockingClient() as client:
            print(text_of(client.converse("demo", "你好").reply))

    Arguments, deadlines, retries and errors are those of
    :class:`weconverse.ConversationClient`. May be used from several threads.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        token: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        honour_retry_info: bool = True,
    ) -> None:
        """See :class:`weconverse.ConversationClient`. Connects with the first call."""
        check_token(token, target, encrypted=credentials is not None)
        self._token = token
        self._timeout = checked_timeout(timeout)
        self._honour_retry_info = honour_retry_info
        options = channel_options(target)
        self._channel = (
            grpc.insecure_channel(target, options=options)
            if credentials is None
            else grpc.secure_channel(target, credentials, options=options)
        )
        self._stub = ConversationServiceStub(self._channel)
        self._channels = ChannelServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls that are under way end. Idempotent."""
        self._channel.close()

    def converse(
        self,
        conversation: str,
        input: Input,  # noqa: A002 — the name of the field in the contract
        *,
        request_id: str | None = None,
        timeout: float | None = None,
        **settings: Unpack[TurnSettings],
    ) -> Turn:
        """Runs one turn and returns it when it is complete; ``request_id=None`` makes one up."""
        identity = new_request_id() if request_id is None else request_id
        request = converse_request(conversation, input, request_id=identity, **settings)
        return self._unary(self._stub.Converse, request, timeout).turn

    def stream(
        self,
        conversation: str,
        input: Input,  # noqa: A002 — the name of the field in the contract
        *,
        request_id: str = "",
        timeout: float | None = None,
        **settings: Unpack[TurnSettings],
    ) -> BlockingTurnStream:
        """Runs one turn; its events come from the context manager that is returned."""
        request = converse_request(conversation, input, request_id=request_id, **settings)
        seconds = self._seconds(timeout)
        return BlockingTurnStream(lambda: self._open_stream(request, seconds))

    def submit(
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
        """Hands over one turn that the service then owes an answer, and returns at once."""
        if not request_id:
            raise ValueError("request_id: is required, or a redelivery would be answered twice")
        turn = converse_request(conversation, input, request_id=request_id, **settings)
        request = SubmitTurnRequest(turn=turn, account=account, address=address)
        return self._unary(self._stub.SubmitTurn, request, timeout)

    def get_turn(self, name: str, *, omit_input: bool = False, timeout: float | None = None) -> Turn:
        """Gets a turn, with or without its input; while it runs, its reply holds the text so far."""
        request = GetTurnRequest(name=checked_turn_name(name), omit_input=omit_input)
        return self._unary(self._stub.GetTurn, request, timeout)

    def list_turns(self, conversation: str, *, page_size: int = 0, timeout: float | None = None) -> Iterator[Turn]:
        """All turns of a conversation, newest first, asked for page by page; ``timeout`` is for each page."""
        request = ListTurnsRequest(parent=conversation_name(conversation), page_size=page_size)
        while True:
            page = self._unary(self._stub.ListTurns, request, timeout)
            yield from page.turns
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def cancel_turn(self, name: str, *, timeout: float | None = None) -> Turn:
        """Stops a running turn, and returns it. Does nothing to one that has ended."""
        return self._unary(self._stub.CancelTurn, CancelTurnRequest(name=checked_turn_name(name)), timeout)

    def reset(self, conversation: str, *, timeout: float | None = None) -> Conversation:
        """Forgets what was said; the log of the conversation is kept."""
        request = ResetConversationRequest(name=conversation_name(conversation))
        return self._unary(self._stub.ResetConversation, request, timeout)

    def hand_off(self, conversation: str, *, timeout: float | None = None) -> Conversation:
        """Gives a conversation to a person: its turns are kept without an answer until it is resumed."""
        request = HandOffConversationRequest(name=conversation_name(conversation))
        return self._unary(self._stub.HandOffConversation, request, timeout)

    def resume(self, conversation: str, *, timeout: float | None = None) -> Conversation:
        """Gives a conversation back to the assistant."""
        request = ResumeConversationRequest(name=conversation_name(conversation))
        return self._unary(self._stub.ResumeConversation, request, timeout)

    def push(
        self,
        account: str,
        content: Input,
        *,
        recipient: str = "",
        request_id: str | None = None,
        assistant: str = "",
        timeout: float | None = None,
    ) -> Turn:
        """Sends a message of the company's own accord through a channel; ``request_id=None`` makes one up."""
        request = push_request(account, content, recipient=recipient, request_id=request_id, assistant=assistant)
        return self._unary(self._channels.Push, request, timeout)

    def get_assistant(self, assistant: str = "default", *, timeout: float | None = None) -> Assistant:
        """What a channel may show of an assistant, such as its greeting."""
        request = GetAssistantRequest(name=assistant_name(assistant))
        return self._unary(self._stub.GetAssistant, request, timeout)

    def _seconds(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else checked_timeout(timeout)

    def _open_stream(self, request: ConverseRequest, seconds: float) -> BlockingCall:
        return self._stub.StreamConverse(request, timeout=seconds, metadata=call_metadata(self._token, None))

    def _unary(self, method: "grpc.UnaryUnaryMultiCallable[Q, R]", request: Q, timeout: float | None) -> R:
        deadline = time.monotonic() + self._seconds(timeout)
        metadata = call_metadata(self._token, None)
        calls = 0
        while True:
            calls += 1
            try:
                return method(request, timeout=deadline - time.monotonic(), metadata=metadata)
            except grpc.RpcError as error:
                typed = from_rpc_error(error)
                remaining = deadline - time.monotonic()
                pause = pause_before_retry(typed, calls=calls, remaining=remaining, chance=random.random())
                if pause is None or not self._honour_retry_info:
                    raise typed from error
            time.sleep(pause)
