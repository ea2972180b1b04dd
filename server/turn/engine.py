"""The order of the stations. The only file that knows it.

A turn comes here when nobody of its conversation is in front of it, and leaves with a
complete reply, or with an error. What is stored of either is ``runner.py``'s business.
"""

from collections.abc import AsyncGenerator

from server.budget import Budget
from server.cache.base import CachedReply, ReplyCache
from server.cache.coalesce import SharedCalls
from server.cache.key import reply_key
from server.domain import CacheOutcome, FinishReason
from server.llm.base import Chunk, Prompt, Provider
from server.memory.base import Memory
from server.memory.reset_words import asks_to_forget
from server.routing.base import IntentChooser
from server.settings import Settings
from server.store.base import TurnStore
from server.turn.assistants import Assistant, Assistants
from server.turn.live import LiveTurn
from server.turn.model_reply import ModelReply
from server.turn.observer import TurnObserver
from server.turn.prompting import Prompting


class Engine:
    """Answers one turn: reset words, intent, memory, cache, model."""

    def __init__(
        self,
        settings: Settings,
        assistants: Assistants,
        store: TurnStore,
        memory: Memory,
        cache: ReplyCache,
        shared: SharedCalls,
        intents: IntentChooser,
        provider: Provider,
        observer: TurnObserver,
    ) -> None:
        self._settings = settings.turns
        self._assistants = assistants
        self._store = store
        self._memory = memory
        self._cache = cache
        self._shared = shared
        self._intents = intents
        self._prompting = Prompting(memory, settings.memory.max_prompt_tokens)
        self._provider = provider
        self._observer = observer

    async def answer(self, live: LiveTurn, budget: Budget) -> None:
        """Fills in the reply of ``live``, and why it ended.

        Raises:
            DomainError: for everything that a caller is told about.
        """
        ask = live.ask
        assistant = self._assistants.get(ask.assistant)
        if asks_to_forget(ask.input.text, assistant.settings.reset_words) and not ask.input.media:
            await self._forget(live, assistant)
            return
        choice = await self._intents.choose(assistant.name, ask, budget)
        question = await self._prompting.question(ask, assistant, choice)
        if question.personal or ask.options.bypass_cache:
            await self._take(live, self._provider.generate(question.prompt, budget), assistant)
        else:
            await self._ask_cache(live, question.prompt, assistant, budget)

    async def _forget(self, live: LiveTurn, assistant: Assistant) -> None:
        conversation = live.turn.name.conversation
        await self._store.cut_memory(conversation, time=live.turn.create_time)
        self._memory.forget(conversation)
        live.add(assistant.settings.texts.reset_done)
        live.turn.finish_reason = FinishReason.FLOW

    async def _ask_cache(self, live: LiveTurn, prompt: Prompt, assistant: Assistant, budget: Budget) -> None:
        key = reply_key(assistant.version, prompt)
        known = await self._cache.get(key)
        if known is not None:
            self._give(live, known)
            return
        # The call may outlive the turn that began it, if others wait for it too: its time
        # is that of a turn, not what this caller has left.
        own = Budget(max(budget.remaining(), self._settings.turn_timeout_seconds))
        async with self._shared.join(key, lambda: self._provider.generate(prompt, own)) as call:
            outcome = CacheOutcome.MISS if call.leads else CacheOutcome.COALESCED
            live.turn.cache_outcome = outcome
            self._observer.cache_used(outcome)
            await self._take(live, call.chunks(), assistant)
        turn = live.turn
        if outcome is CacheOutcome.MISS and turn.finish_reason is FinishReason.STOP:
            await self._cache.put(key, CachedReply(live.reply(), turn.finish_reason, turn.model, turn.usage))

    def _give(self, live: LiveTurn, known: CachedReply) -> None:
        live.turn.cache_outcome = CacheOutcome.HIT
        self._observer.cache_used(CacheOutcome.HIT)
        live.turn.model = known.model
        live.turn.finish_reason = known.finish_reason
        live.add(known.text)

    async def _take(self, live: LiveTurn, chunks: AsyncGenerator[Chunk, None], assistant: Assistant) -> None:
        await ModelReply(live, self._settings, self._observer).take(chunks, assistant.settings.texts)
