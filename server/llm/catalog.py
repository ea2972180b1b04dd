"""Makes the backends that the settings name. The only file of this room that names them all."""

from collections.abc import Mapping
from pathlib import Path

from server.llm.base import Backend
from server.llm.openai_http import OpenAiHttpProvider
from server.llm.script import SHIPPED, Script, load_script
from server.llm.scripted import ScriptedProvider
from server.settings import ModelSettings


def build_backends(settings: Mapping[str, ModelSettings]) -> dict[str, Backend]:
    """A backend for each entry of ``models``. Opens no connection yet.

    Raises:
        ValueError: for an entry that cannot work. The message begins with the field,
            such as ``models.default.base_url``, and says what to do.
    """
    return {name: _backend(name, entry) for name, entry in settings.items()}


def _backend(name: str, entry: ModelSettings) -> Backend:
    if entry.protocol == "scripted":
        return ScriptedProvider(name, entry, _script(name, entry))
    try:
        return OpenAiHttpProvider(name, entry)
    except ValueError as error:
        raise ValueError(f"models.{name}.base_url: {error}") from error


def _script(name: str, entry: ModelSettings) -> Script:
    try:
        return load_script(Path(entry.script_file) if entry.script_file else SHIPPED)
    except (OSError, ValueError) as error:
        raise ValueError(f"models.{name}.script_file: {error}") from error
