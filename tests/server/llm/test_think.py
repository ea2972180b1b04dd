import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.llm.think import ThinkSplitter


def split(*pieces: str) -> tuple[str, str]:
    splitter = ThinkSplitter()
    parts = [splitter.feed(piece) for piece in pieces]
    parts.append(splitter.close())
    return "".join(thought for thought, _ in parts), "".join(text for _, text in parts)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("<think>嗯</think>好", ("嗯", "好")),
        ("\n<think>\n想一想\n</think>\n\n答案", ("想一想", "答案")),
        ("<think></think>好", ("", "好")),
        ("<think>\n\n</think>\n\n好", ("", "好")),
        ("<think>a < b </ c</think> d", ("a < b </ c", "d")),
        ("<think>没有想完", ("没有想完", "")),
        ("<think>想 </thi", ("想 </thi", "")),
        ("好<think>不算</think>", ("", "好<think>不算</think>")),
        ("<thinking>不算</thinking>", ("", "<thinking>不算</thinking>")),
        ("<thi", ("", "<thi")),
        ("  ", ("", "  ")),
        ("", ("", "")),
        ("<think>一</think>二<think>三</think>", ("一", "二<think>三</think>")),
    ],
)
def test_splits_the_same_at_every_border(reply: str, expected: tuple[str, str]) -> None:
    for border in range(len(reply) + 1):
        assert split(reply[:border], reply[border:]) == expected, border
    assert split(*reply) == expected


def test_text_is_not_held_back() -> None:
    splitter = ThinkSplitter()
    assert splitter.feed("答") == ("", "答")
    assert splitter.plain
    assert splitter.feed("<think>") == ("", "<think>")


def test_thought_is_held_back_no_longer_than_it_may_be_a_tag() -> None:
    splitter = ThinkSplitter()
    assert splitter.feed("<think>一 </th") == ("一", "")
    assert splitter.feed("二") == (" </th二", "")


@given(st.lists(st.sampled_from(["<think>", "</think>", "<", "/", "th", " ", "\n", "x", "好"]), max_size=12))
def test_any_border_gives_the_same(parts: list[str]) -> None:
    assert split(*parts) == split("".join(parts)) == split(*"".join(parts))
