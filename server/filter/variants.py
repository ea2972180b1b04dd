"""Other ways to write a word, for entries that ask for them. Pure."""

import importlib
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Final, Literal

import msgspec

from server.filter.fold import fold_word
from server.filter.list_rows import ListError, Row, RowReader, default_boundary
from server.filter.matcher import MAX_WORD_CHARACTERS

MAX_MIXED: Final = 8
"""Characters of the longest word whose mixed forms are made: of n characters there are 2 to the power of n."""

Pinyin = Callable[[str], Sequence[str]]
"""The sound of each character of a word, without tones; what has none stays as it is."""


def installed_pinyin() -> Pinyin | None:
    """The sounds of the package pypinyin, if it is installed."""
    try:
        library = importlib.import_module("pypinyin")
    except ImportError:
        return None

    def pinyin(word: str) -> Sequence[str]:
        # Parts without a sound come in one piece: cut into characters again, or they would not be in step.
        sounds: list[str] = library.lazy_pinyin(word, errors=list)
        return sounds

    return pinyin


class Variants:
    """Makes the further rows of a row."""

    def __init__(self, pinyin: Pinyin | None) -> None:
        """Args: ``None``: entries that ask for sounds are refused."""
        self._pinyin = pinyin

    def of(self, row: Row, reader: RowReader) -> Iterator[Row]:
        """The row itself, and one for each other way to write it.

        Args:
            reader: of the file that the row comes from.

        Raises:
            ListError: for a variant that cannot be looked for, or not be made.
        """
        yield row
        known = {row.folded}
        for folded, boundary in self._forms(row, reader):
            if folded not in known:
                known.add(folded)
                kind = msgspec.structs.replace(row.kind, boundary=boundary)
                yield msgspec.structs.replace(row, folded=folded, kind=kind, variants=())

    def _forms(self, row: Row, reader: RowReader) -> Iterator[tuple[str, Literal["any", "word"]]]:
        for variant in row.variants:
            if variant == "+pinyin":
                for sounds in self._sounds(row):
                    yield fold_word("".join(sounds)), "any"
            elif variant == "+mixed":
                for folded in self._mixed(row):
                    yield folded, "any"
            elif not variant.startswith("+"):
                folded = reader.folded(row.line, variant)
                yield folded, default_boundary(folded) if row.kind.boundary == "word" else "any"

    def _sounds(self, row: Row) -> Iterator[Sequence[str]]:
        """The word as it is spoken; where the sound is written with ü, in both ways that keyboards have."""
        if self._pinyin is None:
            raise ListError(
                row.kind.file,
                row.line,
                "variants: '+pinyin' and '+mixed' need the package pypinyin; install it, or write the variants out",
            )
        sounds = [sound.lower().replace("ü", "v") for sound in self._pinyin(row.folded)]
        if len(sounds) != len(row.folded) or len("".join(sounds)) > MAX_WORD_CHARACTERS:
            raise ListError(
                row.kind.file, row.line, "variants: the word cannot be written as sounds; write the variants out"
            )
        yield sounds
        if any("v" in sound and sound != "v" for sound in sounds):
            yield [sound.replace("v", "u") for sound in sounds]

    def _mixed(self, row: Row) -> Iterator[str]:
        if len(row.folded) > MAX_MIXED:
            raise ListError(
                row.kind.file,
                row.line,
                f"variants: '+mixed' is for words of up to {MAX_MIXED} characters; write the variants out",
            )
        for sounds in self._sounds(row):
            for choice in product(*zip(row.folded, sounds, strict=True)):
                mixed = fold_word("".join(choice))
                if mixed != fold_word("".join(sounds)):
                    yield mixed
