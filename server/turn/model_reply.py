"""What a model says becomes what a turn says."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import structlog

from server.budget import Budget
from server.domain import FinishReason, ProgressStage, ReplacementCause
from server.filter.base import Screened
from server.filter.entries import Action, Direction
from server.llm.base import Chunk, ErrorClass, LimitReached, ProviderError
from server.llm.failure_lines import log_failure
from server.logged_names import logged_name
from server.settings import TextSettings, TurnSettings
from server.turn.live import LiveTurn
from server.turn.observer import TurnObserver
from server.turn.pace import Pace
from server.turn.passage import Passage
from server.turn.provider_errors import to_domain_error
from server.turn.screen import sentence_of

_log = structlog.get_logger()

_WORDLESS: Final = frozenset({FinishReason.PROVIDER_BLOCKED, FinishReason.HANDED_OFF})
"""Ends that may come without a word: there is a sentence of ours for it, or a person has the conversation at the
server that was asked."""


class ModelReply:
    """Takes the chunks of one reply into a turn."""

    def __init__(
        self, live: LiveTurn, passage: Passage, settings: TurnSettings, observer: TurnObserver, budget: Budget
    ) -> None:
        """Args: the budget is for whoever has to approve what is shown."""
        self._live = live
        self._passage = passage
        self._budget = budget
        self._said = passage.reply()
        self._thought = passage.thoughts() if live.ask.options.include_reasoning else None
        self._anew = False
        """Whether the next text takes the place of what was shown."""
        self._stopped = Action.PASS
        self._most = settings.max_reply_characters
        self._room = self._most
        self._visible = False
        self._observer = observer
        self._pace = Pace(live, live.ask.options.delta_interval, settings.progress_seconds)

    async def take(self, chunks: AsyncGenerator[Chunk, None], texts: TextSettings) -> None:
        """Fills in the reply, its end, its usage and its model. Closes ``chunks``.

        Raises:
            DomainError: if the model failed, but for a refusal of the content, which is
                an end with a sentence of ``texts``.
        """
        began = time.monotonic()
        turn = self._live.turn
        self._pace.waiting(ProgressStage.WAITING_FOR_MODEL)
        try:
            async with aclosing(chunks):
                await self._take_chunks(chunks)
        except ProviderError as error:
            self._pace.flush()
            self._failed(error)
            if error.kind is not ErrorClass.CONTENT:
                raise to_domain_error(error, self._live.ask, text_shown=bool(self._live.reply())) from error
            turn.finish_reason = FinishReason.PROVIDER_BLOCKED
        finally:
            self._pace.close()
        if turn.finish_reason is FinishReason.PROVIDER_BLOCKED:
            self._live.replace(texts.provider_blocked, ReplacementCause.FILTERED)
            return
        if self._stopped.stops:
            sentence, turn.finish_reason = sentence_of(self._stopped, Direction.OUTPUT, texts)
            self._live.replace(sentence, ReplacementCause.FILTERED)
        self._observer.model_answered(turn.model, time.monotonic() - began)

    async def _take_chunks(self, chunks: AsyncGenerator[Chunk, None]) -> None:
        turn = self._live.turn
        async for chunk in chunks:
            await self._take_one(chunk)
            if self._stopped.stops:
                # Leaving the loop closes the call: what the model would still say is nobody's to pay for.
                self._pace.drop()
                return
            if chunk.finish is not None or self._room < 0:
                turn.finish_reason = FinishReason.LENGTH if self._room < 0 else chunk.finish or FinishReason.STOP
                turn.usage = chunk.usage
                break
        if turn.finish_reason is not FinishReason.UNSPECIFIED:
            await self._end()
        if self._stopped.stops:
            self._pace.drop()
        self._pace.flush()
        if turn.finish_reason is FinishReason.UNSPECIFIED:
            raise ProviderError(ErrorClass.INCOMPLETE, "the provider ended without a finish reason", model=turn.model)
        if not self._visible and not self._stopped.stops and turn.finish_reason not in _WORDLESS:
            raise ProviderError(ErrorClass.INCOMPLETE, "the reply holds nothing visible", model=turn.model)

    async def _take_one(self, chunk: Chunk) -> None:
        if chunk.model:
            self._live.turn.model = chunk.model
        if chunk.restart:
            self._room, self._visible, self._anew = self._most, False, True
            self._said = self._passage.reply()
        if chunk.reasoning and self._thought is not None:
            self._think(await self._thought.feed(chunk.reasoning, self._budget))
        if chunk.text and not self._stopped.stops:
            self._room -= len(chunk.text)
            self._visible = self._visible or not chunk.text.isspace()
            text = chunk.text if self._room >= 0 else chunk.text[: self._room]
            self._show(await self._said.feed(text, self._budget))

    async def _end(self) -> None:
        """What was still held back is decided now."""
        if self._thought is not None:
            self._think(await self._thought.close(self._budget))
        if not self._stopped.stops:
            self._show(await self._said.close(self._budget))

    def _show(self, screened: Screened) -> None:
        if screened.action.stops:
            self._stopped = screened.action
        if screened.text and self._anew:
            self._anew = False
            self._pace.begin_anew(screened.text)
        elif screened.text:
            self._pace.add(screened.text)

    def _think(self, screened: Screened) -> None:
        if screened.action.stops:
            self._stopped = screened.action
        if screened.text:
            self._live.reason(screened.text)

    def _failed(self, error: ProviderError) -> None:
        self._observer.model_failed(error.model, error.kind)
        if isinstance(error, LimitReached):
            return  # `limit_reached` says it, a few times for however many calls
        name = logged_name(self._live.turn.name)
        log_failure(_log.warning, "model_failed", error, **name, model=error.model, attempts=error.attempts)
