import pytest
from msgspec import structs

from server.cache.key import reply_key
from server.llm.base import Message, Prompt, Role

PROMPT = Prompt(
    "m",
    (Message(Role.SYSTEM, "简洁"), Message(Role.USER, "年假有几天?")),
    temperature=0.7,
    max_output_tokens=1500,
    request_id="r",
    user="p",
)


def question(text: str) -> Prompt:
    return structs.replace(PROMPT, messages=(PROMPT.messages[0], Message(Role.USER, text)))


def test_who_asks_does_not_matter() -> None:
    key = reply_key("v1", PROMPT)
    assert len(key) == 32
    assert reply_key("v1", structs.replace(PROMPT, request_id="other", user="other")) == key
    assert reply_key("v1", question(" 年假有几天")) == key


@pytest.mark.parametrize(
    "other",
    [
        structs.replace(PROMPT, model="n"),
        structs.replace(PROMPT, temperature=0.8),
        structs.replace(PROMPT, temperature=None),
        structs.replace(PROMPT, max_output_tokens=None),
        question("年假有5天吗"),
        structs.replace(PROMPT, messages=PROMPT.messages[1:]),
        structs.replace(PROMPT, messages=(Message(Role.SYSTEM, "简洁 "), PROMPT.messages[1])),
        structs.replace(PROMPT, messages=(Message(Role.USER, "简洁"), PROMPT.messages[1])),
        structs.replace(
            PROMPT, messages=(*PROMPT.messages, Message(Role.ASSISTANT, "五天"), Message(Role.USER, "年假有几天?"))
        ),
        structs.replace(PROMPT, messages=()),
    ],
)
def test_everything_else_does(other: Prompt) -> None:
    assert reply_key("v1", other) != reply_key("v1", PROMPT)


def test_an_assistant_that_changed_is_another() -> None:
    assert reply_key("v1", PROMPT) != reply_key("v2", PROMPT)


def test_borders_between_parts_matter() -> None:
    assert reply_key("ab", structs.replace(PROMPT, model="c")) != reply_key("a", structs.replace(PROMPT, model="bc"))


def test_only_the_question_is_folded() -> None:
    def after(first: str) -> Prompt:
        messages = (Message(Role.USER, first), Message(Role.ASSISTANT, "好"), Message(Role.USER, "问"))
        return structs.replace(PROMPT, messages=messages)

    assert reply_key("v", after("VPN怎么连")) != reply_key("v", after("vpn怎么连"))
