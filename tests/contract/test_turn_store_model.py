"""Random histories of a store, crashes among them, against a model that is a dictionary.

What must hold after every step:

- every accepted owed turn is settled, or stands in ``unsettled()``, in order of arrival;
- a name is settled at most once between two replays;
- a worker whose claim is not the latest has written nothing, and given no conversation to a person;
- who has a conversation is what was written last.
"""

import asyncio
import itertools
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from server.domain import Ask, Content, DeliveryState, Delta, FinishReason, Owed, Turn, TurnName, TurnState
from server.store.base import DeliveryReport, Retention, StaleEpoch, TurnStore

FOREVER = 1e12
CONVERSATIONS = ("a", "b", "c")


@dataclass
class Expected:
    """What the model knows of a turn."""

    order: int
    ask: Ask
    owed: bool
    state: TurnState = TurnState.QUEUED
    delivery: DeliveryState = DeliveryState.OWED
    epoch: int = 0
    offers: int = 0
    retries: int = 0
    progress: bytes = b""
    reply: str = ""
    has_payload: bool = True
    merged: bool = False
    pushed: bool = False

    @property
    def waits(self) -> bool:
        """Whether it may be merged with another one."""
        return self.state is TurnState.QUEUED and self.epoch == 0 and self.delivery is DeliveryState.OWED


@dataclass
class Model:
    turns: dict[TurnName, Expected] = field(default_factory=dict)
    cuts: dict[str, int] = field(default_factory=dict)
    handed_off: set[str] = field(default_factory=set)
    arrivals: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def where(self, **wanted: Any) -> list[TurnName]:
        turns = sorted(self.turns.items(), key=lambda item: item[1].order)
        return [name for name, one in turns if all(getattr(one, key) == value for key, value in wanted.items())]


class Histories(RuleBasedStateMachine):
    """One random history. Owns an event loop and a storage of its own."""

    storages = itertools.count()

    def __init__(self, open_turn_store: Any) -> None:
        super().__init__()
        self.open = open_turn_store
        self.storage = f"history{next(self.storages)}"
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.model = Model()
        self.workers: list[tuple[TurnName, int]] = []
        self.numbers = itertools.count(1)
        self.store: TurnStore = self.runner.run(self.stack.enter_async_context(self.open(self.storage)))

    def run(self, call: Any) -> Any:
        return self.runner.run(call)

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.runner.close()

    def pick(self, data: st.DataObject, names: list[TurnName]) -> TurnName:
        return data.draw(st.sampled_from(names))

    # --- what an engine does ------------------------------------------------------------

    @rule(conversation=st.sampled_from(CONVERSATIONS), claim=st.booleans(), burst=st.integers(1, 3))
    def accept(self, conversation: str, claim: bool, burst: int) -> None:
        asks = [self.new_ask(conversation) for _ in range(burst)]

        async def together() -> list[Any]:
            return await asyncio.gather(
                *(self.store.accept(ask, Owed("acc", b"to"), time=10.0, claim=claim) for ask in asks)
            )

        for ask, accepted in zip(asks, self.run(together()), strict=True):
            assert accepted.created
            state = TurnState.RUNNING if claim else TurnState.QUEUED
            self.model.turns[ask.name] = Expected(next(self.model.arrivals), ask, True, state, epoch=int(claim))
            if claim:
                self.workers.append((ask.name, 1))

    @rule(conversation=st.sampled_from(CONVERSATIONS))
    def push(self, conversation: str) -> None:
        name = TurnName(conversation, f"p{next(self.numbers)}")
        ask, text = Ask(name, Content(), True, "default"), str(name)
        final = Turn(name, TurnState.SUCCEEDED, Content(), 10.0, end_time=10.0, reply=text)
        final.pushed, final.finish_reason = Content.of_text(text), FinishReason.STOP
        owed = Owed("acc", recipient="r")
        accepted = self.run(self.store.accept(ask, owed, time=10.0, claim=False, final=final, input_digest=b"said"))
        assert accepted.created
        self.model.turns[name] = Expected(
            next(self.model.arrivals), ask, True, TurnState.SUCCEEDED, reply=text, pushed=True
        )

    @precondition(lambda self: self.model.turns)
    @rule(data=st.data())
    def accept_again(self, data: st.DataObject) -> None:
        name = self.pick(data, list(self.model.turns))
        accepted = self.run(self.store.accept(self.model.turns[name].ask, Owed("x"), time=11.0, claim=True))
        assert not accepted.created
        assert accepted.stored.epoch == self.model.turns[name].epoch

    @precondition(lambda self: self.model.where(owed=True))
    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        name = self.pick(data, self.model.where(owed=True))
        one = self.model.turns[name]
        stored = self.run(self.store.claim(name))
        if not one.state.ended:
            one.state, one.epoch = TurnState.RUNNING, one.epoch + 1
            self.workers.append((name, one.epoch))
        assert (stored.turn.state, stored.epoch, stored.attempts) == (one.state, one.epoch, one.epoch)

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), state=st.sampled_from([TurnState.SUCCEEDED, TurnState.FAILED]), hands_over=st.booleans())
    def finish(self, data: st.DataObject, state: TurnState, hands_over: bool) -> None:
        """Some worker, perhaps one that was overtaken long ago, writes its end."""
        name, epoch = data.draw(st.sampled_from(self.workers))
        self.workers.remove((name, epoch))
        one = self.model.turns.get(name)
        ask = one.ask if one else self.new_ask(name.conversation)
        turn = Turn(name, state, ask.input, 10.0, end_time=20.0, reply=f"{name} {epoch}")
        turn.finish_reason = FinishReason.STOP
        if one is None or one.epoch != epoch:
            with pytest.raises(StaleEpoch):
                self.run(self.store.finish_owed(turn, (Delta(turn.reply),), epoch=epoch, hands_over=hands_over))
            return
        self.run(self.store.finish_owed(turn, (Delta(turn.reply),), epoch=epoch, hands_over=hands_over))
        one.state, one.reply = state, turn.reply
        if hands_over:
            self.model.handed_off.add(name.conversation)

    @precondition(lambda self: len(self.model.where(owed=True)) > 1)
    @rule(data=st.data())
    def merge(self, data: st.DataObject) -> None:
        earlier = self.pick(data, self.model.where(owed=True))
        later = self.pick(data, [name for name in self.model.where(owed=True) if name != earlier])
        first, second = self.model.turns[earlier], self.model.turns[later]
        turn = Turn(earlier, TurnState.SUCCEEDED, first.ask.input, 10.0, end_time=20.0)
        turn.finish_reason = FinishReason.MERGED
        merged = self.run(self.store.merge(turn, later))
        if not (first.waits and second.waits):
            assert merged is None
            return
        joined = Content((*first.ask.input.parts, *second.ask.input.parts))
        assert (merged.input, merged.settled) == (joined, first.offers == 0)
        first.state, first.merged = TurnState.SUCCEEDED, True
        if merged.settled:
            first.delivery = DeliveryState.DELIVERED
        second.ask = msgspec.structs.replace(second.ask, input=joined)

    @rule(conversation=st.sampled_from(CONVERSATIONS), state=st.sampled_from([TurnState.SUCCEEDED, TurnState.FAILED]))
    def answer_a_caller(self, conversation: str, state: TurnState) -> None:
        ask = self.new_ask(conversation)
        self.finish_for_caller(ask, state)
        self.model.turns[ask.name] = Expected(
            next(self.model.arrivals), ask, False, state, DeliveryState.NOT_OWED, reply="direct"
        )

    @precondition(lambda self: self.model.turns)
    @rule(data=st.data(), state=st.sampled_from([TurnState.SUCCEEDED, TurnState.FAILED]))
    def answer_a_caller_under_a_name_that_exists(self, data: st.DataObject, state: TurnState) -> None:
        name = self.pick(data, list(self.model.turns))
        one = self.model.turns[name]
        self.finish_for_caller(one.ask, state)
        if one.state is TurnState.FAILED and one.delivery in (DeliveryState.NOT_OWED, DeliveryState.DELIVERED):
            self.model.turns[name] = Expected(
                next(self.model.arrivals), one.ask, False, state, DeliveryState.NOT_OWED, reply="direct"
            )

    # --- what a channel does ------------------------------------------------------------

    @precondition(lambda self: self.model.where(owed=True))
    @rule(data=st.data())
    def offer(self, data: st.DataObject) -> None:
        one = self.model.turns[self.pick(data, self.model.where(owed=True))]
        one.offers += 1
        assert self.run(self.store.record_offer(one.ask.name)) == one.offers

    @precondition(lambda self: self.model.turns)
    @rule(
        data=st.data(),
        outcome=st.sampled_from(["progress", "retry", "waiting", "delivered", "undeliverable"]),
        progress=st.none() | st.binary(max_size=3),
    )
    def report(self, data: st.DataObject, outcome: str, progress: bytes | None) -> None:
        one = self.model.turns[self.pick(data, list(self.model.turns))]
        self.run(self.store.record_report(DeliveryReport(one.ask.name, outcome, progress, 1.0, "why", 30.0)))
        if one.delivery is not DeliveryState.OWED:
            return
        one.progress = one.progress if progress is None else progress
        one.retries += outcome == "retry"
        settled = {"delivered": DeliveryState.DELIVERED, "undeliverable": DeliveryState.UNDELIVERABLE}
        one.delivery = settled.get(outcome, DeliveryState.OWED)

    @rule()
    def replay(self) -> None:
        names = self.model.where(delivery=DeliveryState.UNDELIVERABLE)
        assert self.run(self.store.replay_undeliverable()) == len(names)
        for name in names:
            self.model.turns[name].delivery = DeliveryState.OWED
            self.model.turns[name].retries = 0

    # --- what fate and operators do -----------------------------------------------------

    @rule()
    def crash(self) -> None:
        """Nothing is settled on the way out; workers live on, as late ones."""
        self.run(self.stack.aclose())
        self.store = self.run(self.stack.enter_async_context(self.open(self.storage)))

    @rule(keys=st.booleans())
    def retention(self, keys: bool) -> None:
        dropped = self.run(self.store.apply_retention(Retention(FOREVER, FOREVER if keys else 0.0)))
        counted = 0
        for name, one in list(self.model.turns.items()):
            ages = one.delivery is not DeliveryState.OWED and (one.state.ended or one.owed)
            if keys and ages:
                del self.model.turns[name]
                counted += 1
            elif ages and one.has_payload and one.delivery is not DeliveryState.UNDELIVERABLE:
                one.has_payload, one.reply, one.progress = False, "", b""
                counted += 1
        # A conversation goes with its last turn, but not from a person.
        assert (dropped.keys if keys else dropped.payloads) == counted

    @rule(conversation=st.sampled_from(CONVERSATIONS))
    def cut(self, conversation: str) -> None:
        self.run(self.store.cut_memory(conversation, time=40.0))
        self.model.cuts[conversation] = next(self.model.arrivals)

    @rule(conversation=st.sampled_from(CONVERSATIONS))
    def delete(self, conversation: str) -> None:
        names = [name for name in self.model.turns if name.conversation == conversation]
        existed = self.run(self.store.delete_conversation(conversation))
        assert existed or not names
        for name in names:
            del self.model.turns[name]
        self.model.cuts.pop(conversation, None)
        self.model.handed_off.discard(conversation)

    @rule(conversation=st.sampled_from(CONVERSATIONS))
    def hand_off(self, conversation: str) -> None:
        self.run(self.store.hand_off(conversation, time=40.0))
        self.model.handed_off.add(conversation)

    @rule(conversation=st.sampled_from(CONVERSATIONS))
    def resume(self, conversation: str) -> None:
        existed = self.run(self.store.resume(conversation))
        assert existed or conversation not in self.model.handed_off
        self.model.handed_off.discard(conversation)

    # --- what must hold -----------------------------------------------------------------

    @invariant()
    def what_is_owed_is_unsettled_in_order(self) -> None:
        unsettled = self.run(self.store.unsettled())
        assert [one.turn.name for one in unsettled] == self.model.where(delivery=DeliveryState.OWED)
        sequences = [one.sequence for one in unsettled]
        assert sequences == sorted(set(sequences))

    @invariant()
    def every_turn_is_as_the_model_has_it(self) -> None:
        for name, one in self.model.turns.items():
            stored = self.run(self.store.find(name))
            assert stored is not None
            assert (stored.turn.state, stored.turn.delivery_state) == (one.state, one.delivery)
            assert (stored.turn.reply, stored.epoch) == (one.reply, one.epoch)
            assert (stored.offers, stored.retries, stored.progress) == (one.offers, one.retries, one.progress)
            assert stored.ask.input == (one.ask.input if one.has_payload else Content())

    @invariant()
    def memory_holds_the_answers_behind_the_cut(self) -> None:
        for conversation in CONVERSATIONS:
            rounds = self.run(self.store.recent_rounds(conversation, 1000))
            assert [one.answer for one in rounds] == [
                one.reply
                for name in self.model.where(state=TurnState.SUCCEEDED, has_payload=True, merged=False, pushed=False)
                if name.conversation == conversation
                and (one := self.model.turns[name]).order > self.model.cuts.get(conversation, 0)
            ]

    @invariant()
    def who_has_a_conversation_is_what_was_written_last(self) -> None:
        for conversation in CONVERSATIONS:
            assert self.run(self.store.handed_off(conversation)) is (conversation in self.model.handed_off)

    def new_ask(self, conversation: str) -> Ask:
        number = next(self.numbers)
        return Ask(TurnName(conversation, f"m{number}"), Content.of_text(f"{number}"), True, "default")

    def finish_for_caller(self, ask: Ask, state: TurnState) -> None:
        turn = Turn(ask.name, state, ask.input, 10.0, end_time=20.0, reply="direct", finish_reason=FinishReason.STOP)
        self.run(self.store.finish(turn, ask, ()))


def test_random_histories(open_turn_store: Any) -> None:
    run_state_machine_as_test(
        lambda: Histories(open_turn_store), settings=settings(max_examples=40, stateful_step_count=30, deadline=None)
    )
