"""What is asked of a Messages API, held against the vendor's own types."""

from base64 import b64decode

import pytest
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from pydantic import TypeAdapter

from server.llm.anthropic.request import DEFAULT_MAX_TOKENS, THINKING_TOKENS, messages_body
from server.llm.base import Image, Message, Prompt, Role

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
    user="person-1",
)

_vendor = TypeAdapter(MessageCreateParamsStreaming)


def test_a_whole_request() -> None:
    body = messages_body(ASKED, model="claude", temperature=0.3)
    assert body == {
        "model": "claude",
        "max_tokens": 1500,
        "stream": True,
        "system": "简洁",
        "temperature": 0.3,
        "metadata": {"user_id": "person-1"},
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "问"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "答"}]},
            {
                "role": "user",
                "content": [
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0K"}},
                    {"type": "image", "source": {"type": "url", "url": "https://example.com/a.jpg"}},
                    {"type": "text", "text": "看图"},
                ],
            },
        ],
    }
    assert b64decode("iVBORw0K") == PNG.data


@pytest.mark.parametrize("thinking", [None, {"type": "enabled"}, {"type": "disabled"}, {"type": "adaptive"}])
def test_the_vendors_types_take_it(thinking: dict[str, object] | None) -> None:
    body = messages_body(ASKED, model="claude", temperature=None, thinking=thinking)
    _vendor.validate_python(body)


def test_what_is_not_set_is_not_asked() -> None:
    body = messages_body(Prompt("m", (Message(Role.USER, "问"),)), model="claude", temperature=None)
    assert set(body) == {"model", "max_tokens", "stream", "messages"}
    assert body["max_tokens"] == DEFAULT_MAX_TOKENS


def test_messages_of_one_side_in_a_row_are_one() -> None:
    prompt = Prompt("m", (Message(Role.USER, "一"), Message(Role.USER, "二")))
    body = messages_body(prompt, model="claude", temperature=None)
    texts = [{"type": "text", "text": "一"}, {"type": "text", "text": "二"}]
    assert body["messages"] == [{"role": "user", "content": texts}]


def test_a_picture_alone_has_no_empty_text_beside_it() -> None:
    body = messages_body(Prompt("m", (Message(Role.USER, "", (PHOTO,)),)), model="claude", temperature=None)
    source = {"type": "url", "url": PHOTO.uri}
    assert body["messages"] == [{"role": "user", "content": [{"type": "image", "source": source}]}]


def test_thinking_gets_room_of_its_own_and_bears_no_temperature() -> None:
    body = messages_body(ASKED, model="claude", temperature=0.3, thinking={"type": "enabled"})
    assert body["thinking"] == {"type": "enabled", "budget_tokens": THINKING_TOKENS}
    assert body["max_tokens"] == 1500 + THINKING_TOKENS
    assert "temperature" not in body


def test_thinking_that_is_off_changes_nothing_else() -> None:
    body = messages_body(ASKED, model="claude", temperature=0.3, thinking={"type": "disabled"})
    plain = messages_body(ASKED, model="claude", temperature=0.3)
    assert body == {**plain, "thinking": {"type": "disabled"}}


@pytest.mark.parametrize(
    ("thinking", "room"),
    [({"type": "enabled", "budget_tokens": 2048}, 2048), ({"type": "adaptive"}, THINKING_TOKENS)],
)
def test_extra_fields_go_first_and_thinking_among_them_is_understood(thinking: dict[str, object], room: int) -> None:
    extra = {"thinking": thinking, "top_k": 5, "metadata": {"user_id": "x"}}
    body = messages_body(ASKED, model="claude", temperature=0.3, thinking={"type": "disabled"}, extra=extra)
    assert body["thinking"] == thinking
    assert body["max_tokens"] == 1500 + room
    assert "temperature" not in body
    assert (body["top_k"], body["metadata"]) == (5, {"user_id": "x"})
