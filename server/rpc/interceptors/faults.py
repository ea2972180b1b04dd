"""What leaves a handler as an exception reaches the caller as a status, and nothing else does."""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import grpc
import structlog

from server.errors import DomainError, InternalError, ShuttingDown
from server.rpc.interceptors.wrap import Behaviour, Context, Method
from server.rpc.status import abort, cancelled_here

_log = structlog.get_logger()


def new_error_id() -> str:
    """Twelve hexadecimal digits that lead from a caller's error to the line in the log."""
    return uuid.uuid4().hex[:12]


class Faults:
    """Stands outermost. The only place that aborts a call."""

    def __init__(self, new_id: Callable[[], str] = new_error_id) -> None:
        """Args: what makes error ids."""
        self._new_id = new_id

    def __call__(self, method: Method, inner: Behaviour) -> Behaviour:
        async def behaviour(request: Any, context: Context) -> Any:
            try:
                return await inner(request, context)
            except DomainError as error:
                await abort(context, error)
            except (grpc.aio.AbortError, grpc.aio.InternalError):
                # A call that was ended on purpose (by the health service), or whose caller
                # left in the middle of a write: gRPC knows both and wants to see them.
                raise
            except asyncio.CancelledError:
                if cancelled_here():
                    raise
                # Something awaited was cancelled, not this call. Passed on as it is, gRPC
                # would send nothing and the caller would wait for its deadline, or for ever.
                _log.warning("stray_cancellation", method=method.short)
                await abort(context, ShuttingDown())
            except Exception as error:  # noqa: BLE001  # the one boundary of the wire: whatever it is, the caller gets a status
                error_id = self._new_id()
                _log.error("call_crashed", method=method.short, error_id=error_id, exc_info=error)
                await abort(context, InternalError(error_id))

        return behaviour
