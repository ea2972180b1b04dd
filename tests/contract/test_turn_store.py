"""Every promise of ``server/store/base.py``, asked of each backend through the protocol alone."""

import asyncio
import copy
import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.domain import (
    Ask,
    CacheOutcome,
    Content,
    ConversationState,
    DeliveryState,
    Delta,
    Failure,
    FinishReason,
    MediaPart,
    Owed,
    Rating,
    Reasoning,
    Replacement,
    ReplacementCause,
    Said,
    Sender,
    TextPart,
    Turn,
    TurnName,
    TurnOptions,
    TurnState,
    Usage,
    digest,
)
from server.errors import InvalidField, ResourceNotFound, StoreUnavailable
from server.store.base import DeliveryReport, Retention, StaleEpoch, StoredTurn, TurnStore

OWED = Owed("channels/wecom/accounts/desk", b"\x00address\xff")
EVENTS = (
    Reasoning("想一想"),
    Delta("你好"),
    Replacement("", ReplacementCause.FAILOVER),
    Delta("您好,"),
    Delta("请讲"),
)


def ask_of(request_id: str, conversation: str = "wecom.desk.abc", text: str = "在吗", **more: Any) -> Ask:
    fields: dict[str, Any] = {"repeatable": True, "assistant": "default", "sender": Sender("u1", "张三")}
    return Ask(TurnName(conversation, request_id), Content.of_text(text), **(fields | {"channel": "wecom"} | more))


def ended_turn(ask: Ask, state: TurnState = TurnState.SUCCEEDED, **more: Any) -> Turn:
    """A turn as the engine hands it over at its end; memory may use it unless ``more`` says otherwise."""
    fields: dict[str, Any] = {
        "create_time": 100.0,
        "end_time": 101.5,
        "assistant": ask.assistant,
        "channel": ask.channel,
        "sender": ask.sender,
        "reply": f"答 {ask.name.request_id}",
        "finish_reason": FinishReason.STOP,
    }
    return Turn(ask.name, state, ask.input, **(fields | more))


async def found(store: TurnStore, name: TurnName) -> StoredTurn:
    stored = await store.find(name)
    assert stored is not None
    return stored


async def owe(store: TurnStore, request_id: str, *, time: float = 100.0, claim: bool = True, **more: Any) -> StoredTurn:
    accepted = await store.accept(ask_of(request_id, **more), OWED, time=time, claim=claim)
    assert accepted.created
    return accepted.stored


async def owe_ended(store: TurnStore, request_id: str, *, end_time: float = 101.5, **more: Any) -> StoredTurn:
    stored = await owe(store, request_id, **more)
    turn = ended_turn(stored.ask, end_time=end_time)
    await store.finish_owed(turn, EVENTS, epoch=1)
    return await found(store, stored.turn.name)


# --- accept ---------------------------------------------------------------------------


async def test_an_accepted_turn_waits_with_all_that_was_asked(turn_store: TurnStore) -> None:
    ask = ask_of(
        "m1",
        language_code="zh-CN",
        caller="desk",
        options=TurnOptions(model="fast", temperature=0.1, bypass_cache=True, intent="technical"),
        history=(Said(True, "我叫小明"), Said(False, "你好")),
        via=("edge-1", "edge-2"),
    )
    accepted = await turn_store.accept(ask, OWED, time=100.25, claim=False)
    stored = accepted.stored
    assert accepted.created
    assert stored.turn == Turn(
        ask.name,
        TurnState.QUEUED,
        ask.input,
        100.25,
        assistant="default",
        channel="wecom",
        sender=ask.sender,
        delivery_state=DeliveryState.OWED,
    )
    assert (stored.ask, stored.owed, stored.input_digest) == (ask, OWED, digest(ask.input))
    assert (await found(turn_store, ask.name)).ask == ask
    assert (stored.epoch, stored.attempts, stored.offers, stored.retries) == (0, 0, 0, 0)
    assert (stored.sequence, stored.events, stored.progress, stored.deliver_after) == (1, (), b"", 0.0)
    assert await turn_store.find(ask.name) == stored


async def test_a_turn_that_starts_at_once_is_claimed_by_its_acceptance(turn_store: TurnStore) -> None:
    stored = await owe(turn_store, "m1", claim=True)
    assert (stored.turn.state, stored.epoch, stored.attempts) == (TurnState.RUNNING, 1, 1)
    assert await turn_store.find(stored.turn.name) == stored


async def test_a_turn_that_never_runs_is_accepted_with_its_end(turn_store: TurnStore) -> None:
    ask = ask_of("m1")
    failure = Failure("OVERLOADED", "full", {"a": "b"}, 2.5)
    final = ended_turn(ask, TurnState.FAILED, reply="请稍后再试", failure=failure)
    stored = (await turn_store.accept(ask, OWED, time=100.0, claim=False, final=final)).stored
    assert (stored.turn.state, stored.turn.reply, stored.turn.failure) == (TurnState.FAILED, "请稍后再试", failure)
    assert (stored.turn.delivery_state, stored.turn.end_time) == (DeliveryState.OWED, 101.5)
    assert await turn_store.find(ask.name) == stored
    assert await turn_store.unsettled() == (stored,)


async def test_a_second_acceptance_finds_the_first(turn_store: TurnStore) -> None:
    first = await owe(turn_store, "m1")
    again = await turn_store.accept(ask_of("m1", text="别的"), Owed("channels/x/accounts/y"), time=200.0, claim=False)
    assert not again.created
    assert again.stored == first == await turn_store.find(first.turn.name)


@pytest.mark.parametrize("state", [TurnState.SUCCEEDED, TurnState.FAILED, TurnState.CANCELLED])
async def test_an_acceptance_finds_a_turn_that_went_to_its_caller(turn_store: TurnStore, state: TurnState) -> None:
    ask = ask_of("m1")
    await turn_store.finish(ended_turn(ask, state), ask, EVENTS)
    accepted = await turn_store.accept(ask, OWED, time=200.0, claim=True)
    assert not accepted.created
    assert accepted.stored.turn.state is state
    assert await turn_store.unsettled() == ()


async def test_of_concurrent_acceptances_of_one_name_exactly_one_creates(turn_store: TurnStore) -> None:
    accepted = await asyncio.gather(
        *(turn_store.accept(ask_of("m1", text=f"第 {i} 次"), OWED, time=100.0, claim=True) for i in range(20))
    )
    assert [one.created for one in accepted].count(True) == 1
    assert len({one.stored.sequence for one in accepted}) == 1
    assert {one.stored.ask.input.text for one in accepted} == {"第 0 次"}


async def test_the_same_request_id_in_two_conversations_is_two_turns(turn_store: TurnStore) -> None:
    one = await owe(turn_store, "m1", conversation="a")
    other = await owe(turn_store, "m1", conversation="b")
    assert one.sequence < other.sequence
    assert len(await turn_store.unsettled()) == 2


async def test_writes_take_effect_and_return_in_the_order_of_asking(turn_store: TurnStore) -> None:
    order: list[int] = []

    async def submit(number: int) -> int:
        stored = await owe(turn_store, f"m{number}")
        order.append(number)
        return stored.sequence

    sequences = await asyncio.gather(*(submit(number) for number in range(100)))
    assert sequences == sorted(sequences)
    assert order == list(range(100))


# --- claim, finish_owed ---------------------------------------------------------------


async def test_every_claim_raises_epoch_and_attempts(turn_store: TurnStore) -> None:
    stored = await owe(turn_store, "m1", claim=False)
    for count in (1, 2, 3):
        claimed = await turn_store.claim(stored.turn.name)
        assert (claimed.turn.state, claimed.epoch, claimed.attempts) == (TurnState.RUNNING, count, count)
        assert await turn_store.find(stored.turn.name) == claimed


async def test_a_turn_that_does_not_exist_cannot_be_claimed(turn_store: TurnStore) -> None:
    with pytest.raises(ResourceNotFound):
        await turn_store.claim(TurnName("nobody", "m1"))


async def test_a_turn_that_has_ended_is_not_claimed_again(turn_store: TurnStore) -> None:
    ended = await owe_ended(turn_store, "m1")
    assert await turn_store.claim(ended.turn.name) == ended
    assert await turn_store.find(ended.turn.name) == ended


async def test_the_end_of_an_owed_turn_is_kept_whole_and_stays_owed(turn_store: TurnStore) -> None:
    stored = await owe(turn_store, "m1")
    turn = ended_turn(
        stored.ask,
        usage=Usage(120, 34, 2),
        model="fast-1",
        cache_outcome=CacheOutcome.MISS,
        first_delta_latency=0.25,
        finish_reason=FinishReason.LENGTH,
        delivery_state=DeliveryState.OWED,
    )
    await turn_store.finish_owed(turn, EVENTS, epoch=1)
    assert await found(turn_store, turn.name) == msgspec.structs.replace(stored, turn=turn, events=EVENTS)
    assert [one.turn for one in await turn_store.unsettled()] == [turn]


async def test_an_end_is_what_it_was_when_it_was_handed_over(turn_store: TurnStore) -> None:
    stored = await owe(turn_store, "m1")
    turn = ended_turn(stored.ask)
    events = [Delta("一")]
    writing = asyncio.ensure_future(turn_store.finish_owed(turn, events, epoch=1))
    await asyncio.sleep(0)
    turn.reply = "变了"
    events.append(Delta("二"))
    await writing
    kept = await found(turn_store, turn.name)
    assert (kept.turn.reply, kept.events) == ("答 m1", (Delta("一"),))


@pytest.mark.parametrize("epoch", [0, 1, 3])
async def test_a_worker_of_another_claim_cannot_write(turn_store: TurnStore, epoch: int) -> None:
    stored = await owe(turn_store, "m1")
    claimed = await turn_store.claim(stored.turn.name)
    with pytest.raises(StaleEpoch):
        await turn_store.finish_owed(ended_turn(stored.ask), EVENTS, epoch=epoch)
    assert await turn_store.find(stored.turn.name) == claimed


async def test_the_end_of_a_turn_that_is_gone_is_stale(turn_store: TurnStore) -> None:
    stored = await owe(turn_store, "m1")
    await turn_store.delete_conversation(stored.turn.name.conversation)
    with pytest.raises(StaleEpoch):
        await turn_store.finish_owed(ended_turn(stored.ask), EVENTS, epoch=1)
    assert await turn_store.find(stored.turn.name) is None


async def test_a_worker_may_repeat_its_end(turn_store: TurnStore) -> None:
    stored = await owe(turn_store, "m1")
    for _ in range(2):
        await turn_store.finish_owed(ended_turn(stored.ask), EVENTS, epoch=1)
    assert (await found(turn_store, stored.turn.name)).turn.state is TurnState.SUCCEEDED


async def test_a_waiting_turn_can_be_ended_without_a_claim(turn_store: TurnStore) -> None:
    stored = await owe(turn_store, "m1", claim=False)
    await turn_store.finish_owed(ended_turn(stored.ask, TurnState.CANCELLED), (), epoch=0)
    kept = await found(turn_store, stored.turn.name)
    assert (kept.turn.state, kept.attempts) == (TurnState.CANCELLED, 0)


# --- merge ----------------------------------------------------------------------------


def merged_turn(stored: StoredTurn) -> Turn:
    return ended_turn(stored.ask, reply="", finish_reason=FinishReason.MERGED)


async def test_a_message_is_answered_with_the_one_behind_it(turn_store: TurnStore) -> None:
    first = await owe(turn_store, "m1", claim=False, text="我想问一下")
    second = await owe(turn_store, "m2", claim=False, text="年假有几天")
    merged = await turn_store.merge(merged_turn(first), second.turn.name)
    assert merged is not None
    assert merged.settled
    assert merged.input.text == "我想问一下\n年假有几天"
    ended = await found(turn_store, first.turn.name)
    assert (ended.turn.state, ended.turn.finish_reason) == (TurnState.SUCCEEDED, FinishReason.MERGED)
    assert (ended.turn.delivery_state, ended.turn.reply) == (DeliveryState.DELIVERED, "")
    assert ended.turn.input.text == "我想问一下"
    (waiting,) = await turn_store.unsettled()
    assert waiting.turn.input == waiting.ask.input == merged.input
    assert waiting.input_digest == second.input_digest, "a redelivery of it is still recognised"
    claimed = await turn_store.claim(second.turn.name)
    assert claimed.ask.input == merged.input


async def test_messages_in_a_row_are_kept_in_order_and_remembered_as_one_question(turn_store: TurnStore) -> None:
    turns = [await owe(turn_store, f"m{number}", claim=False, text=f"第{number}句") for number in (1, 2, 3)]
    for earlier, later in itertools.pairwise(turns):
        assert await turn_store.merge(merged_turn(earlier), later.turn.name) is not None
    last = await turn_store.claim(turns[-1].turn.name)
    await turn_store.finish_owed(ended_turn(last.ask), EVENTS, epoch=1)
    (only,) = await turn_store.recent_rounds("wecom.desk.abc", 10)
    assert (only.question, only.answer) == ("张三:第1句\n第2句\n第3句", "答 m3")


async def test_a_merged_turn_that_was_offered_stays_owed_until_its_channel_has_heard(turn_store: TurnStore) -> None:
    first = await owe(turn_store, "m1", claim=False)
    second = await owe(turn_store, "m2", claim=False)
    await turn_store.record_offer(first.turn.name)
    merged = await turn_store.merge(merged_turn(first), second.turn.name)
    assert merged is not None
    assert not merged.settled
    assert [stored.turn.name for stored in await turn_store.unsettled()] == [first.turn.name, second.turn.name]


@pytest.mark.parametrize("which", ["earlier", "later"])
@pytest.mark.parametrize("fate", ["claimed", "ended", "gone"])
async def test_what_does_not_wait_is_not_merged(turn_store: TurnStore, which: str, fate: str) -> None:
    first = await owe(turn_store, "m1", claim=False)
    second = await owe(turn_store, "m2", claim=False)
    spoilt = first if which == "earlier" else second
    into = second.turn.name
    if fate == "claimed":
        await turn_store.claim(spoilt.turn.name)
    elif fate == "ended":
        await turn_store.finish_owed(ended_turn(spoilt.ask), EVENTS, epoch=0)
    elif which == "later":
        into = TurnName("wecom.desk.abc", "never")
    else:
        first = msgspec.structs.replace(first, ask=ask_of("never"))
    before = [await turn_store.find(stored.turn.name) for stored in (first, second)]
    assert await turn_store.merge(merged_turn(first), into) is None
    assert [await turn_store.find(stored.turn.name) for stored in (first, second)] == before


async def test_turns_of_two_accounts_are_not_merged(turn_store: TurnStore) -> None:
    first = await owe(turn_store, "m1", claim=False)
    elsewhere = await turn_store.accept(ask_of("m2"), Owed("channels/wecom/accounts/other"), time=100.0, claim=False)
    assert await turn_store.merge(merged_turn(first), elsewhere.stored.turn.name) is None


async def test_a_settled_turn_is_not_merged(turn_store: TurnStore) -> None:
    first = await owe(turn_store, "m1", claim=False)
    second = await owe(turn_store, "m2", claim=False)
    await turn_store.record_report(DeliveryReport(second.turn.name, "undeliverable", time=110.0))
    assert await turn_store.merge(merged_turn(first), second.turn.name) is None


# --- deliveries -----------------------------------------------------------------------


async def test_offers_are_counted_from_one(turn_store: TurnStore) -> None:
    name = (await owe_ended(turn_store, "m1")).turn.name
    assert [await turn_store.record_offer(name) for _ in range(3)] == [1, 2, 3]
    assert (await found(turn_store, name)).offers == 3


async def test_a_turn_that_does_not_exist_cannot_be_offered(turn_store: TurnStore) -> None:
    with pytest.raises(ResourceNotFound):
        await turn_store.record_offer(TurnName("nobody", "m1"))


@pytest.mark.parametrize(
    ("outcome", "state"),
    [("delivered", DeliveryState.DELIVERED), ("undeliverable", DeliveryState.UNDELIVERABLE)],
)
async def test_a_settled_delivery_is_no_longer_owed(turn_store: TurnStore, outcome: str, state: DeliveryState) -> None:
    ended = await owe_ended(turn_store, "m1")
    await turn_store.record_report(DeliveryReport(ended.turn.name, outcome, b"2/2", detail="d", time=110.0))
    kept = await found(turn_store, ended.turn.name)
    expected = copy.copy(ended.turn)
    expected.delivery_state = state
    assert kept == msgspec.structs.replace(ended, turn=expected, progress=b"2/2")
    assert await turn_store.unsettled() == ()


@pytest.mark.parametrize("first", ["delivered", "undeliverable"])
@pytest.mark.parametrize("second", ["progress", "retry", "waiting", "delivered", "undeliverable"])
async def test_what_is_settled_stays_settled(turn_store: TurnStore, first: str, second: str) -> None:
    name = (await owe_ended(turn_store, "m1")).turn.name
    await turn_store.record_report(DeliveryReport(name, first, b"a", time=110.0))
    settled = await found(turn_store, name)
    await turn_store.record_report(DeliveryReport(name, second, b"b", 999.0, "late", 120.0))
    assert await found(turn_store, name) == settled


async def test_progress_is_kept_for_the_next_attempt(turn_store: TurnStore) -> None:
    name = (await owe_ended(turn_store, "m1")).turn.name
    await turn_store.record_report(DeliveryReport(name, "progress", b"1/3", time=110.0))
    await turn_store.record_report(DeliveryReport(name, "progress", None, time=111.0))
    (kept,) = await turn_store.unsettled()
    assert (kept.progress, kept.retries, kept.turn.delivery_state) == (b"1/3", 0, DeliveryState.OWED)


async def test_a_retry_is_counted_and_waits(turn_store: TurnStore) -> None:
    name = (await owe_ended(turn_store, "m1")).turn.name
    await turn_store.record_report(DeliveryReport(name, "retry", b"1/3", 130.0, "45009", 110.0))
    await turn_store.record_report(DeliveryReport(name, "retry", None, 150.0, "45009", 131.0))
    (kept,) = await turn_store.unsettled()
    assert (kept.retries, kept.deliver_after, kept.progress) == (2, 150.0, b"1/3")
    assert kept.turn.delivery_state is DeliveryState.OWED


async def test_waiting_is_not_counted(turn_store: TurnStore) -> None:
    name = (await owe_ended(turn_store, "m1")).turn.name
    await turn_store.record_report(DeliveryReport(name, "waiting", b"1/3", 130.0, "95001", 110.0))
    (kept,) = await turn_store.unsettled()
    assert (kept.retries, kept.deliver_after, kept.progress) == (0, 130.0, b"1/3")


async def test_a_report_on_nothing_changes_nothing(turn_store: TurnStore) -> None:
    await turn_store.record_report(DeliveryReport(TurnName("nobody", "m1"), "delivered", time=1.0))
    ask = ask_of("m1")
    await turn_store.finish(ended_turn(ask), ask, ())
    await turn_store.record_report(DeliveryReport(ask.name, "delivered", time=1.0))
    assert (await found(turn_store, ask.name)).turn.delivery_state is DeliveryState.NOT_OWED


async def test_an_outcome_that_is_none_is_refused(turn_store: TurnStore) -> None:
    name = (await owe_ended(turn_store, "m1")).turn.name
    with pytest.raises(ValueError, match="lost"):
        await turn_store.record_report(DeliveryReport(name, "lost"))


async def test_unsettled_turns_come_in_order_of_arrival_whatever_their_state(turn_store: TurnStore) -> None:
    waiting = await owe(turn_store, "m1", claim=False)
    running = await owe(turn_store, "m2", conversation="other")
    ended = await owe_ended(turn_store, "m3")
    settled = await owe_ended(turn_store, "m4")
    await turn_store.record_report(DeliveryReport(settled.turn.name, "delivered", time=110.0))
    ask = ask_of("m5")
    await turn_store.finish(ended_turn(ask), ask, ())
    await turn_store.claim(waiting.turn.name)
    assert [one.turn.name for one in await turn_store.unsettled()] == [
        waiting.turn.name,
        running.turn.name,
        ended.turn.name,
    ]
    assert (await turn_store.unsettled())[2] == ended


async def test_undeliverable_turns_can_be_owed_again(turn_store: TurnStore) -> None:
    ended = await owe_ended(turn_store, "m1")
    name = ended.turn.name
    await turn_store.record_offer(name)
    await turn_store.record_report(DeliveryReport(name, "retry", b"1/2", 130.0, time=110.0))
    await turn_store.record_report(DeliveryReport(name, "undeliverable", time=131.0))
    assert await turn_store.replay_undeliverable("channels/wecom/accounts/other") == 0
    assert await turn_store.replay_undeliverable(OWED.account) == 1
    assert await turn_store.replay_undeliverable(OWED.account) == 0
    (kept,) = await turn_store.unsettled()
    assert (kept.turn, kept.events, kept.owed) == (ended.turn, EVENTS, OWED)
    assert (kept.retries, kept.offers, kept.progress) == (0, 1, b"1/2")
    assert kept.deliver_after > 130.0


async def test_all_accounts_can_be_replayed_together(turn_store: TurnStore) -> None:
    for number, account in enumerate(("a", "b", "a")):
        ask = ask_of(f"m{number}")
        await turn_store.accept(ask, Owed(account), time=100.0, claim=True)
        outcome = "undeliverable" if number < 2 else "delivered"
        await turn_store.record_report(DeliveryReport(ask.name, outcome, time=110.0))
    assert await turn_store.replay_undeliverable() == 2
    assert [one.turn.name.request_id for one in await turn_store.unsettled()] == ["m0", "m1"]


# --- finish ---------------------------------------------------------------------------


async def test_a_turn_of_a_caller_is_kept_whole(turn_store: TurnStore) -> None:
    ask = ask_of("m1", repeatable=False, caller="hr")
    turn = ended_turn(ask, usage=Usage(1, 2, 3), model="m", cache_outcome=CacheOutcome.HIT, first_delta_latency=0.5)
    await turn_store.finish(turn, ask, EVENTS)
    stored = await found(turn_store, ask.name)
    assert stored == StoredTurn(turn, ask, digest(ask.input), sequence=1, events=EVENTS)


@pytest.mark.parametrize("state", [TurnState.FAILED, TurnState.CANCELLED])
async def test_an_end_without_an_answer_gives_way(turn_store: TurnStore, state: TurnState) -> None:
    ask, other = ask_of("m1", text="旧"), ask_of("m2")
    failed = ended_turn(ask, state, reply="半", failure=Failure("INTERNAL_ERROR"), finish_reason=FinishReason(0))
    await turn_store.finish(failed, ask, EVENTS)
    await turn_store.finish(ended_turn(other), other, ())
    again = ask_of("m1", text="旧")
    await turn_store.finish(ended_turn(again, create_time=150.0, end_time=151.0), again, ())
    stored = await found(turn_store, ask.name)
    assert stored.turn == ended_turn(again, create_time=150.0, end_time=151.0)
    assert stored.events == ()
    page = await turn_store.list_turns("wecom.desk.abc", 10, "")
    assert [turn.name.request_id for turn in page.turns] == ["m1", "m2"]


@pytest.mark.parametrize("state", [TurnState.SUCCEEDED, TurnState.FAILED])
async def test_the_first_answer_stands(turn_store: TurnStore, state: TurnState) -> None:
    ask = ask_of("m1")
    await turn_store.finish(ended_turn(ask, reply="先"), ask, EVENTS)
    await turn_store.finish(ended_turn(ask, state, reply="后"), ask, ())
    stored = await found(turn_store, ask.name)
    assert (stored.turn.reply, stored.events) == ("先", EVENTS)


@pytest.mark.parametrize("state", [TurnState.SUCCEEDED, TurnState.FAILED])
async def test_an_owed_turn_does_not_give_way(turn_store: TurnStore, state: TurnState) -> None:
    stored = await owe(turn_store, "m1")
    await turn_store.finish(ended_turn(stored.ask), stored.ask, ())
    assert await turn_store.find(stored.turn.name) == stored
    await turn_store.finish_owed(ended_turn(stored.ask, state, reply="欠"), (), epoch=1)
    await turn_store.finish(ended_turn(stored.ask), stored.ask, ())
    (kept,) = await turn_store.unsettled()
    assert kept.turn.reply == "欠"


# --- what is kept ---------------------------------------------------------------------

_TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
_PARTS = st.one_of(
    st.builds(TextPart, _TEXT),
    st.builds(
        MediaPart, _TEXT, st.none() | st.binary(max_size=20), st.none() | st.just("https://example.com/a.png"), _TEXT
    ),
)
_SENDERS = st.none() | st.builds(Sender, _TEXT, _TEXT)
_OPTIONS = st.builds(
    TurnOptions,
    model=st.none() | _TEXT,
    temperature=st.none() | st.floats(0, 2),
    max_output_tokens=st.none() | st.integers(1, 9000),
    bypass_cache=st.booleans(),
    bypass_memory=st.booleans(),
    delta_interval=st.floats(0, 2),
    include_reasoning=st.booleans(),
)
_NUMBERS = iter(range(10**9))


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
async def test_whatever_was_written_is_read_back(turn_store: TurnStore, data: st.DataObject) -> None:
    draw = data.draw
    content = Content(tuple(draw(st.lists(_PARTS, max_size=3))))
    ask = Ask(
        TurnName(draw(_TEXT), f"m{next(_NUMBERS)}"),
        content,
        draw(st.booleans()),
        draw(_TEXT),
        draw(_SENDERS),
        draw(_TEXT),
        draw(_TEXT),
        draw(_OPTIONS),
        draw(_TEXT),
    )
    turn = ended_turn(
        ask,
        draw(st.sampled_from([TurnState.SUCCEEDED, TurnState.FAILED, TurnState.CANCELLED])),
        reply=draw(_TEXT),
        finish_reason=draw(st.sampled_from(FinishReason)),
        cache_outcome=draw(st.sampled_from(CacheOutcome)),
        model=draw(_TEXT),
        usage=draw(st.none() | st.builds(Usage, st.integers(0, 2**40), st.integers(0, 9), st.integers(0, 9))),
        first_delta_latency=draw(st.none() | st.floats(0, 100)),
        failure=draw(
            st.none() | st.builds(Failure, _TEXT, _TEXT, st.dictionaries(_TEXT, _TEXT, max_size=2), st.none())
        ),
        create_time=draw(st.floats(0, 4e9)),
        end_time=draw(st.floats(0, 4e9)),
    )
    events = tuple(Delta(text) for text in draw(st.lists(_TEXT, max_size=3)))
    await turn_store.finish(turn, ask, events)
    stored = await found(turn_store, ask.name)
    assert (stored.turn, stored.ask, stored.events) == (turn, ask, events)
    assert stored.input_digest == digest(content)


async def test_what_was_written_outlives_the_store(open_turn_store: Any) -> None:
    async with open_turn_store("again") as store:
        await owe(store, "m1")
        await owe_ended(store, "m2")
        ask = ask_of("m3")
        await store.finish(ended_turn(ask), ask, EVENTS)
        before = await store.unsettled(), await store.find(ask.name)
    async with open_turn_store("again") as store:
        assert (await store.unsettled(), await store.find(ask.name)) == before
        assert (await owe(store, "m4")).sequence == 4


# --- listing --------------------------------------------------------------------------


async def listed(store: TurnStore, page_size: int, conversation: str = "wecom.desk.abc") -> list[list[str]]:
    pages: list[list[str]] = []
    token = ""
    while True:
        page = await store.list_turns(conversation, page_size, token)
        pages.append([turn.name.request_id for turn in page.turns])
        token = page.next_page_token
        if not token:
            return pages


async def test_turns_are_listed_newest_first_whatever_their_state(turn_store: TurnStore) -> None:
    ask = ask_of("m1")
    await turn_store.finish(ended_turn(ask), ask, EVENTS)
    waiting = await owe(turn_store, "m2", claim=False)
    await owe(turn_store, "m3", conversation="other")
    page = await turn_store.list_turns("wecom.desk.abc", 10, "")
    assert page.turns == (waiting.turn, ended_turn(ask))
    assert page.next_page_token == ""


@pytest.mark.parametrize(
    ("page_size", "expected"),
    [
        (1, [["m4"], ["m3"], ["m2"], ["m1"]]),
        (2, [["m4", "m3"], ["m2", "m1"]]),
        (3, [["m4", "m3", "m2"], ["m1"]]),
        (4, [["m4", "m3", "m2", "m1"]]),
        (5, [["m4", "m3", "m2", "m1"]]),
    ],
)
async def test_pages_follow_each_other(turn_store: TurnStore, page_size: int, expected: list[list[str]]) -> None:
    for number in range(1, 5):
        await owe(turn_store, f"m{number}")
        await owe(turn_store, f"n{number}", conversation="other")
    assert await listed(turn_store, page_size) == expected


async def test_a_conversation_without_turns_has_one_empty_page(turn_store: TurnStore) -> None:
    assert await listed(turn_store, 5) == [[]]


async def test_pages_do_not_move_when_turns_come_and_go(turn_store: TurnStore) -> None:
    for number in range(1, 7):
        ask = ask_of(f"m{number}")
        await turn_store.finish(ended_turn(ask, end_time=101.0 if number == 4 else 500.0), ask, ())
    first = await turn_store.list_turns("wecom.desk.abc", 2, "")
    await owe(turn_store, "m7")
    await turn_store.apply_retention(Retention(payloads_before=0.0, keys_before=200.0))
    second = await turn_store.list_turns("wecom.desk.abc", 2, first.next_page_token)
    assert [turn.name.request_id for turn in second.turns] == ["m3", "m2"]


async def test_a_page_token_is_checked(turn_store: TurnStore) -> None:
    for number in range(3):
        await owe(turn_store, f"m{number}")
        await owe(turn_store, f"m{number}", conversation="other")
    token = (await turn_store.list_turns("wecom.desk.abc", 1, "")).next_page_token
    foreign = (await turn_store.list_turns("other", 1, "")).next_page_token
    for wrong in ("1", "2026", token[:-4], token + "AAAA", token.lower(), "页", "=", foreign, "A" * len(token)):
        with pytest.raises(InvalidField) as caught:
            await turn_store.list_turns("wecom.desk.abc", 1, wrong)
        assert caught.value.field == "page_token"


async def test_a_list_leaves_out_what_is_in_media(turn_store: TurnStore) -> None:
    ask = msgspec.structs.replace(ask_of("m1"), input=PUSHED)
    await turn_store.finish(ended_turn(ask), ask, ())
    (turn,) = (await turn_store.list_turns("wecom.desk.abc", 5, "")).turns
    assert turn.input == Content((TextPart("报警"), MediaPart("image/png", display_name="图.png")))
    assert (await found(turn_store, ask.name)).turn.input == PUSHED


# --- memory and conversations ---------------------------------------------------------


async def answers(store: TurnStore, limit: int = 10, conversation: str = "wecom.desk.abc") -> list[str]:
    return [one.answer for one in await store.recent_rounds(conversation, limit)]


async def test_the_last_rounds_come_oldest_first(turn_store: TurnStore) -> None:
    for number in range(1, 5):
        ask = ask_of(f"m{number}", text=f"问 {number}")
        await turn_store.finish(ended_turn(ask, end_time=100.0 + number), ask, EVENTS)
    rounds = await turn_store.recent_rounds("wecom.desk.abc", 2)
    assert [(one.question, one.answer, one.time) for one in rounds] == [
        ("张三:问 3", "答 m3", 103.0),
        ("张三:问 4", "答 m4", 104.0),
    ]
    assert await turn_store.recent_rounds("nobody", 2) == ()


@pytest.mark.parametrize("reason", FinishReason)
async def test_memory_uses_whole_answers_of_the_model(turn_store: TurnStore, reason: FinishReason) -> None:
    ask = ask_of("m1")
    await turn_store.finish(ended_turn(ask, finish_reason=reason), ask, ())
    owed = await owe(turn_store, "m2")
    await turn_store.finish_owed(ended_turn(owed.ask, finish_reason=reason), (), epoch=1)
    final = ended_turn(ask_of("m3"), finish_reason=reason)
    await turn_store.accept(ask_of("m3"), OWED, time=1.0, claim=False, final=final)
    expected = ["答 m1", "答 m2", "答 m3"] if reason in (FinishReason.STOP, FinishReason.LENGTH) else []
    assert await answers(turn_store) == expected


@pytest.mark.parametrize("state", [TurnState.FAILED, TurnState.CANCELLED])
async def test_memory_leaves_out_turns_without_an_answer(turn_store: TurnStore, state: TurnState) -> None:
    ask = ask_of("m1")
    await turn_store.finish(ended_turn(ask, state), ask, ())
    owed = await owe(turn_store, "m2")
    await turn_store.finish_owed(ended_turn(owed.ask, state), (), epoch=1)
    await owe(turn_store, "m3")
    assert await answers(turn_store) == []


async def test_memory_leaves_out_turns_that_bypassed_it(turn_store: TurnStore) -> None:
    options = TurnOptions(bypass_memory=True)
    ask = ask_of("m1", options=options)
    await turn_store.finish(ended_turn(ask), ask, ())
    owed = await owe(turn_store, "m2", options=options)
    await turn_store.finish_owed(ended_turn(owed.ask), (), epoch=1)
    assert await answers(turn_store) == []


async def test_what_came_before_a_cut_is_not_remembered(turn_store: TurnStore) -> None:
    await owe_ended(turn_store, "m1")
    running = await owe(turn_store, "m2")
    other = await owe_ended(turn_store, "m3", conversation="other")
    await turn_store.cut_memory("wecom.desk.abc", time=102.0)
    await turn_store.finish_owed(ended_turn(running.ask), (), epoch=1)
    assert await answers(turn_store) == []
    await owe_ended(turn_store, "m4", time=102.0)
    assert await answers(turn_store) == ["答 m4"]
    assert await answers(turn_store, conversation=other.turn.name.conversation) == ["答 m3"]


async def test_a_cut_stays_true_after_later_turns_were_deleted(turn_store: TurnStore) -> None:
    """The arrival numbers of deleted turns must not be given out again below the cut."""
    await owe_ended(turn_store, "m1", conversation="other")
    await turn_store.cut_memory("wecom.desk.abc", time=102.0)
    await turn_store.delete_conversation("other")
    await owe_ended(turn_store, "m2")
    assert await answers(turn_store) == ["答 m2"]


async def test_a_conversation_has_times_and_a_count(turn_store: TurnStore) -> None:
    assert await turn_store.conversation("wecom.desk.abc") is None
    await owe_ended(turn_store, "m1", time=100.0, end_time=103.0)
    await owe(turn_store, "m2", time=102.0)
    kept = await turn_store.conversation("wecom.desk.abc")
    assert kept is not None
    assert (kept.name, kept.create_time, kept.update_time) == ("wecom.desk.abc", 100.0, 103.0)
    assert (kept.expire_time, kept.remembered_message_count) == (None, 2)
    ask = ask_of("m3")
    await turn_store.finish(ended_turn(ask, end_time=110.0), ask, ())
    kept = await turn_store.conversation("wecom.desk.abc")
    assert kept is not None
    assert (kept.update_time, kept.remembered_message_count) == (110.0, 4)


async def test_a_conversation_can_begin_with_a_cut(turn_store: TurnStore) -> None:
    await turn_store.cut_memory("wecom.desk.abc", time=90.0)
    kept = await turn_store.conversation("wecom.desk.abc")
    assert kept is not None
    assert (kept.create_time, kept.update_time, kept.remembered_message_count) == (90.0, 90.0, 0)
    await owe_ended(turn_store, "m1")
    await turn_store.cut_memory("wecom.desk.abc", time=120.0)
    kept = await turn_store.conversation("wecom.desk.abc")
    assert kept is not None
    assert (kept.create_time, kept.update_time, kept.remembered_message_count) == (90.0, 120.0, 0)


async def test_a_deleted_conversation_leaves_nothing(turn_store: TurnStore) -> None:
    await owe_ended(turn_store, "m1")
    running = await owe(turn_store, "m2")
    await turn_store.rate(running.turn.name, None, Rating.HELPFUL, "好", time=105.0)
    other = await owe(turn_store, "m1", conversation="other")
    assert await turn_store.delete_conversation("wecom.desk.abc")
    assert not await turn_store.delete_conversation("wecom.desk.abc")
    assert await turn_store.conversation("wecom.desk.abc") is None
    assert await turn_store.find(running.turn.name) is None
    assert await listed(turn_store, 5) == [[]]
    assert await turn_store.unsettled() == (other,)
    assert (await owe(turn_store, "m1")).attempts == 1


async def test_a_conversation_of_a_cut_alone_can_be_deleted(turn_store: TurnStore) -> None:
    await turn_store.cut_memory("wecom.desk.abc", time=90.0)
    assert await turn_store.delete_conversation("wecom.desk.abc")
    assert await turn_store.conversation("wecom.desk.abc") is None


async def test_only_a_turn_that_exists_can_be_rated(turn_store: TurnStore) -> None:
    name = (await owe(turn_store, "m1")).turn.name
    for rating in (Rating.HELPFUL, Rating.UNHELPFUL, Rating.WITHDRAWN):
        await turn_store.rate(name, Sender("u1"), rating, "", time=105.0)
    with pytest.raises(ResourceNotFound):
        await turn_store.rate(TurnName("wecom.desk.abc", "m2"), None, Rating.HELPFUL, "", time=105.0)


# --- hand-over ------------------------------------------------------------------------


async def state_of(store: TurnStore, conversation: str = "wecom.desk.abc") -> ConversationState | None:
    """Who answers, which the store must say the same of in both ways."""
    kept = await store.conversation(conversation)
    assert await store.handed_off(conversation) is (kept is not None and kept.state is ConversationState.HANDED_OFF)
    return None if kept is None else kept.state


async def test_a_conversation_is_handed_off_and_given_back(turn_store: TurnStore) -> None:
    await owe_ended(turn_store, "m1")
    assert await state_of(turn_store) is ConversationState.ACTIVE
    for _ in range(2):
        await turn_store.hand_off("wecom.desk.abc", time=200.0)
        assert await state_of(turn_store) is ConversationState.HANDED_OFF
    kept = await turn_store.conversation("wecom.desk.abc")
    assert kept is not None
    assert (kept.create_time, kept.update_time) == (100.0, 101.5), "a hand-over is no turn"
    assert await state_of(turn_store, "other") is None
    for _ in range(2):
        assert await turn_store.resume("wecom.desk.abc")
        assert await state_of(turn_store) is ConversationState.ACTIVE
    assert not await turn_store.resume("other")


async def test_a_conversation_can_begin_with_a_hand_over(turn_store: TurnStore) -> None:
    await turn_store.hand_off("wecom.desk.abc", time=90.0)
    await owe_ended(turn_store, "m1")
    assert await state_of(turn_store) is ConversationState.HANDED_OFF
    kept = await turn_store.conversation("wecom.desk.abc")
    assert kept is not None
    assert kept.create_time == 90.0


async def test_a_cut_of_memory_leaves_a_conversation_with_whoever_has_it(turn_store: TurnStore) -> None:
    await turn_store.hand_off("wecom.desk.abc", time=90.0)
    await turn_store.cut_memory("wecom.desk.abc", time=91.0)
    assert await state_of(turn_store) is ConversationState.HANDED_OFF


async def test_a_deleted_conversation_begins_with_the_assistant(turn_store: TurnStore) -> None:
    await turn_store.hand_off("wecom.desk.abc", time=90.0)
    assert await turn_store.delete_conversation("wecom.desk.abc")
    await owe_ended(turn_store, "m1")
    assert await state_of(turn_store) is ConversationState.ACTIVE


async def test_who_has_a_conversation_outlives_the_store(open_turn_store: Any) -> None:
    async with open_turn_store("again") as store:
        await store.hand_off("a", time=90.0)
        await store.hand_off("b", time=90.0)
        await store.resume("b")
    async with open_turn_store("again") as store:
        assert await state_of(store, "a") is ConversationState.HANDED_OFF
        assert await state_of(store, "b") is ConversationState.ACTIVE
        await store.resume("a")
    async with open_turn_store("again") as store:
        assert await state_of(store, "a") is ConversationState.ACTIVE


async def test_the_end_of_a_turn_hands_over_with_itself(turn_store: TurnStore) -> None:
    owed = await owe(turn_store, "m1")
    end = ended_turn(owed.ask, finish_reason=FinishReason.HANDED_OFF)
    with pytest.raises(StaleEpoch):
        await turn_store.finish_owed(end, EVENTS, epoch=7, hands_over=True)
    assert await state_of(turn_store) is ConversationState.ACTIVE, "a stale worker hands nothing over"
    await turn_store.finish_owed(end, EVENTS, epoch=1, hands_over=True)
    assert await state_of(turn_store) is ConversationState.HANDED_OFF
    ask = ask_of("m2", conversation="other")
    await turn_store.finish(ended_turn(ask, finish_reason=FinishReason.HANDED_OFF), ask, EVENTS, hands_over=True)
    assert await state_of(turn_store, "other") is ConversationState.HANDED_OFF


@pytest.mark.parametrize("state", [TurnState.SUCCEEDED, TurnState.FAILED])
async def test_of_two_ends_the_one_that_stands_hands_over(turn_store: TurnStore, state: TurnState) -> None:
    ask = ask_of("m1")
    await turn_store.finish(ended_turn(ask, state), ask, ())
    await turn_store.finish(ended_turn(ask, finish_reason=FinishReason.HANDED_OFF), ask, (), hands_over=True)
    stands = state is TurnState.FAILED
    assert await state_of(turn_store) is (ConversationState.HANDED_OFF if stands else ConversationState.ACTIVE)


# --- pushes ---------------------------------------------------------------------------

PUSHED = Content((TextPart("报警"), MediaPart("image/png", b"\x89PNG", display_name="图.png")))
SAID = Content((TextPart("报 警"), MediaPart("image/png", b"\x89PNG", display_name="图.png")))
"""What the program said, before the filter changed it."""


async def push(store: TurnStore, request_id: str, **more: Any) -> StoredTurn:
    ask = ask_of(request_id, conversation="push.desk.0", text="", sender=None)
    final = ended_turn(ask, create_time=100.0, reply=PUSHED.text, pushed=PUSHED)
    owed = Owed("channels/wecom/accounts/desk", recipient="user:u")
    fields: dict[str, Any] = {"time": 100.0, "claim": False, "final": final, "input_digest": digest(SAID)}
    return (await store.accept(ask, owed, **(fields | more))).stored


async def test_a_push_is_kept_whole_and_owed(turn_store: TurnStore) -> None:
    stored = await push(turn_store, "p1")
    assert (stored.turn.pushed, stored.turn.reply, stored.turn.input) == (PUSHED, "报警", Content())
    assert (stored.turn.state, stored.turn.delivery_state) == (TurnState.SUCCEEDED, DeliveryState.OWED)
    assert stored.owed == Owed("channels/wecom/accounts/desk", b"", "user:u")
    assert stored.input_digest == digest(SAID)
    assert await turn_store.find(stored.turn.name) == stored
    (listed_turn,) = (await turn_store.list_turns("push.desk.0", 5, "")).turns
    assert listed_turn == stored.turn.without_bytes() != stored.turn
    assert listed_turn.pushed is not None
    assert listed_turn.pushed.media == (MediaPart("image/png", display_name="图.png"),)
    assert await push(turn_store, "p1") == stored
    assert await answers(turn_store, conversation="push.desk.0") == [], "it is no round of a conversation"


async def test_what_is_gone_on_with_after_a_start_leaves_out_what_was_pushed(turn_store: TurnStore) -> None:
    stored = await push(turn_store, "p1")
    other = await owe_ended(turn_store, "m1")
    first, second = await turn_store.unsettled()
    without = copy.copy(stored.turn)
    without.pushed, without.reply = Content(), ""
    assert first == msgspec.structs.replace(stored, turn=without)
    assert second == other


async def test_a_push_is_emptied_and_stays_a_push(turn_store: TurnStore) -> None:
    name = (await push(turn_store, "p1")).turn.name
    await turn_store.record_report(DeliveryReport(name, "delivered", time=110.0))
    await turn_store.apply_retention(Retention(payloads_before=200.0, keys_before=0.0))
    stored = await found(turn_store, name)
    assert (stored.turn.pushed, stored.turn.reply) == (Content(), "")
    assert (stored.owed, stored.input_digest) == (Owed("channels/wecom/accounts/desk"), digest(SAID))


# --- upkeep ---------------------------------------------------------------------------


async def test_payloads_go_before_keys(turn_store: TurnStore) -> None:
    ask = ask_of("m1", text="身份证号", caller="hr")
    turn = ended_turn(ask, end_time=200.0, usage=Usage(1, 2, 3))
    await turn_store.finish(turn, ask, EVENTS)
    before = await found(turn_store, ask.name)

    dropped = await turn_store.apply_retention(Retention(payloads_before=200.0, keys_before=200.0))
    assert (dropped.payloads, dropped.keys) == (0, 0)
    assert await turn_store.find(ask.name) == before

    dropped = await turn_store.apply_retention(Retention(payloads_before=200.5, keys_before=200.0))
    assert (dropped.payloads, dropped.keys) == (1, 0)
    emptied = copy.copy(turn)
    emptied.input, emptied.reply = Content(), ""
    assert await found(turn_store, ask.name) == msgspec.structs.replace(
        before, turn=emptied, ask=msgspec.structs.replace(ask, input=Content()), events=()
    )
    assert await answers(turn_store) == []
    kept = await turn_store.conversation("wecom.desk.abc")
    assert kept is not None
    assert kept.remembered_message_count == 0

    dropped = await turn_store.apply_retention(Retention(payloads_before=200.5, keys_before=200.0))
    assert (dropped.payloads, dropped.keys) == (0, 0)
    dropped = await turn_store.apply_retention(Retention(payloads_before=200.5, keys_before=200.5))
    assert (dropped.payloads, dropped.keys) == (0, 1)
    assert await turn_store.find(ask.name) is None
    assert await turn_store.conversation("wecom.desk.abc") is None


async def test_retention_never_touches_what_is_owed(turn_store: TurnStore) -> None:
    await owe(turn_store, "m1", claim=False)
    await owe(turn_store, "m2")
    await owe_ended(turn_store, "m3")
    before = await turn_store.unsettled()
    dropped = await turn_store.apply_retention(Retention(payloads_before=1e9, keys_before=1e9))
    assert (dropped.payloads, dropped.keys) == (0, 0)
    assert await turn_store.unsettled() == before
    assert await turn_store.conversation("wecom.desk.abc") is not None


async def test_a_delivered_turn_loses_its_address_too(turn_store: TurnStore) -> None:
    name = (await owe_ended(turn_store, "m1")).turn.name
    await turn_store.record_report(DeliveryReport(name, "delivered", time=110.0))
    await turn_store.apply_retention(Retention(payloads_before=200.0, keys_before=0.0))
    stored = await found(turn_store, name)
    assert (stored.owed, stored.events, stored.turn.reply) == (Owed(OWED.account), (), "")
    assert stored.input_digest == digest(Content.of_text("在吗"))


async def test_history_is_kept_for_a_turn_that_may_run_again_and_goes_with_its_payload(turn_store: TurnStore) -> None:
    history = (Said(True, "我叫小明"), Said(False, "你好"))
    asked = ask_of("m1", history=history, via=("edge-1",))
    await turn_store.finish(ended_turn(asked), asked, ())
    assert (await found(turn_store, asked.name)).ask == msgspec.structs.replace(asked, history=())

    ended = await owe_ended(turn_store, "m2", history=history, via=("edge-1",))
    assert ended.ask.history == history
    await turn_store.record_report(DeliveryReport(ended.turn.name, "delivered", time=110.0))
    await turn_store.apply_retention(Retention(payloads_before=1e9, keys_before=0.0))
    emptied = (await found(turn_store, ended.turn.name)).ask
    assert emptied == msgspec.structs.replace(ended.ask, input=Content(), history=())


async def test_an_undeliverable_turn_keeps_its_payload_for_a_replay(turn_store: TurnStore) -> None:
    ended = await owe_ended(turn_store, "m1")
    await turn_store.record_report(DeliveryReport(ended.turn.name, "undeliverable", time=110.0))
    dropped = await turn_store.apply_retention(Retention(payloads_before=1e9, keys_before=0.0))
    assert dropped.payloads == 0
    await turn_store.replay_undeliverable()
    (kept,) = await turn_store.unsettled()
    assert (kept.turn.reply, kept.events, kept.owed) == (ended.turn.reply, EVENTS, OWED)
    await turn_store.record_report(DeliveryReport(ended.turn.name, "undeliverable", time=110.0))
    dropped = await turn_store.apply_retention(Retention(payloads_before=1e9, keys_before=1e9))
    assert dropped.keys == 1


async def test_a_turn_settled_while_it_ran_ages_from_its_settlement(turn_store: TurnStore) -> None:
    """Its process may have died; such a row must not stay for ever."""
    name = (await owe(turn_store, "m1")).turn.name
    await turn_store.record_report(DeliveryReport(name, "undeliverable", time=110.0))
    assert (await turn_store.apply_retention(Retention(110.0, 110.0))).keys == 0
    assert (await turn_store.apply_retention(Retention(111.0, 111.0))).keys == 1


async def test_conversations_without_turns_go(turn_store: TurnStore) -> None:
    await turn_store.cut_memory("old", time=90.0)
    await turn_store.cut_memory("young", time=190.0)
    await turn_store.hand_off("with a person", time=90.0)
    await turn_store.apply_retention(Retention(payloads_before=100.0, keys_before=100.0))
    assert await turn_store.conversation("old") is None
    assert await turn_store.conversation("young") is not None
    assert await turn_store.handed_off("with a person")
    await turn_store.resume("with a person")
    await turn_store.apply_retention(Retention(payloads_before=100.0, keys_before=100.0))
    assert await turn_store.conversation("with a person") is None


async def test_retention_works_through_more_than_a_slice(turn_store: TurnStore) -> None:
    asks = [ask_of(f"m{number}", conversation=f"c{number % 300}") for number in range(700)]
    await asyncio.gather(*(turn_store.finish(ended_turn(ask), ask, EVENTS) for ask in asks))
    dropped = await turn_store.apply_retention(Retention(payloads_before=200.0, keys_before=0.0))
    assert (dropped.payloads, dropped.keys) == (700, 0)
    dropped = await turn_store.apply_retention(Retention(payloads_before=200.0, keys_before=200.0))
    assert (dropped.payloads, dropped.keys) == (0, 700)
    assert await turn_store.conversation("c0") is None
    assert await turn_store.conversation("c299") is None


async def test_a_healthy_store_passes_its_probe(turn_store: TurnStore) -> None:
    await turn_store.probe()
    await turn_store.probe()


async def test_closing_finishes_what_was_asked_for(open_turn_store: Any) -> None:
    async with open_turn_store("closing") as store:
        writes = [asyncio.ensure_future(owe(store, f"m{number}")) for number in range(200)]
        await asyncio.sleep(0)
        await store.aclose()
        assert all(write.done() for write in writes)
        assert len(await asyncio.gather(*writes)) == 200
    async with open_turn_store("closing") as store:
        assert len(await store.unsettled()) == 200


async def test_a_closed_store_is_unavailable(open_turn_store: Any) -> None:
    async with open_turn_store("closed") as store:
        name = (await owe(store, "m1")).turn.name
        await asyncio.gather(store.aclose(), store.aclose())
        for call in (
            owe(store, "m2"),
            store.claim(name),
            store.find(name),
            store.unsettled(),
            store.list_turns("c", 1, ""),
            store.probe(),
            store.apply_retention(Retention(0.0, 0.0)),
        ):
            with pytest.raises(StoreUnavailable):
                await call


async def test_a_caller_that_goes_away_harms_nobody(turn_store: TurnStore) -> None:
    leaving = [asyncio.ensure_future(owe(turn_store, f"m{number}")) for number in range(10)]
    await asyncio.sleep(0)
    for task in leaving[::2]:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    await owe(turn_store, "last")
    kept = [one.turn.name.request_id for one in await turn_store.unsettled()]
    assert kept == [f"m{number}" for number in range(10)] + ["last"]
