"""What the chat page's interface does at every door: files, cards, ratings, menus, quotes, customers, robots."""

import io

import aiohttp
import pytest

from simulator.page_files import MOST_BYTES

CUSTOMER, DESK, BOT = "wmSimulatorCustomer01", "kf:wkSimulatorDesk0001", "bot:aibSimulatorBot0001"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
CARD = {
    "card_type": "vote_interaction",
    "main_title": {"title": "投票"},
    "checkbox": {"question_key": "q", "mode": 1, "option_list": [{"id": "a", "text": "甲"}, {"id": "b", "text": "乙"}]},
    "submit_button": {"text": "提交", "key": "send"},
    "task_id": "t1",
}


class PageClient:
    """What the page's script does, without the page."""

    def __init__(self, sim, session):
        self._sim = sim
        self._session = session

    async def post(self, path, status=200, **body):
        async with self._session.post(f"{self._sim.page_url}api/{path}", json=body) as answer:
            assert answer.status == status, await answer.text()
            return await answer.json()

    async def files(self, *files, status=200, **fields):
        form = aiohttp.FormData(quote_fields=False)
        for name, value in fields.items():
            form.add_field(name, value)
        for kind, name, data in files:
            form.add_field(kind, io.BytesIO(data), filename=name, content_type="application/octet-stream")
        async with self._session.post(f"{self._sim.page_url}api/files", data=form) as answer:
            assert answer.status == status, await answer.text()
            return await answer.json()

    async def state(self):
        async with self._session.get(f"{self._sim.page_url}api/state") as answer:
            return await answer.json()

    async def last(self, person, chat):
        async with self._session.get(
            f"{self._sim.page_url}api/bubbles", params={"person": person, "chat": chat}
        ) as answer:
            return (await answer.json())[chat][-1]


@pytest.fixture
def page(session):
    return lambda sim: PageClient(sim, session)


async def test_files_to_each_door(simulator, session, page, subscribed):
    async with simulator() as sim:
        bot, client = await subscribed(sim), page(sim)
        await client.files(("image", "图.png", PNG), person="lina", chat=BOT)
        image = (await bot.receive())["body"]["image"]
        async with session.get(image["url"]) as got:
            assert len(await got.read()) == 96  # encrypted, padded to 32
        await client.files(("image", "图.png", PNG), person="lina", chat=BOT, text="这是什么？")
        items = (await bot.receive())["body"]["mixed"]["msg_item"]
        assert [item["msgtype"] for item in items] == ["text", "image"]
        await client.files(("file", "表.csv", b"1,2"), person="lina", chat="app:1000002", text="请看")
        names = [bubble.text for bubble in sim.bubbles("lina", "app")]
        assert names == ["[file] 表.csv", "请看"], "an application has no mixed messages"
        await client.files(("file", "表.csv", b"1,2"), person=CUSTOMER, chat=DESK)
        content = (await client.last(CUSTOMER, DESK))["content"]
        assert (content["kind"], content["name"], content["size"]) == ("file", "表.csv", 3)
        async with session.get(sim.page_url.rstrip("/") + content["url"]) as got:
            assert await got.read() == b"1,2"
            assert "sandbox" in got.headers["Content-Security-Policy"]


async def test_files_within_bounds(simulator, session, page):
    async with simulator() as sim:
        client = page(sim)
        large = ("file", "大.bin", bytes(MOST_BYTES))
        await client.files(("file", "半.bin", bytes(MOST_BYTES // 2)), person="lina", chat=BOT)
        await client.files(large, ("file", "x", b"1"), person="lina", chat=BOT, status=400)
        await client.files(*([("image", "x.png", PNG)] * 11), person="lina", chat=BOT, status=400)
        await client.files(("script", "x.js", b"1"), person="lina", chat=BOT, status=400)
        await client.files(("image", "x.png", PNG), person="lina", chat=BOT, text="字" * 70_000, status=400)
        await client.files(person="lina", chat=BOT, status=400)
        await client.files(("image", "x.png", PNG), person="ghost", chat=BOT, status=400)
        await client.post("files", person="lina", chat=BOT, status=400)
        url, foreign = f"{sim.page_url}api/files", {"Sec-Fetch-Site": "cross-site"}
        async with session.post(url, data={"person": "lina"}, headers=foreign) as answer:
            assert answer.status == 403
        assert len(sim.bubbles("lina", BOT)) == 1


async def test_what_is_neither_text_nor_file(simulator, page, subscribed):
    async with simulator() as sim:
        bot, client = await subscribed(sim), page(sim)
        await client.post("say", person="lina", chat=BOT, kind="voice", fields={"text": "你好"})
        assert (await bot.receive())["body"]["voice"]["content"] == "你好"
        place = {"name": "大厦", "address": "深圳", "latitude": "22.5", "longitude": "113.9"}
        await client.post("say", person=CUSTOMER, chat=DESK, kind="location", fields=place)
        item = sim.kf.items[DESK.removeprefix("kf:")].page("", 10, sim.corp.now).items[-1]
        assert item["location"] == {"name": "大厦", "address": "深圳", "latitude": 22.5, "longitude": 113.9}
        await client.post("say", person=CUSTOMER, chat=DESK, kind="location", fields={"latitude": "x"}, status=400)
        await client.post("say", person="lina", chat="group", kind="link", status=400)
        await client.post("say", person="lina", chat="app", kind="hologram", status=400)
        await client.post("say", person="lina", chat="app", kind="link", fields={"title": "网页", "url": "x"})
        assert (await client.last("lina", "app:1000002"))["content"]["title"] == "网页"


async def test_cards_are_touched_and_replies_rated(simulator, page, subscribed):
    async with simulator() as sim:
        bot, client = await subscribed(sim), page(sim)
        await client.post("write", person="lina", chat=BOT, text="投票")
        asked = await bot.receive()
        await bot.call(
            "aibot_respond_msg", {"msgtype": "template_card", "template_card": CARD}, asked["headers"]["req_id"]
        )
        number = (await client.last("lina", BOT))["number"]
        where = {"person": "lina", "chat": BOT, "number": number}
        for wrong in ({"key": "ghost"}, {"selected": {"q": ["ghost"]}}, {"number": 99}, {"chat": "group"}):
            await client.post("touch", status=400, **{**where, **wrong})
        await client.post("touch", **where, selected={"q": ["a", "b"]})
        event = (await bot.receive())["body"]["event"]["template_card_event"]
        assert event["selected_items"]["selected_item"][0]["option_ids"]["option_id"] == ["a", "b"]
        await client.post("rate", **where, kind=1, status=400)

        await client.post("write", person="lina", chat=BOT, text="你好", quote=number)
        asked = await bot.receive()
        assert asked["body"]["quote"]["text"]["content"] == "投票"
        assert (await client.last("lina", BOT))["content"] == {"kind": "quote", "quoted": "投票", "by": BOT}
        stream = {"id": "s", "finish": True, "content": "您好", "feedback": {"id": "f1"}}
        await bot.call("aibot_respond_msg", {"msgtype": "stream", "stream": stream}, asked["headers"]["req_id"])
        number = (await client.last("lina", BOT))["number"]
        rated = {"person": "lina", "chat": BOT, "number": number}
        await client.post("rate", **rated, kind=2, reasons=[2], content="少了一步")
        event = (await bot.receive())["body"]["event"]["feedback_event"]
        assert event == {"id": "f1", "type": 2, "content": "少了一步", "inaccurate_reason_list": [2]}
        await client.post("rate", **rated, kind=4, status=400)
        await client.post("rate", **rated, kind=2, reasons=[9], status=400)


async def test_quoting_to_an_application_puts_the_quote_in_front(simulator, page, api):
    async with simulator() as sim:
        client = page(sim)
        await api(sim).text("lina", "年假共十天")
        number = (await client.last("lina", "app:1000002"))["number"]
        await client.post("write", person="lina", chat="app", text="从哪天算？", quote=number)
        bubble = await client.last("lina", "app:1000002")
        assert (bubble["text"], bubble["content"]["quoted"]) == ("从哪天算？", "年假共十天")
        await client.post("write", person="lina", chat="app", text="x", quote=999, status=400)


async def test_menus_of_an_application(simulator, page, api):
    async with simulator() as sim:
        client = page(sim)
        button = {"type": "scancode_waitmsg", "name": "扫码", "key": "SCAN"}
        token = (await api(sim).token())["access_token"]
        await api(sim).post("menu/create?agentid=1000002", {"button": [button]}, token)
        assert (await client.state())["apps"][0]["menu"] == [button]
        scanned = {"ScanCodeInfo.ScanResult": "A1"}
        await client.post("menu", person="lina", app=1000002, entry="SCAN", result=scanned)
        await client.post("menu", person="lina", app=1000002, entry="ghost", status=400)


async def test_customers_and_those_who_serve_them(simulator, page):
    async with simulator() as sim:
        client = page(sim)
        await client.post("enter", person=CUSTOMER, chat=DESK)
        await client.post("write", person=CUSTOMER, chat=DESK, text="有人吗")
        whom = {"servicer": "lina", "customer": CUSTOMER, "chat": DESK}
        await client.post("serve", **whom, act="write", text="您好", status=400)
        await client.post("serve", **whom, act="take")
        (session,) = (await client.state())["sessions"]
        assert (session["customer"], session["state"], session["servicer"]) == (CUSTOMER, 3, "lina")
        await client.post("serve", **whom, act="write", text="您好")
        mine = await client.last(CUSTOMER, DESK)
        await client.post("recall", person=CUSTOMER, chat=DESK, number=mine["number"], status=400)
        await client.post("recall", person="lina", customer=CUSTOMER, chat=DESK, number=mine["number"])
        assert (await client.last(CUSTOMER, DESK))["recalled"]
        await client.post("recall", person="lina", customer=CUSTOMER, chat=DESK, number=mine["number"], status=400)
        await client.post("serve", **whom, act="end")
        assert (await client.state())["sessions"][0]["state"] == 4
        await client.post("serve", servicer="lina", act="pause")
        assert (await client.state())["kf"]["receiving"]["lina"] is False


async def test_menus_of_customer_service(simulator, page, session):
    async with simulator() as sim:
        client, kf = page(sim), sim.settings.kf
        await client.post("write", person=CUSTOMER, chat=DESK, text="在吗")
        query = {"corpid": sim.settings.corp_id, "corpsecret": kf.secret.reveal()}
        async with session.get(f"{sim.rest_base}/cgi-bin/gettoken", params=query) as got:
            token = (await got.json())["access_token"]
        items = [
            {"type": "click", "click": {"id": "1", "content": "退货"}},
            {"type": "text", "text": {"content": "换货"}},
        ]
        menu = {"head_content": "想问哪一类？", "list": items}
        body = {"touser": CUSTOMER, "open_kfid": DESK.removeprefix("kf:"), "msgtype": "msgmenu", "msgmenu": menu}
        async with session.post(
            f"{sim.rest_base}/cgi-bin/kf/send_msg", params={"access_token": token}, json=body
        ) as got:
            assert (await got.json())["errcode"] == 0
        await client.post("choose", person=CUSTOMER, chat=DESK, label="退货")
        assert (await client.last(CUSTOMER, DESK))["text"] == "退货"
        await client.post("choose", person=CUSTOMER, chat=DESK, label="换货", status=400)


async def test_who_and_what_there_is(simulator, page, api, application):
    async with simulator() as sim:
        client = page(sim)
        made = await api(sim).post("appchat/create", {"name": "项目组", "userlist": ["lina", "zhangwei"]})
        state = await client.state()
        group = next(one for one in state["groups"] if one["id"] == made["chatid"])
        assert (group["app"], group["bot"], group["members"]) == (sim.settings.apps[0].name, "", ["lina", "zhangwei"])
        assert state["bots"][0]["mode"] == "socket"
        assert CUSTOMER in [one["id"] for one in state["customers"]]
        (robot,) = state["robots"]
        await client.post("robot", robot=robot["name"], disabled=True)
        assert (await client.state())["robots"][0]["disabled"]
        for where in ({"app": 1000002}, {"kf": True}, {"bot": "aibSimulatorBot0001"}):
            outcome = await client.post("callback", url=application.url, **where)
            assert outcome["passed"] is False, "its answers are not those of the account"
        assert len(application.checks) == 3
