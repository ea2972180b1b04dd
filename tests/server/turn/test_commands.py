import pytest

from server.settings import AssistantSettings
from server.turn.commands import is_one_of

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
    assert is_one_of(text, WORDS)


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
    assert not is_one_of(text, WORDS)


def test_the_words_are_a_setting() -> None:
    assert is_one_of("FORGET", ("Forget",))
    assert not is_one_of("/new", ("Forget",))
    assert not is_one_of("", ("",))
    assert not is_one_of("。", ("。",))
    assert not is_one_of("/new", ())
