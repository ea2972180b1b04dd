"""A second opinion that does what the test says."""

from server.budget import Budget
from server.filter.entries import Action, Direction
from server.filter.moderated_text import Moderation
from server.filter.moderation import Opinion
from server.settings import ModerationSettings


class Judge:
    """A second opinion that stops what has a word in it."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.asked: list[tuple[str, Direction]] = []

    async def opinion(self, text: str, direction: Direction, assistant: str, budget: Budget) -> Opinion:
        self.asked.append((text, direction))
        return Opinion(Action.BLOCK if self.word in text else Action.PASS)


def second_opinion(judge: Judge) -> Moderation:
    return Moderation(judge, ModerationSettings(url="http://127.0.0.1:1", window_characters=10, least_characters=4))
