"""Messages in a row: one question, one answer, whatever happens between."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from server.budget import Budget
from server.domain import (
    Ask,
    Content,
    DeliveryState,
    FinishReason,
    MediaPart,
    Said,
    Sender,
    TextPart,
    Turn,
    TurnName,
    TurnOptions,
    TurnState,
)
from server.errors import StoreUnavailable
from server.llm.base import Chunk
from server.settings import AssistantSettings, DeliverySettings, Settings, TurnSettings
from server.store.base import TurnStore
from server.turn.base import Delivery, Report
from server.turn.lane import Lanes, Ticket
from server.turn.live import LiveTurn
from server.turn.merging import MOST_PARTS, Merging
from server.turn.room import TurnRoom
from tests.server.turn.conftest import (
    PlayedModel,
    ask,
    done,
    follow,
    hello,
    next_delivery,
    owed,
    report,
    until,
    when_told,
)
from tests.server.turn.mortal import MortalStore

PAUSE = 0.02


def settings(seconds: float) -> Settings:
    return Settings(
        assistants={"default": AssistantSettings(merge_seconds=seconds, memory_rounds=0)},
        turns=TurnSettings(max_waiting_per_conversation=50, max_claims=100),
        delivery=DeliverySettings(max_retries=1000),
    )


QUICK = settings(PAUSE)
"""Where it does not matter which messages are merged."""
SETTINGS = settings(0.3)
"""For messages that are sent together."""
PATIENT = settings(1.5)
"""For messages that are sent one by one."""
ANN, BOB = Sender("ann"), Sender("bob")


def said(text: str, request_id: str, sender: Sender | None = ANN, conversation: str = "c", **fields: Any) -> Ask:
    question = msgspec.structs.replace(ask(text, conversation, request_id), sender=sender)
    return msgspec.structs.replace(question, **fields)


def questions(model: PlayedModel) -> list[str]:
    return [prompt.messages[-1].text for prompt in model.prompts]


async def submit(room: TurnRoom, *asks: Ask) -> None:
    """All at once, in this order."""
    await asyncio.gather(*(room.turns.submit(one, owed()) for one in asks))


async def all_ended(room: TurnRoom) -> None:
    await until(lambda: room.register.running == 0)


async def turn_of(room: TurnRoom, request_id: str) -> Turn:
    return await room.turns.get(TurnName("c", request_id))


SCENE = (said("一", "m1"), said("二", "m2"), said("三", "m3", BOB), said("四", "m4"), said("五", "m5"))
WORDS = [one.input.text for one in SCENE]


# --- what is merged ----------------------------------------------------------------------


async def test_messages_in_a_row_are_one_question_answered_by_the_last(open_room, model: PlayedModel) -> None:  # type: ignore[no-untyped-def]  # a fixture
    async with open_room(SETTINGS) as room:
        await submit(room, said("我想问一下", "m1"), said("公司的年假", "m2"), said("有几天？", "m3"))
        await all_ended(room)
        assert questions(model) == ["我想问一下\n公司的年假\n有几天？"]
        for request_id in ("m1", "m2"):
            turn = await turn_of(room, request_id)
            assert (turn.state, turn.finish_reason, turn.reply) == (TurnState.SUCCEEDED, FinishReason.MERGED, "")
            assert turn.delivery_state is DeliveryState.DELIVERED
        last = await turn_of(room, "m3")
        assert (last.finish_reason, last.reply) == (FinishReason.STOP, "echo: 我想问一下\n公司的年假\n有几天？")
        async with room.deliveries.attach(hello()) as instance:
            assert (await next_delivery(instance)).name.request_id == "m3", "nothing is to be shown of the others"


async def test_a_redelivery_is_the_same_message_before_and_after(open_room, model: PlayedModel) -> None:  # type: ignore[no-untyped-def]  # a fixture
    first, last = said("一", "m1"), said("二", "m2")
    async with open_room(SETTINGS) as room:
        await submit(room, first, last, first, last)
        await all_ended(room)
        await submit(room, first, last)
    async with open_room(SETTINGS) as room:
        await submit(room, last, first)
        assert room.register.running == 0
    assert questions(model) == ["一\n二"]


async def test_off_is_off(open_room, model: PlayedModel) -> None:  # type: ignore[no-untyped-def]  # a fixture
    async with open_room(Settings()) as room:
        await submit(room, said("一", "m1"), said("二", "m2"))
        await all_ended(room)
    assert questions(model) == ["一", "二"]


async def test_a_turn_that_runs_is_not_merged_but_those_behind_it_are(open_room, model: PlayedModel) -> None:  # type: ignore[no-untyped-def]  # a fixture
    model.play = when_told
    async with open_room(SETTINGS) as room:
        await submit(room, said("在跑", "m0"))
        await until(lambda: len(model.prompts) == 1)
        await submit(room, said("一", "m1"), said("二", "m2"), said("三", "m3"))
        model.go.set()
        await all_ended(room)
        assert questions(model) == ["在跑", "一\n二\n三"]
        assert (await turn_of(room, "m0")).finish_reason is FinishReason.STOP


async def test_people_are_not_merged_with_one_another(open_room, model: PlayedModel) -> None:  # type: ignore[no-untyped-def]  # a fixture
    async with open_room(SETTINGS) as room:
        await submit(
            room, said("一", "m1"), said("二", "m2"), said("三", "m3", BOB), said("四", "m4"), said("五", "m5")
        )
        await all_ended(room)
    assert questions(model) == ["一\n二", "三", "四\n五"]


async def test_memory_has_the_messages_in_a_row_as_one_question(open_room, model: PlayedModel) -> None:  # type: ignore[no-untyped-def]  # a fixture
    remembering = Settings(assistants={"default": AssistantSettings(merge_seconds=0.3, instructions="")})
    for number in (1, 2):  # from the process, and read back from the rows
        async with open_room(remembering) as room:
            if number == 1:
                await submit(room, said("一", "m1"), said("二", "m2"))
                await all_ended(room)
            await room.turns.converse(said("三", "", repeatable=False), Budget(5))
            told = [message.text for message in model.prompts[-1].messages]
            assert told[:2] == ["一\n二", "echo: 一\n二"]


@pytest.mark.parametrize(
    "other",
    [
        {"sender": None},
        {"assistant": "other"},
        {"options": TurnOptions(model="default")},
        {"language_code": "en"},
        {"channel": "web"},
        {"input": Content((TextPart("看图"), MediaPart("image/png", b"png")))},
        {"input": Content.of_text("重新开始")},
        {"input": Content.of_text("长" * 20_000)},
        {"input": Content((TextPart("短"),) * MOST_PARTS)},
        {"history": (Said(True, "之前"),)},
    ],
)
@pytest.mark.parametrize("before", [True, False])
async def test_what_differs_is_answered_by_itself(  # type: ignore[no-untyped-def]  # a fixture
    open_room,
    model: PlayedModel,
    other: dict[str, Any],
    before: bool,
) -> None:
    entry = AssistantSettings(merge_seconds=PAUSE)
    changed = msgspec.structs.replace(QUICK, assistants={"default": entry, "other": entry})
    plain, different = said("一句话", "m1"), said("另一句", "m2", **other)
    async with open_room(changed) as room:
        await submit(room, *((different, plain) if before else (plain, different)))
        await all_ended(room)
        turns = [await turn_of(room, "m1"), await turn_of(room, "m2")]
    assert FinishReason.MERGED not in [turn.finish_reason for turn in turns]


async def test_a_caller_who_waits_is_never_merged(open_room, model: PlayedModel) -> None:  # type: ignore[no-untyped-def]  # a fixture
    async with open_room(SETTINGS) as room:
        _, waited = await asyncio.gather(
            room.turns.submit(said("一", "m1"), owed()), room.turns.converse(said("二", "m2"), Budget(5))
        )
        assert waited.reply == "echo: 二"
        await all_ended(room)
    assert questions(model) == ["一", "二"]


async def test_whoever_follows_a_message_hears_that_there_is_nothing_to_show(open_room, model: PlayedModel) -> None:  # type: ignore[no-untyped-def]  # a fixture
    first, last = said("一", "m1"), said("二", "m2")
    async with open_room(PATIENT) as room, room.deliveries.attach(hello()) as instance:
        await room.turns.submit(first, owed())
        offered = await next_delivery(instance)
        assert offered.name == first.name
        await room.turns.submit(last, owed())
        events, turn = await follow(room, first.name)
        assert [type(event).__name__ for _, event in events] == ["Started", "Completed"]
        assert (turn.finish_reason, turn.delivery_state) == (FinishReason.MERGED, DeliveryState.OWED)
        await all_ended(room)
        await report(instance, first.name)
        assert (await next_delivery(instance)).name == last.name


async def test_an_offer_that_nobody_heard_out_is_made_again(open_room, model: PlayedModel) -> None:  # type: ignore[no-untyped-def]  # a fixture
    first, last = said("一", "m1"), said("二", "m2")
    async with open_room(PATIENT) as room, room.deliveries.attach(hello()) as instance:
        await room.turns.submit(first, owed())
        await next_delivery(instance)
        await room.turns.submit(last, owed())
        await all_ended(room)
    async with open_room(SETTINGS) as room, room.deliveries.attach(hello()) as instance:
        again = await next_delivery(instance)
        assert (again.name, again.attempt) == (first.name, 2)
        assert again.ended_turn is not None
        assert again.ended_turn.finish_reason is FinishReason.MERGED
        await report(instance, first.name)
        assert (await next_delivery(instance)).name == last.name


async def test_stopping_the_last_message_stops_what_it_would_have_answered(open_room, model: PlayedModel) -> None:  # type: ignore[no-untyped-def]  # a fixture
    model.play = when_told
    async with open_room(SETTINGS) as room:
        await submit(room, said("一", "m1"), said("二", "m2"))
        await until(lambda: len(model.prompts) == 1)
        await room.turns.cancel(TurnName("c", "m2"))
        assert (await turn_of(room, "m1")).finish_reason is FinishReason.MERGED
        assert (await turn_of(room, "m2")).state is TurnState.CANCELLED
        await all_ended(room)


async def test_a_server_that_stops_leaves_the_pause_to_the_next_one(open_room, model: PlayedModel) -> None:  # type: ignore[no-untyped-def]  # a fixture
    async with open_room(settings(10)) as room:
        await submit(room, said("一", "m1"), said("二", "m2"))
    assert not model.prompts
    async with open_room(SETTINGS) as room:
        await all_ended(room)
    assert questions(model) == ["一\n二"]


# --- when ---------------------------------------------------------------------------------


class Clock:
    """Time that passes when somebody sleeps, and what happens meanwhile."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []
        self.meanwhile: Callable[[], Awaitable[object] | None] = lambda: None

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        if (happening := self.meanwhile()) is not None:
            await happening


def merging(clock: Clock, seconds: float = 2.0) -> Merging:
    from server.turn.assistants import Assistants

    entry = AssistantSettings(merge_seconds=seconds)
    assistants = Assistants({"default": entry}, frozenset({"default"}))
    store: Any = SimpleNamespace(handed_off=nobody)  # all that is asked of it here
    return Merging(assistants, store, 1000, lambda: clock.now, clock.sleep)


async def nobody(conversation: str) -> bool:
    return False


def queued(lanes: Lanes, text: str, at: float, *, attempts: int = 0) -> tuple[LiveTurn, Ticket]:
    question = said(text, text)
    turn = Turn(question.name, TurnState.QUEUED, question.input, at, sender=question.sender)
    live, ticket = LiveTurn(question, turn, owed=True, attempts=attempts), lanes.enter("c", always=True)
    ticket.live = live
    return live, ticket


@pytest.mark.parametrize(("arrived", "pause"), [(100.0, [2.0]), (99.5, [1.5]), (98.0, []), (10.0, []), (500.0, [2.0])])
async def test_the_pause_counts_from_the_arrival_and_has_a_bound(arrived: float, pause: list[float]) -> None:
    clock, lanes = Clock(), Lanes(5)
    assert await merging(clock).successor(*queued(lanes, "一", arrived)) is None
    assert clock.slept == pytest.approx(pause)


async def test_a_message_that_comes_in_the_pause_takes_over_and_one_that_comes_later_does_not() -> None:
    clock, lanes = Clock(), Lanes(5)
    first = queued(lanes, "一", 100.0)
    later: list[LiveTurn] = []
    clock.meanwhile = lambda: later.append(queued(lanes, "二", clock.now)[0])
    assert await merging(clock).successor(*first) is later[0]


async def test_what_is_not_on_disk_yet_takes_nothing_over() -> None:
    clock, lanes = Clock(), Lanes(5)
    first = queued(lanes, "一", 100.0)
    lanes.enter("c", always=True)  # a message that is being written
    assert await merging(clock).successor(*first) is None


async def test_a_turn_that_ran_before_is_answered_itself_and_at_once() -> None:
    clock, lanes = Clock(), Lanes(5)
    first = queued(lanes, "一", 100.0, attempts=1)
    queued(lanes, "二", 100.0)
    assert await merging(clock).successor(*first) is None
    assert not clock.slept


# --- whatever dies -------------------------------------------------------------------------


class Screen:
    """What people have been shown, over all lives of the process: one text for one turn."""

    def __init__(self) -> None:
        self.shown: dict[TurnName, str] = {}

    async def keep_delivering(self, room: TurnRoom, *, followers: bool = True) -> None:
        """Attaches again whenever it was sent away, as channels do."""
        while True:
            with contextlib.suppress(StoreUnavailable):
                async with room.deliveries.attach(hello(ended_only=not followers)) as attachment:
                    async for message in attachment.messages():
                        if isinstance(message, Delivery):
                            await self._deliver(room, attachment, message)
            await asyncio.sleep(0.01)

    async def _deliver(self, room: TurnRoom, attachment: Any, delivery: Delivery) -> None:
        turn = delivery.ended_turn
        if turn is None:
            _, turn = await follow(room, delivery.name)
        if turn.finish_reason is FinishReason.MERGED:
            assert not turn.reply
        else:
            assert self.shown.setdefault(delivery.name, turn.reply) == turn.reply
        await attachment.report(Report(delivery.name, "delivered", 0.0, b"", ""))

    def words(self) -> list[str]:
        return [word for reply in self.shown.values() for word in reply.removeprefix("echo: ").split("\n")]


async def play_scene(room: TurnRoom, screen: Screen, died: Callable[[], bool] = lambda: False) -> None:
    """Everybody writes, and the channel shows, until all is settled or the store is dead."""
    delivering = asyncio.create_task(screen.keep_delivering(room))
    try:
        # Whoever was not told that a message was taken sends it again, sooner or later.
        for result in await asyncio.gather(*(room.turns.submit(one, owed()) for one in SCENE), return_exceptions=True):
            assert not isinstance(result, Exception) or isinstance(result, StoreUnavailable)
        await until(lambda: len(room.deliveries) == 0 or died(), 10)
    finally:
        delivering.cancel()
        await asyncio.gather(delivering, return_exceptions=True)


class ForgetfulStore:
    """A store that merges once without saying so."""

    def __init__(self, store: TurnStore) -> None:
        self._store = store
        self._forgets = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def merge(self, *given: Any) -> Any:
        merged = await self._store.merge(*given)
        if self._forgets:
            self._forgets = False
            raise StoreUnavailable("turn")
        return merged


@pytest.mark.parametrize("followers", [False, True])
async def test_a_hand_over_that_nobody_heard_of_is_read_from_the_row(  # type: ignore[no-untyped-def]  # a fixture
    open_room,
    model: PlayedModel,
    followers: bool,
) -> None:
    screen = Screen()
    async with open_room(SETTINGS, wrap=ForgetfulStore) as room:
        delivering = asyncio.create_task(screen.keep_delivering(room, followers=followers))
        await submit(room, said("一", "m1"), said("二", "m2"))
        await all_ended(room)
        await room._debts.recover()  # what the sweep does soon
        await until(lambda: len(room.deliveries) == 0)
        delivering.cancel()
        await asyncio.gather(delivering, return_exceptions=True)
    assert questions(model) == ["一\n二"]
    assert screen.words() == ["一", "二"]


@pytest.mark.parametrize("behind", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("write", range(1, 27))
async def test_a_death_at_any_write_loses_nothing_and_answers_nothing_twice(  # type: ignore[no-untyped-def]  # a fixture
    open_room,
    model: PlayedModel,
    write: int,
    behind: bool,
) -> None:
    screen, stores = Screen(), []

    def mortal(store: TurnStore) -> Any:
        stores.append(MortalStore(store, write, behind=behind))
        return stores[0]

    async with open_room(QUICK, drain=0, wrap=mortal) as room:
        await play_scene(room, screen, lambda: stores[0].dead)
    async with open_room(QUICK) as room:
        await play_scene(room, screen)
        assert len(room.deliveries) == 0
        turns = [await turn_of(room, one.name.request_id) for one in SCENE]
    assert sorted(screen.words()) == sorted(WORDS)
    assert {turn.delivery_state for turn in turns} == {DeliveryState.DELIVERED}
    assert {turn.name for turn in turns if turn.finish_reason is not FinishReason.MERGED} == set(screen.shown)


@pytest.mark.parametrize("seed", range(6))
async def test_random_rows_of_messages_are_each_answered_once_and_in_order(  # type: ignore[no-untyped-def]  # a fixture
    open_room,
    model: PlayedModel,
    seed: int,
) -> None:
    dice = random.Random(seed)
    screen, written = Screen(), {name: [] for name in ("a", "b")}  # type: ignore[var-annotated]  # words by conversation

    async def echo_slowly(prompt: Any, played: PlayedModel) -> Any:
        await asyncio.sleep(dice.uniform(0, 0.01))
        yield Chunk(text="echo: " + prompt.messages[-1].text, model="played")
        yield done()

    async def person(room: TurnRoom, sender: Sender, conversation: str) -> None:
        for number in range(10):
            word = f"{sender.id}{conversation}{number}"
            question = said(word, word, sender, conversation)
            if dice.random() < 0.2:
                await room.turns.converse(question, Budget(5))
            else:
                written[conversation].append(word)
                await room.turns.submit(question, owed())
            await asyncio.sleep(dice.choice([0, 0, PAUSE / 2, PAUSE * 2]))

    model.play = echo_slowly
    async with open_room(QUICK) as room:
        channels = [asyncio.create_task(screen.keep_delivering(room, followers=follows)) for follows in (True, False)]
        await asyncio.gather(
            *(person(room, sender, conversation) for sender in (ANN, BOB) for conversation in ("a", "b"))
        )
        await until(lambda: len(room.deliveries) == 0, 20)
        for channel in channels:
            channel.cancel()
        await asyncio.gather(*channels, return_exceptions=True)
        assert room.register.running == 0
        assert not room._debts._lanes._lines
    for conversation, words in written.items():
        shown = [
            word
            for name, reply in screen.shown.items()
            if name.conversation == conversation
            for word in reply.removeprefix("echo: ").split("\n")
        ]
        assert shown == words, "each once, in the order in which they were written"
    assert len(screen.shown) < sum(map(len, written.values())), "some were written in a row"
