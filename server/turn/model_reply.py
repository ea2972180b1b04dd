"""What a model says becomes what a turn says."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import structlog

from server.domain import FinishReason, ProgressStage, ReplacementCause
from server.llm.base import Chunk, ErrorClass, ProviderError
from server.settings import TextSettings, TurnSettings
from server.turn.live import LiveTurn
from server.turn.observer import TurnObserver
from server.turn.pace import Pace
from server.turn.provider_errors import to_domain_error

_log = structlog.get_logger()


class ModelReply:
    """Takes the chunks of one reply into a turn."""

    def __init__(self, live: LiveTurn, settings: TurnSettings, observer: TurnObserver) -> None:
        self._live = live
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
        else:
            self._observer.model_answered(turn.model, time.monotonic() - began)

    async def _take_chunks(self, chunks: AsyncGenerator[Chunk, None]) -> None:
        turn = self._live.turn
        async for chunk in chunks:
            self._take_one(chunk)
            if chunk.finish is not None or self._room < 0:
                turn.finish_reason = FinishReason.LENGTH if self._room < 0 else chunk.finish or FinishReason.STOP
                turn.usage = chunk.usage
                break
        self._pace.flush()
        if turn.finish_reason is FinishReason.UNSPECIFIED:
            raise ProviderError(ErrorClass.INCOMPLETE, "the provider ended without a finish reason", model=turn.model)
        if not self._visible and turn.finish_reason is not FinishReason.PROVIDER_BLOCKED:
            raise ProviderError(ErrorClass.INCOMPLETE, "the reply holds nothing visible", model=turn.model)

    def _take_one(self, chunk: Chunk) -> None:
        if chunk.model:
            self._live.turn.model = chunk.model
        if chunk.restart:
            self._room, self._visible = self._most, False
        if chunk.reasoning and self._live.ask.options.include_reasoning:
            self._live.reason(chunk.reasoning)
        if chunk.text:
            self._room -= len(chunk.text)
            self._visible = self._visible or not chunk.text.isspace()
            text = chunk.text if self._room >= 0 else chunk.text[: self._room]
            if chunk.restart:
                self._pace.begin_anew(text)
            else:
                self._pace.add(text)

    def _failed(self, error: ProviderError) -> None:
        self._observer.model_failed(error.model, error.kind)
        _log.warning(
            "model_failed",
            turn=str(self._live.turn.name),
            model=error.model,
            kind=error.kind.value,
            status=error.status,
            code=error.code,
            attempts=error.attempts,
            detail=error.detail,
        )
