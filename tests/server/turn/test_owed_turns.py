"""Turns that are owed: answered, offered, settled, whatever dies between."""

import asyncio
import time
from pathlib import Path

import msgspec
import pytest

from server.domain import (
    Completed,
    Content,
    DeliveryState,
    MediaPart,
    Replacement,
    ReplacementCause,
    TurnName,
    TurnState,
)
from server.errors import RequestIdReused, ShuttingDown
from server.llm.base import ErrorClass, ProviderError
from server.settings import DeliverySettings, Settings, TextSettings, TurnSettings
from server.store.sqlite import open_sqlite
from server.turn.base import Granted
from server.turn.room import TurnRoom
from tests.server.turn.conftest import (
    PlayedModel,
    ask,
    follow,
    hello,
    next_delivery,
    owed,
    report,
    silent_until_told,
    until,
    when_told,
)

TEXTS = TextSettings()


async def test_a_submitted_turn_runs_and_is_offered_until_it_is_delivered(room: TurnRoom) -> None:
    question = ask("你好", request_id="m1")
    turn = await room.turns.submit(question, owed(b"address"))
    assert turn.delivery_state is DeliveryState.OWED
    async with room.deliveries.attach(hello(ended_only=True)) as instance:
        delivery = await next_delivery(instance)
        assert (delivery.name, delivery.address, delivery.attempt) == (question.name, b"address", 1)
        assert delivery.ended_turn is not None
        assert delivery.ended_turn.reply == "echo: 你好"
        await report(instance, question.name)
    assert (await room.turns.get(question.name)).delivery_state is DeliveryState.DELIVERED
    assert len(room.deliveries) == 0


async def test_an_instance_that_was_fetched_from_settles_what_another_one_holds(room: TurnRoom) -> None:
    question = ask("你好", request_id="m1")
    await room.turns.submit(question, owed())
    async with (
        room.deliveries.attach(hello(ended_only=True)) as holder,
        room.deliveries.attach(hello(ended_only=True, instance="fetched from")) as other,
    ):
        await next_delivery(holder)
        await report(other, question.name, "retry", retry_delay=0.0)
        await report(other, question.name, "undeliverable")
        assert (await room.turns.get(question.name)).delivery_state is DeliveryState.OWED
        await report(other, question.name)
        assert (await room.turns.get(question.name)).delivery_state is DeliveryState.DELIVERED
        # The place it had at its holder is free again, and the holder is not asked any more.
        assert not holder.open
        await report(holder, question.name)
    assert len(room.deliveries) == 0


async def test_a_report_that_was_on_its_way_for_too_long_settles_nothing(room: TurnRoom) -> None:
    question = ask("你好", request_id="m1")
    await room.turns.submit(question, owed())
    async with (
        room.deliveries.attach(hello(ended_only=True)) as holder,
        room.deliveries.attach(hello(ended_only=True, instance="fetched from")) as other,
    ):
        await next_delivery(holder)
        await report(other, question.name, expire_time=1.0)
        assert (await room.turns.get(question.name)).delivery_state is DeliveryState.OWED
        # Who held it has done with it, so it is offered again.
        await report(holder, question.name, expire_time=1.0)
        assert (await next_delivery(holder)).attempt == 2
        await report(holder, question.name, expire_time=time.time() + 60)
        assert (await room.turns.get(question.name)).delivery_state is DeliveryState.DELIVERED


async def test_a_turn_that_runs_cannot_have_been_fetched(room: TurnRoom, model: PlayedModel) -> None:
    model.play = when_told
    question = ask("你好", request_id="m1")
    await room.turns.submit(question, owed())
    async with room.deliveries.attach(hello(ended_only=True)) as instance:
        await report(instance, question.name)
        assert (await room.turns.get(question.name)).delivery_state is DeliveryState.OWED
        model.go.set()
        await next_delivery(instance)


async def test_submitting_again_finds_the_turn_in_every_state(open_room, model: PlayedModel) -> None:  # type: ignore[no-untyped-def]  # a fixture
    model.play = when_told
    question = ask("你好", request_id="m1")
    async with open_room() as room:
        first, again = await asyncio.gather(room.turns.submit(question, owed()), room.turns.submit(question, owed()))
        assert first.name == again.name
        await until(lambda: len(model.prompts) == 1)
        assert (await room.turns.submit(question, owed())).state is TurnState.RUNNING
        with pytest.raises(RequestIdReused):
            await room.turns.submit(ask("other", request_id="m1"), owed())
        model.go.set()
        await until(lambda: room.register.running == 0)
        assert (await room.turns.submit(question, owed())).reply == "first second"
    async with open_room() as room:
        assert (await room.turns.submit(question, owed())).reply == "first second"
        with pytest.raises(RequestIdReused):
            await room.turns.submit(ask("other", request_id="m1"), owed())
    assert len(model.prompts) == 1


async def test_a_following_instance_is_offered_a_running_turn(room: TurnRoom, model: PlayedModel) -> None:
    model.play = when_told
    question = ask(request_id="m1")
    async with room.deliveries.attach(hello()) as instance:
        await room.turns.submit(question, owed())
        delivery = await next_delivery(instance)
        assert delivery.ended_turn is None
        following = asyncio.create_task(follow(room, question.name))
        model.go.set()
        events, turn = await following
        assert isinstance(events[-1][1], Completed)
        assert turn.reply == "first second"
        await report(instance, question.name)


async def test_what_was_open_on_a_broken_attachment_is_offered_elsewhere_with_its_progress(room: TurnRoom) -> None:
    question = ask(request_id="m1")
    await room.turns.submit(question, owed())
    async with room.deliveries.attach(hello(instance="a")) as first:
        await next_delivery(first)
        await report(first, question.name, "progress", progress=b"1 part sent")
    async with room.deliveries.attach(hello(instance="b")) as second:
        delivery = await next_delivery(second)
        assert (delivery.attempt, delivery.progress) == (2, b"1 part sent")
        await report(first, question.name)  # too late, and not its business any more
        assert len(room.deliveries) == 1
        await report(second, question.name)
    assert len(room.deliveries) == 0


async def test_the_turns_of_a_conversation_are_offered_one_at_a_time_in_order(room: TurnRoom) -> None:
    names = [ask(f"{n}", request_id=f"m{n}") for n in range(5)]
    for question in names:
        await room.turns.submit(question, owed())
    other = ask("x", "other", request_id="o")
    await room.turns.submit(other, owed())
    await until(lambda: room.register.running == 0)
    async with room.deliveries.attach(hello(ended_only=True)) as instance:
        messages = instance.messages()
        seen = []
        await anext(messages)  # the grant
        for _ in range(2):
            delivery = await anext(messages)
            assert not isinstance(delivery, Granted)
            seen.append(delivery.name)  # type: ignore[union-attr]  # a delivery, said above
        assert set(seen) == {names[0].name, other.name}
        for question in names:
            await report(instance, question.name)
            if question is not names[-1]:
                delivery = await anext(messages)
                seen.append(delivery.name)  # type: ignore[union-attr]  # a delivery
        assert [name for name in seen if name.conversation == "c"] == [question.name for question in names]


async def test_a_retry_keeps_its_place_and_comes_after_its_delay(room: TurnRoom) -> None:
    first, second = ask("1", request_id="m1"), ask("2", request_id="m2")
    await room.turns.submit(first, owed())
    await room.turns.submit(second, owed())
    async with room.deliveries.attach(hello(ended_only=True)) as instance:
        assert (await next_delivery(instance)).name == first.name
        await report(instance, first.name, "retry", retry_delay=0.05)
        delivery = await next_delivery(instance)
        assert (delivery.name, delivery.attempt) == (first.name, 2)
        await report(instance, first.name)
        assert (await next_delivery(instance)).name == second.name


async def test_after_too_many_retries_a_turn_is_undeliverable_and_can_be_replayed(
    open_room,  # type: ignore[no-untyped-def]  # a fixture
    tmp_path: Path,
) -> None:
    question = ask(request_id="m1")
    async with open_room(Settings(delivery=DeliverySettings(max_retries=1))) as room:
        await room.turns.submit(question, owed())
        async with room.deliveries.attach(hello(ended_only=True)) as instance:
            await next_delivery(instance)
            await report(instance, question.name, "retry")
            await next_delivery(instance)
            await report(instance, question.name, "retry", detail="still closed")
        assert (await room.turns.get(question.name)).delivery_state is DeliveryState.UNDELIVERABLE
    async with open_sqlite(tmp_path / "turns.db") as store:
        assert await store.replay_undeliverable() == 1
    async with open_room() as room, room.deliveries.attach(hello(ended_only=True)) as instance:
        delivery = await next_delivery(instance)
        assert delivery.ended_turn is not None
        assert delivery.ended_turn.reply.startswith("echo")


async def test_a_turn_that_waits_for_its_person_is_offered_when_they_write(
    open_room,  # type: ignore[no-untyped-def]  # a fixture
) -> None:
    first, second, third = (ask(text, request_id=f"m{text}") for text in "123")
    async with open_room(Settings(delivery=DeliverySettings(max_retries=0))) as room:
        await room.turns.submit(first, owed())
        async with room.deliveries.attach(hello(ended_only=True)) as instance:
            for attempt, later in enumerate((second, third), start=1):
                delivery = await next_delivery(instance)
                assert (delivery.name, delivery.attempt) == (first.name, attempt)
                await report(instance, first.name, "waiting", retry_delay=3600.0, progress=b"sent")
                await room.turns.submit(later, owed())
            delivery = await next_delivery(instance)
            assert (delivery.name, delivery.attempt, delivery.progress) == (first.name, 3, b"sent")
            # They write while it is being said that it waits for that.
            await room.turns.submit(ask("4", request_id="m4"), owed())
            await report(instance, first.name, "waiting", retry_delay=3600.0)
            assert (await next_delivery(instance)).attempt == 4
            # Whatever happens, it is looked at again; and none of this is a failure.
            await report(instance, first.name, "waiting", retry_delay=0.01)
            assert (await next_delivery(instance)).attempt == 5
            await report(instance, first.name)
            assert (await next_delivery(instance)).name == second.name


async def test_a_turn_that_was_running_at_the_death_runs_again_and_is_offered(
    open_room,  # type: ignore[no-untyped-def]  # a fixture
    model: PlayedModel,
) -> None:
    model.play = silent_until_told
    first, second = ask("1", request_id="m1"), ask("2", request_id="m2")
    async with open_room(drain=0.0) as room:
        await room.turns.submit(first, owed())
        await room.turns.submit(second, owed())
        await until(lambda: len(model.prompts) == 1)
    model.go.set()
    async with open_room() as room, room.deliveries.attach(hello(ended_only=True)) as instance:
        for question in (first, second):
            delivery = await next_delivery(instance)
            assert delivery.name == question.name
            assert delivery.ended_turn is not None
            assert delivery.ended_turn.state is TurnState.SUCCEEDED
            await report(instance, question.name)
    async with open_room() as room:
        assert len(room.deliveries) == 0


async def test_a_turn_under_which_the_process_died_too_often_gets_its_apology(
    open_room,  # type: ignore[no-untyped-def]  # a fixture
    model: PlayedModel,
) -> None:
    model.play = silent_until_told
    question = ask(request_id="poison")
    async with open_room(drain=0.0) as room:
        await room.turns.submit(question, owed())
        await until(lambda: len(model.prompts) == 1)
    for attempt in (2, 3):
        async with open_room(drain=0.0):
            await until(lambda n=attempt: len(model.prompts) == n)  # type: ignore[misc]  # n is a default
    async with open_room() as room, room.deliveries.attach(hello(ended_only=True)) as instance:
        delivery = await next_delivery(instance)
        assert delivery.ended_turn is not None
        assert delivery.ended_turn.reply == TEXTS.quarantined
        assert delivery.ended_turn.failure is not None
        assert delivery.ended_turn.failure.reason == "TURN_QUARANTINED"
    assert len(model.prompts) == 3


async def test_a_failed_owed_turn_ends_complete_with_the_fixed_sentence(room: TurnRoom, model: PlayedModel) -> None:
    async def breaks(prompt, played):  # type: ignore[no-untyped-def]  # a play
        from server.llm.base import Chunk

        yield Chunk(text="half", model="played")
        await played.go.wait()
        raise ProviderError(ErrorClass.TRANSIENT, "gone", model="played")

    model.play = breaks
    question = ask(request_id="m1")
    await room.turns.submit(question, owed())
    following = asyncio.create_task(follow(room, question.name))
    await until(lambda: len(model.prompts) == 1)
    model.go.set()
    events, turn = await following
    assert events[-2][1] == Replacement(TEXTS.apology, ReplacementCause.FAILED)
    assert isinstance(events[-1][1], Completed)
    assert (turn.state, turn.reply) == (TurnState.FAILED, TEXTS.apology)
    assert turn.failure is not None
    assert turn.failure.reason == "REPLY_INTERRUPTED"


async def test_a_full_line_answers_with_a_sentence_that_is_owed_too(room: TurnRoom, model: PlayedModel) -> None:
    model.play = silent_until_told
    for number in range(6):
        await room.turns.submit(ask(f"{number}", request_id=f"m{number}"), owed())
    refused = await room.turns.submit(ask("7", request_id="m7"), owed())
    assert (refused.state, refused.reply) == (TurnState.FAILED, TEXTS.busy)
    model.go.set()
    async with room.deliveries.attach(hello(ended_only=True)) as instance:
        replies = []
        for _ in range(7):
            delivery = await next_delivery(instance)
            assert delivery.ended_turn is not None
            replies.append(delivery.ended_turn.reply)
            await report(instance, delivery.name)
    assert replies == [*["at last"] * 6, TEXTS.busy]


@pytest.mark.parametrize(
    ("content", "reply"),
    [
        (Content((MediaPart("image/png"),)), TEXTS.media_not_supported),
        (Content.of_text("字" * 20001), TEXTS.too_long),
    ],
)
async def test_what_cannot_be_answered_is_answered_with_a_sentence(
    room: TurnRoom, content: Content, reply: str
) -> None:
    question = msgspec.structs.replace(ask(request_id="m1"), input=content)
    await room.turns.submit(question, owed())
    async with room.deliveries.attach(hello(ended_only=True)) as instance:
        delivery = await next_delivery(instance)
        assert delivery.ended_turn is not None
        assert delivery.ended_turn.reply == reply


async def test_cancelling_an_owed_turn_still_tells_the_person(room: TurnRoom, model: PlayedModel) -> None:
    model.play = when_told
    question = ask(request_id="m1")
    await room.turns.submit(question, owed())
    await until(lambda: len(model.prompts) == 1)
    assert (await room.turns.cancel(question.name)).state is TurnState.CANCELLED
    async with room.deliveries.attach(hello(ended_only=True)) as instance:
        delivery = await next_delivery(instance)
        assert delivery.ended_turn is not None
        assert delivery.ended_turn.reply == TEXTS.cancelled


async def test_only_one_exclusive_instance_is_active_and_the_next_takes_over(room: TurnRoom) -> None:
    async with room.deliveries.attach(hello(exclusive=True, instance="standby")) as standby:
        first = await anext(standby.messages())
        assert isinstance(first, Granted)
    question = ask(request_id="m1")
    async with room.deliveries.attach(hello(exclusive=True, instance="a")) as active:
        granted = await anext(active.messages())
        assert isinstance(granted, Granted)
        assert granted.epoch > first.epoch
        async with room.deliveries.attach(hello(exclusive=True, instance="b")) as second:
            await room.turns.submit(question, owed())
            assert (await next_delivery(active)).attempt == 1
            waiting = asyncio.create_task(next_delivery(second))
            await asyncio.sleep(0)
            assert not second.active
            room.deliveries._account("channels/test/accounts/one").leave(active)
            assert (await waiting).attempt == 2
            assert second.active
            room.deliveries._account("channels/test/accounts/one").join(active)


async def test_an_instance_has_no_more_open_than_it_asked_for(room: TurnRoom) -> None:
    async with room.deliveries.attach(hello(limit=2, ended_only=True)) as instance:
        for number in range(4):
            await room.turns.submit(ask("q", f"c{number}", request_id="m"), owed())
        await until(lambda: room.register.running == 0)
        assert len(instance.open) == 2
        names = [await next_delivery(instance) for _ in range(2)]
        for delivery in names:
            await report(instance, delivery.name)
        assert len(instance.open) == 2


async def test_instances_are_sent_away_when_the_server_stops(open_room) -> None:  # type: ignore[no-untyped-def]  # a fixture
    async with open_room() as room:
        async with room.deliveries.attach(hello()) as instance:
            messages = instance.messages()
            await anext(messages)
            room.deliveries.close()
            with pytest.raises(ShuttingDown):
                await anext(messages)
        with pytest.raises(ShuttingDown):
            async with room.deliveries.attach(hello()):
                pass


async def test_deleting_a_conversation_ends_its_debts(room: TurnRoom, model: PlayedModel) -> None:
    model.play = when_told
    await room.turns.submit(ask(request_id="m1"), owed())
    await until(lambda: len(model.prompts) == 1)
    await room.turns.delete("c")
    assert len(room.deliveries) == 0
    assert room.register.find(TurnName("c", "m1")) is None


async def test_a_caller_that_gives_up_halfway_changes_nothing(room: TurnRoom) -> None:
    question = ask(request_id="m1")
    submitting = asyncio.create_task(room.turns.submit(question, owed()))
    await asyncio.sleep(0)
    submitting.cancel()
    await asyncio.gather(submitting, return_exceptions=True)
    await until(lambda: len(room.deliveries) == 1)
    assert (await room.turns.submit(question, owed())).name == question.name
    assert len(room.deliveries) == 1


async def test_what_could_not_be_written_is_taken_up_again(open_room, model: PlayedModel) -> None:  # type: ignore[no-untyped-def]  # a fixture
    """A turn whose end met an unavailable store is answered once the store is back."""
    model.play = silent_until_told
    async with open_room(Settings(turns=TurnSettings(max_claims=3))) as room:
        question = ask(request_id="m1")
        await room.turns.submit(question, owed())
        await until(lambda: len(model.prompts) == 1)
        live = room.register.find(question.name)
        assert live is not None
        live.stop(ShuttingDown())
        await until(lambda: room.register.running == 0)
        model.go.set()
        async with room.deliveries.attach(hello(ended_only=True)) as instance:
            async with asyncio.timeout(20):
                delivery = await next_delivery(instance)
            assert delivery.ended_turn is not None
            assert delivery.ended_turn.reply == "at last"
