"""The page about models: every example in it is one that the server takes."""

import re
import tomllib
from pathlib import Path

import pytest

from program.settings import load
from server.llm.catalog import build_backends
from server.llm.endpoint import endpoint_of
from server.llm.presets import shipped_presets
from server.settings import Settings
from tools.gen_docs import GENERATED, ROOT
from tools.models_page import models

PAGE = models(GENERATED)
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
TRANSPORTS = [text.replace('transport = "http" # or "grpc"', 'transport = "grpc"') for text in EXAMPLES]


def taken(text: str, folder: Path) -> Settings:
    """The settings of an example, with keys from the environment in the place of files."""
    path = folder / "server.toml"
    path.write_text(text.replace("file:/run/secrets/", "env:"), encoding="utf-8")
    environ = dict.fromkeys(re.findall(r"env:([\w-]+)", path.read_text(encoding="utf-8")), "k")
    return load(Settings, path, environ, "WECONVERSE_SERVER")


@pytest.mark.parametrize("text", sorted({*EXAMPLES, *TRANSPORTS}))
async def test_an_example_works(text: str, tmp_path: Path) -> None:
    settings = taken(text, tmp_path)
    assert settings.models
    for backend in build_backends(settings.models).values():
        await backend.aclose()


def test_every_preset_has_its_example() -> None:
    shown = {text: list(tomllib.loads(text)["models"].values()) for text in EXAMPLES}
    alone = {entries[0]["preset"]: text for text, entries in shown.items() if len(entries) == 1}
    assert set(alone) == set(shipped_presets())
    assert all(len(text.splitlines()) <= 5 for text in alone.values())


def test_every_side_has_its_row() -> None:
    for name, preset in shipped_presets().items():
        for transport in preset.transports:
            assert f"| `{name}` | {preset.title} | {transport} |" in PAGE


def test_the_switch_of_the_page_is_one_line(tmp_path: Path) -> None:
    text = next(text for text in EXAMPLES if "[models.grok]" in text)
    over_grpc = endpoint_of("grok", taken(text, tmp_path).models["grok"])
    over_http = endpoint_of("grok", taken(text.replace('transport = "grpc"\n', ""), tmp_path).models["grok"])
    assert (over_grpc.protocol, over_http.protocol) == ("xai_chat", "openai_chat")


def test_the_page_is_the_one_that_is_kept() -> None:
    assert (ROOT / "docs" / "models.md").read_text(encoding="utf-8") == PAGE
