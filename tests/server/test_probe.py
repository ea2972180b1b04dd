"""Asking every model a question before people do."""

import subprocess
import sys
from pathlib import Path

import pytest

from program.secret import Secret
from server.probe import probe
from server.settings import KeySettings, ModelSettings, Settings
from tests.server.llm.upstream import SERVED, says, serve

ROOT = Path(__file__).parents[2]


async def test_every_key_is_tried_and_shown_by_its_place() -> None:
    async with serve(says(SERVED), says(SERVED)) as upstream:
        keys = (KeySettings(secret=Secret("sk-first-key")), KeySettings(secret=Secret("sk-second-key")))
        settings = Settings(models={"m": ModelSettings(base_url=upstream.url, keys=keys)})
        lines, well = await probe(settings, None)
    assert well
    assert [line.partition(": ")[0] for line in lines] == [
        f"models.m (openai_chat, {upstream.url}, keys[{number}])" for number in (0, 1)
    ]
    assert all(": ok, first after " in line for line in lines)
    assert "sk-" not in "".join(lines)


async def test_what_does_not_answer_is_said_with_its_class() -> None:
    settings = Settings(
        models={"gone": ModelSettings(base_url="http://127.0.0.1:9/v1"), "demo": ModelSettings(protocol="scripted")}
    )
    lines, well = await probe(settings, None)
    assert not well
    assert "models.gone (openai_chat, http://127.0.0.1:9/v1, api_key): transient" in lines[0]
    assert ": ok, " in lines[1]
    assert await probe(settings, "demo") != (lines, well)


async def test_a_model_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"^models\.x: there is no such entry; there are default$"):
        await probe(Settings(), "x")


@pytest.mark.parametrize(("model", "code", "said"), [("default", 0, "ok"), ("none", 2, "no such entry")])
def test_the_command(tmp_path: Path, model: str, code: int, said: str) -> None:
    config = tmp_path / "server.toml"
    config.write_text(f'[store]\npath = "{tmp_path}/turns.db"\n', encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "server", "--config", str(config), "--probe", model],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code
    assert said in done.stdout + done.stderr
