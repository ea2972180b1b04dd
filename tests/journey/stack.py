"""The simulator in this process; server and adapter as processes that are killed and come back."""

import asyncio
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from simulator.app import Simulator
from simulator.faults import Faults, Switch
from simulator.rules import Rules
from simulator.settings import AppSettings, ListenSettings, PersonSettings, Settings

ROOT = Path(__file__).resolve().parents[2]

SERVER = """
[grpc]
address = "127.0.0.1:{grpc}"
[operations]
address = ""
[store]
path = "{folder}/turns.db"
[log]
level = "warning"
[turns]
max_waiting_per_conversation = 1000
max_claims = 1000
{models}
"""

SCRIPTED = """
[models.default]
protocol = "scripted"
script_file = "{script}"
tokens_per_second = 150
limits = {{ requests_per_minute = 0 }}
[assistants.default]
merge_seconds = {merge}
"""

ADAPTER = """
[server]
target = "127.0.0.1:{grpc}"
[listen]
address = "127.0.0.1:{callbacks}"
[operations]
address = "127.0.0.1:{operations}"
[log]
level = "warning"
[wecom]
api_base = "{rest}"
socket_base = "{socket}"
member_messages_per_minute = 0
member_messages_per_hour = 0
[apps.assistant]
corp_id = "{corp}"
agent_id = 1000002
secret = "simulator-app-secret-0123456789abcdefghijkl"
token = "SimulatorCallbackToken"
encoding_aes_key = "SimulatorEncodingAESKey0123456789ABCDEFGHIJ"
[bots.helper]
bot_id = "aibSimulatorBot0001"
secret = "simulator-bot-secret-0123456789abcdefghijkl"
name = "小助手"
kicked_pause_seconds = 2.0
conversation_messages_per_minute = 0
conversation_messages_per_hour = 0
heartbeat_seconds = 2.0
"""

SCRIPT = """
[defaults]
answer = '''收到。您的问题是:{question} 以上是完整的回答,谢谢您的耐心。'''
"""


# Not the shared generator: others seed it, and two test processes must not draw the same ports.
_DICE = random.SystemRandom()


def free_ports(count: int) -> list[int]:
    """Ports that are free now, and below the range from which the system hands out its own."""
    found: list[int] = []
    while len(found) < count:
        port = _DICE.randint(20000, 30000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


class Program:
    """One program that is started again whenever it dies, until it is told to stop."""

    def __init__(self, name: str, config: Path, operations_port: int = 0) -> None:
        self.name = name
        self.operations_port = operations_port
        self.kills = 0
        self._config = config
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    async def keep_running(self) -> None:
        """Starts it, again and again."""
        while not self._stopping:
            with self._config.with_suffix(".log").open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", self.name, "--config", str(self._config),
                    cwd=ROOT, stdout=log, stderr=log, stdin=asyncio.subprocess.DEVNULL,
                )  # fmt: skip
            code = await self._process.wait()
            if not self._stopping and code != -signal.SIGKILL:
                raise RuntimeError(f"{self.name} ended by itself with code {code}; see {self._config.stem}.log")

    def kill(self) -> None:
        """kill -9, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self.kills += 1
            os.kill(self._process.pid, signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP: it is there, its connections stand, and it does nothing."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    async def stop(self, seconds: float = 20.0) -> int:
        """SIGTERM; returns the exit code."""
        self._stopping = True
        if self._process is None or self._process.returncode is not None:
            return 0
        self._process.terminate()
        try:
            async with asyncio.timeout(seconds):
                return await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise


class Stack:
    """Everything between a person and an answer."""

    def __init__(self, simulator: Simulator, server: Program, adapters: list[Program], callback_port: int) -> None:
        self.callback_port = callback_port
        self.simulator = simulator
        self.server = server
        self.adapters = adapters

    @property
    def programs(self) -> Iterable[Program]:
        return (self.server, *self.adapters)

    @property
    def kills(self) -> int:
        return sum(program.kills for program in self.programs)


def people(count: int) -> tuple[PersonSettings, ...]:
    return tuple(PersonSettings(id=f"person{number:02}", name=f"同事{number:02}") for number in range(count))


@asynccontextmanager
async def running_stack(
    folder: Path,
    *,
    persons: int = 20,
    faults: dict[str, Switch] | None = None,
    seed: int = 0,
    demonstration: bool = False,
    merge_seconds: float = 0.0,
    models: str = "",
    adapters: int = 1,
) -> AsyncIterator[Stack]:
    """A stack on free ports, everything in ``folder``; stopped in order at the end.

    Args:
        demonstration: answers as `make run` does; otherwise every answer quotes its question.
        merge_seconds: how long to wait whether a person writes on.
        models: tables of the server's settings in the place of the scripted model.
        adapters: how many there are. WeCom calls the first one; the bot belongs to whoever holds its grant.
    """
    grpc_port, *adapter_ports = free_ports(1 + 2 * adapters)
    callback_port = adapter_ports[0]
    settings = Settings(
        listen=ListenSettings(address="127.0.0.1:0"),
        people=people(persons),
        apps=(AppSettings(callback_url=f"http://127.0.0.1:{callback_port}/wecom/app/assistant"),),
        # Limits that are not the subject here: 20 people write faster than people do.
        rules=Rules(
            member_per_minute=100000,
            member_per_hour=100000,
            conversation_per_minute=100000,
            conversation_per_hour=100000,
            subscribes_per_minute=100000,
            token_calls_per_minute=100000,
            # WeCom waits for 5. Three tries are to outlast the start of a server on a busy machine.
            callback_interval_seconds=2.0,
        ),
    )
    async with Simulator(settings, faults=Faults(faults, seed=seed)) as simulator:
        names = {
            "grpc": grpc_port,
            "folder": folder,
            "rest": simulator.rest_base,
            "socket": simulator.socket_base,
            "corp": settings.corp_id,
        }
        script = "" if demonstration else folder / "script.toml"
        names["models"] = models or SCRIPTED.format(script=script, merge=merge_seconds)
        (folder / "script.toml").write_text(SCRIPT, encoding="utf-8")
        (folder / "server.toml").write_text(SERVER.format(**names), encoding="utf-8")
        stack = Stack(simulator, Program("server", folder / "server.toml"), [], callback_port)
        for number in range(adapters):
            callbacks, operations = adapter_ports[2 * number : 2 * number + 2]
            config = folder / f"adapter{number or ''}.toml"
            config.write_text(ADAPTER.format(callbacks=callbacks, operations=operations, **names), encoding="utf-8")
            stack.adapters.append(Program("adapter", config, operations))
        async with asyncio.TaskGroup() as tasks:
            for program in stack.programs:
                tasks.create_task(program.keep_running())
            try:
                await simulator.wait_for(simulator.connected, 30)
                yield stack
            finally:
                for program in reversed(list(stack.programs)):
                    await program.stop()
