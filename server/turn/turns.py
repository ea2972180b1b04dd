"""Everything that can be asked about turns: what ``server/rpc`` calls."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec

from server.budget import Budget
from server.domain import Ask, Conversation, FinishReason, Owed, Rating, Sender, Turn, TurnName, TurnState
from server.errors import InputTooLong, RequestIdReused, ResourceNotFound, StoreUnavailable, TurnCancelled, from_failure
from server.memory.base import Memory
from server.store.base import StoredTurn, TurnPage, TurnStore
from server.turn.admission import Admission
from server.turn.assistants import Assistants
from server.turn.base import AssistantView, Follower
from server.turn.debts import Debts
from server.turn.deliveries import Deliveries
from server.turn.following import LiveFollower, StoredFollower
from server.turn.lane import Lanes
from server.turn.live import LiveTurn
from server.turn.media_door import MediaDoor
from server.turn.register import Register
from server.turn.runner import Runner

_WORDLESS = frozenset({FinishReason.MERGED, FinishReason.HANDED_OFF})
"""Ends that may have no reply. Without one, any other end was emptied by retention."""


class Turns:
    """The turns of this process, and those on disk."""

    def __init__(
        self,
        admission: Admission,
        assistants: Assistants,
        store: TurnStore,
        memory: Memory,
        lanes: Lanes,
        register: Register,
        runner: Runner,
        debts: Debts,
        deliveries: Deliveries,
        door: MediaDoor,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._admission = admission
        self._assistants = assistants
        self._store = store
        self._memory = memory
        self._lanes = lanes
        self._register = register
        self._runner = runner
        self._debts = debts
        self._deliveries = deliveries
        self._door = door
        self._clock = clock

    # --- asking ----------------------------------------------------------------------------

    async def converse(self, ask: Ask, budget: Budget) -> Turn:
        """Runs a turn, or attaches to the one of that name, and returns it when it is complete."""
        found, _ = await self._begin(ask, budget)
        if isinstance(found, StoredTurn):
            return found.turn
        with self._register.listening(found):
            await found.events.finished()
        return found.turn

    @asynccontextmanager
    async def stream(self, ask: Ask, budget: Budget) -> AsyncIterator[Follower]:
        """Runs a turn, or attaches to the one of that name, and follows it from the first event."""
        found, attached = await self._begin(ask, budget)
        if isinstance(found, StoredTurn):
            yield StoredFollower(found)
            return
        with self._register.listening(found):
            yield LiveFollower(found, attached=attached)

    @asynccontextmanager
    async def follow(self, name: TurnName, after_sequence: int) -> AsyncIterator[Follower]:
        """Follows a turn that exists, behind ``after_sequence``."""
        live = self._register.find(name)
        if live is not None:
            with self._register.listening(live):
                yield LiveFollower(live, attached=True, after_sequence=after_sequence)
            return
        stored = await self._stored(name)
        _raise_failure(stored)
        yield StoredFollower(stored, after_sequence=after_sequence)

    async def submit(self, ask: Ask, owed: Owed, budget: Budget | None = None) -> Turn:
        """Takes on a debt: when this returns, the turn is on disk and will be answered."""
        return await self._debts.submit(ask, owed, budget)

    async def _begin(self, ask: Ask, budget: Budget) -> tuple[LiveTurn | StoredTurn, bool]:
        """The turn of this name, and whether it existed."""
        self._admission.check_way(ask)
        ask = await self._door.sealed(ask)
        if ask.repeatable:
            existing = await self._existing(ask)
            if existing is not None:
                return existing, True
        await self._check(ask)
        ticket = self._lanes.enter(ask.name.conversation)
        turn = Turn(
            name=ask.name,
            state=TurnState.QUEUED,
            input=ask.input,
            create_time=self._clock(),
            assistant=ask.assistant,
            channel=ask.channel,
            sender=ask.sender,
        )
        live = LiveTurn(ask, turn)
        self._runner.start(live, ticket, budget)
        return live, False

    async def _check(self, ask: Ask) -> None:
        """Refuses before anything has begun."""
        self._assistants.check(ask)
        try:
            self._admission.check_length(ask)
        except InputTooLong:
            # Nobody here reads what is said to the person who has the conversation.
            if not await self._store.handed_off(ask.name.conversation):
                raise
        self._admission.check_open()

    async def _existing(self, ask: Ask) -> LiveTurn | StoredTurn | None:
        """A turn of this name that must not run again."""
        live = self._register.find(ask.name)
        if live is None:
            stored = await self._store.find(ask.name)
            # While the store was asked, another call of the same name may have begun.
            live = self._register.find(ask.name)
            if live is None:
                return None if stored is None else _replayable(ask, stored)
        live.check_same(ask)
        return None if live.failed_or_stopped and not live.owed else live

    # --- one turn ----------------------------------------------------------------------------

    async def get(self, name: TurnName) -> Turn:
        """The turn, with the text so far while it runs. Counts as interest."""
        live = self._register.find(name)
        if live is None:
            return (await self._stored(name)).turn
        self._register.show_interest(live)
        return live.snapshot()

    async def list_turns(self, conversation: str, page_size: int, page_token: str) -> TurnPage:
        """Turns of a conversation, newest first, the running ones included on the first page; no bytes of media."""
        page = await self._store.list_turns(conversation, page_size, page_token)
        running = {} if page_token else {live.turn.name: live for live in self._register.of_conversation(conversation)}
        if not running and not page.turns and not page_token and await self._store.conversation(conversation) is None:
            raise ResourceNotFound(f"conversations/{conversation}")
        stored = [
            running.pop(turn.name).snapshot().without_bytes() if turn.name in running else turn for turn in page.turns
        ]
        newest = [live.snapshot().without_bytes() for live in reversed(running.values())]
        return TurnPage((*newest, *stored), page.next_page_token)

    async def cancel(self, name: TurnName) -> Turn:
        """Stops a running or waiting turn; returns it as it stands."""
        live = self._register.find(name)
        if live is None:
            return (await self._stored(name)).turn
        live.stop(TurnCancelled())
        if live.task is not None:
            await _settled(live)
        return live.snapshot()

    async def rate(self, name: TurnName, rater: Sender | None, rating: Rating, comment: str) -> None:
        """Keeps what a person thought of a reply."""
        await self._store.rate(name, rater, rating, comment, time=self._clock())

    async def _stored(self, name: TurnName) -> StoredTurn:
        stored = await self._store.find(name)
        if stored is None:
            raise ResourceNotFound(str(name))
        return stored

    # --- conversations -------------------------------------------------------------------------

    async def conversation(self, name: str) -> Conversation:
        """The state of a conversation."""
        stored = await self._store.conversation(name)
        running = self._register.of_conversation(name)
        if stored is None and not running:
            raise ResourceNotFound(f"conversations/{name}")
        if stored is None:
            first = running[0].turn.create_time
            stored = Conversation(name, first, first, None, 0)
        entry = self._assistants.get("").settings
        idle = entry.memory_idle_minutes * 60
        rounds = await self._memory.recall(name, entry.memory_rounds, idle)
        expires = rounds[-1].time + idle if rounds and idle else None
        return msgspec.structs.replace(stored, expire_time=expires, remembered_message_count=2 * len(rounds))

    async def reset(self, name: str) -> Conversation:
        """Forgets the remembered context, what is being answered now included. Whoever has it keeps it."""
        for live in self._register.of_conversation(name):
            if live.turn.state is TurnState.RUNNING:
                live.forget()
        await self._store.cut_memory(name, time=self._clock())
        self._memory.forget(name)
        return await self.conversation(name)

    async def hand_off(self, name: str) -> Conversation:
        """Gives the conversation to a person. What is being answered now is answered to its end."""
        await self._store.hand_off(name, time=self._clock())
        return await self.conversation(name)

    async def resume(self, name: str) -> Conversation:
        """Gives the conversation back to the assistant.

        Raises:
            ResourceNotFound: if there is no such conversation.
        """
        await self._store.resume(name)
        return await self.conversation(name)

    async def delete(self, name: str) -> None:
        """Stops what runs in the conversation and removes every row of it."""
        running = self._register.of_conversation(name)
        for live in running:
            live.stop(TurnCancelled())
        for live in running:
            await _settled(live)
        self._deliveries.drop_conversation(name)
        existed = await self._store.delete_conversation(name)
        self._register.forget_conversation(name)
        self._memory.forget(name)
        if not existed and not running:
            raise ResourceNotFound(f"conversations/{name}")

    def assistant(self, name: str) -> AssistantView:
        """What a channel may show of the assistant."""
        found = self._assistants.get(name)
        return AssistantView(found.name, found.version, found.settings.texts.greeting)


def _replayable(ask: Ask, stored: StoredTurn) -> StoredTurn | None:
    """A turn on disk that answers ``ask``, or ``None`` when it may run anew.

    Raises:
        RequestIdReused: for another input, and for an answer that is no longer kept.
    """
    if stored.input_digest != ask.said_digest:
        raise RequestIdReused(str(ask.name))
    if stored.owed is None and stored.turn.state in (TurnState.FAILED, TurnState.CANCELLED):
        return None
    if not stored.turn.state.ended:
        # Owed, let go of a moment ago, and about to be taken up again (``debts.py``).
        raise StoreUnavailable("turn")
    if not stored.turn.reply and stored.turn.finish_reason not in _WORDLESS:
        raise RequestIdReused(str(ask.name))
    return stored


def _raise_failure(stored: StoredTurn) -> None:
    """A follower of a failed turn gets its error; of an owed one, the sentence in its place."""
    if stored.owed is not None:
        return
    if stored.turn.failure is not None:
        raise from_failure(stored.turn.failure)
    if stored.turn.state is TurnState.CANCELLED:
        raise TurnCancelled


async def _settled(live: LiveTurn) -> None:
    """Waits until the task of a turn that was stopped is done, whatever it ends with."""
    if live.task is not None:
        await asyncio.wait({live.task})
