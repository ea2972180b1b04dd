"""gettoken and message/send at the borders of DOC 90236, 91039 and 90313."""

import asyncio

import aiohttp
import pytest
from wechatpy.enterprise import WeChatClient
from wechatpy.exceptions import WeChatClientException

from program.secret import Secret
from simulator.clock import ManualClock
from simulator.faults import Faults, Switch
from simulator.journal import Kind
from simulator.rules import Rules
from simulator.settings import AppSettings


async def test_same_token_until_it_expires(simulator, api):
    clock = ManualClock()
    async with simulator(clock=clock) as sim:
        first = await api(sim).token()
        assert first["errcode"] == 0
        assert first["expires_in"] == 7200
        assert len(first["access_token"]) <= 512
        clock.advance(7199)
        again = await api(sim).token()
        assert (again["access_token"], again["expires_in"]) == (first["access_token"], 1)
        assert (await api(sim).post("message/send", {}, first["access_token"]))["errcode"] == 40056
        clock.advance(1)
        assert (await api(sim).post("message/send", {}, first["access_token"]))["errcode"] == 42001
        assert (await api(sim).token())["access_token"] != first["access_token"]
        assert (await api(sim).post("message/send", {}, first["access_token"]))["errcode"] == 42001
        assert (await api(sim).post("message/send", {}, "unknown"))["errcode"] == 40014
        assert (await api(sim).post("message/send", {}, ""))["errcode"] == 41001


async def test_wrong_secrets_block_the_address(simulator, api):
    clock = ManualClock()
    async with simulator(Rules(wrong_secret_limit=3), clock=clock) as sim:
        codes = [(await api(sim).token(secret="wrong"))["errcode"] for _ in range(4)]
        assert codes == [40001, 40001, 40001, 45009]
        assert (await api(sim).token())["errcode"] == 45009, "the right secret is blocked too"
        clock.advance(3601)
        assert (await api(sim).token())["errcode"] == 0
        assert (await api(sim).token(corp="ww-other"))["errcode"] == 40013


async def test_gettoken_too_often(simulator, api):
    async with simulator(Rules(token_calls_per_minute=2), clock=ManualClock()) as sim:
        assert [(await api(sim).token())["errcode"] for _ in range(3)] == [0, 0, 45009]


@pytest.mark.parametrize(
    ("content", "code", "shown", "lost"),
    [
        ("a" * 2048, 0, "a" * 2048, 0),
        ("a" * 2049, 0, "a" * 2048, 1),
        ("a" * 5120, 0, "a" * 2048, 3072),
        ("a" * 5121, 40058, None, 0),
        ("字" * 682 + "ab", 0, "字" * 682 + "ab", 0),
        ("字" * 683, 0, "字" * 682, 3),
        ("a" * 2046 + "🙂", 0, "a" * 2046, 4),
        ("", 44004, None, 0),
    ],
    ids=["2048", "2049", "5120", "5121", "cjk-2048", "cjk-2049", "emoji-on-the-border", "empty"],
)
async def test_text_bytes(simulator, api, content, code, shown, lost):
    async with simulator() as sim:
        answer = await api(sim).text("lina", content)
        assert answer["errcode"] == code
        seen = sim.replies("lina", "app")
        assert [(bubble.text, bubble.lost_bytes) for bubble in seen] == ([] if shown is None else [(shown, lost)])
        assert sim.counters["cut"] == (1 if lost else 0)


@pytest.mark.parametrize("code", [40058, 45002])
async def test_markdown_bytes(simulator, api, code):
    async with simulator(Rules(markdown_over_code=code)) as sim:
        for size, expected in ((2048, 0), (2049, code)):
            body = {"touser": "lina", "msgtype": "markdown", "agentid": 1000002, "markdown": {"content": "m" * size}}
            assert (await api(sim).post("message/send", body))["errcode"] == expected
        assert [len(bubble.text) for bubble in sim.replies("lina", "app")] == [2048]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"agentid": 1000003}, 301002),
        ({"agentid": None}, 40056),
        ({"agentid": True}, 40056),
        ({"touser": ""}, 82001),
        ({"touser": "ghost|phantom"}, 81013),
        ({"touser": "|".join(f"u{n}" for n in range(1001))}, 40058),
        ({"touser": "", "toparty": "|".join("1" * 101)}, 82002),
        ({"touser": "", "totag": "|".join("1" * 101)}, 82003),
        ({"msgtype": "carrier_pigeon"}, 40008),
        ({"msgtype": "image", "image": {}}, 40007),
        ({"msgtype": "textcard", "textcard": {"title": "t"}}, 40058),
        ({"enable_duplicate_check": 1, "duplicate_check_interval": "soon"}, 40058),
    ],
)
async def test_refusals(simulator, api, change, code):
    async with simulator() as sim:
        body = {"touser": "lina", "msgtype": "text", "agentid": 1000002, "text": {"content": "x"}} | change
        assert (await api(sim).post("message/send", body))["errcode"] == code
        assert sim.replies("lina", "app") == []
        assert [entry.code for entry in sim.journal.entries(Kind.REFUSED)] == [code]


async def test_not_json_and_get(simulator, api, session):
    async with simulator() as sim:
        assert (await api(sim).post("message/send", b"{oops"))["errcode"] == 47001
        assert (await api(sim).post("message/send", b"[1]"))["errcode"] == 47001
        async with session.get(f"{sim.rest_base}/cgi-bin/message/send") as answer:
            assert (await answer.json())["errcode"] == 43002


async def test_partly_valid_recipients_come_back_in_lower_case(simulator, api):
    async with simulator() as sim:
        answer = await api(sim).text("LiNa|Ghost|lina", "好")
        assert (answer["errcode"], answer["invaliduser"]) == (0, "ghost")
        assert len(sim.replies("lina", "app")) == 1
        await api(sim).text("@all", "各位好")
        assert [len(sim.replies(person.id, "app")) for person in sim.settings.people] == [1, 2, 1, 1]


async def test_duplicate_check_at_its_interval(simulator, api):
    clock = ManualClock()
    async with simulator(clock=clock) as sim:
        check = {"enable_duplicate_check": 1, "duplicate_check_interval": 600}
        first = await api(sim).text("lina", "好", **check)
        clock.advance(599.9)
        again = await api(sim).text("lina", "好", **check)
        assert (again["errcode"], again["msgid"]) == (0, first["msgid"])
        (bubble,) = sim.replies("lina", "app")
        assert (bubble.sent, bubble.suppressed) == (2, 1)
        assert sim.counters["suppressed"] == 1
        await api(sim).text("lina", "好!", **check)
        await api(sim).text("wangfang", "好", **check)
        assert len(sim.replies("lina", "app")) == 2, "another text, another person: not the same request"
        clock.advance(0.2)
        await api(sim).text("lina", "好", **check)
        assert len(sim.replies("lina", "app")) == 3
        await api(sim).text("lina", "好")
        await api(sim).text("lina", "好")
        assert len(sim.replies("lina", "app")) == 5, "without the check everything is shown"


@pytest.mark.parametrize(("compares", "shown"), [("bytes", 2), ("value", 1)])
async def test_what_makes_requests_the_same(simulator, api, compares, shown):
    async with simulator(Rules(duplicate_compares=compares)) as sim:
        one = b'{"touser":"lina","msgtype":"text","agentid":1000002,"text":{"content":"x"},"enable_duplicate_check":1}'
        other = (
            b'{"enable_duplicate_check": 1, "text":{"content":"x"},"touser":"lina","msgtype":"text","agentid":1000002}'
        )
        for raw in (one, other):
            assert (await api(sim).post("message/send", raw))["errcode"] == 0
        assert len(sim.replies("lina", "app")) == shown


async def test_members_get_thirty_a_minute(simulator, api):
    clock = ManualClock()
    async with simulator(clock=clock) as sim:
        token = (await api(sim).token())["access_token"]
        body = {"touser": "lina", "msgtype": "text", "agentid": 1000002, "text": {"content": "x"}}
        for _ in range(31):
            assert (await api(sim).post("message/send", body, token))["errcode"] == 0
        assert len(sim.replies("lina", "app")) == 30
        assert sim.counters["dropped"] == 1
        clock.advance(60)
        await api(sim).post("message/send", body, token)
        assert len(sim.replies("lina", "app")) == 31


async def test_members_get_so_many_an_hour(simulator, api):
    clock = ManualClock()
    async with simulator(Rules(member_per_hour=3), clock=clock) as sim:
        for _ in range(5):
            await api(sim).text("lina", "x")
            clock.advance(61)
        assert len(sim.replies("lina", "app")) == 3
        clock.advance(3600)
        await api(sim).text("lina", "x")
        assert len(sim.replies("lina", "app")) == 4


async def test_recall(simulator, api):
    clock = ManualClock()
    second = AppSettings(agent_id=7, secret=Secret("other"))
    async with simulator(clock=clock, apps=(AppSettings(), second)) as sim:
        sent = await api(sim).text("lina", "说错了")
        other = (await api(sim).token(secret="other"))["access_token"]
        assert (await api(sim).post("message/recall", {"msgid": sent["msgid"]}, other))["errcode"] == 40058
        assert (await api(sim).post("message/recall", {"msgid": sent["msgid"]}))["errcode"] == 0
        assert [bubble.recalled for bubble in sim.replies("lina", "app")] == [True]
        late = await api(sim).text("lina", "又错了")
        clock.advance(86401)
        assert (await api(sim).post("message/recall", {"msgid": late["msgid"]}))["errcode"] == 42052


async def test_wechatpy_sends_and_refreshes_its_token(simulator):
    """wechatpy is synchronous: its calls run beside the loop."""
    async with simulator() as sim:

        class Client(WeChatClient):
            API_BASE_URL = f"{sim.rest_base}/cgi-bin/"

            def fetch_access_token(self):
                """wechatpy's own, but for the address, which it does not let anyone choose."""
                params = {"corpid": self.corp_id, "corpsecret": self.secret}
                return self._fetch_access_token(f"{self.API_BASE_URL}gettoken", params)

        client = Client(sim.settings.corp_id, sim.settings.apps[0].secret.reveal())
        answer = await asyncio.to_thread(client.message.send_text, 1000002, "lina", "来自 wechatpy")
        assert answer["errcode"] == 0
        sim.expire_tokens()
        await asyncio.to_thread(client.message.send_markdown, 1000002, "lina", "**又一条**")
        assert [bubble.text for bubble in sim.replies("lina", "app")] == ["来自 wechatpy", "**又一条**"]
        assert sim.tokens.issued == 2
        with pytest.raises(WeChatClientException) as caught:
            await asyncio.to_thread(client.message.send_text, 1000002, "ghost", "有人吗")
        assert caught.value.errcode == 81013
        client._http.close()


@pytest.mark.parametrize(
    ("fault", "expected"),
    [("rest_busy", {-1}), ("rest_limited", {45009}), ("token_expired", {40014, 42001})],
)
async def test_refusing_faults_accept_nothing(simulator, api, fault, expected):
    async with simulator() as sim:
        token = (await api(sim).token())["access_token"]
        sim.faults.once(fault)
        body = {"touser": "lina", "msgtype": "text", "agentid": 1000002, "text": {"content": "x"}}
        assert (await api(sim).post("message/send", body, token))["errcode"] in expected
        assert sim.replies("lina", "app") == []
        assert (await api(sim).text("lina", "x"))["errcode"] == 0


async def test_502(simulator, api, session):
    async with simulator(faults=Faults({"rest_5xx": Switch(count=1)})) as sim:
        async with session.get(f"{sim.rest_base}/cgi-bin/gettoken") as answer:
            assert answer.status == 502
        assert (await api(sim).token())["errcode"] == 0


@pytest.mark.parametrize(("fault", "shown"), [("rest_cut_before", 0), ("send_cut_after", 1)])
async def test_cut_connections(simulator, api, fault, shown):
    async with simulator() as sim:
        token = (await api(sim).token())["access_token"]
        sim.faults.once(fault)
        body = {"touser": "lina", "msgtype": "text", "agentid": 1000002, "text": {"content": "x"}}
        body["enable_duplicate_check"] = 1
        with pytest.raises(aiohttp.ClientError):
            await api(sim).post("message/send", body, token)
        assert len(sim.replies("lina", "app")) == shown
        assert (await api(sim).post("message/send", body, token))["errcode"] == 0
        assert len(sim.replies("lina", "app")) == 1, "the duplicate check closes the gap"


async def test_slow_answer(simulator, api):
    async with simulator(faults=Faults({"rest_slow": Switch(seconds=0.01)})) as sim:
        assert (await api(sim).text("lina", "x"))["errcode"] == 0
        assert sim.counters["fault.rest_slow"] == 2


async def test_addresses(simulator, session, api):
    async with simulator() as sim:
        token = (await api(sim).token())["access_token"]
        async with session.get(f"{sim.rest_base}/cgi-bin/getcallbackip", params={"access_token": token}) as answer:
            assert "127.0.0.1" in (await answer.json())["ip_list"]
