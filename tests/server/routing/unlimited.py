"""A limiter for tests that are about something else."""

from contextlib import AbstractAsyncContextManager, nullcontext

from server.budget import Budget
from server.domain import Usage
from server.routing.base import Admission, CallFacts


class Unlimited:
    """A :class:`~server.routing.base.Limiter` that lets everything through and counts nothing."""

    def __init__(self) -> None:
        # Stateless, so that all calls may share one.
        self._everybody: AbstractAsyncContextManager[Admission] = nullcontext(_Anything())

    def admitted(self, facts: CallFacts, budget: Budget) -> AbstractAsyncContextManager[Admission]:
        """See :meth:`server.routing.base.Limiter.admitted`."""
        return self._everybody


class _Anything:
    def settle(self, usage: Usage | None, *, written_characters: int = 0) -> None:
        """See :meth:`server.routing.base.Admission.settle`."""
