"""What a turn that goes wrong leaves in the log: everything to find it by, and nobody's name."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import msgspec
import pytest

from server.domain import Ask, Sender, TurnName
from server.errors import InternalError, NoRouteAvailable, RateLimited, StoreUnavailable
from server.llm.base import Chunk, ErrorClass, LimitReached, Prompt, ProviderError
from server.logged_names import conversation_digest, logged_name
from server.settings import AssistantSettings, DeliverySettings, Settings
from server.store.base import StaleEpoch, TurnStore
from server.turn.room import TurnRoom
from tests.server.journal_lines import journal, lines
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

PERSON = "zhang-san@example.com"
QUESTION = "我的卡号是多少?"
FOUND_BY = {"conversation": conversation_digest(PERSON), "turn": "r1"}


class OpenRoom(Protocol):
    def __call__(self, settings: Settings | None = None, **fields: Any) -> AbstractAsyncContextManager[TurnRoom]: ...


def question(request_id: str = "r1") -> Ask:
    return ask(QUESTION, conversation=PERSON, request_id=request_id)


def said(request_id: str) -> Ask:
    return msgspec.structs.replace(question(request_id), sender=Sender("p"))


async def fails(prompt: Prompt, model: PlayedModel) -> AsyncIterator[Chunk]:
    raise ProviderError(ErrorClass.OVERLOADED, "HTTP 503", said=f"cannot answer {QUESTION}", model="played", status=503)
    yield Chunk()


async def has_a_defect(prompt: Prompt, model: PlayedModel) -> AsyncIterator[Chunk]:
    raise KeyError("a defect")
    yield Chunk()


async def is_limited(prompt: Prompt, model: PlayedModel) -> AsyncIterator[Chunk]:
    raise LimitReached("person", "20 requests per minute", 30.0, model="played")
    yield Chunk()


class BadStore:
    """A real store, but for one method that fails."""

    def __init__(self, store: TurnStore, method: str, error: Exception) -> None:
        self._store, self._method, self._error = store, method, error

    def __getattr__(self, name: str) -> Any:
        return self._fail if name == self._method else getattr(self._store, name)

    async def _fail(self, *_: object, **__: object) -> None:
        raise self._error


async def test_what_a_model_says_of_its_failure_is_written_at_debug_alone(room: TurnRoom, model: PlayedModel) -> None:
    model.play = fails
    for level, written in (("info", 0), ("debug", 1)):
        with journal(level) as output, pytest.raises(NoRouteAvailable):
            await room.turns.converse(question(f"at {level}"), LONG)
        (line,) = lines(output, "model_failed")
        assert (line["kind"], line["status"], line["reason"]) == ("overloaded", 503, "HTTP 503")
        assert [QUESTION in line["said"] for line in lines(output, "backend_said")] == [True] * written
        assert (QUESTION in output.getvalue().decode()) is bool(written)


async def test_a_turn_that_meets_a_limit_has_no_line_of_its_own(room: TurnRoom, model: PlayedModel) -> None:
    model.play = is_limited
    with journal("debug") as output, pytest.raises(RateLimited):
        await room.turns.converse(question(), LONG)
    assert lines(output, "model_failed") == []


def test_a_name_in_a_log_is_the_same_everywhere_and_nobodys() -> None:
    assert logged_name(TurnName(PERSON, "r1")) == FOUND_BY
    assert conversation_digest("c") == conversation_digest("c") != conversation_digest("d")
    assert len(conversation_digest("half a pair: \ud83d")) == 16


@pytest.mark.parametrize(
    ("play", "error", "event"),
    [(fails, NoRouteAvailable, "model_failed"), (has_a_defect, InternalError, "turn_crashed")],
)
async def test_a_turn_that_fails(
    room: TurnRoom, model: PlayedModel, play: Any, error: type[Exception], event: str
) -> None:
    model.play = play
    with journal("debug") as output, pytest.raises(error):
        await room.turns.converse(question(), LONG)
    (line,) = lines(output, event)
    assert FOUND_BY.items() <= line.items()
    assert PERSON not in output.getvalue().decode()


@pytest.mark.parametrize(
    ("method", "error", "is_owed", "event"),
    [
        ("finish", StoreUnavailable("turn"), False, "turn_end_not_written"),
        ("finish_owed", StaleEpoch(), True, "stale_worker"),
    ],
)
async def test_an_end_that_cannot_be_written(
    open_room: OpenRoom, model: PlayedModel, method: str, error: Exception, is_owed: bool, event: str
) -> None:
    with journal("debug") as output:
        async with open_room(wrap=lambda store: BadStore(store, method, error)) as room:
            if is_owed:
                await room.turns.submit(question(), owed())
                await until(lambda: len(model.prompts) == 1 and room.register.running == 0)
            else:
                with pytest.raises(StoreUnavailable):
                    await room.turns.converse(question(), LONG)
    assert FOUND_BY.items() <= lines(output, event)[0].items()
    assert PERSON not in output.getvalue().decode()


async def test_an_answer_that_cannot_be_delivered(open_room: OpenRoom) -> None:
    with journal("debug") as output:
        async with open_room(Settings(delivery=DeliverySettings(max_retries=0))) as room:
            await room.turns.submit(question(), owed())
            async with room.deliveries.attach(hello(ended_only=True)) as instance:
                await next_delivery(instance)
                await report(instance, question().name, "retry", detail="closed")
                await report(instance, question().name)
    assert FOUND_BY.items() <= lines(output, "turn_undeliverable")[0].items()
    assert FOUND_BY.items() <= lines(output, "late_report")[0].items()
    assert PERSON not in output.getvalue().decode()


async def test_messages_in_a_row(open_room: OpenRoom, model: PlayedModel) -> None:
    settings = Settings(assistants={"default": AssistantSettings(merge_seconds=0.02, memory_rounds=0)})
    model.play = silent_until_told
    with journal("debug") as output:
        async with open_room(settings) as room:
            await room.turns.submit(said("r0"), owed())
            await until(lambda: len(model.prompts) == 1)
            # What waits behind a turn that runs is merged as soon as it could begin.
            await room.turns.submit(said("r1"), owed())
            await room.turns.submit(said("r2"), owed())
            model.go.set()
            await until(lambda: room.register.running == 0)
    (line,) = lines(output, "turn_merged")
    assert (FOUND_BY | {"into": "r2"}).items() <= line.items()
    assert PERSON not in output.getvalue().decode()
