"""A bot in callback mode behind a load balancer: no answer is lost or doubled, whichever process dies or hangs.

Of the two adapters one is left at a time. When they, or the service, cannot be reached from the
moment in which a bubble is about to be finished until WeCom stops asking for it, its answer
stays unseen: the one loss that is left (docs/adr/0016). WeCom's window is a fifteenth of the real one here.
"""

import asyncio
import contextlib
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from adapter.bot.fetched import CONTINUED_LATER, STILL_AWAY, UNKNOWN, named_by
from simulator.app import Simulator
from simulator.chats import Bubble
from simulator.faults import Faults, Switch
from simulator.journal import Kind
from simulator.rules import Rules
from simulator.settings import BotSettings, ListenSettings, Settings
from tests.journey.stack import SCRIPT, SCRIPTED, SERVER, Program, free_ports, people
from weconverse import ConversationClient, NotFound, Turn

ADAPTERS = 2
CLOSE_SECONDS = 14.0
WINDOW_SECONDS = 24.0
GRACE_SECONDS = 8.0
SETTLE_SECONDS = 60.0
ADAPTER = """
[server]
target = "127.0.0.1:{grpc}"
[listen]
address = "127.0.0.1:{callbacks}"
[operations]
address = ""
[log]
level = "warning"
[wecom]
api_base = "{rest}"
[callback_bots.helper]
token = "SimulatorBotToken"
encoding_aes_key = "SimulatorBotAESKey0123456789ABCDEFGHIJKLMNO"
close_seconds = {close}
window_seconds = {window}
grace_seconds = {grace}
"""
_TOKEN = re.compile(r"编号\w+-\d{5}号")


@asynccontextmanager
async def _balancer(ports: list[int], dice: random.Random) -> AsyncIterator[str]:
    """Gives each request to one of the adapters; to another one where nobody listens."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())

        async def forward(request: web.Request) -> web.Response:
            body = await request.read()
            for port in dice.sample(ports, len(ports)):
                try:
                    async with session.post(f"http://127.0.0.1:{port}{request.rel_url}", data=body) as answer:
                        return web.Response(status=answer.status, body=await answer.read())
                except aiohttp.ClientConnectorError:
                    continue
                except aiohttp.ClientError:
                    break  # it may have taken the message, and died
            return web.Response(status=502)

        application = web.Application()
        application.router.add_post("/{path:.*}", forward)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def _hang(program: Program, seconds: float) -> None:
    """Longer than the adapter waits: nobody knows then what the service has on disk."""
    with contextlib.suppress(ProcessLookupError):  # it is dead just now
        program.freeze()
        await asyncio.sleep(seconds)
        program.thaw()


class Count:
    """What became of what people wrote."""

    def __init__(self, sim: Simulator) -> None:
        self._sim = sim
        self.written: dict[str, str] = {}
        """Message ids by token."""

    async def write(self, person: str, stop: asyncio.Event, dice: random.Random) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            token = f"编号{person}-{number:05}号"
            self.written[token] = await self._sim.write_to_bot(person, f"请复述 {token}")
            await asyncio.sleep(dice.uniform(0.5, 1.5))

    def bubbles(self) -> list[Bubble]:
        return [bubble for one in self._sim.settings.people for bubble in self._sim.replies(one.id, "bot")]

    def seen(self) -> Counter[str]:
        """How many whole answers hold each token: not bubbles that expired, or that say the answer follows."""
        whole = [
            bubble
            for bubble in self.bubbles()
            if bubble.finished and not bubble.expired and CONTINUED_LATER.strip() not in bubble.text
        ]
        return Counter(token for bubble in whole for token in set(_TOKEN.findall(bubble.text)))

    def told(self, *words: str) -> set[str]:
        """Messages whose bubble ended with one of these sentences."""
        return {bubble.answers for bubble in self.bubbles() if bubble.text in words}

    def lost(self) -> list[str]:
        """What was acknowledged and not answered in any way."""
        owed = set(self._sim.journal.message_ids(Kind.ACKNOWLEDGED)) - self.told(UNKNOWN, STILL_AWAY)
        seen = self.seen()
        return [token for token, msg_id in self.written.items() if msg_id in owed and not seen[token]]

    async def unseen(self, client: ConversationClient) -> list[str]:
        """What the service takes for delivered, of messages whose bubble ended without an answer."""
        answered = {self.written[token] for token in self.seen()}
        found = []
        for bubble in self.bubbles():
            named = named_by("helper", bubble.stream_id)
            if bubble.text == STILL_AWAY and bubble.answers not in answered and named is not None:
                with contextlib.suppress(NotFound):  # it never got there
                    turn = await client.get_turn(named.turn, timeout=5)
                    if turn.delivery_state != Turn.OWED:
                        found.append(repr(bubble))
        return found

    def story(self, token: str) -> str:
        """What happened to a message."""
        sim, msg_id = self._sim, self.written[token]
        entries = [f"{e.time:.2f} {e.kind} {e.detail}" for e in sim.journal.entries() if e.msg_id == msg_id]
        return "\n".join([token, *entries, *(repr(b) for b in self.bubbles() if b.answers == msg_id)])

    def under_way(self) -> int:
        """What is neither acknowledged nor given up yet."""
        ended = {*self._sim.journal.message_ids(Kind.ACKNOWLEDGED), *self._sim.journal.message_ids(Kind.GIVEN_UP)}
        return len(set(self.written.values()) - ended)


@pytest.mark.chaos
@pytest.mark.timeout(900)
async def test_kill_9_behind_a_balancer(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    long = request.config.getoption("--chaos-long", default=False)
    seed = int(time.time()) if long else 5
    kills, messages = (30, 1200) if long else (3, 60)
    dice = random.Random(seed)
    grpc_port, *callback_ports = free_ports(1 + ADAPTERS)
    settings = Settings(
        listen=ListenSettings(address="127.0.0.1:0"),
        people=people(20),
        bots=(BotSettings(mode="callback"),),
        rules=Rules(
            conversation_per_minute=100000,
            conversation_per_hour=100000,
            callback_interval_seconds=2.0,
            stream_poll_interval_seconds=0.5,
            stream_poll_seconds=WINDOW_SECONDS,
        ),
    )
    faults = Faults({"callback_answer_lost": Switch(probability=0.05)}, seed=seed)
    async with Simulator(settings, faults=faults) as sim, _balancer(callback_ports, dice) as url:
        sim.set_bot_callback_url(f"{url}/wecom/bot/helper")
        names = {
            "grpc": grpc_port,
            "folder": tmp_path,
            "rest": sim.rest_base,
            "close": CLOSE_SECONDS,
            "window": WINDOW_SECONDS,
            "grace": GRACE_SECONDS,
        }
        models = SCRIPTED.format(script=tmp_path / "script.toml", merge=0.0)
        (tmp_path / "script.toml").write_text(SCRIPT, encoding="utf-8")
        (tmp_path / "server.toml").write_text(SERVER.format(models=models, **names), encoding="utf-8")
        programs = [Program("server", tmp_path / "server.toml")]
        for number, port in enumerate(callback_ports):
            config = tmp_path / f"adapter{number}.toml"
            config.write_text(ADAPTER.format(callbacks=port, **names), encoding="utf-8")
            programs.append(Program("adapter", config))
        count = Count(sim)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for program in programs:
                tasks.create_task(program.keep_running())
            await asyncio.sleep(2.0)  # as a person would wait; what is written before is repeated anyway
            writers = [tasks.create_task(count.write(one.id, stop, dice)) for one in settings.people]
            while sum(program.kills for program in programs) < kills or len(count.written) < messages:
                await asyncio.sleep(dice.uniform(2.0, 5.0))
                if dice.random() < 0.4:
                    # With the restart that may follow, shorter than the grace: what is away for longer loses ends.
                    await _hang(programs[0], dice.uniform(2.0, 4.5))
                victim = dice.randrange(1, len(programs))
                if await _listens(callback_ports[ADAPTERS - victim]):  # the other one
                    programs[victim].kill()
                if dice.random() < 0.4:
                    programs[0].kill()
            stop.set()
            await asyncio.gather(*writers)
            sim.faults.clear()
            with contextlib.suppress(TimeoutError):  # the count says what is missing
                await sim.wait_for(lambda: not count.under_way() and not count.lost(), SETTLE_SECONDS)
            # Until nobody can think any more that an answer was not fetched, and send it a second time.
            await asyncio.sleep(WINDOW_SECONDS + 2 * GRACE_SECONDS if long else 0.0)
            async with ConversationClient(f"127.0.0.1:{grpc_port}") as client:
                unseen = await count.unseen(client)
            for program in reversed(programs):
                await program.stop()
        seen, lost = count.seen(), count.lost()
        doubled = [token for token, times in seen.items() if times > 1]
        told = count.told(UNKNOWN)
        in_vain = [token for token in seen if count.written[token] in told]
        late = sum(bubble.look == "markdown" for bubble in count.bubbles())
        print(
            f"\nseed {seed}: {len(count.written)} written, {sum(program.kills for program in programs)} kills: "
            f"{len(seen)} answered ({late} by response_url), {len(told)} asked to write again, "
            f"{sim.counters['given_up']} never acknowledged, {len(lost)} lost, {len(doubled)} doubled"
        )
        assert not doubled, f"for example {count.story(doubled[0])} (seed {seed})"
        assert not unseen, f"taken for delivered: {unseen[0]} (seed {seed})"
        assert not in_vain, f"asked to write again, and answered: {count.story(in_vain[0])} (seed {seed})"
        assert not lost, f"for example {'; '.join(map(count.story, lost[:3]))} (seed {seed})"
        assert len(seen) > len(count.written) / 2
