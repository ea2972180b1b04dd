"""Which conversations the disk is asked about."""

from server.store import handed_off
from server.store.handed_off import MaybeHandedOff


def test_only_what_may_be_handed_off_is_asked_about() -> None:
    maybe = MaybeHandedOff(["a"])
    maybe.add("b")
    assert [name in maybe for name in "abc"] == [True, True, False]


def test_with_too_many_names_every_one_is_asked_about() -> None:
    most = handed_off.MOST_NAMES
    maybe = MaybeHandedOff(str(number) for number in range(most))
    assert "other" not in maybe
    maybe.add("one more")
    assert "other" in maybe
    for number in range(10):
        maybe.add(f"more {number}")
    assert len(maybe._names) == most + 1
