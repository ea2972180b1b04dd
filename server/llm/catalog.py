"""Makes the backends that the settings name. The only file of this room that names them all."""

from collections.abc import Mapping
from pathlib import Path

from server.llm.base import Backend
from server.llm.openai_http import OpenAiHttpProvider
from server.llm.script import SHIPPED, Script, load_script
from server.llm.scripted import ScriptedProvider
from server.llm.weconverse_grpc import WeConverseBackend
from server.settings import ModelSettings


def build_backends(settings: Mapping[str, ModelSettings], node_id: str = "") -> dict[str, Backend]:
    """A backend for each entry of ``models``. Opens no connection yet.

    Args:
        node_id: this server's name among servers that stand in front of one another.

    Raises:
        ValueError: for an entry that cannot work. The message begins with the field,
            such as ``models.default.base_url``, and says what to do.
    """
    return {name: _backend(name, entry, node_id) for name, entry in settings.items()}


def _backend(name: str, entry: ModelSettings, node_id: str) -> Backend:
    if entry.protocol == "scripted":
        return ScriptedProvider(name, entry, _script(name, entry))
    if entry.protocol == "weconverse":
        return _edge(name, entry, node_id)
    try:
        return OpenAiHttpProvider(name, entry)
    except ValueError as error:
        raise ValueError(f"models.{name}.base_url: {error}") from error


def _edge(name: str, entry: ModelSettings, node_id: str) -> Backend:
    try:
        return WeConverseBackend(name, entry, node_id)
    except ValueError as error:
        raise ValueError(f"models.{name}.{error}") from error


def _script(name: str, entry: ModelSettings) -> Script:
    try:
        return load_script(Path(entry.script_file) if entry.script_file else SHIPPED)
    except (OSError, ValueError) as error:
        raise ValueError(f"models.{name}.script_file: {error}") from error
