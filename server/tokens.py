"""How many tokens a text takes, by estimate. Pure, and without any tokenizer's data.

Three quarters of a token for a Chinese, Japanese, Korean or full-width character, and
one for 3.5 of the others. Measured on Chinese, mixed and English text, that lies above
what o200k, Qwen and DeepSeek count, and up to 27 % below cl100k.
"""

import functools
import math
import re
from typing import Final

TOKENS_PER_MESSAGE: Final = 4
"""What a message costs beside its text."""

_KEPT_CHARACTERS: Final = 2048
"""Longer texts are counted anew each time, so that what is kept has a bound (some 16 MiB at the very most)."""

_WIDE: Final = re.compile(
    "[\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef\U0001f300-\U0001faff\U00020000-\U0003ffff]+"
)


def estimate(text: str) -> int:
    """Tokens of a text, rounded up; 0 for none."""
    if text.isascii():
        return math.ceil(len(text) / 3.5)
    # Taking runs out at once is many times faster than looking at characters.
    narrow = len(_WIDE.sub("", text))
    return math.ceil(0.75 * (len(text) - narrow) + narrow / 3.5)


@functools.lru_cache(maxsize=4096)
def _known_message(text: str) -> int:
    return estimate(text) + TOKENS_PER_MESSAGE


def estimate_message(text: str) -> int:
    """Tokens of a message with this text.

    Instructions and remembered rounds are asked about with every turn: what is short enough
    to keep is counted once.
    """
    return _known_message(text) if len(text) <= _KEPT_CHARACTERS else estimate(text) + TOKENS_PER_MESSAGE
