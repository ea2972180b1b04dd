import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from program.secret import Secret
from program.settings import SettingsError, load
from simulator.__main__ import PROGRAM, plan
from simulator.app import Simulator, SimulatorError
from simulator.faults import Switch
from simulator.rules import ERRORS, Rules, described
from simulator.settings import (
    AppSettings,
    BotSettings,
    FaultSettings,
    GroupSettings,
    ListenSettings,
    PersonSettings,
    Settings,
    TlsSettings,
    problems,
)

ROOT = Path(__file__).parents[2]


def read(tmp_path, text, environ=None):
    path = tmp_path / "simulator.toml"
    path.write_text(text, encoding="utf-8")
    return load(Settings, path, environ or {}, PROGRAM.prefix)


def test_the_defaults_are_whole():
    assert list(problems(Settings())) == []
    assert len(list(plan(Settings()))) == 4


def test_a_whole_file(tmp_path):
    settings = read(
        tmp_path,
        """
        corp_id = "wwtest"
        [listen]
        address = "127.0.0.1:0"
        [[apps]]
        agent_id = 7
        secret = "env:APP_SECRET"
        callback_url = "http://127.0.0.1:8080/wecom/app/main"
        [[bots]]
        id = "aib7"
        [[people]]
        id = "a"
        name = "甲"
        [rules]
        stream_seconds = 360.0
        [faults]
        seed = 4
        [faults.switches.ack_lost]
        probability = 0.1
        """,
        {"APP_SECRET": "s3cret", "WECONVERSE_SIMULATOR__RULES__CALLBACK_SECONDS": "0.5"},
    )
    assert settings.apps[0].secret.reveal() == "s3cret"
    assert (settings.rules.stream_seconds, settings.rules.callback_seconds) == (360.0, 0.5)
    assert settings.faults.switches["ack_lost"].probability == 0.1
    assert list(problems(settings)) == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"listen": ListenSettings(address="8070")}, "listen.address"),
        ({"listen": ListenSettings(address="0.0.0.0:8070")}, "listen.address"),
        ({"listen": ListenSettings(tls=TlsSettings(key_file="x"))}, "listen.tls"),
        ({"apps": (AppSettings(), AppSettings())}, "apps.agent_id"),
        ({"bots": (BotSettings(), BotSettings())}, "bots.id"),
        ({"people": (PersonSettings(id="a", name="a"), PersonSettings(id="A", name="b"))}, "people.id"),
        ({"apps": (AppSettings(encoding_aes_key=Secret("short")),)}, "apps[0].encoding_aes_key"),
        ({"apps": (AppSettings(token=Secret("no-hyphens")),)}, "apps[0].token"),
        ({"apps": (AppSettings(callback_url="ftp://x"),)}, "apps[0].callback_url"),
        ({"groups": (GroupSettings(id="g", name="g", members=("ghost",)),)}, "groups[0].members"),
        ({"groups": (GroupSettings(id="g", name="g", bot="ghost"),)}, "groups[0].bot"),
        ({"faults": FaultSettings(switches={"earthquake": Switch()})}, "faults.switches.earthquake"),
    ],
)
def test_contradictions_name_the_field(change, field):
    settings = Settings(**change)
    assert [found for found, _ in problems(settings)] == [field]
    with pytest.raises(SettingsError) as caught:
        list(plan(settings))
    assert caught.value.field == field
    with pytest.raises(SimulatorError, match=field.partition("[")[0]):
        Simulator(settings)


def test_every_rule_has_a_sentence_and_a_source():
    found = list(described(Rules()))
    assert [rule.name for rule in found] == list(Rules.__struct_fields__)
    assert all(rule.description and rule.source for rule in found)
    assert all(ERRORS.values())


async def test_a_taken_port_is_said(simulator):
    async with simulator() as sim:
        with pytest.raises(SimulatorError, match="cannot listen"):
            async with Simulator(Settings(listen=ListenSettings(address=sim.address))):
                pass


async def test_the_program_starts_and_stops(tmp_path):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "simulator",
        cwd=ROOT,
        env={"WECONVERSE_SIMULATOR__LISTEN__ADDRESS": "127.0.0.1:0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(20):
        first = (await process.stdout.readline()).decode()
        assert "http://127.0.0.1:" in first
        process.send_signal(signal.SIGTERM)
        _, errors = await process.communicate()
    assert process.returncode == 0, errors


def test_check_prints_no_secret():
    done = subprocess.run(
        [sys.executable, "-m", "simulator", "--check"],
        cwd=ROOT,
        env={},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "simulator-app-secret" not in done.stdout
    assert "SimulatorEncodingAESKey" not in done.stdout
