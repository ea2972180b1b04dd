"""Turns of files: read at the door, once, and kept small."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import msgspec
import pytest

from server.budget import Budget
from server.domain import (
    Ask,
    Content,
    DeliveryState,
    FinishReason,
    MediaPart,
    Missing,
    Part,
    TextPart,
    TurnName,
    TurnState,
    digest,
)
from server.errors import MediaNotSupported, RequestIdReused, ResourceNotFound, ShuttingDown
from server.filter.pii.guard import PiiGuard
from server.llm.base import Image
from server.settings import AssistantSettings, PiiSettings, Settings, TextSettings, TurnSettings
from server.turn.media_door import LARGE_BYTES
from server.turn.room import TurnRoom
from tests.server.turn.conftest import (
    LONG,
    PlayedModel,
    ask,
    hello,
    next_delivery,
    owed,
    report,
    silent_until_told,
    until,
)
from tests.server.turn.test_filtered_turns import screener

Open = Callable[..., AbstractAsyncContextManager[TurnRoom]]
TEXTS = TextSettings()
LARGE = bytes(LARGE_BYTES)


class Reader:
    """Reads text files at once, or when it is told to; pictures lose all but their first byte."""

    def __init__(self, *, waits: bool = False) -> None:
        self.count = 0
        self.rooms: list[int] = []
        self.seconds: list[float] = []
        self.go = asyncio.Event()
        if not waits:
            self.go.set()

    async def read(self, content: Content, budget: Budget, max_characters: int, whose: str) -> Content:
        self.count += 1
        self.rooms.append(max_characters)
        self.seconds.append(budget.remaining())
        await self.go.wait()
        return Content(tuple(map(self._read, content.parts)))

    def _read(self, part: Part) -> Part:
        if isinstance(part, TextPart) or not part.inline_data:
            return part
        if part.mime_type.startswith("image/"):
            return msgspec.structs.replace(part, inline_data=part.inline_data[:1])
        if part.mime_type == "text/plain":
            return TextPart(f"【文件】\n{part.inline_data.decode()}")
        return msgspec.structs.replace(part, inline_data=None, missing=Missing.ENCRYPTED)


def file(data: bytes | str, request_id: str = "", mime_type: str = "text/plain", text: str = "") -> Ask:
    data = data.encode() if isinstance(data, str) else data
    parts = (TextPart(text),) if text else ()
    return msgspec.structs.replace(
        ask(request_id=request_id), input=Content((*parts, MediaPart(mime_type, data, display_name="a.txt")))
    )


# --- what the model reads and what is kept -----------------------------------------------------


async def test_a_file_is_read_before_the_model_and_kept_as_text(open_room: Open, model: PlayedModel) -> None:
    reader = Reader()
    async with open_room(media=reader) as room:
        turn = await room.turns.converse(file("总价一万二", "r", text="总结一下"), LONG)
        assert model.prompts[0].messages[-1].text == "总结一下\n【文件】\n总价一万二"
        assert turn.input == Content((TextPart("总结一下"), TextPart("【文件】\n总价一万二")))
        await room.turns.converse(ask("总价多少"), LONG)
        assert "总价一万二" in model.prompts[1].messages[-3].text
    assert reader.count == 1
    assert reader.rooms == [Settings().turns.max_input_characters]
    async with open_room(media=reader) as room:
        stored = await room.turns.get(turn.name)
        assert stored.input == turn.input


async def test_an_owed_file_is_on_disk_as_text(open_room: Open, model: PlayedModel) -> None:
    async with open_room(media=Reader()) as room:
        accepted = await room.turns.submit(file("总价一万二", "m1"), owed(), Budget(3.5))
        assert accepted.input == Content((TextPart("【文件】\n总价一万二"),))
        async with room.deliveries.attach(hello(ended_only=True)) as instance:
            delivery = await next_delivery(instance)
            assert delivery.ended_turn is not None
            assert delivery.ended_turn.reply == "echo: 【文件】\n总价一万二"
            await report(instance, delivery.name)


async def test_a_picture_is_kept_as_it_was_read_and_not_read_again(open_room: Open, model: PlayedModel) -> None:
    reader = Reader()
    async with open_room(media=reader) as room:
        await room.turns.submit(file(b"\x89PNG", "m1", "image/png"), owed())
        await until(lambda: len(model.prompts) == 1)
        assert model.prompts[0].messages[-1].images == (Image("image/png", b"\x89"),)
    assert reader.count == 1


async def test_a_channel_does_not_get_back_what_it_brought(open_room: Open, model: PlayedModel) -> None:
    async with open_room(media=Reader()) as room, room.deliveries.attach(hello(ended_only=True)) as attachment:
        await room.turns.submit(file(b"\x89PNG", "m1", "image/png", "看图"), owed())
        delivery = await next_delivery(attachment)
        assert delivery.ended_turn is not None
        assert delivery.ended_turn.input == Content((TextPart("看图"), MediaPart("image/png", display_name="a.txt")))
        assert delivery.ended_turn.reply == "echo: 看图"
        assert (await room.turns.get(delivery.name)).input.media[0].inline_data == b"\x89"
        await report(attachment, delivery.name)
        assert (await room.turns.get(delivery.name)).delivery_state is DeliveryState.DELIVERED


async def test_a_message_without_bytes_is_nothing_to_read(open_room: Open) -> None:
    reader = Reader()
    address = MediaPart("image/png", uri="https://example.com/a.png")
    async with open_room(media=reader) as room:
        await room.turns.converse(ask("你好"), LONG)
        await room.turns.converse(msgspec.structs.replace(ask(), input=Content((address,))), LONG)
    assert reader.count == 0


# --- sentences -----------------------------------------------------------------------------------


SENTENCES = {
    Missing.TOO_LARGE: TEXTS.media_too_large,
    Missing.UNAVAILABLE: TEXTS.media_unavailable,
    Missing.DAMAGED: TEXTS.media_damaged,
    Missing.REFUSED: TEXTS.media_unavailable,
    Missing.UNSUPPORTED: TEXTS.media_unreadable,
    Missing.ENCRYPTED: TEXTS.media_encrypted,
    Missing.WITHOUT_TEXT: TEXTS.media_without_text,
    Missing.TOO_SLOW: TEXTS.media_too_slow,
    Missing.NO_LISTENER: TEXTS.voice_not_heard,
    Missing.NOT_UNDERSTOOD: TEXTS.voice_not_understood,
}


@pytest.mark.parametrize("missing", Missing)
async def test_what_is_missing_is_said_in_a_sentence_of_its_own(open_room: Open, missing: Missing) -> None:
    question = msgspec.structs.replace(
        ask(request_id="m1"), input=Content((TextPart("看看"), MediaPart("image/png", missing=missing)))
    )
    async with open_room(media=Reader()) as room:
        await room.turns.submit(question, owed())
        async with room.deliveries.attach(hello(ended_only=True)) as instance:
            delivery = await next_delivery(instance)
            assert delivery.ended_turn is not None
            assert delivery.ended_turn.reply == SENTENCES[missing]
            assert delivery.ended_turn.state is TurnState.FAILED
            await report(instance, delivery.name)
        with pytest.raises(MediaNotSupported) as refused:
            await room.turns.converse(msgspec.structs.replace(question, name=ask().name), LONG)
        assert refused.value.metadata == {"mimeType": "image/png", "missing": missing.name}


def test_every_sentence_is_of_its_own_but_for_two_that_are_the_same_to_a_person() -> None:
    assert len(set(SENTENCES.values())) == len(Missing) - 1


async def test_what_could_not_be_read_is_named_also_beside_a_question(open_room: Open, model: PlayedModel) -> None:
    async with open_room(media=Reader()) as room:
        with pytest.raises(MediaNotSupported) as refused:
            await room.turns.converse(file(b"%PDF", mime_type="application/pdf", text="总结一下"), LONG)
        assert refused.value.metadata["missing"] == "ENCRYPTED"
    assert not model.prompts


# --- again, and at the same time -----------------------------------------------------------------


@pytest.mark.parametrize("data", [b"small", LARGE])
async def test_a_message_that_comes_again_is_the_same_turn_and_not_read_again(open_room: Open, data: bytes) -> None:
    reader = Reader()
    for _ in range(2):  # while it is known here, and after a start
        async with open_room(media=reader) as room:
            first = await room.turns.submit(file(data, "m1"), owed())
            again = await room.turns.submit(file(data, "m1"), owed())
            assert first.name == again.name
            with pytest.raises(RequestIdReused):
                await room.turns.submit(file(data + b"!", "m1"), owed())
            with pytest.raises(RequestIdReused):
                # What the file became is another message than the file.
                await room.turns.submit(ask(first.input.text, request_id="m1"), owed())
    assert reader.count == 1


async def test_a_message_that_comes_again_while_it_is_read_waits_for_the_first(open_room: Open) -> None:
    reader = Reader(waits=True)
    async with open_room(media=reader) as room:
        calls = [asyncio.create_task(room.turns.submit(file("a", "m1"), owed())) for _ in range(3)]
        other = asyncio.create_task(room.turns.submit(file("b", "m1"), owed()))
        await until(lambda: reader.count == 1)
        reader.go.set()
        turns = await asyncio.gather(*calls)
        assert {turn.input.text for turn in turns} == {"【文件】\na"}
        with pytest.raises(RequestIdReused):
            await other
    assert reader.count == 1


@pytest.mark.parametrize("while_read", [True, False])
async def test_a_message_that_comes_again_without_its_bytes_changes_no_answer(
    open_room: Open, model: PlayedModel, while_read: bool
) -> None:
    reader = Reader(waits=True)
    async with open_room(media=reader) as room, room.deliveries.attach(hello(ended_only=True)) as attachment:
        first = asyncio.create_task(room.turns.submit(file("a", "m1"), owed()))
        await until(lambda: reader.count == 1)
        lost = Content((MediaPart("text/plain", display_name="a.txt", missing=Missing.UNAVAILABLE),))
        again = msgspec.structs.replace(file("a", "m1"), input=lost)
        if while_read:
            second = asyncio.create_task(room.turns.submit(again, owed()))
            for _ in range(5):
                await asyncio.sleep(0)
            await room.turns.reset("other")  # what it could have written by now is written
            reader.go.set()
            await first
        else:
            reader.go.set()
            await first
            second = asyncio.create_task(room.turns.submit(again, owed()))
        with pytest.raises(RequestIdReused):
            await second
        delivery = await next_delivery(attachment)
        assert delivery.ended_turn is not None
        assert delivery.ended_turn.reply == "echo: 【文件】\na"
        await report(attachment, delivery.name)
        assert len(room.deliveries) == 0
    assert len(model.prompts) == 1


async def test_a_caller_that_gives_up_finds_what_was_read_meanwhile(open_room: Open) -> None:
    reader = Reader(waits=True)
    async with open_room(media=reader) as room:
        leaving = asyncio.create_task(room.turns.submit(file("a", "m1"), owed()))
        await until(lambda: reader.count == 1)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        reader.go.set()
        assert (await room.turns.submit(file("a", "m1"), owed())).input.text == "【文件】\na"
    assert reader.count == 1


async def test_a_file_that_is_read_for_too_long_holds_up_no_end(open_room: Open) -> None:
    reader = Reader(waits=True)
    async with open_room(media=reader) as room:
        calls = [asyncio.create_task(room.turns.submit(file("a", "m1"), owed())) for _ in range(2)]
        await until(lambda: reader.count == 1)
        async with asyncio.timeout(2):
            await room.drain(0.05)
        for call in calls:
            with pytest.raises(ShuttingDown):
                await call
        with pytest.raises(ResourceNotFound):
            await room.turns.get(TurnName("c", "m1"))
        assert len(room.deliveries) == 0


async def test_the_same_call_twice_is_one_turn_also_of_a_file(open_room: Open, model: PlayedModel) -> None:
    reader = Reader(waits=True)
    async with open_room(media=reader) as room:
        calls = [asyncio.create_task(room.turns.converse(file(LARGE, "r"), LONG)) for _ in range(3)]
        await until(lambda: reader.count == 1)
        reader.go.set()
        turns = await asyncio.gather(*calls)
        assert len({turn.create_time for turn in turns}) == 1
        with pytest.raises(RequestIdReused):
            await room.turns.converse(file(LARGE + b"!", "r"), LONG)
    assert (reader.count, len(model.prompts)) == (1, 1)


async def test_what_is_written_while_a_file_is_read_is_answered_behind_it(open_room: Open, model: PlayedModel) -> None:
    reader = Reader(waits=True)
    async with open_room(media=reader) as room:
        reading = asyncio.create_task(room.turns.submit(file("总价一万二", "m1"), owed()))
        await until(lambda: reader.count == 1)
        await room.turns.submit(ask("总价多少", request_id="m2"), owed())
        assert not model.prompts
        reader.go.set()
        await reading
        await until(lambda: len(model.prompts) == 2)
        assert [prompt.messages[-1].text for prompt in model.prompts] == ["【文件】\n总价一万二", "总价多少"]
        assert "总价一万二" in model.prompts[1].messages[-3].text


async def test_the_digest_is_of_what_was_sent_before_files_were_read(open_room: Open) -> None:
    question = file("a", "m1")
    async with open_room() as room:  # without a reader, as in releases before this one
        await room.turns.submit(question, owed())
    assert question.said_digest == digest(question.input)
    async with open_room(media=(reader := Reader())) as room:
        assert (await room.turns.submit(question, owed())).input == question.input
    assert reader.count == 0


# --- what is not read -----------------------------------------------------------------------------


async def test_nothing_is_read_of_what_gets_a_fixed_sentence(open_room: Open, model: PlayedModel) -> None:
    reader = Reader()
    settings = Settings(turns=TurnSettings(max_input_characters=10, max_waiting_per_conversation=0))
    async with open_room(settings, media=reader) as room:
        long = await room.turns.submit(file("a", "m1", text="问" * 11), owed())
        assert (long.reply, long.input.media[0].inline_data) == (TEXTS.too_long, None)
        model.play = silent_until_told
        await room.turns.submit(ask("问", request_id="m2"), owed())
        busy = await room.turns.submit(file("a", "m3"), owed())
        assert (busy.reply, busy.input.media[0].inline_data) == (TEXTS.busy, None)
        again = await room.turns.submit(file("a", "m3"), owed())
        assert again.reply == TEXTS.busy
        model.go.set()
    assert reader.count == 0


async def test_the_reader_gets_what_the_caller_waits_and_leaves_some_for_the_disk(open_room: Open) -> None:
    reader = Reader()
    async with open_room(media=reader) as room:
        await room.turns.submit(file("a", "m1"), owed(), Budget(3.5))
        await room.turns.submit(file("a", "m2"), owed())
    assert 2.5 < reader.seconds[0] <= 3.0
    assert reader.seconds[1] > 60


# --- the filter ------------------------------------------------------------------------------------


async def test_words_of_a_file_are_filtered_as_typed_ones(open_room: Open, model: PlayedModel) -> None:
    async with open_room(media=Reader(), screener=screener(given="mask")) as room:
        turn = await room.turns.converse(file("哪里可以代-开-发-票？", "r"), LONG)
        assert "代" not in turn.input.text
        assert "代" not in model.prompts[0].messages[-1].text
    async with open_room(media=Reader(), screener=screener(given="block")) as room:
        turn = await room.turns.converse(file("赌博", "s"), LONG)
        assert turn.finish_reason is FinishReason.INPUT_BLOCKED
    assert len(model.prompts) == 1


async def test_personal_data_of_a_file_stays_in_the_house(open_room: Open, model: PlayedModel) -> None:
    pii = PiiSettings(mode="mask")
    settings = Settings(assistants={"default": AssistantSettings(pii=pii)})
    async with open_room(settings, media=Reader(), guards={"default": PiiGuard(pii)}) as room:
        turn = await room.turns.submit(file("联系人电话13912345678", "m1"), owed())
        await until(lambda: len(model.prompts) == 1)
        assert "13912345678" not in model.prompts[0].messages[-1].text
        async with room.deliveries.attach(hello(ended_only=True)) as instance:
            delivery = await next_delivery(instance)
            await report(instance, delivery.name)
        assert "13912345678" not in (await room.turns.get(turn.name)).input.text
