"""How much memory large requests may take together.

gRPC receives a request whole before anybody is asked, and keeps it until its call ends: so
those that are under way are counted, by their size, and one that would be too many is
refused with ``OVERLOADED``, whereupon its memory is free again. Its caller comes back, and
a channel's message stays with its platform meanwhile. A request takes three to four times
its size here: what came over the line, the message, the bytes in it, and what is worked out
of them; reading happens elsewhere (``server/media``), a few files at a time.

What this does not bound is what gRPC itself receives at the same moment. Python has no
hold on that; callers are the company's own services, and those that send files, such as the
adapter, have a bound of their own on what they hold.
"""

from typing import Any, Final

from server.errors import Overloaded
from server.rpc.call import received_bytes
from server.rpc.interceptors.wrap import Behaviour, Context, Method

LARGE_BYTES: Final = 256 << 10
"""Smaller requests are not counted: ``max_calls`` bounds them."""

_RETRY_AFTER_SECONDS: Final = 1.0


class WeightGate:
    """Counts the bytes of large requests under way."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.bytes = 0
        """Of all large requests under way."""

    def __call__(self, method: Method, inner: Behaviour) -> Behaviour:
        if method.is_health:
            return inner

        async def behaviour(request: Any, context: Context) -> Any:
            # Of a stream of requests nothing has come yet; its messages are small by their checks.
            size = received_bytes.get()
            if size < LARGE_BYTES:
                return await inner(request, context)
            if self.bytes + size > self._max_bytes:
                raise Overloaded(_RETRY_AFTER_SECONDS)
            self.bytes += size
            try:
                return await inner(request, context)
            finally:
                self.bytes -= size

        return behaviour
