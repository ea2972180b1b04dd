"""An edge node and a centre, each a process of its own, and a line that is cut."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

import weconverse
from server.settings import TextSettings
from tests.journey.stack import Program, free_ports
from weconverse import ConversationClient, Turn, text_of

ACCOUNT = "channels/test/accounts/a"
TEXTS = TextSettings()

COMMON = """
node_id = "{name}"
[grpc]
address = "127.0.0.1:{port}"
[operations]
address = ""
[store]
path = "{folder}/turns.db"
[log]
level = "info"
"""

CENTRE = """
[models.default]
protocol = "scripted"
script_file = "{folder}/script.toml"
tokens_per_second = 40
"""

EDGE = """
[models.default]
protocol = "weconverse"
target = "127.0.0.1:{centre}"
connect_seconds = 2.0
"""

LONG = "".join(f"第{number}句。" for number in range(1, 41))
SCRIPT = f"""
[defaults]
answer = "总部回答:{{question}}"
[[entries]]
words = ["慢慢说"]
answer = "{LONG}"
"""


class Pair:
    """The two programs, and a client of the edge."""

    def __init__(self, centre: Program, edge: Program, client: ConversationClient) -> None:
        self.centre = centre
        self.edge = edge
        self.client = client


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    ports = dict(zip(("centre", "edge"), free_ports(2), strict=True))
    programs = {}
    for name, own in (("centre", CENTRE), ("edge", EDGE)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "script.toml").write_text(SCRIPT, encoding="utf-8")
        config = folder / "server.toml"
        words = {"name": name, "port": ports[name], "folder": folder, "centre": ports["centre"]}
        config.write_text((COMMON + own).format(**words), encoding="utf-8")
        programs[name] = Program("server", config)
    async with asyncio.TaskGroup() as tasks:
        for program in programs.values():
            tasks.create_task(program.keep_running())
        try:
            for port in ports.values():
                await _serves(port)
            async with ConversationClient(f"127.0.0.1:{ports['edge']}", honour_retry_info=False) as client:
                yield Pair(programs["centre"], programs["edge"], client)
        finally:
            for program in programs.values():
                await program.stop()


async def _serves(port: int) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel, asyncio.timeout(30):
        await channel.channel_ready()


async def test_a_centre_that_dies_in_the_middle_leaves_one_whole_answer(pair: Pair) -> None:
    shown: list[str] = []
    killed = False
    async with pair.client.stream("a", "慢慢说", timeout=60) as stream:
        async for event in stream:
            if event.HasField("delta") or event.HasField("replacement"):
                shown.append(stream.text)
            if not killed and len(stream.text) > 20:
                killed = True
                pair.centre.kill()
    turn = stream.turn
    assert turn is not None
    assert turn.finish_reason == Turn.STOP
    assert text_of(turn.reply) == stream.text == LONG
    assert all(shown), "nobody saw nothing"
    assert pair.centre.kills == 1
    assert [text_of(turn.reply) async for turn in pair.client.list_turns("a")] == [LONG], "one turn, one answer"


async def test_without_the_line_the_edge_says_what_it_knows_and_what_it_cannot(pair: Pair) -> None:
    asked = await pair.client.converse("a", "年假有几天?")
    assert text_of(asked.reply) == "总部回答:年假有几天?"
    await pair.centre.stop()

    again = await pair.client.converse("b", "年假有几天?")
    assert (text_of(again.reply), again.cache_outcome) == (text_of(asked.reply), Turn.HIT)
    with pytest.raises(weconverse.NoRouteAvailable) as caught:
        await pair.client.converse("c", "今天吃什么?", timeout=30)
    assert caught.value.retry_after

    async with pair.client.attach(ACCOUNT, "i", ended_only=True) as session, asyncio.timeout(30):
        await pair.client.submit("d", "今天吃什么?", request_id="m-1", account=ACCOUNT)
        async for message in session:
            if isinstance(message, weconverse.Delivery):
                assert text_of(message.ended_turn.reply) == TEXTS.unreachable
                await session.delivered(message)
                break
