"""The settings of the adapter: what is refused, with the field and the remedy."""

import asyncio
import socket
from pathlib import Path

import aiohttp
import pytest

from adapter.__main__ import PROGRAM
from adapter.app import plan, running, serve
from adapter.settings import Settings
from program.run import OK, WRONG_SETTINGS, CannotStart, run
from program.settings import SettingsError, load
from weconverse.testing import FakeService

GOOD = """
[apps.assistant]
corp_id = "ww1436e0e65a779aee"
agent_id = 1000002
secret = "env:APP_SECRET"
token = "hJqcu3uJ9Tn2gXPmxx2w9kkCkCE2EPYo"
encoding_aes_key = "6qkdMrq68nTKduznJYO1A37W2oEgpkMUvkttRToqhUt"

[bots.helper]
bot_id = "aib1"
secret = "bot-secret"
"""
ROBOT = "qyapi.weixin.qq.com/cgi-bin/webhook/send?key=6dc41cb8-f0e8-4d8e-93ae-0b3a3c8a4a11"
SEAL = "token = 'BotToken'\nencoding_aes_key = '6qkdMrq68nTKduznJYO1A37W2oEgpkMUvkttRToqhUt'\n"
ENVIRON = {"APP_SECRET": "app-secret-value"}


def settings_of(tmp_path: Path, text: str, **environ: str) -> Settings:
    file = tmp_path / "adapter.toml"
    file.write_text(text, encoding="utf-8")
    return load(Settings, file, ENVIRON | environ, "WECONVERSE_ADAPTER")


def test_the_defaults_are_those_of_wecom(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, GOOD)
    assert settings.wecom.api_base == "https://qyapi.weixin.qq.com"
    assert settings.wecom.socket_base == "wss://openws.work.weixin.qq.com"
    assert settings.listen.address == "127.0.0.1:8080"
    assert settings.operations.address == "127.0.0.1:9465"
    assert settings.apps["assistant"].reply_type == "text"


def test_check_prints_the_plan_and_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "adapter.toml"
    file.write_text(GOOD, encoding="utf-8")
    assert run(PROGRAM, ["--config", str(file), "--check"], ENVIRON) == OK
    shown = capsys.readouterr().out
    assert "/wecom/app/assistant" in shown
    for secret in ("app-secret-value", "hJqcu3uJ9Tn2gXPmxx2w9kkCkCE2EPYo", "6qkdMrq68nTK", "bot-secret"):
        assert secret not in shown


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (("hUt", "hU"), "apps.assistant.encoding_aes_key"),
        (("PYo", "P-o"), "apps.assistant.token"),
        (("1000002", '"x"'), "apps.assistant.agent_id"),
        (("agent_id", "agentid"), "apps.assistant.agentid"),
        (('"bot-secret"', '""'), "bots.helper.secret"),
        (("bots.helper", "bots.assistant"), "bots.assistant"),
        (("bots.helper", 'bots."ein Bot"'), "bots.ein Bot"),
        (("[apps", "[listen]\naddress = '0.0.0.0:80'\n[apps"), "listen.address"),
        (("[apps", "[operations]\naddress = 'nowhere'\n[apps"), "operations.address"),
        (("[apps", "[wecom]\napi_base = 'ftp://x'\n[apps"), "wecom.api_base"),
        (("[apps", "[wecom]\napi_base = 'https://'\n[apps"), "wecom.api_base"),
        (("[apps", "[wecom]\napi_base = 'https://x:99999'\n[apps"), "wecom.api_base"),
        (("[apps", "[wecom]\napi_base = 'https://qyapi.weixin.qq.com/cgi-bin/'\n[apps"), "wecom.api_base"),
        (('corp_id = "', 'corp_id = " '), "apps.assistant.corp_id"),
        (("[bots", f"{GOOD.partition('[bots')[0].replace('assistant', 'twin')}[bots"), "apps.twin.agent_id"),
        (("[apps", "[server]\nca_file = '/nowhere/ca.pem'\n[apps"), "server.ca_file"),
        (("[apps", "[server]\ntarget = '10.0.0.1:50051'\ntoken = 't'\n[apps"), "server.token"),
        (("[apps", "[server]\nkey_file = 'x'\n[apps"), "server.key_file"),
        (("[apps", "[media]\nprivate_networks = ['10.1.2.3/16']\n[apps"), "media.private_networks[0]"),
        (("[apps", "[media]\ninsecure_http = true\n[apps"), "media.insecure_http"),
        (("[apps", "[media]\nmax_bytes = 30000000\n[apps"), "media.max_bytes"),
        (("[apps", f"[robots.r]\nkey = 'https://{ROBOT}'\n[apps"), "robots.r.key"),
        (("[apps", f"[callback_bots.c]\n{SEAL}grace_seconds = 31\n[apps"), "callback_bots.c.close_seconds"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: tuple[str, str], field: str) -> None:
    with pytest.raises(SettingsError) as wrong:
        list(plan(settings_of(tmp_path, GOOD.replace(*change))))
    assert wrong.value.field == field


def test_nothing_to_do_is_wrong_too(tmp_path: Path) -> None:
    file = tmp_path / "adapter.toml"
    file.write_text("", encoding="utf-8")
    assert run(PROGRAM, ["--config", str(file), "--check"], ENVIRON) == WRONG_SETTINGS


def test_the_environment_overrides(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, GOOD, WECONVERSE_ADAPTER__BOTS__HELPER__REFRESH_SECONDS="0.2")
    assert settings.bots["helper"].refresh_seconds == 0.2


async def test_it_is_ready_with_the_service_and_stops_when_told(tmp_path: Path) -> None:
    async with FakeService({}) as fake, aiohttp.ClientSession() as session:
        text = (
            GOOD.partition("[bots")[0]
            + f"[server]\ntarget = '{fake.target}'\n"
            + "[listen]\naddress = '127.0.0.1:0'\n[operations]\naddress = '127.0.0.1:0'\n"
        )
        settings = settings_of(tmp_path, text)
        async with running(settings) as started:
            base = f"http://127.0.0.1:{started.operations_port}"
            async with asyncio.timeout(5):
                while (await _get(session, f"{base}/readyz"))[0] != 200:
                    await asyncio.sleep(0.01)
            assert (await _get(session, f"{base}/livez"))[0] == 200
            metrics = (await _get(session, f"{base}/metrics"))[1]
            assert "weconverse_adapter_callback_ack_seconds_bucket" in metrics
        stop = asyncio.Event()
        serving = asyncio.create_task(serve(settings, stop))
        stop.set()
        await asyncio.wait_for(serving, 5)


async def test_a_taken_port_is_said_plainly(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        text = GOOD + f"[listen]\naddress = '127.0.0.1:{holder.getsockname()[1]}'\n[operations]\naddress = ''\n"
        with pytest.raises(CannotStart, match=r"listen\.address"):
            await serve(settings_of(tmp_path, text), asyncio.Event())


async def _get(session: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    async with session.get(url) as answer:
        return answer.status, await answer.text()
