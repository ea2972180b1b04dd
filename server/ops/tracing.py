"""Traces, where an operator has installed a tracing SDK; nothing at all where not.

Only the API of OpenTelemetry is a dependency. An SDK that is present announces itself
through the standard means (``OTEL_PYTHON_TRACER_PROVIDER``, or ``opentelemetry-instrument``
in front of the program), and its exporters are configured by its own ``OTEL_*`` variables.
"""

import re
from typing import Final

from opentelemetry import trace

_NAME: Final = "weconverse.server"

TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})").match
"""Reads a W3C ``traceparent``: trace id, parent id, flags. Later versions may append to it."""


def tracer() -> trace.Tracer | None:
    """The tracer of the installed SDK, or ``None``, so that whoever traces can leave it out altogether."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None
    return provider.get_tracer(_NAME)


def trace_id(traceparent: str) -> str:
    """The trace of a ``traceparent``, as 32 hexadecimal digits; empty if it is not one."""
    found = TRACEPARENT(traceparent)
    return found.group(1) if found is not None and found.group(1).strip("0") else ""
