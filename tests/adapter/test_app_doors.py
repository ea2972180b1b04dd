"""An application between a local WeCom and a fake service: what people touch, and what the company pushes."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from adapter.app import running
from adapter.application.recall import recall
from adapter.cards import CARD_TYPE, MESSAGE_TYPE
from adapter.settings import (
    AccessRule,
    AppSettings,
    ListenSettings,
    OperationsSettings,
    ServerSettings,
    Settings,
    WeComSettings,
)
from program.run import CannotStart
from program.settings import SettingsError
from simulator.app import Simulator
from simulator.chats import Bubble
from simulator.rules import Rules
from simulator.settings import AppSettings as SimulatedApp
from simulator.settings import ListenSettings as SimulatorListen
from simulator.settings import Settings as SimulatorSettings
from weconverse import Content, ConversationClient, Part, Turn
from weconverse.testing import FakeService, Offer, Script
from weconverse.v1.conversation_pb2 import Choice, Media

QUICK = Rules(callback_interval_seconds=0.02)
ACCOUNT = "channels/wecom/accounts/assistant"
BUTTONS: dict[str, Any] = {
    "card_type": "button_interaction",
    "main_title": {"title": "要退款吗？"},
    "button_list": [{"text": "要", "key": "我要退款"}, {"text": "不", "key": "不退了"}],
    "task_id": "refund-1",
}
NOTICE: dict[str, Any] = {
    "card_type": "text_notice",
    "main_title": {"title": "报销已通过", "desc": "单号 42"},
    "card_action": {"type": 1, "url": "https://example.com/42"},
}


def part(value: Mapping[str, Any], mime_type: str = CARD_TYPE) -> Part:
    return Part(media=Media(mime_type=mime_type, inline_data=json.dumps(value).encode()))


def echo(request: Any) -> str:
    return f"echo {request.input.parts[0].text}"


@asynccontextmanager
async def stack(script: Script | None = None, **options: Any) -> AsyncIterator[tuple[Simulator, FakeService]]:
    """A local WeCom with a menu, a fake service, and the adapter between them."""
    app = SimulatedApp(report_enter=True, menu={"请假": "LEAVE", "扫一扫": "SCAN"})
    listen = SimulatorListen(address="127.0.0.1:0")
    async with (
        FakeService(script or echo, greeting="**您好**，我是助手") as fake,
        Simulator(SimulatorSettings(listen=listen, apps=(app,), rules=QUICK)) as sim,
        running(settings_for(sim, fake, options)) as started,
    ):
        sim.set_callback_url(f"http://127.0.0.1:{started.callbacks_port}/wecom/app/assistant")
        yield sim, fake


def settings_for(sim: Simulator, fake: FakeService, options: dict[str, Any]) -> Settings:
    app = sim.settings.apps[0]
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
                menu={"LEAVE": "我想请假"},
                **options,
            )
        },
    )


async def seen(sim: Simulator, count: int, person: str = "lina", chat: str = "app") -> list[str]:
    return [bubble.text for bubble in await bubbles(sim, count, person, chat)]


async def bubbles(sim: Simulator, count: int, person: str = "lina", chat: str = "app") -> list[Bubble]:
    await sim.wait_for(lambda: len(sim.replies(person, chat)) >= count)
    return sim.replies(person, chat)


async def test_who_enters_is_greeted_once_a_day() -> None:
    async with stack() as (sim, fake):
        sim.enter("lina", "app")
        assert await seen(sim, 1) == ["您好，我是助手"]
        sim.send_event("lina", "subscribe")  # not enter_agent: in one second, that would be the same event again
        sim.enter("zhangwei", "app")
        await seen(sim, 1, "zhangwei")
        await sim.wait_for(lambda: sim.counters["acknowledged"] == 3)
        assert len(sim.replies("lina", "app")) == 1
        assert not fake.turns()


async def test_a_greeting_whose_answer_was_lost_is_said_again() -> None:
    async with stack() as (sim, _):
        sim.faults.once("callback_answer_lost")
        sim.enter("lina", "app")
        assert await seen(sim, 1) == ["您好，我是助手"]


async def test_ten_kinds_in_a_row_are_each_answered_or_rightly_not() -> None:
    async with stack() as (sim, fake):
        await sim.write_to_app("lina", "你好")
        sim.send_to_app("lina", "voice", {"MediaId": "m", "Format": "amr", "Recognition": "语音说的话"})
        sim.send_to_app("lina", "location", {"Location_X": "22.5", "Location_Y": "113.9", "Label": "深圳"})
        sim.send_to_app("lina", "link", {"Title": "新闻", "Url": "https://example.com", "Description": "简介"})
        sim.touch_menu("lina", "请假")
        place = {"Location_X": "1", "Location_Y": "2", "Label": "大街", "Poiname": "大厦"}
        sim.send_event("lina", "location_select", {f"SendLocationInfo.{name}": value for name, value in place.items()})
        sim.send_event("lina", "scancode_waitmsg", {"EventKey": "SCAN", "ScanCodeInfo.ScanResult": "SN-1"})
        sim.send_event("lina", "LOCATION", {"Latitude": "22.5", "Longitude": "113.9"})
        sim.send_event("lina", "view", {"EventKey": "https://example.com"})
        sim.touch_menu("lina", "扫一扫")
        await sim.wait_for(lambda: sim.counters["acknowledged"] == 10)
        said = {text.removeprefix("echo ") for text in await seen(sim, 7)}
        assert said == {
            "你好",
            "语音说的话",
            "位置：深圳（纬度 22.5，经度 113.9）",
            "链接：新闻 https://example.com\n简介",
            "我想请假",
            "位置：大厦，大街（纬度 1，经度 2）",
            "SN-1",
        }
        assert len(fake.turns()) == 7


async def test_a_repeated_event_is_one_turn() -> None:
    async with stack() as (sim, fake):
        sim.faults.once("callback_duplicated")
        sim.touch_menu("lina", "请假")
        assert await seen(sim, 1) == ["echo 我想请假"]
        assert len(fake.turns()) == 1


async def test_a_card_is_shown_touched_and_shows_the_choice() -> None:
    def script(request: Any) -> str | Content:
        text = request.input.parts[0].text
        return Content(parts=[Part(text="好的"), part(BUTTONS)]) if text == "退款" else f"echo {text}"

    async with stack(script) as (sim, _):
        await sim.write_to_app("lina", "退款")
        words, card = await bubbles(sim, 2)
        assert (words.text, card.look) == ("好的", "card")
        sim.touch_card("lina", card, "我要退款")
        assert (await seen(sim, 3))[2] == "echo 我要退款"
        await sim.wait_for(lambda: card.content is not None and card.content["replaced"] == "已选择：我要退款")


async def test_short_replies_on_offer_are_touched_one_question_after_the_other() -> None:
    def script(request: Any) -> Offer | str:
        match request.input.parts[0].text:
            case "退款":
                return Offer("退款还是换货？", (Choice(label="退", text="我要退款"), "我要换货"))
            case "我要退款":
                return Offer("为什么？", ("坏了", "不想要了"))
            case text:
                return f"记下了：{text}"

    async with stack(script) as (sim, fake):
        await sim.write_to_app("lina", "退款")
        words, first = await bubbles(sim, 2)
        assert (words.text, first.look) == ("退款还是换货？", "card")
        sim.touch_card("lina", first, "我要退款")
        words, second = (await bubbles(sim, 4))[2:]
        assert (words.text, second.look) == ("为什么？", "card")
        await sim.wait_for(lambda: first.content is not None and first.content["replaced"] == "已选择：我要退款")
        sim.touch_card("lina", second, "坏了")
        assert (await seen(sim, 5))[4] == "记下了：坏了"
        assert [turn.input.parts[0].text for turn in fake.turns()] == ["退款", "我要退款", "坏了"]
        assert len({turn.name.rpartition("/turns/")[0] for turn in fake.turns()}) == 1


async def test_who_may_not_use_it_is_told_so_at_once() -> None:
    rule = AccessRule(members=("zhangwei",))
    async with (
        stack(access=(rule,), refusal="请联系管理员。") as (sim, fake),
        ConversationClient(fake.target) as client,
    ):
        await client.push(ACCOUNT, Content(parts=[part(BUTTONS)]), recipient="user:lina")
        [card] = await bubbles(sim, 1)
        sim.touch_menu("lina", "请假")
        assert (await seen(sim, 2))[1] == "请联系管理员。"
        sim.touch_card("lina", card, "我要退款")
        await sim.wait_for(lambda: card.content is not None and card.content["replaced"] == "没有权限")
        # No text is taken in answer to this event, so it is a message of its own.
        sim.send_event("lina", "location_select", {"SendLocationInfo.Label": "大街"})
        assert (await seen(sim, 3))[2] == "请联系管理员。"
        sim.touch_menu("zhangwei", "请假")
        assert await seen(sim, 1, "zhangwei") == ["echo 我想请假"]


@pytest.mark.parametrize("flaw", ["shape", "platform", "cards off"])
async def test_a_card_that_cannot_be_shown_is_said_in_words(flaw: str) -> None:
    card = dict(BUTTONS)
    if flaw == "shape":
        card["button_list"] = BUTTONS["button_list"] * 4
    with structlog.testing.capture_logs() as logs:
        await card_in_words(flaw, card)
    named = [entry["why"] for entry in logs if entry["event"] == "card_said_in_words"]
    assert [why.partition(":")[0] for why in named] == (["card.button_list"] if flaw == "shape" else [])


async def card_in_words(flaw: str, card: dict[str, Any]) -> None:
    async with stack({"退款": Content(parts=[part(card)])}, cards=flaw != "cards off") as (sim, _):
        await sim.write_to_app("lina", "退款")
        if flaw == "platform":
            await seen(sim, 1)
            await sim.write_to_app("zhangwei", "退款")  # the same task_id once more: 42014
            assert (await seen(sim, 1, "zhangwei"))[0].startswith("【要退款吗？】\n• 要\n")
        else:
            [bubble] = await bubbles(sim, 1)
            assert bubble.look == "text"
            assert bubble.text.startswith("【要退款吗？】\n• 要\n• 不")


async def delivered(client: ConversationClient, turn: Turn) -> Turn.DeliveryState.ValueType:
    async with asyncio.timeout(5):
        while (found := await client.get_turn(turn.name)).delivery_state == Turn.OWED:
            await asyncio.sleep(0.01)
    return found.delivery_state


async def test_pushes_reach_people_and_everybody() -> None:
    async with stack() as (sim, fake), ConversationClient(fake.target) as client:
        content = Content(parts=[Part(text="今晚维护"), Part(text="请保存文件"), part(NOTICE)])
        one = await client.push(ACCOUNT, content, recipient="user:lina|zhangwei", request_id="1")
        again = await client.push(ACCOUNT, content, recipient="user:lina|zhangwei", request_id="1")
        assert one.name == again.name
        assert await delivered(client, one) == Turn.DELIVERED
        for person in ("lina", "zhangwei"):
            words, card = sim.replies(person, "app")
            assert (words.text, card.look) == ("今晚维护\n请保存文件", "card")
        everybody = await client.push(ACCOUNT, "早上好", recipient="@all")
        assert await delivered(client, everybody) == Turn.DELIVERED
        assert {sim.replies(person, "app")[-1].text for person in sim.corp.people} == {"早上好"}


@pytest.mark.parametrize("recipient", ["user:ghost", "lina", "", "chat:wrNobody", "user:@all", "party:"])
async def test_pushes_to_nobody_are_undeliverable(recipient: str) -> None:
    async with stack() as (sim, fake), ConversationClient(fake.target) as client:
        turn = await client.push(ACCOUNT, "有人吗", recipient=recipient)
        assert await delivered(client, turn) == Turn.UNDELIVERABLE
        assert sim.counters["shown"] == 0


async def test_a_push_into_a_group_of_the_application() -> None:
    async with stack() as (sim, fake), ConversationClient(fake.target) as client:
        sim.appchats.create(sim.settings.apps[0], {"chatid": "wrDaily", "userlist": ["lina", "zhangwei"]})
        content = Content(parts=[Part(text="**日报**"), part(NOTICE), Part(text="完")])
        turn = await client.push(ACCOUNT, content, recipient="chat:wrDaily")
        assert await delivered(client, turn) == Turn.DELIVERED
        words = "【报销已通过】\n单号 42\nhttps://example.com/42"
        assert await seen(sim, 3, chat="group:wrDaily") == ["日报", words, "完"]


async def test_a_group_has_no_duplicate_check_so_a_lost_answer_is_sent_again() -> None:
    async with stack() as (sim, fake), ConversationClient(fake.target) as client:
        sim.appchats.create(sim.settings.apps[0], {"chatid": "wrDaily", "userlist": ["lina", "zhangwei"]})
        sim.faults.once("send_cut_after")
        content = Content(parts=[Part(text="一"), part(NOTICE)])
        turn = await client.push(ACCOUNT, content, recipient="chat:wrDaily")
        await fake.until(lambda: any(result.turn == turn.name for result in fake.results))
        assert (await seen(sim, 1, chat="group:wrDaily"))[0] == "一"
        retry = next(result for result in fake.results if result.turn == turn.name)
        assert retry.retry_delay.seconds >= 1, "known to be in doubt, so it is not repeated at once"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (
            {"msgtype": "textcard", "textcard": {"title": "领奖", "description": "恭喜", "url": "https://example.com"}},
            "领奖\n恭喜",
        ),
        ({"msgtype": "news", "news": {"articles": [{"title": "公告", "url": "https://example.com"}]}}, "公告"),
        (
            {"msgtype": "miniprogram_notice", "miniprogram_notice": {"appid": "wx1", "title": "会议室预定"}},
            "会议室预定",
        ),
        ({"msgtype": "template_card", "template_card": NOTICE}, "报销已通过\n单号 42"),
        ({"msgtype": "markdown", "markdown": {"content": "**好**"}}, "**好**"),
    ],
)
async def test_messages_in_wecoms_own_json(message: dict[str, Any], text: str) -> None:
    async with stack() as (sim, fake), ConversationClient(fake.target) as client:
        turn = await client.push(ACCOUNT, Content(parts=[part(message, MESSAGE_TYPE)]), recipient="user:lina")
        assert await delivered(client, turn) == Turn.DELIVERED
        assert await seen(sim, 1) == [text]


async def test_a_broken_message_in_wecoms_own_json_is_undeliverable() -> None:
    async with stack() as (sim, fake), ConversationClient(fake.target) as client:
        broken = part({"msgtype": "news", "news": {"articles": []}}, MESSAGE_TYPE)
        turn = await client.push(ACCOUNT, Content(parts=[broken]), recipient="user:lina")
        assert await delivered(client, turn) == Turn.UNDELIVERABLE
        assert fake.results[-1].detail.startswith("message.news.articles: ")
        assert sim.replies("lina", "app") == []


async def test_an_operator_takes_a_message_back() -> None:
    async with stack() as (sim, fake), ConversationClient(fake.target) as client:
        turn = await client.push(ACCOUNT, "发错了", recipient="@all")
        assert await delivered(client, turn) == Turn.DELIVERED
        settings, [first, *_] = settings_for(sim, fake, {}), sim.replies("lina", "app")
        assert await recall(settings, f"assistant/{first.msg_id}") == f"assistant/{first.msg_id}: taken back"
        assert all(bubble.recalled for person in sim.corp.people for bubble in sim.replies(person, "app"))
        with pytest.raises(CannotStart, match="no such message"):
            await recall(settings, "assistant/unknown")
        with pytest.raises(CannotStart, match="ACCOUNT/MSGID"):
            await recall(settings, None)
        with pytest.raises(SettingsError, match=r"apps\.other"):
            await recall(settings, "other/1")
