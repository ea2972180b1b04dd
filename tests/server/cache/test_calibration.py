"""What counts as a proof, and that chance does not get several goes at it."""

import random
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from server.cache.binomial import upper_bound
from server.cache.calibration import (
    CANDIDATES,
    CONFIDENCE,
    Calibration,
    Judged,
    calibration_wanted,
    load_calibration,
    pairs_needed,
    sweep,
)
from server.cache.guards import GUARDS_VERSION
from server.settings import AssistantSettings, SemanticCacheSettings

SHARE = 0.05


def pairs(count: int, wrong: set[int] | None = None) -> list[Judged]:
    """Pairs of falling similarity, of which those at the places ``wrong`` are."""
    return [Judged(1 - place / 10_000, place in (wrong or set())) for place in range(count)]


def test_without_a_mistake_the_lowest_similarity_is_taken() -> None:
    needed = pairs_needed(SHARE)
    swept = sweep(pairs(1000), SHARE)
    assert swept.chosen is not None
    assert (swept.chosen.shared, swept.chosen.wrong, swept.missing) == (1000, 0, 0)
    assert swept.chosen.threshold == pairs(1000)[-1].similarity
    assert len(swept.tried) == CANDIDATES
    assert swept.tried[0].shared == needed
    assert [each.threshold for each in swept.tried] == sorted((each.threshold for each in swept.tried), reverse=True)


def test_where_mistakes_begin_sharing_ends() -> None:
    swept = sweep(pairs(1000, set(range(400, 1000, 2))), SHARE)
    assert swept.chosen is not None
    assert swept.chosen.shared < 460
    assert swept.chosen.bound <= SHARE
    assert all(each.bound > SHARE for each in swept.tried if each.threshold < swept.chosen.threshold)


def test_too_few_pairs_prove_nothing_and_it_says_how_many_are_missing() -> None:
    needed = pairs_needed(SHARE)
    assert sweep(pairs(needed - 1), SHARE) == (None, (), 1)
    assert sweep([], SHARE) == (None, (), needed)
    proven = sweep(pairs(needed), SHARE)
    assert proven.chosen is not None
    # One mistake in all that there is: the number that is missing then is enough, and one less is not.
    failed = sweep(pairs(needed, {0}), SHARE)
    assert failed.chosen is None
    more = needed + failed.missing
    confidence = 1 - (1 - CONFIDENCE) / CANDIDATES
    assert upper_bound(1, more, confidence) <= SHARE < upper_bound(1, more - 1, confidence)


def test_equal_similarities_are_shared_together() -> None:
    same = [Judged(0.9, wrong=place == 299) for place in range(300)]
    swept = sweep(same, SHARE)
    assert {(each.shared, each.wrong) for each in swept.tried} == {(300, 1)}


@given(st.lists(st.tuples(st.floats(-1, 1), st.booleans()), max_size=400), st.floats(0.01, 0.2))
@settings(deadline=None, max_examples=50)
def test_what_is_chosen_is_proven(found: list[tuple[float, bool]], share: float) -> None:
    judged = [Judged(*pair) for pair in found]
    swept = sweep(judged, share)
    thresholds = [each.threshold for each in swept.tried]
    assert thresholds == [each.threshold for each in sweep([Judged(s, not w) for s, w in found], share).tried]
    if swept.chosen is None:
        assert swept.missing > 0
        return
    taken = [pair for pair in judged if pair.similarity >= swept.chosen.threshold]
    wrong = sum(pair.wrong for pair in taken)
    assert upper_bound(wrong, len(taken), 1 - (1 - CONFIDENCE) / CANDIDATES) <= share


def test_a_model_that_is_wrong_too_often_is_proven_right_in_fewer_than_one_of_twenty() -> None:
    """The promise itself: at a true share just above what is asked for, how often does a calibration succeed?"""
    chance = random.Random(20261126)
    true_share = SHARE * 1.02
    rounds = 300
    proven = 0
    for _ in range(rounds):
        judged = [Judged(chance.random(), chance.random() < true_share) for _ in range(400)]
        proven += sweep(judged, SHARE).chosen is not None
    assert proven <= 0.05 * rounds


# --- the file -----------------------------------------------------------------------------

GOOD = Calibration(
    embeddings="m",
    dimension=256,
    guards=GUARDS_VERSION,
    threshold=0.8,
    bound=upper_bound(0, 500, 0.99),
    confidence=0.95,
    shared=500,
    wrong=0,
    labelled=700,
    stopped=200,
    date="2026-11-26T00:00:00+00:00",
)


def kept(tmp_path: Path, content: Calibration | bytes) -> SemanticCacheSettings:
    file = tmp_path / "calibration.json"
    file.write_bytes(content if isinstance(content, bytes) else msgspec.json.encode(content))
    return SemanticCacheSettings(embeddings="e", calibration_file=str(file))


def test_a_proof_that_fits_is_taken(tmp_path: Path) -> None:
    assert load_calibration("default", kept(tmp_path, GOOD), "m") == GOOD


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (structs.replace(GOOD, embeddings="n"), "was made with the embeddings of n, not m"),
        (structs.replace(GOOD, guards="0-0"), "was made with the guards 0-0"),
        (structs.replace(GOOD, shared=300, bound=upper_bound(0, 300, 0.99)), "max_wrong_share asks for 1.00%"),
        (structs.replace(GOOD, bound=0.001), "contradict one another"),
        (structs.replace(GOOD, wrong=9), "contradict one another"),
        (structs.replace(GOOD, shared=-1), "contradict one another"),
        (structs.replace(GOOD, threshold=0.0), "contradict one another"),
        (structs.replace(GOOD, dimension=0), "contradict one another"),
        (b"{}", "is no calibration"),
        (b"\xff", "is no calibration"),
        (b"", "is no calibration"),
    ],
)
def test_one_that_does_not_is_refused(tmp_path: Path, content: Calibration | bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        load_calibration("default", kept(tmp_path, content), "m")
    assert str(caught.value).startswith("cache.semantic.calibration_file: ")
    assert "--calibrate-cache" in str(caught.value)


@pytest.mark.parametrize("file", ["", "/nowhere/calibration.json"])
def test_one_that_is_not_there_is_asked_for(file: str) -> None:
    with pytest.raises(ValueError, match="--calibrate-cache FILE") as caught:
        load_calibration("sales", SemanticCacheSettings(calibration_file=file), "m")
    assert "assistants.sales.semantic_cache" in str(caught.value)


def test_who_needs_one() -> None:
    assert calibration_wanted({"default": AssistantSettings()}) == ""
    assert calibration_wanted({"default": AssistantSettings(), "faq": AssistantSettings(semantic_cache=True)}) == "faq"
