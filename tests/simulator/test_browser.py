"""The chat page in a real browser: what a person types, sees arrive, and must never execute."""

import asyncio
import itertools
import shutil
import subprocess
from contextlib import asynccontextmanager

import pytest

MARKDOWN = (
    "<think>想</think># 标题\n\n<script>document.title='hit'</script><img src=x onerror=document.title='hit'>\n\n"
    "| 甲 | 乙 |\n|---|---|\n| 1 | **2** |\n\n"
    "[坏](javascript:alert(1)) [好](https://example.com/a?b=1&c=2)"
)


class Browser:
    """A page under the DevTools protocol."""

    def __init__(self, ws):
        self._ws = ws
        self._ids = itertools.count(1)

    async def call(self, method, **params):
        number = next(self._ids)
        await self._ws.send_json({"id": number, "method": method, "params": params})
        while True:
            found = await self._ws.receive_json(timeout=10)
            if found.get("id") == number:
                return found["result"]

    async def value(self, script):
        answer = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, script):
        async with asyncio.timeout(10):
            while not (found := await self.value(script)):
                await asyncio.sleep(0.03)
        return found

    async def type(self, text):
        await self.call("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13)


@pytest.fixture
def browse(tmp_path, session):
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium is installed")

    @asynccontextmanager
    async def opened(url):
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
        flags += ["--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0"]
        process = await asyncio.create_subprocess_exec(
            program,
            *flags,
            "--window-size=1280,800",
            f"--user-data-dir={tmp_path}",
            url,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port = await _debugging_port(tmp_path / "DevToolsActivePort")
            async with session.ws_connect(await _page_address(session, port, url), max_msg_size=0) as ws:
                yield Browser(ws)
        finally:
            process.terminate()
            try:
                async with asyncio.timeout(5):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()

    return opened


async def _debugging_port(path):
    try:
        async with asyncio.timeout(20):
            while True:
                lines = path.read_text().splitlines() if path.exists() else []
                if len(lines) == 2:
                    return int(lines[0])
                await asyncio.sleep(0.03)
    except TimeoutError:
        pytest.skip("chromium does not start here")


async def _page_address(session, port, url):
    async with asyncio.timeout(10):
        while True:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                for target in await answer.json(content_type=None):
                    if target["type"] == "page" and target["url"].startswith(url.partition("?")[0]):
                        return target["webSocketDebuggerUrl"]
            await asyncio.sleep(0.03)


LAST = "[...document.querySelectorAll('.pane:last-child .row')].at(-1)"


async def test_typing_streaming_and_foreign_markup(simulator, subscribed, browse):
    async with simulator() as sim:
        bot = await subscribed(sim)
        async with browse(f"{sim.page_url}?person=lina") as page:
            await page.until(
                "document.querySelectorAll('.pane').length === 2 && document.querySelector('.link.on') !== null"
            )
            welcome = (await bot.receive())["headers"]["req_id"]
            await bot.call("aibot_respond_welcome_msg", {"msgtype": "text", "text": {"content": "欢迎"}}, welcome)
            await page.until(f"{LAST}?.innerText.includes('欢迎')")

            await page.value("document.querySelector('.pane:last-child textarea').focus()")
            await page.type("<b>粗</b> & 细")
            frame = await bot.receive()
            assert frame["body"]["text"]["content"] == "<b>粗</b> & 细"
            await page.until(f"{LAST}.matches('.mine') && {LAST}.innerText.includes('<b>粗</b> & 细')")

            req_id = frame["headers"]["req_id"]
            assert await bot.stream(req_id, "s", MARKDOWN[:20]) == 0
            await page.until(f"{LAST}.querySelector('.typing') !== null")
            assert await bot.stream(req_id, "s", MARKDOWN, True) == 0
            await page.until(f"{LAST}.querySelector('.typing') === null")
            html = await page.value(f"{LAST}.querySelector('.bubble').innerHTML")
            assert "<h1>标题</h1>" in html
            assert "<td><strong>2</strong></td>" in html
            assert 'href="https://example.com/a?b=1&amp;c=2"' in html
            assert 'href="javascript' not in html
            assert "&lt;script&gt;" in html
            assert "<img" not in html
            assert "已完成思考" in html
            assert "hit" not in await page.value("document.title")


async def test_faults_people_and_cuts(simulator, api, browse):
    async with simulator() as sim, browse(f"{sim.page_url}?person=lina&panel=faults") as page:
        await page.until("document.querySelectorAll('.fault').length > 20")
        await page.value("document.querySelector('.switch[aria-label=\"受理后断线\"]').click()")
        await sim.wait_for(lambda: True)
        await page.until("document.getElementById('active-faults').innerText.includes('1')")
        assert set(sim.faults.active) == {"send_cut_after"}
        sim.faults.clear()
        await api(sim).text("lina", "字" * 700)
        await page.until("document.querySelector('.cutmark')?.innerText.includes('54')")
        await api(sim).text("wangfang", "给王芳")
        await page.until("document.querySelector('#rail .badge')?.innerText === '1'")
        await page.value("document.querySelectorAll('.person')[2].click()")
        await page.until("document.querySelector('.pane .log').innerText.includes('给王芳')")


CARDS = {
    "text_notice": {
        "main_title": {"title": "<b>标题</b>"},
        "emphasis_content": {"title": "100"},
        "card_action": {"type": 1, "url": "javascript://%0adocument.title='hit'"},
        "jump_list": [{"type": 3, "title": "怎么用？", "question": "这张卡怎么用？"}],
    },
    "news_notice": {
        "main_title": {"title": "新闻"},
        "card_image": {"url": "https://example.com/a.png"},
        "card_action": {"type": 1, "url": "https://example.com"},
        "vertical_content_list": [{"title": "一", "desc": "二"}],
    },
    "button_interaction": {
        "main_title": {"title": "审批"},
        "button_list": [{"text": "同意", "key": "yes"}, {"text": "拒绝", "key": "no", "style": 3}],
        "action_menu": {"desc": "更多", "action_list": [{"text": "不再提醒", "key": "mute"}]},
        "task_id": "b1",
    },
    "vote_interaction": {
        "main_title": {"title": "投票"},
        "checkbox": {
            "question_key": "q",
            "mode": 1,
            "option_list": [{"id": "a", "text": "甲"}, {"id": "b", "text": "乙"}],
        },
        "submit_button": {"text": "提交", "key": "send"},
        "task_id": "v1",
    },
    "multiple_interaction": {
        "main_title": {"title": "预订"},
        "select_list": [{"question_key": "楼", "option_list": [{"id": "3", "text": "三"}, {"id": "5", "text": "五"}]}],
        "submit_button": {"text": "预订", "key": "book"},
        "task_id": "m1",
    },
}
RIGHT = "document.querySelector('.pane:last-child')"


async def test_cards_of_all_kinds_are_touched(simulator, subscribed, browse):
    async with simulator() as sim:
        bot = await subscribed(sim)
        await sim.write_to_bot("lina", "给我卡片")
        await bot.receive()
        for kind, card in CARDS.items():
            body = {"chatid": "lina", "msgtype": "template_card", "template_card": {"card_type": kind, **card}}
            assert (await bot.call("aibot_send_msg", body))["errcode"] == 0
        async with browse(f"{sim.page_url}?person=lina") as page:
            await page.until("document.querySelectorAll('.tcard').length === 5")
            await bot.receive()  # the entry into the chat
            html = await page.value(f"{RIGHT}.querySelector('.log').innerHTML")
            assert "&lt;b&gt;标题" in html
            assert "javascript:" not in html
            assert 'src="https' not in html

            await page.value("document.querySelector('.button_interaction .act').click()")
            frame = await bot.receive()
            event = frame["body"]["event"]["template_card_event"]
            assert (event["event_key"], event["task_id"]) == ("yes", "b1")
            changed = CARDS["button_interaction"] | {"card_type": "button_interaction"}
            changed["button_list"] = [{"text": "已同意", "key": "done"}]
            update = {"response_type": "update_template_card", "template_card": changed}
            await bot.call("aibot_respond_update_msg", update, frame["headers"]["req_id"])
            await page.until("document.querySelector('.button_interaction .act').innerText === '已同意'")
            assert await page.value("document.querySelector('.button_interaction .act').disabled")
            await page.value("document.querySelector('.button_interaction .dots').click()")
            await page.value("document.querySelector('.popover button').click()")
            assert (await bot.receive())["body"]["event"]["template_card_event"]["event_key"] == "mute"

            await page.value("document.querySelector('.vote_interaction .act').click()")
            await page.until("document.getElementById('toast').innerText === '请先选择'")
            await page.value("document.querySelectorAll('.vote_interaction input')[1].click()")
            await page.value("document.querySelector('.vote_interaction .act').click()")
            event = (await bot.receive())["body"]["event"]["template_card_event"]
            assert event["selected_items"]["selected_item"][0]["option_ids"]["option_id"] == ["b"]
            await page.value("document.querySelector('.multiple_interaction .act').click()")
            event = (await bot.receive())["body"]["event"]["template_card_event"]
            assert event["selected_items"]["selected_item"][0]["option_ids"]["option_id"] == ["3"]
            await page.value("document.querySelector('.text_notice .jump').click()")
            assert (await bot.receive())["body"]["text"]["content"] == "这张卡怎么用？"


async def test_pictures_and_ratings(simulator, subscribed, browse):
    async with simulator() as sim:
        bot = await subscribed(sim)
        async with browse(f"{sim.page_url}?person=lina") as page:
            await bot.receive()
            await page.value(f"{RIGHT}.querySelector('.tools button').click()")
            await page.value("document.querySelectorAll('.popover button')[1].click()")
            await page.until(f"{RIGHT}.querySelector('.chip')?.innerText.includes('风景.png')")
            await page.value(f"{RIGHT}.querySelector('textarea').focus()")
            await page.type("这是哪里？")
            frame = await bot.receive()
            assert [item["msgtype"] for item in frame["body"]["mixed"]["msg_item"]] == ["text", "image"]
            # The name that the browser gave, and a picture that is really drawn.
            await page.until(f"{LAST}?.querySelector('img')?.naturalWidth === 640")
            assert await page.value(f"{LAST}.querySelector('img').alt") == "风景.png"
            log = f"{RIGHT}.querySelector('.log')"
            await page.until(f"{log}.scrollHeight - {log}.scrollTop - {log}.clientHeight < 5")
            await page.value(f"{LAST}.querySelector('.picture').click()")
            assert await page.value("document.getElementById('viewer').open")
            await page.value("document.getElementById('viewer-image').click()")
            assert not await page.value("document.getElementById('viewer').open")

            stream = {"id": "s", "finish": True, "content": "海边", "feedback": {"id": "f1"}}
            await bot.call("aibot_respond_msg", {"msgtype": "stream", "stream": stream}, frame["headers"]["req_id"])
            await page.until(f"{LAST}.querySelectorAll('.thumb').length === 2")
            await page.value(f"{LAST}.querySelectorAll('.thumb')[1].click()")
            await page.value("document.querySelectorAll('.popover input')[1].click()")
            await page.value("document.querySelector('.popover .primary').click()")
            rating = (await bot.receive())["body"]["event"]["feedback_event"]
            assert (rating["type"], rating["inaccurate_reason_list"]) == (2, [2])
            await page.until(f"{LAST}.querySelectorAll('.thumb')[1].getAttribute('aria-pressed') === 'true'")
            await page.value(f"{LAST}.querySelectorAll('.thumb')[1].click()")
            assert (await bot.receive())["body"]["event"]["feedback_event"]["type"] == 3

            await page.value(f"{LAST}.querySelector('.beside-tools button').click()")
            await page.value(f"{RIGHT}.querySelector('textarea').focus()")
            await page.type("哪片海？")
            assert (await bot.receive())["body"]["quote"]["text"]["content"] == "海边"
            await page.until(f"{LAST}.querySelector('.quoted')?.innerText.includes('海边')")


async def test_a_customer_and_who_serves_them(simulator, browse):
    customer = "wmSimulatorCustomer01"
    async with simulator() as sim, browse(f"{sim.page_url}?person={customer}") as page:
        await page.until("document.querySelector('.pane.kf textarea') !== null")
        await page.value("document.querySelector('textarea').focus()")
        await page.type("有人吗")
        await sim.wait_for(lambda: sim.bubbles(customer, "kf"))
        await page.value("[...document.querySelectorAll('.person')].find((one) => one.title.includes('lina')).click()")
        await page.until("[...document.querySelectorAll('.chat')].some((one) => one.innerText.includes('新接入'))")
        await page.value("[...document.querySelectorAll('.chat')].at(-1).click()")
        assert await page.value("document.querySelector('.pane.serve textarea').disabled")
        await page.value("document.querySelector('.pane.serve .deskact').click()")
        await page.until("document.querySelector('.pane.serve .chipstate').innerText === '我在接待'")
        await page.value("document.querySelector('.pane.serve textarea').focus()")
        await page.type("我来帮您")
        await page.until(f"{LAST}.matches('.mine') && {LAST}.innerText.includes('我来帮您')")
        assert [bubble.text for bubble in sim.bubbles(customer, "kf")] == ["有人吗", "我来帮您"]
        await page.value("document.querySelector('.pane.serve .deskact').click()")
        await page.until("document.querySelector('.pane.serve .chipstate').innerText === '已结束'")
        await page.value("document.querySelector('.person[title*=Customer01]').click()")
        await page.until("document.querySelector('.pane.kf .log')?.innerText.includes('接待人员 李娜')")


async def test_five_hundred_bubbles_are_drawn_soon_and_stay_bounded(simulator, api, browse):
    async with simulator() as sim:
        for number in range(520):
            sim.chats.post(
                chat="app:1000002", person="lina", speaker="app:1000002", text=f"第{number}条", now=sim.corp.now
            )
        async with browse(f"{sim.page_url}?person=lina") as page:
            await page.until("document.querySelectorAll('.pane.app .row').length === 500")
            await api(sim).text("lina", "最后一条")
            await page.until("document.querySelector('.pane.app .log').innerText.includes('最后一条')")
            assert await page.value("document.querySelectorAll('.pane.app .row').length") == 500
            # Drawn anew as a whole, as a change of person does it.
            took = "(async () => { const at = performance.now(); document.getElementById('toggle-strip').click();"
            took += " document.body.offsetHeight; return performance.now() - at; })()"
            assert await page.value(took) < 1000


async def test_menus_recalls_and_hostile_contents(simulator, api, application, browse):
    async with simulator() as sim:
        sim.set_callback_url(application.url)
        below = [
            {"type": "scancode_waitmsg", "name": "扫码", "key": "SCAN"},
            {"type": "click", "name": "假期", "key": "L"},
        ]
        token = (await api(sim).token())["access_token"]
        await api(sim).post("menu/create?agentid=1000002", {"button": [{"name": "更多", "sub_button": below}]}, token)
        sent = await api(sim).text("lina", "发错了")
        content = {"kind": "link", "title": "<i>坏</i>", "url": "javascript:document.title='hit'"}
        look = {"chat": "app:1000002", "person": "lina", "speaker": "app:1000002", "look": "card", "now": sim.corp.now}
        sim.chats.post(**look, text="坏", content=content)
        sim.chats.post(
            **look, text="坏", content={"kind": "file", "name": "<b>.html", "size": 1, "url": "//example.com/x"}
        )
        sim.chats.post(**look, text="坏", content={"kind": "image", "name": "x", "url": "https://example.com/x.png"})
        sim.chats.post(**look, text="新的种类", content={"kind": "hologram", "depth": 3})
        async with browse(f"{sim.page_url}?person=lina") as page:
            await page.until("document.querySelector('.pane.app .log')?.innerText.includes('发错了')")
            html = await page.value("document.querySelector('.pane.app .log').innerHTML")
            assert "新的种类" in html
            assert "&lt;i&gt;坏" in html
            assert all(word not in html for word in ('href="javascript', 'href="//', 'src="http'))
            await api(sim).post("message/recall", {"msgid": sent["msgid"]})
            await page.until("document.querySelector('.pane.app .system')?.innerText.includes('撤回了一条消息')")
            assert "发错了" not in await page.value("document.querySelector('.pane.app .log').innerText")

            await page.value("document.querySelector('.appmenu button').click()")
            await page.value("document.querySelectorAll('.popover button')[1].click()")
            await sim.wait_for(lambda: len(application.received) >= 1)
            await page.value("document.querySelector('.appmenu button').click()")
            await page.value("document.querySelectorAll('.popover button')[0].click()")
            await page.value("document.querySelector('.popover .primary').click()")
            await sim.wait_for(lambda: len(application.received) >= 2)
