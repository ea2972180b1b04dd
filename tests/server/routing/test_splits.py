"""Shares of calls, and conversations that stay with their choice."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.routing.splits import Names, Split
from server.settings import SplitSettings

WEIGHTS = SplitSettings(weights={"stable": 90.0, "canary": 10.0, "spare": 0.0})


def names(**splits: SplitSettings) -> Names:
    return Names(("stable", "canary", "spare"), splits, random=lambda: 0.95)


def test_conversations_are_split_by_weight_and_stay() -> None:
    known = names(mix=WEIGHTS)
    chosen = {key: known.resolve("mix", (), key) for key in map(str, range(5000))}
    shares = Counter(order[0] for order in chosen.values())
    assert shares["spare"] == 0
    assert 400 < shares["canary"] < 600
    assert all(known.resolve("mix", (), key) == order for key, order in chosen.items())
    assert {order[1:] for order in chosen.values()} == {("canary", "spare"), ("stable", "spare")}


def test_two_splits_do_not_choose_alike() -> None:
    half = SplitSettings(weights={"stable": 1.0, "canary": 1.0})
    known = names(one=half, two=half)
    both = Counter(
        (known.resolve("one", (), str(key))[0], known.resolve("two", (), str(key))[0]) for key in range(2000)
    )
    assert all(400 < count < 600 for count in both.values())


def test_a_larger_share_moves_only_those_who_move_to_it() -> None:
    more = SplitSettings(weights={"canary": 20.0, "stable": 80.0})
    less = SplitSettings(weights={"canary": 10.0, "stable": 90.0})
    for key in map(str, range(1000)):
        if names(mix=less).resolve("mix", (), key)[0] == "canary":
            assert names(mix=more).resolve("mix", (), key)[0] == "canary"


def test_without_a_key_chance_decides() -> None:
    assert names(mix=WEIGHTS).resolve("mix", (), "")[0] == "canary"


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1e6), min_size=1), st.floats(0, 1, exclude_max=True))
def test_some_arm_with_a_weight_is_always_chosen(weights: dict[str, float], place: float) -> None:
    if not any(weights.values()):
        return
    order = Split("s", SplitSettings(weights=weights)).order(place)
    assert weights[order[0]] > 0
    assert sorted(order) == sorted(weights)


def test_places_are_below_one() -> None:
    split = Split("s", WEIGHTS)
    assert all(0 <= split.place(str(key)) < 1 for key in range(1000))


def test_names_are_resolved_in_order_and_once() -> None:
    known = names(mix=WEIGHTS)
    assert known.resolve("spare", ("mix", "stable", "nobody"), "k") in (
        ("spare", "stable", "canary"),
        ("spare", "canary", "stable"),
    )
    assert known.resolve("nobody", (), "k") == ()
    assert known.resolve("stable", (), "k") == ("stable",)


@pytest.mark.parametrize(
    ("name", "weights", "field"),
    [
        ("mix", {"nobody": 1.0}, "splits.mix.weights: there is no model 'nobody'"),
        ("mix", {"stable": -1.0, "canary": 2.0}, "splits.mix.weights.stable: must be 0 or more"),
        ("mix", {"stable": 0.0}, "splits.mix.weights: must have a model"),
        ("mix", {}, "splits.mix.weights: must have a model"),
        ("stable", {"canary": 1.0}, "splits.stable: a model has that name too"),
    ],
)
def test_splits_that_cannot_work(name: str, weights: dict[str, float], field: str) -> None:
    with pytest.raises(ValueError, match="splits") as caught:
        names(**{name: SplitSettings(weights=weights)})
    assert str(caught.value).startswith(field)
