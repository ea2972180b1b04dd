"""One at a time, in order of arrival, whatever leaves early."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import ConversationBusy
from server.turn.lane import Lanes, Ticket


async def test_the_first_does_not_wait() -> None:
    ticket = Lanes(max_waiting=0).enter("a")
    assert ticket.first
    await ticket.come_first()


async def test_the_line_moves_in_order_of_arrival() -> None:
    lanes = Lanes(max_waiting=10)
    order: list[int] = []

    async def pass_through(number: int, ticket: Ticket) -> None:
        await ticket.come_first()
        order.append(number)
        ticket.leave()

    tickets = [lanes.enter("a") for _ in range(10)]
    await asyncio.gather(*(pass_through(n, t) for n, t in reversed(list(enumerate(tickets)))))
    assert order == list(range(10))


async def test_conversations_do_not_wait_for_each_other() -> None:
    lanes = Lanes(max_waiting=1)
    lanes.enter("a")
    assert lanes.enter("b").first


def test_a_full_line_says_so_with_its_limit() -> None:
    lanes = Lanes(max_waiting=2)
    for _ in range(3):
        lanes.enter("a")
    with pytest.raises(ConversationBusy) as caught:
        lanes.enter("a")
    assert caught.value.metadata == {"limitTurns": "2"}
    assert caught.value.retry_after
    assert not lanes.enter("a", always=True).first


def test_leaving_twice_is_leaving_once() -> None:
    lanes = Lanes(max_waiting=2)
    first, second, third = (lanes.enter("a") for _ in range(3))
    first.leave()
    first.leave()
    assert second.first
    assert not third.first


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=40))
def test_exactly_one_is_first_in_every_line_that_is_not_empty(steps: list[tuple[int, bool]]) -> None:
    lanes = Lanes(max_waiting=100)
    lines: dict[int, list[Ticket]] = {}
    for conversation, enter in steps:
        line = lines.setdefault(conversation, [])
        if enter or not line:
            line.append(lanes.enter(str(conversation)))
        else:
            line.pop(len(line) // 2).leave()
        for tickets in lines.values():
            assert [ticket.first for ticket in tickets] == [True, *[False] * (len(tickets) - 1)][: len(tickets)]
