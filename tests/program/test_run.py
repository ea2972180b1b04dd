"""Programs as operators meet them: a process with arguments, signals and an exit code."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, sys
from typing import Annotated, Literal
import msgspec
from program.run import CannotStart, Errand, Program, run
from program.settings import SettingsError

class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "json"

class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    port: Annotated[int, msgspec.Meta(ge=1)] = 80
    log: Log = Log()

def plan(settings):
    if settings.port == 7:
        raise SettingsError("port", "7 is taken by echo; take another")
    yield f"would listen on {settings.port}"

def rehearse(settings):
    if settings.port == 8:
        raise SettingsError("port", "8 needs a file; --replay makes it")

async def serve(settings, stop):
    if settings.port == 9:
        raise CannotStart("port 9 is in use")
    print("serving", flush=True)
    await stop.wait()
    print("stopped", flush=True)

async def replay(settings, account):
    return f"replayed {account}"

sys.exit(run(Program("sample", "A sample.", "SAMPLE", Settings, lambda s: s.log, plan, serve,
                     (Errand("--replay", "ACCOUNT", "Replays.", replay),), rehearse)))
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    (tmp_path / "sample.py").write_text(PROGRAM, encoding="utf-8")
    return [sys.executable, str(tmp_path / "sample.py")]


def ran(command: list[str], *arguments: str, **environ: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=20, env={"PYTHONPATH": ".", **environ}
    )
    return done.returncode, done.stdout, done.stderr


def test_check_prints_settings_and_plan(command: list[str], tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("port = 5", encoding="utf-8")
    code, out, _ = ran(command, "--config", str(file), "--check")
    assert code == 0
    assert "port = 5\n" in out
    assert out.endswith("would listen on 5\n")


@pytest.mark.parametrize(
    ("port", "words"),
    [("0", "port: must be a whole number >= 1, and is 0"), ("7", "port: 7 is taken by echo; take another")],
)
def test_a_wrong_setting_ends_with_2_and_one_line(command: list[str], port: str, words: str) -> None:
    for arguments in ((), ("--check",)):
        code, out, err = ran(command, *arguments, SAMPLE__PORT=port)
        assert (code, out, err) == (2, "", f"sample: {words}\n")


def test_a_check_rehearses_the_start_and_an_errand_does_not(command: list[str]) -> None:
    assert ran(command, "--check", SAMPLE__PORT="8") == (2, "", "sample: port: 8 needs a file; --replay makes it\n")
    assert ran(command, "--replay", SAMPLE__PORT="8") == (0, "replayed None\n", "")


def test_what_cannot_start_ends_with_1_and_one_line(command: list[str]) -> None:
    assert ran(command, SAMPLE__PORT="9") == (1, "", "sample: port 9 is in use\n")


def test_an_errand_runs_instead_of_serving(command: list[str]) -> None:
    assert ran(command, "--replay") == (0, "replayed None\n", "")
    assert ran(command, "--replay", "channels/a/accounts/b") == (0, "replayed channels/a/accounts/b\n", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_cleanly(command: list[str], number: signal.Signals) -> None:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": "."}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "serving\n"
        process.send_signal(number)
        process.send_signal(number)
        assert process.stdout.readline() == "stopped\n"
        process.send_signal(number)
        assert process.wait(10) == 0
