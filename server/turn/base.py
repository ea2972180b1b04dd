"""What the wire may ask of the turns: the whole surface that ``server/rpc`` stands on."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from server.budget import Budget
from server.domain import Ask, Conversation, Event, Owed, Push, Rating, Sender, Turn, TurnName
from server.store.base import TurnPage


class Follower(Protocol):
    """One listener of one turn. Leaving its context manager is what "closing the stream" means."""

    @property
    def attached(self) -> bool:
        """Whether the turn existed before this listener came."""
        ...

    @property
    def turn(self) -> Turn:
        """The turn as it stands now; whole once ``Completed`` was given."""
        ...

    def batches(self) -> AsyncIterator[Sequence[tuple[int, Event]]]:
        """Events with their sequence numbers, in order and without gaps.

        A batch is what has happened since the last look, never empty. The last event is
        ``Completed``.

        Raises:
            DomainError: in place of ``Completed``, when a turn that is not owed failed.
        """
        ...


class AssistantView(msgspec.Struct, frozen=True):
    """What a channel may show of an assistant."""

    name: str
    version: str
    greeting: str


class TurnService(Protocol):
    """Everything that can be asked about turns. All methods raise ``DomainError`` and nothing else."""

    async def converse(self, ask: Ask, budget: Budget) -> Turn:
        """Runs a turn, or attaches to the one of that name, and returns it when it is complete."""
        ...

    def stream(self, ask: Ask, budget: Budget) -> AbstractAsyncContextManager[Follower]:
        """Runs a turn, or attaches to the one of that name, and follows it from the first event."""
        ...

    def follow(self, name: TurnName, after_sequence: int) -> AbstractAsyncContextManager[Follower]:
        """Follows a turn that exists, behind ``after_sequence``."""
        ...

    async def submit(self, ask: Ask, owed: Owed, budget: Budget | None = None) -> Turn:
        """Takes on a debt: when this returns, the turn is on disk and will be answered.

        Files are read within the budget. ``None``: within what the settings allow.
        """
        ...

    async def get(self, name: TurnName) -> Turn:
        """The turn, with the text so far while it runs. Counts as interest."""
        ...

    async def list_turns(self, conversation: str, page_size: int, page_token: str) -> TurnPage:
        """Turns of a conversation, newest first, the running ones included on the first page."""
        ...

    async def cancel(self, name: TurnName) -> Turn:
        """Stops a running or waiting turn; returns it as it stands."""
        ...

    async def rate(self, name: TurnName, rater: Sender | None, rating: Rating, comment: str) -> None:
        """Keeps what a person thought of a reply."""
        ...

    async def conversation(self, name: str) -> Conversation:
        """The state of a conversation."""
        ...

    async def reset(self, name: str) -> Conversation:
        """Forgets the remembered context."""
        ...

    async def hand_off(self, name: str) -> Conversation:
        """Gives the conversation to a person. What is being answered now is answered to its end."""
        ...

    async def resume(self, name: str) -> Conversation:
        """Gives the conversation back to the assistant."""
        ...

    async def delete(self, name: str) -> None:
        """Stops what runs in the conversation and removes every row of it."""
        ...

    def assistant(self, name: str) -> AssistantView:
        """What a channel may show of the assistant."""
        ...


class PushService(Protocol):
    """Sends messages that nobody asked for."""

    async def push(self, push: Push, budget: Budget) -> Turn:
        """Takes on a message, or finds the one of the same id: when this returns, it is on disk and will be sent.

        Raises:
            DomainError: and nothing else.
        """
        ...


class Granted(msgspec.Struct, frozen=True):
    """This instance is active."""

    epoch: int


class Revoked(msgspec.Struct, frozen=True):
    """This instance is no longer active."""

    epoch: int


class Delivery(msgspec.Struct, frozen=True):
    """A turn to deliver; ``ended_turn`` is the whole turn if it has ended."""

    name: TurnName
    address: bytes
    attempt: int
    progress: bytes
    ended_turn: Turn | None
    recipient: str = ""
    """Who gets it, if it was pushed; ``address`` is then empty."""
    pushed: bool = False


class Hello(msgspec.Struct, frozen=True):
    """Who is attaching, to which ``channels/{channel}/accounts/{account}``."""

    account: str
    instance: str
    exclusive: bool
    max_open_deliveries: int
    ended_only: bool


class Report(msgspec.Struct, frozen=True):
    """How a delivery went: ``outcome`` is progress, delivered, retry, waiting or undeliverable."""

    name: TurnName
    outcome: str
    retry_delay: float
    progress: bytes
    detail: str
    expire_time: float = 0.0
    """Until when it is true, in POSIX seconds; 0: always."""


class Attachment(Protocol):
    """One attached channel instance."""

    def messages(self) -> AsyncIterator[Granted | Revoked | Delivery]:
        """What to tell the instance, until the attachment's context manager is left or the server stops.

        Raises:
            ShuttingDown: when the server stops.
        """
        ...

    async def report(self, report: Report) -> None:
        """Takes the outcome of a delivery; one for a turn that was not offered here is ignored and logged."""
        ...


class DeliveryService(Protocol):
    """Offers owed turns to attached channel instances."""

    def attach(self, hello: Hello) -> AbstractAsyncContextManager[Attachment]:
        """Attaches an instance; leaving the context manager offers elsewhere what was open here."""
        ...
