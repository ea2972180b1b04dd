"""What the filter promises to other rooms: texts that are looked through, and word lists as an administrator
sees and changes them.

Values and protocols alone; nothing here knows how words are found, or where changes are kept.
"""

import enum
from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from server.filter.entries import Action, Direction, Entry, Hit


class Screened(msgspec.Struct, frozen=True):
    """A text, or the next part of one, as it may be used."""

    text: str
    action: Action = Action.PASS
    """The strictest of the hits. One that stops (:attr:`Action.stops`) means: use a fixed sentence, and
    nothing that would follow."""
    hits: tuple[Hit, ...] = ()
    """Positions count from the beginning of the text, without the invisible characters that were taken out of
    long rows of them. For logs, and never with the text."""


class TextStream(Protocol):
    """A text on its way, such as a reply. What it gives is final.

    Joined together, it gives what :meth:`Screening.check` would for the whole, up to the
    first hit that stops; what it has given by then holds no part of that hit. A reply that
    is begun anew, and what a model thinks aloud, are texts of their own.
    """

    def feed(self, text: str) -> Screened:
        """The next piece. Nothing may be fed behind an answer whose action stops."""
        ...

    def close(self) -> Screened:
        """The rest, at the end of the text. Left out when nobody wants the rest."""
        ...


class Screening(Protocol):
    """The filter for one turn: of one assistant, with the lists as they are at its beginning.

    Its hits are logged and counted.
    """

    def check(self, text: str, direction: Direction) -> Screened:
        """Looks through a whole text, in time in proportion to its length.

        All hits are told and the strictest counts, also behind one that stops; the text ends
        right before the first that stops.
        """
        ...

    def stream(self, direction: Direction) -> TextStream:
        """Looks through a text that comes in pieces."""
        ...


class Screener(Protocol):
    """The filter of the service."""

    def screening(self, assistant: str) -> Screening:
        """Everything that one turn needs. Cheap."""
        ...


class FilterObserver(Protocol):
    """Called on the event loop, on the hot path: must be quick and must not raise."""

    def hit(self, direction: Direction, tag: str, action: Action) -> None:
        """A word was found. ``tag`` is one of the lists and policies: few, and not people's words."""
        ...

    def lexicon_loaded(self, entries: int, seconds: float) -> None:
        """Lists were read and are used from now on."""
        ...

    def lexicon_refused(self) -> None:
        """Changed lists could not be used; those before them stay."""
        ...


class Unobserved:
    """Counts nothing."""

    def hit(self, direction: Direction, tag: str, action: Action) -> None: ...

    def lexicon_loaded(self, entries: int, seconds: float) -> None: ...

    def lexicon_refused(self) -> None: ...


class Origin(enum.Enum):
    """Where an entry comes from."""

    LIST = "list"
    """A file."""
    ADDED = "added"
    """An administrator added it while the service ran."""
    WITHDRAWN = "withdrawn"
    """An administrator took a word out of the lists: it is not looked for, whatever file has it."""


class ListedEntry(msgspec.Struct, frozen=True):
    """An entry as it is shown."""

    entry: Entry
    folded: str
    """The word as it is looked for."""
    origin: Origin = Origin.LIST
    allows: bool = False
    """Words that are looked for do not count inside of this one."""
    variants: tuple[str, ...] = ()
    """Of a withdrawal: other forms, folded, under which the lists have the word and which count no more either."""


class EntryQuery(msgspec.Struct, frozen=True):
    """Which entries to list. What is empty does not matter."""

    tag: str = ""
    prefix: str = ""
    """The beginning of the word; both are folded before they are compared."""
    origin: Origin | None = None


class EntryPage(msgspec.Struct, frozen=True):
    """A page of entries: those of administrators first, then those of the files by their folded words."""

    entries: tuple[ListedEntry, ...]
    next_page_token: str
    """Empty on the last page."""


class Why(enum.Enum):
    """What became of an occurrence, and why."""

    MEANT = "meant"
    """It counts."""
    GAP = "gap"
    """What stands between its characters makes it other words."""
    PART_OF_A_CHARACTER = "part_of_a_character"
    """It begins or ends within one character of the text as it was written, such as ㎏."""
    GOES_ON = "goes_on"
    """Latin letters or digits go on beside it: ``bet`` in ``better``."""
    NOT_A_WORD = "not_a_word"
    """It lies across other words, and its entry asks for a word of its own."""
    ALLOWED = "allowed"
    """A longer phrase that is allowed contains it."""
    OTHER_DIRECTION = "other_direction"
    """Its entry is for the other direction."""


class Occurrence(msgspec.Struct, frozen=True):
    """A listed word in a text that was tried."""

    entry: Entry
    start: int
    """In characters of the text as it was given."""
    end: int
    why: Why
    action: Action = Action.PASS
    """What it leads to; ``PASS`` where it is not meant."""


class TriedText(msgspec.Struct, frozen=True):
    """What the filter makes of a text."""

    folded: str
    occurrences: tuple[Occurrence, ...]
    """By where they start."""
    action: Action
    """The strictest of those that are meant."""
    shown: str
    """What would be passed on. Empty where a fixed sentence takes its place."""


class NewEntry(msgspec.Struct, frozen=True):
    """An entry that an administrator adds."""

    word: str
    tag: str = "default"
    level: int = 0
    boundary: Literal["", "any", "word"] = ""
    """Empty for what its script suggests."""
    direction: Direction = Direction.BOTH
    action: Action | None = None
    replacement: str = ""
    allows: bool = False


class Loaded(msgspec.Struct, frozen=True):
    """Lists that are in force."""

    entries: int
    seconds: float
    """How long it took to read and to build them."""


class ChangeKind(enum.Enum):
    """What an administrator did."""

    ADDED = "added"
    REPLACED = "replaced"
    """The entry that an administrator had added for the same word gave way."""
    REMOVED = "removed"
    """An added entry is gone, or a word of the lists is looked for no more."""
    RESTORED = "restored"
    """A word that was withdrawn is looked for again."""
    RELOADED = "reloaded"


class Change(msgspec.Struct, frozen=True):
    """A row of the audit log."""

    sequence: int
    """Grows with every change."""
    time: float
    """POSIX seconds."""
    admin: str
    kind: ChangeKind
    before: ListedEntry | None = None
    after: ListedEntry | None = None


class ChangePage(msgspec.Struct, frozen=True):
    """A page of changes, newest first."""

    changes: tuple[Change, ...]
    next_page_token: str
    """Empty on the last page."""


class Overlay(msgspec.Struct, frozen=True):
    """What administrators changed, over what the files say."""

    added: tuple[ListedEntry, ...] = ()
    """Looked for, or allowed (:attr:`ListedEntry.allows`), beside what the files have."""
    withdrawn: frozenset[str] = frozenset()
    """Folded words that count no more, in whatever line of the files they stand. Added ones still count."""


class ChangeableLexicon(Protocol):
    """The word lists in force, as :class:`LexiconAdmin` needs them. Keeps no changes: its caller does."""

    def listed(self, tag: str = "") -> Sequence[ListedEntry]:
        """The entries of the files that are in force, in the order of their folded words: without the overlay, and
        without withdrawn words. A word with variants is there once for each, under one id. Immutable, and may be
        long: it is asked for and read in a thread.

        Args:
            tag: only those of this tag; empty for all.
        """
        ...

    def forms(self, entry_id: str) -> Sequence[ListedEntry]:
        """Those of :meth:`listed` that have an id: one for each form under which its word is looked for. May be
        called in a thread."""
        ...

    def fold(self, word: str) -> str:
        """A word as it is looked for."""
        ...

    def check(self, entry: ListedEntry) -> None:
        """Checks an entry by the rules of the lists.

        Raises:
            InvalidField: naming the field of the entry, such as ``word``.
        """
        ...

    def occurrences(self, text: str, direction: Direction) -> Sequence[Occurrence]:
        """Every listed word in a text by where it starts, meant or not; without its action."""
        ...

    async def lay_over(self, overlay: Overlay) -> Loaded:
        """Puts an overlay in the place of the one before. In force on return.

        Raises:
            LexiconRefused: if the lists cannot be built with it; what was in force stays.
        """
        ...

    async def reload(self) -> Loaded:
        """Reads the files anew, under the same overlay. In force on return.

        Raises:
            LexiconRefused: for a file that cannot be used; what was in force stays.
        """
        ...


class LexiconAdmin(Protocol):
    """Word lists while they are in use.

    A change is on durable storage, with its row of the audit log, before it takes effect, and
    in force when the method returns; streams that have begun keep the lists they began with.
    A caller that is cancelled while it waits does not stop a change that was begun.

    Every method that writes or reads the log raises :class:`server.errors.StoreUnavailable` when
    it cannot; a change that raised it is not in force, and may be after the next start.
    """

    async def list_entries(self, query: EntryQuery, page_size: int, page_token: str) -> EntryPage:
        """Entries, a page at a time.

        Raises:
            InvalidField: for a ``page_token`` that is none.
        """
        ...

    async def try_text(self, text: str, assistant: str, direction: Direction) -> TriedText:
        """What the filter would make of a text under the policy of an assistant.

        Args:
            direction: ``INPUT`` or ``OUTPUT``.

        Raises:
            ResourceNotFound: if there is no such assistant.
        """
        ...

    async def add(self, new: NewEntry, admin: str) -> ListedEntry:
        """Adds an entry, or replaces the one that an administrator added for the same word.

        Raises:
            InvalidField: for an entry that no list may have.
        """
        ...

    async def remove(self, entry_id: str, admin: str) -> ListedEntry | None:
        """Removes an entry that was added, withdraws the word of an entry of a list, or ends a withdrawal.

        Returns:
            The withdrawal, where there is one now.

        Raises:
            ResourceNotFound: if there is no entry of that id.
        """
        ...

    async def reload(self, admin: str) -> Loaded:
        """Reads the lists anew.

        Raises:
            LexiconRefused: for a list that cannot be used; the last good ones stay.
        """
        ...

    async def changes(self, page_size: int, page_token: str) -> ChangePage:
        """What administrators did, newest first.

        Raises:
            InvalidField: for a ``page_token`` that is none.
        """
        ...
