"""``grpc.health.v1.Health`` on the wire."""
# ruff: noqa: N802  # RPCs are named as in the contract

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from grpc_health.v1 import health_pb2, health_pb2_grpc

from program.health import Health
from server.errors import ResourceNotFound
from server.rpc.interceptors.wrap import Context

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN: Final = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # the package carries no types
    """Every service of the port is as ready as the program.

    Not the one that ships with gRPC: a stream that watches would hold a drain back until
    its grace is over, so watching ends here where the drain begins, behind ``NOT_SERVING``.
    """

    def __init__(self, ready: Health, services: Sequence[str]) -> None:
        """Args: whose readiness to report, and for which services beside the server as a whole."""
        self._ready = ready
        self._services = frozenset({"", *services})
        self._leaving = False
        self._changed = asyncio.Event()
        ready.on_change(lambda _: self._wake())

    def leave(self) -> None:
        """Says ``NOT_SERVING`` for good, and lets the watchers go."""
        self._leaving = True
        self._wake()

    async def Check(self, request: Any, context: Context) -> Any:
        """The status now."""
        if request.service not in self._services:
            raise ResourceNotFound(request.service)
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def Watch(self, request: Any, context: Context) -> None:
        """The status now, and each other one from then on."""
        told = None
        while True:
            changed, leaving, status = self._changed, self._leaving, self._status(request.service)
            if status != told:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                told = status
            if leaving:
                return
            await changed.wait()

    def _status(self, service: str) -> int:
        if service not in self._services:
            return int(_UNKNOWN)
        return int(_SERVING if self._ready.ready and not self._leaving else _NOT_SERVING)

    def _wake(self) -> None:
        # A new event for the next change: whoever holds the old one has not seen this change yet.
        self._changed.set()
        self._changed = asyncio.Event()
