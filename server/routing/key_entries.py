"""The keys that the settings of a model name, and which of these entries cannot work."""

from collections.abc import Iterator
from typing import Final

from program.secret import Secret
from server.routing.key_files import keys_in
from server.settings import KeySettings, ModelSettings

_FILE: Final = "file:"


def check_keys(name: str, settings: ModelSettings) -> None:
    """Raises ``ValueError`` for an entry that cannot work; the message begins with its field."""
    if settings.keys and settings.api_key:
        raise ValueError(f"models.{name}.keys: stands in the place of `api_key`, which is set too; remove one of them")
    places: dict[str, str] = {}
    for place, entry in entries(settings):
        texts = texts_of(entry)
        field = "api_key" if place == "api_key" else f"{place}.secret"
        if not texts and (settings.keys or _is_set(entry.secret)):
            raise ValueError(f"models.{name}.{field}: holds no key; put one into it, or remove the entry")
        for text in texts:
            if text in places:
                raise ValueError(f"models.{name}.{field}: is the key of {places[text]} too; remove one of them")
        places.update(dict.fromkeys(texts, place))


def _is_set(secret: Secret) -> bool:
    """Whether somebody has written that there is a key, be it in a file or variable that turns out to be empty."""
    return bool(secret or secret.reference)


def path_of(entry: KeySettings) -> str:
    """The file that the keys of an entry are in; empty if they are in none."""
    reference = entry.secret.reference
    return reference.removeprefix(_FILE) if reference.startswith(_FILE) else ""


def texts_of(entry: KeySettings) -> tuple[str, ...]:
    """The keys of an entry; none where it is empty."""
    text = entry.secret.reveal()
    if path_of(entry):
        return keys_in(text)
    return (text,) if text.strip() else ()


def entries(settings: ModelSettings) -> Iterator[tuple[str, KeySettings]]:
    """Each entry with its place: ``api_key``, or ``keys[0]`` and so on."""
    if not settings.keys:
        yield "api_key", KeySettings(secret=settings.api_key)
    for index, entry in enumerate(settings.keys):
        yield f"keys[{index}]", entry


def keys_of(name: str, settings: ModelSettings) -> list[tuple[str, str]]:
    """Every key of a model as it is now, behind its place in the settings; an empty one where none is needed.

    Raises:
        ValueError: as :func:`check_keys`.
    """
    check_keys(name, settings)
    return [
        (place if len(texts) == 1 else f"{place}, line {number}", text)
        for place, entry in entries(settings)
        for texts in [texts_of(entry) or ("",)]
        for number, text in enumerate(texts, 1)
    ]
