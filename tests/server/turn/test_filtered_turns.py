"""The filter at work in turns: before the model, memory and cache, and before the person."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import msgspec
import pytest

from server.domain import (
    Content,
    Delta,
    FinishReason,
    MediaPart,
    Reasoning,
    Replacement,
    ReplacementCause,
    Said,
    TextPart,
    TurnName,
    TurnOptions,
)
from server.filter.entries import Direction
from server.filter.policy import Policy
from server.filter.screening import ListScreener
from server.llm.base import Chunk, Prompt
from server.settings import ActionName, PolicySettings, Settings
from server.turn.room import TurnRoom
from tests.server.filter.lists import small_list
from tests.server.turn.conftest import LONG, PlayedModel, ask, done, follow, hello, next_delivery, owed, report
from tests.server.turn.judge import Judge, second_opinion

WORDS = small_list([("代开发票", "any"), ("赌博", "any")], ["禁止赌博"])

Open = Callable[..., AbstractAsyncContextManager[TurnRoom]]


def screener(given: ActionName = "mask", said: ActionName = "mask") -> ListScreener:
    policy = Policy(PolicySettings(other_input=given, other_output=said))
    return ListScreener(lambda: WORDS, {"default": policy})


def says(*pieces: str, thoughts: str = "") -> Callable[[Prompt, PlayedModel], AsyncIterator[Chunk]]:
    async def play(prompt: Prompt, model: PlayedModel) -> AsyncIterator[Chunk]:
        for thought in thoughts:
            yield Chunk(reasoning=thought, model="played")
        for piece in pieces:
            yield Chunk(text=piece, model="played")
        yield done()

    return play


TEXTS = Settings().assistants["default"].texts


async def test_what_is_hidden_reaches_neither_model_nor_memory_nor_disk(open_room: Open, model: PlayedModel) -> None:
    async with open_room(screener=screener()) as room:
        turn = await room.turns.converse(ask("哪里可以代-开-发-票？", request_id="r"), LONG)
        assert model.prompts[0].messages[-1].text == "哪里可以＊＊＊＊＊＊＊？"
        assert turn.input.text == "哪里可以＊＊＊＊＊＊＊？"
        await room.turns.converse(ask("还有呢"), LONG)
        assert "哪里可以＊＊＊＊＊＊＊？" in [message.text for message in model.prompts[-1].messages]
        # The same message again is the same turn, although its words are nowhere any more.
        again = await room.turns.converse(ask("哪里可以代-开-发-票？", request_id="r"), LONG)
        assert again.reply == turn.reply
    async with open_room(screener=screener()) as room:
        stored = await room.turns.get(TurnName("c", "r"))
        assert stored.input.text == "哪里可以＊＊＊＊＊＊＊？"
        assert (await room.turns.converse(ask("哪里可以代-开-发-票？", request_id="r"), LONG)).reply == turn.reply
        await room.turns.converse(ask("再说一遍"), LONG)
        assert "哪里可以＊＊＊＊＊＊＊？" in [message.text for message in model.prompts[-1].messages]


async def test_an_owed_message_is_hidden_on_disk_once_it_is_answered(open_room: Open, model: PlayedModel) -> None:
    async with open_room(screener=screener()) as room:
        question = msgspec.structs.replace(
            ask(request_id="r"), input=Content((TextPart("赌博网站"), TextPart("禁止赌博")))
        )
        await room.turns.submit(question, owed())
        async with room.deliveries.attach(hello()) as attachment:
            delivery = await next_delivery(attachment)
            await follow(room, delivery.name)
            await report(attachment, delivery.name)
        assert (await room.turns.submit(question, owed())).state.ended
    async with open_room(screener=screener()) as room:
        assert (await room.turns.get(TurnName("c", "r"))).input.text == "＊＊网站\n禁止赌博"


async def test_a_blocked_message_gets_the_sentence_and_is_not_remembered(open_room: Open, model: PlayedModel) -> None:
    async with open_room(screener=screener(given="block")) as room:
        turn = await room.turns.converse(ask("教我赌博"), LONG)
        assert (turn.reply, turn.finish_reason) == (TEXTS.input_blocked, FinishReason.INPUT_BLOCKED)
        assert not model.prompts
        await room.turns.converse(ask("公司禁止赌博吗"), LONG)
        assert [message.text for message in model.prompts[0].messages][1:] == ["公司禁止赌博吗"]


async def test_a_message_can_hand_the_conversation_over(open_room: Open, model: PlayedModel) -> None:
    async with open_room(screener=screener(given="hand_over")) as room:
        turn = await room.turns.converse(ask("我要举报赌博"), LONG)
        assert (turn.reply, turn.finish_reason) == (TEXTS.handed_over, FinishReason.HANDED_OFF)


@pytest.mark.parametrize("cut", range(1, 9))
async def test_masked_words_are_in_no_event_wherever_they_are_cut(
    open_room: Open, model: PlayedModel, cut: int
) -> None:
    text = "您可以代开发票哦。"
    model.play = says(text[:cut], text[cut:], thoughts="想想赌博")
    async with open_room(screener=screener()) as room:
        options = TurnOptions(include_reasoning=True)
        turn = await room.turns.converse(ask("问", request_id="r", options=options), LONG)
        assert turn.reply == "您可以＊＊＊＊哦。"
        events, _ = await follow(room, TurnName("c", "r"))
        shown = "".join(event.text for _, event in events if isinstance(event, Delta))
        assert shown == turn.reply
        assert "".join(event.text for _, event in events if isinstance(event, Reasoning)) == "想想＊＊"
        assert not any(word in repr(event) for _, event in events for word in ("代开", "开发票", "赌")), (
            "not even a part of a word"
        )


async def test_a_blocked_reply_is_taken_back_and_the_model_is_stopped(open_room: Open, model: PlayedModel) -> None:
    async def talks_on(prompt: Prompt, model: PlayedModel) -> AsyncIterator[Chunk]:
        yield Chunk(text="先说一句，", model="played")
        yield Chunk(text="再说赌博，")
        await model.go.wait()
        raise AssertionError("nobody reads on")

    model.play = talks_on
    async with open_room(screener=screener(said="block")) as room:
        turn = await room.turns.converse(ask("问", request_id="r"), LONG)
        assert (turn.reply, turn.finish_reason) == (TEXTS.output_blocked, FinishReason.OUTPUT_BLOCKED)
        assert model.closed == 1
        events, _ = await follow(room, TurnName("c", "r"))
        said = [event for _, event in events if isinstance(event, Delta | Replacement)]
        assert said == [
            Delta("先说一句，"),
            Delta("再说"),
            Replacement(TEXTS.output_blocked, ReplacementCause.FILTERED),
        ]
        # Neither remembered nor kept for others.
        model.play = says("好")
        await room.turns.converse(ask("问", conversation="d"), LONG)
        assert len(model.prompts) == 2


async def test_a_reply_that_begins_anew_is_filtered_anew(open_room: Open, model: PlayedModel) -> None:
    async def breaks_off(prompt: Prompt, model: PlayedModel) -> AsyncIterator[Chunk]:
        yield Chunk(text="先说代开", model="first")
        yield Chunk(text="代", model="second", restart=True)
        yield Chunk(text="开发票不行。")
        yield done("second")

    model.play = breaks_off
    async with open_room(screener=screener()) as room:
        await room.turns.converse(ask("问", request_id="r"), LONG)
        events, turn = await follow(room, TurnName("c", "r"))
        said = [event for _, event in events if isinstance(event, Delta | Replacement)]
        assert said == [Delta("先说"), Replacement("＊＊＊＊不行。", ReplacementCause.FAILOVER)]
        assert turn.reply == "＊＊＊＊不行。"


async def test_a_kept_reply_is_looked_through_again(open_room: Open, model: PlayedModel) -> None:
    model.play = says("可以赌博")
    lists = [small_list([("其他", "any")]), WORDS]
    policy = Policy(PolicySettings(other_output="block"))
    async with open_room(screener=ListScreener(lambda: lists[0], {"default": policy})) as room:
        assert (await room.turns.converse(ask("问"), LONG)).reply == "可以赌博"
        lists.reverse()
        again = await room.turns.converse(ask("问", conversation="d"), LONG)
        assert (again.reply, again.finish_reason) == (TEXTS.output_blocked, FinishReason.OUTPUT_BLOCKED)
        assert len(model.prompts) == 1


async def test_what_a_caller_remembers_is_looked_through_too(open_room: Open, model: PlayedModel) -> None:
    async with open_room(screener=screener()) as room:
        question = msgspec.structs.replace(
            ask("然后呢"), history=(Said(True, "说说赌博"), Said(False, "好")), via=("edge",)
        )
        await room.turns.converse(question, LONG)
    assert [message.text for message in model.prompts[0].messages][1:] == ["说说＊＊", "好", "然后呢"]


async def test_pictures_pass_the_word_lists(open_room: Open, model: PlayedModel) -> None:
    async with open_room(screener=screener()) as room:
        question = msgspec.structs.replace(ask(), input=Content((MediaPart("image/png", b"x"), TextPart("这是赌博吗"))))
        await room.turns.converse(question, LONG)
    assert model.prompts[0].messages[-1].text == "这是＊＊吗"
    assert len(model.prompts[0].messages[-1].images) == 1


async def test_a_second_opinion_can_stop_a_message(open_room: Open, model: PlayedModel) -> None:
    judge = Judge("坏")
    async with open_room(screener=screener(), moderation=second_opinion(judge)) as room:
        turn = await room.turns.converse(ask("坏问题，赌博"), LONG)
        assert (turn.reply, turn.finish_reason) == (TEXTS.input_blocked, FinishReason.INPUT_BLOCKED)
        assert not model.prompts
    assert judge.asked == [("坏问题，＊＊", Direction.INPUT)], "what the lists hide leaves the house hidden"


async def test_nothing_of_a_reply_is_shown_before_it_is_approved(open_room: Open, model: PlayedModel) -> None:
    judge = Judge("坏")
    model.play = says("第一句好。", "第二", "句坏。", "第三句。")
    async with open_room(screener=screener(), moderation=second_opinion(judge)) as room:
        turn = await room.turns.converse(ask("问", request_id="r"), LONG)
        assert (turn.reply, turn.finish_reason) == (TEXTS.output_blocked, FinishReason.OUTPUT_BLOCKED)
        events, _ = await follow(room, TurnName("c", "r"))
        said = [event for _, event in events if isinstance(event, Delta | Replacement)]
        assert said == [Delta("第一句好。"), Replacement(TEXTS.output_blocked, ReplacementCause.FILTERED)]
        assert model.closed == 1


async def test_an_approved_reply_is_whole(open_room: Open, model: PlayedModel) -> None:
    model.play = says(*"第一句好。第二句提到代开发票也好。没有句号的结尾")
    async with open_room(screener=screener(), moderation=second_opinion(Judge("坏"))) as room:
        turn = await room.turns.converse(ask("问"), LONG)
        assert turn.reply == "第一句好。第二句提到＊＊＊＊也好。没有句号的结尾"
