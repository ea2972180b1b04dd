"""The words by which the guards tell questions apart: ``wording.toml``, read once."""

import hashlib
import tomllib
from pathlib import Path
from typing import Final

import msgspec

SHIPPED: Final = Path(__file__).with_name("wording.toml")


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that a question can ask for, and a pattern that finds it."""

    kind: str
    words: str


class Wording(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The tables. The file says what each is for."""

    neutral: tuple[str, ...]
    prefaces: tuple[str, ...]
    cannot: tuple[str, ...]
    negations: tuple[str, ...]
    negations_in_english: frozenset[str]
    turned: tuple[tuple[str, ...], ...]
    turned_in_english: tuple[tuple[str, ...], ...]
    opposed: tuple[tuple[tuple[str, ...], ...], ...]
    people: tuple[str, ...]
    places: tuple[str, ...]
    same: tuple[tuple[str, str], ...]
    fillers: tuple[str, ...]
    fillers_in_english: frozenset[str]
    asked: tuple[Asked, ...]
    asked_in_english: tuple[Asked, ...]

    def digest(self) -> str:
        """8 digits that change with any word, and not with a comment."""
        return hashlib.blake2b(msgspec.json.encode(self, order="deterministic"), digest_size=4).hexdigest()


WORDING: Final = msgspec.convert(tomllib.loads(SHIPPED.read_text(encoding="utf-8")), Wording)
