"""A turn service and a delivery service in memory, scripted by tests; and a server around them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc

from program.health import Health
from server.budget import Budget
from server.domain import (
    Ask,
    Completed,
    Content,
    Conversation,
    ConversationState,
    DeliveryState,
    Delta,
    Event,
    FinishReason,
    Owed,
    Push,
    Rating,
    Sender,
    Started,
    Turn,
    TurnName,
    TurnState,
)
from server.errors import ResourceNotFound
from server.filter.base import LexiconAdmin
from server.ops.metrics import Metrics
from server.rpc.interceptors.wrap import Around
from server.serve import Port, serving
from server.settings import GrpcSettings
from server.store.base import TurnPage
from server.turn.base import AssistantView, Delivery, Granted, Hello, Report, Revoked
from weconverse.v1.admin_pb2_grpc import AdminServiceStub
from weconverse.v1.channel_pb2_grpc import ChannelServiceStub
from weconverse.v1.conversation_pb2_grpc import ConversationServiceStub


def turn_of(ask: Ask, reply: str = "好的") -> Turn:
    return Turn(
        name=ask.name,
        state=TurnState.SUCCEEDED,
        input=ask.input,
        create_time=1000.5,
        assistant=ask.assistant,
        channel=ask.channel,
        sender=ask.sender,
        reply=reply,
        finish_reason=FinishReason.STOP,
        end_time=1001.25,
    )


class FakeFollower:
    def __init__(self, turns: "FakeTurns", turn: Turn, after: int = 0, *, attached: bool = False) -> None:
        self._turns = turns
        self._after = after
        self.turn = turn
        self.attached = attached

    async def batches(self) -> AsyncIterator[Sequence[tuple[int, Event]]]:
        events = list(enumerate([Started(), *self._turns.events, Completed()], 1))[self._after :]
        for numbered in events:
            if isinstance(numbered[1], Completed):
                await self._turns.go_on.wait()
                self._turns.trip()
            yield [numbered]


class FakeTurns:
    """Answers everything at once, unless ``go_on`` is cleared or ``error`` is set."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.events: list[Event] = [Delta("好"), Delta("的")]
        self.asks: list[Ask] = []
        self.owed: list[Owed] = []
        self.budgets: list[Budget] = []
        self.calls: list[tuple[Any, ...]] = []
        self.running = 0
        self.most_running = 0
        self.arrived = asyncio.Event()
        self.left = asyncio.Event()

    def trip(self) -> None:
        if self.error is not None:
            raise self.error

    async def converse(self, ask: Ask, budget: Budget) -> Turn:
        self.asks.append(ask)
        self.budgets.append(budget)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.arrived.set()
        try:
            await asyncio.sleep(0)
            await self.go_on.wait()
            self.trip()
        finally:
            self.running -= 1
            self.left.set()
        return turn_of(ask, f"答:{ask.input.text}")

    @asynccontextmanager
    async def stream(self, ask: Ask, budget: Budget) -> AsyncIterator[FakeFollower]:
        self.asks.append(ask)
        self.budgets.append(budget)
        self.arrived.set()
        try:
            yield FakeFollower(self, turn_of(ask))
        finally:
            self.left.set()

    @asynccontextmanager
    async def follow(self, name: TurnName, after_sequence: int) -> AsyncIterator[FakeFollower]:
        self.calls.append(("follow", name, after_sequence))
        self.arrived.set()
        ask = Ask(name, Content.of_text("问"), repeatable=True, assistant="default")
        try:
            yield FakeFollower(self, turn_of(ask), after_sequence, attached=True)
        finally:
            self.left.set()

    async def submit(self, ask: Ask, owed: Owed, budget: Budget | None = None) -> Turn:
        self.trip()
        self.asks.append(ask)
        self.owed.append(owed)
        if budget is not None:
            self.budgets.append(budget)
        return turn_of(ask)

    async def _one(self, *call: Any) -> Turn:
        self.calls.append(call)
        self.trip()
        return turn_of(Ask(call[1], Content.of_text("问"), repeatable=True, assistant="default"))

    async def get(self, name: TurnName) -> Turn:
        return await self._one("get", name)

    async def cancel(self, name: TurnName) -> Turn:
        return await self._one("cancel", name)

    async def list_turns(self, conversation: str, page_size: int, page_token: str) -> TurnPage:
        turn = await self._one("list", TurnName(conversation, "t"), page_size, page_token)
        return TurnPage((turn, turn), "next")

    async def rate(self, name: TurnName, rater: Sender | None, rating: Rating, comment: str) -> None:
        await self._one("rate", name, rater, rating, comment)

    async def conversation(self, name: str) -> Conversation:
        await self._one("conversation", TurnName(name, "t"))
        return Conversation(name, 1.0, 2.0, 3.5, 4)

    async def reset(self, name: str) -> Conversation:
        await self._one("reset", TurnName(name, "t"))
        return Conversation(name, 1.0, 2.0, None, 0)

    async def hand_off(self, name: str) -> Conversation:
        await self._one("hand_off", TurnName(name, "t"))
        return Conversation(name, 1.0, 2.0, None, 0, ConversationState.HANDED_OFF)

    async def resume(self, name: str) -> Conversation:
        await self._one("resume", TurnName(name, "t"))
        return Conversation(name, 1.0, 2.0, None, 0)

    async def delete(self, name: str) -> None:
        await self._one("delete", TurnName(name, "t"))

    def assistant(self, name: str) -> AssistantView:
        if name != "default":
            raise ResourceNotFound(f"assistants/{name}")
        return AssistantView(name, "v1", "您好")


class FakeAttachment:
    def __init__(self) -> None:
        self.outgoing: asyncio.Queue[Granted | Revoked | Delivery | BaseException] = asyncio.Queue()
        self.reports: asyncio.Queue[Report] = asyncio.Queue()

    async def messages(self) -> AsyncIterator[Granted | Revoked | Delivery]:
        while True:
            said = await self.outgoing.get()
            if isinstance(said, BaseException):
                raise said
            yield said

    async def report(self, report: Report) -> None:
        await self.reports.put(report)


class FakeDeliveries:
    def __init__(self) -> None:
        self.attachment = FakeAttachment()
        self.hellos: list[Hello] = []
        self.left = asyncio.Event()

    @asynccontextmanager
    async def attach(self, hello: Hello) -> AsyncIterator[FakeAttachment]:
        self.hellos.append(hello)
        try:
            yield self.attachment
        finally:
            self.left.set()


class FakePushes:
    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.pushes: list[Push] = []
        self.budgets: list[Budget] = []

    async def push(self, push: Push, budget: Budget) -> Turn:
        if self.error is not None:
            raise self.error
        self.pushes.append(push)
        self.budgets.append(budget)
        return Turn(
            name=TurnName("push.a.0", push.request_id),
            state=TurnState.SUCCEEDED,
            input=Content(),
            create_time=1.0,
            reply=push.content.text,
            pushed=push.content,
            finish_reason=FinishReason.STOP,
            delivery_state=DeliveryState.OWED,
        )


class Open:
    """A server that listens, what stands behind it, and one channel to it."""

    def __init__(
        self,
        port: Port,
        channel: grpc.aio.Channel,
        turns: FakeTurns,
        deliveries: FakeDeliveries,
        pushes: FakePushes,
        metrics: Metrics,
    ) -> None:
        self.port = port
        self.channel = channel
        self.turns = turns
        self.deliveries = deliveries
        self.pushes = pushes
        self.metrics = metrics
        self.conversation = ConversationServiceStub(channel)
        self.attaching = ChannelServiceStub(channel)
        self.admin = AdminServiceStub(channel)

    def sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"weconverse_{name}", labels) or 0.0


OpenServer = Callable[..., Any]


@asynccontextmanager
async def open_server(
    settings: GrpcSettings | None = None,
    *,
    ready: Health | None = None,
    around: Callable[[Sequence[Around]], Sequence[Around]] = lambda concerns: concerns,
    credentials: grpc.ChannelCredentials | None = None,
    options: Sequence[tuple[str, Any]] = (),
    tracer: Any = None,
    lexicon: LexiconAdmin | None = None,
) -> AsyncIterator[Open]:
    turns, deliveries, pushes, metrics = FakeTurns(), FakeDeliveries(), FakePushes(), Metrics()
    if ready is None:
        ready = Health("test")
        ready.mark("test", ready=True)
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(
            serving(
                settings or GrpcSettings(address="127.0.0.1:0"),
                turns=turns,
                deliveries=deliveries,
                pushes=pushes,
                turn_timeout=5.0,
                ready=ready,
                metrics=metrics,
                tracer=tracer,
                lexicon=lexicon,
                around=around,
            )
        )
        target = f"localhost:{port.number}"
        channel = await stack.enter_async_context(
            grpc.aio.secure_channel(target, credentials, options=options)
            if credentials
            else grpc.aio.insecure_channel(target, options=options)
        )
        yield Open(port, channel, turns, deliveries, pushes, metrics)
