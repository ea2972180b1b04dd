"""Counts calls."""

from collections.abc import Callable
from typing import Any

from server.ops.metrics import Metrics
from server.rpc.call import current
from server.rpc.interceptors.wrap import Behaviour, Context, Method
from server.rpc.status import outcome_of


class Meter:
    """Calls by method and code, their seconds, how many are under way, messages on streams."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float]) -> None:
        """Args: ``clock`` gives seconds that only grow."""
        self._metrics = metrics
        self._clock = clock

    def __call__(self, method: Method, inner: Behaviour) -> Behaviour:
        meter, clock = self._metrics.method(method.short), self._clock

        async def behaviour(request: Any, context: Context) -> Any:
            began = clock()
            meter.began()
            try:
                response = await inner(request, context)
            except BaseException as error:
                meter.ended(outcome_of(error, context).name, clock() - began, current.get().messages_out)
                raise
            meter.ended("OK", clock() - began, current.get().messages_out)
            return response

        return behaviour
