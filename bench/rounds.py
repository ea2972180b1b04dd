"""Interleaved rounds in random order, and what they come to."""

import math
import random
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence

import msgspec

from bench.jobs import Result

Contender = Callable[[], Result]


class Setting(msgspec.Struct, frozen=True):
    """How thorough a run is, and what it is run against."""

    rounds: int
    seconds: float
    """The window of one measurement."""
    scale: float
    """Multiplies counts and streams; 1 in a full run."""
    upstream: str
    wecom: str

    def number(self, full: int) -> int:
        return max(8, round(full * self.scale))


class Measured(msgspec.Struct, frozen=True):
    """What interleaved rounds gave, by name of the contender."""

    unit: str
    """What is counted: ``call``, ``stream``, ``callback``."""
    results: dict[str, list[Result]]
    tokens: int = 0
    """How many tokens are in one of what is counted; CPU time is then given for a token."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The product beside a baseline, measured in the same rounds."""

    scenario: str
    measured: Measured
    baseline: str
    subject: str = "product"
    aim: float | None = None
    """The least throughput relative to the baseline."""

    def rate(self, name: str) -> float:
        """Median of the rounds, per second."""
        return statistics.median(result.rate for result in self.measured.results[name])

    def cpu(self, name: str) -> float:
        """Median of the rounds, in seconds."""
        return statistics.median(result.cpu_each for result in self.measured.results[name]) / (
            self.measured.tokens or 1
        )

    def busy(self, name: str) -> float:
        """How much of its core the subject used; well below 1, something else was the limit."""
        return statistics.median(sum(result.cpu.values()) / result.seconds for result in self.measured.results[name])

    @property
    def ratio(self) -> float:
        return self.rate(self.subject) / self.rate(self.baseline)

    @property
    def cpu_ratio(self) -> float:
        """What throughput would be, relative to the baseline, if CPU time were all that counts."""
        spent = self.cpu(self.subject)
        return self.cpu(self.baseline) / spent if spent else math.nan  # below a clock tick, in a very short run


class Figure(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A figure that stands for itself."""

    scenario: str
    name: str
    value: float
    unit: str
    aim: float | None = None
    at_least: bool = False
    """Whether the aim is a floor; otherwise it is a ceiling."""
    note: str = ""

    @property
    def met(self) -> bool | None:
        if self.aim is None:
            return None
        return self.value >= self.aim if self.at_least else self.value <= self.aim


Outcome = Comparison | Figure


def interleave(contenders: Mapping[str, Contender], rounds: int) -> dict[str, list[Result]]:
    """Measures each contender once a round, in random order."""
    results: dict[str, list[Result]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name in random.sample(list(contenders), len(contenders)):
            results[name].append(contenders[name]())
            print(".", end="", file=sys.stderr, flush=True)
    return results


def median(values: Sequence[float]) -> float:
    """The median as a float."""
    return float(statistics.median(values))
