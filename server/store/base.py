"""What the store of turns promises: inbox, outbox, memory and log in one table.

Every backend passes the same test-suite (``tests/contract/test_turn_store.py``).

A turn that nobody is owed (``Converse``, ``StreamConverse``) is written once, when it
has ended. A turn that is owed (``SubmitTurn``) is written when it is accepted, when it
is claimed, when it has ended, and when the channel reports on its delivery. Every write
of an owed turn between claim and end carries the epoch of the claim, and is refused
when a later claim exists: a worker that wakes late cannot write.

When a method that writes returns, what it wrote survives the death of the process and
of the machine.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from server.domain import Ask, Content, Conversation, Event, Owed, Rating, Round, Sender, Turn, TurnName


class StoredTurn(msgspec.Struct, frozen=True):
    """A turn with what the service keeps beside it."""

    turn: Turn
    ask: Ask
    """As it was accepted. After the retention of payloads: an empty input and no history. Of a turn
    that nobody is owed the history is not kept at all."""
    input_digest: bytes
    """``domain.digest`` of the input, which outlives the input itself."""
    sequence: int
    """The order of arrival in the whole store, from 1."""
    events: tuple[Event, ...] = ()
    """What was streamed, for an exact replay: without ``Started`` and ``Completed``."""
    owed: Owed | None = None
    epoch: int = 0
    """Grows with every claim."""
    attempts: int = 0
    """How often the turn was claimed."""
    offers: int = 0
    """How often its delivery was offered."""
    progress: bytes = b""
    """What the last delivery attempt recorded."""
    deliver_after: float = 0.0
    """Not to be offered before this time."""
    retries: int = 0
    """How often the channel said ``retry`` since the turn was owed, or owed again."""
    pushed_bytes: int = 0
    """What its message takes on disk, if it was pushed."""


class Accepted(msgspec.Struct, frozen=True):
    """The outcome of :meth:`TurnStore.accept`."""

    stored: StoredTurn
    created: bool
    """``False`` when a turn of this name existed; ``stored`` is then that one."""


class Merged(msgspec.Struct, frozen=True):
    """The outcome of :meth:`TurnStore.merge`."""

    input: Content
    """What the later turn asks from now on: the messages of both, in order."""
    settled: bool
    """Whether nothing is owed of the earlier turn any more."""


class DeliveryReport(msgspec.Struct, frozen=True):
    """What a channel said of one delivery."""

    name: TurnName
    outcome: str
    """``progress``, ``delivered``, ``retry``, ``waiting`` or ``undeliverable``."""
    progress: bytes | None = None
    """``None`` leaves what is stored."""
    deliver_after: float = 0.0
    detail: str = ""
    time: float = 0.0


class StaleEpoch(Exception):
    """A write came from a claim that is no longer the latest. Nothing was written."""


class TurnPage(msgspec.Struct, frozen=True):
    """A page of turns, newest first."""

    turns: tuple[Turn, ...]
    next_page_token: str
    """Empty on the last page."""


class Retention(msgspec.Struct, frozen=True):
    """Before which times (POSIX seconds) what is dropped. Owed turns are never touched.

    Turns age from their end; one that was settled while it ran and never ended, from its settlement.
    """

    payloads_before: float
    """Input, reply, events, address, recipient, progress and what was pushed are emptied; the row stays,
    as its own key. Undeliverable turns keep theirs, as they may be replayed."""
    keys_before: float
    """The row goes, and with its last row a conversation, unless a person has that."""


class Dropped(msgspec.Struct, frozen=True):
    """How many rows a round of retention touched."""

    payloads: int
    keys: int


class TurnStore(Protocol):
    """Turn rows.

    Every method raises :class:`server.errors.StoreUnavailable` when the store cannot be
    read or written; a write that raised it may or may not have happened.
    """

    # --- owed turns -------------------------------------------------------------------

    async def accept(
        self,
        ask: Ask,
        owed: Owed,
        *,
        time: float,
        claim: bool,
        final: Turn | None = None,
        input_digest: bytes | None = None,
    ) -> Accepted:
        """Writes an owed turn, or finds the one of the same name, whatever its state.

        Args:
            claim: whether the turn starts at once: it is then stored as ``RUNNING`` with
                epoch and attempts of 1, which saves a write.
            final: the turn as it ended already, for one that is answered with a fixed
                sentence, or was pushed, and never runs (state, reply and failure are taken from it).
            input_digest: of what was said, if that is not the input: of a push, what its program said.
        """
        ...

    async def claim(self, name: TurnName) -> StoredTurn:
        """Marks an owed turn as running, raises its epoch and its count of attempts.

        A turn that has ended is returned as it is: its reply may have been shown already.

        Raises:
            ResourceNotFound: if it does not exist any more.
        """
        ...

    async def finish_owed(
        self,
        turn: Turn,
        events: Sequence[Event],
        *,
        epoch: int,
        kept_input: Content | None = None,
        hands_over: bool = False,
    ) -> None:
        """Writes the end of an owed turn: reply, state and events, ready to be delivered.

        Args:
            kept_input: what is to stand in the place of the message, if not all of it may be kept.
            hands_over: whether the same write gives the conversation to a person.

        May be called again with the same epoch; the last end stands. What the turn says
        of its delivery is not written: that is for :meth:`record_report`.

        Raises:
            StaleEpoch: if another claim came after ``epoch``, or the turn is gone.
        """
        ...

    async def merge(self, earlier: Turn, into: TurnName) -> Merged | None:
        """Ends an owed turn whose message a later one of its conversation answers too: wholly, or not at all.

        The earlier turn ends as ``earlier`` says (``SUCCEEDED``, ``MERGED``, no reply). Its
        message is put in front of that of the later one, which keeps the digest of its own.
        The earlier one is settled with that, unless it was ever offered: a channel that has
        begun to show it must hear that there is nothing to show.

        Returns:
            ``None``, and nothing is changed, if either was claimed, has ended or is gone, or
            they are owed to different accounts.
        """
        ...

    async def record_offer(self, name: TurnName) -> int:
        """Counts an offer of a delivery and returns the new count, from 1.

        Raises:
            ResourceNotFound: if there is no such turn any more.
        """
        ...

    async def record_report(self, report: DeliveryReport) -> None:
        """Writes what a channel said of a delivery. A turn that is no longer owed stays as it is.

        ``retry`` raises ``StoredTurn.retries``; ``waiting`` puts off without that.

        Raises:
            ValueError: for an outcome that is none.
        """
        ...

    async def unsettled(self) -> tuple[StoredTurn, ...]:
        """Every owed turn that is not delivered yet, in order of arrival: what to go on with after a start.

        Of those that were pushed, ``Turn.pushed`` is empty and ``Turn.reply`` too: all of them together may
        be more than memory holds. ``pushed_bytes`` says how large they are.
        """
        ...

    async def replay_undeliverable(self, account: str | None = None) -> int:
        """Makes undeliverable turns owed again, of one account or of all; returns how many.

        Their retries start anew; offers and progress stay.

        Their ``deliver_after`` becomes the time of this: the window of a delivery counts from there anew.
        """
        ...

    # --- turns that went to their caller ------------------------------------------------

    async def finish(
        self,
        turn: Turn,
        ask: Ask,
        events: Sequence[Event],
        *,
        input_digest: bytes | None = None,
        hands_over: bool = False,
    ) -> None:
        """Writes a turn that nobody is owed, at its end.

        Args:
            input_digest: of what was said, if ``ask`` holds only what may be kept of it.
            hands_over: whether the same write gives the conversation to a person. One that is
                dropped gives nothing.

        A ``FAILED`` or ``CANCELLED`` row of the same name gives way; a ``SUCCEEDED`` one
        stays and the new one is dropped (two calls raced; the first answer stands). So does
        one that is owed, or undeliverable.
        """
        ...

    # --- reading ----------------------------------------------------------------------

    async def find(self, name: TurnName) -> StoredTurn | None:
        """The turn of that name, or ``None``."""
        ...

    async def list_turns(self, conversation: str, page_size: int, page_token: str) -> TurnPage:
        """Turns of a conversation, newest first, without the bytes of media.

        Raises:
            InvalidField: for a ``page_token`` that this store did not make.
        """
        ...

    async def recent_rounds(self, conversation: str, limit: int) -> tuple[Round, ...]:
        """The last rounds that memory may use, oldest first, with questions as the model read them.

        Only ``SUCCEEDED`` turns with ``STOP`` or ``LENGTH``, that did not bypass memory,
        and that came after the last cut of the conversation.
        """
        ...

    async def conversation(self, name: str) -> Conversation | None:
        """When it began and was last used, or ``None``. ``expire_time`` and the count are
        left for the memory to fill in (``None`` and the number of rounds after the cut × 2)."""
        ...

    # --- conversations ----------------------------------------------------------------

    async def cut_memory(self, conversation: str, *, time: float) -> None:
        """From here on, what came before is not remembered. Works for a conversation without turns."""
        ...

    async def hand_off(self, conversation: str, *, time: float) -> None:
        """Gives a conversation to a person. Works for one without turns; does nothing if a person has it."""
        ...

    async def resume(self, conversation: str) -> bool:
        """Gives a conversation back to the assistant; ``False`` if there is no such conversation."""
        ...

    async def handed_off(self, conversation: str) -> bool:
        """Whether a person has the conversation. Asked at every turn, so it must cost next to nothing."""
        ...

    async def delete_conversation(self, conversation: str) -> bool:
        """Removes every row of it, owed ones too; ``False`` if there was none."""
        ...

    async def rate(self, name: TurnName, rater: Sender | None, rating: Rating, comment: str, *, time: float) -> None:
        """Keeps the rating; the last one of a rater wins.

        Raises:
            ResourceNotFound: if there is no such turn.
        """
        ...

    # --- upkeep -----------------------------------------------------------------------

    async def apply_retention(self, retention: Retention) -> Dropped:
        """Drops what is too old, a bounded number of rows at a time."""
        ...

    async def probe(self) -> None:
        """Returns if the store can read and write now; raises ``StoreUnavailable`` otherwise."""
        ...

    async def aclose(self) -> None:
        """Finishes what was asked for and closes. Later calls raise ``StoreUnavailable``."""
        ...
