"""The official Node SDK as a client of the long connection, where npm is present.

It is installed once into ``.cache``; without npm, or without a registry, the tests say so.
"""

import asyncio
import hashlib
import json
import shutil
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from simulator.rules import Rules

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache" / "node-referee"
PACKAGE = "@wecom/aibot-node-sdk"
VERSION = "1.0.7"


@pytest.fixture(scope="module")
def sdk():
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("npm or node is not installed")
    if not (CACHE / "node_modules" / PACKAGE / "package.json").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        command = [
            npm,
            "install",
            "--prefix",
            str(CACHE),
            "--no-save",
            "--no-audit",
            "--no-fund",
            f"{PACKAGE}@{VERSION}",
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        except subprocess.TimeoutExpired:
            pytest.skip(f"{PACKAGE}@{VERSION} could not be installed within a minute")
        if done.returncode:
            pytest.skip(f"{PACKAGE}@{VERSION} could not be installed: {done.stderr.strip().splitlines()[-1:]}")
    return node


class Client:
    def __init__(self, process):
        self._process = process

    async def expect(self, event):
        async with asyncio.timeout(10):
            while line := await self._process.stdout.readline():
                found = json.loads(line)
                if found["event"] == event:
                    return found
        raise AssertionError(f"the client ended before {event}: {await self._process.stderr.read()}")


@asynccontextmanager
async def client(node, sim, secret=None):
    bot = sim.settings.bots[0]
    process = await asyncio.create_subprocess_exec(
        node,
        str(HERE / "node_client.mjs"),
        str(CACHE),
        sim.socket_base,
        bot.id,
        secret or bot.secret.reveal(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield Client(process)
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await process.communicate()
        except TimeoutError:
            process.kill()
            await process.communicate()


async def test_text_in_and_streamed_reply_out(sdk, simulator):
    async with simulator() as sim, client(sdk, sim) as bot:
        await bot.expect("authenticated")
        msg_id = await sim.write_to_bot("lina", "你好")
        assert (await bot.expect("text"))["msgid"] == msg_id
        assert (await bot.expect("replied"))["errcode"] == 0
        (bubble,) = sim.replies("lina", "bot")
        assert (bubble.text, bubble.finished, bubble.sent) == ("一二三", True, 3)


async def test_welcome_dirt_and_refusal(sdk, simulator):
    async with simulator() as sim, client(sdk, sim) as bot:
        await bot.expect("authenticated")
        sim.enter("lina", "bot")
        await bot.expect("welcomed")
        sim.faults.once("control_characters")
        sim.faults.once("stream_expired")
        await sim.write_to_bot("lina", "脏帧")
        assert (await bot.expect("text"))["text"] == "脏帧"
        assert (await bot.expect("refused"))["errcode"] == 846608


async def test_a_second_client_kicks_the_first(sdk, simulator):
    async with simulator() as sim, client(sdk, sim) as first:
        await first.expect("authenticated")
        async with client(sdk, sim) as second:
            await second.expect("authenticated")
            await first.expect("kicked")
            await sim.write_to_bot("lina", "谁在")
            await second.expect("replied")
            assert [bubble.text for bubble in sim.replies("lina", "bot")] == ["一二三"]


async def test_wrong_secret(sdk, simulator):
    async with simulator() as sim, client(sdk, sim, secret="wrong") as bot:
        await bot.expect("error")
        assert not sim.connected()


async def test_it_comes_back_after_a_cut(sdk, simulator):
    async with simulator() as sim, client(sdk, sim) as bot:
        await bot.expect("authenticated")
        sim.cut()
        await bot.expect("authenticated")
        await sim.write_to_bot("lina", "还在吗")
        await bot.expect("replied")


async def test_a_file_goes_down_and_up_again(sdk, simulator):
    data = bytes(range(256)) * 6000  # three pieces of an upload
    async with simulator() as sim, client(sdk, sim) as bot:
        await bot.expect("authenticated")
        sim.send_media_to_bot("lina", ("file", "报告 1&2.bin", data))
        returned = await bot.expect("returned")
        assert (returned["filename"], returned["size"], returned["errcode"]) == ("报告 1&2.bin", len(data), 0)
        (bubble,) = sim.replies("lina", "bot")
        assert (bubble.content["kind"], bubble.content["name"]) == ("file", "报告 1&2.bin")
        assert sim.media.get(bubble.content["url"].rpartition("/")[2]).data == data


async def test_cards_updates_and_ratings(sdk, simulator):
    async with simulator(Rules(streams_with_card=True)) as sim, client(sdk, sim) as bot:
        await bot.expect("authenticated")
        await sim.write_to_bot("lina", "卡片")
        assert (await bot.expect("carded"))["errcode"] == 0
        (bubble,) = sim.replies("lina", "bot")
        assert bubble.feedback_id == "rate-card"
        sim.touch_bot_card("lina", bubble, "转人工")
        assert (await bot.expect("updated"))["errcode"] == 0
        assert (bubble.text, bubble.content["replaced"]) == ("已选择", "已选择")
        await sim.write_to_bot("lina", "流式卡片")
        await bot.expect("carded")
        _, stream, card = sim.replies("lina", "bot")
        assert (stream.text, stream.finished, card.look) == ("一二", True, "card")
        sim.rate("lina", stream, 2, (1, 4), "答非所问")
        assert (await bot.expect("rated"))["feedback"] == {
            "id": "rate-me", "type": 2, "content": "答非所问", "inaccurate_reason_list": [1, 4]}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "data"),
    [
        ("image", "a.png", b"\x89PNG\r\n\x1a\n" + bytes(900_000)),
        ("video", "a.mp4", b"0000ftypisom" + bytes(100)),
    ],
)
async def test_files_come_and_go(sdk, simulator, kind, name, data):
    async with simulator() as sim, client(sdk, sim) as bot:
        await bot.expect("authenticated")
        sim.send_media_to_bot("lina", (kind, name, data))
        assert (await bot.expect("downloaded")) == {
            "event": "downloaded", "digest": hashlib.sha256(data).hexdigest(), "filename": name}  # fmt: skip
        assert (await bot.expect("sent"))["type"] == kind
        shown = [bubble.content for bubble in sim.replies("lina", "bot")]
        assert [(content["kind"], content["size"]) for content in shown] == [(kind, len(data))] * 2
