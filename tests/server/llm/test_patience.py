"""How long the next piece of a reply may take, by how far it has come."""

import pytest

from server.budget import Budget
from server.llm.patience import DRAIN_SECONDS, END_GRACE_SECONDS, Patience
from server.settings import ModelSettings


class Come:
    def __init__(self, *, arrived: bool = False, finished: bool = False, done: bool = False) -> None:
        self.arrived, self.finished, self.done = arrived, finished, done


NOTHING, TEXT = Come(), Come(arrived=True)
FINISHED, DONE = Come(arrived=True, finished=True), Come(arrived=True, finished=True, done=True)

SETTINGS = ModelSettings(first_token_seconds=20.0, idle_seconds=30.0, total_seconds=100.0)


@pytest.mark.parametrize(
    ("reply", "after", "seconds"),
    [
        (NOTHING, 0.0, 20.0),
        (NOTHING, 15.0, 5.0),
        (NOTHING, 25.0, 0.0),
        (TEXT, 25.0, 30.0),
        (TEXT, 90.0, 10.0),
        (FINISHED, 25.0, END_GRACE_SECONDS),
        (FINISHED, 99.0, 1.0),
        (DONE, 25.0, DRAIN_SECONDS),
        (DONE, 101.0, 0.0),
    ],
)
def test_each_piece_has_its_time(reply: Come, after: float, seconds: float) -> None:
    now = [1000.0]
    patience = Patience(SETTINGS, Budget(3600, clock=lambda: now[0]))
    now[0] += after
    assert patience.seconds(reply) == pytest.approx(seconds)


def test_the_budget_goes_before_every_setting() -> None:
    patience = Patience(SETTINGS, Budget(7.0, clock=lambda: 0.0))
    assert [patience.seconds(reply) for reply in (NOTHING, TEXT)] == [7.0, 7.0]
