"""The caller's trace (W3C ``traceparent``) goes on here."""

from collections.abc import Mapping
from typing import Any

from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from server.ops.tracing import trace_id
from server.rpc.call import current
from server.rpc.interceptors.wrap import Behaviour, Context, Method
from server.rpc.status import outcome_of

_KEYS = frozenset({"traceparent", "tracestate"})


class Trace:
    """A span a call, where there is a tracer; else only the id of the caller's trace, for the journal."""

    def __init__(self, tracer: Tracer | None) -> None:
        """Args: ``None`` for no spans (``server/ops/tracing.py``)."""
        self._tracer = tracer
        self._propagator = TraceContextTextMapPropagator()

    def __call__(self, method: Method, inner: Behaviour) -> Behaviour:
        if method.is_health:
            return inner
        tracer = self._tracer

        async def noted(request: Any, context: Context) -> Any:
            carrier = _carrier(context)
            if carrier:
                current.get().trace_id = trace_id(carrier.get("traceparent", ""))
            if tracer is None:
                return await inner(request, context)
            return await self._in_span(tracer, method, carrier, inner, request, context)

        return noted

    async def _in_span(
        self,
        tracer: Tracer,
        method: Method,
        carrier: Mapping[str, str],
        inner: Behaviour,
        request: Any,
        context: Context,
    ) -> Any:
        parent = self._propagator.extract(carrier)
        attributes = {"rpc.system": "grpc", "rpc.service": method.service, "rpc.method": method.name}
        with tracer.start_as_current_span(
            f"{method.service}/{method.name}",
            context=parent,
            kind=SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,  # an exception's text may quote what people wrote
            set_status_on_exception=False,
        ) as span:
            try:
                response = await inner(request, context)
            except BaseException as error:
                code = outcome_of(error, context)
                span.set_attribute("rpc.grpc.status_code", code.value[0])
                span.set_status(Status(StatusCode.ERROR, code.name))
                raise
            span.set_attribute("rpc.grpc.status_code", 0)
            return response


def _carrier(context: Context) -> dict[str, str]:
    metadata = context.invocation_metadata() or ()
    return {key: value for key, value in metadata if key in _KEYS and isinstance(value, str)}
