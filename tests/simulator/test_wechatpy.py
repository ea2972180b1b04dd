"""wechatpy's client, which nobody here wrote, against the REST side: what an application does beside sending text.

It is synchronous, so its calls run beside the loop.
"""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from wechatpy.enterprise import WeChatClient
from wechatpy.exceptions import WeChatClientException

from simulator.app import Simulator
from simulator.rules import Rules

AGENT = 1000002


@asynccontextmanager
async def client_of(sim: Simulator) -> AsyncIterator[WeChatClient]:
    class Client(WeChatClient):
        API_BASE_URL = f"{sim.rest_base}/cgi-bin/"

        def fetch_access_token(self):
            """wechatpy's own, but for the address, which it does not let anyone choose."""
            params = {"corpid": self.corp_id, "corpsecret": self.secret}
            return self._fetch_access_token(f"{self.API_BASE_URL}gettoken", params)

    client = Client(sim.settings.corp_id, sim.settings.apps[0].secret.reveal())
    try:
        yield client
    finally:
        client._http.close()


async def test_pictures_files_and_articles(simulator):
    async with simulator() as sim, client_of(sim) as client:
        picture = io.BytesIO(b"\x89PNG\r\n\x1a\n" + bytes(64))
        picture.name = "a.png"
        media_id = (await asyncio.to_thread(client.media.upload, "image", picture))["media_id"]
        await asyncio.to_thread(client.message.send_image, AGENT, "lina", media_id)
        articles = [{"title": "公告", "description": "请看", "url": "https://example.com", "image": ""}]
        await asyncio.to_thread(client.message.send_articles, AGENT, "lina", articles)
        image, news = sim.replies("lina", "app")
        assert image.content["kind"] == "image"
        assert news.content["articles"][0]["title"] == "公告"
        with pytest.raises(WeChatClientException) as caught:
            await asyncio.to_thread(client.message.send_articles, AGENT, "lina", articles * 9)
        assert caught.value.errcode == 45008


async def test_a_group_of_an_application(simulator):
    async with simulator() as sim, client_of(sim) as client:
        chat = client.appchat
        made = await asyncio.to_thread(chat.create, "wrReport01", "日报", "lina", ["lina", "zhangwei"])
        assert made["chatid"] == "wrReport01"
        await asyncio.to_thread(chat.send_text, "wrReport01", "今天的日报")
        assert [bubble.text for bubble in sim.replies("zhangwei", "group:wrReport01")] == ["今天的日报"]
        await asyncio.to_thread(chat.update, "wrReport01", "周报", None, ["wangfang"], ["zhangwei"])
        info = await asyncio.to_thread(chat.get, "wrReport01")
        assert (info["name"], info["userlist"]) == ("周报", ["lina", "wangfang"])
        assert "group:wrReport01" not in dict(sim.corp.chats_of("zhangwei"))
        sim.write_in_group("lina", "收到", "wrReport01")
        with pytest.raises(WeChatClientException) as foreign:
            await asyncio.to_thread(chat.send_text, sim.settings.groups[0].id, "不是我们的群")
        assert foreign.value.errcode == 86008
        with pytest.raises(WeChatClientException) as unknown:
            await asyncio.to_thread(chat.send_text, "wrNobody", "没有的群")
        assert unknown.value.errcode == 40050


async def test_a_group_gets_so_many_a_minute(simulator, api):
    async with simulator(Rules(group_per_minute=2)) as sim:
        body = {"chatid": "wr1", "userlist": ["lina", "zhangwei"]}
        assert (await api(sim).post("appchat/create", body))["errcode"] == 0
        assert (await api(sim).post("appchat/create", body))["errcode"] == 86003
        assert (await api(sim).post("appchat/create", {"userlist": ["lina"]}))["errcode"] == 86004
        assert (await api(sim).post("appchat/create", {"userlist": ["lina", "ghost"]}))["errcode"] == 40003
        text = {"chatid": "wr1", "msgtype": "text", "text": {"content": "x"}}
        assert {(await api(sim).post("appchat/send", text))["errcode"] for _ in range(3)} == {0}
        assert len(sim.replies("lina", "group:wr1")) == 2
        assert sim.counters["dropped"] == 1
        card = {"chatid": "wr1", "msgtype": "template_card", "template_card": {}}
        assert (await api(sim).post("appchat/send", card))["errcode"] == 40008


async def test_a_menu_and_what_touching_it_sends(simulator, application):
    async with simulator() as sim, client_of(sim) as client:
        sim.set_callback_url(application.url)
        button = [
            {"type": "click", "name": "请假", "key": "LEAVE"},
            {"name": "更多", "sub_button": [{"type": "scancode_waitmsg", "name": "扫码", "key": "ASSET"}]},
        ]
        await asyncio.to_thread(client.menu.create, AGENT, {"button": button})
        assert (await asyncio.to_thread(client.menu.get, AGENT))["button"] == button
        sim.touch_menu("lina", "请假")
        sim.touch_menu("lina", "ASSET", {"ScanCodeInfo.ScanType": "qrcode", "ScanCodeInfo.ScanResult": "SN-1"})
        await sim.wait_for(lambda: sim.counters["acknowledged"] == 2)
        await asyncio.to_thread(client.menu.delete, AGENT)
        assert (await asyncio.to_thread(client.menu.get, AGENT))["button"] == []
        with pytest.raises(WeChatClientException) as caught:
            await asyncio.to_thread(client.menu.create, AGENT, {"button": []})
        assert caught.value.errcode == 40058
