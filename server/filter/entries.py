"""What a word list says of a word. Values."""

import enum
from typing import Literal

import msgspec


class Action(enum.IntEnum):
    """What a hit means, the mildest first: where hits overlap, the greatest counts."""

    PASS = 0
    """Nothing: the hit is not even reported."""
    FLAG = 1
    """Reported, and shown as it is."""
    MASK = 2
    """Each character becomes an asterisk."""
    REPLACE = 3
    """The words are replaced by others."""
    HAND_OVER = 4
    """The conversation goes to a person."""
    BLOCK = 5
    """A fixed sentence takes the place of the whole message."""

    @property
    def stops(self) -> bool:
        """Whether nothing behind the hit is looked at any more."""
        return self >= Action.HAND_OVER


class Direction(enum.Flag):
    """Whose words are meant."""

    INPUT = enum.auto()
    """What a person says."""
    OUTPUT = enum.auto()
    """What a model says."""
    BOTH = INPUT | OUTPUT


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A word that is looked for."""

    id: str
    """Names it in logs and in the console: its list and its line, such as ``ads.csv:12``. Never the word."""
    word: str
    """As it was written."""
    tag: str = "default"
    """What kind of word it is, for the policy."""
    level: int = 0
    """How grave, for whoever reads the list; nothing is decided by it."""
    boundary: Literal["any", "word"] = "any"
    """``word``: only where it stands for itself, and not across two other words."""
    direction: Direction = Direction.BOTH
    action: Action | None = None
    """Goes before that of the tag."""
    replacement: str = ""
    repeats: bool = False
    """Whether it is also found with characters said again and again."""


class Pattern(msgspec.Struct, frozen=True):
    """A folded word, and what it means: a word that is looked for, one that is allowed, or both."""

    word: str
    entries: tuple[Entry, ...] = ()
    """Several, where lists have the word under several tags or for one direction each."""
    allows: bool = False
    """A word that is looked for does not count inside of this one."""


class Hit(msgspec.Struct, frozen=True):
    """A word that was found."""

    entry: Entry
    start: int
    """In characters of the whole text, or of everything that came on a stream."""
    end: int
