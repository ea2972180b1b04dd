"""Whatever order things happen in, every debt is settled once, in order, and nothing is left behind."""

import asyncio
import contextlib
import random
from collections import defaultdict

import pytest

from server.budget import Budget
from server.domain import TurnName
from server.errors import DomainError
from server.settings import DeliverySettings, Settings, TurnSettings
from server.turn.base import Delivery, Report
from server.turn.room import TurnRoom
from tests.server.turn.conftest import PlayedModel, ask, done, hello, owed, until

CONVERSATIONS = 5
SETTINGS = Settings(
    turns=TurnSettings(linger_seconds=0.01, max_waiting_per_conversation=3, max_claims=100),
    delivery=DeliverySettings(max_retries=1000),
)


class Day:
    """A room under random use, and what was delivered."""

    def __init__(self, room: TurnRoom, dice: random.Random) -> None:
        self.room = room
        self.dice = dice
        self.submitted: dict[str, list[TurnName]] = defaultdict(list)
        self.delivered: dict[str, list[TurnName]] = defaultdict(list)
        self.replies: dict[TurnName, str] = {}

    async def channel(self, stop: asyncio.Event) -> None:
        """An instance that comes and goes, and sometimes says later, or dies without a word."""
        while not stop.is_set():
            async with self.room.deliveries.attach(
                hello(ended_only=self.dice.random() < 0.5, limit=self.dice.randint(1, 4))
            ) as attachment:
                try:
                    async with asyncio.timeout(self.dice.uniform(0.005, 0.05)):
                        async for message in attachment.messages():
                            if isinstance(message, Delivery):
                                await self._deliver(attachment, message)
                except TimeoutError:
                    pass

    async def _deliver(self, attachment, delivery: Delivery) -> None:  # type: ignore[no-untyped-def]  # an Attachment
        if delivery.ended_turn is None:
            async with self.room.turns.follow(delivery.name, 0) as follower:
                async for _ in follower.batches():
                    pass
                turn = follower.turn
        else:
            turn = delivery.ended_turn
        # The same bytes at every attempt, however often it is offered.
        assert self.replies.setdefault(delivery.name, turn.reply) == turn.reply
        assert turn.reply
        if self.dice.random() < 0.3:
            await attachment.report(Report(delivery.name, "retry", 0.001, b"", ""))
            return
        # An instance that dies between the two is offered it again, and the platform suppresses the same bytes.
        if delivery.name not in self.delivered[delivery.name.conversation]:
            self.delivered[delivery.name.conversation].append(delivery.name)
        await attachment.report(Report(delivery.name, "delivered", 0.0, b"", ""))

    async def person(self, number: int) -> None:
        """Asks in one conversation, in every way there is."""
        conversation = f"c{number % CONVERSATIONS}"
        for step in range(12):
            question = ask(f"{number}-{step}", conversation, f"p{number}-{step}")
            with contextlib.suppress(DomainError):  # a full line, a stopped turn: said, not lost
                await self._act(question, conversation)

    async def _act(self, question, conversation: str) -> None:  # type: ignore[no-untyped-def]  # an Ask
        action = self.dice.choice(["submit", "submit", "converse", "leave", "cancel", "reset"])
        if action == "submit":
            # Noted before: another person of this conversation may submit while this one is being written.
            self.submitted[conversation].append(question.name)
            await self.room.turns.submit(question, owed())
            await self.room.turns.submit(question, owed())
        elif action == "converse":
            await self.room.turns.converse(question, Budget(5))
        elif action == "leave":
            async with self.room.turns.stream(question, Budget(5)) as follower:
                async for _ in follower.batches():
                    break
        elif action == "cancel":
            self.submitted[conversation].append(question.name)
            await self.room.turns.submit(question, owed())
            await self.room.turns.cancel(question.name)
        else:
            await self.room.turns.reset(conversation)


@pytest.mark.parametrize("seed", range(6))
async def test_every_debt_is_settled_once_and_in_order(open_room, model: PlayedModel, seed: int) -> None:  # type: ignore[no-untyped-def]  # a fixture
    dice = random.Random(seed)

    async def now_and_then(prompt, played):  # type: ignore[no-untyped-def]  # a play
        from server.llm.base import Chunk, ErrorClass, ProviderError

        for word in ("一", "二", "三"):
            await asyncio.sleep(dice.uniform(0, 0.004))
            yield Chunk(text=f"{word}{dice.random()}", model="played")
            if dice.random() < 0.05:
                raise ProviderError(ErrorClass.TRANSIENT, "gone", model="played")
        yield done()

    model.play = now_and_then
    async with open_room(SETTINGS) as room:
        day, stop = Day(room, dice), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            channels = [tasks.create_task(day.channel(stop)) for _ in range(3)]
            people = [asyncio.create_task(day.person(number)) for number in range(10)]
            await asyncio.gather(*people)
            await until(lambda: len(room.deliveries) == 0, 20)
            stop.set()
            await asyncio.wait(channels)
        for conversation, names in day.submitted.items():
            assert sorted(map(str, day.delivered[conversation])) == sorted(map(str, names))
        for conversation in day.delivered:
            order = [turn.name for turn in reversed((await room.turns.list_turns(conversation, 200, "")).turns)]
            assert day.delivered[conversation] == [name for name in order if name in set(day.submitted[conversation])]
        assert room.register.running == 0
        assert not room._runner._tasks
        assert not room._debts._lanes._lines
