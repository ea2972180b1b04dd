"""Prompts for backends in whose conversations two sides take turns."""

from hypothesis import given
from hypothesis import strategies as st

from server.llm.alternating import OPENER, alternate
from server.llm.base import Image, Message, Role

PICTURE = Image("image/png", b"png")

MESSAGES = st.lists(
    st.builds(
        Message,
        st.sampled_from(Role),
        st.sampled_from(["", " \n", "问", "答", "说明"]),
        st.sampled_from([(), (PICTURE,)]),
    ),
    max_size=8,
)


@given(MESSAGES)
def test_sides_take_turns_and_the_person_begins(messages: list[Message]) -> None:
    sides = alternate(messages).sides
    assert [side.by_person for side in sides] == [index % 2 == 0 for index in range(len(sides))]


@given(MESSAGES)
def test_nothing_that_was_said_is_lost_and_nobody_says_nothing(messages: list[Message]) -> None:
    sides = alternate(messages).sides
    given_out = [message for side in sides for message in side.messages]
    spoken = [m for m in messages if m.role is not Role.SYSTEM and (m.text.strip() or m.images)]
    if spoken and spoken[0].role is Role.ASSISTANT:
        spoken.insert(0, OPENER)
    assert given_out == spoken
    assert all(side.messages for side in sides)


def test_instructions_stand_apart_wherever_they_stood() -> None:
    messages = [
        Message(Role.SYSTEM, "简洁"),
        Message(Role.USER, "问"),
        Message(Role.SYSTEM, "用中文"),
        Message(Role.USER, "再问"),
    ]
    conversation = alternate(messages)
    assert conversation.instructions == "简洁\n\n用中文"
    assert [[message.text for message in side.messages] for side in conversation.sides] == [["问", "再问"]]


def test_a_greeting_is_kept() -> None:
    greeting = Message(Role.ASSISTANT, "您好")
    sides = alternate([greeting, Message(Role.USER, "问")]).sides
    assert [side.messages for side in sides] == [(OPENER,), (greeting,), (Message(Role.USER, "问"),)]
