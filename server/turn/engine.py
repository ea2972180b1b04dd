"""The order of the stations. The only file that knows it.

A turn comes here when nobody of its conversation is in front of it, and leaves with a
complete reply, or with an error. What is stored of either is ``runner.py``'s business.
"""

from server.budget import Budget
from server.cache.base import CachedReply
from server.cache.key import partition_key, reply_key
from server.domain import Ask, CacheOutcome, FinishReason
from server.filter.base import Screening
from server.filter.entries import Action, Direction
from server.filter.pii.external import RecogniserFailed
from server.filter.pii.guard import PiiGuard
from server.llm.base import Prompt
from server.settings import Settings
from server.turn.assistants import Assistant, Assistants
from server.turn.commands import obey
from server.turn.handover import keep_quiet
from server.turn.live import LiveTurn
from server.turn.media_door import MediaDoor
from server.turn.model_reply import ModelReply
from server.turn.passage import Passage
from server.turn.personal import NewReply, guarded, keep_masked, public_form
from server.turn.prompting import Prompting
from server.turn.screen import screen_input, sentence_of
from server.turn.stations import Stations


class Engine:
    """Answers one turn: files, filter, reset words, intent, memory, cache, model, filter."""

    def __init__(self, settings: Settings, assistants: Assistants, stations: Stations) -> None:
        self._settings = settings.turns
        self._assistants = assistants
        self._stations = stations
        self._prompting = Prompting(stations.memory, settings.memory.max_prompt_tokens)
        self._door = MediaDoor(stations.media, settings.turns.max_input_characters)

    async def answer(self, live: LiveTurn, budget: Budget) -> None:
        """Fills in the reply of ``live``, and why it ended.

        Raises:
            DomainError: for everything that a caller is told about.
        """
        handed_off = await self._stations.store.handed_off(live.ask.name.conversation)
        if not live.owed and self._door.wanted(live.ask):
            # An owed one has passed there before it was accepted.
            passing = self._door.bare(live.ask) if handed_off else self._door.read(live.ask, budget)
            live.ask_more((await passing).input)
        ask = live.ask
        assistant = self._assistants.get(ask.assistant)
        screening = self._stations.screener.screening(assistant.name)
        verdict = screen_input(live, screening)
        guard = self._stations.guards.get(assistant.name)
        masking = guard if assistant.settings.pii.mode == "mask" else None
        if handed_off:
            await keep_quiet(live, masking, budget)
            return
        if verdict.stops:
            self._refuse(live, verdict, assistant)
            return
        try:
            await keep_masked(live, masking, budget)
            await self._answer(live, screening, guard, assistant, budget)
        except RecogniserFailed:
            self._refuse(live, Action.BLOCK, assistant)

    async def _answer(
        self, live: LiveTurn, screening: Screening, guard: PiiGuard | None, assistant: Assistant, budget: Budget
    ) -> None:
        ask = live.ask
        # What others than the answering model may read of it.
        public = ask if guard is None else public_form(ask)
        if self._stations.moderation is not None:
            verdict = await self._stations.moderation.check(public.input.text, Direction.INPUT, assistant.name, budget)
            if verdict.stops:
                self._refuse(live, verdict, assistant)
                return
        if await obey(live, self._stations, assistant.settings):
            return
        choice = await self._stations.intents.choose(assistant.name, public, budget)
        question = await self._prompting.question(ask, assistant, choice)
        new_reply: NewReply | None = None
        if guard is not None:
            question, new_reply = await guarded(question, guard, budget)
        passage = Passage(assistant.name, screening, self._stations.moderation, new_reply)
        if question.personal or ask.options.bypass_cache:
            chunks = self._stations.provider.generate(question.prompt, budget)
            await self._reply(live, passage, budget).take(chunks, assistant.settings.texts)
        else:
            await self._ask_cache(live, question.prompt, passage, assistant, budget)

    def _reply(self, live: LiveTurn, passage: Passage, budget: Budget) -> ModelReply:
        return ModelReply(live, passage, self._settings, self._stations.observer, budget)

    def _refuse(self, live: LiveTurn, verdict: Action, assistant: Assistant) -> None:
        sentence, live.turn.finish_reason = sentence_of(verdict, Direction.INPUT, assistant.settings.texts)
        live.add(sentence)

    async def _ask_cache(
        self, live: LiveTurn, prompt: Prompt, passage: Passage, assistant: Assistant, budget: Budget
    ) -> None:
        key = reply_key(assistant.version, prompt)
        known = await self._stations.cache.get(key)
        partition = self._partition(live.ask, assistant, prompt)
        if known is None and partition is not None and self._stations.semantic is not None:
            known = await self._stations.semantic.get(prompt.messages[-1].text, partition, budget)
        if known is not None:
            self._give(live, known, passage.screening, assistant)
            return
        # The call may outlive the turn that began it, if others wait for it too: its time
        # is that of a turn, not what this caller has left.
        own = Budget(max(budget.remaining(), self._settings.turn_timeout_seconds))
        async with self._stations.shared.join(key, lambda: self._stations.provider.generate(prompt, own)) as call:
            outcome = CacheOutcome.MISS if call.leads else CacheOutcome.COALESCED
            live.turn.cache_outcome = outcome
            self._stations.observer.cache_used(outcome)
            await self._reply(live, passage, budget).take(call.chunks(), assistant.settings.texts)
        turn = live.turn
        if outcome is CacheOutcome.MISS and turn.finish_reason is FinishReason.STOP:
            kept = CachedReply(live.reply(), turn.finish_reason, turn.model, turn.usage)
            await self._stations.cache.put(key, kept)
            if partition is not None and self._stations.semantic is not None:
                await self._stations.semantic.put(prompt.messages[-1].text, partition, kept)

    def _partition(self, ask: Ask, assistant: Assistant, prompt: Prompt) -> bytes | None:
        """Within what a question of the same meaning may share the answer; ``None`` where it must not.

        A name in front of the question makes it one person's, and an option one caller's.
        """
        options = ask.options
        own = options.model or options.temperature is not None or options.max_output_tokens or options.intent
        if not assistant.settings.semantic_cache or own or (ask.sender and ask.sender.display_name):
            return None
        return partition_key(assistant.version, prompt)

    def _give(self, live: LiveTurn, known: CachedReply, screening: Screening, assistant: Assistant) -> None:
        live.turn.cache_outcome = CacheOutcome.HIT
        self._stations.observer.cache_used(CacheOutcome.HIT)
        live.turn.model = known.model
        live.turn.finish_reason = known.finish_reason
        # The lists may have changed since the reply was kept.
        screened, sentence = screening.check(known.text, Direction.OUTPUT), ""
        if screened.action.stops:
            sentence, live.turn.finish_reason = sentence_of(screened.action, Direction.OUTPUT, assistant.settings.texts)
        live.add(sentence or screened.text)
