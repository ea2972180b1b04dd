"""A conversation service for tests, on a real port.

For programs that use this package: their tests talk to it over a real connection, and
nothing of the network has to be patched. It answers from a script, keeps everything
in memory and forgets it at the end::

    async with FakeService({"ping": "pong"}) as fake:
        async with ConversationClient(fake.target) as client:
            turn = await client.converse("demo", "ping", request_id="1")
    assert text_of(turn.reply) == "pong"
    assert fake.calls[0].method == "Converse"

It keeps the promises of the contract that callers lean on: one turn for one
``request_id``, attach and replay, gapless sequence numbers, turns of a conversation one
after the other, partial text, deliveries in order and again after a lost lease. It has
no memory, no filter, no limits and no clock: a turn that nobody waits for runs on.
"""

import asyncio
import hashlib
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Never, Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from grpc_status import rpc_status

from weconverse._fake_deliveries import Deliveries, Session
from weconverse._fake_turns import (
    APOLOGY,
    Answer,
    FakeTurn,
    Floor,
    HandOver,
    Offer,
    Piece,
    Script,
    answer_to,
    status_of,
    without_bytes,
    without_input,
)
from weconverse._options import MAX_MESSAGE_BYTES
from weconverse.errors import (
    CallerUnknown,
    InvalidField,
    RequestIdReused,
    ResourceNotFound,
    Unavailable,
    WeConverseError,
)
from weconverse.v1.channel_pb2 import AttachRequest, DeliveryResult, PushRequest
from weconverse.v1.channel_pb2_grpc import ChannelServiceServicer, add_ChannelServiceServicer_to_server
from weconverse.v1.conversation_pb2 import (
    Assistant,
    BatchConverseRequest,
    BatchConverseResponse,
    CancelTurnRequest,
    Conversation,
    ConverseRequest,
    ConverseResponse,
    DeleteConversationRequest,
    FollowTurnRequest,
    GetAssistantRequest,
    GetConversationRequest,
    GetTurnRequest,
    HandOffConversationRequest,
    ListTurnsRequest,
    ListTurnsResponse,
    RateTurnRequest,
    RateTurnResponse,
    ResetConversationRequest,
    ResumeConversationRequest,
    StreamConverseResponse,
    SubmitTurnRequest,
    Turn,
)
from weconverse.v1.conversation_pb2_grpc import (
    ConversationServiceServicer,
    add_ConversationServiceServicer_to_server,
)

__all__ = [
    "APOLOGY",
    "Answer",
    "FakeConversationService",
    "FakeService",
    "HandOver",
    "Offer",
    "Piece",
    "RecordedCall",
    "Script",
]

Context = grpc.aio.ServicerContext[Any, Any]
M = TypeVar("M", bound=Message)

_CONVERSATION = re.compile(r"conversations/[a-zA-Z0-9._~-]{1,128}")
_REQUEST_ID = re.compile(r"[a-zA-Z0-9._~-]{0,128}")
_ACCOUNT = re.compile(r"channels/[a-zA-Z0-9._-]{1,64}/accounts/[a-zA-Z0-9._-]{1,64}")
_DEFAULT_PAGE, _LARGEST_PAGE = 50, 200


@dataclass(frozen=True)
class RecordedCall:
    """One call that the fake service got."""

    method: str
    """The name of the method, for example ``Converse``."""

    request: Message
    """What it was called with; for ``Attach`` the ``Hello``."""

    metadata: Mapping[str, str]
    """What accompanied it, such as ``authorization``."""

    timeout: float | None
    """Seconds that were left when it came; ``None`` if the caller set no deadline."""


@dataclass
class _Failure:
    error: WeConverseError
    method: str
    times: int


@dataclass
class _Thread:
    """A conversation."""

    turns: dict[str, FakeTurn] = field(default_factory=dict)
    remembered_from: int = 0
    floor: Floor = field(default_factory=Floor)


class FakeConversationService(ConversationServiceServicer, ChannelServiceServicer):
    """Both services of the contract, in memory. Usually made by :class:`FakeService`, which gives it a port."""

    def __init__(self, script: Script, *, token: str | None, greeting: str) -> None:
        """Made by :class:`FakeService`."""
        self.script = script
        self.calls: list[RecordedCall] = []
        self.ratings: list[RateTurnRequest] = []
        self.deliveries = Deliveries(self.changed)
        self.failures: list[_Failure] = []
        self._token = token
        self._greeting = greeting
        self._threads: dict[str, _Thread] = {}
        self._old: list[FakeTurn] = []
        self._generation = 0
        self._news = asyncio.Event()

    # --- For the test -----------------------------------------------------------------

    def changed(self) -> None:
        """Wakes whoever waits for something to be so."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until a condition about this service holds."""
        while not condition():
            await self._news.wait()

    def break_streams(self) -> None:
        """Ends every open stream of events as a lost connection does; the turns go on."""
        self._generation += 1
        for turn in self.all_turns():
            turn.wake()

    def all_turns(self) -> list[FakeTurn]:
        """Every turn, in order of arrival within its conversation."""
        return [turn for thread in self._threads.values() for turn in thread.turns.values()]

    async def aclose(self) -> None:
        """Stops every turn that still runs.

        Raises:
            ExceptionGroup: what a script raised, because a test whose script is wrong proves nothing.
        """
        turns = [*self.all_turns(), *self._old]
        outcomes = await asyncio.gather(*(turn.aclose() for turn in turns), return_exceptions=True)
        if errors := [outcome for outcome in outcomes if isinstance(outcome, Exception)]:
            raise ExceptionGroup("the script of the fake service raised", errors)

    # --- ConversationService ------------------------------------------------------------

    async def Converse(self, request: ConverseRequest, context: Context) -> ConverseResponse:  # noqa: N802
        """See the contract."""
        await self._enter("Converse", request, context)
        turn, _ = await self._turn(request, context)
        try:
            return ConverseResponse(turn=await turn.finished())
        except WeConverseError as error:
            await _abort(context, error)
        finally:
            self._leave(turn)

    async def StreamConverse(  # type: ignore[override]  # noqa: N802 — a coroutine that writes, not a generator
        self, request: ConverseRequest, context: Context
    ) -> None:
        """See the contract."""
        await self._enter("StreamConverse", request, context)
        turn, attached = await self._turn(request, context)
        await self._stream(turn, 0, context, attached=attached)

    async def FollowTurn(  # type: ignore[override]  # noqa: N802 — as above
        self, request: FollowTurnRequest, context: Context
    ) -> None:
        """See the contract."""
        await self._enter("FollowTurn", request, context)
        turn = await self._existing(request.name, context)
        await self._stream(turn, request.after_sequence, context, attached=True)

    async def SubmitTurn(self, request: SubmitTurnRequest, context: Context) -> Turn:  # noqa: N802
        """See the contract."""
        await self._enter("SubmitTurn", request, context)
        if not request.turn.request_id:
            await _abort(context, _invalid("turn.request_id", "is required"))
        if not _ACCOUNT.fullmatch(request.account):
            await _abort(context, _invalid("account", "channels/{channel}/accounts/{account} is expected"))
        turn, attached = await self._turn(request.turn, context, owed=True)
        if not attached:
            self.deliveries.owe(turn, request.account, request.address)
        return turn.turn

    async def BatchConverse(  # type: ignore[override]  # noqa: N802 — as above
        self, request: BatchConverseRequest, context: Context
    ) -> None:
        """See the contract."""
        await self._enter("BatchConverse", request, context)
        turns = [(await self._turn(single, context))[0] for single in request.requests]

        async def result(index: int, turn: FakeTurn) -> BatchConverseResponse:
            try:
                return BatchConverseResponse(index=index, turn=await turn.finished())
            except WeConverseError as error:
                return BatchConverseResponse(index=index, error=status_of(error))

        tasks = [asyncio.create_task(result(index, turn)) for index, turn in enumerate(turns)]
        try:
            for ready in asyncio.as_completed(tasks):
                await context.write(await ready)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for turn in turns:
                self._leave(turn)

    async def GetTurn(self, request: GetTurnRequest, context: Context) -> Turn:  # noqa: N802
        """See the contract."""
        await self._enter("GetTurn", request, context)
        turn = (await self._existing(request.name, context)).turn
        return without_input(turn) if request.omit_input else turn

    async def ListTurns(self, request: ListTurnsRequest, context: Context) -> ListTurnsResponse:  # noqa: N802
        """See the contract."""
        await self._enter("ListTurns", request, context)
        thread = await self._thread(request.parent, context)
        turns = [without_bytes(turn.turn) for turn in reversed(thread.turns.values())]
        start = int(request.page_token or 0)
        end = start + min(request.page_size or _DEFAULT_PAGE, _LARGEST_PAGE)
        return ListTurnsResponse(turns=turns[start:end], next_page_token=str(end) if end < len(turns) else "")

    async def CancelTurn(self, request: CancelTurnRequest, context: Context) -> Turn:  # noqa: N802
        """See the contract."""
        await self._enter("CancelTurn", request, context)
        turn = await self._existing(request.name, context)
        turn.cancel()
        return turn.turn

    async def RateTurn(self, request: RateTurnRequest, context: Context) -> RateTurnResponse:  # noqa: N802
        """See the contract."""
        await self._enter("RateTurn", request, context)
        await self._existing(request.name, context)
        self.ratings.append(request)
        return RateTurnResponse()

    async def GetConversation(  # noqa: N802
        self, request: GetConversationRequest, context: Context
    ) -> Conversation:
        """See the contract."""
        await self._enter("GetConversation", request, context)
        return self._conversation(request.name, await self._thread(request.name, context))

    async def ResetConversation(  # noqa: N802
        self, request: ResetConversationRequest, context: Context
    ) -> Conversation:
        """See the contract."""
        await self._enter("ResetConversation", request, context)
        thread = await self._thread(request.name, context)
        thread.remembered_from = len(thread.turns)
        return self._conversation(request.name, thread)

    async def HandOffConversation(  # noqa: N802
        self, request: HandOffConversationRequest, context: Context
    ) -> Conversation:
        """See the contract."""
        await self._enter("HandOffConversation", request, context)
        thread = self._threads.setdefault(request.name, _Thread())
        thread.floor.handed_off = True
        return self._conversation(request.name, thread)

    async def ResumeConversation(  # noqa: N802
        self, request: ResumeConversationRequest, context: Context
    ) -> Conversation:
        """See the contract."""
        await self._enter("ResumeConversation", request, context)
        thread = await self._thread(request.name, context)
        thread.floor.handed_off = False
        return self._conversation(request.name, thread)

    async def DeleteConversation(  # noqa: N802
        self, request: DeleteConversationRequest, context: Context
    ) -> Empty:
        """See the contract."""
        await self._enter("DeleteConversation", request, context)
        thread = await self._thread(request.name, context)
        for turn in thread.turns.values():
            turn.cancel()
            self._old.append(turn)
        del self._threads[request.name]
        return Empty()

    async def GetAssistant(self, request: GetAssistantRequest, context: Context) -> Assistant:  # noqa: N802
        """See the contract."""
        await self._enter("GetAssistant", request, context)
        return Assistant(name=request.name, version="fake", greeting=self._greeting)

    # --- ChannelService -----------------------------------------------------------------

    async def Attach(  # type: ignore[override]  # noqa: N802 — as above
        self, request_iterator: object, context: Context
    ) -> None:
        """See the contract."""
        first = await context.read()
        if not isinstance(first, AttachRequest) or not _ACCOUNT.fullmatch(first.hello.account):
            await _abort(context, _invalid("hello.account", "channels/{channel}/accounts/{account} is expected"))
        await self._enter("Attach", first.hello, context)
        session = self.deliveries.attach(first.hello)
        reader = asyncio.create_task(self._take_results(context, session))
        try:
            while (message := await session.outbox.get()) is not None:
                await context.write(message)
        finally:
            self.deliveries.detach(session)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def Push(self, request: PushRequest, context: Context) -> Turn:  # noqa: N802
        """See the contract."""
        await self._enter("Push", request, context)
        if not _ACCOUNT.fullmatch(request.account):
            await _abort(context, _invalid("account", "channels/{channel}/accounts/{account} is expected"))
        if not request.request_id or not _REQUEST_ID.fullmatch(request.request_id):
            await _abort(context, _invalid("request_id", "1 to 128 of [a-zA-Z0-9._~-] are required"))
        if not request.content.parts:
            await _abort(context, _invalid("content", "at least one part is required"))
        who = hashlib.sha256(f"{request.account}\0{request.recipient}".encode()).hexdigest()[:32]
        conversation = f"conversations/push.{request.account.rpartition('/')[2]}.{who}"
        thread = self._threads.setdefault(conversation, _Thread())
        name = f"{conversation}/turns/{request.request_id}"
        if (before := thread.turns.get(name)) is not None:
            if before.turn.reply != request.content:
                await _abort(context, RequestIdReused("used before with another content", metadata={"turn": name}))
            return without_bytes(before.turn)
        pushed = ConverseRequest(
            conversation=conversation,
            request_id=request.request_id,
            assistant=request.assistant,
            channel=request.account.split("/")[1],
        )
        turn = FakeTurn(name, pushed, thread.floor, owed=True, on_change=self._turn_changed)
        thread.turns[name] = turn
        turn.push(request.content)
        self.deliveries.owe(turn, request.account, b"", request.recipient)
        return without_bytes(turn.turn)

    async def _take_results(self, context: Context, session: Session) -> None:
        try:
            while isinstance(message := await context.read(), AttachRequest):
                self.deliveries.report(session, message.result)
        finally:
            session.outbox.put_nowait(None)

    # --- Inside ---------------------------------------------------------------------------

    async def _enter(self, method: str, request: Message, context: Context) -> None:
        metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
        left = context.time_remaining()
        self.calls.append(RecordedCall(method, request, metadata, left))
        self.changed()
        if self._token is not None and metadata.get("authorization") != f"Bearer {self._token}":
            await _abort(context, CallerUnknown("no valid credential"))
        for failure in self.failures:
            if failure.times > 0 and failure.method in {method, "*"}:
                failure.times -= 1
                await _abort(context, failure.error)

    async def _turn(self, request: ConverseRequest, context: Context, *, owed: bool = False) -> tuple[FakeTurn, bool]:
        """The turn of a request, and whether it existed."""
        if not _CONVERSATION.fullmatch(request.conversation):
            await _abort(context, _invalid("conversation", "conversations/{conversation} is expected"))
        if not _REQUEST_ID.fullmatch(request.request_id):
            await _abort(context, _invalid("request_id", "1 to 128 of [a-zA-Z0-9._~-] are expected"))
        if not request.input.parts:
            await _abort(context, _invalid("input.parts", "at least one is required"))
        thread = self._threads.setdefault(request.conversation, _Thread())
        name = f"{request.conversation}/turns/{request.request_id or uuid.uuid4().hex}"
        before = thread.turns.get(name)
        if before is not None:
            if before.request.input != request.input:
                await _abort(context, RequestIdReused("used before with another input", metadata={"turn": name}))
            if before.turn.state not in {Turn.FAILED, Turn.CANCELLED} or before.owed:
                return before, True
            self._old.append(thread.turns.pop(name))
        previous = next(reversed(thread.turns.values()), None)
        turn = FakeTurn(name, request, thread.floor, owed=owed, on_change=self._turn_changed)
        thread.turns[name] = turn
        turn.start(answer_to(self.script, request), previous)
        return turn, False

    def _turn_changed(self) -> None:
        self.deliveries.offer()
        self.changed()

    def _leave(self, turn: FakeTurn) -> None:
        """The caller of a turn is gone; one that cannot be found again stops with its last listener."""
        if not turn.repeatable and not turn.followers:
            turn.cancel()

    async def _stream(self, turn: FakeTurn, after_sequence: int, context: Context, *, attached: bool) -> None:
        generation = self._generation
        try:
            async with aclosing(turn.follow(after_sequence, lambda: generation != self._generation)) as events:
                async for event in events:
                    await context.write(_marked(event, attached=attached))
        except WeConverseError as error:
            await _abort(context, error)
        finally:
            self._leave(turn)
        if generation != self._generation:
            await _abort(context, Unavailable("the connection was lost"))

    async def _existing(self, name: str, context: Context) -> FakeTurn:
        thread = self._threads.get(name.partition("/turns/")[0])
        turn = None if thread is None else thread.turns.get(name)
        if turn is None:
            await _abort(context, _missing(name))
        return turn

    async def _thread(self, name: str, context: Context) -> _Thread:
        thread = self._threads.get(name)
        if thread is None:
            await _abort(context, _missing(name))
        return thread

    def _conversation(self, name: str, thread: _Thread) -> Conversation:
        turns = [turn.turn for turn in thread.turns.values()]
        remembered = [turn for turn in turns[thread.remembered_from :] if turn.finish_reason == Turn.STOP]
        return Conversation(
            name=name,
            create_time=turns[0].create_time if turns else None,
            update_time=turns[-1].create_time if turns else None,
            remembered_message_count=2 * len(remembered),
            state=Conversation.HANDED_OFF if thread.floor.handed_off else Conversation.ACTIVE,
        )


class FakeService:
    """A fake service that listens on a free port of this machine while its context is open."""

    def __init__(
        self,
        script: Script | None = None,
        *,
        token: str | None = None,
        greeting: str = "你好,有什么可以帮你?",
    ) -> None:
        """Args: see :data:`Script`; ``token`` is the only one that is let in; ``greeting`` is every assistant's."""
        self._server: grpc.aio.Server | None = None
        self._port = 0
        self.service = FakeConversationService(script or {}, token=token, greeting=greeting)

    @property
    def target(self) -> str:
        """Where it listens: what a client is given."""
        if self._server is None:
            raise RuntimeError("the service listens inside 'async with'")
        return f"127.0.0.1:{self._port}"

    @property
    def calls(self) -> list[RecordedCall]:
        """Every call so far, in order."""
        return self.service.calls

    @property
    def ratings(self) -> list[RateTurnRequest]:
        """Every rating so far."""
        return self.service.ratings

    @property
    def results(self) -> list[DeliveryResult]:
        """Every report on a delivery so far."""
        return self.service.deliveries.results

    def requests(self, method: str, kind: type[M]) -> list[M]:
        """The requests of one method, typed: ``fake.requests("Converse", ConverseRequest)``."""
        return [call.request for call in self.calls if call.method == method and isinstance(call.request, kind)]

    def turns(self) -> Sequence[Turn]:
        """Every turn as it stands."""
        return [turn.turn for turn in self.service.all_turns()]

    def answer(self, script: Script) -> None:
        """Changes the script, for turns that begin from now on."""
        self.service.script = script

    def fail_next(self, error: WeConverseError, *, method: str = "*", times: int = 1) -> None:
        """Lets the next calls fail before they do anything.

        Args:
            error: what arrives at the caller, for example ``RateLimited("slow down", retry_after=0.1)``.
            method: the name of a method, or ``*`` for whichever comes.
            times: how many calls.
        """
        self.service.failures.append(_Failure(error, method, times))

    def break_streams(self) -> None:
        """Ends every open stream of events with a bare ``UNAVAILABLE``; the turns go on."""
        self.service.break_streams()

    def revoke(self, account: str) -> None:
        """Takes the grant from the active instance of an account; the next one in line gets it."""
        self.service.deliveries.revoke(account)

    async def until(self, condition: Callable[[], bool], *, timeout: float = 5.0) -> None:
        """Waits until a condition about this service holds.

        Raises:
            TimeoutError: if that takes longer than ``timeout`` seconds.
        """
        async with asyncio.timeout(timeout):
            await self.service.until(condition)

    async def __aenter__(self) -> Self:
        # Pings of our own clients are welcome, and two fakes never share a port.
        server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
                # As the service has it: messages may hold files.
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ]
        )
        add_ConversationServiceServicer_to_server(self.service, server)
        add_ChannelServiceServicer_to_server(self.service, server)
        self._port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self._server = server
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.service.deliveries.close()
        if self._server is not None:
            await self._server.stop(0)
        await self.service.aclose()


async def _abort(context: Context, error: WeConverseError) -> Never:
    await context.abort_with_status(rpc_status.to_status(status_of(error)))


def _marked(event: StreamConverseResponse, *, attached: bool) -> StreamConverseResponse:
    if not attached or not event.HasField("started"):
        return event
    marked = StreamConverseResponse()
    marked.CopyFrom(event)
    marked.started.attached = True
    return marked


def _invalid(name: str, rule: str) -> WeConverseError:
    return InvalidField(f"{name}: {rule}", metadata={"field": name})


def _missing(name: str) -> WeConverseError:
    return ResourceNotFound(f"{name} does not exist", metadata={"resourceName": name})
