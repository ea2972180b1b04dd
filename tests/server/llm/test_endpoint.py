"""How an entry of ``models`` and a preset become one endpoint, and which entries cannot work."""

from typing import Any

import pytest

from program.secret import Secret
from server.llm.base import Image, Message, Prompt, Role
from server.llm.endpoint import ModelEndpoint, endpoint_of
from server.llm.presets import shipped_presets
from server.settings import KeySettings, ModelSettings

KEY = Secret("k")


def resolve(**entry: Any) -> ModelEndpoint:
    return endpoint_of("m", ModelSettings(**{"api_key": KEY, **entry}))


@pytest.mark.parametrize("name", sorted(shipped_presets()))
def test_every_preset_gives_an_endpoint_over_each_of_its_transports(name: str) -> None:
    preset = shipped_presets()[name]
    for transport in preset.transports:
        side = preset.side(transport)
        assert side is not None
        field = "base_url" if transport == "http" else "target"
        own = {} if side.address else {field: side.address_example}
        found = resolve(preset=name, transport=transport, **own)
        assert found.protocol == side.protocol
        assert found.address == (side.address or side.address_example)
        assert found.side.parameters == side.parameters


def test_what_is_set_goes_before_the_preset() -> None:
    found = resolve(
        preset="deepseek",
        base_url="http://127.0.0.1:9/gateway",
        model="other",
        max_tokens_name="max_completion_tokens",
        send_stream_options=False,
        pictures="any",
    )
    assert (found.name, found.model, found.address) == ("m", "other", "http://127.0.0.1:9/gateway")
    assert found.side.parameters.max_tokens == "max_completion_tokens"
    assert not found.side.parameters.stream_options
    assert found.side.parameters.user == "user_id"
    assert found.side.pictures == "any"


def test_the_switch_is_one_line() -> None:
    over_http = resolve(preset="xai", model="grok-4")
    over_grpc = resolve(preset="xai", model="grok-4", transport="grpc")
    assert (over_http.protocol, over_http.address) == ("openai_chat", "https://api.x.ai/v1")
    assert (over_grpc.protocol, over_grpc.address) == ("xai_chat", "api.x.ai:443")
    assert over_http.model == over_grpc.model == "grok-4"


@pytest.mark.parametrize(
    ("entry", "protocol"),
    [
        ({"base_url": "https://h/v1"}, "openai_chat"),
        ({"transport": "grpc", "target": "h:1"}, "provider_service"),
        # HTTP is a default, and gives way where there is no choice.
        ({"preset": "triton"}, "kserve"),
        ({"protocol": "xai_chat", "target": "h:1"}, "xai_chat"),
        ({"preset": "weconverse", "target": "h:1"}, "weconverse"),
        # Another surface of the same vendor.
        ({"preset": "dashscope", "protocol": "anthropic_messages", "base_url": "https://h/v1"}, "anthropic_messages"),
        ({"protocol": "scripted"}, "scripted"),
    ],
)
def test_what_is_spoken(entry: dict[str, Any], protocol: str) -> None:
    assert resolve(**entry).protocol == protocol


def test_a_stranger_gets_the_parameters_and_not_the_address_of_who_speaks_the_same() -> None:
    found = resolve(protocol="anthropic_messages", base_url="https://h/v1")
    assert found.side.auth == "x-api-key"
    assert found.side.parameters == resolve(preset="anthropic").side.parameters
    with pytest.raises(ValueError, match=r"^models\.m\.base_url: "):
        resolve(protocol="anthropic_messages")


def test_thinking() -> None:
    assert resolve(preset="deepseek").thinking == {}
    assert resolve(preset="deepseek", thinking="on").thinking == {"thinking": {"type": "enabled"}}
    assert resolve(preset="dashscope", thinking="off").thinking == {"enable_thinking": False}


def test_thoughts_are_given_back_unless_there_are_none() -> None:
    assert resolve(preset="deepseek").side.assistant_fields == {"reasoning_content": " "}
    assert resolve(preset="deepseek", thinking="off").side.assistant_fields == {}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"preset": "deepsek"}, r"preset: there is no preset 'deepsek'; did you mean 'deepseek'\?"),
        ({"preset": "OpenAI"}, r"preset: .*did you mean 'openai'\?"),
        ({"preset": "?"}, r"preset: there is no preset '\?'; docs/models.md lists them"),
        ({"preset": "deepseek", "transport": "grpc"}, r'transport: deepseek offers http and no grpc; set .*"http"'),
        ({"protocol": "gemini", "transport": "grpc"}, r"transport: gemini is spoken over HTTP only"),
        ({}, r"base_url: its vendor has no address that is the same for all; set it, such as https://"),
        ({"preset": "azure"}, r"base_url: azure has no address .*such as https://RESOURCE\.openai\.azure\.com/openai/v1"),
        ({"preset": "weconverse"}, r"target: weconverse has no address .*such as centre\.example\.com:50051"),
        ({"base_url": "api.example.com/v1"}, r"base_url: must begin with http:// or https://"),
        ({"base_url": "http://h:99999/v1"}, r"base_url: must begin with http:// or https://"),
        ({"base_url": "https://h/v1/chat/completions"}, r"base_url: must end before /chat/completions"),
        ({"base_url": "https://h/messages/", "protocol": "anthropic_messages"}, r"base_url: must end before /messages"),
        ({"base_url": "http://[::1/v1"}, r"base_url: must begin with http:// or https://"),
        ({"base_url": "https://me:secret@h/v1"}, r"base_url: must not hold a user or password"),
        ({"preset": "xai", "transport": "grpc", "target": "https://api.x.ai"}, r"target: must be host:port"),
        ({"preset": "xai", "target": "api.x.ai:443"}, r'target: has no use over http; set base_url, or .*"grpc"'),
        ({"preset": "triton", "base_url": "https://h"}, r"base_url: has no use over grpc; set target"),
        ({"preset": "deepseek", "api_key": Secret("")}, r'api_key: .*set api_key = "env:DEEPSEEK_API_KEY", or keys'),
        ({"preset": "mistral", "thinking": "on"}, r"thinking: mistral has no switch to turn it on; .*extra_body"),
        ({"preset": "xai", "thinking": "off"}, r"thinking: xai has no switch to turn it off"),
        ({"base_url": "https://h", "thinking": "on"}, r"thinking: an entry without a preset has no switch"),
        ({"preset": "triton", "pictures": "inline"}, r"pictures: kserve has no place for pictures"),
        ({"base_url": "https://h", "extra_headers": {"x-team": "客服"}}, r"extra_headers\.x-team: must be printable"),
    ],
)  # fmt: skip
def test_what_cannot_work_names_the_field_the_rule_and_the_remedy(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r"^models\.m\." + said):
        resolve(**entry)


@pytest.mark.parametrize(
    "keys", [{}, {"api_key": Secret(""), "keys": (KeySettings(secret=KEY),)}, {"api_key": Secret("", "file:/keys")}]
)
def test_no_key_travels_in_plain_text_unless_somebody_allows_it(keys: dict[str, Any]) -> None:
    for host in ("10.0.0.7:8000", "vllm", "localhost.example.com", "[2001:db8::1]"):
        address = f"http://{host}/v1"
        with pytest.raises(ValueError, match=r"^models\.m\.base_url: .* plain text; use https://, or set plain_http"):
            resolve(base_url=address, **keys)
        assert resolve(base_url=address, plain_http=True, **keys).address == address
        assert resolve(base_url=address, api_key=Secret("")).address == address
    for here in ("http://127.0.0.1:8000/v1", "http://localhost/v1", "http://[::1]:8000/v1", "https://10.0.0.7/v1"):
        assert resolve(base_url=here, **keys).address == here


def test_a_key_is_only_asked_for_where_the_vendor_is_called_itself() -> None:
    nothing = Secret("")
    assert resolve(preset="deepseek", api_key=nothing, base_url="http://gateway/v1").address == "http://gateway/v1"
    assert resolve(preset="vllm", api_key=nothing).address
    assert resolve(preset="deepseek", api_key=nothing, keys=(KeySettings(secret=KEY),)).address


INLINE, BY_ADDRESS = Image("image/png", data=b"\x89PNG"), Image("image/png", uri="https://h/p.png")


@pytest.mark.parametrize(
    ("pictures", "inline", "by_address"), [("none", False, False), ("inline", True, False), ("any", True, True)]
)
def test_which_pictures_are_taken(pictures: str, inline: bool, by_address: bool) -> None:
    found = resolve(base_url="https://h", pictures=pictures)
    text = Message(Role.USER, "看图")

    def prompt(*images: Image) -> Prompt:
        return Prompt("m", (text, Message(Role.USER, "", images)))

    assert found.takes(prompt())
    assert found.takes(prompt(INLINE)) is inline
    assert found.takes(prompt(BY_ADDRESS)) is by_address
    assert found.takes(prompt(INLINE, BY_ADDRESS)) is (inline and by_address)
