"""Which models stand behind the names that a prompt gives. Pure."""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from server.settings import SplitSettings

_DIGEST_BYTES: Final = 8


class Split:
    """Models that share the calls by weight; a conversation stays with its choice."""

    __slots__ = ("_arms", "_name", "_total")

    def __init__(self, name: str, settings: SplitSettings) -> None:
        self._name = name
        self._arms = tuple(settings.weights.items())
        self._total = sum(settings.weights.values())

    def order(self, place: float) -> tuple[str, ...]:
        """The arm that ``place``, from 0 up to but not including 1, falls on, and then the others as they stand."""
        left = place * self._total
        chosen = ""
        for model, weight in self._arms:
            if weight <= 0:
                continue
            chosen = model
            left -= weight
            if left < 0:
                break
        return (chosen, *(model for model, _ in self._arms if model != chosen))

    def place(self, key: str) -> float:
        """A place that is the same for the same key, and unrelated to that of another split."""
        digest = hashlib.blake2b(f"{self._name}\n{key}".encode(), digest_size=_DIGEST_BYTES).digest()
        # 53 bits, which a float holds exactly: all 64 would round up to 1 now and then.
        return (int.from_bytes(digest) >> 11) / 2.0**53


class Names:
    """Resolves names of models and splits into models."""

    def __init__(
        self, models: Iterable[str], splits: Mapping[str, SplitSettings], *, random: Callable[[], float]
    ) -> None:
        """Args: what exists; the place of calls that have no key, from 0 up to but not including 1.

        Raises:
            ValueError: for a split that cannot work. The message begins with its field.
        """
        self._models = frozenset(models)
        self._splits = {name: Split(name, entry) for name, entry in splits.items()}
        self._random = random
        for name, entry in splits.items():
            self._check(name, entry)

    def resolve(self, first: str, others: tuple[str, ...], key: str) -> tuple[str, ...]:
        """Models in the order in which they are to be tried, each once; unknown names are left out.

        Args:
            first: the model or split that is asked for, before ``others``.
            key: what stays with its choice, such as the conversation. Empty: nothing does.
        """
        if not others and first in self._models:
            return (first,)
        found: dict[str, None] = {}
        for name in (first, *others):
            split = self._splits.get(name)
            if split is not None:
                found.update(dict.fromkeys(split.order(split.place(key) if key else self._random())))
            elif name in self._models:
                found[name] = None
        return tuple(found)

    def _check(self, name: str, entry: SplitSettings) -> None:
        field = f"splits.{name}"
        if name in self._models:
            raise ValueError(f"{field}: a model has that name too; give the split another one")
        for model, weight in entry.weights.items():
            if not math.isfinite(weight):
                raise ValueError(f"{field}.weights.{model}: must be a finite number, and is {weight}")
        if not math.isfinite(sum(entry.weights.values())):
            raise ValueError(f"{field}.weights: are too large to be added up; use shares such as 95 and 5")
        if not any(weight > 0 for weight in entry.weights.values()):
            raise ValueError(f"{field}.weights: must have a model with a weight above 0; add one")
        for model, weight in entry.weights.items():
            if weight < 0:
                raise ValueError(f"{field}.weights.{model}: must be 0 or more, and is {weight}")
            if model not in self._models:
                known = ", ".join(sorted(self._models))
                raise ValueError(f"{field}.weights: there is no model {model!r}; models are {known}")
