"""The order of the stations. The only file that knows it.

A turn comes here when nobody of its conversation is in front of it, and leaves with a
complete reply, or with an error. What is stored of either is ``ending.py``'s business.
"""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing

import structlog

from server.budget import Budget
from server.cache.base import CachedReply, ReplyCache
from server.cache.coalesce import SharedCalls
from server.cache.key import reply_key
from server.domain import CacheOutcome, FinishReason, ProgressStage, ReplacementCause, Round
from server.errors import MediaNotSupported
from server.llm.base import Chunk, ErrorClass, Message, Prompt, Provider, ProviderError, Role
from server.memory.base import Memory
from server.memory.reset_words import asks_to_forget
from server.memory.window import select_rounds
from server.settings import Settings
from server.store.base import TurnStore
from server.turn.assistants import Assistant, Assistants
from server.turn.live import LiveTurn
from server.turn.observer import TurnObserver
from server.turn.pace import Pace
from server.turn.provider_errors import to_domain_error

_log = structlog.get_logger()


class Engine:
    """Answers one turn: reset words, memory, cache, model."""

    def __init__(
        self,
        settings: Settings,
        assistants: Assistants,
        store: TurnStore,
        memory: Memory,
        cache: ReplyCache,
        shared: SharedCalls,
        provider: Provider,
        observer: TurnObserver,
    ) -> None:
        self._settings = settings
        self._assistants = assistants
        self._store = store
        self._memory = memory
        self._cache = cache
        self._shared = shared
        self._provider = provider
        self._observer = observer

    async def answer(self, live: LiveTurn, budget: Budget) -> None:
        """Fills in the reply of ``live``, and why it ended.

        Raises:
            DomainError: for everything that a caller is told about.
        """
        ask = live.ask
        assistant = self._assistants.get(ask.assistant)
        for part in ask.input.media:
            raise MediaNotSupported(part.mime_type)
        if asks_to_forget(ask.input.text, assistant.settings.reset_words):
            await self._forget(live, assistant)
            return
        prompt, personal = await self._prompt(live, assistant)
        if personal or ask.options.bypass_cache:
            await self._ask_model(live, self._provider.generate(prompt, budget), assistant)
        else:
            await self._ask_cache(live, prompt, assistant, budget)

    async def _forget(self, live: LiveTurn, assistant: Assistant) -> None:
        conversation = live.turn.name.conversation
        await self._store.cut_memory(conversation, time=live.turn.create_time)
        self._memory.forget(conversation)
        live.add(assistant.settings.texts.reset_done)
        live.turn.finish_reason = FinishReason.FLOW

    async def _prompt(self, live: LiveTurn, assistant: Assistant) -> tuple[Prompt, bool]:
        """What the model is asked, and whether it holds memory of this person."""
        ask, entry = live.ask, assistant.settings
        rounds: tuple[Round, ...] = ()
        if entry.memory_rounds and not ask.options.bypass_memory:
            rounds = await self._memory.recall(
                ask.name.conversation, entry.memory_rounds, entry.memory_idle_minutes * 60
            )
        question = ask.question
        rounds = select_rounds(
            rounds, entry.instructions, question, max_prompt_tokens=self._settings.memory.max_prompt_tokens
        )
        messages = [Message(Role.SYSTEM, entry.instructions)] if entry.instructions else []
        for past in rounds:
            messages.append(Message(Role.USER, past.question))
            messages.append(Message(Role.ASSISTANT, past.answer))
        messages.append(Message(Role.USER, question))
        options = ask.options
        prompt = Prompt(
            model=self._assistants.model(assistant, options.model),
            messages=tuple(messages),
            temperature=entry.temperature if options.temperature is None else options.temperature,
            max_output_tokens=options.max_output_tokens or entry.max_output_tokens,
            request_id=ask.name.request_id,
            user=ask.sender.id if ask.sender else "",
        )
        return prompt, bool(rounds)

    async def _ask_cache(self, live: LiveTurn, prompt: Prompt, assistant: Assistant, budget: Budget) -> None:
        key = reply_key(assistant.version, prompt)
        known = await self._cache.get(key)
        if known is not None:
            live.turn.cache_outcome = CacheOutcome.HIT
            self._observer.cache_used(CacheOutcome.HIT)
            live.turn.model = known.model
            live.turn.finish_reason = known.finish_reason
            live.add(known.text)
            return
        # The call may outlive the turn that began it, if others wait for it too: its time
        # is that of a turn, not what this caller has left.
        own = Budget(max(budget.remaining(), self._settings.turns.turn_timeout_seconds))
        async with self._shared.join(key, lambda: self._provider.generate(prompt, own)) as call:
            outcome = CacheOutcome.MISS if call.leads else CacheOutcome.COALESCED
            live.turn.cache_outcome = outcome
            self._observer.cache_used(outcome)
            await self._ask_model(live, call.chunks(), assistant)
        turn = live.turn
        if outcome is CacheOutcome.MISS and turn.finish_reason is FinishReason.STOP:
            await self._cache.put(key, CachedReply(live.reply(), turn.finish_reason, turn.model, turn.usage))

    async def _ask_model(self, live: LiveTurn, chunks: AsyncIterator[Chunk], assistant: Assistant) -> None:
        began = time.monotonic()
        pace = Pace(live, live.ask.options.delta_interval, self._settings.turns.progress_seconds)
        pace.waiting(ProgressStage.WAITING_FOR_MODEL)
        try:
            async with aclosing(chunks):  # type: ignore[type-var]  # providers are async generators, see Provider
                await self._take_chunks(live, chunks, pace)
        except ProviderError as error:
            pace.flush()
            self._observer.model_failed(error.model, error.kind)
            _log.warning(
                "model_failed",
                turn=str(live.turn.name),
                model=error.model,
                kind=error.kind.value,
                status=error.status,
                code=error.code,
                attempts=error.attempts,
                detail=error.detail,
            )
            if error.kind is not ErrorClass.CONTENT:
                raise to_domain_error(error, text_shown=bool(live.reply())) from error
            live.turn.finish_reason = FinishReason.PROVIDER_BLOCKED
        finally:
            pace.close()
        if live.turn.finish_reason is FinishReason.PROVIDER_BLOCKED:
            live.replace(assistant.settings.texts.provider_blocked, ReplacementCause.FILTERED)
        else:
            self._observer.model_answered(live.turn.model, time.monotonic() - began)

    async def _take_chunks(self, live: LiveTurn, chunks: AsyncIterator[Chunk], pace: Pace) -> None:
        turn, room = live.turn, self._settings.turns.max_reply_characters
        visible = False
        async for chunk in chunks:
            if chunk.model:
                turn.model = chunk.model
            if chunk.reasoning and live.ask.options.include_reasoning:
                live.reason(chunk.reasoning)
            if chunk.text:
                room -= len(chunk.text)
                visible = visible or not chunk.text.isspace()
                pace.add(chunk.text if room >= 0 else chunk.text[:room])
            if chunk.finish is not None or room < 0:
                turn.finish_reason = FinishReason.LENGTH if room < 0 else chunk.finish or FinishReason.STOP
                turn.usage = chunk.usage
                break
        pace.flush()
        if turn.finish_reason is FinishReason.UNSPECIFIED:
            raise ProviderError(ErrorClass.INCOMPLETE, "the provider ended without a finish reason", model=turn.model)
        if not visible and turn.finish_reason is not FinishReason.PROVIDER_BLOCKED:
            raise ProviderError(ErrorClass.INCOMPLETE, "the reply holds nothing visible", model=turn.model)
