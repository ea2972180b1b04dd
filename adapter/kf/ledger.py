"""How many messages each customer may still be sent, as far as this instance knows.

WeCom takes five messages after each message of a customer, and none after 48 hours
(DOC 96427). In memory only: what is not known is tried, and WeCom's answer is then the
truth. Losing it costs a request, never a message.
"""

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Final
from weakref import WeakValueDictionary

import msgspec
from cachetools import TTLCache

from adapter.kf.wire import MESSAGE_BUDGET, WINDOW_SECONDS, Receiver

_MOST: Final = 50_000
"""Customers remembered; beyond it the least recent are forgotten, which costs what a restart costs."""
_MOST_MESSAGES: Final = 50_000
_OWED_SECONDS: Final = 600.0
"""For which an answer is expected. One that takes longer finds its room without a reservation."""


class _Customer(msgspec.Struct):
    wrote_at: int = 0
    messages: int = 0
    """How many of theirs this instance has heard of."""
    sent: int = 0
    owed: dict[str, float] = msgspec.field(default_factory=dict)
    """Turns that are not answered yet, and since when."""


class Ledger:
    """What was said to and by the customers of one account."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Args: ``clock`` gives POSIX seconds."""
        self._clock = clock
        self._customers: TTLCache[Receiver, _Customer] = TTLCache(_MOST, WINDOW_SECONDS, clock)
        self._messages: TTLCache[str, str] = TTLCache(_MOST_MESSAGES, WINDOW_SECONDS, clock)
        self._order: TTLCache[str, int] = TTLCache(_MOST_MESSAGES, WINDOW_SECONDS, clock)
        self._ended: TTLCache[str, int] = TTLCache(_MOST, WINDOW_SECONDS, clock)
        self._number = itertools.count(1)
        # An event is there as long as somebody waits for it.
        self._waiting: WeakValueDictionary[Receiver, asyncio.Event] = WeakValueDictionary()

    def wrote(self, customer: Receiver, at: int) -> None:
        """Tells of a message of the customer: the counting begins anew, and answers that wait can go.

        Args: ``at`` in POSIX seconds, as WeCom says.
        """
        known = self._known(customer)
        if at < known.wrote_at:
            return
        known.wrote_at = at
        known.messages += 1
        known.sent = 0
        if (waiting := self._waiting.pop(customer, None)) is not None:
            waiting.set()

    def heard(self, customer: Receiver, at: int) -> None:
        """Tells of a message that an answer is for, which another instance may have fetched."""
        if at > self._known(customer).wrote_at:
            self.wrote(customer, at)

    def read(self, turn: str) -> None:
        """Tells that the message of a turn was read; the first reading counts."""
        self._order.setdefault(turn, next(self._number))

    def ended(self, conversation: str, event: str) -> None:
        """Tells that an event was read, after which a person is done with the customer."""
        self._ended[conversation] = max(
            self._ended.get(conversation, 0), self._order.setdefault(event, next(self._number))
        )

    def was_a_persons(self, conversation: str, turn: str) -> bool:
        """Whether a message was written before a person was done with the customer, as far as this instance has read.

        What was read before its start counts as first.
        """
        return self._order.get(turn, 0) < self._ended.get(conversation, 0)

    def owes(self, customer: Receiver, turn: str) -> None:
        """Tells that a turn is going to be answered."""
        owed, now = self._known(customer).owed, self._clock()
        # Here too: an instance that delivers nothing never hears that a turn was answered.
        _forget_before(owed, now - _OWED_SECONDS)
        owed[turn] = now

    def answered(self, customer: Receiver, turn: str) -> None:
        """Tells that nothing more will be sent for a turn."""
        self._known(customer).owed.pop(turn, None)

    def sent(self, customer: Receiver, turn: str, msgid: str) -> None:
        """Counts a message that WeCom has; one that was sent again counts once."""
        if msgid in self._messages:
            return
        self._known(customer).sent += 1
        self._messages[msgid] = turn

    def took(self, msgid: str) -> bool:
        """Whether this instance knows that WeCom has that message."""
        return msgid in self._messages

    def mark(self, customer: Receiver) -> int:
        """Changes with every message of the customer; for :meth:`exhausted`."""
        return self._known(customer).messages

    def exhausted(self, customer: Receiver, mark: int) -> None:
        """Tells that WeCom takes no more until the customer writes again.

        Args: ``mark`` of before WeCom was asked: if they wrote meanwhile, its refusal says nothing any more.
        """
        known = self._known(customer)
        if known.messages == mark:
            known.sent = MESSAGE_BUDGET

    def room(self, customer: Receiver, turn: str) -> int:
        """Messages that may be sent for a turn now; one is left for each other turn that is owed an answer."""
        known = self._known(customer)
        left = MESSAGE_BUDGET - known.sent
        if left <= 0:
            return 0
        _forget_before(known.owed, self._clock() - _OWED_SECONDS)
        return max(1, left - sum(other != turn for other in known.owed))

    def window_left(self, customer: Receiver) -> float:
        """Seconds in which the customer can still be sent something; all of them when it is not known."""
        wrote_at = self._known(customer).wrote_at
        return WINDOW_SECONDS - (self._clock() - wrote_at) if wrote_at else WINDOW_SECONDS

    async def until_written(self, customer: Receiver, seconds: float) -> bool:
        """Waits for the customer's next message, or :meth:`wake`; whether that came."""
        event = self._waiting.get(customer)
        if event is None:
            event = self._waiting[customer] = asyncio.Event()
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await event.wait()
        except TimeoutError:
            return False
        return True

    def wake(self) -> None:
        """Ends the waiting of all, as if their customers had written."""
        for event in list(self._waiting.values()):
            event.set()
        self._waiting.clear()

    def turn_of(self, msgid: str) -> str:
        """The turn that one of our messages was for; empty if that is not known any more."""
        return self._messages.get(msgid, "")

    def _known(self, customer: Receiver) -> _Customer:
        known = self._customers.get(customer)
        if known is None:
            known = self._customers[customer] = _Customer()
        return known


def _forget_before(owed: dict[str, float], since: float) -> None:
    """Drops turns that are owed for too long. The oldest stand first."""
    while owed and (first := next(iter(owed))) and owed[first] < since:
        del owed[first]
