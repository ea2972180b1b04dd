"""What the platform did, entry by entry: the evidence of a fault test.

A ring with a bound; counters that never forget. Texts of people are not in it, but their
message ids are.
"""

import enum
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator

import msgspec

from simulator.clock import Clock


class Kind(enum.StrEnum):
    """What happened."""

    WRITTEN = "written"
    """A person's message was taken by the platform."""
    POSTED = "posted"
    """A callback was sent to the application, or pushed over the long connection."""
    ACKNOWLEDGED = "acknowledged"
    """The application answered a callback with 200, and the platform saw it."""
    FAILED = "failed"
    """One delivery was not answered with 200 in time."""
    GIVEN_UP = "given_up"
    """The last delivery failed: the platform forgets the message."""
    REPLIED = "replied"
    """The first reply frame under the req_id of a bot message was accepted."""
    SHOWN = "shown"
    """A bubble appeared."""
    FINISHED = "finished"
    """A stream bubble got its last text."""
    SUPPRESSED = "suppressed"
    """A request with a duplicate check was the same as an earlier one: nothing appeared."""
    DROPPED = "dropped"
    """A message above the frequency limit of a member vanished without an error."""
    CUT = "cut"
    """Text lost its tail without an error."""
    IGNORED = "ignored"
    """A frame was accepted and changed nothing: invisible content, or a finished stream."""
    REFUSED = "refused"
    """A request or frame was answered with an error code."""
    EXPIRED = "expired"
    """A stream reached the end of its window unfinished."""
    RECALLED = "recalled"
    """A message was taken back."""
    SESSION = "session"
    """A customer went from one hand to another: assistant, waiting pool, a person, nobody."""
    CONNECTED = "connected"
    """A bot subscribed."""
    DISCONNECTED = "disconnected"
    """A long connection ended."""
    FAULT = "fault"
    """A switched-on accident happened."""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that happened. ``time`` is in POSIX seconds, ``chat`` as in ``chats.py``."""

    sequence: int
    time: float
    kind: Kind
    chat: str = ""
    person: str = ""
    msg_id: str = ""
    """The person's message, where it is known which one; otherwise the platform's own message id."""
    code: int = 0
    detail: str = ""
    """A sentence for the page."""


class Journal:
    """The entries of one simulator."""

    def __init__(self, clock: Clock, limit: int, on_entry: Callable[[Entry], None]) -> None:
        """Args: how many entries are kept; who hears of each."""
        self._clock = clock
        self._entries: deque[Entry] = deque(maxlen=limit)
        self._on_entry = on_entry
        self._sequence = 0
        self._limit = limit
        # Beside the ring, because a test asks for these after every change.
        self._ids: defaultdict[Kind, dict[str, None]] = defaultdict(dict)
        self.counts: Counter[Kind] = Counter()

    def note(
        self, kind: Kind, *, chat: str = "", person: str = "", msg_id: str = "", code: int = 0, detail: str = ""
    ) -> None:
        """Writes an entry down."""
        self._sequence += 1
        entry = Entry(self._sequence, self._clock.time(), kind, chat, person, msg_id, code, detail)
        self._entries.append(entry)
        self.counts[kind] += 1
        if msg_id:
            self._remember(kind, msg_id)
        self._on_entry(entry)

    def entries(self, *kinds: Kind, chat: str = "", person: str = "", after: int = 0) -> list[Entry]:
        """Entries in order; of these kinds, this chat and this person, where given."""
        return list(self._select(frozenset(kinds), chat, person, after))

    def _select(self, kinds: frozenset[Kind], chat: str, person: str, after: int) -> Iterator[Entry]:
        for entry in self._entries:
            if entry.sequence <= after or (kinds and entry.kind not in kinds):
                continue
            if (chat and entry.chat != chat) or (person and entry.person not in (person, "")):
                continue
            yield entry

    def _remember(self, kind: Kind, msg_id: str) -> None:
        ids = self._ids[kind]
        ids.setdefault(msg_id)
        if len(ids) > self._limit:
            del ids[next(iter(ids))]

    def message_ids(self, kind: Kind) -> list[str]:
        """Message ids of a kind of entry, each once, in the order of the first; as many as entries are kept."""
        return list(self._ids[kind])
