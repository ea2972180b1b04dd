"""The JSON interface of the chat page, its stream of changes, and its fence."""

import asyncio
import json
from pathlib import Path

import pytest

from simulator.faults import FAULTS

PAGE = Path(__file__).parents[2] / "simulator" / "page"


async def test_files_and_their_fence(simulator, session):
    async with simulator() as sim:
        for path in ("/", "/app.js", "/markdown.js", "/style.css"):
            async with session.get(sim.page_url.rstrip("/") + path) as answer:
                assert answer.status == 200
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        async with session.get(f"{sim.page_url}livez") as answer:
            assert answer.status == 200


def test_no_foreign_text_becomes_markup_and_nothing_comes_from_outside():
    for path in PAGE.iterdir():
        text = path.read_text(encoding="utf-8")
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert word not in text, path.name
        outside = text.replace("http://www.w3.org/", "").replace("http://127.0.0.1", "").replace("https?://", "")
        assert "https://" not in outside, path.name
        assert "http://" not in outside, path.name


async def test_writing_and_reading(simulator, session):
    async with simulator() as sim:
        async with session.post(
            f"{sim.page_url}api/write", json={"person": "lina", "chat": "bot", "text": "你好"}
        ) as got:
            msg_id = (await got.json())["msg_id"]
        async with session.get(f"{sim.page_url}api/bubbles", params={"person": "lina"}) as got:
            found = await got.json()
        (bubble,) = found["bot:aibSimulatorBot0001"]
        assert (bubble["msg_id"], bubble["text"], bubble["speaker"]) == (msg_id, "你好", "lina")
        async with session.get(f"{sim.page_url}api/journal", params={"chat": bubble["chat"], "person": "lina"}) as got:
            assert [entry["kind"] for entry in await got.json()] == ["written"]
        async with session.get(f"{sim.page_url}api/rules") as got:
            assert all(rule["source"] for rule in await got.json())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("write", {"person": "ghost", "chat": "bot", "text": "x"}),
        ("write", {"person": "lina", "chat": "bot:ghost", "text": "x"}),
        ("write", {"person": "lina", "chat": "bot", "text": "  "}),
        ("write", {"person": "lina"}),
        ("write", [1]),
        ("faults", {"name": "no_such_fault"}),
        ("faults", {"name": "ack_lost", "probability": 2}),
        ("act", {"name": "explode"}),
    ],
)
async def test_wrong_requests(simulator, session, path, body):
    async with simulator() as sim, session.post(f"{sim.page_url}api/{path}", json=body) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_other_sites_cannot_write(simulator, session, headers):
    async with simulator() as sim:
        body = {"person": "lina", "chat": "bot", "text": "x"}
        async with session.post(f"{sim.page_url}api/write", json=body, headers=headers) as answer:
            assert answer.status == 403
        assert sim.bubbles("lina", "bot") == []


async def test_faults_and_acts(simulator, session, subscribed):
    async with simulator() as sim:
        for name in FAULTS:
            async with session.post(
                f"{sim.page_url}api/faults", json={"name": name, "probability": 0.5, "count": 3}
            ) as got:
                assert name in await got.json()
        assert set(sim.faults.active) == set(FAULTS)
        async with session.post(f"{sim.page_url}api/faults", json={"name": "kick", "on": False}) as got:
            assert "kick" not in await got.json()
        async with session.post(f"{sim.page_url}api/act", json={"name": "clear_faults"}):
            assert not sim.faults.active
        bot = await subscribed(sim)
        async with session.post(f"{sim.page_url}api/act", json={"name": "kick"}):
            assert await bot.ended()
        for name in ("cut", "lose_subscription", "silence", "expire_tokens", "expire_streams"):
            async with session.post(f"{sim.page_url}api/act", json={"name": name}) as answer:
                assert answer.status == 200


async def test_saving_an_address_from_the_page(simulator, session, application):
    async with simulator() as sim:
        async with session.post(f"{sim.page_url}api/callback", json={"app": 1000002, "url": application.url}) as got:
            assert await got.json() == {"passed": False, "reason": "应答内容不是解密后的明文"}
        async with session.post(f"{sim.page_url}api/callback", json={"app": 1000002, "url": "nowhere"}) as got:
            assert not (await got.json())["passed"]
        assert len(application.checks) == 1


async def test_changes_come_as_they_happen(simulator, session, subscribed):
    async with simulator() as sim:
        bot = await subscribed(sim)
        async with session.get(f"{sim.page_url}api/feed") as feed:
            assert (await _event(feed))[0] == "hello"
            await sim.write_to_bot("lina", "你好")
            events = [await _event(feed) for _ in range(3)]
            assert [kind for kind, _ in events] == ["bubble", "entry", "entry"]
            assert events[0][1]["text"] == "你好"
            frame = await bot.receive()
            await bot.stream(frame["headers"]["req_id"], "s", "您")
            names = [(await _event(feed))[0] for _ in range(3)]
            assert "bubble" in names


async def test_the_feed_ends_with_the_simulator(simulator, session):
    async with simulator() as sim:
        feed = await session.get(f"{sim.page_url}api/feed")
        await _event(feed)
    assert (await _event(feed))[0] == "reload"
    assert await feed.content.read() == b""


async def _event(feed):
    kind, data = "", {}
    async with asyncio.timeout(5):
        while line := (await feed.content.readline()).decode().rstrip("\n"):
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                data = json.loads(value)
            elif name == "retry":
                continue
    return kind, data
