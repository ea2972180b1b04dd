"""What Gemini is asked, held against the vendor's own messages."""

from typing import Any

import msgspec
import pytest
from google.protobuf import json_format

from server.llm.base import Image, Message, Prompt, Role
from server.llm.gemini.request import THINKING_TOKENS, request_for, resource_name
from tests.server.llm.gemini_vendor import vendor

PNG = Image("image/png", b"\x89PNG\r\n")
PHOTO = Image("image/jpeg", uri="https://example.com/a.jpg")
ASKED = Prompt(
    "m",
    (
        Message(Role.SYSTEM, "简洁"),
        Message(Role.USER, "问"),
        Message(Role.ASSISTANT, "答"),
        Message(Role.USER, "看图", (PNG, PHOTO)),
    ),
    max_output_tokens=1500,
    user="p-1",
)


def body_of(prompt: Prompt, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(request_for(prompt, **more)))
    return found


def test_a_whole_request() -> None:
    assert body_of(ASKED, temperature=0.3, thinking={"thinkingBudget": 0}) == {
        "systemInstruction": {"parts": [{"text": "简洁"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "问"}]},
            {"role": "model", "parts": [{"text": "答"}]},
            {
                "role": "user",
                "parts": [
                    {"inlineData": {"mimeType": "image/png", "data": "iVBORw0K"}},
                    {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://example.com/a.jpg"}},
                    {"text": "看图"},
                ],
            },
        ],
        "generationConfig": {"temperature": 0.3, "maxOutputTokens": 1500, "thinkingConfig": {"thinkingBudget": 0}},
    }


@pytest.mark.parametrize("thinking", [None, {"includeThoughts": True, "thinkingBudget": -1}, {"thinkingBudget": 0}])
def test_the_vendors_messages_read_it_as_it_was_meant(thinking: dict[str, object] | None) -> None:
    # Refuses what it does not know.
    read = vendor.GenerateContentRequest(
        json_format.ParseDict(body_of(ASKED, temperature=0.3, thinking=thinking), vendor.GenerateContentRequest.pb()())
    )
    assert [content.role for content in read.contents] == ["user", "model", "user"]
    picture, photo, text = read.contents[2].parts
    assert (picture.inline_data.mime_type, picture.inline_data.data) == (PNG.mime_type, PNG.data)
    assert (photo.file_data.mime_type, photo.file_data.file_uri) == (PHOTO.mime_type, PHOTO.uri)
    assert text.text == "看图"
    assert read.system_instruction.parts[0].text == "简洁"
    assert read.generation_config.temperature == pytest.approx(0.3)


def test_what_is_not_set_is_not_asked() -> None:
    body = body_of(Prompt("m", (Message(Role.USER, "问"),)), temperature=None)
    assert body == {"contents": [{"role": "user", "parts": [{"text": "问"}]}], "generationConfig": {}}


def test_messages_of_one_side_in_a_row_are_one() -> None:
    prompt = Prompt("m", (Message(Role.USER, "一"), Message(Role.USER, "", (PNG,)), Message(Role.USER, "二")))
    (content,) = request_for(prompt, temperature=None).contents
    assert [part.text for part in content.parts] == ["一", None, "二"]


@pytest.mark.parametrize(
    ("thinking", "room"),
    [
        (None, THINKING_TOKENS),
        ({}, THINKING_TOKENS),
        ({"includeThoughts": True, "thinkingBudget": -1}, THINKING_TOKENS),
        ({"thinkingLevel": "low"}, THINKING_TOKENS),
        ({"thinkingBudget": 512}, 512),
        ({"thinkingBudget": 0}, 0),
    ],
)
def test_thoughts_do_not_use_up_the_room_of_the_reply(thinking: dict[str, object] | None, room: int) -> None:
    config = request_for(ASKED, temperature=None, thinking=thinking).generation_config
    assert config.max_output_tokens == 1500 + room


def test_models_with_and_without_prefix() -> None:
    assert resource_name("gemini-2.5-flash") == resource_name("models/gemini-2.5-flash") == "models/gemini-2.5-flash"
    assert resource_name("tunedModels/mine") == "tunedModels/mine"
