"""What several models, pictures and a caller's own memory mean for a turn."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from server.domain import (
    Content,
    Delta,
    MediaPart,
    Reasoning,
    Replacement,
    ReplacementCause,
    Said,
    TextPart,
    TurnName,
    TurnOptions,
)
from server.errors import (
    DomainError,
    MediaNotSupported,
    NoRouteAvailable,
    ProviderRefused,
    RateLimited,
    ReplyInterrupted,
    RouteLoop,
)
from server.llm.base import (
    NO_MODEL_TAKES_PICTURES,
    ROUTE_LOOP,
    Chunk,
    ErrorClass,
    Image,
    LimitReached,
    Prompt,
    ProviderError,
    Role,
)
from server.turn.room import TurnRoom
from tests.server.turn.conftest import LONG, PlayedModel, ask, done, follow

NAME = TurnName("c", "r")


async def broken_off_and_begun_anew(prompt: Prompt, model: PlayedModel) -> AsyncIterator[Chunk]:
    yield Chunk(text="上海的", reasoning="想", model="first")
    yield Chunk(text="天气")
    yield Chunk(text="今天", model="second", restart=True)
    yield Chunk(text="多云。")
    yield done("second")


async def test_a_reply_that_is_begun_anew_is_replaced_whole(room: TurnRoom, model: PlayedModel) -> None:
    model.play = broken_off_and_begun_anew
    turn = await room.turns.converse(ask(request_id="r", options=TurnOptions(include_reasoning=True)), LONG)
    assert (turn.reply, turn.model) == ("今天多云。", "second")
    events, _ = await follow(room, NAME)
    said = [event for _, event in events if isinstance(event, Delta | Replacement | Reasoning)]
    assert said == [
        Reasoning("想"),
        Delta("上海的"),
        Delta("天气"),
        Replacement("今天", ReplacementCause.FAILOVER),
        Delta("多云。"),
    ]


async def test_text_that_was_held_back_is_not_shown_after_a_new_beginning(room: TurnRoom, model: PlayedModel) -> None:
    model.play = broken_off_and_begun_anew
    options = TurnOptions(delta_interval=2.0)
    turn = await room.turns.converse(ask(request_id="r", options=options), LONG)
    assert turn.reply == "今天多云。"
    events, _ = await follow(room, NAME)
    said = [event for _, event in events if isinstance(event, Delta | Replacement)]
    assert said[:2] == [Delta("上海的"), Replacement("今天", ReplacementCause.FAILOVER)]


async def test_the_cache_keeps_the_reply_that_stands(room: TurnRoom, model: PlayedModel) -> None:
    model.play = broken_off_and_begun_anew
    await room.turns.converse(ask("上海天气"), LONG)
    again = await room.turns.converse(ask("上海天气", conversation="d"), LONG)
    assert (again.reply, again.model, len(model.prompts)) == ("今天多云。", "second", 1)


PICTURE = MediaPart("image/png", b"\x89PNG")


async def test_pictures_reach_the_model_and_keep_away_from_the_cache(room: TurnRoom, model: PlayedModel) -> None:
    for conversation in ("c", "d"):
        question = msgspec.structs.replace(
            ask(conversation=conversation),
            input=Content((TextPart("这是什么"), PICTURE, MediaPart("image/jpeg", None, "https://x.example/a.jpg"))),
        )
        await room.turns.converse(question, LONG)
    assert len(model.prompts) == 2
    assert model.prompts[0].messages[-1].images == (
        Image("image/png", b"\x89PNG"),
        Image("image/jpeg", uri="https://x.example/a.jpg"),
    )


async def test_a_picture_without_words_is_remembered_as_one(room: TurnRoom, model: PlayedModel) -> None:
    model.play = lambda prompt, model: _say("一只猫")
    await room.turns.converse(msgspec.structs.replace(ask(), input=Content((PICTURE,))), LONG)
    await room.turns.converse(ask("它几岁"), LONG)
    said = [(message.role, message.text) for message in model.prompts[-1].messages if message.role is not Role.SYSTEM]
    assert said == [(Role.USER, "（图片）"), (Role.ASSISTANT, "一只猫"), (Role.USER, "它几岁")]


async def _say(text: str) -> AsyncIterator[Chunk]:
    yield Chunk(text=text, model="played")
    yield done()


@pytest.mark.parametrize(
    "part",
    [
        MediaPart("application/pdf", b"x"),
        MediaPart("audio/amr", b"x"),
        MediaPart("image/png", None, "http://x.example/a.png"),
        MediaPart("image/png", None, "file:///etc/passwd"),
        MediaPart("image/png"),
    ],
)
async def test_other_media_is_refused_by_name(room: TurnRoom, model: PlayedModel, part: MediaPart) -> None:
    with pytest.raises(MediaNotSupported) as caught:
        await room.turns.converse(msgspec.structs.replace(ask(), input=Content((part,))), LONG)
    assert caught.value.metadata == {"mimeType": part.mime_type}
    assert not model.prompts


async def test_who_keeps_the_memory_is_taken_at_their_word(room: TurnRoom, model: PlayedModel) -> None:
    await room.turns.converse(ask("我叫张三"), LONG)
    question = msgspec.structs.replace(
        ask("我叫什么", options=TurnOptions(bypass_memory=True)),
        history=(Said(True, "我叫李四"), Said(False, "你好李四")),
        via=("edge-1",),
        caller="portal",
        patient=True,
    )
    await room.turns.converse(question, LONG)
    prompt = model.prompts[-1]
    said = [(message.role, message.text) for message in prompt.messages if message.role is not Role.SYSTEM]
    assert said == [(Role.USER, "我叫李四"), (Role.ASSISTANT, "你好李四"), (Role.USER, "我叫什么")]
    assert (prompt.via, prompt.caller, prompt.patient, prompt.conversation) == (("edge-1",), "portal", True, "c")
    await room.turns.converse(ask("我是谁"), LONG)
    texts = [message.text for message in model.prompts[-1].messages]
    assert "我叫李四" not in texts
    assert "我叫张三" in texts


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (LimitReached("person", "20 requests per minute", 7.5), RateLimited("person", "20 requests per minute", 7.5)),
        (
            ProviderError(ErrorClass.BAD_REQUEST, "no", code=NO_MODEL_TAKES_PICTURES),
            MediaNotSupported("image/png"),
        ),
        (ProviderError(ErrorClass.BAD_REQUEST, "no", code=ROUTE_LOOP, model="edge"), RouteLoop("edge")),
        (ProviderError(ErrorClass.OVERLOADED, "full", retry_after=4.0), NoRouteAvailable(1, 4.0)),
        (ProviderError(ErrorClass.AUTH, "key sk-123", model="m"), ProviderRefused("m")),
    ],
)
async def test_what_a_caller_is_told(
    room: TurnRoom, model: PlayedModel, failure: ProviderError, expected: DomainError
) -> None:
    async def fail(prompt: Prompt, model: PlayedModel) -> AsyncIterator[Chunk]:
        raise failure
        yield

    model.play = fail
    with pytest.raises(type(expected)) as caught:
        await room.turns.converse(msgspec.structs.replace(ask(), input=Content((TextPart("看"), PICTURE))), LONG)
    assert caught.value.as_failure() == expected.as_failure()


async def test_a_reply_that_nobody_could_finish_is_an_error(room: TurnRoom, model: PlayedModel) -> None:
    async def cut(prompt: Prompt, model: PlayedModel) -> AsyncIterator[Chunk]:
        yield Chunk(text="半句", model="m")
        raise ProviderError(ErrorClass.INCOMPLETE, "cut", model="m")

    model.play = cut
    with pytest.raises(ReplyInterrupted):
        await room.turns.converse(ask(), LONG)
