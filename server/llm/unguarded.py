"""Backends that ask nobody who they are: what has to stand in for that. Pure, but for certificates that are read."""

from server.llm.grpc_channel import Endpoint
from server.settings import ModelSettings


def require_protection(target: str, settings: ModelSettings, *, mutual: bool) -> None:
    """Checks that a server without keys of its own is on this machine, or behind TLS.

    Args:
        target: the address as ``host:port`` or ``unix:path``.
        settings: those of the model; what they say of TLS counts.
        mutual: whether the server must be shown a certificate, because nothing else could tell who calls.

    Raises:
        ValueError: if it is not. The message begins with the field.
    """
    endpoint = Endpoint(target, settings)
    if endpoint.local:
        return
    if not endpoint.encrypted:
        raise ValueError(
            f"tls: {target} is not on this machine, and its protocol has no keys; "
            "put a proxy with TLS in front of it and leave tls unset"
        )
    if mutual and not settings.certificate_file:
        raise ValueError(
            f"certificate_file: {target} is not on this machine, and its protocol has no keys; "
            "put a proxy in front of it that asks for a client certificate, and name that one here"
        )
