"""How many tokens a prompt takes at one model: an estimate that learns."""

from typing import Final, NamedTuple

from server.llm.base import Prompt
from server.tokens import estimate_message

TOKENS_PER_PICTURE: Final = 1000
"""Vendors count from 258 to some 1,300 for one of usual size."""

_SHARE_OF_NEWEST: Final = 0.1
_LEAST: Final = 0.5
_MOST: Final = 2.0


class Length(NamedTuple):
    """How long a prompt is, for a model of which nothing is known."""

    tokens: int
    """Those of pictures included."""
    pictures: int

    @property
    def compared(self) -> int:
        """Tokens that may be held against what a model counts; 0 where pictures make that meaningless."""
        return 0 if self.pictures else self.tokens


def length_of(prompt: Prompt) -> Length:
    """Measured once for all attempts of a turn."""
    tokens = pictures = 0
    for message in prompt.messages:
        tokens += estimate_message(message.text)
        if message.images:
            pictures += len(message.images)
    return Length(tokens + TOKENS_PER_PICTURE * pictures, pictures)


class InputEstimate:
    """Corrects the rough estimate by what a model has counted lately: a moving average from half to double."""

    __slots__ = ("factor",)

    def __init__(self) -> None:
        self.factor = 1.0

    def of(self, rough: int) -> int:
        """Tokens, corrected."""
        return round(rough * self.factor)

    def learn(self, rough: int, counted: int) -> None:
        """The model counted a prompt; 0 of either is not a count."""
        if rough > 0 and counted > 0:
            newest = min(_MOST, max(_LEAST, counted / rough))
            self.factor += _SHARE_OF_NEWEST * (newest - self.factor)
