import pytest

from server.memory.reset_words import asks_to_forget
from server.settings import AssistantSettings

WORDS = AssistantSettings().reset_words


@pytest.mark.parametrize(
    "text",
    [
        "/new",
        "/NEW",
        "/New",
        " /reset\n",
        "/ｎｅｗ",
        "／ｎｅｗ",
        "重新开始",
        "重新开始。",
        "重新开始!",
        "「重新开始」",
        "清空上下文~",
    ],
)
def test_the_whole_message_is_a_reset_word(text: str) -> None:
    assert asks_to_forget(text, WORDS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "。",
        "new",
        "/new topic",
        "请重新开始",
        "重新开始?",
        "如何重新开始",
        "重新 开始",
        "/news",
        "重新开始" + "。" * 500,
    ],
)
def test_other_messages_are_not(text: str) -> None:
    assert not asks_to_forget(text, WORDS)


def test_the_words_are_a_setting() -> None:
    assert asks_to_forget("FORGET", ("Forget",))
    assert not asks_to_forget("/new", ("Forget",))
    assert not asks_to_forget("", ("",))
    assert not asks_to_forget("。", ("。",))
    assert not asks_to_forget("/new", ())
