"""From which similarity on an answer may be shared, proven on the operator's own questions. Pure, but for one file.

The proof: of the labelled pairs that pass the guards and are at least so similar, some
were wrong. From their number follows an upper bound on the true share of wrong answers
(``binomial.py``). Several thresholds are tried, and the best that passes is taken, which
gives chance several goes; so their number and places are fixed before any label is
looked at, and each must pass with its part of the 5 %. What is proven holds, at 95 %,
for whichever is chosen.

It holds for pairs like the labelled ones: questions of the same log, each with the
earlier question that the cache would have answered it with. That is how ``calibrate.py``
lists pairs for labelling.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from server.cache.binomial import sample_needed, upper_bound
from server.cache.guards import GUARDS_VERSION
from server.settings import AssistantSettings, SemanticCacheSettings

CONFIDENCE: Final = 0.95
CANDIDATES: Final = 5
"""Thresholds that are tried."""
_EACH: Final = 1 - (1 - CONFIDENCE) / CANDIDATES
"""The confidence that each must reach, so that all together have ``CONFIDENCE``."""


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was proven, as the file keeps it."""

    embeddings: str
    """The identity of the embedding model."""
    dimension: int
    """How many numbers its vectors have."""
    guards: str
    """:data:`server.cache.guards.GUARDS_VERSION`."""
    threshold: float
    """The least cosine at which an answer is shared."""
    bound: float
    """The largest share of wrong answers among those that are shared, at ``confidence``."""
    confidence: float
    shared: int
    """Labelled pairs that would have shared an answer."""
    wrong: int
    """How many of them should not have."""
    labelled: int
    stopped: int
    """Labelled pairs that the guards keep apart."""
    date: str
    """ISO 8601."""


class Judged(NamedTuple):
    """A labelled pair that passed the guards."""

    similarity: float
    wrong: bool
    """Whether sharing an answer would have been."""


class Candidate(NamedTuple):
    """A threshold that was tried."""

    threshold: float
    shared: int
    wrong: int
    bound: float


class Swept(NamedTuple):
    """What trying them has shown."""

    chosen: Candidate | None
    """The lowest threshold whose bound is small enough."""
    tried: tuple[Candidate, ...]
    """From the highest threshold down."""
    missing: int
    """Labelled pairs that a proof still needs at least, if none of the new ones is wrong. 0 if there is a proof."""


def sweep(pairs: Sequence[Judged], max_wrong_share: float) -> Swept:
    """Looks for the lowest threshold that shares wrong answers in at most ``max_wrong_share`` of cases."""
    ranked = sorted(pairs, key=lambda pair: -pair.similarity)
    tried = tuple(_candidate(ranked, size) for size in _sizes(len(ranked), max_wrong_share))
    proven = [candidate for candidate in tried if candidate.bound <= max_wrong_share]
    if proven:
        return Swept(proven[-1], tried, 0)
    if not tried:
        return Swept(None, (), pairs_needed(max_wrong_share) - len(ranked))
    missing = min(sample_needed(each.wrong, max_wrong_share, _EACH) - each.shared for each in tried)
    return Swept(None, tried, missing)


def pairs_needed(max_wrong_share: float) -> int:
    """Labelled pairs that a proof takes at the least, when not one of them is wrong."""
    return sample_needed(0, max_wrong_share, _EACH)


def _sizes(count: int, max_wrong_share: float) -> list[int]:
    """How many of the most similar pairs each candidate shares. Never depends on a label."""
    least = pairs_needed(max_wrong_share)
    if count < least:
        return []
    step = (count / least) ** (1 / (CANDIDATES - 1))
    return sorted({min(count, round(least * step**number)) for number in range(CANDIDATES)})


def _candidate(ranked: Sequence[Judged], size: int) -> Candidate:
    threshold = ranked[size - 1].similarity
    # Pairs of the same similarity are shared together.
    taken = [pair for pair in ranked if pair.similarity >= threshold]
    wrong = sum(pair.wrong for pair in taken)
    return Candidate(threshold, len(taken), wrong, upper_bound(wrong, len(taken), _EACH))


# --- the file -----------------------------------------------------------------------------


def calibration_wanted(assistants: dict[str, AssistantSettings]) -> str:
    """The first assistant with ``semantic_cache``; empty if there is none, and so no need for a calibration."""
    return next((name for name, entry in assistants.items() if entry.semantic_cache), "")


def load_calibration(assistant: str, settings: SemanticCacheSettings, embeddings: str) -> Calibration:
    """The calibration by which ``assistant`` may share answers.

    Args:
        embeddings: the identity of the embedding model in use.

    Raises:
        ValueError: if it does not exist, cannot be read, or does not prove what the settings ask for. The message
            begins with the field and says what to do.
    """
    field = "cache.semantic.calibration_file"
    again = "run `python -m server --calibrate-cache FILE`"
    if not settings.calibration_file:
        raise ValueError(f"{field}: assistants.{assistant}.semantic_cache needs one; name a file and {again}")
    try:
        found = msgspec.json.decode(Path(settings.calibration_file).read_bytes(), type=Calibration)
    except OSError as error:
        raise ValueError(
            f"{field}: {settings.calibration_file} cannot be read ({error.strerror}); "
            f"{again}, or switch assistants.{assistant}.semantic_cache off"
        ) from None
    except msgspec.DecodeError as error:
        raise ValueError(f"{field}: {settings.calibration_file} is no calibration ({error}); {again}") from None
    if found.embeddings != embeddings:
        raise ValueError(f"{field}: was made with the embeddings of {found.embeddings}, not {embeddings}; {again}")
    if found.guards != GUARDS_VERSION:
        raise ValueError(f"{field}: was made with the guards {found.guards}, not {GUARDS_VERSION}; {again}")
    _check_proof(field, found, settings.max_wrong_share, again)
    return found


def _check_proof(field: str, found: Calibration, max_wrong_share: float, again: str) -> None:
    whole = 0 <= found.wrong <= found.shared and 0 < found.threshold <= 1.001 and found.dimension > 0
    if not whole or not math.isclose(found.bound, upper_bound(found.wrong, found.shared, _EACH), rel_tol=1e-6):
        raise ValueError(f"{field}: its numbers contradict one another; {again}")
    if found.bound > max_wrong_share:
        raise ValueError(
            f"{field}: proves at most {found.bound:.2%} wrong answers, and cache.semantic.max_wrong_share asks for "
            f"{max_wrong_share:.2%}; {again} with more labelled pairs, or allow more"
        )
