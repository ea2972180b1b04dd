"""The presets: that they load, hang together, and keep what they say within its bounds."""

from pathlib import Path
from typing import get_args, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.llm.authorization import authorization
from server.llm.base import ErrorClass
from server.llm.endpoint import STANDS_FOR
from server.llm.presets import Side, Temperature, load_presets, shipped_presets
from server.settings import ModelSettings

PRESETS = shipped_presets()
SIDES = [(name, transport) for name, preset in PRESETS.items() for transport in preset.transports]

EXPECTED = {
    *("openai", "azure", "deepseek", "dashscope", "zhipu", "zai", "moonshot", "moonshot_intl", "volcengine", "tencent"),
    *("qianfan", "minimax", "spark", "stepfun", "siliconflow", "xai", "mistral", "openrouter", "ollama", "vllm"),
    *("sglang", "llamacpp", "anthropic", "gemini", "triton", "provider_service", "weconverse"),
}


def side_of(name: str, transport: str) -> Side:
    side = PRESETS[name].side(transport)
    assert side is not None
    return side


def test_every_vendor_has_one() -> None:
    assert set(PRESETS) >= EXPECTED
    assert {name for name, preset in PRESETS.items() if preset.grpc} == {
        *("xai", "gemini", "vllm", "sglang", "triton", "provider_service", "weconverse"),
    }


@pytest.mark.parametrize(("name", "transport"), SIDES)
def test_a_side_speaks_what_its_transport_carries(name: str, transport: str) -> None:
    side = side_of(name, transport)
    assert STANDS_FOR[side.protocol][0] == transport
    if side.address and transport == "http":
        assert side.address.startswith("https://" if PRESETS[name].key_name else "http")
        assert not side.address.endswith("/")
    if side.address and transport == "grpc":
        assert side.address.rpartition(":")[2].isdigit()
    assert side.verified in ("documents", "own") or side.evidence


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_is_documented(name: str) -> None:
    preset = PRESETS[name]
    assert preset.title
    assert preset.note.endswith(".")
    assert not preset.key_name or preset.key_name.endswith("_API_KEY")


def test_a_region_differs_in_its_address_alone() -> None:
    home, abroad = side_of("dashscope", "http"), side_of("dashscope_intl", "http")
    assert home.address != abroad.address
    assert msgspec.structs.replace(abroad, address=home.address) == home


def test_every_protocol_of_the_settings_stands_for_something() -> None:
    hint = get_type_hints(ModelSettings, include_extras=False)["protocol"]
    assert set(get_args(hint)) - {"", "scripted"} == set(STANDS_FOR)
    for protocol, (transport, preset) in STANDS_FOR.items():
        assert side_of(preset, transport).protocol == protocol


@given(
    st.floats(-10, 10),
    st.builds(
        Temperature,
        least=st.floats(0, 0.5),
        most=st.floats(0.6, 2),
        least_exclusive=st.booleans(),
        most_exclusive=st.booleans(),
    ),
)
def test_a_temperature_is_put_within_its_bounds(wanted: float, known: Temperature) -> None:
    taken = known.of(wanted, "m")
    assert taken is not None
    assert known.least < taken if known.least_exclusive else known.least <= taken
    assert taken < known.most if known.most_exclusive else taken <= known.most
    assert known.of(taken, "m") == taken
    if known.least + 0.02 < wanted < known.most - 0.02:
        assert taken == wanted


@pytest.mark.parametrize(
    ("preset", "model", "taken"),
    [
        ("openai", "gpt-5-mini", None),
        ("openai", "gpt-4.1", 1.7),
        ("moonshot", "kimi-k2.6", None),
        ("moonshot", "Kimi-K3", None),
        ("moonshot", "moonshot-v1-8k", 1.0),
        ("dashscope", "qwen-plus", 1.7),
        ("minimax", "MiniMax-M2", 1.0),
        ("mistral", "m", 1.5),
        ("anthropic", "m", 1.0),
    ],
)
def test_some_models_bear_no_temperature(preset: str, model: str, taken: float | None) -> None:
    known = side_of(preset, "http").parameters.temperature
    assert known is not None
    assert known.of(1.7, model) == taken


@pytest.mark.parametrize(
    ("style", "headers"),
    [
        ("none", {}),
        ("bearer", {"authorization": "Bearer k"}),
        ("api-key", {"api-key": "k"}),
        ("x-api-key", {"x-api-key": "k"}),
        ("x-goog-api-key", {"x-goog-api-key": "k"}),
    ],
)
def test_how_a_key_is_shown(style: str, headers: dict[str, str]) -> None:
    assert authorization(style, "k") == headers  # type: ignore[arg-type]
    assert authorization(style, "") == {}  # type: ignore[arg-type]


BASE = '[a]\ntitle = "A"\n[a.http]\nprotocol = "openai_chat"\naddress = "https://a"\n'


def load(tmp_path: Path, text: str) -> dict[str, object]:
    path = tmp_path / "presets.toml"
    path.write_text(text)
    return dict(load_presets(path))


def test_like_takes_over_what_is_not_said(tmp_path: Path) -> None:
    more = '[a.http.errors]\n"403" = "quota"\n[b]\nlike = "a"\ntitle = "B"\nhttp = { errors = { x = "auth" } }\n'
    presets = load(tmp_path, BASE + more)
    assert presets["b"].http.address == "https://a"  # type: ignore[attr-defined]
    assert presets["b"].http.errors == {"403": ErrorClass.QUOTA, "x": ErrorClass.AUTH}  # type: ignore[attr-defined]
    assert presets["a"].http.errors == {"403": ErrorClass.QUOTA}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BASE + "colour = 1\n", "presets.toml: a: .*colour"),
        (BASE.replace("address =", "adress ="), "presets.toml: a: .*adress"),
        (BASE + 'auth = "basic"\n', r"presets.toml: a: .*http.auth"),
        (BASE + 'pictures = "all"\n', r"presets.toml: a: .*http.pictures"),
        (BASE + '[a.http.errors]\nx = "quote"\n', r"presets.toml: a: .*errors"),
        (BASE + '[a.http.errors]\nX = "quota"\n', r"presets.toml: a.http.errors: .*lower case"),
        (BASE.replace('address = "https://a"\n', ""), "presets.toml: a.http: needs an address"),
        ('[a]\ntitle = "A"\n', "presets.toml: a: needs a table http or grpc"),
        (BASE + '[b]\nlike = "c"\n', "presets.toml: b.like: there is no preset 'c'"),
        ("[a", "TOML|toml|Expected"),
    ],
)
def test_a_file_that_is_wrong_says_where(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load(tmp_path, text)
