"""Personal data in turns: the model reads masks or names, the person reads the value, nobody else reads either."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from server.budget import Budget
from server.domain import Delta, FinishReason, Reasoning, TurnName, TurnOptions
from server.filter.entries import Direction
from server.filter.pii.external import RecogniserFailed
from server.filter.pii.guard import PiiGuard
from server.filter.pii.kinds import Finding
from server.llm.base import Chunk, Prompt, Role
from server.settings import AssistantSettings, ClassifierSettings, IntentSettings, PiiSettings, Settings
from server.turn.room import TurnRoom
from tests.server.turn.conftest import LONG, PlayedModel, ask, done, follow
from tests.server.turn.judge import Judge, second_opinion

NUMBER = "13912345678"
Open = Callable[..., AbstractAsyncContextManager[TurnRoom]]


def rooms(open_room: Open, pii: PiiSettings, **more: object) -> AbstractAsyncContextManager[TurnRoom]:
    assistant = AssistantSettings(pii=pii, **more)  # type: ignore[arg-type]
    return open_room(Settings(assistants={"default": assistant}), guards={"default": PiiGuard(pii)})


async def repeats(prompt: Prompt, model: PlayedModel) -> AsyncIterator[Chunk]:
    """Says the question again, one character at a time, and thinks it aloud before."""
    text = prompt.messages[-1].text
    for character in text:
        yield Chunk(reasoning=character, model="played")
    for character in f"收到：{text}。":
        yield Chunk(text=character)
    yield done()


def said(model: PlayedModel) -> list[str]:
    return [message.text for prompt in model.prompts for message in prompt.messages if message.role is not Role.SYSTEM]


async def test_the_model_reads_a_name_and_the_person_the_number(open_room: Open, model: PlayedModel) -> None:
    model.play = repeats
    async with rooms(open_room, PiiSettings(mode="placeholders")) as room:
        options = TurnOptions(include_reasoning=True)
        turn = await room.turns.converse(ask(f"我的电话是{NUMBER}", request_id="r", options=options), LONG)
        assert turn.reply == f"收到：我的电话是{NUMBER}。"
        assert not any(NUMBER in text for text in said(model))
        assert "[手机号1]" in model.prompts[0].messages[-1].text
        assert "手机号1" in model.prompts[0].messages[0].text or "[" in model.prompts[0].messages[0].text
        events, _ = await follow(room, TurnName("c", "r"))
        assert "".join(event.text for _, event in events if isinstance(event, Delta)) == turn.reply
        thought = "".join(event.text for _, event in events if isinstance(event, Reasoning))
        assert thought == f"我的电话是{NUMBER}"
        # The next question sees the same name for the same number.
        await room.turns.converse(ask(f"再说一遍{NUMBER}"), LONG)
        assert not any(NUMBER in text for text in said(model))
        assert model.prompts[1].messages[-1].text == "再说一遍[手机号1]"


async def test_an_answer_with_names_is_nobody_elses(open_room: Open, model: PlayedModel) -> None:
    model.play = repeats
    async with rooms(open_room, PiiSettings(mode="placeholders")) as room:
        for conversation, number in (("c", "13912345678"), ("d", "13887654321")):
            turn = await room.turns.converse(ask(f"我的电话是{number}", conversation=conversation), LONG)
            assert turn.reply == f"收到：我的电话是{number}。"
        assert len(model.prompts) == 2


async def test_masks_are_all_that_is_kept(open_room: Open, model: PlayedModel) -> None:
    model.play = repeats
    async with rooms(open_room, PiiSettings(mode="mask")) as room:
        turn = await room.turns.converse(ask(f"我的电话是{NUMBER}", request_id="r"), LONG)
        assert NUMBER not in turn.reply
        assert NUMBER not in turn.input.text
        await room.turns.converse(ask("我的电话是多少"), LONG)
        assert not any(NUMBER in text for text in said(model))
    async with rooms(open_room, PiiSettings(mode="mask")) as room:
        assert NUMBER not in (await room.turns.get(TurnName("c", "r"))).input.text
        # What was said under this name is still known by its digest.
        assert (await room.turns.converse(ask(f"我的电话是{NUMBER}", request_id="r"), LONG)).reply == turn.reply


async def test_whoever_sorts_questions_sees_no_number(open_room: Open, model: PlayedModel) -> None:
    intents = {"x": IntentSettings(description="anything")}
    async with rooms(
        open_room,
        PiiSettings(mode="placeholders"),
        intents=intents,
        classifier=ClassifierSettings(model="default"),
    ) as room:
        await room.turns.converse(ask(f"我的电话是{NUMBER}"), LONG)
    assert len(model.prompts) == 2
    assert not any(NUMBER in text for text in said(model))


async def test_what_a_model_makes_up_is_masked(open_room: Open, model: PlayedModel) -> None:
    async def invents(prompt: Prompt, model: PlayedModel) -> AsyncIterator[Chunk]:
        for piece in ("请打 139", "1111", "2222 或您的 ", NUMBER, "。"):
            yield Chunk(text=piece, model="played")
        yield done()

    model.play = invents
    async with rooms(open_room, PiiSettings(mask_output=True)) as room:
        turn = await room.turns.converse(ask(f"我的电话是{NUMBER}", request_id="r"), LONG)
        assert "13911112222" not in turn.reply
        assert NUMBER in turn.reply
        events, _ = await follow(room, TurnName("c", "r"))
        assert not any("1111" in event.text for _, event in events if isinstance(event, Delta))


class Broken:
    async def find(self, text: str, budget: Budget) -> tuple[Finding, ...]:
        raise RecogniserFailed("timeout")


async def test_a_recogniser_that_fails_closed_stops_the_message(open_room: Open, model: PlayedModel) -> None:
    pii = PiiSettings(mode="placeholders")
    async with open_room(
        Settings(assistants={"default": AssistantSettings(pii=pii)}), guards={"default": PiiGuard(pii, Broken())}
    ) as room:
        turn = await room.turns.converse(ask("张三的电话"), LONG)
    assert turn.finish_reason is FinishReason.INPUT_BLOCKED
    assert not model.prompts


@pytest.mark.parametrize("mode", ["mask", "placeholders"])
async def test_a_message_without_any_is_cached_as_ever(open_room: Open, model: PlayedModel, mode: str) -> None:
    async with rooms(open_room, PiiSettings(mode=mode)) as room:  # type: ignore[arg-type]
        for conversation in "cd":
            await room.turns.converse(ask("年假有几天", conversation=conversation), LONG)
    assert len(model.prompts) == 1


@pytest.mark.parametrize("mode", ["mask", "placeholders"])
async def test_a_second_opinion_on_messages_sees_masks(open_room: Open, model: PlayedModel, mode: str) -> None:
    judge = Judge("坏")
    pii = PiiSettings(mode=mode)  # type: ignore[arg-type]
    async with open_room(
        Settings(assistants={"default": AssistantSettings(pii=pii)}),
        guards={"default": PiiGuard(pii)},
        moderation=second_opinion(judge),
    ) as room:
        await room.turns.converse(ask(f"我的电话是{NUMBER}"), LONG)
    assert judge.asked[0] == ("我的电话是139＊＊＊＊5678", Direction.INPUT)
