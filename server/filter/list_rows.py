"""What a line of a word list says, in any of the formats, and what it may not say. Pure."""

import re
from collections.abc import Mapping
from typing import Final, Literal, TypeVar, get_args

import msgspec

from server.filter.entries import Action, Direction
from server.filter.fold import fold_word
from server.filter.matcher import MAX_WORD_CHARACTERS
from server.settings import ActionName

T = TypeVar("T")

COLUMNS: Final = ("word", "tag", "level", "boundary", "direction", "action", "replacement", "allow", "variants")
"""Of a CSV file, and the names in a JSON file. Only ``word`` must be there."""

MAX_REPLACEMENT: Final = 64
MAX_LEVEL: Final = 100

GENERATED: Final = ("+pinyin", "+mixed", "+repeats")
"""Variants that are made from the word."""

TAG: Final = re.compile(r"[\w.-]{1,64}")
_BOUNDARIES: Final[Mapping[str, Literal["any", "word"]]] = {"any": "any", "word": "word"}
_DIRECTIONS: Final = {"": Direction.BOTH, "both": Direction.BOTH, "input": Direction.INPUT, "output": Direction.OUTPUT}
_YES_OR_NO: Final = {"": False, "no": False, "false": False, "0": False, "yes": True, "true": True, "1": True}
_CHINESE: Final = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")


class ListError(Exception):
    """A word list cannot be used: which file, which line of it from 1 (if one is to blame), the rule and the remedy."""

    def __init__(self, file: str, line: int | None, rule: str) -> None:
        super().__init__(f"{file}: {rule}" if line is None else f"{file}:{line}: {rule}")
        self.file = file
        self.line = line
        self.rule = rule


class Kind(msgspec.Struct, frozen=True, gc=False):
    """What words of a list have in common. Few, where words are many."""

    file: str
    tag: str
    level: int = 0
    boundary: Literal["any", "word"] = "any"
    direction: int = Direction.BOTH.value
    action: int | None = None
    replacement: str = ""
    allows: bool = False
    repeats: bool = False
    """Whether it is found with its characters said again and again."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """A word of a list."""

    line: int
    """From 1; in a JSON file, the number of the item."""
    word: str
    folded: str
    kind: Kind
    variants: tuple[str, ...] = ()
    """Other ways to write it, and :data:`GENERATED` ones."""


class RowReader:
    """Reads the rows of one file."""

    def __init__(self, file: str, *, single_characters: bool = False) -> None:
        """Args: the file's name; whether words of one character are taken."""
        self._file = file
        self._tag = _tag_of(file)
        self._single_characters = single_characters
        self._known: dict[tuple[str, ...], tuple[Kind, tuple[str, ...]]] = {}

    def row(self, line: int, fields: Mapping[str, str]) -> Row:
        """A row with the given columns; what is missing or empty has its default.

        Raises:
            ListError: for a value that is not allowed.
        """
        word = fields.get("word", "").strip()
        folded = self.folded(line, word)
        # Rows of a list are much alike, and there may be a million of them.
        alike = (default_boundary(folded), *[fields.get(column, "") for column in COLUMNS[1:]])
        known = self._known.get(alike)
        if known is None:
            known = self._known[alike] = self._kind(line, fields, alike[0])
        return Row(line, word, folded, *known)

    def _kind(self, line: int, fields: Mapping[str, str], boundary: str) -> tuple[Kind, tuple[str, ...]]:
        variants = tuple(each.strip() for each in fields.get("variants", "").split("|") if each.strip())
        kind = Kind(
            file=self._file,
            tag=self._named(line, fields.get("tag", "").strip()),
            level=self._level(line, fields.get("level", "").strip()),
            boundary=self._boundary(line, fields.get("boundary", "").strip() or boundary),
            direction=self._one_of(line, "direction", fields, _DIRECTIONS).value,
            action=self._action(line, fields.get("action", "").strip()),
            replacement=self._replacement(line, fields.get("replacement", "").strip()),
            allows=self._one_of(line, "allow", fields, _YES_OR_NO),
            repeats="+repeats" in variants,
        )
        self._check_variants(line, variants, kind)
        return kind, variants

    def folded(self, line: int, word: str) -> str:
        """A word as it is looked for.

        Raises:
            ListError: if it cannot be looked for.
        """
        folded = fold_word(word)
        if not folded:
            raise self._error(
                line, "word: has no letter, digit or Chinese character that could be looked for; remove it"
            )
        if len(folded) > MAX_WORD_CHARACTERS:
            raise self._error(
                line, f"word: has {len(folded)} characters; {MAX_WORD_CHARACTERS} are allowed; shorten it"
            )
        if len(folded) == 1 and not self._single_characters:
            raise self._error(
                line,
                "word: is a single character when it is folded, which hits almost everything; "
                "write a longer word, or set filter.single_characters",
            )
        return folded

    def _named(self, line: int, tag: str) -> str:
        if not tag:
            return self._tag
        if not TAG.fullmatch(tag):
            raise self._error(line, f"tag: {tag!r} is not 1 to 64 letters, digits, dots, dashes or underscores")
        return tag

    def _level(self, line: int, level: str) -> int:
        if not level:
            return 0
        if not (level.isascii() and level.isdigit() and int(level) <= MAX_LEVEL):
            raise self._error(line, f"level: {level!r} is not a whole number from 0 to {MAX_LEVEL}")
        return int(level)

    def _boundary(self, line: int, boundary: str) -> Literal["any", "word"]:
        if boundary not in _BOUNDARIES:
            raise self._error(line, f"boundary: {boundary!r} is neither 'any' nor 'word'; empty is what suits the word")
        return _BOUNDARIES[boundary]

    def _action(self, line: int, action: str) -> int | None:
        if not action:
            return None
        if action not in get_args(ActionName):
            known = ", ".join(get_args(ActionName))
            raise self._error(line, f"action: {action!r} is none of {known}; empty leaves it to the policy")
        return Action[action.upper()].value

    def _replacement(self, line: int, replacement: str) -> str:
        if len(replacement) > MAX_REPLACEMENT:
            raise self._error(line, f"replacement: has {len(replacement)} characters; {MAX_REPLACEMENT} are allowed")
        return replacement

    def _one_of(self, line: int, column: str, fields: Mapping[str, str], values: Mapping[str, T]) -> T:
        value = fields.get(column, "").strip().lower()
        if value not in values:
            known = ", ".join(each for each in values if each)
            raise self._error(line, f"{column}: {value!r} is none of {known}")
        return values[value]

    def _check_variants(self, line: int, variants: tuple[str, ...], kind: Kind) -> None:
        for variant in variants:
            if variant.startswith("+") and variant not in GENERATED:
                raise self._error(line, f"variants: {variant!r} is none of {', '.join(GENERATED)}")
        if kind.allows and kind.repeats:
            raise self._error(line, "variants: an allowed phrase has no '+repeats'; write out what is allowed")

    def _error(self, line: int, rule: str) -> ListError:
        return ListError(self._file, line, rule)


def default_boundary(folded: str) -> Literal["any", "word"]:
    """Words with Chinese characters stand for themselves, or else every sentence has one across two others."""
    return "word" if _CHINESE.search(folded) else "any"


def _tag_of(file: str) -> str:
    """The tag of words that name none: the file's name, without what tells its format."""
    stem = re.sub(r"[^\w-]", "_", file.split(".", 1)[0])[:64]
    return stem or "default"
