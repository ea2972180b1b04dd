import pytest

from program.health import Health


def test_nothing_is_ready_by_being_forgotten() -> None:
    assert not Health().ready
    health = Health("store", "models")
    health.mark("store", ready=True)
    assert not health.ready
    health.mark("models", ready=True)
    assert health.ready
    health.add("late")
    assert not health.ready
    assert health.parts == {"store": True, "models": True, "late": False}
    with pytest.raises(KeyError):
        health.mark("stoer", ready=True)


def test_listeners_hear_changes_of_the_whole_only() -> None:
    heard: list[bool] = []
    health = Health("a", "b")
    health.on_change(heard.append)
    for part, ready in [("a", True), ("b", True), ("b", True), ("a", False), ("b", False), ("b", True), ("a", True)]:
        health.mark(part, ready=ready)
    assert heard == [False, True, False, True]
