"""The estimate of a prompt's length, and what it learns."""

import pytest

from server.llm.base import Image, Message, Prompt, Role
from server.routing.input_estimate import TOKENS_PER_PICTURE, InputEstimate, length_of


def test_text_messages_and_pictures_count() -> None:
    text = Message(Role.SYSTEM, "请用简洁的语言回答")
    shown = Message(Role.USER, "这是什么?", (Image("image/png", b"1"), Image("image/png", b"2")))
    words = length_of(Prompt("m", (text,)))
    assert words == (4 + 7, 0)
    assert words.compared == 11
    both = length_of(Prompt("m", (text, shown)))
    assert both == (11 + 4 + 4 + 2 * TOKENS_PER_PICTURE, 2)
    assert both.compared == 0, "no two vendors count pictures alike"


def test_it_comes_near_what_a_model_counts() -> None:
    estimate = InputEstimate()
    for _ in range(60):
        estimate.learn(1000, 1400)
    assert estimate.of(1000) == pytest.approx(1400, rel=0.01)


@pytest.mark.parametrize(("counted", "factor"), [(10_000, 2.0), (1, 0.5)])
def test_it_believes_nothing_odd(counted: int, factor: float) -> None:
    estimate = InputEstimate()
    for _ in range(200):
        estimate.learn(1000, counted)
    assert estimate.factor == pytest.approx(factor)


def test_what_is_no_count_teaches_nothing() -> None:
    estimate = InputEstimate()
    estimate.learn(1000, 0)
    estimate.learn(0, 1000)
    assert estimate.factor == 1.0
