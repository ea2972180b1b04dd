"""A bot's long connection from end to end: cards, ratings, quotes, files and pushes, against the local WeCom."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import pytest

from adapter.app import running
from adapter.cards import CARD_TYPE
from adapter.settings import BotSettings, MediaSettings, OperationsSettings, ServerSettings, Settings, WeComSettings
from adapter.translate import sentence
from simulator.app import Simulator
from simulator.chats import Bubble
from simulator.journal import Kind
from simulator.rules import Rules
from simulator.settings import ListenSettings
from simulator.settings import Settings as SimulatorSettings
from weconverse import ConversationClient, DeliveryResult, InputTooLong, Part, RateTurnRequest
from weconverse.testing import FakeService, Offer, Script
from weconverse.v1.conversation_pb2 import Choice, Content, ConverseRequest, Media

ACCOUNT = "channels/wecom/accounts/helper"
CARD = {
    "card_type": "button_interaction",
    "main_title": {"title": "请选择业务"},
    "button_list": [{"text": "查余额", "style": 1, "key": "查询余额"}, {"text": "人工", "style": 1, "key": "转人工"}],
    "task_id": "task-1",
}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(64))


def said(content: Content) -> list[str]:
    """Texts as they are, media by type and size."""
    return [
        part.text if part.HasField("text") else f"{part.media.mime_type} {len(part.media.inline_data)}"
        for part in content.parts
    ]


def echo(request: ConverseRequest) -> str:
    return "答：" + " | ".join(said(request.input))


def settings_for(sim: Simulator, fake: FakeService, **bot: Any) -> Settings:
    known = sim.settings.bots[0]
    options = {"refresh_seconds": 0.05, "thinking_seconds": 0.1, "ack_seconds": 0.3} | bot
    return Settings(
        server=ServerSettings(target=fake.target),
        operations=OperationsSettings(address=""),
        wecom=WeComSettings(api_base=sim.rest_base, socket_base=sim.socket_base),
        media=MediaSettings(private_networks=("127.0.0.0/8",), insecure_http=True),
        bots={"helper": BotSettings(bot_id=known.id, secret=known.secret, name=known.name, **options)},
    )


@asynccontextmanager
async def stack(
    script: Script = echo, rules: Rules | None = None, **bot: Any
) -> AsyncIterator[tuple[Simulator, FakeService]]:
    settings = SimulatorSettings(listen=ListenSettings(address="127.0.0.1:0"), rules=rules or Rules())
    async with FakeService(script, greeting="欢迎") as fake, Simulator(settings) as sim:
        adapter = settings_for(sim, fake, **bot)
        async with running(adapter):
            await sim.wait_for(sim.connected)
            yield sim, fake


def finished(sim: Simulator, chat: str = "bot", person: str = "lina") -> list[Bubble]:
    return [bubble for bubble in sim.replies(person, chat) if bubble.finished]


async def answered(sim: Simulator, count: int, chat: str = "bot") -> list[str]:
    await sim.wait_for(lambda: len(finished(sim, chat)) >= count)
    return [bubble.text for bubble in finished(sim, chat)]


def card_part() -> Part:
    return Part(media=Media(mime_type=CARD_TYPE, inline_data=msgspec.json.encode(CARD)))


async def push(fake: FakeService, content: Any, recipient: str) -> None:
    async with ConversationClient(fake.target) as client:
        await client.push(ACCOUNT, content, recipient=recipient, timeout=5)


@pytest.mark.parametrize("flat", [False, True])
async def test_a_touched_button_is_answered_and_shown_on_the_card(flat: bool) -> None:
    async with stack(rules=Rules(card_events_flat=flat)) as (sim, fake):
        await sim.write_to_bot("lina", "在吗")
        await answered(sim, 1)
        await push(fake, [card_part()], "user:lina")
        await answered(sim, 2)
        card = finished(sim)[1]
        sim.touch_bot_card("lina", card, "查询余额")
        assert (await answered(sim, 3))[2] == "答：查询余额"
        assert card.content is not None
        assert card.content["card"]["main_title"] == {"title": "已提交", "desc": "查询余额"}
        first, chosen = (turn for turn in fake.turns() if turn.name.startswith("conversations/wecom."))
        assert chosen.name.rpartition("/turns/")[0] == first.name.rpartition("/turns/")[0], "the person's own chat"


def refund(request: ConverseRequest) -> Offer | str:
    """A guided flow of two questions."""
    match said(request.input):
        case ["退款"]:
            return Offer("退款还是换货？", (Choice(label="退", text="我要退款"), Choice(label="换", text="我要换货")))
        case ["我要退款"]:
            return Offer("为什么？", ("坏了", "不想要了"))
        case answer:
            return "记下了：" + " | ".join(answer)


@pytest.mark.parametrize("chat", ["bot", "group"])
async def test_short_replies_on_offer_are_touched_one_question_after_the_other(chat: str) -> None:
    async with stack(refund) as (sim, fake):
        await sim.write_to_bot("lina", "退款", **({"group": chat} if chat == "group" else {}))
        assert (await answered(sim, 2, chat))[0] == "退款还是换货？"
        first = finished(sim, chat)[1]
        assert first.content is not None
        assert [button["text"] for button in first.content["card"]["button_list"]] == ["退", "换"]
        sim.touch_bot_card("lina", first, "我要退款")
        second = (await answered(sim, 4 if chat == "bot" else 3, chat))[2]
        if chat == "group":  # what answers a touch is of our own accord, and no card goes to a group so
            assert second == "为什么？\n\n您可以直接回复：\n• 坏了\n• 不想要了"
            await sim.write_to_bot("lina", "坏了", group=chat)
        else:
            assert second == "为什么？"
            sim.touch_bot_card("lina", finished(sim, chat)[3], "坏了")
        assert (await answered(sim, 5 if chat == "bot" else 4, chat))[-1] == "记下了：坏了"
        shown = first.content["by"]["lina"] if chat == "group" else first.content
        assert shown["card"]["main_title"]["desc"] == "我要退款"
        assert len({turn.name.rpartition("/turns/")[0] for turn in fake.turns()}) == 1
        assert not sim.journal.entries(Kind.REFUSED)


async def test_a_choice_that_the_service_does_not_take_is_answered_with_a_sentence() -> None:
    async with stack() as (sim, fake):
        await sim.write_to_bot("lina", "在吗")
        await answered(sim, 1)
        await push(fake, [card_part()], "user:lina")
        await answered(sim, 2)
        fake.fail_next(InputTooLong("too long"), method="SubmitTurn")
        sim.touch_bot_card("lina", finished(sim)[1], "查询余额")
        assert (await answered(sim, 3))[2] == sentence("INPUT_TOO_LONG")


async def test_a_card_of_our_own_accord_is_said_in_words_in_a_group() -> None:
    async with stack() as (sim, fake):
        await sim.write_to_bot("lina", "在吗", group="group")
        await answered(sim, 1, "group")
        await push(fake, [card_part()], f"chat:{sim.settings.groups[0].id}")
        assert (await answered(sim, 2, "group"))[1].startswith("【请选择业务】")
        assert not sim.journal.entries(Kind.REFUSED)


async def test_in_a_group_everybody_chooses_once_on_a_card_of_their_own() -> None:
    async with stack(thinking_seconds=9.0) as (sim, fake):
        # A card under a question, as the reply of another program would show it.
        bot = sim.socket.bots[sim.settings.bots[0].id]
        sim.faults.once("push_lost")
        await sim.write_to_bot("lina", "在吗", group="group")
        (question,) = bot.unreplied()
        bot.handle("aibot_respond_msg", question.req_id, {"msgtype": "template_card", "template_card": CARD})
        (card,) = sim.replies("lina", "group")
        for person, key in (("lina", "查询余额"), ("wangfang", "转人工")):
            sim.touch_bot_card(person, card, key)
        assert sorted((await answered(sim, 3, "group"))[1:]) == ["答：查询余额", "答：转人工"]
        assert card.content is not None
        by = {person: seen["card"]["main_title"]["desc"] for person, seen in card.content["by"].items()}
        assert by == {"lina": "查询余额", "wangfang": "转人工"}
        assert card.content["card"] == CARD, "whoever chose nothing sees it as it was"
        assert len({turn.name.rpartition("/turns/")[0] for turn in fake.turns()}) == 1


async def test_a_rating_reaches_the_service_and_shows_nothing() -> None:
    async with stack() as (sim, fake):
        await sim.write_to_bot("lina", "几点下班")
        await answered(sim, 1)
        (bubble,) = finished(sim)
        for kind, reasons, content in ((1, (), ""), (2, (2, 3), "说反了"), (3, (), "")):
            sim.rate("lina", bubble, kind, reasons, content)
            await fake.until(lambda count=kind: len(fake.ratings) == count)  # type: ignore[misc]  # a default argument
        assert [(rating.rating, rating.comment) for rating in fake.ratings] == [
            (RateTurnRequest.HELPFUL, ""),
            (RateTurnRequest.UNHELPFUL, "内容不完整、内容有错误；说反了"),
            (RateTurnRequest.RATING_UNSPECIFIED, ""),
        ]
        (turn,) = fake.turns()
        assert {rating.name for rating in fake.ratings} == {turn.name}
        assert fake.ratings[0].rater.id == turn.sender.id
        assert len(sim.replies("lina", "bot")) == 1
        assert not sim.journal.entries(Kind.REFUSED)


async def test_messages_of_every_kind_arrive_whole() -> None:
    async with stack() as (sim, _):
        sim.send_media_to_bot("lina", ("image", "a.png", PNG))
        sim.send_media_to_bot("lina", "左边", ("image", "a.png", PNG), "右边", ("image", "b.png", PNG + b"0"))
        sim.send_media_to_bot("lina", ("file", "表.csv", b"a,b\n1,2\n"))
        assert await answered(sim, 3) == [
            "答：image/png 72",
            "答：左边 | image/png 72 | 右边 | image/png 73",
            "答：text/csv 8",
        ]
        sim.quote_to_bot("lina", "这是什么", sim.bubbles("lina", "bot")[0])
        assert (await answered(sim, 4))[3] == "答：> [图片]\n\n这是什么 | image/png 72"
        sim.quote_to_bot("lina", "再说一遍", finished(sim)[2])
        assert (await answered(sim, 5))[4] == "答：> 答：text/csv 8\n\n再说一遍"
        sim.send_to_bot("lina", {"msgtype": "hologram", "hologram": {"x": 1}})
        assert (await answered(sim, 6))[5] == "答：application/x-unknown 0"
        sim.send_to_bot("lina", {"msgtype": "voice", "voice": {"content": "说的话"}})
        assert (await answered(sim, 7))[6] == "答：说的话"


async def test_a_group_hears_only_what_was_said_to_the_bot() -> None:
    async with stack() as (sim, fake):
        sim.write_in_group("wangfang", "大家好")
        await sim.write_to_bot("lina", "@小助手\u2005总结", group="group")
        sim.send_media_to_bot("lina", "看这个", ("image", "a.png", PNG), group="group")
        sim.quote_to_bot("lina", "什么意思", sim.bubbles("lina", "group")[0], group="group")
        assert await answered(sim, 3, "group") == [
            "答：总结",
            "答：看这个 | image/png 72",
            "答：> 大家好\n\n什么意思",
        ]
        assert {turn.sender.display_name for turn in fake.turns()} == {"lina"}


async def test_pushes_go_to_whoever_wrote_before() -> None:
    async with stack() as (sim, fake):
        group = sim.settings.groups[0].id
        await push(fake, "早", "user:lina")
        await fake.until(lambda: bool(fake.results))
        assert fake.results[-1].outcome == DeliveryResult.UNDELIVERABLE
        assert "93006" in fake.results[-1].detail
        await sim.write_to_bot("lina", "在吗")
        await answered(sim, 1)
        await sim.write_to_bot("lina", "在吗", group="group")
        await answered(sim, 1, "group")
        await push(fake, "**早**", "user:lina")
        await push(fake, "大家早", f"chat:{group}")
        assert (await answered(sim, 2))[1] == "**早**"
        assert (await answered(sim, 2, "group"))[1] == "大家早"


async def test_a_refused_card_is_said_in_words() -> None:
    async with stack() as (sim, fake):
        await sim.write_to_bot("lina", "在吗")
        await answered(sim, 1)
        sim.faults.once("card_refused")
        await push(fake, [card_part()], "user:lina")
        assert (await answered(sim, 2))[1] == "【请选择业务】\n• 查余额\n• 人工"


async def test_a_busy_conversation_loses_refreshes_and_no_answer() -> None:
    """Five messages a minute: two answers show themselves growing, the others only whole."""
    rules = Rules(conversation_per_minute=5, refreshes_count=False)
    slow = ["一", "二", "三"] * 30
    async with stack({str(number): slow for number in range(4)}, rules, conversation_messages_per_minute=5) as (sim, _):
        for number in range(3):
            await sim.write_to_bot("lina", str(number))
            await answered(sim, number + 1)
        frames = [bubble.sent for bubble in finished(sim)]
        assert [count > 1 for count in frames] == [True, True, False], frames
        assert [bubble.text for bubble in finished(sim)] == ["一二三" * 30] * 3
        assert not sim.journal.entries(Kind.REFUSED), "WeCom was not asked for more than it gives"


@pytest.mark.parametrize("keeps", [True, False])
async def test_what_comes_again_after_a_reconnect_is_the_same_question(keeps: bool) -> None:
    rules = Rules(redelivery_keeps_req_id=keeps)
    async with stack(rules=rules, thinking_seconds=9.0) as (sim, fake):
        # Taken, and the connection ends before anything was said.
        sim.faults.once("socket_cut")
        for number in range(3):
            await sim.write_to_bot("lina", str(number))
        assert await answered(sim, 3) == ["答：0", "答：1", "答：2"]
        assert sim.faults.struck["socket_cut"] == 1
        assert len(fake.turns()) == 3


async def test_a_person_may_have_three_messages_open_and_gets_all_answers_in_order() -> None:
    async with stack(rules=Rules(open_messages=3)) as (sim, _):
        for number in range(6):
            await sim.write_to_bot("lina", str(number))
        assert await answered(sim, 6) == [f"答：{number}" for number in range(6)]


async def test_a_platform_that_goes_silent_loses_nothing() -> None:
    """The socket stands, nothing comes: two heartbeats go unanswered, and the next connection brings what waited."""
    async with stack(heartbeat_seconds=0.2, ack_seconds=0.1) as (sim, _):
        await sim.write_to_bot("lina", "一")
        await answered(sim, 1)
        sim.silence(30.0)
        await sim.write_to_bot("lina", "二")
        assert (await answered(sim, 2))[1] == "答：二"


async def test_who_is_relieved_by_a_standby_stays_ready() -> None:
    """The service restarts, another instance is the first to come back, and takes the connection over."""
    simulator = SimulatorSettings(listen=ListenSettings(address="127.0.0.1:0"))
    async with FakeService(echo) as fake, Simulator(simulator) as sim, AsyncExitStack() as second:
        adapter = settings_for(sim, fake, kicked_pause_seconds=600.0)
        async with running(adapter):
            await sim.wait_for(sim.connected)
            await second.enter_async_context(running(adapter))
            relieved = 0
            while not relieved:
                fake.service.deliveries.close()  # every instance loses its lease, as when the service restarts
                before = len(finished(sim))
                await sim.write_to_bot("lina", str(before))
                await answered(sim, before + 1)
                farewells = [entry for entry in sim.journal.entries(Kind.DISCONNECTED) if "接替" in entry.detail]
                relieved = len(farewells)
        # The first one is gone. Had the second been sent away for ten minutes, nobody would answer.
        await sim.write_to_bot("lina", "还在吗")
        assert (await answered(sim, before + 2))[-1] == "答：还在吗"
        await second.aclose()
