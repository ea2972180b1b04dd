"""Which model ``make run`` takes: the one that the environment has a key for."""

import pytest

from program.settings import load
from server.llm.endpoint import endpoint_of
from server.llm.presets import shipped_presets
from server.settings import Settings
from tools.up import CONFIG, model_environment

KEYED = {name: preset for name, preset in shipped_presets().items() if preset.http and preset.key_name}


def test_without_a_key_it_is_the_script() -> None:
    settings, which = model_environment({"PATH": "/bin", "DEEPSEEK_API_KEY": ""})
    assert settings == {}
    assert "scripted" in which


@pytest.mark.parametrize("name", sorted(set(KEYED) - {"azure"}))
def test_every_key_leads_to_a_model_that_the_server_can_reach(name: str) -> None:
    preset = KEYED[name]
    environ = {preset.key_name: "k"}
    settings, which = model_environment(environ)
    assert preset.key_name in which
    loaded = load(Settings, CONFIG / "server.toml", {**environ, **settings}, "WECONVERSE_SERVER")
    endpoint = endpoint_of("default", loaded.models["default"])
    # Two regions share the name of their key; the first one stands.
    assert endpoint.settings.preset in (name, name.removesuffix("_intl"))
    assert endpoint.model == preset.example_model
    assert loaded.models["default"].api_key.reveal() == "k"


def test_address_and_model_can_be_changed() -> None:
    environ = {"DEEPSEEK_API_KEY": "k", "DEEPSEEK_BASE_URL": "http://gateway/v1", "DEEPSEEK_MODEL": "other"}
    settings, which = model_environment(environ)
    assert settings == {
        "WECONVERSE_SERVER__MODELS__DEFAULT__PRESET": "deepseek",
        "WECONVERSE_SERVER__MODELS__DEFAULT__MODEL": "other",
        "WECONVERSE_SERVER__MODELS__DEFAULT__BASE_URL": "http://gateway/v1",
        "WECONVERSE_SERVER__MODELS__DEFAULT__API_KEY": "env:DEEPSEEK_API_KEY",
    }
    assert which == "other at http://gateway/v1 (from DEEPSEEK_API_KEY)"


def test_a_vendor_without_a_common_address_needs_its_own() -> None:
    environ = {"AZURE_OPENAI_API_KEY": "k", "AZURE_MODEL": "deployment"}
    assert model_environment(environ)[0] == {}
    settings, _ = model_environment({**environ, "AZURE_BASE_URL": "https://r.openai.azure.com/openai/v1"})
    assert settings["WECONVERSE_SERVER__MODELS__DEFAULT__PRESET"] == "azure"


def test_a_server_without_keys_is_asked_for_by_its_model() -> None:
    settings, which = model_environment({"OLLAMA_MODEL": "qwen3"})
    assert settings == {
        "WECONVERSE_SERVER__MODELS__DEFAULT__PRESET": "ollama",
        "WECONVERSE_SERVER__MODELS__DEFAULT__MODEL": "qwen3",
    }
    assert which == "qwen3 at http://127.0.0.1:11434/v1 (from OLLAMA_MODEL)"


def test_the_first_of_several_stands() -> None:
    settings, _ = model_environment({"DASHSCOPE_API_KEY": "k", "OPENAI_API_KEY": "k"})
    assert settings["WECONVERSE_SERVER__MODELS__DEFAULT__PRESET"] == "openai"
