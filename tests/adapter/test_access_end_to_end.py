"""The whole adapter between a local WeCom and a fake service: who may, who answers, keys that change, sources."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from adapter.access.rules import UNDECIDED
from adapter.app import running
from adapter.settings import (
    REFUSAL,
    AccessRule,
    AppSettings,
    BotSettings,
    CallbackBotSettings,
    DirectorySettings,
    ListenSettings,
    MediaSettings,
    OperationsSettings,
    SecretsSettings,
    ServerSettings,
    Settings,
    SourcesSettings,
    WeComSettings,
)
from program.secret import Secret
from simulator.app import Simulator
from simulator.faults import Switch
from simulator.journal import Kind
from simulator.rules import Rules
from simulator.settings import BotSettings as SimulatorBot
from simulator.settings import DepartmentSettings, PersonSettings, TagSettings
from simulator.settings import ListenSettings as SimulatorListen
from simulator.settings import Settings as SimulatorSettings
from weconverse.testing import FakeService
from weconverse.v1.conversation_pb2 import SubmitTurnRequest

DEVELOPERS = AccessRule(departments=(2,), assistant="dev")
PILOTS = AccessRule(tags=(7,), assistant="pilot")
CALLED = "aibCalled"
BOSS = AccessRule(members=("BOSS",))


def corporation(**changes: object) -> SimulatorSettings:
    return SimulatorSettings(
        listen=SimulatorListen(address="127.0.0.1:0"),
        rules=Rules(callback_interval_seconds=0.05, stream_poll_interval_seconds=0.05),
        departments=(
            DepartmentSettings(id=1, name="公司", parent=0),
            DepartmentSettings(id=2, name="研发部"),
            DepartmentSettings(id=3, name="后端", parent=2),
            DepartmentSettings(id=5, name="市场部"),
        ),
        people=(
            PersonSettings(id="chenjie", name="陈杰", departments=(3,)),
            PersonSettings(id="lina", name="李娜", departments=(5,)),
            PersonSettings(id="wangfang", name="王芳", departments=(5,)),
            PersonSettings(id="boss", name="老板"),
        ),
        tags=(TagSettings(id=7, name="试点", members=("lina",)),),
        bots=(SimulatorBot(), SimulatorBot(id=CALLED, name="被叫", mode="callback")),
        **changes,  # type: ignore[arg-type]  # by name
    )


class Stack:
    def __init__(self, sim: Simulator, fake: FakeService, callbacks: int, operations: int) -> None:
        self.sim = sim
        self.fake = fake
        self.url = f"http://127.0.0.1:{callbacks}/wecom/app/assistant"
        self.operations = f"http://127.0.0.1:{operations}"

    def texts(self, person: str, chat: str) -> list[str]:
        return [bubble.text for bubble in self.sim.replies(person, chat) if bubble.finished]

    async def told(self, person: str, chat: str, *expected: str) -> None:
        await self.sim.wait_for(lambda: len(self.texts(person, chat)) >= len(expected), 8)
        assert self.texts(person, chat) == list(expected)

    async def measured(self, name: str) -> float:
        async with aiohttp.ClientSession() as session, session.get(f"{self.operations}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"weconverse_adapter_{name}"))

    async def ready(self) -> int:
        async with aiohttp.ClientSession() as session, session.get(f"{self.operations}/readyz") as answer:
            return answer.status

    @property
    def asked(self) -> list[tuple[str, str]]:
        """The text of each turn that the service got, with the assistant that was to answer."""
        requests = self.fake.requests("SubmitTurn", SubmitTurnRequest)
        return [(one.turn.input.parts[0].text, one.turn.assistant.rpartition("/")[2]) for one in requests]


@asynccontextmanager
async def stack(
    rules: Sequence[AccessRule] = (),
    *,
    sim_settings: SimulatorSettings | None = None,
    app: dict[str, object] | None = None,
    secret: Secret | None = None,
    bot_secret: Secret | None = None,
    sources: SourcesSettings | None = None,
    request_seconds: float = 1.0,
    submit_seconds: float = 3.5,
) -> AsyncIterator[Stack]:
    def script(request):  # type: ignore[no-untyped-def]  # the fake's own type
        return f"echo {request.input.parts[0].text}"

    async with FakeService(script, greeting="欢迎") as fake, Simulator(sim_settings or corporation()) as sim:
        its_app, its_bot = sim.settings.apps[0], sim.settings.bots[0]
        keys: dict[str, object] = {"token": its_app.token, "encoding_aes_key": its_app.encoding_aes_key}
        settings = Settings(
            server=ServerSettings(target=fake.target),
            listen=ListenSettings(address="127.0.0.1:0", drain_seconds=0.5, submit_seconds=submit_seconds),
            operations=OperationsSettings(address="127.0.0.1:0"),
            wecom=WeComSettings(api_base=sim.rest_base, socket_base=sim.socket_base),
            secrets=SecretsSettings(reread_seconds=0.1),
            directory=DirectorySettings(app="assistant", request_seconds=request_seconds),
            sources=sources or SourcesSettings(),
            apps={
                "assistant": AppSettings(
                    corp_id=sim.settings.corp_id,
                    agent_id=its_app.agent_id,
                    secret=secret or its_app.secret,
                    access=tuple(rules),
                    **(keys | (app or {})),  # type: ignore[arg-type]  # by name
                )
            },
            bots={
                "helper": BotSettings(
                    bot_id=its_bot.id,
                    secret=bot_secret or its_bot.secret,
                    name=its_bot.name,
                    refresh_seconds=0.05,
                    access=tuple(rules),
                    refusal="本助手只对部分同事开放。",
                )
            },
            callback_bots={
                "called": CallbackBotSettings(
                    token=sim.settings.bots[1].token,
                    encoding_aes_key=sim.settings.bots[1].encoding_aes_key,
                    access=tuple(rules),
                )
            },
            media=MediaSettings(private_networks=("127.0.0.0/8",), insecure_http=True),
        )
        async with running(settings) as started:
            found = Stack(sim, fake, started.callbacks_port, started.operations_port)
            sim.set_callback_url(found.url)
            sim.set_bot_callback_url(f"http://127.0.0.1:{started.callbacks_port}/wecom/bot/called", bot=CALLED)
            await sim.wait_for(sim.connected)
            yield found


async def test_each_person_gets_their_assistant_or_a_refusal() -> None:
    async with stack([DEVELOPERS, PILOTS, BOSS]) as wecom:
        for person in ("chenjie", "lina", "wangfang", "boss"):
            await wecom.sim.write_to_app(person, person)
            await wecom.sim.write_to_bot(person, person)
        for person in ("chenjie", "lina", "boss"):
            await wecom.told(person, "app", f"echo {person}")
            await wecom.told(person, "bot", f"echo {person}")
        await wecom.told("wangfang", "app", REFUSAL)
        await wecom.told("wangfang", "bot", "本助手只对部分同事开放。")
        assert set(wecom.asked) == {("chenjie", "dev"), ("lina", "pilot"), ("boss", "default")}
        assert len(wecom.sim.acknowledged()) == 4


async def test_without_rules_everybody_may() -> None:
    async with stack() as wecom:
        wecom.sim.faults.set("directory_busy")
        await wecom.sim.write_to_app("wangfang", "你好")
        await wecom.told("wangfang", "app", "echo 你好")
        assert wecom.sim.faults.struck["directory_busy"] == 0


async def test_in_a_group_each_member_counts_for_themselves() -> None:
    async with stack([DEVELOPERS]) as wecom:
        group = wecom.sim.settings.groups[0].id
        await wecom.sim.write_to_bot("wangfang", "一", group)
        await wecom.sim.write_to_bot("chenjie", "二", group)
        await wecom.told("chenjie", f"group:{group}", "本助手只对部分同事开放。", "echo 二")
        assert wecom.asked == [("二", "dev")]


async def test_a_bot_that_is_called_refuses_too_and_fetches_nothing_for_strangers() -> None:
    async with stack([DEVELOPERS]) as wecom:
        for person in ("wangfang", "chenjie"):
            await wecom.sim.write_to_bot(person, person, bot=CALLED)
        await wecom.told("chenjie", f"bot:{CALLED}", "echo chenjie")
        await wecom.told("wangfang", f"bot:{CALLED}", REFUSAL)
        assert wecom.asked == [("chenjie", "dev")]
        picture = b"\x89PNG\r\n\x1a\n" + bytes(64)
        wecom.sim.send_media_to_bot("wangfang", ("image", "a.png", picture), bot=CALLED)
        await wecom.told("wangfang", f"bot:{CALLED}", REFUSAL, REFUSAL)
        wecom.sim.send_media_to_bot("wangfang", ("image", "a.png", picture))
        await wecom.told("wangfang", "bot", "本助手只对部分同事开放。")
        wecom.sim.send_media_to_app("wangfang", "image", "a.png", picture)
        await wecom.told("wangfang", "app", REFUSAL)
        assert await wecom.measured("media_fetches_total") == 0
        wecom.sim.send_media_to_bot("chenjie", ("image", "a.png", picture), bot=CALLED)
        await wecom.sim.wait_for(lambda: len(wecom.texts("chenjie", f"bot:{CALLED}")) == 2)
        assert await wecom.measured("media_fetches_total") == 1


async def test_who_may_not_is_not_welcomed_either() -> None:
    async with stack([DEVELOPERS]) as wecom:
        for person in ("wangfang", "chenjie"):
            wecom.sim.enter(person, "bot")
        await wecom.told("chenjie", "bot", "欢迎")
        await wecom.sim.write_to_bot("wangfang", "你好")
        await wecom.told("wangfang", "bot", "本助手只对部分同事开放。")


@pytest.mark.parametrize("fault", ["callback_answer_lost", "push_duplicated"])
async def test_a_refusal_is_seen_once_when_the_message_comes_twice(fault: str) -> None:
    async with stack([DEVELOPERS]) as wecom:
        wecom.sim.faults.once(fault)
        if fault == "push_duplicated":
            await wecom.sim.write_to_bot("wangfang", "你好")
            await wecom.sim.write_to_bot("wangfang", "在吗")
            sentence = "本助手只对部分同事开放。"
            await wecom.told("wangfang", "bot", sentence, sentence)
        else:
            await wecom.sim.write_to_app("wangfang", "你好")
            await wecom.told("wangfang", "app", REFUSAL)
        assert wecom.sim.faults.struck[fault] == 1
        assert wecom.asked == []


async def test_who_goes_on_writing_is_not_told_for_ever() -> None:
    async with stack([DEVELOPERS]) as wecom:
        for number in range(8):
            await wecom.sim.write_to_app("wangfang", str(number))
        await wecom.sim.wait_for(lambda: len(wecom.sim.acknowledged()) == 8)
        assert 0 < len(wecom.texts("wangfang", "app")) < 8
        assert wecom.asked == []


async def test_while_nobody_can_say_the_messages_of_a_bot_wait_in_order() -> None:
    async with stack([DEVELOPERS], request_seconds=0.05) as wecom:
        wecom.sim.faults.once("rest_slow", seconds=0.4)
        await wecom.sim.write_to_bot("chenjie", "一")
        await wecom.sim.write_to_bot("chenjie", "二")
        await wecom.told("chenjie", "bot", "echo 一", "echo 二")
        assert await wecom.measured('access_total{account="helper",result="unknown"}') >= 1


@pytest.mark.parametrize("fault", ["directory_limited", "rest_slow"])
async def test_when_nobody_could_say_until_wecom_gives_up_the_person_is_told(fault: str) -> None:
    async with stack([DEVELOPERS], submit_seconds=0.3) as wecom:
        wecom.sim.faults.set(fault, Switch(seconds=10.0))
        await wecom.sim.write_to_app("chenjie", "你好")
        await wecom.told("chenjie", "app", UNDECIDED)
        failed = [entry.detail for entry in wecom.sim.journal.entries(Kind.FAILED)]
        assert failed == ["第 1 次投递：应答 HTTP 503", "第 2 次投递：应答 HTTP 503"]
        assert wecom.asked == []


async def test_what_was_known_is_enough_while_the_directory_is_away() -> None:
    async with stack([DEVELOPERS]) as wecom:
        await wecom.sim.write_to_app("chenjie", "一")
        await wecom.told("chenjie", "app", "echo 一")
        wecom.sim.faults.set("directory_limited")
        await wecom.sim.write_to_app("chenjie", "二")
        await wecom.told("chenjie", "app", "echo 一", "echo 二")


# --- secrets that change -----------------------------------------------------------------


class Files:
    """Secrets as files, which the adapter rereads."""

    def __init__(self, folder: Path, sim: SimulatorSettings) -> None:
        self._folder = folder
        app = sim.apps[0]
        self.present = {
            "secret": app.secret.reveal(),
            "token": app.token.reveal(),
            "encoding_aes_key": app.encoding_aes_key.reveal(),
            "next_token": "",
            "next_encoding_aes_key": "",
            "bot": sim.bots[0].secret.reveal(),
        }
        self.put(**self.present)

    def put(self, **contents: str) -> None:
        for name, content in contents.items():
            (self._folder / f"{name}.new").write_text(content, encoding="utf-8")
            (self._folder / f"{name}.new").replace(self._folder / name)

    def secret(self, name: str) -> Secret:
        return Secret(self.present[name], f"file:{self._folder / name}")

    def keys(self) -> dict[str, object]:
        return {name: self.secret(name) for name in self.present if name not in ("secret", "bot")}


async def reread(wecom: Stack, count: int) -> None:
    """Waits until so many changes of files were seen."""
    async with asyncio.timeout(5):
        while await wecom.measured('secret_rereads_total{result="changed"}') < count:
            await asyncio.sleep(0.02)


async def test_keys_change_under_load_without_one_failed_callback(tmp_path: Path) -> None:
    sim_settings = corporation()
    files = Files(tmp_path, sim_settings)
    async with stack(sim_settings=sim_settings, app=files.keys(), secret=files.secret("secret")) as wecom:
        sim, people = wecom.sim, ("chenjie", "lina", "wangfang", "boss")
        written = 0
        going_on = True

        async def write() -> None:
            nonlocal written
            while going_on:
                await sim.write_to_app(people[written % len(people)], str(written))
                written += 1
                await asyncio.sleep(0.02)

        writing = asyncio.create_task(write())
        try:
            files.put(next_token="NewToken", next_encoding_aes_key="B" * 43)
            await reread(wecom, 2)
            sim.change_callback_keys("NewToken", "B" * 43)
            await sim.wait_for(lambda n=written: written > n + 5)
            files.put(token="NewToken", encoding_aes_key="B" * 43)
            files.put(next_token="", next_encoding_aes_key="")
            await reread(wecom, 6)
            await sim.wait_for(lambda n=written: written > n + 5)
        finally:
            going_on = False
            await writing
        await sim.wait_for(lambda: sum(len(wecom.texts(person, "app")) for person in people) >= written, 15)
        assert sim.journal.entries(Kind.FAILED) == []
        assert sorted(text for person in people for text in wecom.texts(person, "app")) == sorted(
            f"echo {number}" for number in range(written)
        )


async def test_a_refused_secret_is_tried_again_as_soon_as_it_is_replaced(tmp_path: Path) -> None:
    sim_settings = corporation()
    files = Files(tmp_path, sim_settings)
    async with stack(sim_settings=sim_settings, app=files.keys(), secret=files.secret("secret")) as wecom:
        wecom.sim.change_app_secret("a-new-secret")
        with pytest.raises(TimeoutError):
            await wecom.sim.write_to_app("lina", "你好")
            await wecom.sim.wait_for(lambda: wecom.texts("lina", "app"), 0.5)
        refused = wecom.sim.counters["refused"]
        files.put(secret="a-new-secret")
        await reread(wecom, 1)
        # The answer that failed comes back in its own time; the next one is not kept waiting by the old secret.
        await wecom.sim.write_to_app("boss", "在吗")
        await wecom.told("boss", "app", "echo 在吗")
        assert wecom.sim.counters["refused"] == refused


async def test_a_bot_with_a_new_secret_connects_at_once(tmp_path: Path) -> None:
    sim_settings = corporation()
    files = Files(tmp_path, sim_settings)
    async with stack(sim_settings=sim_settings, bot_secret=files.secret("bot")) as wecom:
        wecom.sim.change_bot_secret("a-new-secret")
        wecom.sim.cut()
        # A refused subscription is tried again after 15 seconds at the soonest.
        await wecom.sim.wait_for(lambda: [e for e in wecom.sim.journal.entries(Kind.REFUSED) if e.code == 853000])
        files.put(bot="a-new-secret")
        await wecom.sim.wait_for(wecom.sim.connected, 5)


# --- sources -----------------------------------------------------------------------------


async def test_callbacks_from_where_wecom_says_come_in_and_others_do_not() -> None:
    sources = SourcesSettings(mode="enforce", trusted_proxies=("127.0.0.1",))
    async with stack(sim_settings=corporation(callback_addresses=("127.0.0.*",)), sources=sources) as wecom:
        async with asyncio.timeout(5):
            while await wecom.ready() != 200:
                await asyncio.sleep(0.01)
        await wecom.sim.write_to_app("lina", "你好")
        await wecom.told("lina", "app", "echo 你好")
        headers = {"X-Forwarded-For": "203.0.113.9"}
        async with aiohttp.ClientSession() as session, session.post(wecom.url, data=b"x", headers=headers) as answer:
            assert answer.status == 403
        assert await wecom.measured('callback_rejects_total{reason="source"}') == 1


async def test_an_adapter_that_does_not_know_wecoms_addresses_is_not_ready() -> None:
    sim_settings = corporation(callback_addresses=())
    async with stack(sim_settings=sim_settings, sources=SourcesSettings(mode="enforce")) as wecom:
        await wecom.sim.write_to_app("lina", "你好")
        await wecom.sim.wait_for(lambda: wecom.sim.journal.entries(Kind.GIVEN_UP))
        assert wecom.asked == []
        assert await wecom.ready() == 503
