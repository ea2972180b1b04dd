"""The whole server in front of models that fail on purpose, with llmock as referee of how it behaved.

What is asked for: every turn ends in a whole answer or in one clear error, none is cut and
called complete, and the mock's own verdict finds nothing wrong with us.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from llmock.chaos import ChaosSettings, StreamChaos
from llmock.pytest_plugin import LLMock
from llmock.testing import LLMockServer

from server.compose import running
from server.settings import (
    AssistantSettings,
    GrpcSettings,
    ModelLimitSettings,
    ModelSettings,
    OperationsSettings,
    RoutingSettings,
    Settings,
    StoreSettings,
)
from weconverse import ConversationClient, NoRouteAvailable, ReplyInterrupted, WeConverseError
from weconverse.v1.conversation_pb2 import StreamConverseResponse, Turn

WHOLE = "这是一个完整的回答, 共有许多字, 一个也不能少: " + " ".join(f"第 {number} 句。" for number in range(20))

Break = Callable[[LLMock], object]


@contextmanager
def mock() -> Iterator[LLMock]:
    with LLMockServer() as server:
        llmock = LLMock(server)
        llmock.reply(WHOLE, times=None)
        yield llmock


def model(llmock: LLMock, name: str = "m") -> ModelSettings:
    return ModelSettings(
        preset="openai_style",
        base_url=llmock.base_url("openai"),
        model=name,
        limits=ModelLimitSettings(requests_per_minute=0),
        first_token_seconds=0.5,
        idle_seconds=0.5,
    )


@asynccontextmanager
async def serving(tmp_path: Path, *models: ModelSettings) -> AsyncIterator[ConversationClient]:
    names = [f"m{number}" for number in range(len(models))]
    settings = Settings(
        grpc=GrpcSettings(address="127.0.0.1:0"),
        operations=OperationsSettings(address=""),
        store=StoreSettings(path=str(tmp_path / "turns.db")),
        assistants={"default": AssistantSettings(model=names[0], fallback_models=tuple(names[1:]), memory_rounds=0)},
        models=dict(zip(names, models, strict=True)),
        routing=RoutingSettings(first_backoff_seconds=0.2),
    )
    async with (
        running(settings) as server,
        ConversationClient(f"127.0.0.1:{server.port}", honour_retry_info=False) as client,
    ):
        yield client


async def converse(client: ConversationClient, number: int = 0) -> Turn:
    return await client.converse(f"conversations/c{number}", f"问题{number}", timeout=30)


def text_of(turn: Turn) -> str:
    return "".join(part.text for part in turn.reply.parts)


def seen(events: list[StreamConverseResponse]) -> str:
    """What a person has in front of them after these events."""
    shown = ""
    for event in events:
        match event.WhichOneof("event"):
            case "delta":
                shown += event.delta.text
            case "replacement":
                shown = event.replacement.text
    return shown


PASSING: list[tuple[str, Break]] = [
    ("429 with a hint", lambda llmock: llmock.rate_limit(retry_after=0.4)),
    ("429 without a hint", lambda llmock: llmock.fail(429)),
    ("503", lambda llmock: llmock.fail(503)),
    ("500 twice", lambda llmock: llmock.fail(500, times=2)),
    ("529", lambda llmock: llmock.fail(529)),
    ("disconnect at once", lambda llmock: llmock.disconnect(after_chunks=0)),
    ("disconnect", lambda llmock: llmock.disconnect(after_chunks=3)),
    ("truncate", lambda llmock: llmock.truncate(after_chunks=4)),
    ("truncate at once", lambda llmock: llmock.truncate(after_chunks=1)),
    ("malformed", lambda llmock: llmock.corrupt(after_chunks=2)),
    ("stall", lambda llmock: llmock.stall(after_chunks=2, seconds=5.0)),
    ("slow first token", lambda llmock: llmock.slow_first_token(5.0)),
]


@pytest.mark.parametrize("fault", [fault for _, fault in PASSING], ids=[name for name, _ in PASSING])
async def test_a_fault_that_passes_costs_nobody_the_answer(tmp_path: Path, fault: Break) -> None:
    with mock() as llmock:
        fault(llmock)
        async with serving(tmp_path, model(llmock)) as client:
            turn = await converse(client)
        assert text_of(turn) == WHOLE
        assert turn.finish_reason == Turn.STOP
        assert turn.usage.attempt_count > 1
        llmock.assert_resilient()


@pytest.mark.parametrize(
    ("status", "code"), [(400, ""), (401, ""), (403, ""), (404, ""), (422, ""), (429, "insufficient_quota")]
)
async def test_what_cannot_get_better_is_one_clear_error(tmp_path: Path, status: int, code: str) -> None:
    with mock() as llmock:
        llmock.fail(status, times=None, code=code or None)
        async with serving(tmp_path, model(llmock)) as client:
            with pytest.raises(WeConverseError) as caught:
                await converse(client)
        assert "sk-" not in str(caught.value)
        assert len(llmock.requests) == 1
        llmock.assert_resilient()


async def test_an_outage_is_one_clear_error_and_no_storm(tmp_path: Path) -> None:
    with mock() as llmock:
        llmock.outage()
        async with serving(tmp_path, model(llmock)) as client:
            with pytest.raises(NoRouteAvailable) as caught:
                await converse(client)
        assert caught.value.retry_after
        llmock.assert_resilient()


async def test_a_model_that_always_cuts_is_never_complete(tmp_path: Path) -> None:
    with mock() as llmock:
        llmock.truncate(after_chunks=3, times=None)
        async with serving(tmp_path, model(llmock)) as client:
            with pytest.raises((ReplyInterrupted, NoRouteAvailable)):
                await converse(client)


async def test_a_person_sees_one_whole_answer_from_the_second_model(tmp_path: Path) -> None:
    with mock() as first, mock() as second:
        first.truncate(after_chunks=5, times=None)
        events: list[StreamConverseResponse] = []
        async with (
            serving(tmp_path, model(first, "a"), model(second, "b")) as client,
            client.stream("conversations/c", "问题") as stream,
        ):
            async for event in stream:
                events.append(event)
        assert seen(events) == WHOLE
        assert sum(event.WhichOneof("event") == "replacement" for event in events) <= 1
        assert all(event.replacement.text for event in events if event.HasField("replacement"))
        assert len(first.requests) == len(second.requests) == 1
        second.assert_resilient()


async def test_with_a_fifth_of_both_models_calls_failing_people_get_their_answers(tmp_path: Path) -> None:
    """At least 99.5 % of 400 turns, and no answer that is not whole."""
    turns = 400
    with mock() as first, mock() as second:
        async with serving(tmp_path, model(first, "a"), model(second, "b")) as client:
            for llmock in (first, second):
                llmock._server.state.stream_chaos = StreamChaos(
                    fault_rates=(("disconnect", 0.05), ("truncate", 0.05), ("malformed", 0.03), ("stall", 0.01))
                )
                llmock._server.state.chaos = ChaosSettings(error_rates={503: 0.04, 500: 0.02})
            places = asyncio.Semaphore(16)

            async def one(number: int) -> bool:
                async with places:
                    try:
                        turn = await converse(client, number)
                    except WeConverseError:
                        return False
                assert text_of(turn) == WHOLE
                return True

            answered = await asyncio.gather(*map(one, range(turns)))
        failed = sum(record.fault is not None or record.status >= 400 for record in (*first.requests, *second.requests))
        assert failed >= 0.1 * turns, "the mocks did what they were told"
        assert sum(answered) >= 0.995 * turns
