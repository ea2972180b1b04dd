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
