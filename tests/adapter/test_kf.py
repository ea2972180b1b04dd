"""Customer service between a local WeCom and a fake service: what customers see, and what the service is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from adapter.app import running
from adapter.kf.courier import NOBODY_THERE
from adapter.settings import (
    AppSettings,
    KfSettings,
    ListenSettings,
    OperationsSettings,
    ServerSettings,
    Settings,
    WeComSettings,
    check,
)
from adapter.wire import AppMessage
from program.secret import Secret
from program.settings import SettingsError
from simulator.app import Simulator
from simulator.clock import SystemClock
from simulator.faults import Switch
from simulator.rules import Rules
from simulator.settings import CustomerSettings, DeskSettings
from simulator.settings import KfSettings as SimulatorKf
from simulator.settings import ListenSettings as SimulatorListen
from simulator.settings import Settings as SimulatorSettings
from weconverse import ConverseRequest, DeliveryResult, Part, Turn, Unavailable, text_of
from weconverse.testing import Answer, FakeService, HandOver
from weconverse.v1.conversation_pb2 import HandOffConversationRequest, ResumeConversationRequest, SubmitTurnRequest

LIN, ZHOU = "wmSimulatorCustomer01", "wmSimulatorCustomer02"
DESK, SALES = "wkSimulatorDesk0001", "wkSales"
PERSON = "zhangwei"


class Time(SystemClock):
    """The machine's clock, which a test can set forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


def echo(request: ConverseRequest) -> Answer:
    text = request.input.parts[0].text
    return HandOver("正在为您转接人工客服。") if text == "转人工" else f"答：{text or '[媒体]'}"


def settings_for(sim: Simulator, fake: FakeService, folder: Path, changes: dict[str, Any]) -> Settings:
    kf = sim.settings.kf
    desk: dict[str, Any] = {
        "corp_id": sim.settings.corp_id,
        "secret": kf.secret,
        "token": kf.token,
        "encoding_aes_key": kf.encoding_aes_key,
        "state_file": str(folder / "cursors.json"),
        "assistants": {SALES: "sales"},
    }
    return Settings(
        server=ServerSettings(target=fake.target),
        listen=ListenSettings(address="127.0.0.1:0", drain_seconds=0.2),
        operations=OperationsSettings(address=""),
        wecom=WeComSettings(api_base=sim.rest_base),
        kf={"desk": KfSettings(**(desk | changes))},
    )


@asynccontextmanager
async def platform(*, rules: Rules | None = None) -> AsyncIterator[Simulator]:
    settings = SimulatorSettings(
        listen=SimulatorListen(address="127.0.0.1:0"),
        kf=SimulatorKf(
            accounts=(DeskSettings(open_kfid=DESK, name="客服"), DeskSettings(open_kfid=SALES, name="销售")),
            servicers=(PERSON, "lina"),
        ),
        rules=rules or Rules(),
    )
    async with Simulator(settings, clock=Time()) as sim:
        yield sim


@asynccontextmanager
async def adapter(sim: Simulator, fake: FakeService, folder: Path, **changes: Any) -> AsyncIterator[None]:
    async with running(settings_for(sim, fake, folder, changes)) as started:
        sim.set_kf_callback_url(f"http://127.0.0.1:{started.callbacks_port}/wecom/kf/desk")
        yield


@asynccontextmanager
async def stack(
    folder: Path, *, greeting: str = "您好，请问有什么可以帮您？", rules: Rules | None = None, **changes: Any
) -> AsyncIterator[tuple[Simulator, FakeService]]:
    async with (
        FakeService(echo, greeting=greeting) as fake,
        platform(rules=rules) as sim,
        adapter(sim, fake, folder, **changes),
    ):
        yield sim, fake


def said(sim: Simulator, customer: str = LIN, desk: str = DESK) -> list[str]:
    return [bubble.text for bubble in sim.replies(customer, f"kf:{desk}")]


async def told(sim: Simulator, *texts: str, customer: str = LIN, desk: str = DESK) -> None:
    try:
        await sim.wait_for(lambda: said(sim, customer, desk) == list(texts), 5)
    except TimeoutError:
        assert said(sim, customer, desk) == list(texts)


def refusals(sim: Simulator, call: str) -> list[int]:
    return [entry.code for entry in sim.journal.entries() if entry.code and entry.detail.startswith(call)]


# --- messages -----------------------------------------------------------------------------


async def test_a_customer_is_answered(tmp_path: Path) -> None:
    async with stack(tmp_path) as (sim, fake):
        msg_id = sim.customer_writes(LIN, "你好")
        await told(sim, "答：你好")
        (request,) = fake.requests("SubmitTurn", SubmitTurnRequest)
        assert request.turn.options.can_hand_off
        assert request.account == "channels/wecom/accounts/desk"
        assert LIN not in request.turn.conversation
        assert msg_id.startswith(request.turn.request_id) or len(request.turn.request_id) == 32
        await fake.until(lambda: fake.turns()[0].delivery_state == Turn.DELIVERED)


async def test_hints_may_come_to_the_address_of_an_application(tmp_path: Path) -> None:
    async with FakeService(echo) as fake, platform() as sim:
        kf = sim.settings.kf
        # One application for the members and for the customers has one callback address, and one pair of keys.
        chat = AppSettings(
            corp_id=sim.settings.corp_id,
            agent_id=sim.settings.apps[0].agent_id,
            secret=sim.settings.apps[0].secret,
            token=kf.token,
            encoding_aes_key=kf.encoding_aes_key,
            customer_service="desk",
        )
        settings = structs.replace(
            settings_for(sim, fake, tmp_path, {"poll_seconds": 3600.0}), apps={"assistant": chat}
        )
        check(settings)
        async with running(settings) as started:
            sim.set_kf_callback_url(f"http://127.0.0.1:{started.callbacks_port}/wecom/app/assistant")
            sim.customer_writes(LIN, "你好")
            await told(sim, "答：你好")


def test_an_application_names_a_desk_that_is_there() -> None:
    chat = AppSettings(
        corp_id="ww1",
        agent_id=1,
        secret=Secret("s"),
        token=Secret("t"),
        encoding_aes_key=Secret("A" * 43),
        customer_service="nobody",
    )
    with pytest.raises(SettingsError, match=r"customer_service.*add \[kf\.nobody\]"):
        check(Settings(apps={"assistant": chat}))


async def test_accounts_have_their_assistants_and_conversations(tmp_path: Path) -> None:
    async with stack(tmp_path) as (sim, fake):
        sim.customer_writes(LIN, "一", account=DESK)
        sim.customer_writes(LIN, "二", account=SALES)
        await told(sim, "答：一", desk=DESK)
        await told(sim, "答：二", desk=SALES)
        turns = {text_of(turn.input): turn for turn in fake.turns()}
        assert turns["一"].assistant == "assistants/default"
        assert turns["二"].assistant == "assistants/sales"
        assert turns["一"].name.split("/")[1] != turns["二"].name.split("/")[1]


SAID = [
    ({"msgtype": "text", "text": {"content": "套餐", "menu_id": "say:我要订套餐"}}, "我要订套餐"),
    ({"msgtype": "text", "text": {"content": "找人", "menu_id": "101"}}, "找人"),
    (
        {"msgtype": "location", "location": {"latitude": 23.1, "longitude": 113.3, "name": "塔", "address": "广州"}},
        "位置：塔 广州（纬度 23.1，经度 113.3）",
    ),
    ({"msgtype": "link", "link": {"title": "标题", "desc": "说明", "url": "https://e.cn"}}, "链接：标题 https://e.cn\n说明"),
    ({"msgtype": "business_card", "business_card": {"userid": "lina"}}, "名片：lina"),
    ({"msgtype": "miniprogram", "miniprogram": {"title": "点餐", "appid": "wx1", "pagepath": "p"}}, "小程序：点餐"),
    (
        {
            "msgtype": "msgmenu",
            "msgmenu": {"head_content": "选", "list": [{"type": "click", "click": {"id": "1", "content": "甲"}}]},
        },
        "选\n• 甲",
    ),
    ({"msgtype": "channels", "channels": {"nickname": "号", "title": "片"}}, "视频号动态：号 片"),
    (
        {
            "msgtype": "channels_shop_product",
            "channels_shop_product": {"title": "茶", "sales_price": "10", "shop_nickname": "店"},
        },
        "视频号商品：茶 10 店",
    ),
    ({"msgtype": "channels_shop_order", "channels_shop_order": {"order_id": "3", "state": "新"}}, "视频号订单：3 新"),
    (
        {
            "msgtype": "merged_msg",
            "merged_msg": {
                "title": "记录",
                "item": [
                    {"sender_name": "甲", "msgtype": "text", "msg_content": "在吗"},
                    {"sender_name": "乙", "msgtype": "image"},
                ],
            },
        },
        "聊天记录：记录\n甲：在吗\n乙：[image]",
    ),
    ({"msgtype": "meeting", "meeting": {"title": "周会"}}, "会议：周会"),
    ({"msgtype": "schedule", "schedule": {"title": "拜访"}}, "日程：拜访"),
    ({"msgtype": "note", "note": {}}, "笔记"),
]  # fmt: skip


async def test_every_kind_that_can_be_said_in_words(tmp_path: Path) -> None:
    async with stack(tmp_path) as (sim, fake):
        for content, _ in SAID:
            sim.customer_sends(LIN, content)
        await fake.until(lambda: len(fake.turns()) == len(SAID))
        assert [text_of(turn.input) for turn in fake.turns()] == [words for _, words in SAID]


@pytest.mark.parametrize(
    ("kind", "name", "mime_type", "data"),
    [
        ("image", "a.jpg", "image/jpeg", b"\xff\xd8\xff\xe0 picture"),
        ("voice", "a.amr", "audio/amr", b"#!AMR\n\x3c" + bytes(31)),
        ("video", "a.mp4", "video/mp4", b"\0\0\0\x18ftypmp42 film"),
        ("file", "表.csv", "text/csv", "列\n值".encode()),
    ],
    ids=["image", "voice", "video", "file"],
)
async def test_files_come_with_their_bytes(tmp_path: Path, kind: str, name: str, mime_type: str, data: bytes) -> None:
    async with stack(tmp_path) as (sim, fake):
        sim.kf.send_file(LIN, kind, name, data)
        await told(sim, "答：[媒体]")
        (part,) = fake.turns()[0].input.parts
        assert part.media.mime_type == mime_type
        assert part.media.inline_data == data


async def test_a_file_that_is_gone_and_an_unknown_kind_are_answered_too(tmp_path: Path) -> None:
    async with stack(tmp_path) as (sim, fake):
        media_id = sim.media.put("file", "a.txt", b"content", checked=False)
        sim.media._files.clear()  # three days later
        sim.kf.items[DESK].add(
            {"msgid": "gone", "open_kfid": DESK, "external_userid": LIN, "send_time": int(sim.clock.time()),
             "origin": 3, "msgtype": "file", "file": {"media_id": media_id}}, sim.clock.time(),
        )  # fmt: skip
        sim.customer_sends(LIN, {"msgtype": "hologram", "hologram": {"depth": 3}})
        await fake.until(lambda: len(fake.turns()) == 2)
        gone, unknown = (turn.input.parts[0] for turn in fake.turns())
        assert not gone.media.inline_data
        assert gone.media.missing
        assert unknown == Part(media=unknown.media)
        assert unknown.media.mime_type == "application/x-unknown"


# --- pulling ------------------------------------------------------------------------------


async def test_lost_callbacks_lose_nothing(tmp_path: Path) -> None:
    async with stack(tmp_path, poll_seconds=5.0) as (sim, _):
        sim.customer_writes(LIN, "一")
        await told(sim, "答：一")
        sim.faults.set("kf_callback_lost")
        sim.customer_writes(LIN, "二")
        await sim.wait_for(lambda: said(sim) == ["答：一", "答：二"], 8)


async def test_what_was_written_before_the_start_is_read_at_the_start(tmp_path: Path) -> None:
    async with FakeService(echo) as fake, platform() as sim:
        sim.customer_writes(LIN, "一")
        sim.customer_writes(ZHOU, "二", account=SALES)
        async with adapter(sim, fake, tmp_path, assistants={}):
            await told(sim, "答：一")
            # No callback and no setting names this account: it is found in the list of accounts.
            await told(sim, "答：二", customer=ZHOU, desk=SALES)


async def test_an_account_that_was_granted_is_found_at_once(tmp_path: Path) -> None:
    async with FakeService(echo) as fake, platform() as sim:
        every = sim.corp.desks
        sim.corp.desks = {DESK: every[DESK]}
        async with adapter(sim, fake, tmp_path, assistants={}):
            sim.customer_writes(LIN, "一")
            await told(sim, "答：一")
            sim.corp.desks = every
            sim.faults.once("kf_callback_lost")
            sim.customer_writes(ZHOU, "二", account=SALES)
            event = AppMessage(to_user=sim.settings.corp_id, msg_type="event", event="kf_account_auth_change")
            sim.callbacks.post(sim.corp.kf_app, event)
            await told(sim, "答：二", customer=ZHOU, desk=SALES)


async def test_a_customer_who_came_in_during_a_restart_is_welcomed(tmp_path: Path) -> None:
    async with FakeService(echo, greeting="欢迎") as fake, platform() as sim:
        sim.customer_enters(LIN)
        async with adapter(sim, fake, tmp_path):
            await told(sim, "欢迎")


async def test_pages_to_the_end_with_empty_ones_between(tmp_path: Path) -> None:
    async with stack(tmp_path, rules=Rules(kf_page_items=3)) as (sim, fake):
        sim.faults.set("kf_empty_page", Switch(count=2))
        sim.faults.set("kf_callback_lost", Switch(count=7))
        for number in range(4):
            sim.customer_writes(LIN, f"{number}")
            sim.customer_writes(ZHOU, f"{number}")
        await told(sim, *(f"答：{number}" for number in range(4)))
        await told(sim, *(f"答：{number}" for number in range(4)), customer=ZHOU)
        assert len(fake.turns()) == 8


async def test_a_lost_cursor_answers_nothing_again(tmp_path: Path) -> None:
    async with FakeService(echo, greeting="欢迎") as fake, platform() as sim:
        async with adapter(sim, fake, tmp_path):
            sim.customer_enters(LIN)
            sim.customer_writes(LIN, "一")
            await told(sim, "欢迎", "答：一")
        (tmp_path / "cursors.json").unlink(missing_ok=True)
        async with adapter(sim, fake, tmp_path):
            sim.customer_writes(LIN, "二")
            await told(sim, "欢迎", "答：一", "答：二")
        assert len(fake.turns()) == 2


async def test_a_cursor_that_is_kept_saves_the_reading(tmp_path: Path) -> None:
    async with FakeService(echo) as fake, platform() as sim:
        async with adapter(sim, fake, tmp_path):
            sim.customer_writes(LIN, "一")
            await told(sim, "答：一")
            behind = sim.kf.items[DESK].page("", 1000, sim.clock.time()).next_cursor
            file = tmp_path / "cursors.json"
            while not (file.exists() and behind in file.read_text()):
                await asyncio.sleep(0.01)
        async with adapter(sim, fake, tmp_path):
            sim.customer_writes(LIN, "二")
            await told(sim, "答：一", "答：二")
        assert [request.turn.input.parts[0].text for request in fake.requests("SubmitTurn", SubmitTurnRequest)] == [
            "一",
            "二",
        ]


async def test_a_cursor_of_another_time_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "cursors.json").write_text(f'{{"version":1,"cursors":{{"{DESK}":"bm9uc2Vuc2U="}}}}')
    async with stack(tmp_path) as (sim, _):
        sim.customer_writes(LIN, "一")
        await told(sim, "答：一")
        assert 40058 in refusals(sim, "kf/sync_msg")


async def test_a_service_that_is_away_holds_the_cursor(tmp_path: Path) -> None:
    async with stack(tmp_path) as (sim, fake):
        fake.fail_next(Unavailable("away"), method="SubmitTurn", times=3)
        for text in ("一", "二", "三"):
            sim.customer_writes(LIN, text)
        await told(sim, "答：一", "答：二", "答：三")


async def test_messages_beyond_48_hours_are_let_go(tmp_path: Path) -> None:
    async with FakeService(echo) as fake, platform() as sim:
        sim.clock.ahead = -49 * 3600.0  # type: ignore[attr-defined]  # a Time
        sim.customer_writes(LIN, "旧")
        sim.clock.ahead = 0.0  # type: ignore[attr-defined]  # a Time
        sim.customer_writes(LIN, "新")
        async with adapter(sim, fake, tmp_path):
            await told(sim, "答：新")
        assert len(fake.turns()) == 1


async def test_two_adapters_share_an_account(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    async with FakeService(echo) as fake, platform() as sim, adapter(sim, fake, first), adapter(sim, fake, second):
        # Callbacks reach the second one, the lease is with the first.
        sim.customer_writes(LIN, "一")
        sim.customer_writes(ZHOU, "二")
        await told(sim, "答：一")
        await told(sim, "答：二", customer=ZHOU)
        assert len(fake.turns()) == 2


# --- what can be sent ---------------------------------------------------------------------


async def test_the_sixth_answer_waits_for_the_customer_and_goes_first(tmp_path: Path) -> None:
    async with stack(tmp_path) as (sim, fake):
        sim.faults.set("kf_callback_lost", Switch(count=5))
        for number in range(6):
            sim.customer_writes(LIN, f"{number}")
        await told(sim, *(f"答：{number}" for number in range(5)))
        await fake.until(lambda: sum(turn.delivery_state == Turn.DELIVERED for turn in fake.turns()) == 5)
        sim.customer_writes(LIN, "6")
        await told(sim, *(f"答：{number}" for number in range(7)))
        assert not refusals(sim, "kf/send_msg")


async def test_answers_that_wait_at_the_service_go_when_the_customer_writes(tmp_path: Path) -> None:
    async with stack(tmp_path, max_waiting=1) as (sim, fake):
        sim.faults.set("kf_callback_lost", Switch(count=12))
        for customer in (LIN, ZHOU):
            for number in range(6):
                sim.customer_writes(customer, f"{number}")
        sim.faults.clear()
        sim.customer_enters(LIN)
        await fake.until(lambda: any(result.outcome == DeliveryResult.WAITING for result in fake.results))
        for customer in (LIN, ZHOU):
            sim.customer_writes(customer, "6")
            await told(sim, *(f"答：{number}" for number in range(7)), customer=customer)


async def test_a_long_answer_fits_into_five_messages(tmp_path: Path) -> None:
    long = "\n\n".join(f"第{number}段" + "字" * 600 for number in range(12))
    async with stack(tmp_path) as (sim, fake):
        fake.answer({"长": long})
        sim.customer_writes(LIN, "长")
        await sim.wait_for(lambda: len(said(sim)) == 5, 5)
        *texts, file = sim.replies(LIN, f"kf:{DESK}")
        assert all(len(bubble.text.encode()) <= 2048 for bubble in texts)
        assert texts[-1].text.endswith("完整内容请看随后的文件）")
        assert file.content is not None
        assert sim.media.get(file.content["url"].rpartition("/")[2]).data.decode() == long
        await fake.until(lambda: fake.turns()[0].delivery_state == Turn.DELIVERED)


async def test_a_send_whose_answer_was_lost_is_not_doubled(tmp_path: Path) -> None:
    async with stack(tmp_path) as (sim, fake):
        sim.faults.once("send_cut_after")
        sim.customer_writes(LIN, "一")
        await fake.until(lambda: bool(fake.turns()) and fake.turns()[0].delivery_state == Turn.DELIVERED)
        (bubble,) = sim.replies(LIN, f"kf:{DESK}")
        assert (bubble.sent, bubble.suppressed) == (2, 1)


async def test_a_message_that_did_not_arrive_is_told(tmp_path: Path) -> None:
    async with stack(tmp_path) as (sim, fake):
        sim.faults.once("kf_send_fail")
        sim.customer_writes(LIN, "一")
        await fake.until(lambda: bool(fake.turns()) and fake.turns()[0].delivery_state == Turn.DELIVERED)
        sim.customer_writes(LIN, "二")
        await told(sim, "答：二")


# --- who comes in -------------------------------------------------------------------------


async def test_a_customer_who_comes_in_is_welcomed_once(tmp_path: Path) -> None:
    async with stack(tmp_path, greeting="欢迎光临") as (sim, _):
        sim.faults.set("callback_duplicated")
        assert sim.customer_enters(LIN)
        await told(sim, "欢迎光临")
        assert not sim.customer_enters(LIN), "one code in 48 hours"
        sim.customer_writes(LIN, "一")
        await told(sim, "欢迎光临", "答：一")


@pytest.mark.parametrize("changes", [{"welcome": False}, {}])
async def test_no_welcome_where_it_is_off_or_late(tmp_path: Path, changes: dict[str, Any]) -> None:
    async with FakeService(echo, greeting="欢迎") as fake, platform() as sim:
        if not changes:
            sim.clock.ahead = -21.0  # type: ignore[attr-defined]  # a Time
        sim.customer_enters(LIN)
        sim.clock.ahead = 0.0  # type: ignore[attr-defined]  # a Time
        async with adapter(sim, fake, tmp_path, **changes):
            sim.customer_writes(LIN, "一")
            await told(sim, "答：一")
            assert not refusals(sim, "kf/send_msg_on_event")


# --- persons ------------------------------------------------------------------------------


async def test_a_person_takes_over_and_gives_back(tmp_path: Path) -> None:
    async with stack(tmp_path) as (sim, fake):
        sim.customer_writes(LIN, "转人工")
        await told(sim, "正在为您转接人工客服。")
        await fake.until(lambda: fake.turns()[0].delivery_state == Turn.DELIVERED)
        assert sim.kf.session(DESK, LIN).state == 2
        sim.customer_writes(LIN, "有人吗")
        sim.servicer_takes(PERSON, LIN)
        sim.customer_writes(LIN, "我的订单")
        sim.servicer_writes(PERSON, LIN, "我来看看")
        await fake.until(lambda: len(fake.turns()) == 3 and fake.turns()[2].delivery_state == Turn.DELIVERED)
        assert said(sim) == ["正在为您转接人工客服。"]
        sim.servicer_ends(PERSON, LIN)
        sim.customer_writes(LIN, "谢谢")
        await told(sim, "正在为您转接人工客服。", "答：谢谢")
        assert not refusals(sim, "kf/")


async def test_a_customer_is_given_to_the_person_of_the_settings(tmp_path: Path) -> None:
    async with stack(tmp_path, servicer="lina") as (sim, fake):
        sim.customer_writes(LIN, "转人工")
        await fake.until(lambda: bool(fake.turns()) and fake.turns()[0].delivery_state == Turn.DELIVERED)
        session = sim.kf.session(DESK, LIN)
        assert (session.state, session.servicer) == (3, "lina")


async def test_nobody_there_to_take_over(tmp_path: Path) -> None:
    async with stack(tmp_path) as (sim, _):
        for servicer in (PERSON, "lina"):
            sim.kf.receive(servicer, receiving=False)
        sim.customer_writes(LIN, "转人工")
        await told(sim, "正在为您转接人工客服。", NOBODY_THERE)
        sim.customer_writes(LIN, "那你说")
        await told(sim, "正在为您转接人工客服。", NOBODY_THERE, "答：那你说")


async def test_without_persons_customers_stay_with_the_assistant(tmp_path: Path) -> None:
    async with stack(tmp_path, hand_off=False) as (sim, _):
        sim.customer_writes(LIN, "转人工")
        sim.customer_writes(LIN, "好")
        await told(sim, "正在为您转接人工客服。", "答：好")
        assert sim.kf.session(DESK, LIN).state == 1


async def test_a_person_who_takes_over_by_himself_silences_the_assistant(tmp_path: Path) -> None:
    async with stack(tmp_path) as (sim, fake):
        sim.faults.set("kf_callback_lost", Switch(count=2))
        # The adapter hears of the take-over behind the message that it is about to answer.
        sim.customer_writes(LIN, "一")
        sim.servicer_takes(PERSON, LIN)
        sim.customer_writes(ZHOU, "二")
        await told(sim, "答：二", customer=ZHOU)
        await fake.until(lambda: all(turn.delivery_state != Turn.OWED for turn in fake.turns()))
        assert said(sim) == []
        assert fake.requests("HandOffConversation", HandOffConversationRequest)
        sim.servicer_ends(PERSON, LIN)
        sim.customer_writes(LIN, "三")
        await told(sim, "答：三")


async def test_a_session_that_ran_out_without_an_event_is_taken_back(tmp_path: Path) -> None:
    async with stack(tmp_path) as (sim, fake):
        sim.customer_writes(LIN, "转人工")
        await fake.until(lambda: bool(fake.turns()) and fake.turns()[0].delivery_state == Turn.DELIVERED)
        sim.kf.session(DESK, LIN).state = 4
        sim.customer_writes(LIN, "还在吗")
        await told(sim, "正在为您转接人工客服。", "答：还在吗")
        assert len(fake.requests("ResumeConversation", ResumeConversationRequest)) == 1


async def test_a_message_that_is_taken_back_is_not_answered(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def slowly() -> AsyncIterator[str]:
        await gate.wait()
        yield "太晚"

    async with stack(tmp_path) as (sim, fake):
        fake.answer(lambda request: slowly() if request.input.parts[0].text == "错" else "好")
        msg_id = sim.customer_writes(LIN, "错")
        await fake.until(lambda: len(fake.turns()) == 1)
        sim.kf.recall(LIN, msg_id)
        await fake.until(lambda: fake.turns()[0].state == Turn.CANCELLED)
        gate.set()
        sim.customer_writes(LIN, "对")
        await told(sim, "好")


async def test_events_that_ask_for_nothing_stop_nothing(tmp_path: Path) -> None:
    async with stack(tmp_path) as (sim, _):
        sim.kf.receive(PERSON, receiving=False)
        sim.kf.recall_as(PERSON, LIN, "x")
        for event in ({"event_type": "reject_customer_msg_switch_change", "reject_switch": 1}, {"event_type": "new"}):
            sim.kf.items[DESK].add(
                {"msgid": event["event_type"], "send_time": 1, "origin": 4, "msgtype": "event", "event": event},
                sim.clock.time(),
            )
        sim.customer_writes(LIN, "一")
        await told(sim, "答：一")


async def test_customers_do_not_wait_for_one_another(tmp_path: Path) -> None:
    customers = [CustomerSettings(id=f"wm{number:03}", name=f"{number}") for number in range(100)]
    settings = SimulatorSettings(
        listen=SimulatorListen(address="127.0.0.1:0"),
        customers=tuple(customers),
        kf=SimulatorKf(accounts=(DeskSettings(open_kfid=DESK, name="客服"),)),
    )
    async with FakeService(echo) as fake, Simulator(settings) as sim:
        for turn in range(5):
            for customer in customers:
                sim.customer_writes(customer.id, f"{turn}")
        async with adapter(sim, fake, tmp_path):
            for customer in customers:
                await told(sim, *(f"答：{turn}" for turn in range(5)), customer=customer.id)
        assert not refusals(sim, "kf/send_msg")


def test_secrets_have_to_be_given() -> None:
    desk = KfSettings(corp_id="ww", secret=Secret(""), token=Secret("t"), encoding_aes_key=Secret("k"))
    with pytest.raises(SettingsError, match=r"kf.desk.secret"):
        check(Settings(kf={"desk": desk}))


async def test_the_address_passes_the_check_of_the_console(tmp_path: Path) -> None:
    async with stack(tmp_path) as (sim, _):
        url = sim.callbacks.urls[sim.corp.kf_app.agent_id]
        assert (await sim.save_kf_callback_url(url)).passed
        assert not (await sim.save_kf_callback_url(url + "x")).passed


async def test_a_callback_ends_the_wait_for_a_limit(tmp_path: Path) -> None:
    async with FakeService(echo) as fake, platform(rules=Rules(kf_pulls_without_token=1)) as sim:
        async with adapter(sim, fake, tmp_path):
            sim.customer_writes(LIN, "一")
            await told(sim, "答：一")
        # The start has no token, and WeCom takes no more questions without one for a minute.
        (tmp_path / "cursors.json").unlink(missing_ok=True)
        async with adapter(sim, fake, tmp_path):
            await sim.wait_for(lambda: 45009 in refusals(sim, "kf/sync_msg"))
            sim.customer_writes(LIN, "二")
            await told(sim, "答：一", "答：二")


async def test_an_account_that_is_gone_is_not_asked_for_again_and_again(tmp_path: Path) -> None:
    async with stack(tmp_path, assistants={"wkGone": "default"}) as (sim, _):
        await sim.wait_for(lambda: 95000 in refusals(sim, "kf/sync_msg"))
        sim.customer_writes(LIN, "一")
        await told(sim, "答：一")
        assert refusals(sim, "kf/sync_msg") == [95000]


async def test_what_is_too_much_for_one_answer_is_asked_for_in_pieces(tmp_path: Path) -> None:
    async with FakeService(echo) as fake, platform() as sim:
        for number in range(140):
            event = {"event_type": "of another day", "open_kfid": DESK, "more": "x" * 62_000}
            item = {"msgid": f"{number}", "send_time": 1, "origin": 4, "msgtype": "event", "event": event}
            sim.kf.items[DESK].add(item, sim.clock.time())
        sim.customer_writes(LIN, "一")
        async with adapter(sim, fake, tmp_path):
            await sim.wait_for(lambda: said(sim) == ["答：一"], 20)


async def test_a_token_that_ended_is_shown_once(tmp_path: Path) -> None:
    async with stack(tmp_path, rules=Rules(kf_page_items=1, kf_token_seconds=0.000001)) as (sim, _):
        sim.faults.set("kf_callback_lost", Switch(count=2))
        for number in range(3):
            sim.customer_writes(LIN, f"{number}")
        await told(sim, *(f"答：{number}" for number in range(3)))
        assert refusals(sim, "kf/sync_msg") == [95007]


async def test_what_a_person_served_meanwhile_is_not_answered_after_a_restart(tmp_path: Path) -> None:
    async with FakeService(echo) as fake, platform() as sim:
        sim.customer_writes(LIN, "一")
        sim.servicer_takes(PERSON, LIN)
        sim.customer_writes(LIN, "给张伟")
        sim.servicer_writes(PERSON, LIN, "好的")
        sim.servicer_ends(PERSON, LIN)
        sim.customer_writes(LIN, "二")
        async with adapter(sim, fake, tmp_path):
            await told(sim, "答：一", "答：二")
            await fake.until(lambda: all(turn.delivery_state == Turn.DELIVERED for turn in fake.turns()))
        assert [text_of(turn.input) for turn in fake.turns()] == ["一", "给张伟", "二"]


async def test_a_person_who_writes_without_an_event_silences_the_assistant(tmp_path: Path) -> None:
    async with stack(tmp_path) as (sim, fake):
        sim.kf.session(DESK, LIN).wrote_at = sim.clock.time()
        sim.kf.move(DESK, LIN, 3, PERSON)
        sim.servicer_writes(PERSON, LIN, "您好，我是张伟")
        await fake.until(lambda: bool(fake.requests("HandOffConversation", HandOffConversationRequest)))
        sim.customer_writes(LIN, "你好")
        await fake.until(lambda: bool(fake.turns()) and fake.turns()[0].delivery_state == Turn.DELIVERED)
        assert said(sim) == []
        assert not refusals(sim, "kf/send_msg")
