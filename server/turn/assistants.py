"""The assistants of the settings, looked up by name."""

import hashlib
from collections.abc import Mapping

import msgspec

from server.errors import InvalidField, ResourceNotFound
from server.settings import AssistantSettings, TextSettings

DEFAULT = "default"


class Assistant(msgspec.Struct, frozen=True):
    """Who answers, with a version that changes whenever an answer could."""

    name: str
    version: str
    settings: AssistantSettings


class Assistants:
    """All assistants. Immutable: a changed settings file makes a new one."""

    def __init__(self, settings: Mapping[str, AssistantSettings], models: frozenset[str]) -> None:
        """Args: assistants by name, and the names of the models that exist.

        Raises:
            ValueError: if there is no default, or one names a model that does not exist.
        """
        if DEFAULT not in settings:
            raise ValueError(f"assistants.{DEFAULT}: there must be one; it answers where a request names none")
        for name, entry in settings.items():
            if entry.model not in models:
                known = ", ".join(sorted(models))
                raise ValueError(f"assistants.{name}.model: there is no model {entry.model!r}; models are {known}")
        self._models = models
        self._by_name = {name: Assistant(name, _version(entry), entry) for name, entry in settings.items()}

    def get(self, name: str) -> Assistant:
        """The assistant of that name.

        Raises:
            ResourceNotFound: if there is none.
        """
        found = self._by_name.get(name or DEFAULT)
        if found is None:
            raise ResourceNotFound(f"assistants/{name}")
        return found

    def texts(self, name: str) -> TextSettings:
        """The fixed sentences of an assistant; those of the default where it has gone from the settings."""
        return self._by_name.get(name or DEFAULT, self._by_name[DEFAULT]).settings.texts

    def model(self, assistant: Assistant, wanted: str | None) -> str:
        """The model that shall answer: the wanted one, or the assistant's.

        Raises:
            InvalidField: if a model is wanted that does not exist.
        """
        if not wanted:
            return assistant.settings.model
        if wanted not in self._models:
            raise InvalidField("options.model", f"there is no model {wanted!r}; leave it out to use the assistant's")
        return wanted


def _version(settings: AssistantSettings) -> str:
    canonical = msgspec.json.encode(settings, order="sorted")
    return hashlib.blake2b(canonical, digest_size=8).hexdigest()
