"""What each vendor is asked: the names it has for things, and nothing that it does not know."""

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from program.secret import Secret
from server.llm.base import NO_MODEL_TAKES_PICTURES, ErrorClass, Image, Message, Prompt, ProviderError, Role
from server.llm.endpoint import endpoint_of
from server.llm.openai.request import OpenAiRequest
from server.llm.presets import shipped_presets
from server.settings import ModelSettings

PROMPT = Prompt(
    "m",
    (
        Message(Role.SYSTEM, "简洁"),
        Message(Role.USER, "问"),
        Message(Role.ASSISTANT, "答"),
        Message(Role.USER, "再问"),
    ),
    temperature=2.0,
    max_output_tokens=9000,
    user="person-1",
)
MESSAGES = [
    {"role": "system", "content": "简洁"},
    {"role": "user", "content": "问"},
    {"role": "assistant", "content": "答"},
    {"role": "user", "content": "再问"},
]
COUNTED = {"stream": True, "stream_options": {"include_usage": True}}


def request_for(**entry: Any) -> OpenAiRequest:
    azure = {"base_url": "https://r.openai.azure.com/openai/v1"} if entry.get("preset") == "azure" else {}
    if not entry.get("preset") or entry["preset"] == "openai_style":
        azure = {"base_url": "https://h/v1"}
    return OpenAiRequest(endpoint_of("m", ModelSettings(**{"api_key": Secret("k"), "model": "x", **azure, **entry})))


def asked(prompt: Prompt = PROMPT, **entry: Any) -> dict[str, Any]:
    request = request_for(**entry)
    body: dict[str, Any] = json.loads(request.encoded(request.streamed(prompt)))
    return body


BESIDE_THE_MESSAGES: dict[str, dict[str, object]] = {
    "openai_style": {"temperature": 2.0, "max_tokens": 9000, "user": "person-1", **COUNTED},
    "openai": {"temperature": 2.0, "max_completion_tokens": 9000, "safety_identifier": "person-1", **COUNTED},
    "azure": {"temperature": 2.0, "max_completion_tokens": 9000, "user": "person-1", **COUNTED},
    "deepseek": {"temperature": 2.0, "max_tokens": 9000, "user_id": "person-1", **COUNTED},
    "dashscope": {"temperature": 1.99, "max_tokens": 9000, **COUNTED},
    "zhipu": {"temperature": 1.0, "max_tokens": 9000, "user_id": "person-1", "stream": True},
    "moonshot": {"temperature": 1.0, "max_completion_tokens": 9000, "safety_identifier": "person-1", **COUNTED},
    "volcengine": {"temperature": 2.0, "max_tokens": 9000, **COUNTED},
    "tencent": {"temperature": 2.0, "max_tokens": 9000, **COUNTED},
    "qianfan": {"temperature": 1.0, "max_tokens": 9000, "user": "person-1", **COUNTED},
    "minimax": {"temperature": 1.0, "max_tokens": 9000, **COUNTED},
    "spark": {"temperature": 1.0, "max_tokens": 8192, "user": "person-1", "stream": True},
    "stepfun": {"temperature": 2.0, "max_tokens": 9000, **COUNTED},
    "siliconflow": {"temperature": 2.0, "max_tokens": 9000, **COUNTED},
    "xai": {"temperature": 2.0, "max_tokens": 9000, "user": "person-1", **COUNTED},
    "mistral": {"temperature": 1.5, "max_tokens": 9000, "stream": True},
    "openrouter": {"temperature": 2.0, "max_tokens": 9000, "user": "person-1", **COUNTED},
    "ollama": {"temperature": 2.0, "max_tokens": 9000, **COUNTED},
    "vllm": {"temperature": 2.0, "max_tokens": 9000, "user": "person-1", **COUNTED},
    "sglang": {"temperature": 2.0, "max_tokens": 9000, "user": "person-1", **COUNTED},
    "llamacpp": {"temperature": 2.0, "max_tokens": 9000, **COUNTED},
}


def test_the_table_has_every_vendor_that_is_asked_this_way() -> None:
    presets = shipped_presets()
    spoken = {name for name, preset in presets.items() if preset.http and preset.http.protocol == "openai_chat"}
    regions = {name for name in spoken if name.endswith("_intl")} | {"zai"}
    assert set(BESIDE_THE_MESSAGES) == spoken - regions


@pytest.mark.parametrize("preset", sorted(BESIDE_THE_MESSAGES))
def test_what_each_vendor_is_asked(preset: str) -> None:
    body = asked(preset=preset)
    for message in body["messages"]:
        message.pop("reasoning_content", None)
    assert body == {"model": "x", "messages": MESSAGES, **BESIDE_THE_MESSAGES[preset]}


@pytest.mark.parametrize("preset", ["qianfan", "minimax", "spark"])
def test_zero_is_not_a_temperature_everywhere(preset: str) -> None:
    prompt = Prompt("m", PROMPT.messages, temperature=0.0)
    assert asked(prompt, preset=preset)["temperature"] == 0.01
    assert asked(prompt, preset="openai")["temperature"] == 0.0


def test_a_model_with_a_fixed_temperature_is_given_none() -> None:
    assert "temperature" not in asked(preset="openai", model="gpt-5-mini")
    assert "temperature" not in asked(preset="moonshot", model="kimi-k2.6")


def test_nothing_is_asked_that_the_prompt_leaves_open() -> None:
    bare = Prompt("m", (Message(Role.USER, "问"),), request_id="r", conversation="c", caller="s")
    assert set(asked(bare)) == {"model", "messages", "stream", "stream_options"}


@pytest.mark.parametrize(
    ("preset", "on", "off"),
    [
        ("deepseek", {"thinking": {"type": "enabled"}}, {"thinking": {"type": "disabled"}}),
        ("zhipu", {"thinking": {"type": "enabled"}}, {"thinking": {"type": "disabled"}}),
        ("dashscope", {"enable_thinking": True}, {"enable_thinking": False}),
        ("openai", {"reasoning_effort": "medium"}, {"reasoning_effort": "none"}),
        (
            "vllm",
            {"chat_template_kwargs": {"enable_thinking": True}},
            {"chat_template_kwargs": {"enable_thinking": False}},
        ),
    ],
)
def test_thinking(preset: str, on: dict[str, object], off: dict[str, object]) -> None:
    neither = asked(preset=preset)
    for thinking, fields in (("on", on), ("off", off)):
        body = asked(preset=preset, thinking=thinking)
        assert {name: value for name, value in body.items() if name not in neither} == fields


def test_deepseek_is_given_a_thought_with_each_answer() -> None:
    roles = [(message["role"], message.get("reasoning_content")) for message in asked(preset="deepseek")["messages"]]
    assert roles == [("system", None), ("user", None), ("assistant", " "), ("user", None)]
    assert all("reasoning_content" not in m for m in asked(preset="deepseek", thinking="off")["messages"])


def test_extra_fields_go_as_they_are_and_last() -> None:
    extra = {"top_k": 5, "temperature": 0.2, "stream_options": None}
    body = asked(preset="mistral", extra_body=extra)
    assert body["top_k"] == 5
    assert body["temperature"] == 0.2
    assert body["stream_options"] is None


INLINE = Image("image/png", data=b"\x89PNG")
BY_ADDRESS = Image("image/jpeg", uri="https://example.com/p.jpg")


def test_pictures() -> None:
    prompt = Prompt("m", (Message(Role.USER, "这是什么?", (INLINE, BY_ADDRESS)), Message(Role.USER, "", (INLINE,))))
    inline = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}}
    assert asked(prompt, preset="openai")["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "这是什么?"},
                inline,
                {"type": "image_url", "image_url": {"url": "https://example.com/p.jpg"}},
            ],
        },
        {"role": "user", "content": [inline]},
    ]


@pytest.mark.parametrize(("pictures", "image"), [("none", INLINE), ("none", BY_ADDRESS), ("inline", BY_ADDRESS)])
def test_a_picture_that_cannot_be_shown_is_refused(pictures: str, image: Image) -> None:
    request = request_for(pictures=pictures)
    with pytest.raises(ProviderError) as caught:
        request.streamed(Prompt("m", (Message(Role.USER, "看", (image,)),)))
    assert (caught.value.kind, caught.value.code) == (ErrorClass.BAD_REQUEST, NO_MODEL_TAKES_PICTURES)


def test_what_is_not_taken_is_told_once() -> None:
    request = request_for(preset="spark")
    with capture_logs() as lines:
        for _ in range(3):
            request.streamed(PROMPT)
    assert [(line["log_level"], line["parameter"], line["wanted"], line["sent"]) for line in lines] == [
        ("debug", "temperature", 2.0, 1.0),
        ("debug", "max_output_tokens", 9000, 8192),
    ]
    with capture_logs() as lines:
        request_for(preset="openai").streamed(PROMPT)
    assert lines == []
    with capture_logs() as lines:
        request_for(preset="stepfun").streamed(PROMPT)
    assert [line["parameter"] for line in lines] == ["user"]
    assert "person-1" not in str(lines)
