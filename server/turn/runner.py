"""Runs turns: from their place in the line to their end on disk."""

import asyncio
import copy
import time
import uuid
from collections.abc import Callable

import structlog

from server.budget import Budget
from server.domain import FinishReason, ReplacementCause, Round, Turn, TurnState
from server.errors import (
    DomainError,
    InternalError,
    ShuttingDown,
    StoreUnavailable,
    TurnCancelled,
    TurnQuarantined,
    TurnTimedOut,
)
from server.logged_names import logged_name
from server.memory.base import Memory
from server.settings import TurnSettings
from server.store.base import StaleEpoch, TurnStore
from server.turn.assistants import Assistants
from server.turn.engine import Engine
from server.turn.handover import hands_over
from server.turn.lane import Ticket
from server.turn.live import LiveTurn
from server.turn.merging import Merging
from server.turn.observer import TurnObserver
from server.turn.register import Register
from server.turn.texts import sentence_for

_log = structlog.get_logger()

_REMEMBERED = frozenset({FinishReason.STOP, FinishReason.LENGTH})


class _AlreadyEnded(Exception):
    """The turn that was about to run has ended, and is on disk."""

    def __init__(self, turn: Turn) -> None:
        super().__init__(str(turn.name))
        self.turn = turn


class _Merged(Exception):
    """The turn that came first has ended, because the one behind it answers its message too."""


class Runner:
    """Owns the task of every running turn, and writes how each one ends."""

    def __init__(
        self,
        settings: TurnSettings,
        engine: Engine,
        merging: Merging,
        register: Register,
        assistants: Assistants,
        store: TurnStore,
        memory: Memory,
        observer: TurnObserver,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Args: ``clock`` gives POSIX seconds."""
        self._settings = settings
        self._engine = engine
        self._merging = merging
        self._register = register
        self._assistants = assistants
        self._store = store
        self._memory = memory
        self._observer = observer
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_owed_ended: Callable[[LiveTurn], None] = lambda live: None
        """Called when an owed turn has ended and is on disk."""
        self.on_owed_left: Callable[[LiveTurn], None] = lambda live: None
        """Called when an owed turn was let go of before its end could be written."""

    def start(self, live: LiveTurn, ticket: Ticket, budget: Budget | None) -> None:
        """Begins to run ``live`` in its own task, once ``ticket`` comes first.

        Args:
            budget: the caller's; ``None`` for an owed turn, whose time begins when it runs.
        """
        self._register.add(live)
        ticket.live = live
        live.task = asyncio.create_task(self._run(live, ticket, budget))
        self._tasks.add(live.task)
        live.task.add_done_callback(self._tasks.discard)

    async def _run(self, live: LiveTurn, ticket: Ticket, budget: Budget | None) -> None:
        live.begun = True
        try:
            if live.stop_reason is not None:
                raise live.stop_reason
            await self._answer(live, ticket, budget)
        except _Merged:
            pass
        except _AlreadyEnded as found:
            live.adopt_end(found.turn)
            self._announce(live, None)
        except DomainError as error:
            await self._end_badly(live, error)
        except asyncio.CancelledError:
            # Somebody asked for this end (``LiveTurn.stop``): it is written like any other.
            # Without a reason it is the process that ends, and an owed turn stays as it is.
            if live.stop_reason is not None:
                await self._end_badly(live, live.stop_reason)
            raise
        except Exception as error:  # noqa: BLE001  # the one boundary of the engine: a defect must not leave a caller waiting
            error_id = uuid.uuid4().hex[:12]
            _log.error("turn_crashed", error_id=error_id, exc_info=error, **logged_name(live.turn.name))
            await self._end_badly(live, InternalError(error_id))
        finally:
            ticket.leave()
            self._finish_books(live)

    async def _answer(self, live: LiveTurn, ticket: Ticket, budget: Budget | None) -> None:
        await self._come_first(live, ticket, budget)
        if budget is None:
            budget = Budget(self._settings.turn_timeout_seconds)
        live.turn.state = TurnState.RUNNING
        try:
            async with asyncio.timeout(max(0.0, budget.remaining() - self._settings.end_reserve_seconds)):
                await self._engine.answer(live, budget)
        except TimeoutError:
            raise TurnTimedOut("reply" if live.reply() else "model") from None
        await self._end_well(live)

    async def _come_first(self, live: LiveTurn, ticket: Ticket, budget: Budget | None) -> None:
        if not ticket.first:
            try:
                wait = None if budget is None else budget.within(self._settings.queue_seconds)
                async with asyncio.timeout(wait):
                    await ticket.come_first()
            except TimeoutError:
                raise TurnTimedOut("queue") from None
        if live.owed and not live.claimed:
            if live.attempts >= self._settings.max_claims:
                raise TurnQuarantined(live.attempts)
            await self._maybe_merge(live, ticket)
            await self._claim(live)

    async def _maybe_merge(self, live: LiveTurn, ticket: Ticket) -> None:
        later = await self._merging.successor(live, ticket)
        if later is None:
            return
        merging = asyncio.ensure_future(self._merging.merge(live, later))
        try:
            await asyncio.shield(merging)
        finally:
            # Also when this turn is stopped meanwhile: if the other one answers it, this is its end.
            merged = await merging
            if merged is not None:
                live.turn = merged
                self._announce(live, None)
        if merged is not None:
            raise _Merged

    async def _claim(self, live: LiveTurn) -> None:
        claiming = asyncio.ensure_future(self._store.claim(live.turn.name))
        try:
            await asyncio.shield(claiming)
        finally:
            # Also when this turn is stopped meanwhile: the claim happens all the same, and whoever
            # writes the end must know its epoch.
            stored = await claiming
            live.epoch, live.attempts, live.claimed = stored.epoch, stored.attempts, True
            live.ask_more(stored.ask.input)
        if stored.turn.state.ended:
            # Another process, or an end that was written although its writer was told otherwise.
            raise _AlreadyEnded(stored.turn)

    # --- ends --------------------------------------------------------------------------

    async def _end_well(self, live: LiveTurn) -> None:
        turn = self._ended(live, TurnState.SUCCEEDED)
        if hands_over(turn, live.ask):
            await self._hand_over(live, turn)
            return
        await self._write(live, turn)
        if turn.finish_reason in _REMEMBERED and not live.ask.options.bypass_memory:
            self._memory.remember(turn.name.conversation, Round(live.ask.question, turn.reply, self._clock()))
        self._announce(live, None)

    async def _hand_over(self, live: LiveTurn, turn: Turn) -> None:
        """Writes that a person has the conversation, and with it the turn that says so."""
        writing = asyncio.ensure_future(self._write(live, turn, hands_over=True))
        try:
            await asyncio.shield(writing)
        finally:
            # Also when this turn is stopped meanwhile: once the conversation is given away, that is its end.
            await writing
            _log.info("conversation_handed_off", **logged_name(turn.name))
            self._announce(live, None)

    async def _end_badly(self, live: LiveTurn, error: DomainError) -> None:
        """Ends a turn without an answer: with a fixed sentence where a person is owed one, else with the error."""
        if live.turn.state.ended:
            return
        if live.owed and isinstance(error, ShuttingDown | StoreUnavailable):
            self._leave_owed(live, error)
            return
        stopped = isinstance(error, TurnCancelled)
        if live.owed:
            texts = self._assistants.texts(live.ask.assistant)
            live.replace(sentence_for(error.as_failure(), texts), ReplacementCause.FAILED)
        turn = self._ended(live, TurnState.CANCELLED if stopped else TurnState.FAILED)
        turn.finish_reason = FinishReason.UNSPECIFIED
        turn.failure = None if stopped else error.as_failure()
        try:
            await self._write(live, turn)
        except StoreUnavailable:
            _log.error("turn_end_not_written", state=turn.state.name, **logged_name(turn.name))
            if live.owed:
                self._leave_owed(live, error)
                return
            live.turn = turn
        self._announce(live, error)

    def _leave_owed(self, live: LiveTurn, error: DomainError) -> None:
        """Lets go of a turn that is still owed on disk. Whoever follows it shall come again, whatever the reason."""
        live.fail(error if isinstance(error, ShuttingDown) else StoreUnavailable("turn"))

    def _ended(self, live: LiveTurn, state: TurnState) -> Turn:
        """The turn as it will be once this end is on disk. Until then nobody may see it as ended."""
        turn = copy.copy(live.turn)
        turn.reply = live.reply()
        turn.end_time = self._clock()
        turn.state = state
        return turn

    async def _write(self, live: LiveTurn, turn: Turn, *, hands_over: bool = False) -> None:
        events = live.recorded() if live.owed or live.ask.repeatable else ()
        if not live.owed:
            await self._store.finish(turn, live.ask, events, input_digest=live.input_digest, hands_over=hands_over)
            live.turn = turn
            return
        try:
            kept = turn.input if live.hidden else None
            await self._store.finish_owed(turn, events, epoch=live.epoch, kept_input=kept, hands_over=hands_over)
        except StaleEpoch:
            # A later claim exists, so a later worker answers: this one must say nothing.
            _log.warning("stale_worker", epoch=live.epoch, **logged_name(turn.name))
            raise StoreUnavailable("turn") from None
        live.turn = turn

    def _announce(self, live: LiveTurn, error: DomainError | None) -> None:
        if error is None or live.owed:
            live.complete()
        else:
            live.fail(error)
        self._observer.turn_ended(live.turn, time.monotonic() - live.began)
        if live.owed:
            self.on_owed_ended(live)

    def _finish_books(self, live: LiveTurn) -> None:
        """Whatever happened, nobody may be left waiting, and the register must know."""
        live.fail(ShuttingDown())  # does nothing to a turn whose events have ended
        if live.owed and not live.turn.state.ended:
            # Let go of, or stopped while its end was being written: the next start or sweep goes on with it.
            self.on_owed_left(live)
        if live.linger is not None:
            live.linger.cancel()
        self._register.ended(live)

    # --- the end of the process -----------------------------------------------------------

    async def drain(self, seconds: float) -> None:
        """Lets running turns finish, stops waiting ones, and after ``seconds`` stops all of them."""
        for live in self._register.all():
            if live.turn.state is TurnState.QUEUED:
                live.stop(ShuttingDown())
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=seconds)
        await self.aclose()

    async def aclose(self) -> None:
        """Stops every turn and waits until each has been written or left as owed."""
        for live in self._register.all():
            live.stop(ShuttingDown())
        await asyncio.gather(*self._tasks, return_exceptions=True)
