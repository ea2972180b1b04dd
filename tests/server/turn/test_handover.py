"""A person has the conversation: how it comes to that, that the assistant is silent then, and what a crash leaves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import pytest

from server.domain import (
    Ask,
    Completed,
    Content,
    ConversationState,
    DeliveryState,
    Delta,
    FinishReason,
    MediaPart,
    Replacement,
    Sender,
    Started,
    TextPart,
    Turn,
    TurnName,
    TurnOptions,
    TurnState,
)
from server.errors import InputTooLong, ResourceNotFound, StoreUnavailable, TurnCancelled
from server.filter.pii.external import RecogniserFailed
from server.filter.pii.guard import PiiGuard
from server.filter.pii.kinds import Finding
from server.filter.policy import Policy
from server.filter.screening import ListScreener
from server.llm.base import Chunk, Prompt
from server.settings import (
    ActionName,
    AssistantSettings,
    DeliverySettings,
    PiiSettings,
    PolicySettings,
    Settings,
    TurnSettings,
)
from server.store.base import TurnStore
from server.turn.base import Delivery
from server.turn.room import TurnRoom
from tests.server.filter.lists import small_list
from tests.server.turn.conftest import (
    LONG,
    PlayedModel,
    ask,
    done,
    follow,
    hello,
    next_delivery,
    owed,
    report,
    silent_until_told,
    until,
)
from tests.server.turn.mortal import MortalStore

Open = Callable[..., AbstractAsyncContextManager[TurnRoom]]

CAN = TurnOptions(can_hand_off=True)
TEXTS = Settings().assistants["default"].texts
WORDS = small_list([("投诉", "any")], [])


def screener(given: ActionName = "hand_over", said: ActionName = "pass") -> ListScreener:
    policy = Policy(PolicySettings(other_input=given, other_output=said))
    return ListScreener(lambda: WORDS, {"default": policy})


def wants(text: str = "转人工", request_id: str = "", **fields: Any) -> Ask:
    return msgspec.structs.replace(ask(text, request_id=request_id, options=CAN), **fields)


async def state(room: TurnRoom) -> ConversationState:
    return (await room.turns.conversation("c")).state


def outcome(turn: Turn) -> tuple[TurnState, FinishReason, str]:
    return turn.state, turn.finish_reason, turn.reply


SAID = (TurnState.SUCCEEDED, FinishReason.HANDED_OFF, TEXTS.handed_over)
SILENT = (TurnState.SUCCEEDED, FinishReason.HANDED_OFF, "")


# --- how it comes to that ------------------------------------------------------------------


@pytest.mark.parametrize("words", ["转人工", " 人工客服。", "Talk to a HUMAN!"])
async def test_a_message_that_asks_for_a_person_hands_over(room: TurnRoom, model: PlayedModel, words: str) -> None:
    assert outcome(await room.turns.converse(wants(words), LONG)) == SAID
    assert await state(room) is ConversationState.HANDED_OFF
    assert not model.prompts


@pytest.mark.parametrize(
    "question",
    [
        ask("转人工"),
        wants("怎么转人工"),
        wants(input=Content((TextPart("转人工"), MediaPart("image/png", b"\x89PNG")))),
    ],
    ids=["nobody can be brought in", "a question about it", "with a picture"],
)
async def test_anything_else_is_a_question(room: TurnRoom, model: PlayedModel, question: Ask) -> None:
    turn = await room.turns.converse(question, LONG)
    assert turn.finish_reason is FinishReason.STOP
    assert len(model.prompts) == 1
    assert await state(room) is ConversationState.ACTIVE


@pytest.mark.parametrize("can", [True, False])
@pytest.mark.parametrize("by_model", [True, False])
async def test_a_word_of_the_filter_hands_over_where_somebody_can_be_brought_in(
    open_room: Open, model: PlayedModel, can: bool, by_model: bool
) -> None:
    async def complains(prompt: Prompt, played: PlayedModel) -> AsyncIterator[Chunk]:
        for piece in ("请拨打", "投", "诉", "电话"):
            yield Chunk(text=piece, model="played")
        yield done()

    model.play = complains
    words = screener("pass", "hand_over") if by_model else screener()
    async with open_room(screener=words) as room:
        turn = await room.turns.converse(ask("我要投诉", options=TurnOptions(can_hand_off=can)), LONG)
        assert outcome(turn) == SAID
        assert len(model.prompts) == by_model
        assert await state(room) is (ConversationState.HANDED_OFF if can else ConversationState.ACTIVE)


async def test_the_call_hands_over_and_gives_back(room: TurnRoom, model: PlayedModel) -> None:
    with pytest.raises(ResourceNotFound):
        await room.turns.resume("c")
    for _ in range(2):
        assert (await room.turns.hand_off("c")).state is ConversationState.HANDED_OFF
    assert outcome(await room.turns.converse(ask("在吗"), LONG)) == SILENT
    assert (await room.turns.reset("c")).state is ConversationState.HANDED_OFF
    for _ in range(2):
        assert (await room.turns.resume("c")).state is ConversationState.ACTIVE
    assert (await room.turns.converse(ask("在吗"), LONG)).reply == "echo: 在吗"
    await room.turns.hand_off("c")
    await room.turns.delete("c")
    assert (await room.turns.converse(ask("在吗"), LONG)).reply == "echo: 在吗"


async def test_what_is_being_answered_is_answered_to_its_end(room: TurnRoom, model: PlayedModel) -> None:
    model.play = silent_until_told
    first = asyncio.create_task(room.turns.converse(ask("一"), LONG))
    await until(lambda: len(model.prompts) == 1)
    second = asyncio.create_task(room.turns.converse(ask("二"), LONG))
    await room.turns.hand_off("c")
    model.go.set()
    assert (await first).reply == "at last"
    assert outcome(await second) == SILENT


# --- silence -------------------------------------------------------------------------------


async def test_every_kind_of_turn_is_silent_and_kept(room: TurnRoom, model: PlayedModel) -> None:
    await room.turns.converse(ask("你好"), LONG)
    await room.turns.hand_off("c")
    assert outcome(await room.turns.converse(ask("一", request_id="m1"), LONG)) == SILENT
    async with room.turns.stream(ask("二", request_id="m2"), LONG) as follower:
        events = [event async for batch in follower.batches() for _, event in batch]
        assert [type(event) for event in events] == [Started, Completed]
        assert outcome(follower.turn) == SILENT
    await room.turns.submit(ask("三", request_id="m3"), owed())
    async with room.deliveries.attach(hello(ended_only=True)) as attachment:
        delivery = await next_delivery(attachment)
        assert delivery.ended_turn is not None
        assert outcome(delivery.ended_turn) == SILENT
        await report(attachment, delivery.name)
    page = await room.turns.list_turns("c", 10, "")
    assert [turn.input.text for turn in page.turns] == ["三", "二", "一", "你好"]
    await room.turns.resume("c")
    await room.turns.converse(ask("四"), LONG)
    assert [message.text for message in model.prompts[-1].messages[1:]] == ["你好", "echo: 你好", "四"]


async def test_neither_reset_words_nor_requests_are_answered(room: TurnRoom) -> None:
    await room.turns.converse(ask("你好"), LONG)
    await room.turns.converse(wants(), LONG)
    for text in ("转人工", "重新开始"):
        assert outcome(await room.turns.converse(wants(text), LONG)) == SILENT
    assert (await room.turns.conversation("c")).remembered_message_count == 2


async def test_a_person_at_the_server_behind_this_one_is_not_answered_over(room: TurnRoom, model: PlayedModel) -> None:
    async def silent(prompt: Prompt, model: PlayedModel) -> AsyncIterator[Chunk]:
        yield done("centre", FinishReason.HANDED_OFF)

    model.play = silent
    assert outcome(await room.turns.converse(wants("年假有几天"), LONG)) == SILENT
    await room.turns.submit(wants("年假有几天", "m1"), owed())
    await until(lambda: room.register.running == 0)
    assert outcome(await room.turns.get(TurnName("c", "m1"))) == SILENT
    assert await state(room) is ConversationState.ACTIVE, "who has it there is for the other server to say, each time"


async def test_no_refusal_is_shown(open_room: Open, model: PlayedModel) -> None:
    settings = Settings(turns=TurnSettings(max_input_characters=10, max_waiting_per_conversation=1))
    async with open_room(settings, screener=screener("block")) as room:
        await room.turns.hand_off("c")
        assert outcome(await room.turns.converse(ask("我要投诉"), LONG)) == SILENT
        picture = msgspec.structs.replace(ask(), input=Content((MediaPart("video/mp4"),)))
        assert outcome(await room.turns.converse(picture, LONG)) == SILENT
        too_long = await room.turns.submit(ask("长" * 11, request_id="m1"), owed())
        assert (outcome(too_long), too_long.delivery_state) == (SILENT, DeliveryState.OWED)
        assert too_long.failure is None
        assert outcome(await room.turns.converse(ask("长" * 11), LONG)) == SILENT
        await room.turns.resume("c")
        with pytest.raises(InputTooLong):
            await room.turns.converse(ask("长" * 11), LONG)
        assert (await room.turns.submit(ask("长" * 11, request_id="m2"), owed())).reply == TEXTS.too_long


class Reader:
    """Reads files, and notes that it did."""

    def __init__(self) -> None:
        self.read_count = 0

    async def read(self, content: Content, budget: object, max_characters: int) -> Content:
        self.read_count += 1
        return Content.of_text("读过了")


async def test_nothing_is_read_of_what_comes_meanwhile(open_room: Open) -> None:
    reader = Reader()
    picture = MediaPart("image/png", b"\x89PNG", display_name="图.png")
    async with open_room(media=reader) as room:
        await room.turns.hand_off("c")
        question = wants(request_id="m1", input=Content((TextPart("看图"), picture)))
        await room.turns.converse(question, LONG)
        await room.turns.submit(msgspec.structs.replace(question, name=TurnName("c", "m2")), owed())
        await until(lambda: room.register.running == 0)
        for request_id in ("m1", "m2"):
            turn = await room.turns.get(TurnName("c", request_id))
            assert outcome(turn) == SILENT
            assert turn.input == Content((TextPart("看图"), MediaPart("image/png", display_name="图.png")))
        assert not reader.read_count
        assert outcome(await room.turns.converse(question, LONG)) == SILENT, "it is still known by what was sent"


class Failing:
    """A recogniser that cannot be asked."""

    async def find(self, text: str, budget: object) -> tuple[Finding, ...]:
        raise RecogniserFailed("unreachable")


async def test_a_recogniser_that_fails_breaks_no_silence(open_room: Open) -> None:
    pii = PiiSettings(mode="mask")
    settings = Settings(assistants={"default": AssistantSettings(pii=pii)})
    async with open_room(settings, guards={"default": PiiGuard(pii, Failing())}) as room:
        await room.turns.hand_off("c")
        assert outcome(await room.turns.converse(ask("张三的电话"), LONG)) == SILENT


async def test_personal_data_is_masked_all_the_same(open_room: Open) -> None:
    pii = PiiSettings(mode="mask")
    settings = Settings(assistants={"default": AssistantSettings(pii=pii)})
    async with open_room(settings, guards={"default": PiiGuard(pii)}) as room:
        await room.turns.hand_off("c")
        turn = await room.turns.converse(ask("我的电话是13912345678", request_id="m1"), LONG)
        assert outcome(turn) == SILENT
        assert "13912345678" not in (await room.turns.get(TurnName("c", "m1"))).input.text
        again = await room.turns.converse(ask("我的电话是13912345678", request_id="m1"), LONG)
        assert again == turn


async def test_a_silent_turn_is_found_again_by_its_id(open_room: Open) -> None:
    async with open_room() as room:
        await room.turns.hand_off("c")
        turn = await room.turns.converse(ask("在吗", request_id="m1"), LONG)
    async with open_room() as room:
        assert await room.turns.converse(ask("在吗", request_id="m1"), LONG) == turn
        events, same = await follow(room, turn.name)
        assert [type(event) for _, event in events] == [Started, Completed]
        assert same == turn


# --- messages in a row ------------------------------------------------------------------------


async def test_a_request_among_messages_in_a_row_is_not_lost(open_room: Open, model: PlayedModel) -> None:
    settings = Settings(assistants={"default": AssistantSettings(merge_seconds=0.2)})
    ann = Sender("ann")
    row = [wants(text, f"m{number}", sender=ann) for number, text in enumerate(("你好", "转人工", "有人吗"))]
    async with open_room(settings) as room:
        await asyncio.gather(*(room.turns.submit(one, owed()) for one in row))
        await until(lambda: room.register.running == 0)
        turns = [await room.turns.get(one.name) for one in row]
    assert [turn.reply for turn in turns] == ["echo: 你好", TEXTS.handed_over, ""]
    assert [turn.finish_reason for turn in turns[1:]] == [FinishReason.HANDED_OFF] * 2


async def test_a_word_of_the_filter_is_not_lost_in_a_longer_question(open_room: Open, model: PlayedModel) -> None:
    settings = Settings(assistants={"default": AssistantSettings(merge_seconds=0.2)})
    row = [wants(text, f"m{number}", sender=Sender("ann")) for number, text in enumerate(("我要投诉", "今天"))]
    async with open_room(settings, screener=screener()) as room:
        await asyncio.gather(*(room.turns.submit(one, owed()) for one in row))
        await until(lambda: room.register.running == 0)
        turns = [await room.turns.get(one.name) for one in row]
        assert [turn.finish_reason for turn in turns] == [FinishReason.MERGED, FinishReason.HANDED_OFF]
        assert await state(room) is ConversationState.HANDED_OFF


async def test_what_gets_no_answer_need_not_wait_for_a_longer_question(open_room: Open) -> None:
    settings = Settings(assistants={"default": AssistantSettings(merge_seconds=10.0)})
    async with open_room(settings) as room:
        await room.turns.hand_off("c")
        await room.turns.submit(wants("在吗", "m1", sender=Sender("ann")), owed())
        await until(lambda: room.register.running == 0)
        assert outcome(await room.turns.get(TurnName("c", "m1"))) == SILENT


# --- not a word before it is on disk --------------------------------------------------------------


class Gate:
    """A store whose ends wait for the test, or fail."""

    def __init__(self, store: TurnStore) -> None:
        self._store = store
        self.asked = asyncio.Event()
        self.open = asyncio.Event()
        self.broken = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def finish(self, *given: Any, **named: Any) -> None:
        self.asked.set()
        await self.open.wait()
        if self.broken:
            raise StoreUnavailable("turn")
        await self._store.finish(*given, **named)

    async def finish_owed(self, *given: Any, **named: Any) -> None:
        self.asked.set()
        await self.open.wait()
        if self.broken:
            raise StoreUnavailable("turn")
        await self._store.finish_owed(*given, **named)


@pytest.mark.parametrize("by_model", [True, False])
async def test_nobody_reads_of_it_before_it_is_on_disk(open_room: Open, model: PlayedModel, by_model: bool) -> None:
    async def complains(prompt: Prompt, played: PlayedModel) -> AsyncIterator[Chunk]:
        yield Chunk(text="请拨打。" * 40, model="played")
        yield Chunk(text="投诉电话")
        yield done()

    model.play = complains
    gates: list[Gate] = []

    def gated(store: TurnStore) -> Any:
        gates.append(Gate(store))
        return gates[0]

    async with open_room(wrap=gated, screener=screener("pass", "hand_over")) as room:
        question = wants("在吗" if by_model else "转人工", "m1")
        task = asyncio.create_task(room.turns.converse(question, LONG))
        async with asyncio.timeout(5):
            await gates[0].asked.wait()
        before = await room.turns.get(question.name)
        assert before.state is TurnState.RUNNING
        assert TEXTS.handed_over not in before.reply
        live = room.register.find(question.name)
        assert live is not None
        assert TEXTS.handed_over not in "".join(
            event.text for event in live.events.items if isinstance(event, Delta | Replacement)
        )
        gates[0].open.set()
        turn = await task
        assert outcome(turn) == SAID
        events, _ = await follow(room, question.name)
        last = events[-2][1]
        assert isinstance(last, Replacement if by_model else Delta)
        assert last.text == TEXTS.handed_over
    async with open_room() as room:
        assert [event for event, _ in (await follow(room, question.name))[0]] == [event for event, _ in events]
        assert await state(room) is ConversationState.HANDED_OFF


@pytest.mark.parametrize("is_owed", [True, False])
async def test_a_hand_over_that_cannot_be_written_is_not_told(open_room: Open, is_owed: bool) -> None:
    gates: list[Gate] = []

    def gated(store: TurnStore) -> Any:
        gates.append(Gate(store))
        gates[0].broken = True
        gates[0].open.set()
        return gates[0]

    async with open_room(wrap=gated) as room:
        question = wants(request_id="m1")
        if is_owed:
            await room.turns.submit(question, owed())
            with pytest.raises(StoreUnavailable):
                await follow(room, question.name)
        else:
            with pytest.raises(StoreUnavailable):
                await room.turns.converse(question, LONG)
        live = room.register.find(question.name)
        assert live is not None
        assert not any(isinstance(event, Delta | Replacement) for event in live.events.items)
        assert not await room.turns._store.handed_off("c")


@pytest.mark.parametrize("is_owed", [True, False])
async def test_stopping_it_while_it_is_written_changes_nothing(open_room: Open, is_owed: bool) -> None:
    gates: list[Gate] = []

    def gated(store: TurnStore) -> Any:
        gates.append(Gate(store))
        return gates[0]

    async with open_room(wrap=gated) as room:
        question = wants(request_id="m1")
        asking = asyncio.create_task(
            room.turns.submit(question, owed()) if is_owed else room.turns.converse(question, LONG)
        )
        async with asyncio.timeout(5):
            await gates[0].asked.wait()
        stopping = asyncio.create_task(room.turns.cancel(question.name))
        await asyncio.sleep(0)
        gates[0].open.set()
        assert outcome(await stopping) == SAID
        with contextlib.suppress(TurnCancelled):
            await asking
        assert await state(room) is ConversationState.HANDED_OFF


# --- whatever dies ----------------------------------------------------------------------------

SCENE = (wants("你好", "m1"), wants("转人工", "m2"), wants("有人吗", "m3"))
ROBUST = Settings(turns=TurnSettings(max_claims=100), delivery=DeliverySettings(max_retries=1000))


async def keep_delivering(room: TurnRoom, shown: dict[TurnName, str]) -> None:
    """Attaches again whenever it was sent away, and notes what people were shown: one text for one turn."""
    while True:
        with contextlib.suppress(StoreUnavailable):
            async with room.deliveries.attach(hello()) as attachment:
                async for message in attachment.messages():
                    if isinstance(message, Delivery):
                        turn = message.ended_turn
                        if turn is None:
                            _, turn = await follow(room, message.name)
                        assert shown.setdefault(message.name, turn.reply) == turn.reply
                        if turn.finish_reason is FinishReason.HANDED_OFF:
                            assert await room.turns._store.handed_off("c"), "what was shown is so"
                        await report(attachment, message.name)
        await asyncio.sleep(0.01)


async def play(room: TurnRoom, shown: dict[TurnName, str], died: Callable[[], bool] = lambda: False) -> None:
    delivering = asyncio.create_task(keep_delivering(room, shown))
    try:
        for one in SCENE:
            with contextlib.suppress(StoreUnavailable):
                await room.turns.submit(one, owed())
        await until(lambda: len(room.deliveries) == 0 or died(), 10)
    finally:
        delivering.cancel()
        await asyncio.gather(delivering, return_exceptions=True)


@pytest.mark.parametrize("behind", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("write", range(1, 16))
async def test_a_death_at_any_write_loses_no_hand_over(open_room: Open, write: int, behind: bool) -> None:
    shown: dict[TurnName, str] = {}
    stores: list[MortalStore] = []

    def mortal(store: TurnStore) -> Any:
        stores.append(MortalStore(store, write, behind=behind))
        return stores[0]

    async with open_room(ROBUST, drain=0, wrap=mortal) as room:
        await play(room, shown, lambda: stores[0].dead)
    async with open_room(ROBUST) as room:
        await play(room, shown)
        assert await state(room) is ConversationState.HANDED_OFF
        assert len(room.deliveries) == 0
    assert [shown[one.name] for one in SCENE] == ["echo: 你好", TEXTS.handed_over, ""]
