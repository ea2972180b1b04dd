"""Pushes through the robot of a group while adapters and server die: none is lost, and the order is kept.

There is no duplicate check at this door, so the message that was being sent when its adapter
died may be seen twice: at most one for each kill.
"""

import asyncio
import contextlib
import random
import time
from pathlib import Path

import pytest

from simulator.app import Simulator
from simulator.rules import Rules
from simulator.settings import ListenSettings, Settings
from tests.journey.stack import SCRIPT, SCRIPTED, SERVER, Program, free_ports
from weconverse import ConversationClient, DeadlineExceeded, Unavailable

ADAPTER = """
[server]
target = "127.0.0.1:{grpc}"
[operations]
address = ""
[log]
level = "warning"
[delivery]
reconnect_seconds = 0.5
[wecom]
api_base = "{rest}"
[robots.alarm]
key = "simulator-robot-key-0001"
messages_per_minute = 100000
"""
ACCOUNT = "channels/wecom/accounts/alarm"


def _texts(sim: Simulator) -> list[str]:
    return [bubble.text for bubble in sim.bubbles("lina", "group") if bubble.speaker.startswith("robot:")]


async def _push(client: ConversationClient, number: int, text: str) -> None:
    """Pushes until it is on disk, as a program with an id of its own does."""
    while True:
        try:
            await client.push(ACCOUNT, text, request_id=f"alarm-{number}", timeout=5)
        except (Unavailable, DeadlineExceeded):
            await asyncio.sleep(0.2)
        else:
            return


@pytest.mark.chaos
@pytest.mark.timeout(300)
async def test_pushes_survive_kill_9(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    long = request.config.getoption("--chaos-long", default=False)
    seed = int(time.time()) if long else 3
    kills, messages = (30, 300) if long else (3, 30)
    dice = random.Random(seed)
    (grpc_port,) = free_ports(1)
    rules = Rules(robot_per_minute=100000)
    async with Simulator(Settings(listen=ListenSettings(address="127.0.0.1:0"), rules=rules)) as sim:
        names = {"grpc": grpc_port, "folder": tmp_path, "rest": sim.rest_base}
        models = SCRIPTED.format(script=tmp_path / "script.toml", merge=0.0)
        (tmp_path / "script.toml").write_text(SCRIPT, encoding="utf-8")
        (tmp_path / "server.toml").write_text(SERVER.format(models=models, **names), encoding="utf-8")
        programs = [Program("server", tmp_path / "server.toml")]
        for number in range(2):
            config = tmp_path / f"adapter{number}.toml"
            config.write_text(ADAPTER.format(**names), encoding="utf-8")
            programs.append(Program("adapter", config))
        pushed: list[str] = []
        async with asyncio.TaskGroup() as tasks, ConversationClient(f"127.0.0.1:{grpc_port}") as client:
            for program in programs:
                tasks.create_task(program.keep_running())
            killed = 0
            while killed < kills or len(pushed) < messages:
                text = f"告警-{len(pushed):04}"
                await _push(client, len(pushed), text)
                pushed.append(text)
                await asyncio.sleep(dice.uniform(0.02, 0.1))
                # Only while something is on its way: what is idle dies without a trace.
                if len(pushed) % (messages // kills) == 0 and killed < kills and _texts(sim):
                    programs[dice.randrange(len(programs))].kill()
                    killed += 1
            with contextlib.suppress(TimeoutError):  # the comparison says what is missing
                await sim.wait_for(lambda: set(_texts(sim)) == set(pushed), 60)
            for program in reversed(programs):
                await program.stop()
        seen = _texts(sim)
        total = sum(program.kills for program in programs)
        print(f"\nseed {seed}: {len(pushed)} pushed, {total} kills, {len(seen) - len(set(seen))} seen twice")
        assert list(dict.fromkeys(seen)) == pushed
        assert len(seen) - len(pushed) <= total
