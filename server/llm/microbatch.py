"""Many small asks share one call to a backend.

An ask waits only while it gains something by it. With no call under way it goes at
once, together with whatever else was asked for in the same turn of the event loop.
While calls are under way, asks gather, and go when a call ends, when there are enough
of them for a full one, or when the first has waited for the window: whichever is first.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Final, Generic, Protocol, TypeVar

from server.budget import Budget
from server.llm.base import ErrorClass, ProviderError

Item = TypeVar("Item")
Result = TypeVar("Result")
Error = TypeVar("Error", bound=BaseException)

SharedCall = Callable[[Sequence[Item], Budget], Coroutine[object, object, Sequence[Result | ProviderError]]]
"""One call for one to N items. Gives, in the order of the items, a result or what became of that item alone;
raises ``ProviderError`` where all of them failed. The budget is the longest of those who wait."""

LARGEST_QUEUE: Final = 1024
"""Asks that may wait for a call to begin, where nothing else is said."""

CALLS_AT_A_TIME: Final = 4
"""Calls under way at a time, where nothing else is said."""


class Later(Protocol):
    """Something that will happen, and can be called off: a timer of the event loop."""

    def cancel(self) -> object: ...


def _later(seconds: float, happen: Callable[[], object]) -> Later:
    return asyncio.get_running_loop().call_later(seconds, happen)


class _Ask(Generic[Item, Result]):
    """One item, who waits for its result, and the call it went with."""

    __slots__ = ("budget", "call", "future", "item")

    def __init__(self, item: Item, budget: Budget, future: "asyncio.Future[Result]") -> None:
        self.item = item
        self.budget = budget
        self.future = future
        self.call: _Call[Item, Result] | None = None


class _Call(Generic[Item, Result]):
    """A call under way, and how many still wait for it."""

    __slots__ = ("asks", "task", "waiting")

    def __init__(
        self, asks: "list[_Ask[Item, Result]]", task: "asyncio.Task[Sequence[Result | ProviderError]]"
    ) -> None:
        self.asks = asks
        self.task = task
        self.waiting = len(asks)

    def outcomes(self) -> Sequence[Result | BaseException]:
        """What each of those who shared the call gets, now that it has ended."""
        count = len(self.asks)
        if self.task.cancelled():
            return [_closed() for _ in range(count)]
        error = self.task.exception()
        if error is not None:
            return [own_copy(error) for _ in range(count)]
        results = self.task.result()
        if len(results) != count:
            told = f"the shared call gave {len(results)} results for {count} items"
            return [ProviderError(ErrorClass.INCOMPLETE, told) for _ in range(count)]
        return results


class MicroBatcher(Generic[Item, Result]):
    """Gathers asks for one backend into calls; each asker gets the result of its own item.

    An asker that is cancelled, or runs out of budget, leaves the others alone. A call
    that nobody waits for any more is cancelled. Belongs to one event loop; whoever made
    it closes it.
    """

    def __init__(
        self,
        call: SharedCall[Item, Result],
        *,
        size: int,
        seconds: float,
        calls: int = CALLS_AT_A_TIME,
        capacity: int = LARGEST_QUEUE,
        later: Callable[[float, Callable[[], object]], Later] = _later,
    ) -> None:
        """Args:
        call: makes the shared call.
        size: items in one call at most.
        seconds: how long an ask may wait for others while calls are under way; 0.005 to 0.02 is usual.
        calls: calls under way at a time.
        capacity: asks that may wait for their call to begin before more are refused.
        later: sets a timer, in seconds.

        Raises:
            ValueError: if a number is out of its range.
        """
        if min(size, calls, capacity) < 1 or seconds < 0:
            raise ValueError("size, calls and capacity must be at least 1, seconds at least 0")
        self._call = call
        self._size = size
        self._seconds = seconds
        self._most_calls = calls
        self._capacity = capacity
        self._later = later
        self._queue: deque[_Ask[Item, Result]] = deque()
        self._calls: set[_Call[Item, Result]] = set()
        self._timer: Later | None = None
        self._soon: Later | None = None
        self._closed = False

    @property
    def idle(self) -> bool:
        """Whether nobody waits and no call is under way."""
        return not self._queue and not self._calls

    async def ask(self, item: Item, budget: Budget) -> Result:
        """The result for one item, from a call it may share.

        Raises:
            ProviderError: what became of the item, or of the whole call; TIMEOUT when the budget ends first,
                OVERLOADED when too many wait already, TRANSIENT after :meth:`aclose`. Each asker gets one of
                its own, so that it can be completed on its way up.
        """
        if self._closed:
            raise _closed()
        if len(self._queue) >= self._capacity:
            raise ProviderError(ErrorClass.OVERLOADED, f"{self._capacity} asks wait for a shared call already")
        ask: _Ask[Item, Result] = _Ask(item, budget, asyncio.get_running_loop().create_future())
        self._queue.append(ask)
        self._look()
        try:
            async with asyncio.timeout(budget.remaining()):
                return await ask.future
        except TimeoutError:
            raise ProviderError(ErrorClass.TIMEOUT, "the shared call took too long") from None
        finally:
            self._leave(ask)

    async def aclose(self) -> None:
        """Cancels the calls under way and waits for their ends; all who wait get ``TRANSIENT``. Idempotent."""
        self._closed = True
        self._disarm()
        while self._queue:
            _give(self._queue.popleft(), _closed())
        tasks = [call.task for call in self._calls]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _look(self) -> None:
        """Decides when what is waiting goes. Called whenever that may have changed."""
        if not self._queue:
            self._disarm()
        elif len(self._calls) >= self._most_calls:
            # The end of a call looks again.
            return
        elif not self._calls or len(self._queue) >= self._size:
            self._send_soon()
        elif self._timer is None:
            self._timer = self._later(self._seconds, self._send)

    def _send_soon(self) -> None:
        """Not at once in any case: what the loop has still to do in this turn may ask for more."""
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_soon(self._send)

    def _disarm(self) -> None:
        for due in (self._timer, self._soon):
            if due is not None:
                due.cancel()
        self._timer = self._soon = None

    def _send(self) -> None:
        self._disarm()
        if self._queue and len(self._calls) < self._most_calls:
            asks = [self._queue.popleft() for _ in range(min(self._size, len(self._queue)))]
            budget = max((ask.budget for ask in asks), key=Budget.remaining)
            task = asyncio.create_task(self._call([ask.item for ask in asks], budget))
            call = _Call(asks, task)
            for ask in asks:
                ask.call = call
            self._calls.add(call)
            task.add_done_callback(lambda task: self._ended(call))
        self._look()

    def _leave(self, ask: _Ask[Item, Result]) -> None:
        call = ask.call
        if call is None:
            with suppress(ValueError):  # closing has emptied the queue
                self._queue.remove(ask)
            if not self._closed:
                self._look()
            return
        call.waiting -= 1
        if call.waiting == 0:
            # Does nothing to one that is done. Not awaited: `aclose` does that, if it is still there then.
            call.task.cancel()

    def _ended(self, call: _Call[Item, Result]) -> None:
        self._calls.discard(call)
        if self._queue and not self._closed:
            self._send_soon()
        for ask, outcome in zip(call.asks, call.outcomes(), strict=True):
            _give(ask, outcome)


def own_copy(error: Error) -> Error:
    """The same error for one of several who get it: they would overwrite each other's marks and traceback."""
    own = type(error).__new__(type(error), *error.args)
    own.__dict__.update(error.__dict__)
    own.__cause__ = error
    return own


def _give(ask: _Ask[Item, Result], outcome: Result | BaseException) -> None:
    if ask.future.done():
        return
    if isinstance(outcome, BaseException):
        ask.future.set_exception(outcome)
    else:
        ask.future.set_result(outcome)


def _closed() -> ProviderError:
    return ProviderError(ErrorClass.TRANSIENT, "the backend was closed")
