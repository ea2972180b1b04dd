"""People who write, and the count of what became of their messages."""

import asyncio
import itertools
import random
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from adapter.text.render import MERGED
from adapter.translate import UNREACHABLE
from simulator.app import Simulator

_TOKEN = re.compile(r"编号(\w+)-(\d{5})号")

DOORS = ("app", "bot")


@dataclass
class Tally:
    """What became of the messages of a run."""

    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    reordered: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    suppressed: int = 0
    shared: int = 0
    """Answers to several messages at once."""

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.reordered or self.unfinished or self.strange)

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} acknowledged, {len(self.lost)} lost, {len(self.doubled)} answered twice, "
            f"{len(self.reordered)} out of order, {len(self.unfinished)} unfinished, {len(self.strange)} strange, "
            f"{self.suppressed} repeated sends suppressed, {self.shared} answers to several messages"
        )


class Writer:
    """One person at one door. Writes the next message when the one before was taken."""

    def __init__(self, simulator: Simulator, person: str, door: str, pause: float, dice: random.Random) -> None:
        self._simulator = simulator
        self._person = person
        self._door = door
        self._pause = pause
        self._dice = dice
        self.owed: dict[str, str] = {}
        """Message ids by token, of what the platform has handed over for good or will hand over again."""
        self.written = 0

    async def write_until(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self.written += 1
            token = f"编号{self._person}x{self._door}-{self.written:05}号"
            await self._write(token)
            await asyncio.sleep(self._dice.uniform(0.2, 1.8) * self._pause)

    async def _write(self, token: str) -> None:
        sim = self._simulator
        if self._door == "bot":
            self.owed[token] = await sim.write_to_bot(self._person, f"请复述 {token}")
            # As many as the platform lets one person have open at a time.
            await sim.wait_for(lambda: self._open() < 3, 120)
            return
        msg_id = await sim.write_to_app(self._person, f"请复述 {token}")
        outcome = await sim.wait_for(lambda: _outcome(sim, msg_id), 120)
        if outcome == "acknowledged" and not self._told_to_write_again(msg_id):
            self.owed[token] = msg_id

    def _told_to_write_again(self, msg_id: str) -> bool:
        return any(
            bubble.answers == msg_id and bubble.text == UNREACHABLE
            for bubble in self._simulator.replies(self._person, self._door)
        )

    def _open(self) -> int:
        answered = {found.group(0) for bubble in self._simulator.replies(self._person, self._door)
                    for found in _TOKEN.finditer(bubble.text)}  # fmt: skip
        return len(self.owed.keys() - answered)

    def settled(self) -> bool:
        """Whether every owed message has been answered, and every bubble is finished."""
        return self._open() == 0 and all(
            bubble.finished for bubble in self._simulator.replies(self._person, self._door)
        )

    def count(self, tally: Tally) -> None:
        tally.acknowledged += len(self.owed)
        numbers: list[int] = []
        seen: Counter[str] = Counter()
        for bubble in self._simulator.replies(self._person, self._door):
            tally.suppressed += bubble.suppressed
            tokens = {found.group(0): int(found.group(2)) for found in _TOKEN.finditer(bubble.text)}
            if not bubble.finished:
                tally.unfinished.append(f"{self._person} {self._door}: {bubble.text!r}")
            if bubble.text in (MERGED, UNREACHABLE):
                continue  # a bubble that was open when the person wrote on; what asks to write again
            tally.shared += len(tokens) > 1
            if not tokens:
                tally.strange.append(f"{self._person} {self._door}: {bubble.text!r}")
            for token, number in tokens.items():
                seen[token] += 1
                numbers.append(number)
        tally.lost += [token for token in self.owed if not seen[token]]
        tally.doubled += [token for token, times in seen.items() if times > 1]
        tally.reordered += [
            f"{self._person} {self._door}: {later} before {earlier}"
            for later, earlier in itertools.pairwise(numbers)
            if later > earlier
        ]


def _outcome(simulator: Simulator, msg_id: str) -> str:
    return _OUTCOMES[simulator].get(msg_id, "")


_OUTCOMES: defaultdict[Simulator, dict[str, str]] = defaultdict(dict)
"""What became of callbacks, kept up by :func:`listen`: asking the whole journal each time would be slow."""


def listen(simulator: Simulator) -> None:
    """Follows the journal of a simulator."""
    outcomes = _OUTCOMES[simulator]

    def hear(change: object) -> None:
        kind = getattr(change, "kind", None)
        if kind in ("acknowledged", "given_up"):
            outcomes.setdefault(change.msg_id, str(kind))  # type: ignore[attr-defined]  # an entry has one

    simulator.listen(hear)
