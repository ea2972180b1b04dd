"""Bots in callback mode as DOC 101033 and 101031 have them, opened by an implementation that nobody here wrote."""

import base64
import hashlib
import json

import aiohttp
import pytest
from aiohttp import web
from wechatpy.crypto import _get_signature
from wechatpy.enterprise.crypto import PrpCrypto

from simulator.faults import Faults, Switch
from simulator.journal import Kind
from simulator.rules import Rules
from simulator.settings import BotSettings

QUICK = Rules(callback_interval_seconds=0.02, stream_poll_interval_seconds=0.02, stream_poll_seconds=0.5)
BOTS = (BotSettings(mode="callback"),)


class BotServer:
    """A bot's own web server: remembers what it was told, answers what a test queued, then nothing."""

    def __init__(self, sim) -> None:
        bot = sim.settings.bots[0]
        self.token = bot.token.reveal()
        self.key = base64.b64decode(bot.encoding_aes_key.reveal() + "=")
        self.told: list[dict] = []
        self.replies: list[dict | None] = []
        self.nonce: str | None = None

    async def __call__(self, request) -> web.Response:
        query = request.query
        encrypted = (await request.json())["encrypt"]
        assert _get_signature(self.token, query["timestamp"], query["nonce"], encrypted) == query["msg_signature"]
        self.told.append(json.loads(PrpCrypto(self.key).decrypt(encrypted, "")))
        reply = self.replies.pop(0) if self.replies else None
        if reply is None:
            return web.Response()
        sealed = PrpCrypto(self.key).encrypt(json.dumps(reply), "").decode()
        nonce, at = self.nonce or query["nonce"], query["timestamp"]
        signature = _get_signature(self.token, at, nonce, sealed)
        body = {"encrypt": sealed, "msgsignature": signature, "timestamp": int(at), "nonce": nonce}
        return web.json_response(body)


def stream(content, finish=False, **more):
    return {"msgtype": "stream", "stream": {"id": "s1", "finish": finish, "content": content, **more}}


@pytest.fixture
def served(application):
    def serve(sim):
        server = BotServer(sim)
        application.answers = [server] * 1000
        sim.set_bot_callback_url(application.url)
        return server

    return serve


async def test_a_message_is_sealed_without_receiveid_and_streams_are_asked_for(simulator, served):
    async with simulator(QUICK, bots=BOTS) as sim:
        server = served(sim)
        server.replies = [stream("想"), stream("想一"), stream("想一想", finish=True)]
        msg_id = await sim.write_to_bot("lina", "你好 🙂")
        await sim.wait_for(lambda: sim.replies("lina", "bot") and sim.replies("lina", "bot")[0].finished)
        message, first, second = server.told
        assert message["msgid"] == msg_id
        assert (message["text"]["content"], message["from"]["userid"]) == ("你好 🙂", "lina")
        assert "/cgi-bin/aibot/response?response_code=" in message["response_url"]
        for poll in (first, second):
            assert (poll["msgtype"], poll["stream"]) == ("stream", {"id": "s1"})
            assert "response_url" not in poll
        assert [bubble.text for bubble in sim.replies("lina", "bot")] == ["想一想"]


async def test_nobody_asks_longer_than_six_minutes(simulator, served):
    rules = Rules(stream_poll_interval_seconds=0.02, stream_poll_seconds=0.15)
    async with simulator(rules, bots=BOTS) as sim:
        server = served(sim)
        server.replies = [stream("想")] * 100
        await sim.write_to_bot("lina", "你好")
        await sim.wait_for(lambda: sim.counters["expired"])
        assert sim.replies("lina", "bot")[0].expired
        assert 2 < len(server.told) < 12


@pytest.mark.parametrize(
    "reply",
    [
        {"msgtype": "text", "text": {"content": "好"}},
        {"msgtype": "markdown", "markdown": {"content": "好"}},
        stream("字" * 6827),
    ],
)
async def test_what_a_message_cannot_be_answered_with_is_not_shown(simulator, served, reply):
    async with simulator(QUICK, bots=BOTS) as sim:
        served(sim).replies = [reply]
        await sim.write_to_bot("lina", "你好")
        await sim.wait_for(lambda: sim.counters["refused"])
        assert sim.replies("lina", "bot") == []


async def test_an_answer_under_another_nonce_is_not_shown(simulator, served):
    async with simulator(QUICK, bots=BOTS) as sim:
        server = served(sim)
        server.nonce = "another"
        server.replies = [stream("好", finish=True)]
        await sim.write_to_bot("lina", "你好")
        await sim.wait_for(lambda: sim.counters["refused"])
        assert sim.replies("lina", "bot") == []


async def test_three_messages_are_open_and_the_fourth_waits(simulator, served):
    rules = Rules(stream_poll_interval_seconds=0.02, stream_poll_seconds=5, open_messages=3)
    async with simulator(rules, bots=BOTS) as sim:
        server = served(sim)
        for number in range(4):
            server.replies.append(
                {"msgtype": "stream", "stream": {"id": f"s{number}", "finish": False, "content": "想"}}
            )
            await sim.write_to_bot("lina", str(number))
            if number < 3:
                await sim.wait_for(lambda n=number: len(sim.replies("lina", "bot")) == n + 1)
        texts = [told["text"]["content"] for told in server.told if told["msgtype"] == "text"]
        assert texts == ["0", "1", "2"]
        server.replies = [{"msgtype": "stream", "stream": {"id": "s0", "finish": True, "content": "完"}}]
        await sim.wait_for(lambda: any("text" in told and told["text"]["content"] == "3" for told in server.told))


async def test_messages_are_repeated_and_events_come_once(simulator, served, application):
    async with simulator(QUICK, bots=BOTS, faults=Faults({"callback_answer_lost": Switch(count=2)})) as sim:
        server = served(sim)
        await sim.write_to_bot("lina", "你好")
        await sim.wait_for(lambda: sim.counters["acknowledged"])
        assert [told["msgid"] for told in server.told] == [server.told[0]["msgid"]] * 3
        sim.faults.set("callback_answer_lost", Switch(count=1))
        sim.enter("lina", "bot")
        await sim.wait_for(lambda: sim.counters["given_up"])
        assert len(server.told) == 4


async def test_a_response_url_works_once(simulator, served):
    async with simulator(QUICK, bots=BOTS) as sim, aiohttp.ClientSession() as session:
        server = served(sim)
        await sim.write_to_bot("lina", "你好")
        await sim.wait_for(lambda: server.told)
        url = server.told[0]["response_url"]
        codes = []
        for _ in range(2):
            async with session.post(url, json={"msgtype": "markdown", "markdown": {"content": "晚到的答案"}}) as answer:
                codes.append((await answer.json())["errcode"])
        assert codes == [0, 40058]
        assert [bubble.text for bubble in sim.replies("lina", "bot")] == ["晚到的答案"]


async def test_pictures_of_the_last_frame_are_shown(simulator, served):
    data = b"\x89PNG\r\n\x1a\n" + bytes(40)
    image = {"base64": base64.b64encode(data).decode(), "md5": hashlib.md5(data, usedforsecurity=False).hexdigest()}
    async with simulator(QUICK, bots=BOTS) as sim:
        served(sim).replies = [stream("图", finish=True, msg_item=[{"msgtype": "image", "image": image}])]
        await sim.write_to_bot("lina", "画")
        await sim.wait_for(lambda: sim.replies("lina", "bot"))
        assert [item["kind"] for item in sim.replies("lina", "bot")[0].content["items"]] == ["image"]


async def test_the_address_check_and_the_other_mode(simulator, application, connect):
    async with simulator(QUICK, bots=BOTS) as sim:
        assert not (await sim.save_bot_callback_url(application.url)).passed
        client = await connect(sim)
        assert (await client.subscribe())["errcode"] == 853000
        assert sim.journal.entries(Kind.CONNECTED) == []
