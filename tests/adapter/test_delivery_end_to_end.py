"""The whole adapter between a local WeCom and a fake service: both doors, and accidents of each side."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from adapter.app import running
from adapter.settings import (
    AppSettings,
    BotSettings,
    ListenSettings,
    OperationsSettings,
    ServerSettings,
    Settings,
    WeComSettings,
)
from adapter.text.render import PLACEHOLDER
from adapter.translate import sentence
from simulator.app import Simulator
from simulator.settings import ListenSettings as SimulatorListen
from simulator.settings import Settings as SimulatorSettings
from weconverse import DeliveryResult, InputTooLong, TextReplacement, Unavailable
from weconverse.testing import FakeService, Piece, Script
from weconverse.v1.channel_pb2 import Hello


def settings_for(sim: Simulator, fake: FakeService, stream_seconds: float) -> Settings:
    app, bot = sim.settings.apps[0], sim.settings.bots[0]
    return Settings(
        server=ServerSettings(target=fake.target),
        listen=ListenSettings(address="127.0.0.1:0", drain_seconds=0.5),
        operations=OperationsSettings(address=""),
        wecom=WeComSettings(api_base=sim.rest_base, socket_base=sim.socket_base),
        apps={
            "assistant": AppSettings(
                corp_id=sim.settings.corp_id,
                agent_id=app.agent_id,
                secret=app.secret,
                token=app.token,
                encoding_aes_key=app.encoding_aes_key,
            )
        },
        bots={
            "helper": BotSettings(
                bot_id=bot.id,
                secret=bot.secret,
                name=bot.name,
                refresh_seconds=0.05,
                thinking_seconds=0.1,
                stream_seconds=stream_seconds,
                ack_seconds=0.3,
                kicked_pause_seconds=0.3,
            )
        },
    )


@asynccontextmanager
async def stack(
    script: Script | None = None, *, stream_seconds: float = 330.0
) -> AsyncIterator[tuple[Simulator, FakeService]]:
    """A local WeCom, a fake service, and the adapter between them, connected."""
    listen = SimulatorListen(address="127.0.0.1:0")
    async with (
        FakeService(script or (lambda request: f"echo {request.input.parts[0].text}"), greeting="欢迎") as fake,
        Simulator(SimulatorSettings(listen=listen)) as sim,
        running(settings_for(sim, fake, stream_seconds)) as started,
    ):
        sim.set_callback_url(f"http://127.0.0.1:{started.callbacks_port}/wecom/app/assistant")
        await sim.wait_for(sim.connected)
        yield sim, fake


def texts(sim: Simulator, person: str, chat: str) -> list[str]:
    return [bubble.text for bubble in sim.replies(person, chat) if bubble.finished]


async def answered(sim: Simulator, person: str, chat: str, count: int, timeout: float = 8.0) -> list[str]:
    await sim.wait_for(lambda: len(texts(sim, person, chat)) >= count, timeout)
    return texts(sim, person, chat)


async def test_application_answers() -> None:
    async with stack() as (sim, fake):
        await sim.write_to_app("zhangwei", "你好")
        assert await answered(sim, "zhangwei", "app", 1) == ["echo 你好"]
        await fake.until(lambda: bool(fake.results))
        assert fake.results[-1].outcome == DeliveryResult.DELIVERED


async def test_bot_answers_in_one_bubble() -> None:
    async with stack() as (sim, _):
        await sim.write_to_bot("lina", "你好")
        assert await answered(sim, "lina", "bot", 1) == ["echo 你好"]


async def test_equal_answers_of_two_turns_are_both_shown() -> None:
    async with stack({"a": "好的", "b": "好的"}) as (sim, _):
        await sim.write_to_app("zhangwei", "a")
        await answered(sim, "zhangwei", "app", 1)
        await sim.write_to_app("zhangwei", "b")
        assert await answered(sim, "zhangwei", "app", 2) == ["好的", "好的"]


async def test_a_repeated_callback_is_one_turn() -> None:
    async with stack() as (sim, fake):
        sim.faults.once("callback_answer_lost")
        await sim.write_to_app("zhangwei", "一次")
        assert await answered(sim, "zhangwei", "app", 1) == ["echo 一次"]
        assert len(fake.turns()) == 1


@pytest.mark.parametrize(
    "fault",
    ["send_cut_after", "rest_5xx", "rest_busy", "rest_cut_before", "token_expired", "callback_duplicated"],
)
async def test_application_answers_once_through_accidents(fault: str) -> None:
    async with stack() as (sim, _):
        sim.faults.once(fault)
        for number in range(3):
            await sim.write_to_app("zhangwei", f"第{number}条")
        expected = [f"echo 第{number}条" for number in range(3)]
        assert sorted(await answered(sim, "zhangwei", "app", 3)) == expected
        assert sim.faults.struck[fault] == 1
        assert all(bubble.sent - bubble.suppressed == 1 for bubble in sim.replies("zhangwei", "app"))


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        ("conflict", None),
        ("stream_expired", None),
        ("subscription_lost", None),
        ("socket_cut", None),
        ("socket_cut_after", None),
        ("ack_late", 0.45),
        ("ack_lost", None),
        ("frame_lost", None),
        ("push_lost", None),
        ("push_duplicated", None),
        ("control_characters", None),
        ("server_ping", None),
        ("kick", None),
        ("kick_half", None),
    ],
)
async def test_bot_answers_once_through_accidents(fault: str, seconds: float | None) -> None:
    async with stack() as (sim, _):
        sim.faults.once(fault, seconds=seconds)
        for number in range(3):
            await sim.write_to_bot("lina", f"第{number}条")
        expected = [f"echo 第{number}条" for number in range(3)]
        if fault == "push_lost":
            await answered(sim, "lina", "bot", 2)
            sim.cut()  # a reconnect brings it again
        await sim.wait_for(lambda: sorted(visible(sim)) == expected, 10)
        assert sim.faults.struck[fault] == 1


def visible(sim: Simulator) -> list[str]:
    """The answers that a person has; a bubble that expired without one is not an answer."""
    return [text for text in texts(sim, "lina", "bot") if text.startswith("echo")]


async def test_bubble_grows_from_a_placeholder_and_is_redrawn() -> None:
    go_on = asyncio.Event()

    async def pieces() -> AsyncIterator[Piece]:
        await go_on.wait()
        yield "第一段"
        go_on.clear()
        await go_on.wait()
        yield TextReplacement(text="改过的", cause=TextReplacement.FAILOVER)
        yield "答案"

    def bubble_text() -> str:
        return next((bubble.text for bubble in sim.replies("lina", "bot")), "")

    async with stack(lambda _: pieces()) as (sim, _):
        await sim.write_to_bot("lina", "问题")
        await sim.wait_for(lambda: bubble_text() == PLACEHOLDER)
        go_on.set()
        await sim.wait_for(lambda: bubble_text() == "第一段")
        go_on.set()
        await sim.wait_for(lambda: bubble_text() == "改过的答案")
        assert len(await answered(sim, "lina", "bot", 1)) == 1


async def test_answer_later_than_the_bubble_lives_is_sent_as_a_message() -> None:
    go_on = asyncio.Event()

    async def pieces() -> AsyncIterator[Piece]:
        yield "开头"
        await go_on.wait()
        yield ",结尾"

    async with stack(lambda _: pieces(), stream_seconds=0.4) as (sim, _):
        await sim.write_to_bot("lina", "问题")
        first = (await answered(sim, "lina", "bot", 1))[0]
        assert first.startswith("开头")
        assert "另发一条" in first
        go_on.set()
        assert (await answered(sim, "lina", "bot", 2))[1] == "开头,结尾"


async def test_long_answers_arrive_in_numbered_parts_and_in_order() -> None:
    long = "\n\n".join(f"第{number}段。" + "内容" * 200 for number in range(40))
    async with stack(lambda _: [long]) as (sim, _):
        await sim.write_to_bot("lina", "长")
        await sim.write_to_app("zhangwei", "长")
        bot_parts_seen = await answered(sim, "lina", "bot", 3)
        app_parts_seen = await answered(sim, "zhangwei", "app", 25)
        for parts in (bot_parts_seen, app_parts_seen):
            assert [part.split("/")[0] for part in parts] == [f"({n + 1}" for n in range(len(parts))]
        for bubble in [*sim.replies("lina", "bot"), *sim.replies("zhangwei", "app")]:
            assert bubble.lost_bytes == 0


async def test_who_opens_the_chat_is_welcomed() -> None:
    async with stack() as (sim, _):
        sim.enter("lina", "bot")
        assert await answered(sim, "lina", "bot", 1) == ["欢迎"]


async def test_group_members_are_answered_in_the_group() -> None:
    async with stack() as (sim, fake):
        group = sim.settings.groups[0].id
        await sim.write_to_bot("lina", "你好", group)
        assert await answered(sim, "lina", f"group:{group}", 1) == ["echo 你好"]
        assert fake.turns()[0].sender.display_name == "lina"


async def test_a_message_waits_while_the_service_is_away() -> None:
    async with stack() as (sim, fake):
        fake.fail_next(Unavailable("away", reason="STORE_UNAVAILABLE"), method="SubmitTurn", times=4)
        await sim.write_to_bot("lina", "等等")
        assert await answered(sim, "lina", "bot", 1) == ["echo 等等"]


async def test_a_refused_message_is_answered_with_a_sentence() -> None:
    async with stack() as (sim, fake):
        fake.fail_next(InputTooLong("too long"), method="SubmitTurn")
        await sim.write_to_bot("lina", "长")
        assert await answered(sim, "lina", "bot", 1) == [sentence("INPUT_TOO_LONG")]
        assert not fake.turns()


async def test_broken_streams_are_followed_again() -> None:
    go_on = asyncio.Event()

    async def pieces() -> AsyncIterator[Piece]:
        yield "一"
        await go_on.wait()
        yield "二"

    async with stack(lambda _: pieces()) as (sim, fake):
        await sim.write_to_bot("lina", "问题")
        await sim.wait_for(lambda: any(bubble.text == "一" for bubble in sim.replies("lina", "bot")))
        fake.break_streams()
        go_on.set()
        assert await answered(sim, "lina", "bot", 1) == ["一二"]


async def test_two_adapters_share_a_bot_without_kicking_each_other() -> None:
    async with stack() as (sim, fake), running(settings_for(sim, fake, 330.0)):
        hellos = fake.requests("Attach", Hello)
        await fake.until(lambda: len(fake.requests("Attach", Hello)) == 4)
        assert all(hello.exclusive for hello in hellos if hello.account.endswith("helper"))
        for number in range(5):
            await sim.write_to_bot("lina", str(number))
        await answered(sim, "lina", "bot", 5)
        assert sim.counters["disconnected"] == 0
        fake.revoke("channels/wecom/accounts/helper")
        await sim.write_to_bot("lina", "换人")
        assert "echo 换人" in await answered(sim, "lina", "bot", 6)
