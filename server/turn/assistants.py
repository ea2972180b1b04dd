"""The assistants of the settings, looked up by name."""

import hashlib
from collections.abc import Iterator, Mapping

import msgspec

from program.secret import Secret
from server.domain import Ask
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
        """Args: assistants by name, and the names of the models and splits that exist.

        Raises:
            ValueError: if there is no default, or one names a model that does not exist.
        """
        if DEFAULT not in settings:
            raise ValueError(f"assistants.{DEFAULT}: there must be one; it answers where a request names none")
        for name, entry in settings.items():
            for field, model in _named_models(entry):
                if model not in models:
                    known = ", ".join(sorted(models))
                    raise ValueError(f"assistants.{name}.{field}: there is no model {model!r}; models are {known}")
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

    def check(self, ask: Ask) -> None:
        """Checks what only the settings know of a request.

        Raises:
            ResourceNotFound: if the assistant does not exist.
            InvalidField: if a model or an intent is wanted that does not exist.
        """
        assistant, wanted = self.get(ask.assistant), ask.options
        if wanted.model and wanted.model not in self._models:
            raise InvalidField(
                "options.model", f"there is no model {wanted.model!r}; leave it out to use the assistant's"
            )
        if wanted.intent and wanted.intent not in assistant.settings.intents:
            known = ", ".join(sorted(assistant.settings.intents)) or "none"
            raise InvalidField(
                "options.intent", f"there is no intent {wanted.intent!r}; this assistant has {known}; leave it out"
            )


def _named_models(entry: AssistantSettings) -> Iterator[tuple[str, str]]:
    """Every model that an assistant names, with the field where it does."""
    yield "model", entry.model
    for index, model in enumerate(entry.fallback_models):
        yield f"fallback_models[{index}]", model
    for intent, settings in entry.intents.items():
        for index, model in enumerate(settings.models):
            yield f"intents.{intent}.models[{index}]", model
    if entry.classifier.model:
        yield "classifier.model", entry.classifier.model


def _version(settings: AssistantSettings) -> str:
    canonical = msgspec.json.Encoder(enc_hook=_without_secrets, order="sorted").encode(settings)
    return hashlib.blake2b(canonical, digest_size=8).hexdigest()


def _without_secrets(value: object) -> str:
    """A secret as the place it is read from: another key gives no other answers."""
    if isinstance(value, Secret):
        return value.reference
    raise NotImplementedError(f"{type(value)} in the settings of an assistant")
