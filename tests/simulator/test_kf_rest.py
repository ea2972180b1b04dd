"""The local customer service: its list, its limits, its sessions, with the codes of the platform."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from adapter.crypto import Envelope
from adapter.wire import parse_envelope, parse_message
from simulator.app import Simulator
from simulator.clock import ManualClock
from simulator.corp import NobodyThere
from simulator.rules import Rules

LIN, ZHOU, DESK = "wmSimulatorCustomer01", "wmSimulatorCustomer02", "wkSimulatorDesk0001"
PERSON = "zhangwei"


class Kf:
    """Calls as the application of customer service does."""

    def __init__(self, sim: Simulator, api: Any, clock: ManualClock) -> None:
        self.sim = sim
        self.clock = clock
        self._api = api

    async def call(self, path: str, body: dict[str, Any], secret: str | None = None) -> dict[str, Any]:
        token = await self._api.token(secret or self.sim.settings.kf.secret.reveal())
        answer: dict[str, Any] = await self._api.post(f"kf/{path}", body, token["access_token"])
        return answer

    async def sync(self, cursor: str = "", **more: Any) -> dict[str, Any]:
        return await self.call("sync_msg", {"open_kfid": DESK, **({"cursor": cursor} if cursor else {}), **more})

    async def items(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.sync())["msg_list"]
        return found

    async def text(self, content: str = "好", customer: str = LIN, **more: Any) -> int:
        body = {"touser": customer, "open_kfid": DESK, "msgtype": "text", "text": {"content": content}, **more}
        code: int = (await self.call("send_msg", body))["errcode"]
        return code

    async def state(self) -> tuple[int, str]:
        found = await self.call("service_state/get", {"open_kfid": DESK, "external_userid": LIN})
        return found["service_state"], found["servicer_userid"]

    async def trans(self, state: int, servicer: str = "") -> int:
        body = {"open_kfid": DESK, "external_userid": LIN, "service_state": state, "servicer_userid": servicer}
        code: int = (await self.call("service_state/trans", body))["errcode"]
        return code


Start = Callable[..., Any]


@pytest.fixture
def kf(simulator: Any, api: Any) -> Start:
    @asynccontextmanager
    async def start(rules: Rules | None = None) -> AsyncIterator[Kf]:
        clock = ManualClock()
        async with simulator(rules, clock=clock) as sim:
            yield Kf(sim, api(sim), clock)

    return start


# --- the list -----------------------------------------------------------------------------


async def test_the_list_has_pages_and_begins_three_days_back(kf: Start) -> None:
    async with kf(Rules(kf_page_items=2)) as service:
        service.sim.customer_writes(LIN, "旧")
        service.clock.advance(3 * 86400 + 1)
        for text in ("一", "二", "三"):
            service.sim.customer_writes(LIN, text)
        first = await service.sync()
        assert [item["text"]["content"] for item in first["msg_list"]] == ["一", "二"]
        assert first["has_more"] == 1
        assert len(first["next_cursor"].encode()) <= 64
        second = await service.sync(first["next_cursor"])
        assert [item["text"]["content"] for item in second["msg_list"]] == ["三"]
        assert second["has_more"] == 0
        assert (await service.sync(second["next_cursor"]))["msg_list"] == []
        item = second["msg_list"][0]
        assert (item["origin"], item["external_userid"], item["open_kfid"]) == (3, LIN, DESK)
        assert len(item["msgid"]) > 32


async def test_a_page_may_be_empty_although_there_is_more(kf: Start) -> None:
    async with kf() as service:
        service.sim.customer_writes(LIN, "一")
        service.sim.faults.once("kf_empty_page")
        empty = await service.sync()
        assert (empty["msg_list"], empty["has_more"]) == ([], 1)
        assert len((await service.sync(empty["next_cursor"]))["msg_list"]) == 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"open_kfid": "wkNobody"}, 95000),
        ({}, 95000),
        ({"open_kfid": DESK, "cursor": "made up"}, 40058),
        ({"open_kfid": DESK, "cursor": "x" * 65}, 40058),
        ({"open_kfid": DESK, "limit": 1001}, 40058),
        ({"open_kfid": DESK, "token": "made up"}, 95007),
    ],
)
async def test_what_the_list_refuses(kf: Start, body: dict[str, Any], code: int) -> None:
    async with kf() as service:
        assert (await service.call("sync_msg", body))["errcode"] == code


async def test_only_the_application_that_is_granted_may_call(kf: Start) -> None:
    async with kf() as service:
        other = service.sim.settings.apps[0].secret.reveal()
        assert (await service.call("sync_msg", {"open_kfid": DESK}, other))["errcode"] == 48007


async def test_without_a_token_the_list_is_limited(kf: Start) -> None:
    async with kf(Rules(kf_pulls_without_token=2)) as service:
        assert [(await service.sync())["errcode"] for _ in range(3)] == [0, 0, 45009]
        service.clock.advance(61)
        assert (await service.sync())["errcode"] == 0


async def test_a_callback_holds_a_token_and_nothing_else(kf: Start) -> None:
    async with kf() as service, listening() as (url, heard):
        sim = service.sim
        sim.set_kf_callback_url(url)
        sim.customer_writes(LIN, "秘密")
        query, body = await asyncio.wait_for(heard.get(), 5)
        settings = sim.settings.kf
        envelope = Envelope(settings.token.reveal(), settings.encoding_aes_key.reveal(), sim.settings.corp_id)
        plain = envelope.open(
            query["msg_signature"], query["timestamp"], query["nonce"], parse_envelope(body).encrypted
        )
        message = parse_message(plain)
        assert (message.event, message.from_user, message.msg_id) == ("kf_msg_or_event", "", "")
        assert message.fields["OpenKfId"] == DESK
        assert "秘密" not in plain.decode()
        token = message.fields["Token"]
        assert (await service.sync(token=token))["errcode"] == 0
        service.clock.advance(601)
        assert (await service.sync(token=token))["errcode"] == 95007


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[str, "asyncio.Queue[tuple[dict[str, str], bytes]]"]]:
    heard: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue()

    async def post(request: web.Request) -> web.Response:
        heard.put_nowait((dict(request.query), await request.read()))
        return web.Response()

    application = web.Application()
    application.router.add_post("/", post)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/", heard
    finally:
        await runner.cleanup()


# --- sending ------------------------------------------------------------------------------


async def test_five_messages_and_then_none_until_the_customer_writes(kf: Start) -> None:
    async with kf() as service:
        assert await service.text() == 95018, "nobody has begun a session"
        service.sim.customer_writes(LIN, "一")
        assert [await service.text() for _ in range(6)] == [0, 0, 0, 0, 0, 95001]
        service.sim.customer_writes(LIN, "二")
        assert await service.text() == 0
        assert len(service.sim.replies(LIN, "kf")) == 6


async def test_nothing_after_48_hours(kf: Start) -> None:
    async with kf() as service:
        service.sim.customer_writes(LIN, "一")
        service.clock.advance(48 * 3600)
        assert await service.text() == 0
        service.clock.advance(1)
        # The session ends with the window, so its state is what is wrong first.
        assert await service.text() == 95018


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"msgid": ""}, 40058),
        ({"msgid": "x" * 33}, 40058),
        ({"msgid": "no spaces"}, 40058),
        ({"touser": "wmNobody"}, 40096),
        ({"open_kfid": "wkNobody"}, 95000),
        ({"text": {"content": ""}}, 44004),
        ({"text": {"content": "x" * 2049}}, 40058),
        ({"msgtype": "markdown", "markdown": {"content": "x"}}, 40008),
        ({"msgtype": "image", "image": {"media_id": "none"}}, 40007),
        ({"msgtype": "msgmenu", "msgmenu": {"list": [{"type": "text", "text": {"content": "x"}}] * 11}}, 95008),
        ({"msgtype": "msgmenu", "msgmenu": {"list": [{"type": "click", "click": {"content": "x" * 129}}]}}, 40058),
        ({"msgtype": "msgmenu", "msgmenu": {"head_content": "x" * 1025, "list": []}}, 40058),
    ],
)
async def test_what_sending_refuses(kf: Start, more: dict[str, Any], code: int) -> None:
    async with kf() as service:
        service.sim.customer_writes(LIN, "一")
        assert await service.text(**more) == code
        assert service.sim.replies(LIN, "kf") == []


async def test_a_msgid_works_once(kf: Start) -> None:
    async with kf() as service:
        service.sim.customer_writes(LIN, "一")
        assert await service.text(msgid="a-1_Z") == 0
        assert await service.text(msgid="a-1_Z") == service.sim.settings.rules.kf_repeated_msgid_code
        (bubble,) = service.sim.replies(LIN, "kf")
        assert (bubble.sent, bubble.suppressed) == (2, 1)


@pytest.mark.parametrize(("first", "code"), [(False, 95001), (True, 40058)])
async def test_a_repetition_beyond_the_five(kf: Start, first: bool, code: int) -> None:
    async with kf(Rules(kf_repeats_before_budget=first)) as service:
        service.sim.customer_writes(LIN, "一")
        assert [await service.text(msgid=f"{number}") for number in range(6)] == [0, 0, 0, 0, 0, 95001]
        assert await service.text(msgid="4") == code


async def test_a_menu_is_shown_and_clicked(kf: Start) -> None:
    async with kf() as service:
        service.sim.customer_writes(LIN, "一")
        menu = {"head_content": "选", "list": [{"type": "click", "click": {"id": "7", "content": "退货"}}]}
        assert await service.text(msgtype="msgmenu", msgmenu=menu) == 0
        (bubble,) = service.sim.replies(LIN, "kf")
        items = [{"type": "click", "content": "退货", "id": "7"}]
        assert bubble.content == {"kind": "menu", "head": "选", "items": items, "tail": ""}
        service.sim.customer_clicks_menu(LIN, "退货")
        assert (await service.items())[-1]["text"] == {"content": "退货", "menu_id": "7"}
        with pytest.raises(NobodyThere):
            service.sim.customer_clicks_menu(LIN, "换货")


async def test_a_send_that_fails_later_is_told_as_an_event(kf: Start) -> None:
    async with kf() as service:
        service.sim.customer_writes(LIN, "一")
        service.sim.faults.once("kf_send_fail")
        assert await service.text(msgid="m1") == 0
        assert service.sim.replies(LIN, "kf") == []
        event = (await service.items())[-1]["event"]
        assert (event["event_type"], event["fail_msgid"], event["external_userid"]) == ("msg_send_fail", "m1", LIN)


# --- coming in ----------------------------------------------------------------------------


async def test_a_welcome_code_works_once_within_20_seconds(kf: Start) -> None:
    async with kf() as service:
        body = {"msgtype": "text", "text": {"content": "欢迎"}}
        code = service.sim.customer_enters(LIN)
        assert (await service.call("send_msg_on_event", {"code": code, **body, "msgtype": "image"}))["errcode"] == 40008
        assert (await service.call("send_msg_on_event", {"code": code, **body}))["errcode"] == 0
        assert (await service.call("send_msg_on_event", {"code": code, **body}))["errcode"] == 40058
        assert service.sim.customer_enters(LIN) == "", "none within 48 hours"
        late = service.sim.customer_enters(ZHOU)
        service.clock.advance(20)
        assert (await service.call("send_msg_on_event", {"code": late, **body}))["errcode"] == 40058
        service.sim.customer_writes(ZHOU, "一")
        service.clock.advance(48 * 3600)
        assert service.sim.customer_enters(ZHOU) == "", "who ever wrote is not welcomed"
        assert [bubble.text for bubble in service.sim.replies(LIN, "kf")] == ["欢迎"]


# --- sessions -----------------------------------------------------------------------------


async def test_states_go_the_documented_ways(kf: Start) -> None:
    async with kf() as service:
        assert await service.state() == (4, "")
        assert await service.trans(2) == 95013
        service.sim.customer_writes(LIN, "一")
        assert await service.state() == (0, "")
        await service.text()
        assert await service.state() == (1, "")
        assert await service.trans(0) == 95016
        assert await service.trans(2) == 0
        assert await service.text() == 95018
        assert await service.trans(1) == 95016
        assert await service.trans(3, "nobody") == 60111
        assert await service.trans(3, PERSON) == 0
        assert await service.state() == (3, PERSON)
        assert await service.trans(3, "lina") == 0
        assert await service.trans(4) == 0
        service.sim.customer_writes(LIN, "二")
        assert await service.state() == (0, "")


async def test_nobody_is_given_to_who_does_not_receive(kf: Start) -> None:
    async with kf() as service:
        service.sim.customer_writes(LIN, "一")
        for servicer in service.sim.kf.receiving:
            service.sim.kf.receive(servicer, receiving=False)
        assert await service.trans(3, PERSON) == 95019
        assert await service.trans(2) == 95019
        service.sim.kf.receive(PERSON, receiving=True)
        assert await service.trans(2) == 0


async def test_what_persons_do_stands_in_the_list(kf: Start) -> None:
    async with kf() as service:
        sim = service.sim
        sim.customer_writes(LIN, "一")
        await service.trans(2)
        sim.servicer_takes(PERSON, LIN)
        sim.servicer_writes(PERSON, LIN, "您好")
        sim.servicer_takes("lina", LIN)
        with pytest.raises(NobodyThere):
            sim.servicer_writes(PERSON, LIN, "还是我")
        sim.servicer_ends("lina", LIN)
        sim.servicer_writes(PERSON, LIN, "再说一句")
        seen = [
            item["event"].get("change_type") or item["event"]["event_type"] if item["msgtype"] == "event"
            else (item["origin"], item.get("servicer_userid", ""))
            for item in await service.items()
        ]  # fmt: skip
        assert seen == [(3, ""), 1, (5, PERSON), 2, 3, 4, (5, PERSON)]
        assert await service.state() == (3, PERSON)


async def test_a_session_ends_after_48_hours(kf: Start) -> None:
    async with kf() as service:
        service.sim.customer_writes(LIN, "一")
        service.sim.servicer_takes(PERSON, LIN)
        service.clock.advance(48 * 3600 + 1)
        assert await service.state() == (4, "")


async def test_who_is_there(kf: Start) -> None:
    async with kf() as service:
        accounts = await service.call("account/list", {"offset": 0, "limit": 100})
        assert [account["open_kfid"] for account in accounts["account_list"]] == [DESK]
        assert (await service.call("account/list", {"offset": 0, "limit": 101}))["errcode"] == 40058
        found = await service.call("customer/batchget", {"external_userid_list": [LIN, "wmNobody"]})
        assert [customer["nickname"] for customer in found["customer_list"]] == ["顾客小林"]
        assert found["invalid_external_userid"] == ["wmNobody"]


async def test_a_message_that_is_taken_back(kf: Start) -> None:
    async with kf() as service:
        msg_id = service.sim.customer_writes(LIN, "错")
        service.sim.kf.recall(LIN, msg_id)
        event = (await service.items())[-1]["event"]
        assert (event["event_type"], event["recall_msgid"]) == ("user_recall_msg", msg_id)
        assert service.sim.bubbles(LIN, "kf")[0].recalled
