"""How long a call may take, and how many there may be."""

from typing import Any, Final, cast

from server.budget import Budget, Clock
from server.errors import Overloaded
from server.rpc.call import current
from server.rpc.interceptors.wrap import Behaviour, Context, Method

_RETRY_AFTER_SECONDS: Final = 1.0
_LONGEST_SECONDS: Final = 600.0
"""A deadline beyond this is no promise that anybody is still waiting."""


class BudgetGate:
    """Gives each call its budget, and refuses those above a number at a time.

    gRPC has such a limit of its own (``maximum_concurrent_rpcs``), which is not used: its
    refusal says neither why nor when to come back, and in some releases (1.78 among them)
    each refusal makes it laxer.
    """

    def __init__(self, max_calls: int, turn_timeout: float, clock: Clock) -> None:
        """Args: calls at a time, streams included, and seconds for a caller without a deadline."""
        self._max_calls = max_calls
        self._turn_timeout = turn_timeout
        self._longest = max(turn_timeout, _LONGEST_SECONDS)
        self._clock = clock
        self.calls = 0
        """How many are under way."""

    def __call__(self, method: Method, inner: Behaviour) -> Behaviour:
        if method.is_health:
            return inner

        async def behaviour(request: Any, context: Context) -> Any:
            if self.calls >= self._max_calls:
                raise Overloaded(_RETRY_AFTER_SECONDS)
            self.calls += 1
            try:
                current.get().budget = self._budget(context)
                return await inner(request, context)
            finally:
                self.calls -= 1

        return behaviour

    def _budget(self, context: Context) -> Budget:
        left = cast("float | None", context.time_remaining())  # None without a deadline, whatever the stub says
        return Budget(self._turn_timeout if left is None else min(left, self._longest), self._clock)
