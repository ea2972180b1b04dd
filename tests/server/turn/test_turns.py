"""A turn from its question to its end, over a real store."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from server.budget import Budget
from server.domain import (
    CacheOutcome,
    Completed,
    Content,
    Delta,
    FinishReason,
    MediaPart,
    Reasoning,
    Sender,
    Started,
    TurnName,
    TurnOptions,
    TurnState,
)
from server.errors import (
    ConversationBusy,
    InputTooLong,
    InvalidField,
    MediaNotSupported,
    NoRouteAvailable,
    Overloaded,
    ProviderRefused,
    ReplyInterrupted,
    RequestIdReused,
    ResourceNotFound,
    ShuttingDown,
    TurnCancelled,
    TurnTimedOut,
)
from server.llm.base import Chunk, ErrorClass, Prompt, ProviderError, Role
from server.settings import AssistantSettings, Settings, TurnSettings
from server.turn.room import TurnRoom
from tests.server.turn.conftest import LONG, PlayedModel, ask, done, follow, silent_until_told, until, when_told


async def _all(room: TurnRoom, question: object, budget: Budget = LONG) -> list[tuple[int, object]]:
    async with room.turns.stream(question, budget) as follower:  # type: ignore[arg-type]  # an Ask
        return [item async for batch in follower.batches() for item in batch]


async def test_a_turn_is_answered_and_can_be_read_afterwards(room: TurnRoom) -> None:
    question = ask("几点上班?", request_id="r1")
    turn = await room.turns.converse(question, LONG)
    assert (turn.state, turn.reply, turn.finish_reason) == (TurnState.SUCCEEDED, "echo: 几点上班?", FinishReason.STOP)
    assert turn.model == "played"
    assert turn.usage is not None
    assert turn.usage.output_token_count == 5
    assert turn.first_delta_latency is not None
    assert (await room.turns.get(question.name)).reply == turn.reply
    page = await room.turns.list_turns("c", 10, "")
    assert [entry.name for entry in page.turns] == [question.name]


async def test_events_are_numbered_without_gaps_and_add_up_to_the_reply(room: TurnRoom) -> None:
    events = await _all(room, ask("甲"))
    assert [number for number, _ in events] == list(range(1, len(events) + 1))
    assert [type(event) for _, event in events] == [Started, Delta, Delta, Completed]
    assert "".join(event.text for _, event in events if isinstance(event, Delta)) == "echo: 甲"


async def test_a_second_listener_sees_the_same_events_while_it_runs_and_after(
    room: TurnRoom, model: PlayedModel
) -> None:
    model.play = when_told
    question = ask(request_id="same")
    first = asyncio.create_task(_all(room, question))
    await until(lambda: len(model.prompts) == 1)
    second = asyncio.create_task(_all(room, question))
    third = asyncio.create_task(follow(room, question.name))
    await asyncio.sleep(0)
    model.go.set()
    expected = await first
    assert await second == expected
    assert (await third)[0] == expected
    assert len(model.prompts) == 1


async def test_a_replay_from_disk_is_the_same_to_the_number(open_room, model: PlayedModel) -> None:  # type: ignore[no-untyped-def]  # a fixture
    question = ask(request_id="replayed", options=TurnOptions(include_reasoning=True))

    async def thoughtful(prompt: Prompt, played: PlayedModel) -> AsyncIterator[Chunk]:
        yield Chunk(reasoning="嗯", model="played")
        for word in ("一", "二", "三"):
            yield Chunk(text=word)
        yield done()

    model.play = thoughtful
    async with open_room() as room:
        live = await _all(room, question)
    assert Reasoning("嗯") in [event for _, event in live]
    async with open_room() as room:
        assert await _all(room, question) == live
        assert (await follow(room, question.name, 3))[0] == live[3:]
        assert (await follow(room, question.name, 99))[0] == []
    assert len(model.prompts) == 1


async def test_the_same_id_with_another_input_is_refused_running_ended_and_on_disk(
    open_room,  # type: ignore[no-untyped-def]  # a fixture
    model: PlayedModel,
) -> None:
    model.play = when_told
    async with open_room() as room:
        running = asyncio.create_task(room.turns.converse(ask("一", request_id="x"), LONG))
        await until(lambda: len(model.prompts) == 1)
        with pytest.raises(RequestIdReused):
            await room.turns.converse(ask("二", request_id="x"), LONG)
        model.go.set()
        await running
        with pytest.raises(RequestIdReused):
            await room.turns.converse(ask("二", request_id="x"), LONG)
    async with open_room() as room:
        with pytest.raises(RequestIdReused) as caught:
            await room.turns.converse(ask("二", request_id="x"), LONG)
        assert caught.value.metadata == {"turn": "conversations/c/turns/x"}


async def test_memory_reaches_the_model_and_survives_a_restart(open_room, model: PlayedModel) -> None:  # type: ignore[no-untyped-def]  # a fixture
    async with open_room() as room:
        for number in range(7):
            await room.turns.converse(ask(f"问{number}"), LONG)
    async with open_room() as room:
        await room.turns.converse(ask("最后"), LONG)
    said = [message.text for message in model.prompts[-1].messages if message.role is Role.USER]
    assert said == ["问2", "问3", "问4", "问5", "问6", "最后"]
    assert model.prompts[-1].messages[0].role is Role.SYSTEM


async def test_who_said_what_survives_a_restart(open_room, model: PlayedModel) -> None:  # type: ignore[no-untyped-def]  # a fixture
    async with open_room() as room:
        for name in ("张三", "李四"):
            await room.turns.converse(msgspec.structs.replace(ask("我选一号"), sender=Sender(name, name)), LONG)
    async with open_room() as room:
        await room.turns.converse(ask("谁选了一号?"), LONG)
    said = [message.text for message in model.prompts[-1].messages if message.role is Role.USER]
    assert said == ["张三:我选一号", "李四:我选一号", "谁选了一号?"]


@pytest.mark.parametrize("word", ["/new", "重新开始", " /NEW "])
async def test_reset_words_and_the_call_both_cut_memory(room: TurnRoom, model: PlayedModel, word: str) -> None:
    await room.turns.converse(ask("我叫小明"), LONG)
    turn = await room.turns.converse(ask(word), LONG)
    assert turn.finish_reason is FinishReason.FLOW
    assert turn.reply == AssistantSettings().texts.reset_done
    await room.turns.converse(ask("我叫什么"), LONG)
    assert len(model.prompts[-1].messages) == 2
    conversation = await room.turns.reset("c")
    assert conversation.remembered_message_count == 0
    await room.turns.converse(ask("还记得吗"), LONG)
    assert len(model.prompts[-1].messages) == 2


async def test_a_turn_under_which_the_conversation_was_reset_is_not_remembered(
    open_room,  # type: ignore[no-untyped-def]  # a fixture
    model: PlayedModel,
) -> None:
    model.play = when_told
    async with open_room() as room:
        running = asyncio.create_task(room.turns.converse(ask("秘密"), LONG))
        await until(lambda: len(model.prompts) == 1)
        await room.turns.reset("c")
        model.go.set()
        await running
        await room.turns.converse(ask("a"), LONG)
        assert len(model.prompts[-1].messages) == 2
    async with open_room() as room:
        await room.turns.converse(ask("b"), LONG)
    assert "秘密" not in str(model.prompts[-1].messages)


async def test_equal_first_questions_are_answered_from_the_cache_and_second_ones_are_not(
    room: TurnRoom, model: PlayedModel
) -> None:
    first = await room.turns.converse(ask("报销流程是什么?", "a"), LONG)
    again = await room.turns.converse(ask("报销流程是什么", "b"), LONG)
    assert (first.cache_outcome, again.cache_outcome) == (CacheOutcome.MISS, CacheOutcome.HIT)
    assert again.reply == first.reply
    personal = await room.turns.converse(ask("报销流程是什么?", "b"), LONG)
    assert personal.cache_outcome is CacheOutcome.UNSPECIFIED
    bypassed = await room.turns.converse(ask("报销流程是什么?", "d", options=TurnOptions(bypass_cache=True)), LONG)
    assert bypassed.cache_outcome is CacheOutcome.UNSPECIFIED
    hotter = await room.turns.converse(ask("报销流程是什么?", "e", options=TurnOptions(temperature=1.5)), LONG)
    assert hotter.cache_outcome is CacheOutcome.MISS


async def test_eight_hundred_identical_asks_make_one_call(room: TurnRoom, model: PlayedModel) -> None:
    model.play = silent_until_told
    asks = [asyncio.create_task(room.turns.converse(ask("同一个问题", f"c{n}"), LONG)) for n in range(800)]
    await until(lambda: room.register.running == 800)
    model.go.set()
    turns = await asyncio.gather(*asks)
    assert len(model.prompts) == 1
    assert {turn.reply for turn in turns} == {"at last"}
    outcomes = [turn.cache_outcome for turn in turns]
    assert outcomes.count(CacheOutcome.MISS) == 1
    assert CacheOutcome.UNSPECIFIED not in outcomes


async def test_turns_of_a_conversation_run_one_at_a_time_and_the_line_is_bounded(
    room: TurnRoom, model: PlayedModel
) -> None:
    model.play = silent_until_told
    waiting = [asyncio.create_task(room.turns.converse(ask(f"{n}"), LONG)) for n in range(6)]
    await until(lambda: len(model.prompts) == 1)
    with pytest.raises(ConversationBusy):
        await room.turns.converse(ask("one too many"), LONG)
    assert len(model.prompts) == 1
    model.go.set()
    await asyncio.gather(*waiting)
    assert [prompt.messages[-1].text for prompt in model.prompts] == [f"{n}" for n in range(6)]


async def test_a_full_service_says_so(open_room, model: PlayedModel) -> None:  # type: ignore[no-untyped-def]  # a fixture
    model.play = silent_until_told
    async with open_room(Settings(turns=TurnSettings(max_turns=2))) as room:
        running = [asyncio.create_task(room.turns.converse(ask("a", f"c{n}"), LONG)) for n in range(2)]
        await until(lambda: room.register.running == 2)
        with pytest.raises(Overloaded) as caught:
            await room.turns.converse(ask("b", "other"), LONG)
        assert caught.value.retry_after
        model.go.set()
        await asyncio.gather(*running)
        await room.turns.converse(ask("c", "other"), LONG)


async def _fails(kind: ErrorClass, *, after_text: bool, prompt: Prompt) -> AsyncIterator[Chunk]:
    if after_text:
        yield Chunk(text="half an ", model="played")
    raise ProviderError(kind, "the vendor's own words: key sk-123", model="played")


@pytest.mark.parametrize(
    ("kind", "after_text", "expected"),
    [
        (ErrorClass.TRANSIENT, False, NoRouteAvailable),
        (ErrorClass.TIMEOUT, False, NoRouteAvailable),
        (ErrorClass.AUTH, False, ProviderRefused),
        (ErrorClass.QUOTA, False, ProviderRefused),
        (ErrorClass.INCOMPLETE, True, ReplyInterrupted),
    ],
)
async def test_a_failing_model_becomes_an_error_without_the_vendors_words(
    room: TurnRoom, model: PlayedModel, kind: ErrorClass, after_text: bool, expected: type[Exception]
) -> None:
    model.play = lambda prompt, _: _fails(kind, after_text=after_text, prompt=prompt)
    question = ask("x", request_id="failing")
    with pytest.raises(expected) as caught:
        await room.turns.converse(question, LONG)
    assert "sk-123" not in str(caught.value)
    assert (await room.turns.get(question.name)).state is TurnState.FAILED
    model.play = when_told
    model.go.set()
    assert (await room.turns.converse(question, LONG)).reply == "first second"


async def test_a_cut_reply_is_never_complete_and_never_cached(room: TurnRoom, model: PlayedModel) -> None:
    async def cut(prompt: Prompt, played: PlayedModel) -> AsyncIterator[Chunk]:
        yield Chunk(text="half", model="played")

    model.play = cut
    with pytest.raises(ReplyInterrupted):
        await room.turns.converse(ask("q", "a"), LONG)
    model.play = when_told
    model.go.set()
    assert (await room.turns.converse(ask("q", "b"), LONG)).cache_outcome is CacheOutcome.MISS


async def test_a_withheld_reply_is_a_completed_turn_with_the_assistants_sentence(
    room: TurnRoom, model: PlayedModel
) -> None:
    async def withheld(prompt: Prompt, played: PlayedModel) -> AsyncIterator[Chunk]:
        yield Chunk(text="some of it", model="played")
        yield done(reason=FinishReason.PROVIDER_BLOCKED)

    model.play = withheld
    turn = await room.turns.converse(ask("q"), LONG)
    assert turn.finish_reason is FinishReason.PROVIDER_BLOCKED
    assert turn.reply == AssistantSettings().texts.provider_blocked


async def test_an_invisible_reply_is_no_reply(room: TurnRoom, model: PlayedModel) -> None:
    async def blank(prompt: Prompt, played: PlayedModel) -> AsyncIterator[Chunk]:
        yield Chunk(text=" \n", model="played")
        yield done()

    model.play = blank
    with pytest.raises((NoRouteAvailable, ReplyInterrupted)):
        await room.turns.converse(ask("q"), LONG)


async def test_time_runs_out_in_the_model_and_in_the_line(room: TurnRoom, model: PlayedModel) -> None:
    model.play = silent_until_told
    with pytest.raises(TurnTimedOut) as caught:
        await room.turns.converse(ask("slow", "a"), Budget(0.55))
    assert caught.value.metadata == {"stage": "model"}
    assert model.closed == 1
    first = asyncio.create_task(room.turns.converse(ask("1", "b"), LONG))
    await until(lambda: len(model.prompts) == 2)
    with pytest.raises(TurnTimedOut) as caught:
        await room.turns.converse(ask("2", "b"), Budget(0.05))
    assert caught.value.metadata == {"stage": "queue"}
    model.go.set()
    await first


async def test_a_turn_without_an_id_stops_when_its_caller_leaves(room: TurnRoom, model: PlayedModel) -> None:
    model.play = when_told
    async with room.turns.stream(ask("q"), LONG) as follower:
        async for batch in follower.batches():
            if isinstance(batch[-1][1], Delta):
                break
    await until(lambda: model.closed == 1 and room.register.running == 0)


async def test_a_turn_with_an_id_goes_on_for_a_while_and_a_poll_prolongs_it(
    open_room,  # type: ignore[no-untyped-def]  # a fixture
    model: PlayedModel,
) -> None:
    model.play = when_told
    async with open_room(Settings(turns=TurnSettings(linger_seconds=0.2))) as room:
        question = ask("q", request_id="lingering")
        async with room.turns.stream(question, LONG) as follower:
            async for _ in follower.batches():
                break
        for _ in range(4):
            await asyncio.sleep(0.1)
            assert (await room.turns.get(question.name)).state is TurnState.RUNNING
        assert (await room.turns.get(question.name)).reply == "first "
        await until(lambda: room.register.running == 0)
        assert model.closed == 1
        assert (await room.turns.get(question.name)).state is TurnState.CANCELLED


async def test_a_cancelled_turn_tells_its_caller_and_runs_anew_when_asked_again(
    room: TurnRoom, model: PlayedModel
) -> None:
    model.play = when_told
    question = ask("q", request_id="cancelled")
    caller = asyncio.create_task(room.turns.converse(question, LONG))
    await until(lambda: len(model.prompts) == 1)
    assert (await room.turns.cancel(question.name)).state is TurnState.CANCELLED
    with pytest.raises(TurnCancelled):
        await caller
    assert (await room.turns.cancel(question.name)).state is TurnState.CANCELLED
    model.go.set()
    assert (await room.turns.converse(question, LONG)).state is TurnState.SUCCEEDED


async def test_a_waiting_turn_can_be_cancelled_and_leaves_its_line(room: TurnRoom, model: PlayedModel) -> None:
    model.play = silent_until_told
    first = asyncio.create_task(room.turns.converse(ask("1"), LONG))
    await until(lambda: len(model.prompts) == 1)
    waiting = ask("2", request_id="waiting")
    second = asyncio.create_task(room.turns.converse(waiting, LONG))
    await until(lambda: room.register.find(waiting.name) is not None)
    await room.turns.cancel(waiting.name)
    with pytest.raises(TurnCancelled):
        await second
    third = asyncio.create_task(room.turns.converse(ask("3"), LONG))
    model.go.set()
    await asyncio.gather(first, third)
    assert [prompt.messages[-1].text for prompt in model.prompts] == ["1", "3"]


async def test_deltas_are_merged_over_the_interval_and_nothing_is_lost(room: TurnRoom, model: PlayedModel) -> None:
    async def many(prompt: Prompt, played: PlayedModel) -> AsyncIterator[Chunk]:
        for number in range(50):
            yield Chunk(text=f"{number},", model="played")
            await asyncio.sleep(0)
        yield done()

    model.play = many
    events = await _all(room, ask("q", options=TurnOptions(delta_interval=2.0)))
    deltas = [event.text for _, event in events if isinstance(event, Delta)]
    assert "".join(deltas) == "".join(f"{number}," for number in range(50))
    assert len(deltas) == 2


async def test_a_wait_says_what_it_waits_for(open_room, model: PlayedModel) -> None:  # type: ignore[no-untyped-def]  # a fixture
    model.play = silent_until_told
    async with open_room(Settings(turns=TurnSettings(progress_seconds=0.05))) as room:
        reading = asyncio.create_task(_all(room, ask("q")))
        await asyncio.sleep(0.2)
        model.go.set()
        kinds = [type(event).__name__ for _, event in await reading]
        assert kinds[:2] == ["Started", "Progress"]
        assert kinds[-2:] == ["Delta", "Completed"]


async def test_what_cannot_be_asked_is_refused_before_anything_begins(room: TurnRoom, model: PlayedModel) -> None:
    with pytest.raises(InputTooLong):
        await room.turns.converse(ask("字" * 20001), LONG)
    with pytest.raises(ResourceNotFound):
        await room.turns.converse(msgspec.structs.replace(ask(), assistant="nobody"), LONG)
    with pytest.raises(InvalidField):
        await room.turns.converse(ask(options=TurnOptions(model="no-such")), LONG)
    document = msgspec.structs.replace(ask(), input=Content((MediaPart("application/pdf", b"x"),)))
    with pytest.raises(MediaNotSupported):
        await room.turns.converse(document, LONG)
    assert not model.prompts


async def test_a_named_speaker_is_named_to_the_model(room: TurnRoom, model: PlayedModel) -> None:
    spoken = msgspec.structs.replace(ask("到几点?"), sender=Sender("u1", "张伟"))
    await room.turns.converse(spoken, LONG)
    assert model.prompts[0].messages[-1].text == "张伟:到几点?"
    assert model.prompts[0].user == "u1"
    await room.turns.converse(ask("谢谢"), LONG)
    assert model.prompts[1].messages[1].text == "张伟:到几点?"


async def test_what_does_not_exist_is_not_found(room: TurnRoom) -> None:
    name = TurnName("none", "none")
    for call in (
        room.turns.get(name),
        room.turns.cancel(name),
        room.turns.conversation("none"),
        room.turns.delete("none"),
        room.turns.list_turns("none", 10, ""),
    ):
        with pytest.raises(ResourceNotFound):
            await call


async def test_deleting_stops_what_runs_and_leaves_nothing(room: TurnRoom, model: PlayedModel) -> None:
    await room.turns.converse(ask("first", request_id="first"), LONG)
    model.play = when_told
    running = asyncio.create_task(room.turns.converse(ask("second"), LONG))
    await until(lambda: len(model.prompts) == 2)
    await room.turns.delete("c")
    with pytest.raises(TurnCancelled):
        await running
    with pytest.raises(ResourceNotFound):
        await room.turns.get(TurnName("c", "first"))
    with pytest.raises(ResourceNotFound):
        await room.turns.conversation("c")
    model.go.set()
    await room.turns.converse(ask("third"), LONG)
    assert len(model.prompts[-1].messages) == 2


async def test_the_running_turn_leads_the_list(room: TurnRoom, model: PlayedModel) -> None:
    await room.turns.converse(ask("1", request_id="one"), LONG)
    model.play = when_told
    running = asyncio.create_task(room.turns.converse(ask("2", request_id="two"), LONG))
    await until(lambda: len(model.prompts) == 2)
    page = await room.turns.list_turns("c", 10, "")
    assert [(turn.name.request_id, turn.state) for turn in page.turns] == [
        ("two", TurnState.RUNNING),
        ("one", TurnState.SUCCEEDED),
    ]
    model.go.set()
    await running


async def test_draining_finishes_what_runs_and_refuses_what_comes(open_room, model: PlayedModel) -> None:  # type: ignore[no-untyped-def]  # a fixture
    model.play = when_told
    async with open_room() as room:
        running = asyncio.create_task(room.turns.converse(ask("1"), LONG))
        waiting = asyncio.create_task(room.turns.converse(ask("2"), LONG))
        await until(lambda: len(model.prompts) == 1)
        draining = asyncio.create_task(room.drain(10))
        with pytest.raises(ShuttingDown):
            await waiting
        with pytest.raises(ShuttingDown):
            await room.turns.converse(ask("3", "other"), LONG)
        model.go.set()
        assert (await running).state is TurnState.SUCCEEDED
        await draining
