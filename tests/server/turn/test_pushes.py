"""Messages that programs push: taken on once, filtered, offered in order, and never lost."""

import asyncio
import contextlib
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import pytest

from server.budget import Budget
from server.domain import Content, DeliveryState, FinishReason, MediaPart, Push, TextPart, Turn, TurnName, TurnState
from server.errors import (
    InputTooLong,
    InvalidField,
    Overloaded,
    RequestIdReused,
    ResourceNotFound,
    ShuttingDown,
    StoreUnavailable,
)
from server.filter.policy import Policy
from server.filter.screening import ListScreener
from server.settings import ActionName, DeliverySettings, PolicySettings, Settings, TurnSettings
from server.store.base import TurnStore
from server.turn.base import Delivery
from server.turn.pushes import push_conversation
from server.turn.room import TurnRoom
from tests.server.filter.lists import small_list
from tests.server.turn.conftest import (
    ACCOUNT,
    LONG,
    PlayedModel,
    ask,
    follow,
    hello,
    next_delivery,
    owed,
    report,
    until,
)
from tests.server.turn.judge import Judge, second_opinion
from tests.server.turn.mortal import MortalStore

Open = Callable[..., AbstractAsyncContextManager[TurnRoom]]
PICTURE = MediaPart("image/png", b"\x89PNG", display_name="图.png")


def push(
    text: str = "报警", request_id: str = "p1", recipient: str = "user:u", *parts: TextPart | MediaPart, **fields: Any
) -> Push:
    made = Push(ACCOUNT, recipient, Content((TextPart(text), *parts)), request_id, "default", "ops")
    return msgspec.structs.replace(made, **fields)


def screener(said: ActionName) -> ListScreener:
    words = small_list([("机密", "any")], [])
    return ListScreener(lambda: words, {"default": Policy(PolicySettings(other_output=said))})


async def offered(room: TurnRoom, count: int) -> list[Delivery]:
    async with room.deliveries.attach(hello(ended_only=True)) as attachment:
        return [await next_delivery(attachment) for _ in range(count)]


# --- taken on ---------------------------------------------------------------------------------


async def test_a_push_is_a_turn_that_has_ended(room: TurnRoom, model: PlayedModel) -> None:
    turn = await room.pushes.push(push("报警", "p1", "user:u", PICTURE), LONG)
    assert turn.name == TurnName(push_conversation(ACCOUNT, "user:u"), "p1")
    assert (turn.state, turn.finish_reason, turn.delivery_state) == (
        TurnState.SUCCEEDED,
        FinishReason.STOP,
        DeliveryState.OWED,
    )
    assert (turn.input, turn.reply, turn.pushed) == (Content(), "报警", Content((TextPart("报警"), PICTURE)))
    assert (turn.assistant, turn.channel) == ("default", "test")
    assert await room.turns.get(turn.name) == turn
    assert (await room.turns.list_turns(turn.name.conversation, 5, "")).turns == (turn.without_bytes(),)
    assert (await follow(room, turn.name))[1] == turn
    assert (await room.turns.conversation(turn.name.conversation)).remembered_message_count == 0
    assert not model.prompts


async def test_the_same_push_is_taken_on_once(room: TurnRoom) -> None:
    first, second = await asyncio.gather(*(room.pushes.push(push(), LONG) for _ in range(2)))
    assert first == second == await room.pushes.push(push(), LONG)
    assert len(room.deliveries) == 1
    for other in (push("别的"), push("报警", "p1", "user:u", PICTURE)):
        with pytest.raises(RequestIdReused):
            await room.pushes.push(other, LONG)
    for elsewhere in (push(recipient="user:v"), push(account="channels/test/accounts/two")):
        assert (await room.pushes.push(elsewhere, LONG)).name != first.name
    assert len(room.deliveries) == 3


async def test_a_turn_of_that_name_that_was_not_pushed_stands(room: TurnRoom) -> None:
    name = push_conversation(ACCOUNT, "user:u")
    await room.turns.submit(ask("报警", name, "p1"), owed())
    with pytest.raises(RequestIdReused):
        await room.pushes.push(push(), LONG)


@pytest.mark.parametrize("account", ["channels/a/accounts/b", f"channels/{'c' * 64}/accounts/{'A.z_-9' * 10}abcd"])
def test_the_name_of_a_conversation_fits(account: str) -> None:
    names = {push_conversation(account, recipient) for recipient in ("", "user:u", "聊" * 256)}
    assert len(names) == 3
    assert all(re.fullmatch(r"[a-zA-Z0-9._~-]{1,128}", name) for name in names)


async def test_what_cannot_be_taken_on_leaves_nothing(open_room: Open) -> None:
    settings = Settings(turns=TurnSettings(max_input_characters=10))
    async with open_room(settings) as room:
        with pytest.raises(InputTooLong):
            await room.pushes.push(push("长" * 11), LONG)
        with pytest.raises(ResourceNotFound):
            await room.pushes.push(push(assistant="nobody"), LONG)
        assert len(room.deliveries) == 0
        room.refuse_new()
        with pytest.raises(ShuttingDown):
            await room.pushes.push(push(), LONG)


async def test_too_many_for_one_account_are_refused_until_some_have_arrived(open_room: Open) -> None:
    settings = Settings(delivery=DeliverySettings(max_owed_pushes=2))
    async with open_room(settings) as room:
        results = await asyncio.gather(
            *(room.pushes.push(push(request_id=f"p{number}"), LONG) for number in range(4)), return_exceptions=True
        )
        refused = [result for result in results if isinstance(result, Overloaded)]
        assert len(refused) == 2
        assert refused[0].retry_after
        assert ACCOUNT in refused[0].message
        await room.pushes.push(push(account="channels/test/accounts/two"), LONG)
        await room.pushes.push(push(request_id="p0"), LONG)  # what was taken on before is found all the same
        async with room.deliveries.attach(hello(ended_only=True)) as attachment:
            await report(attachment, (await next_delivery(attachment)).name)
        await room.pushes.push(push(request_id="p9"), LONG)
    async with open_room(settings) as room:
        with pytest.raises(Overloaded):
            await room.pushes.push(push(request_id="p10"), LONG)


async def test_too_large_ones_together_are_refused_until_some_have_arrived(open_room: Open) -> None:
    settings = Settings(delivery=DeliverySettings(max_owed_push_mebibytes=24))

    def large(number: int) -> Push:
        return push("图", f"p{number}", "user:u", MediaPart("image/png", bytes((number,)) * (10 << 20)))

    async with open_room(settings) as room:
        results = await asyncio.gather(*(room.pushes.push(large(n), LONG) for n in range(3)), return_exceptions=True)
        (refused,) = [result for result in results if isinstance(result, Overloaded)]
        assert "24 MiB" in refused.message
        await room.pushes.push(push("小", "small"), LONG)
        await room.pushes.push(msgspec.structs.replace(large(4), account="channels/test/accounts/two"), LONG)
    async with open_room(settings) as room:
        with pytest.raises(Overloaded):
            await room.pushes.push(large(5), LONG)
        async with room.deliveries.attach(hello(ended_only=True)) as attachment:
            await report(attachment, (await next_delivery(attachment)).name)
        await room.pushes.push(large(5), LONG)
        with pytest.raises(Overloaded):
            await room.pushes.push(large(6), LONG)


async def test_a_caller_that_gives_up_changes_nothing(room: TurnRoom) -> None:
    task = asyncio.create_task(room.pushes.push(push(), LONG))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: len(room.deliveries) == 1)


# --- the filter ---------------------------------------------------------------------------------


async def test_what_is_masked_is_sent_masked_and_the_same_push_is_still_known(open_room: Open) -> None:
    async with open_room(screener=screener("mask")) as room:
        turn = await room.pushes.push(push("机密文件"), LONG)
        assert turn.reply == "＊＊文件"
        assert turn.pushed == Content((TextPart("＊＊文件"),))
        assert await room.pushes.push(push("机密文件"), LONG) == turn
        with pytest.raises(RequestIdReused):
            await room.pushes.push(push("＊＊文件"), LONG)
    async with open_room(screener=screener("block")) as room:
        assert await room.pushes.push(push("机密文件"), LONG) == turn, "what was taken on is not judged anew"


@pytest.mark.parametrize("action", ["block", "hand_over"])
async def test_what_is_stopped_is_refused_by_its_place(open_room: Open, action: ActionName) -> None:
    async with open_room(screener=screener(action)) as room:
        with pytest.raises(InvalidField) as caught:
            await room.pushes.push(push("好", "p1", "user:u", PICTURE, TextPart("机密")), LONG)
        assert caught.value.field == "content.parts[2].text"
        assert "机密" not in caught.value.message
        assert len(room.deliveries) == 0


async def test_a_second_opinion_is_asked_too(open_room: Open) -> None:
    async with open_room(moderation=second_opinion(Judge("坏"))) as room:
        await room.pushes.push(push("好消息"), LONG)
        with pytest.raises(InvalidField, match="output filter"):
            await room.pushes.push(push("坏消息", "p2"), LONG)


# --- on the way ------------------------------------------------------------------------------------


async def test_it_is_offered_whole_with_its_recipient(room: TurnRoom) -> None:
    turn = await room.pushes.push(push("报警", "p1", "user:u", PICTURE), LONG)
    await room.turns.submit(ask(request_id="m1"), owed(b"to"))
    await until(lambda: room.register.running == 0)
    deliveries = {delivery.pushed: delivery for delivery in await offered(room, 2)}
    pushed, answer = deliveries[True], deliveries[False]
    assert (pushed.name, pushed.address, pushed.recipient) == (turn.name, b"", "user:u")
    assert pushed.ended_turn == turn
    assert (answer.address, answer.recipient) == (b"to", "")


async def test_pushes_to_one_recipient_come_one_at_a_time_in_order(room: TurnRoom) -> None:
    for number in range(3):
        await room.pushes.push(push(f"{number}", f"p{number}"), LONG)
    await room.pushes.push(push("other", recipient="user:v"), LONG)
    async with room.deliveries.attach(hello(ended_only=True)) as attachment:
        first, other = [await next_delivery(attachment) for _ in range(2)]
        assert (first.name.request_id, other.recipient) == ("p0", "user:v")
        seen = [first.name.request_id]
        await report(attachment, first.name, "retry")
        for _ in range(3):
            delivery = await next_delivery(attachment)
            seen.append(delivery.name.request_id)
            await report(attachment, delivery.name)
    assert seen == ["p0", "p0", "p1", "p2"]


async def test_it_follows_the_rules_of_all_deliveries(open_room: Open) -> None:
    async with open_room(Settings(delivery=DeliverySettings(max_retries=1))) as room:
        name = (await room.pushes.push(push("报警", "p1", "user:u", PICTURE), LONG)).name
        async with room.deliveries.attach(hello(ended_only=True)) as attachment:
            assert (await next_delivery(attachment)).attempt == 1
        async with room.deliveries.attach(hello(ended_only=True)) as attachment:
            for attempt in (2, 3):
                delivery = await next_delivery(attachment)
                assert delivery.attempt == attempt
                assert delivery.ended_turn is not None
                assert delivery.ended_turn.pushed == Content((TextPart("报警"), PICTURE))
                await report(attachment, name, "retry", progress=b"1/2")
        assert (await room.turns.get(name)).delivery_state is DeliveryState.UNDELIVERABLE
        assert await room.turns._store.replay_undeliverable(ACCOUNT) == 1
        await room._debts.recover()
        (delivery,) = await offered(room, 1)
        assert (delivery.recipient, delivery.progress) == ("user:u", b"1/2")


async def test_what_waits_is_not_held_in_memory(room: TurnRoom) -> None:
    await room.pushes.push(push("报警", "p1", "user:u", MediaPart("image/png", b"x" * 1_000_000)), LONG)
    (debt,) = room.deliveries._debts.values()
    assert debt.turn.pushed == Content()


async def test_a_push_that_is_deleted_is_not_offered(room: TurnRoom) -> None:
    name = (await room.pushes.push(push(), LONG)).name
    await room.pushes.push(push(recipient="user:v"), LONG)
    await room.turns.delete(name.conversation)
    (delivery,) = await offered(room, 1)
    assert delivery.recipient == "user:v"


# --- whatever dies ----------------------------------------------------------------------------------

SCENE = (push("一", "p1"), push("二", "p2"), push("三", "p3", "user:v"))
ROBUST = Settings(delivery=DeliverySettings(max_retries=1000))


async def keep_delivering(room: TurnRoom, shown: list[Turn]) -> None:
    while True:
        with contextlib.suppress(StoreUnavailable):
            async with room.deliveries.attach(hello(ended_only=True)) as attachment:
                async for message in attachment.messages():
                    if isinstance(message, Delivery):
                        assert message.ended_turn is not None
                        shown.append(message.ended_turn)
                        await report(attachment, message.name)
        await asyncio.sleep(0.01)


async def play(room: TurnRoom, shown: list[Turn], died: Callable[[], bool] = lambda: False) -> None:
    delivering = asyncio.create_task(keep_delivering(room, shown))
    try:
        for one in SCENE:
            with contextlib.suppress(StoreUnavailable):
                await room.pushes.push(one, Budget(5))
        await until(lambda: len(room.deliveries) == 0 or died(), 10)
    finally:
        delivering.cancel()
        await asyncio.gather(delivering, return_exceptions=True)


@pytest.mark.parametrize("behind", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("write", range(1, 10))
async def test_a_death_at_any_write_loses_no_push(open_room: Open, write: int, behind: bool) -> None:
    shown: list[Turn] = []
    stores: list[MortalStore] = []

    def mortal(store: TurnStore) -> Any:
        stores.append(MortalStore(store, write, behind=behind))
        return stores[0]

    async with open_room(ROBUST, drain=0, wrap=mortal) as room:
        await play(room, shown, lambda: stores[0].dead)
    assert stores[0].dead
    async with open_room(ROBUST) as room:
        await play(room, shown)
        assert len(room.deliveries) == 0
        for one in SCENE:
            turn = await room.pushes.push(one, LONG)
            assert turn.delivery_state is DeliveryState.DELIVERED
    first = [turn.reply for index, turn in enumerate(shown) if turn not in shown[:index]]
    assert sorted(first) == ["一", "三", "二"]
    assert first.index("一") < first.index("二")


async def test_a_push_of_which_nobody_heard_is_found_by_the_sweep(open_room: Open) -> None:
    def mortal(store: TurnStore) -> Any:
        return MortalStore(store, 1, behind=True)

    async with open_room(wrap=mortal) as room:
        with pytest.raises(StoreUnavailable):
            await room.pushes.push(push(), LONG)
        assert room._debts._left.is_set(), "the disk is searched soon"
