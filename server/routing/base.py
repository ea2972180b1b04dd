"""What the parts of this room promise one another, and whoever counts."""

import enum
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from server.budget import Budget
from server.domain import Ask, Usage


class Choice(msgspec.Struct, frozen=True):
    """Who is to answer a question, and how freely."""

    models: tuple[str, ...]
    """Models or splits in order of preference; at least one."""
    intent: str = ""
    temperature: float | None = None
    """``None``: the assistant's."""
    max_output_tokens: int | None = None
    """``None``: the assistant's."""


class IntentChooser(Protocol):
    """Finds out what kind of question it is."""

    async def choose(self, assistant: str, ask: Ask, budget: Budget) -> Choice:
        """The choice for a question. Never fails: what cannot be told is answered by the assistant's own models.

        Args:
            assistant: its identifier, which exists; an intent or a model that ``ask`` wants exists too.
        """
        ...


class TurnPart(enum.Enum):
    """What a call is to its turn. Persons, callers and the whole service have requests a turn, models one a call."""

    FIRST = "first"
    """The turn counts with it."""
    AGAIN = "again"
    """An earlier call of the same turn counted."""
    ASIDE = "aside"
    """It does not count, and is made only where the turn could be counted."""


class CallFacts(msgspec.Struct, frozen=True):
    """What limits need to know of a call that is about to be made."""

    model: str
    """The name of an entry in ``models``."""
    quota_group: str
    """The account whose key is to be used; ``models.NAME`` where its settings name none."""
    person: str
    """A pseudonym; empty for a call that nobody in particular asked for."""
    caller: str
    """The calling service; empty on an open loopback."""
    input_tokens: int
    """By estimate."""
    output_tokens: int
    """The most that may be written."""
    part: TurnPart = TurnPart.FIRST


class Admission(Protocol):
    """A call that was let through. What it did not use is given back when it ends."""

    def settle(self, usage: Usage | None, *, written_characters: int = 0) -> None:
        """Says what the call consumed; at most once.

        Args:
            usage: as the backend counted; ``None`` if it did not, or the call failed.
            written_characters: of text and thoughts, for an estimate where ``usage`` is ``None``.
        """
        ...


class Limiter(Protocol):
    """Every limit around a call, exact under concurrency. Shared state may stand behind it."""

    def admitted(self, facts: CallFacts, budget: Budget) -> AbstractAsyncContextManager[Admission]:
        """Lets a call through, waiting for a free place within the budget.

        Tokens and money are reserved on entering. Leaving gives the place back, and the
        reservation too if :meth:`Admission.settle` was not called: a call that never
        reached its backend costs nothing.

        Raises:
            LimitReached: naming the limit and how long; then nothing is taken.
        """
        ...


class ModelObserver(Protocol):
    """Called on the event loop, on the hot path: must be quick and must not raise."""

    def attempt_ended(self, model: str, outcome: str, seconds: float) -> None:
        """One call to a backend ended: ``ok``, ``cancelled``, or the value of an ``ErrorClass``."""
        ...

    def first_text(self, model: str, seconds: float) -> None:
        """The first text or thought of a call came, so long after it began."""
        ...

    def tokens_used(self, model: str, usage: Usage, cost: float) -> None:
        """A call was paid for, in the currency of the settings."""
        ...

    def failed_over(self, model: str, after_text: bool) -> None:
        """The next model took over from ``model``; ``after_text``: the reply was begun anew."""
        ...

    def breaker_changed(self, model: str, state: str) -> None:
        """``closed``, ``open`` or ``half_open``."""
        ...

    def keys_usable(self, model: str, count: int) -> None:
        """How many keys of a model can be used now."""
        ...

    def key_age(self, model: str, key: str, share: float) -> None:
        """The age of a key (named by its position and a short digest), as a share of what is allowed."""
        ...

    def key_gone(self, model: str, key: str) -> None:
        """A key was taken out of its file: nothing more is to be said about it."""
        ...

    def key_file_read(self, model: str, place: str, readable: bool) -> None:
        """A file of keys was looked at; ``place`` is its entry in the settings. Unreadable: the keys it had stay."""
        ...

    def limited(self, scope: str, enforced: bool) -> None:
        """A call ran into a limit; ``enforced`` is false in shadow mode."""
        ...

    def intent_chosen(self, assistant: str, intent: str, by: str) -> None:
        """``by``: ``caller``, ``rule``, ``classifier`` or ``default``."""
        ...


class Unobserved:
    """Counts nothing."""

    def attempt_ended(self, model: str, outcome: str, seconds: float) -> None: ...

    def first_text(self, model: str, seconds: float) -> None: ...

    def tokens_used(self, model: str, usage: Usage, cost: float) -> None: ...

    def failed_over(self, model: str, after_text: bool) -> None: ...

    def breaker_changed(self, model: str, state: str) -> None: ...

    def keys_usable(self, model: str, count: int) -> None: ...

    def key_age(self, model: str, key: str, share: float) -> None: ...

    def key_gone(self, model: str, key: str) -> None: ...

    def key_file_read(self, model: str, place: str, readable: bool) -> None: ...

    def limited(self, scope: str, enforced: bool) -> None: ...

    def intent_chosen(self, assistant: str, intent: str, by: str) -> None: ...
