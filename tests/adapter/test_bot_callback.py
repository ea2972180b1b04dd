"""Bots in callback mode: the adapter between a local WeCom that polls and a fake service."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import msgspec
import pytest

from adapter.app import running
from adapter.bot import fetched
from adapter.crypto import Envelope
from adapter.settings import (
    REFUSAL,
    AccessRule,
    CallbackBotSettings,
    ListenSettings,
    MediaSettings,
    OperationsSettings,
    ServerSettings,
    Settings,
    WeComSettings,
)
from adapter.text.render import MERGED
from adapter.translate import sentence
from program.secret import Secret
from simulator.app import Simulator
from simulator.faults import Switch
from simulator.journal import Kind
from simulator.rules import Rules
from simulator.settings import BotSettings as SimulatorBot
from simulator.settings import ListenSettings as SimulatorListen
from simulator.settings import Settings as SimulatorSettings
from weconverse import (
    ConversationClient,
    DeliveryResult,
    InputTooLong,
    RateTurnRequest,
    ResourceNotFound,
    Unavailable,
)
from weconverse.testing import FakeService, Piece, Script
from weconverse.v1.conversation_pb2 import Choice, Content, Media, Part, Turn

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
QUICK = Rules(callback_interval_seconds=0.05, stream_poll_interval_seconds=0.03, stream_poll_seconds=2.0)


ANOTHER_KEY = Secret("AnotherBotAESKey0123456789ABCDEFGHIJKLMNOPQ")


def settings_for(
    sim: Simulator, fake: FakeService, *, close: float, submit: float, refusal: str, rotating: bool
) -> Settings:
    bot = sim.settings.bots[0]
    present, following = (Secret("Another"), bot.token) if rotating else (bot.token, Secret(""))
    key, next_key = (ANOTHER_KEY, bot.encoding_aes_key) if rotating else (bot.encoding_aes_key, Secret(""))
    return Settings(
        server=ServerSettings(target=fake.target),
        listen=ListenSettings(address="127.0.0.1:0", drain_seconds=0.2, submit_seconds=submit),
        operations=OperationsSettings(address=""),
        wecom=WeComSettings(api_base=sim.rest_base),
        media=MediaSettings(private_networks=("127.0.0.0/8",), insecure_http=True),
        callback_bots={
            "helper": CallbackBotSettings(
                bot_id=bot.id,
                token=present,
                next_token=following,
                encoding_aes_key=key,
                next_encoding_aes_key=next_key,
                name=bot.name,
                access=(AccessRule(members=("zhangwei",)),) if refusal else (),
                refusal=refusal or REFUSAL,
                close_seconds=close,
                window_seconds=sim.settings.rules.stream_poll_seconds,
                grace_seconds=0.3,
            )
        },
    )


class Proxy:
    """Stands before several adapters, and gives each request to the next one of them: a load balancer."""

    def __init__(self) -> None:
        self.url = ""
        self.targets: list[str] = []
        self.seen: list[str] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Proxy"]:
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(aiohttp.ClientSession())

            async def forward(request: aiohttp.web.Request) -> aiohttp.web.Response:
                target = self.targets[len(self.seen) % len(self.targets)]
                self.seen.append(target)
                body = await request.read()
                async with session.post(f"{target}{request.rel_url}", data=body) as answer:
                    return aiohttp.web.Response(status=answer.status, body=await answer.read())

            application = aiohttp.web.Application()
            application.router.add_post("/{path:.*}", forward)
            runner = aiohttp.web.AppRunner(application, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self


@asynccontextmanager
async def stack(
    script: Script | None = None,
    *,
    rules: Rules = QUICK,
    close: float = 1.5,
    adapters: int = 1,
    submit: float = 1.0,
    refusal: str = "",
    rotating: bool = False,
) -> AsyncIterator[tuple[Simulator, FakeService]]:
    """A local WeCom with one bot in callback mode, a fake service, and adapters between them."""
    settings = SimulatorSettings(
        listen=SimulatorListen(address="127.0.0.1:0"), bots=(SimulatorBot(mode="callback"),), rules=rules
    )
    async with (
        FakeService(script or (lambda request: f"echo {request.input.parts[0].text}"), greeting="欢迎") as fake,
        Simulator(settings) as sim,
        Proxy().open() as proxy,
        AsyncExitStack() as doors,
    ):
        for _ in range(adapters):
            settings_made = settings_for(sim, fake, close=close, submit=submit, refusal=refusal, rotating=rotating)
            started = await doors.enter_async_context(running(settings_made))
            proxy.targets.append(f"http://127.0.0.1:{started.callbacks_port}")
        url = proxy.url if adapters > 1 else proxy.targets[0]
        sim.set_bot_callback_url(f"{url}/wecom/bot/helper")
        await fake.until(lambda: len([call for call in fake.calls if call.method == "Attach"]) == adapters)
        yield sim, fake


def texts(sim: Simulator, person: str = "lina", chat: str = "bot") -> list[str]:
    return [bubble.text for bubble in sim.replies(person, chat) if bubble.finished]


async def answered(sim: Simulator, count: int, person: str = "lina", chat: str = "bot") -> list[str]:
    await sim.wait_for(lambda: len(texts(sim, person, chat)) >= count, 8)
    return texts(sim, person, chat)


def settled(fake: FakeService) -> bool:
    return all(turn.delivery_state == Turn.DELIVERED for turn in fake.turns())


async def test_address_check_passes() -> None:
    async with stack() as (sim, _):
        assert (await sim.save_bot_callback_url(sim.bot_callbacks.urls[sim.settings.bots[0].id])).passed


async def test_an_answer_is_fetched_by_polls_and_settles_the_debt() -> None:
    async with stack() as (sim, fake):
        await sim.write_to_bot("lina", "你好")
        assert await answered(sim, 1) == ["echo 你好"]
        await fake.until(lambda: settled(fake))
        assert [bubble.sent > 1 for bubble in sim.replies("lina", "bot")] == [True]
        assert sim.counters["refused"] == 0


async def test_the_bubble_grows_between_polls() -> None:
    go_on = asyncio.Event()

    async def pieces() -> AsyncIterator[Piece]:
        yield "第一段"
        await go_on.wait()
        yield "，第二段"

    async with stack(lambda _: pieces()) as (sim, _):
        await sim.write_to_bot("lina", "问题")
        await sim.wait_for(lambda: any(b.text == "第一段" and not b.finished for b in sim.replies("lina", "bot")))
        go_on.set()
        assert await answered(sim, 1) == ["第一段，第二段"]


async def test_any_instance_answers_a_poll_whoever_holds_the_delivery() -> None:
    async with stack(adapters=3) as (sim, fake):
        for number in range(6):
            await sim.write_to_bot("lina", f"第{number}条")
        assert sorted(await answered(sim, 6)) == [f"echo 第{number}条" for number in range(6)]
        await fake.until(lambda: settled(fake))
        assert {bubble.look for bubble in sim.replies("lina", "bot")} == {"stream"}  # nothing went another way


async def test_an_answer_later_than_the_bubble_comes_by_response_url_once() -> None:
    go_on = asyncio.Event()

    async def pieces() -> AsyncIterator[Piece]:
        yield "开头"
        await go_on.wait()
        yield "，结尾"

    async with stack(lambda _: pieces(), close=0.2) as (sim, fake):
        await sim.write_to_bot("lina", "难题")
        first = (await answered(sim, 1))[0]
        assert first.startswith("开头")
        assert "另发一条" in first
        go_on.set()
        assert (await answered(sim, 2))[1] == "开头，结尾"
        await fake.until(lambda: settled(fake))
        assert [bubble.look for bubble in sim.replies("lina", "bot")] == ["stream", "markdown"]


async def test_who_is_never_asked_sends_by_response_url_after_the_window() -> None:
    rules = Rules(stream_poll_interval_seconds=60.0, stream_poll_seconds=0.6, callback_interval_seconds=0.05)
    async with stack(rules=rules, close=0.3) as (sim, fake):
        await sim.write_to_bot("lina", "你好")
        await sim.wait_for(lambda: any(bubble.look == "markdown" for bubble in sim.replies("lina", "bot")), 5)
        assert texts(sim)[-1] == "echo 你好"
        await fake.until(lambda: settled(fake))


@pytest.mark.parametrize(
    "fault", ["callback_lost", "callback_answer_lost", "callback_duplicated", "callback_reordered", "callback_slow"]
)
async def test_answers_once_through_accidents_of_callbacks_and_polls(fault: str) -> None:
    async with stack() as (sim, fake):
        sim.faults.once(fault, count=4, seconds=0.05)
        for number in range(3):
            await sim.write_to_bot("lina", f"第{number}条")
        assert sorted(await answered(sim, 3)) == [f"echo 第{number}条" for number in range(3)]
        assert sim.faults.struck[fault] == (3 if fault in ("callback_reordered", "callback_duplicated") else 4)
        await fake.until(lambda: settled(fake))
        assert len(fake.turns()) == 3
        assert len(sim.replies("lina", "bot")) == 3


async def test_at_most_three_messages_of_a_person_are_open() -> None:
    go_on = asyncio.Event()

    async def pieces(text: str) -> AsyncIterator[Piece]:
        await go_on.wait()
        yield f"echo {text}"

    rules = Rules(stream_poll_interval_seconds=0.03, stream_poll_seconds=5.0, open_messages=3)
    async with stack(lambda request: pieces(request.input.parts[0].text), rules=rules, close=4) as (sim, fake):
        for number in range(5):
            await sim.write_to_bot("lina", str(number))
        await fake.until(lambda: len(fake.turns()) == 3)
        await sim.wait_for(lambda: len(sim.replies("lina", "bot")) == 3)
        go_on.set()
        assert sorted(await answered(sim, 5)) == [f"echo {number}" for number in range(5)]


async def test_group_members_are_answered_in_the_group_without_the_mention() -> None:
    async with stack() as (sim, fake):
        group = sim.settings.groups[0].id
        await sim.write_to_bot("lina", "你好", group)
        assert await answered(sim, 1, chat=f"group:{group}") == ["echo 你好"]
        assert fake.turns()[0].sender.display_name == "lina"


async def test_who_opens_the_chat_is_welcomed() -> None:
    async with stack() as (sim, _):
        sim.enter("lina", "bot")
        assert await answered(sim, 1) == ["欢迎"]


async def test_a_message_that_is_refused_is_answered_at_once() -> None:
    async with stack() as (sim, fake):
        fake.fail_next(InputTooLong("too long"), method="SubmitTurn")
        await sim.write_to_bot("lina", "长")
        assert await answered(sim, 1) == [sentence("INPUT_TOO_LONG")]
        assert not fake.turns()


async def test_a_service_that_comes_back_in_time_is_waited_for() -> None:
    async with stack() as (sim, fake):
        fake.fail_next(Unavailable("away", reason="STORE_UNAVAILABLE"), method="SubmitTurn", times=2)
        await sim.write_to_bot("lina", "等等")
        assert await answered(sim, 1) == ["echo 等等"]


async def test_who_wrote_to_a_service_that_stayed_away_is_asked_to_write_again() -> None:
    async with stack(submit=0.3) as (sim, fake):
        fake.fail_next(Unavailable("away", reason="STORE_UNAVAILABLE"), method="SubmitTurn", times=50)
        await sim.write_to_bot("lina", "有人吗")
        await sim.wait_for(lambda: any(bubble.text == fetched.NOT_SURE for bubble in sim.replies("lina", "bot")))
        assert await answered(sim, 1) == [fetched.UNKNOWN]


async def test_who_is_answered_after_all_is_not_asked_to_write_again() -> None:
    # The service takes the message, and dies before it says so.
    away = Unavailable("away", reason="STORE_UNAVAILABLE")
    rules = Rules(callback_interval_seconds=0.05, stream_poll_interval_seconds=0.03, stream_poll_seconds=30.0)
    async with stack(rules=rules, submit=0.6, close=20.0) as (sim, fake), ConversationClient(fake.target) as client:
        fake.fail_next(away, method="SubmitTurn", times=50)
        fake.fail_next(away, method="GetTurn", times=4)
        await sim.write_to_bot("lina", "有人吗")
        await sim.wait_for(lambda: any(bubble.text == fetched.NOT_SURE for bubble in sim.replies("lina", "bot")))
        named = fetched.named_by("helper", sim.replies("lina", "bot")[0].stream_id)
        assert named is not None
        conversation, request_id = named.turn.split("/turns/")
        await client.converse(conversation, "有人吗", request_id=request_id)
        assert await answered(sim, 1) == ["echo 有人吗"]


async def test_long_answers_go_on_beside_the_bubble() -> None:
    long = "\n\n".join(f"第{number}段。" + "内容" * 200 for number in range(25))
    async with stack(lambda _: [long]) as (sim, fake):
        await sim.write_to_bot("lina", "长")
        await answered(sim, 2)
        stream, rest = sorted(sim.replies("lina", "bot"), key=lambda bubble: bubble.look, reverse=True)
        assert (stream.look, rest.look) == ("stream", "markdown")
        assert "另发一条" in stream.text
        paragraphs = [line for bubble in (stream, rest) for line in bubble.text.split("\n\n") if line.startswith("第")]
        assert paragraphs == long.split("\n\n")
        await fake.until(lambda: settled(fake))


def ended(*parts: Part, choices: Sequence[Choice] = ()) -> Turn:
    return Turn(
        name=f"conversations/wecom.helper.{'0f' * 16}/turns/1",
        state=Turn.SUCCEEDED,
        reply=Content(parts=parts),
        choices=choices,
    )


def picture(data: bytes = PNG, name: str = "图.png") -> Part:
    return Part(media=Media(mime_type="image/png", inline_data=data, display_name=name))


def test_pictures_are_in_the_last_frame_and_what_cannot_be_is_named() -> None:
    shown = fetched.shown(ended(Part(text="看图"), *[picture()] * 11), group=False)
    assert len(shown.pictures) == fetched.MAX_PICTURES
    image = shown.pictures[0]["image"]
    assert base64.b64decode(image["base64"]) == PNG
    assert image["md5"] == hashlib.md5(PNG, usedforsecurity=False).hexdigest()
    assert shown.content == "看图\n\n（图片“图.png” 无法在这里发送）"
    assert "11" not in fetched.message(ended(picture()))["markdown"]["content"]
    assert fetched.shown(ended(picture()), group=False).content == "（图片见下）"
    gif = picture(b"GIF89a" + bytes(40), "动.gif")
    assert fetched.shown(ended(gif), group=False).content == "（图片“动.gif” 无法在这里发送）"
    big = picture(PNG + bytes(fetched.MAX_PICTURE_BYTES))
    assert fetched.shown(ended(big), group=False).pictures == ()


def test_choices_become_a_card_beside_the_bubble_or_words_in_groups() -> None:
    turn = ended(Part(text="退款还是换货？"), choices=[Choice(label="退款", text="我要退款")])
    alone = fetched.shown(turn, group=False)
    assert alone.content == "退款还是换货？"
    assert alone.beside is not None
    assert alone.beside["msgtype"] == "template_card"
    in_group = fetched.shown(turn, group=True)
    assert in_group.beside is None
    assert "我要退款" in in_group.content


def test_text_goes_before_its_buttons_where_only_one_message_is_left() -> None:
    turn = ended(Part(text="长。" * 5000), choices=[Choice(label="退款", text="我要退款")])
    shown = fetched.shown(turn, group=False)
    assert len(shown.content.encode()) <= 20480
    assert shown.beside is not None
    assert "退款" in shown.beside["markdown"]["content"]


def test_what_one_message_cannot_hold_is_cut_and_said_to_be() -> None:
    whole = fetched.message(ended(Part(text="```\n" + "很长的一行\n" * 4000)))["markdown"]["content"]
    assert len(whole.encode()) <= 20480
    assert whole.endswith("请缩小问题的范围再问。）")
    assert whole.count("```") == 2


async def test_who_may_not_use_the_bot_is_told_so() -> None:
    async with stack(refusal="请联系管理员") as (sim, fake):
        await sim.write_to_bot("lina", "你好")
        assert await answered(sim, 1) == ["请联系管理员"]
        await sim.write_to_bot("zhangwei", "你好")
        assert await answered(sim, 1, person="zhangwei") == ["echo 你好"]
        assert len(fake.turns()) == 1


async def test_the_next_keys_open_callbacks_and_their_files_beside_the_present_ones() -> None:
    async with stack(rotating=True) as (sim, fake):
        await sim.write_to_bot("lina", "你好")
        assert await answered(sim, 1) == ["echo 你好"]
        sim.send_media_to_bot("lina", ("file", "年假.txt", "一年有十五天".encode()))
        await fake.until(lambda: len(fake.turns()) == 2)
        assert fake.turns()[1].input.parts[0].media.inline_data.decode() == "一年有十五天"


async def test_strangers_and_other_bots_get_nothing() -> None:
    async with stack() as (sim, fake), aiohttp.ClientSession() as session:
        url = sim.bot_callbacks.urls[sim.settings.bots[0].id]
        query = {"msg_signature": "0" * 40, "timestamp": str(int(sim.clock.time())), "nonce": "1"}
        async with session.post(url, params=query, data=b'{"encrypt":"AAAA"}') as answer:
            assert (answer.status, await answer.read()) == (403, b"")
        async with session.post(url.replace("helper", "nobody"), params=query, data=b"{}") as answer:
            assert answer.status == 404
        sim.send_to_bot("lina", {"msgtype": "text", "text": {"content": "假"}, "aibotid": "aibAnother"})
        await sim.wait_for(lambda: sim.journal.entries(Kind.GIVEN_UP), 5)
        assert not fake.turns()


async def test_a_merged_message_ends_its_bubble_with_a_pointer() -> None:
    async with stack() as (sim, fake):
        await sim.write_to_bot("lina", "你好")
        await answered(sim, 1)
    turn = fake.turns()[0]
    turn.finish_reason = Turn.MERGED
    assert fetched.shown(turn, group=False).content == MERGED


async def test_a_bubble_of_an_unknown_turn_is_ended() -> None:
    async with stack(lambda _: "好") as (sim, fake):
        fake.fail_next(ResourceNotFound("gone"), method="GetTurn", times=50)
        await sim.write_to_bot("lina", "你好")
        assert await answered(sim, 1) == [fetched.UNKNOWN]


async def test_a_touched_card_changes_and_is_the_next_message() -> None:
    click = {"card_type": "button_interaction", "event_key": "我要退款", "task_id": "task1"}
    event = {"eventtype": "template_card_event", "template_card_event": click}
    async with stack() as (sim, fake):
        bot = sim.settings.bots[0]
        url = sim.bot_callbacks.urls[bot.id]
        envelope = Envelope(bot.token.reveal(), bot.encoding_aes_key.reveal(), "")
        body = {"msgtype": "event", "event": event, "from": {"userid": "lina"}, "create_time": int(sim.clock.time())}
        body |= {"chattype": "group", "chatid": "wr1", "response_url": f"{sim.rest_base}/cgi-bin/aibot/response?x=1"}
        sealed = envelope.seal(msgspec.json.encode(body), str(int(sim.clock.time())), "nonce1")
        query = {"msg_signature": sealed.msg_signature, "timestamp": sealed.timestamp, "nonce": sealed.nonce}
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, params=query, json={"encrypt": sealed.encrypted}) as answer,
        ):
            reply = await answer.json(content_type=None)
        assert (reply["nonce"], type(reply["timestamp"])) == ("nonce1", int)
        plain = envelope.open(reply["msgsignature"], str(reply["timestamp"]), reply["nonce"], reply["encrypt"])
        update = msgspec.json.decode(plain)
        assert (update["response_type"], update["userids"]) == ("update_template_card", ["lina"])
        assert update["template_card"]["task_id"] == "task1"
        assert "我要退款" in update["template_card"]["button_list"][0]["text"]
        assert [turn.input.parts[0].text for turn in fake.turns()] == ["我要退款"]


async def test_a_file_is_fetched_with_the_callback_key() -> None:
    async with stack() as (sim, fake):
        sim.send_media_to_bot("lina", ("file", "年假.txt", "一年有十五天".encode()))
        await fake.until(lambda: bool(fake.turns()))
        media = fake.turns()[0].input.parts[0].media
        assert (media.inline_data.decode(), media.display_name) == ("一年有十五天", "年假.txt")
        await answered(sim, 1)


async def test_a_file_that_takes_too_long_is_told_as_missing() -> None:
    async with stack(submit=0.4) as (sim, fake):
        sim.faults.set("media_slow", Switch(seconds=3.0))
        sim.send_media_to_bot("lina", ("image", "图.png", PNG))
        await fake.until(lambda: bool(fake.turns()))
        assert fake.turns()[0].input.parts[0].media.missing == Media.UNAVAILABLE


async def test_a_quoted_message_stands_above_the_persons_own() -> None:
    async with stack() as (sim, fake):
        await sim.write_to_bot("lina", "年假有几天")
        await answered(sim, 1)
        sim.quote_to_bot("lina", "为什么", sim.replies("lina", "bot")[0])
        await answered(sim, 2)
        assert fake.turns()[1].input.parts[0].text == "> echo 年假有几天\n\n为什么"


async def test_a_card_beside_the_bubble_is_touched_and_changes() -> None:
    async with stack() as (sim, fake):
        bot = f"bot:{sim.settings.bots[0].id}"
        content = {"kind": "card", "card": CHOICES, "replaced": ""}
        card = sim.chats.post(
            chat=bot, person="lina", speaker=bot, text="请选择", look="card", now=sim.clock.time(), content=content
        )
        sim.touch_card("lina", card, "我要退款")
        await sim.wait_for(lambda: (card.content or {}).get("replaced"))
        assert "我要退款" in str((card.content or {})["card"])
        await sim.wait_for(lambda: len(sim.replies("lina", "bot")) == 2)
        answer = sim.replies("lina", "bot")[1]
        assert (answer.look, answer.text) == ("markdown", "echo 我要退款")
        await fake.until(lambda: settled(fake))


CHOICES = {
    "card_type": "button_interaction",
    "main_title": {"title": "请选择"},
    "button_list": [{"text": "退款", "style": 1, "key": "我要退款"}],
    "task_id": "task1",
}


async def test_people_rate_a_bubble() -> None:
    async with stack() as (sim, fake):
        await sim.write_to_bot("lina", "你好")
        await answered(sim, 1)
        sim.rate("lina", sim.replies("lina", "bot")[0], 1)
        await fake.until(lambda: bool(fake.ratings))
        assert fake.ratings[0].name == fake.turns()[0].name


def test_stream_ids_name_turns_of_their_account_only() -> None:
    turn = f"conversations/wecom.a.b.{'0f' * 16}/turns/CAEQ-1~x"
    for sent_at in (0, 1_767_225_600):
        assert fetched.named_by("a.b", fetched.stream_id(turn, sent_at)) == (turn, sent_at)
    for foreign in (
        "",
        "x",
        "0f" * 16,
        f"{'0f' * 16}-1-",
        f"{'0f' * 16}-1-a/b",
        f"{'0F' * 16}-1-a",
        f"{'0f' * 16}-z-a",
    ):
        assert fetched.named_by("a", foreign) is None


def test_the_window_counts_from_the_message_unless_its_clock_is_wrong() -> None:
    turn = Turn()
    turn.create_time.FromSeconds(1000)
    turn.end_time.FromSeconds(1325)
    assert [fetched.began(turn, sent_at) for sent_at in (990, 0, 1001, 800)] == [990, 1000, 1000, 1000]
    assert fetched.belongs_to_bubble(turn, 0, 330.0)
    assert not fetched.belongs_to_bubble(turn, 990, 330.0)


@pytest.mark.parametrize(("kind", "rating"), [(1, "HELPFUL"), (2, "UNHELPFUL"), (3, "RATING_UNSPECIFIED")])
async def test_ratings_reach_the_turn(kind: int, rating: str) -> None:
    async with stack() as (sim, fake):
        await sim.write_to_bot("lina", "你好")
        await answered(sim, 1)
        turn = fake.turns()[0]
        event = {"feedback_event": {"id": turn.name, "type": kind, "content": "太短", "inaccurate_reason_list": [2]}}
        sim.send_to_bot("lina", {"msgtype": "event", "event": {"eventtype": "feedback_event", **event}})
        await fake.until(lambda: bool(fake.ratings))
        assert (fake.ratings[0].name, fake.ratings[0].rating) == (turn.name, RateTurnRequest.Rating.Value(rating))
        assert fake.ratings[0].comment == ("内容不完整；太短" if rating == "UNHELPFUL" else "")
        assert DeliveryResult.UNDELIVERABLE not in {result.outcome for result in fake.results}
