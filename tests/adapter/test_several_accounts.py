"""Several accounts of each kind in one adapter, each with its own assistant."""

import asyncio

import aiohttp

from adapter.app import running
from adapter.settings import (
    AccessRule,
    AppSettings,
    BotSettings,
    ListenSettings,
    OperationsSettings,
    ServerSettings,
    Settings,
    WeComSettings,
)
from program.secret import Secret
from simulator.app import Simulator
from simulator.settings import AppSettings as SimulatorApp
from simulator.settings import BotSettings as SimulatorBot
from simulator.settings import ListenSettings as SimulatorListen
from simulator.settings import Settings as SimulatorSettings
from weconverse.testing import FakeService
from weconverse.v1.conversation_pb2 import ConverseRequest, GetAssistantRequest, SubmitTurnRequest

APPS = {"hr": 1000011, "it": 1000012, "sales": 1000013}
BOTS = {"helper": "aibHelper", "guide": "aibGuide"}


def corporation() -> SimulatorSettings:
    return SimulatorSettings(
        listen=SimulatorListen(address="127.0.0.1:0"),
        apps=tuple(
            SimulatorApp(
                agent_id=agent_id,
                name=name,
                secret=Secret(f"secret-of-{name}"),
                token=Secret(f"TokenOf{name}"),
                encoding_aes_key=Secret(name[0] * 43),
            )
            for name, agent_id in APPS.items()
        ),
        bots=tuple(
            SimulatorBot(id=bot_id, name=name, secret=Secret(f"secret-of-{name}")) for name, bot_id in BOTS.items()
        ),
    )


def settings_for(sim: Simulator, fake: FakeService) -> Settings:
    corp = sim.settings
    return Settings(
        server=ServerSettings(target=fake.target),
        listen=ListenSettings(address="127.0.0.1:0", drain_seconds=0.5),
        operations=OperationsSettings(address="127.0.0.1:0"),
        wecom=WeComSettings(api_base=sim.rest_base, socket_base=sim.socket_base),
        apps={
            name: AppSettings(
                corp_id=corp.corp_id,
                agent_id=app.agent_id,
                secret=app.secret,
                token=app.token,
                encoding_aes_key=app.encoding_aes_key,
                assistant=f"for-{name}",
                access=(AccessRule(members=("lina",), assistant="for-lina"), AccessRule(everyone=True)),
            )
            for name, app in zip(APPS, corp.apps, strict=True)
        },
        bots={
            name: BotSettings(bot_id=bot.id, secret=bot.secret, name=bot.name, assistant=f"for-{name}")
            for name, bot in zip(BOTS, corp.bots, strict=True)
        },
    )


def answer(request: ConverseRequest) -> str:
    return f"{request.assistant.rpartition('/')[2]}: {request.input.parts[0].text}"


async def test_each_account_answers_with_its_own_assistant_and_is_measured() -> None:
    async with (
        FakeService(answer) as fake,
        Simulator(corporation()) as sim,
        running(settings_for(sim, fake)) as started,
        aiohttp.ClientSession() as session,
    ):
        for name, agent_id in APPS.items():
            sim.set_callback_url(f"http://127.0.0.1:{started.callbacks_port}/wecom/app/{name}", app=agent_id)
        for bot_id in BOTS.values():
            await sim.wait_for(lambda bot_id=bot_id: sim.connected(bot_id))
        for name, agent_id in APPS.items():
            for person in ("zhangwei", "lina"):
                await sim.write_to_app(person, name, app=agent_id)
        for name, bot_id in BOTS.items():
            await sim.write_to_bot("lina", name, bot=bot_id)

        def seen(person: str, chat: str) -> list[str]:
            return [bubble.text for bubble in sim.replies(person, chat) if bubble.finished]

        for name, agent_id in APPS.items():
            await sim.wait_for(lambda chat=f"app:{agent_id}": seen("zhangwei", chat) and seen("lina", chat))
            assert seen("zhangwei", f"app:{agent_id}") == [f"for-{name}: {name}"]
            assert seen("lina", f"app:{agent_id}") == [f"for-lina: {name}"]
        for name, bot_id in BOTS.items():
            await sim.wait_for(lambda chat=f"bot:{bot_id}": seen("lina", chat))
            assert seen("lina", f"bot:{bot_id}") == [f"for-{name}: {name}"]
        # Conversations of different accounts are different ones, whoever speaks.
        turns = fake.requests("SubmitTurn", SubmitTurnRequest)
        assert len({one.turn.conversation for one in turns}) == len(turns) == 8
        # The service is asked for every assistant that anybody may get.
        wanted = {f"assistants/for-{name}" for name in (*APPS, *BOTS, "lina")}
        async with asyncio.timeout(5):
            while not wanted <= {one.name for one in fake.requests("GetAssistant", GetAssistantRequest)}:
                await asyncio.sleep(0.01)
        async with session.get(f"http://127.0.0.1:{started.operations_port}/metrics") as measured:
            lines = (await measured.text()).splitlines()
        for name in (*APPS, *BOTS):
            assert f'weconverse_adapter_attached{{account="{name}"}} 1.0' in lines
        for name in APPS:
            assert f'weconverse_adapter_access_total{{account="{name}",result="allowed"}} 2.0' in lines
        for name in BOTS:
            assert f'weconverse_adapter_socket_state{{account="{name}"}} 2.0' in lines
