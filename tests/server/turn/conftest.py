"""A turn room over a real store, with a model that does what the test says."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from weakref import WeakKeyDictionary

import msgspec
import pytest

from server.budget import Budget
from server.cache.coalesce import SharedCalls
from server.cache.inprocess import InProcessReplyCache
from server.domain import Ask, Content, Event, FinishReason, Owed, Turn, TurnName, TurnOptions, Usage
from server.filter.base import Screener
from server.filter.moderated_text import Moderation
from server.filter.pii.guard import PiiGuard
from server.filter.screening import ListScreener
from server.filter.word_stream import Words
from server.llm.base import Chunk, Prompt
from server.media.base import MediaReader
from server.memory.recall import RecentRounds
from server.routing import base as routing
from server.routing.intents import Intents
from server.settings import Settings
from server.store.base import TurnStore
from server.store.sqlite import open_sqlite
from server.turn.base import Delivery, Hello, Report
from server.turn.deliveries import InstanceAttachment
from server.turn.observer import Unobserved
from server.turn.room import TurnRoom
from server.turn.stations import Stations

ACCOUNT = "channels/test/accounts/one"

Play = Callable[[Prompt, "PlayedModel"], AsyncIterator[Chunk]]


def done(model: str = "played", reason: FinishReason = FinishReason.STOP) -> Chunk:
    return Chunk(finish=reason, usage=Usage(3, 5), model=model)


async def echo(prompt: Prompt, model: "PlayedModel") -> AsyncIterator[Chunk]:
    """Answers a question with itself, in two pieces."""
    question = prompt.messages[-1].text
    yield Chunk(text="echo: ", model="played")
    yield Chunk(text=question)
    yield done()


class PlayedModel:
    """A model that is played by a function, and remembers what it was asked."""

    def __init__(self, play: Play = echo) -> None:
        self.play = play
        self.prompts: list[Prompt] = []
        self.closed = 0
        self.go = asyncio.Event()
        """For plays that wait for the test."""

    async def generate(self, prompt: Prompt, budget: Budget) -> AsyncIterator[Chunk]:
        self.prompts.append(prompt)
        try:
            async for chunk in self.play(prompt, self):
                yield chunk
        finally:
            self.closed += 1

    async def aclose(self) -> None: ...


async def when_told(prompt: Prompt, model: PlayedModel) -> AsyncIterator[Chunk]:
    """Says one word, and the rest when the test says so."""
    yield Chunk(text="first ", model="played")
    await model.go.wait()
    yield Chunk(text="second")
    yield done()


async def silent_until_told(prompt: Prompt, model: PlayedModel) -> AsyncIterator[Chunk]:
    """Says nothing until the test says so."""
    await model.go.wait()
    yield Chunk(text="at last", model="played")
    yield done()


def ask(
    text: str = "你好",
    conversation: str = "c",
    request_id: str = "",
    *,
    options: TurnOptions | None = None,
    serial: list[int] = [0],  # noqa: B006  # a counter of this module
) -> Ask:
    serial[0] += 1
    return Ask(
        name=TurnName(conversation, request_id or f"made-{serial[0]}"),
        input=Content.of_text(text),
        repeatable=bool(request_id),
        assistant="default",
        options=options or TurnOptions(),
    )


def owed(address: bytes = b"to") -> Owed:
    return Owed(ACCOUNT, address)


def hello(*, exclusive: bool = False, ended_only: bool = False, limit: int = 64, instance: str = "i") -> Hello:
    return Hello(ACCOUNT, instance, exclusive, limit, ended_only)


async def follow(room: TurnRoom, name: TurnName, after: int = 0) -> tuple[list[tuple[int, Event]], Turn]:
    """Every event of a turn, and the turn."""
    async with room.turns.follow(name, after) as follower:
        events = [item async for batch in follower.batches() for item in batch]
        return events, follower.turn


_READING: WeakKeyDictionary[InstanceAttachment, AsyncIterator[object]] = WeakKeyDictionary()
"""One reader an instance, as on the wire: what it has taken from the attachment it must not drop."""


async def next_delivery(attachment: InstanceAttachment) -> Delivery:
    """The next delivery an instance is offered; grants are passed over."""
    reading = _READING.setdefault(attachment, attachment.messages())
    async for message in reading:
        if isinstance(message, Delivery):
            return message
    raise AssertionError("the instance was sent away")


async def report(attachment: InstanceAttachment, name: TurnName, outcome: str = "delivered", **fields: object) -> None:
    made = Report(name, outcome, 0.0, b"", "")
    await attachment.report(msgspec.structs.replace(made, **fields))


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Waits until something has become true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


def no_words() -> Words:
    """For assistants without a policy, whose texts nobody looks through."""
    raise AssertionError("no list is asked for")


OpenRoom = Callable[..., Awaitable[TurnRoom]]

LONG = Budget(3600)
"""More than all tests take together: a budget begins when it is made, and this one when the tests are collected."""


@pytest.fixture
def model() -> PlayedModel:
    return PlayedModel()


@pytest.fixture
def open_room(tmp_path: Path, model: PlayedModel) -> Callable[..., object]:
    """Opens a room on the test's file; leaving it is the death or the end of the process."""

    @asynccontextmanager
    async def opening(
        settings: Settings | None = None,
        *,
        drain: float = 5.0,
        wrap: Callable[[TurnStore], TurnStore] = lambda store: store,
        screener: Screener | None = None,
        moderation: Moderation | None = None,
        guards: Mapping[str, PiiGuard] | None = None,
        media: MediaReader | None = None,
    ) -> AsyncIterator[TurnRoom]:
        settings = settings or Settings()
        async with open_sqlite(tmp_path / "turns.db") as store:
            stations = Stations(
                store=wrap(store),
                memory=RecentRounds(store.recent_rounds, 100),
                cache=InProcessReplyCache(settings.cache.entries, settings.cache.ttl_seconds),
                shared=SharedCalls(),
                moderation=moderation,
                guards=guards or {},
                media=media,
                screener=screener or ListScreener(no_words, {}),
                intents=Intents(settings.assistants, model, routing.Unobserved()),
                provider=model,
                observer=Unobserved(),
            )
            room = TurnRoom(settings, stations)
            await room.open()
            try:
                yield room
            finally:
                await room.drain(drain)
                await room.aclose()

    return opening


@pytest.fixture
async def room(open_room: Callable[..., object]) -> AsyncIterator[TurnRoom]:
    async with open_room(drain=0.0) as room:  # type: ignore[attr-defined]  # an async context manager
        yield room
