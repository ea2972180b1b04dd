import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.tokens import TOKENS_PER_MESSAGE, estimate, estimate_message


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a", 1),
        ("hello world, again", 6),
        ("你", 1),
        ("你好世界", 3),
        ("你好。", 3),
        ("ＡＢＣＤ", 3),
        ("你好 hello", 4),
        ("日本語カナ한국", 6),
        ("😀😀", 2),
        ("Привет", 2),
    ],
)
def test_estimates(text: str, tokens: int) -> None:
    assert estimate(text) == tokens
    assert estimate_message(text) == tokens + TOKENS_PER_MESSAGE


@given(st.text(), st.text())
def test_more_text_is_never_less(one: str, other: str) -> None:
    assert estimate(one) <= estimate(one + other) <= estimate(one) + estimate(other)
    assert math.ceil(len(one) / 3.5) <= estimate(one) <= len(one)


def test_long_text_is_no_work() -> None:
    text = "请说明 WeCom 的 API 限制,谢谢。" * 20_000
    began = time.process_time()
    estimate(text)
    assert time.process_time() - began < 1.0
