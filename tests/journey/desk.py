"""Customer service: the simulator in this process, server and adapter as processes that may be killed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from simulator.app import Simulator
from simulator.faults import Faults, Switch
from simulator.rules import Rules
from simulator.settings import CustomerSettings, DeskSettings, KfSettings, ListenSettings, Settings
from tests.journey.stack import SCRIPT, SERVER, Program, free_ports

MODELS = """
[models.default]
protocol = "scripted"
script_file = "{script}"
tokens_per_second = 20000
limits = {{ requests_per_minute = 0 }}
"""

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
[kf.desk]
corp_id = "{corp}"
secret = "simulator-kf-secret-0123456789abcdefghijkl"
token = "SimulatorKfToken"
encoding_aes_key = "SimulatorEncodingAESKey0123456789ABCDEFGHIK"
poll_seconds = 5.0
state_file = "{folder}/cursors{number}.json"
"""


class Desk(NamedTuple):
    """Everything between customers and answers."""

    simulator: Simulator
    server: Program
    adapters: tuple[Program, ...]
    """Callbacks reach the first one."""

    @property
    def programs(self) -> tuple[Program, ...]:
        return (self.server, *self.adapters)

    @property
    def kills(self) -> int:
        return sum(program.kills for program in self.programs)


def _settings(callbacks: int, customers: int) -> Settings:
    return Settings(
        listen=ListenSettings(address="127.0.0.1:0"),
        customers=tuple(CustomerSettings(id=f"wm{number:04}", name=f"顾客{number}") for number in range(customers)),
        kf=KfSettings(
            callback_url=f"http://127.0.0.1:{callbacks}/wecom/kf/desk",
            accounts=(DeskSettings(open_kfid="wkDesk", name="客服"),),
        ),
        # Pulls without a token are not the subject here, and a start takes its time on a busy machine.
        rules=Rules(kf_pulls_without_token=10_000, callback_interval_seconds=2.0),
    )


def _configured(folder: Path, simulator: Simulator, grpc: int, callbacks: list[int]) -> Desk:
    names = {"grpc": grpc, "folder": folder, "rest": simulator.rest_base, "corp": simulator.settings.corp_id}
    names["models"] = MODELS.format(script=folder / "script.toml")
    (folder / "script.toml").write_text(SCRIPT, encoding="utf-8")
    (folder / "server.toml").write_text(SERVER.format(**names), encoding="utf-8")
    adapters = []
    for number, port in enumerate(callbacks):
        config = folder / f"adapter{number}.toml"
        config.write_text(ADAPTER.format(number=number, callbacks=port, **names), encoding="utf-8")
        adapters.append(Program("adapter", config))
    return Desk(simulator, Program("server", folder / "server.toml"), tuple(adapters))


@asynccontextmanager
async def running_desk(
    folder: Path, *, customers: int, adapters: int = 1, faults: dict[str, Switch] | None = None, seed: int = 0
) -> AsyncIterator[Desk]:
    """Customers ``wm0000`` and on at the account ``wkDesk``; every answer quotes its question."""
    grpc, *callbacks = free_ports(1 + adapters)
    async with Simulator(_settings(callbacks[0], customers), faults=Faults(faults, seed=seed)) as simulator:
        desk = _configured(folder, simulator, grpc, callbacks)
        async with asyncio.TaskGroup() as tasks:
            for program in desk.programs:
                tasks.create_task(program.keep_running())
            try:
                yield desk
            finally:
                for program in reversed(desk.programs):
                    await program.stop()
