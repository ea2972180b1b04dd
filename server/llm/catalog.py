"""Makes the backends that the settings name. The only file of this room that names them all."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from server.llm.anthropic.backend import AnthropicHttpProvider
from server.llm.base import Backend
from server.llm.endpoint import ModelEndpoint, endpoint_of
from server.llm.engine.backend import sglang_backend, vllm_backend
from server.llm.gemini.grpc_backend import GeminiGrpcBackend
from server.llm.gemini.http_backend import GeminiHttpProvider
from server.llm.kserve.backend import KserveBackend
from server.llm.openai.backend import OpenAiHttpProvider
from server.llm.openai.chat_batch import BatchedChat
from server.llm.provider_grpc import ProviderServiceBackend
from server.llm.script import SHIPPED, Script, load_script
from server.llm.scripted import ScriptedProvider
from server.llm.weconverse_grpc import WeConverseBackend
from server.llm.xai_grpc import XaiGrpcBackend
from server.settings import ModelSettings


def build_backends(settings: Mapping[str, ModelSettings], node_id: str = "") -> dict[str, Backend]:
    """A backend for each entry of ``models``. Opens no connection yet.

    Args:
        node_id: this server's name among servers that stand in front of one another.

    Raises:
        ValueError: for an entry that cannot work. The message begins with the field,
            such as ``models.default.base_url``, and says what to do.
    """
    return {name: _backend(endpoint_of(name, entry), node_id) for name, entry in settings.items()}


def _backend(endpoint: ModelEndpoint, node_id: str) -> Backend:
    build = _BUILDERS.get(endpoint.protocol)
    if build is None:
        spoken = ", ".join(_BUILDERS)
        raise ValueError(
            f"models.{endpoint.name}.protocol: {endpoint.protocol} is not spoken here; take one of {spoken}"
        )
    if endpoint.settings.batch != "none" and endpoint.protocol != "openai_chat":
        raise ValueError(
            f"models.{endpoint.name}.batch: {endpoint.protocol} cannot share calls, only openai_chat can; "
            'set batch = "none"'
        )
    return build(endpoint, node_id)


def _openai(endpoint: ModelEndpoint, node_id: str) -> Backend:
    plain = OpenAiHttpProvider(endpoint)
    return plain if endpoint.settings.batch == "none" else BatchedChat(plain, endpoint)


def _anthropic(endpoint: ModelEndpoint, node_id: str) -> Backend:
    return AnthropicHttpProvider(endpoint)


def _gemini(endpoint: ModelEndpoint, node_id: str) -> Backend:
    return GeminiHttpProvider(endpoint)


def _edge(endpoint: ModelEndpoint, node_id: str) -> Backend:
    entry = msgspec.structs.replace(endpoint.settings, target=endpoint.address)
    try:
        return WeConverseBackend(endpoint.name, entry, node_id)
    except ValueError as error:
        raise ValueError(f"models.{endpoint.name}.{error}") from error


def _over_grpc(make: Callable[[ModelEndpoint], Backend]) -> Callable[[ModelEndpoint, str], Backend]:
    """A builder whose errors begin with the field of the entry and not with the entry."""

    def build(endpoint: ModelEndpoint, node_id: str) -> Backend:
        try:
            return make(endpoint)
        except ValueError as error:
            raise ValueError(f"models.{endpoint.name}.{error}") from error

    return build


def _scripted(endpoint: ModelEndpoint, node_id: str) -> Backend:
    return ScriptedProvider(endpoint.name, endpoint.settings, _script(endpoint.name, endpoint.settings))


def _script(name: str, entry: ModelSettings) -> Script:
    try:
        return load_script(Path(entry.script_file) if entry.script_file else SHIPPED)
    except (OSError, ValueError) as error:
        raise ValueError(f"models.{name}.script_file: {error}") from error


_BUILDERS: Final[Mapping[str, Callable[[ModelEndpoint, str], Backend]]] = {
    "openai_chat": _openai,
    "anthropic_messages": _anthropic,
    "gemini": _gemini,
    "xai_chat": _over_grpc(XaiGrpcBackend),
    "gemini_grpc": _over_grpc(GeminiGrpcBackend),
    "provider_service": _over_grpc(ProviderServiceBackend),
    "kserve": _over_grpc(KserveBackend),
    "vllm_engine": _over_grpc(vllm_backend),
    "sglang_engine": _over_grpc(sglang_backend),
    "weconverse": _edge,
    "scripted": _scripted,
}
"""How each protocol is spoken; the second argument is this server's ``node_id``."""
