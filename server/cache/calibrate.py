"""``--calibrate-cache FILE``: from an operator's own questions to a threshold with a proof.

What FILE holds is told in ``question_log.py``. From questions a list of pairs is made,
each question with the earlier one that the cache would have answered it with, for people
to label; from labelled pairs the threshold is chosen.
"""

from array import array
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from server.cache.calibration import CONFIDENCE, Calibration, Candidate, Judged, Swept, pairs_needed, sweep
from server.cache.guards import GUARDS_VERSION, Gist, gist_of, stopped_by
from server.cache.neighbours import cosine, nearest, sketch_of
from server.cache.question_log import Pair, read_log, write_pairs, write_whole
from server.settings import SemanticCacheSettings

Vectors = Callable[[Sequence[str]], Awaitable["list[array[float]]"]]
"""Gives a vector of length 1 for each text, or raises."""


class _Asked(NamedTuple):
    text: str
    gist: Gist
    vector: "array[float]"
    sketch: int


async def calibrate(
    file: Path, vectors: Vectors, embeddings: str, settings: SemanticCacheSettings, now: datetime
) -> str:
    """Lists pairs, calibrates, or both, as FILE asks for it; returns what to tell the operator.

    Args:
        embeddings: the identity of the embedding model behind ``vectors``.

    Raises:
        ValueError: if FILE cannot be used or proves too little. Then no calibration is written. The message says
            where and what to do.
    """
    log = read_log(file)
    told = []
    if log.questions:
        listed = file.with_suffix(".pairs.jsonl")
        pairs = list_pairs(await _asked(log.questions, vectors), log.pairs, 2 * pairs_needed(settings.max_wrong_share))
        write_pairs(listed, pairs)
        told.append(f'{len(pairs)} pairs are in {listed}; set "same" in each line to true or false, and calibrate it')
    if any(pair.same is not None for pair in log.pairs):
        if not settings.calibration_file:
            raise ValueError("cache.semantic.calibration_file: name the file that shall hold the calibration")
        told.append(await _prove(log.pairs, vectors, embeddings, settings, now))
    if not told:
        raise ValueError(f'{file}: holds no questions and no labelled pairs; set "same" to true or false')
    return "\n".join(told)


async def _prove(
    pairs: Sequence[Pair], vectors: Vectors, embeddings: str, settings: SemanticCacheSettings, now: datetime
) -> str:
    texts = list(dict.fromkeys(text for pair in pairs if pair.same is not None for text in (pair.a, pair.b)))
    known = dict(zip(texts, await vectors(texts), strict=True))
    passing = [pair for pair in pairs if pair.same is not None and may_share(pair)]
    labelled = sum(pair.same is not None for pair in pairs)
    judged = [Judged(cosine(known[pair.a], known[pair.b]), wrong=not pair.same) for pair in passing]
    swept = sweep(judged, settings.max_wrong_share)
    told = "\n".join(_told(labelled, len(passing), swept.tried))
    if swept.chosen is None:
        raise ValueError(f"{told}\n{_too_little(swept, settings.max_wrong_share)}")
    chosen = swept.chosen
    calibration = Calibration(
        embeddings=embeddings,
        dimension=len(known[texts[0]]),
        guards=GUARDS_VERSION,
        threshold=chosen.threshold,
        bound=chosen.bound,
        confidence=CONFIDENCE,
        shared=chosen.shared,
        wrong=chosen.wrong,
        labelled=labelled,
        stopped=labelled - len(passing),
        date=now.isoformat(timespec="seconds"),
    )
    write_whole(Path(settings.calibration_file), msgspec.json.format(msgspec.json.encode(calibration)) + b"\n")
    return (
        f"{told}\n{settings.calibration_file} is written: answers are shared from a similarity of "
        f"{chosen.threshold:.4f} on, and at most {chosen.bound:.2%} of those are wrong ({CONFIDENCE:.0%} confidence)"
    )


def may_share(pair: Pair) -> bool:
    """Whether the guards let a pair through that is not the same text anyway."""
    one, other = gist_of(pair.a), gist_of(pair.b)
    return one is not None and other is not None and pair.a != pair.b and not stopped_by(one, other)


def _told(labelled: int, passing: int, tried: Iterable[Candidate]) -> Iterator[str]:
    yield f"{labelled} labelled pairs, of which the guards let {passing} through"
    for each in tried:
        yield (
            f"similarity {each.threshold:.4f}: {each.shared} would share an answer, {each.wrong} wrongly; "
            f"at most {each.bound:.2%} wrong"
        )


def _too_little(swept: Swept, max_wrong_share: float) -> str:
    return (
        f"that does not prove cache.semantic.max_wrong_share = {max_wrong_share}: at least {swept.missing} more "
        f"labelled pairs are needed that pass the guards and are as similar, and more if some of them are wrong"
    )


# --- pairs for labelling ------------------------------------------------------------------


def list_pairs(asked: Iterable[_Asked], labelled: Iterable[Pair], most: int) -> list[Pair]:
    """Each question with the earlier one that the cache would choose for it, the most similar first.

    Args:
        labelled: pairs that are known already and left out.
        most: pairs that are listed.
    """
    known = {frozenset((pair.a, pair.b)) for pair in labelled if pair.same is not None}
    earlier: dict[tuple[tuple[str, ...], ...], list[_Asked]] = {}
    found: list[Pair] = []
    for question in asked:
        bucket = earlier.setdefault(question.gist.fingerprint, [])
        for near in nearest(question.vector, question.sketch, bucket, -1.0):
            other = bucket[near.place]
            if not stopped_by(question.gist, other.gist):
                if frozenset((other.text, question.text)) not in known:
                    found.append(Pair(other.text, question.text, None, round(near.similarity, 6)))
                break
        bucket.append(question)
    return sorted(found, key=lambda pair: -(pair.similarity or 0.0))[:most]


async def _asked(questions: Iterable[str], vectors: Vectors) -> list[_Asked]:
    gists = {text: gist for text in questions if (gist := gist_of(text)) is not None}
    found = await vectors(list(gists))
    return [
        _Asked(text, gist, vector, sketch_of(vector)) for (text, gist), vector in zip(gists.items(), found, strict=True)
    ]
