"""An entry as JSON: what is kept of administrators' changes, and what the audit log says. Pure."""

from typing import Final, Literal

import msgspec

from server.filter.base import ListedEntry, Origin
from server.filter.entries import Action, Direction, Entry


class _Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """The form on disk. Fields may be added, with defaults; the meaning of one never changes."""

    id: str
    word: str
    folded: str
    origin: Literal["list", "added", "withdrawn"]
    tag: str = "default"
    level: int = 0
    boundary: Literal["any", "word"] = "any"
    direction: Literal["input", "output", "both"] = "both"
    action: str | None = None
    replacement: str = ""
    allows: bool = False
    variants: tuple[str, ...] = ()


_decode: Final = msgspec.json.Decoder(_Record).decode


def to_json(listed: ListedEntry) -> str:
    """The entry as JSON."""
    entry = listed.entry
    record = _Record(
        id=entry.id,
        word=entry.word,
        folded=listed.folded,
        origin=listed.origin.value,
        tag=entry.tag,
        level=entry.level,
        boundary=entry.boundary,
        direction=_NAMES[entry.direction],
        action=None if entry.action is None else entry.action.name.lower(),
        replacement=entry.replacement,
        allows=listed.allows,
        variants=listed.variants,
    )
    return msgspec.json.encode(record).decode()


def from_json(text: str) -> ListedEntry:
    """The entry that :func:`to_json` wrote, now or in an earlier version.

    Raises:
        ValueError: for anything else.
    """
    record = _decode(text)
    if record.action is not None and record.action.upper() not in Action.__members__:
        raise ValueError(f"{record.action!r} is no action")
    entry = Entry(
        id=record.id,
        word=record.word,
        tag=record.tag,
        level=record.level,
        boundary=record.boundary,
        direction=_DIRECTIONS[record.direction],
        action=None if record.action is None else Action[record.action.upper()],
        replacement=record.replacement,
    )
    return ListedEntry(entry, record.folded, Origin(record.origin), allows=record.allows, variants=record.variants)


_NAMES: Final[dict[Direction, Literal["input", "output", "both"]]] = {
    Direction.INPUT: "input",
    Direction.OUTPUT: "output",
    Direction.BOTH: "both",
}
_DIRECTIONS: Final = {name: direction for direction, name in _NAMES.items()}
