"""The robot of a group: what a push becomes, at which pace, through which accidents."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from adapter.app import running
from adapter.backoff import Backoff
from adapter.cards import CARD_TYPE, MESSAGE_TYPE
from adapter.delivery import Lease
from adapter.media.guarded_fetch import GuardedFetch
from adapter.media.room import Room
from adapter.media.upload import Sources
from adapter.metrics import Metrics
from adapter.outcome import Retry, Undeliverable
from adapter.rest.secret_address import SecretAddress
from adapter.robot.api import RobotApi
from adapter.robot.courier import Progress, RobotCourier, read_progress
from adapter.robot.messages import File, Mentions, Said, Style, mentions_of, pieces_of, style_of
from adapter.robot.pace import RobotPace
from adapter.settings import ListenSettings, OperationsSettings, RobotSettings, ServerSettings, Settings, WeComSettings
from program.secret import Secret
from simulator.app import Simulator
from simulator.chats import Bubble
from simulator.faults import Switch
from simulator.journal import Kind
from simulator.settings import ListenSettings as SimulatorListen
from simulator.settings import Settings as SimulatorSettings
from weconverse import ConversationClient, Delivery, Turn
from weconverse.testing import FakeService
from weconverse.v1.conversation_pb2 import Content, Media, Part

ACCOUNT = "channels/wecom/accounts/alarm"
KEY = "simulator-robot-key-0001"
SPEED = 200.0
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
CARD = {
    "card_type": "text_notice",
    "main_title": {"title": "告警", "desc": "磁盘快满了"},
    "card_action": {"type": 1, "url": "https://example.com"},
}


class FastClock:
    """A clock that both sides share and that runs ahead of the machine's."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def time(self) -> float:
        return 1_767_225_600.0 + (time.monotonic() - self._began) * SPEED

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / SPEED)


class Stage(NamedTuple):
    sim: Simulator
    fake: FakeService
    client: ConversationClient
    courier: RobotCourier
    registry: CollectorRegistry

    def shown(self) -> list[Bubble]:
        return [bubble for bubble in self.sim.bubbles("lina", "group") if bubble.speaker.startswith("robot:")]

    async def push(self, content: Any, *, request_id: str | None = None, recipient: str = "") -> Turn:
        return await self.client.push(ACCOUNT, content, recipient=recipient, request_id=request_id)

    async def all_delivered(self, seconds: float = 10.0) -> None:
        states = (Turn.DELIVERED, Turn.UNDELIVERABLE)
        await self.fake.until(lambda: all(t.delivery_state in states for t in self.fake.turns()), timeout=seconds)

    def texts(self) -> list[str]:
        return [bubble.text for bubble in self.shown()]


@asynccontextmanager
async def stage(
    *,
    per_minute: int = 20,
    style: Style = "auto",
    key: str = KEY,
    faults: dict[str, Switch] | None = None,
    sleep: Callable[[float], Awaitable[None]] | None = None,
) -> AsyncIterator[Stage]:
    """A local WeCom and a robot's courier on one fast clock, and a fake service that offers it what is pushed."""
    clock, registry = FastClock(), CollectorRegistry()
    metrics = Metrics(registry)
    settings = SimulatorSettings(listen=SimulatorListen(address="127.0.0.1:0"))
    async with AsyncExitStack() as stack:
        fake = await stack.enter_async_context(FakeService({}))
        sim = await stack.enter_async_context(Simulator(settings, clock=clock))
        for name, switch in (faults or {}).items():
            sim.faults.set(name, switch)
        client = await stack.enter_async_context(ConversationClient(fake.target))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        guarded = await stack.enter_async_context(GuardedFetch())
        courier = RobotCourier(
            RobotApi(SecretAddress(session, pause=lambda: Backoff(0.001, 0.001)), base=sim.rest_base, key=Secret(key)),
            Sources(guarded, Room(fetches=2, total_bytes=1 << 26), seconds=1.0),
            RobotPace(per_minute, clock=clock.time, sleep=sleep or clock.sleep),
            metrics,
            style=style,
            longest_pause=0.05,
        )
        lease = Lease(
            client, courier, metrics, account=ACCOUNT, instance="i", door="robot", exclusive=True, ended_only=True
        )
        holding = asyncio.create_task(lease.run())
        try:
            yield Stage(sim, fake, client, courier, registry)
        finally:
            holding.cancel()
            await asyncio.gather(holding, return_exceptions=True)


def most_in_a_minute(sim: Simulator) -> int:
    times = [entry.time for entry in sim.journal.entries(Kind.SHOWN)]
    return max(sum(at <= other < at + 60 for other in times) for at in times)


# --- the pace ----------------------------------------------------------------------------------


async def test_sixty_pushes_arrive_in_order_and_twenty_a_minute() -> None:
    async with stage() as scene:
        for number in range(60):
            await scene.push(f"第{number}条")
        await scene.all_delivered()
        assert scene.texts() == [f"第{number}条" for number in range(60)]
        assert most_in_a_minute(scene.sim) == 20
        assert scene.sim.counters["refused"] == 0


async def test_receivers_share_the_pace_in_the_order_in_which_they_came() -> None:
    async with stage() as scene:
        for number in range(30):
            await scene.push(f"第{number}条", recipient="@lina" if number % 2 else "")
        await scene.all_delivered()
        assert sorted(text.split()[0] for text in scene.texts()) == sorted(f"第{number}条" for number in range(30))
        assert most_in_a_minute(scene.sim) == 20
        for mentioned in (True, False):
            own = [text.split()[0] for text in scene.texts() if ("@" in text) == mentioned]
            assert own == [f"第{number}条" for number in range(30) if (number % 2 == 1) == mentioned]


async def test_a_refusal_for_frequency_waits_a_window_and_goes_on() -> None:
    # As after a restart: this instance does not know what was sent in the last minute.
    async with stage(per_minute=1000) as scene:
        for number in range(25):
            await scene.push(f"第{number}条")
        await scene.all_delivered()
        assert scene.texts() == [f"第{number}条" for number in range(25)]
        assert scene.sim.counters["refused"] >= 1


async def test_a_repeated_push_is_sent_once() -> None:
    async with stage() as scene:
        for _ in range(3):
            await scene.push("一次", request_id="alarm-1")
        await scene.all_delivered()
        assert scene.texts() == ["一次"]


# --- accidents ---------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["rest_cut_before", "rest_busy", "rest_5xx", "rest_limited"])
async def test_each_push_is_sent_once_through_accidents(
    fault: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    async with stage(faults={fault: Switch(count=2)}) as scene:
        for number in range(4):
            await scene.push(f"第{number}条")
        await scene.all_delivered()
        assert scene.texts() == [f"第{number}条" for number in range(4)]
        assert scene.sim.faults.struck[fault] == 2
        said = [caplog.text, *capsys.readouterr(), generate_latest(scene.registry).decode()]
        assert 'sends_total{door="robot"' in said[-1]
        assert not [text for text in said if KEY in text]


async def test_a_lost_answer_may_double_one_message_and_is_counted() -> None:
    async with stage(faults={"send_cut_after": Switch(count=1)}) as scene:
        await scene.push("一")
        await scene.push("二")
        await scene.all_delivered()
        assert scene.texts() == ["一", "一", "二"]
        suspects = scene.registry.get_sample_value("weconverse_adapter_resend_suspect_total", {"door": "robot"})
        assert suspects == 1.0


async def test_the_parts_of_a_push_are_counted_across_attempts() -> None:
    long = "\n\n".join(f"第{number}段" + "字" * 600 for number in range(5))
    recorded: list[Progress] = []

    async def record(data: bytes) -> None:
        recorded.append(read_progress(data))

    async with stage(faults={"rest_cut_before": Switch(count=1)}) as scene:
        turn = Turn(reply=Content(parts=[Part(text=long)]))
        delivery = Delivery(turn="conversations/push/turns/1", attempt=1, pushed=True, ended_turn=turn)
        outcome = await scene.courier.deliver(delivery, record)
        assert isinstance(outcome, Retry)
        assert recorded == [Progress(trying=True)]
        delivery.progress, delivery.attempt = outcome.progress, 2
        await scene.courier.deliver(delivery, record)
        assert len(scene.texts()) == len(set(scene.texts())) >= 2
        assert [one.sent for one in recorded[1:] if one.trying] == list(range(len(scene.texts())))


async def test_what_waits_for_its_turn_is_not_taken_for_sent() -> None:
    waiting, recorded = asyncio.Event(), list[Progress]()

    async def wait(_seconds: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    async def record(data: bytes) -> None:
        recorded.append(read_progress(data))

    async with stage(per_minute=1, sleep=wait) as scene:
        turn = Turn(reply=Content(parts=[Part(text="一条")]))
        delivery = Delivery(turn="conversations/push/turns/1", attempt=1, pushed=True, ended_turn=turn)
        await scene.courier.deliver(delivery, record)
        dying = asyncio.create_task(scene.courier.deliver(delivery, record))
        await waiting.wait()
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        assert recorded == [Progress(trying=True)]


@pytest.mark.parametrize(("key", "disabled", "code"), [("nobodys-key", False, "93000"), (KEY, True, "93004")])
async def test_a_robot_that_is_gone_is_the_operators(key: str, disabled: bool, code: str) -> None:
    async with stage(key=key) as scene:
        scene.sim.robots.disable("群机器人", disabled=disabled)
        await scene.push("有人吗")
        await scene.all_delivered()
        result = scene.fake.results[-1]
        assert code in result.detail
        assert key not in result.detail
        assert scene.texts() == []


@pytest.mark.parametrize("recipient", ["lina", "@", "mobile:abc", "@lina|nobody", "user:lina"])
async def test_who_is_called_must_be_said_as_documented(recipient: str) -> None:
    async with stage() as scene:
        await scene.push("有人吗", recipient=recipient)
        await scene.all_delivered()
        assert scene.fake.results[-1].detail.startswith("recipient: ")


async def test_an_answer_to_a_person_has_no_way() -> None:
    async with stage() as scene:

        async def record(_data: bytes) -> None:
            raise AssertionError

        assert isinstance(await scene.courier.deliver(Delivery(turn="c/t"), record), Undeliverable)


# --- what a push becomes -----------------------------------------------------------------------


def bodies(text: str, recipient: str = "", style: Style = "auto") -> list[dict[str, Any]]:
    pieces = pieces_of([Part(text=text)], mentions_of(recipient), style)
    return [piece.body for piece in pieces if isinstance(piece, Said)]


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("磁盘快满了", "text"),
        ("3 * 4 = 12，见 [注]", "text"),
        ("**磁盘**快满了", "v1"),
        ("# 告警\n磁盘", "v1"),
        ('<font color="warning">90%</font>', "v1"),
        ("请看 <@lina>\n\n| a | b |\n|---|---|\n| 1 | 2 |", "v1"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "v2"),
        ("- 一\n- 二", "v2"),
        ("![图](https://example.com/a.png)", "v2"),
        ("```\ncode\n```", "v2"),
    ],
)
def test_style_follows_the_text(text: str, style: str) -> None:
    assert style_of(text) == style


def test_parts_keep_to_the_limits_and_lose_nothing() -> None:
    text = "\n\n".join(f"第{number}段，" + "字" * 100 for number in range(60))
    for style, most, kind in (("text", 2048, "text"), ("v1", 4096, "markdown"), ("v2", 4096, "markdown_v2")):
        found = bodies(text, style=style)  # type: ignore[arg-type]  # of the three above
        assert all(body["msgtype"] == kind for body in found)
        assert all(len(body[kind]["content"].encode()) <= most for body in found)
        whole = "".join(body[kind]["content"] for body in found)
        assert all(f"第{number}段" in whole for number in range(60))


def test_texts_in_a_row_become_one_message() -> None:
    pieces = pieces_of([Part(text="一"), Part(text="二"), Part(text=" ")], Mentions(), "auto")
    assert [piece.body["text"]["content"] for piece in pieces if isinstance(piece, Said)] == ["一\n\n二"]


def test_people_are_called_once_and_where_the_message_can() -> None:
    assert mentions_of("@lina | @all|mobile:13800000000") == Mentions(("lina", "@all"), ("13800000000",))
    first, second = bodies("字" * 1000, "@lina|mobile:13800000000")
    assert first["text"]["mentioned_list"] == ["lina"]
    assert first["text"]["mentioned_mobile_list"] == ["13800000000"]
    assert "mentioned_list" not in second["text"]
    assert bodies("**粗**", "@lina")[0]["markdown"]["content"] == "<@lina>\n**粗**"
    for text, recipient in (("- 一\n- 二", "@lina"), ("**粗**", "@all")):
        shown, calling = bodies(text, recipient)
        assert "mentioned_list" not in str(shown)
        assert calling["text"]["mentioned_list"] == [recipient if recipient == "@all" else "lina"]


def test_nothing_to_say_is_said() -> None:
    assert bodies(" \n ")[0]["text"]["content"] == "（没有可以显示的内容）"


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"msgtype": "news", "news": {"articles": []}}, "news.articles"),
        ({"msgtype": "news", "news": {"articles": [{"title": "字" * 43, "url": "https://a"}]}}, "articles[0].title"),
        ({"msgtype": "markdown", "markdown": {"content": "字" * 1366}}, "markdown.content"),
        ({"msgtype": "video", "video": {}}, "msgtype"),
        ({"msgtype": "text"}, "text"),
    ],
)
def test_messages_that_wecom_would_refuse_name_the_field(message: dict[str, Any], field: str) -> None:
    part = Part(media=Media(mime_type=MESSAGE_TYPE, inline_data=msgspec.json.encode(message)))
    with pytest.raises(ValueError, match=r"^message\.") as refused:
        pieces_of([part], Mentions(), "auto")
    assert field in str(refused.value)


async def test_every_kind_reaches_the_group() -> None:
    news = {"msgtype": "news", "news": {"articles": [{"title": "周报", "url": "https://example.com"}]}}
    amr = b"#!AMR\n" + b"\x3c" + bytes(31)
    parts = [
        Part(text="文字"),
        Part(media=Media(mime_type="image/png", inline_data=PNG, display_name="图.png")),
        Part(
            media=Media(mime_type="text/csv", inline_data="部门,人数\n研发,12\n".encode(), display_name="人数 表.csv")
        ),
        Part(media=Media(mime_type="audio/amr", inline_data=amr, display_name="录音.amr")),
        Part(media=Media(mime_type=MESSAGE_TYPE, inline_data=msgspec.json.encode(news))),
        Part(media=Media(mime_type=CARD_TYPE, inline_data=msgspec.json.encode(CARD))),
        Part(media=Media(mime_type="image/png", inline_data=PNG + bytes(2 * 1024 * 1024), display_name="大图.png")),
        Part(media=Media(mime_type="text/plain", inline_data=b"x", display_name="小.txt")),
    ]
    assert [type(piece) for piece in pieces_of(parts[1:2], Mentions(), "auto")] == [File]
    async with stage() as scene:
        await scene.push(Content(parts=parts))
        await scene.all_delivered()
        kinds = [(bubble.content or {}).get("kind", bubble.look) for bubble in scene.shown()]
        assert kinds == ["text", "image", "file", "voice", "news", "card", "file", "text"]
        assert [(bubble.content or {}).get("name") for bubble in scene.shown()][2] == "人数 表.csv"
        assert scene.texts()[-1] == "（文件“小.txt”无法发送）"


def whole_adapter(fake: FakeService, sim: Simulator) -> Settings:
    return Settings(
        server=ServerSettings(target=fake.target),
        listen=ListenSettings(address="127.0.0.1:0", drain_seconds=0.2),
        operations=OperationsSettings(address=""),
        wecom=WeComSettings(api_base=sim.rest_base),
        robots={"alarm": RobotSettings(key=Secret(KEY))},
    )


async def test_what_several_people_get_is_not_cut_in_two_by_one_another() -> None:
    settings = SimulatorSettings(listen=SimulatorListen(address="127.0.0.1:0"))
    async with FakeService({}) as fake, Simulator(settings) as sim, ConversationClient(fake.target) as client:
        for number, recipient in enumerate(["@lina", "@all", "@zhangwei", ""]):
            await client.push(ACCOUNT, f"{number}" * 3000, recipient=recipient)
        async with running(whole_adapter(fake, sim)):
            await fake.until(lambda: all(turn.delivery_state == Turn.DELIVERED for turn in fake.turns()))
        assert "".join(max("0123", key=bubble.text.count) for bubble in sim.bubbles("lina", "group")) == "00112233"


async def test_the_whole_adapter_sends_what_is_pushed() -> None:
    settings = SimulatorSettings(listen=SimulatorListen(address="127.0.0.1:0"))
    async with (
        FakeService({}) as fake,
        Simulator(settings) as sim,
        ConversationClient(fake.target) as client,
        running(whole_adapter(fake, sim)),
    ):
        turn = await client.push(ACCOUNT, "磁盘快满了", recipient="@lina")
        await sim.wait_for(lambda: sim.bubbles("lina", "group"))
        assert [bubble.text for bubble in sim.bubbles("lina", "group")] == ["磁盘快满了 @李娜"]
        await fake.until(lambda: fake.turns()[0].delivery_state == Turn.DELIVERED)
        assert (await client.get_turn(turn.name)).delivery_state == Turn.DELIVERED
