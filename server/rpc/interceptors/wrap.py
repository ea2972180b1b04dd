"""How one concern is put around every handler.

An interceptor of gRPC sees a handler being looked up, not run. What runs is the handler's
behaviour, so that is what is wrapped: each concern is an :data:`Around`, a function that
takes a behaviour and gives one. All of them are put around a method once, when it is
first called, and kept: a call then costs the concerns themselves, and gRPC's own
interceptors are not used.

Only coroutines are wrapped. An async generator would be closed outside of its call, in
another task and another context, where what the concerns left behind cannot be taken
away again; so streaming handlers are coroutines that ``await context.write(...)``.
"""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import grpc
import msgspec

from server.rpc.call import Call, current, received_bytes

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Behaviour: TypeAlias = Callable[[Any, Context], Awaitable[Any]]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Method(msgspec.Struct, frozen=True):
    """An RPC: ``weconverse.v1.ConversationService`` and ``Converse``."""

    service: str
    name: str

    @classmethod
    def of_path(cls, path: str) -> "Method":
        """The method of ``/service/name``."""
        service, _, name = path.removeprefix("/").partition("/")
        return cls(service, name)

    @property
    def short(self) -> str:
        """For logs and metrics: ``ConversationService/Converse``."""
        return f"{self.service.rpartition('.')[2]}/{self.name}"

    @property
    def is_health(self) -> bool:
        """Whether a balancer asks: without credentials, often, and not to be refused for load."""
        return self.service == "grpc.health.v1.Health"

    @property
    def is_admin(self) -> bool:
        """Whether it is for administrators alone."""
        return self.service == "weconverse.v1.AdminService"


Around: TypeAlias = Callable[[Method, Behaviour], Behaviour]
"""One concern: takes a method and what it does, and gives what it does then."""


def wrap(handler: Handler, around: Callable[[Behaviour], Behaviour]) -> Handler:
    """The handler with ``around`` put around its behaviour.

    Raises:
        TypeError: for a handler that is not a coroutine.
    """
    make, behaviour = _parts(handler)
    if not inspect.iscoroutinefunction(behaviour):
        raise TypeError(
            f"{behaviour!r} is not a coroutine; streaming handlers await context.write(...) instead of yield"
        )
    wrapped: Handler = make(around(behaviour), _weighing(handler.request_deserializer), handler.response_serializer)
    return wrapped


def _weighing(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    """Notes how much came over the line. It is read in the task of the call; asking the message would encode it."""

    def weigh(data: bytes) -> Any:
        received_bytes.set(len(data))
        return data if deserialize is None else deserialize(data)

    return weigh


def _parts(handler: Handler) -> tuple[Callable[..., Handler], Any]:
    if handler.request_streaming:
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler, handler.stream_stream
        return grpc.stream_unary_rpc_method_handler, handler.stream_unary
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler, handler.unary_stream
    return grpc.unary_unary_rpc_method_handler, handler.unary_unary


class Registrar:
    """Stands in for the server while services are added, and puts all concerns around their handlers.

    An interceptor of gRPC would do that too, and would run at every lookup: without one, a
    call is looked up without a coroutine of its own.
    """

    def __init__(self, server: grpc.aio.Server, arounds: Sequence[Around]) -> None:
        """Args: the concerns, outermost first."""
        self._server = server
        self._arounds = tuple(arounds)

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """What generated code calls with the handlers of a service."""
        self._server.add_generic_rpc_handlers(tuple(_Wrapped(handler, self._around) for handler in handlers))

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Handler]) -> None:
        """What generated code calls too. The asyncio server has no use for it."""

    def _around(self, method: Method, behaviour: Behaviour) -> Behaviour:
        for around in reversed(self._arounds):
            behaviour = around(method, behaviour)
        inner = behaviour

        async def call(request: Any, context: Context) -> Any:
            current.set(Call())
            return await inner(request, context)

        return call


class _Wrapped(grpc.GenericRpcHandler):
    """The handlers of a service, each wrapped when it is first called."""

    def __init__(self, inner: grpc.GenericRpcHandler, around: Around) -> None:
        self._inner = inner
        self._around = around
        self._known: dict[str, Handler] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "Handler | None":
        """Looks a method up; an unknown one is not kept, so that nobody can fill the memory with names."""
        path: str = handler_call_details.method
        known = self._known.get(path)
        if known is None:
            handler = self._inner.service(handler_call_details)
            if handler is None:
                return None
            method = Method.of_path(path)
            known = self._known[path] = wrap(handler, lambda behaviour: self._around(method, behaviour))
        return known
