"""Turns that are owed: taken on, gone on with after a start, never forgotten.

A debt begins when :meth:`Debts.submit` has written the turn, and ends when the channel
says that the person has the reply. Between the two, whatever this process drops is found
again on disk: at the start, and by a sweep when something was let go of.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from server.budget import Budget
from server.domain import Ask, DeliveryState, FinishReason, Owed, Turn, TurnState
from server.errors import (
    ConversationBusy,
    DomainError,
    InputTooLong,
    RequestIdReused,
    StoreUnavailable,
)
from server.settings import TurnSettings
from server.store.base import Accepted, StoredTurn, TurnStore
from server.turn.accepting import Accepting
from server.turn.admission import Admission
from server.turn.assistants import Assistants
from server.turn.deliveries import Deliveries
from server.turn.lane import Lanes, Ticket
from server.turn.live import LiveTurn
from server.turn.media_door import MediaDoor
from server.turn.merging import Merging
from server.turn.register import Register
from server.turn.runner import Runner
from server.turn.texts import sentence_for

_log = structlog.get_logger()

_SWEEP_SECONDS = 5.0
"""How soon a turn that was let go of is taken up again. Costs one read, and only when there is one."""


class Debts:
    """Takes on owed turns and sees to it that each is run."""

    def __init__(
        self,
        settings: TurnSettings,
        admission: Admission,
        assistants: Assistants,
        store: TurnStore,
        lanes: Lanes,
        register: Register,
        runner: Runner,
        deliveries: Deliveries,
        merging: Merging,
        door: MediaDoor,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._admission = admission
        self._assistants = assistants
        self._store = store
        self._lanes = lanes
        self._register = register
        self._runner = runner
        self._deliveries = deliveries
        self._merging = merging
        self._door = door
        self._clock = clock
        self._accepting = Accepting()
        self._left = asyncio.Event()
        runner.on_owed_ended = lambda live: deliveries.ended(live.turn)
        runner.on_owed_left = lambda live: self._left.set()

    async def submit(self, ask: Ask, owed: Owed, budget: Budget | None = None) -> Turn:
        """Takes on a debt: when this returns, the turn is on disk.

        Files are read first, within the budget. ``None``: within what the settings allow.

        A caller that gives up halfway changes nothing: the writing goes on, and its next
        request with the same id finds the turn.
        """
        self._admission.check_way(ask)
        live = self._register.find(ask.name)
        if live is not None and live.owed:
            live.check_same(await self._door.sealed(ask))
            return live.snapshot()
        if live is not None and not live.turn.state.ended:
            raise RequestIdReused(str(ask.name))  # it runs for a caller, who will have its answer
        return await self._accepting.run(self._take_on(ask, owed, budget))

    async def _take_on(self, ask: Ask, owed: Owed, budget: Budget | None) -> Turn:
        self._assistants.check(ask)
        self._admission.check_open()
        refusal = self._refusal(ask)
        # Before anything is read, so that what the person writes meanwhile is answered behind it.
        ticket = self._lanes.enter(ask.name.conversation, always=True)
        try:
            async with self._door.alone(ask):
                ask = await self._read(ask, refusal, budget)
                accepted = await self._accept(ask, owed, refusal, ticket)
        except BaseException:
            ticket.leave()
            raise
        stored = accepted.stored
        if not accepted.created:
            ticket.leave()
            return self._existing(ask, stored)
        if stored.turn.state.ended:
            ticket.leave()
            self._deliveries.add(stored)
            return stored.turn
        live = _revive(stored, claimed=stored.attempts > 0)
        self._deliveries.add(stored)
        self._runner.start(live, ticket, None)
        return live.snapshot()

    async def _read(self, ask: Ask, refusal: DomainError | None, budget: Budget | None) -> Ask:
        """What is answered and kept. Nothing is read for a turn that exists or that gets no answer of a model."""
        if not self._door.wanted(ask):
            return ask
        if refusal is not None or await self._store.find(ask.name) is not None:
            return await self._door.bare(ask)
        if await self._store.handed_off(ask.name.conversation):
            return await self._door.bare(ask)
        return await self._door.read(ask, budget)

    async def _accept(self, ask: Ask, owed: Owed, refusal: DomainError | None, ticket: Ticket) -> Accepted:
        try:
            return await self._store.accept(
                ask,
                owed,
                time=self._clock(),
                claim=refusal is None and ticket.first and not self._merging.may_wait(ask),
                final=None if refusal is None else await self._refused(ask, refusal),
                input_digest=ask.input_digest or None,
            )
        except StoreUnavailable:
            self._left.set()  # it may have been written all the same
            raise

    def _refusal(self, ask: Ask) -> DomainError | None:
        """Why a message is answered with a fixed sentence at once. It is owed that much."""
        try:
            self._admission.check_length(ask)
        except InputTooLong as error:
            return error
        if self._lanes.full(ask.name.conversation):
            return ConversationBusy(self._settings.max_waiting_per_conversation, 0.0)
        return None

    async def _refused(self, ask: Ask, error: DomainError) -> Turn:
        now = self._clock()
        turn = Turn(
            name=ask.name,
            state=TurnState.FAILED,
            input=ask.input,
            create_time=now,
            end_time=now,
            assistant=ask.assistant,
            channel=ask.channel,
            sender=ask.sender,
            delivery_state=DeliveryState.OWED,
        )
        if await self._store.handed_off(ask.name.conversation):
            turn.state, turn.finish_reason = TurnState.SUCCEEDED, FinishReason.HANDED_OFF
            return turn
        turn.failure = error.as_failure()
        turn.reply = sentence_for(turn.failure, self._assistants.texts(ask.assistant))
        return turn

    def _existing(self, ask: Ask, stored: StoredTurn) -> Turn:
        if stored.input_digest != ask.said_digest:
            raise RequestIdReused(str(ask.name))
        self._adopt(stored)
        return stored.turn

    def _adopt(self, stored: StoredTurn) -> None:
        """Goes on with a debt that is on disk, unless somebody here works on it already."""
        if stored.turn.delivery_state is not DeliveryState.OWED:
            return
        self._deliveries.add(stored)
        if stored.turn.state.ended:
            return
        live = self._register.find(stored.turn.name)
        if live is None or live.events.closed:
            ticket = self._lanes.enter(stored.turn.name.conversation, always=True)
            self._runner.start(_revive(stored, claimed=False), ticket, None)

    async def recover(self) -> int:
        """Takes up every debt that is on disk, in order of arrival; returns how many there are.

        A debt that is not there any more was settled by a write whose success nobody heard
        of. Others of its conversation would wait behind it.
        """
        known = self._deliveries.names()
        unsettled = await self._store.unsettled()
        self._deliveries.drop_settled(known.difference(stored.turn.name for stored in unsettled))
        for stored in unsettled:
            self._adopt(stored)
        return len(unsettled)

    def look_again(self) -> None:
        """Has the disk searched soon, for what may have been written although its writer was told otherwise."""
        self._left.set()

    async def sweep_for_ever(self) -> None:
        """Takes up what was let go of, soon after it was. Runs until it is cancelled."""
        while True:
            await self._left.wait()
            await asyncio.sleep(_SWEEP_SECONDS)
            self._left.clear()
            try:
                count = await self.recover()
            except StoreUnavailable:
                self._left.set()
            else:
                _log.info("debts_swept", unsettled=count)

    async def aclose(self, seconds: float) -> None:
        """As :meth:`server.turn.accepting.Accepting.aclose`."""
        await self._accepting.aclose(seconds)


def _revive(stored: StoredTurn, *, claimed: bool) -> LiveTurn:
    turn = stored.turn
    turn.state = TurnState.QUEUED
    return LiveTurn(
        stored.ask,
        turn,
        owed=True,
        epoch=stored.epoch,
        attempts=stored.attempts,
        claimed=claimed,
        input_digest=stored.input_digest,
    )
