"""From files of questions to a calibration, as an operator goes the way."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from server.cache.calibrate import calibrate
from server.cache.calibration import Calibration, load_calibration, pairs_needed
from server.cache.guards import GUARDS_VERSION
from server.cache.question_log import MAX_LINES, Pair, read_log
from server.settings import SemanticCacheSettings
from tests.server.llm.ngram_embedder import DIMENSION, ngram_vector

DATA = Path(__file__).parents[2] / "data" / "semantic"
NOW = datetime(2026, 11, 26, tzinfo=UTC)


async def vectors(texts: Sequence[str]) -> Any:
    return [ngram_vector(text) for text in texts]


def write(file: Path, lines: Iterable[object]) -> Path:
    file.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return file


def semantic(tmp_path: Path, share: float = 0.2) -> SemanticCacheSettings:
    return SemanticCacheSettings(
        embeddings="e", calibration_file=str(tmp_path / "calibration.json"), max_wrong_share=share
    )


# --- proving ------------------------------------------------------------------------------


async def test_labelled_pairs_become_a_calibration_that_the_server_takes(tmp_path: Path) -> None:
    settings = semantic(tmp_path)
    told = await calibrate(DATA / "pairs.jsonl", vectors, "ngrams", settings, NOW)
    found = load_calibration("default", settings, "ngrams")
    assert found == msgspec.json.decode(Path(settings.calibration_file).read_bytes(), type=Calibration)
    assert (found.embeddings, found.dimension, found.guards) == ("ngrams", DIMENSION, GUARDS_VERSION)
    assert (found.labelled, found.wrong, found.date) == (150, 0, "2026-11-26T00:00:00+00:00")
    # The guards keep apart all that differ, and some that do not.
    assert found.stopped >= 75
    assert found.shared == 150 - found.stopped
    assert found.bound <= 0.2
    assert f"150 labelled pairs, of which the guards let {found.shared} through" in told
    assert f"from a similarity of {found.threshold:.4f} on" in told


async def test_too_little_leaves_the_old_calibration_alone(tmp_path: Path) -> None:
    settings = semantic(tmp_path, share=0.01)
    Path(settings.calibration_file).write_text("old")
    with pytest.raises(ValueError, match=r"does not prove cache.semantic.max_wrong_share = 0.01: at least (\d+) more"):
        await calibrate(DATA / "pairs.jsonl", vectors, "ngrams", settings, NOW)
    assert Path(settings.calibration_file).read_text() == "old"


async def test_wrong_answers_count_against_it(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (DATA / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    for line in lines[:30]:
        line["same"] = False
    with pytest.raises(ValueError, match=r"would share an answer, \d\d wrongly"):
        await calibrate(write(tmp_path / "log.jsonl", lines), vectors, "ngrams", semantic(tmp_path), NOW)


async def test_a_place_for_the_calibration_is_needed(tmp_path: Path) -> None:
    settings = SemanticCacheSettings(embeddings="e", max_wrong_share=0.2)
    with pytest.raises(ValueError, match=r"^cache\.semantic\.calibration_file: name the file"):
        await calibrate(DATA / "pairs.jsonl", vectors, "ngrams", settings, NOW)
    settings = SemanticCacheSettings(embeddings="e", calibration_file=str(tmp_path / "no" / "c"), max_wrong_share=0.2)
    with pytest.raises(ValueError, match="cannot be written"):
        await calibrate(DATA / "pairs.jsonl", vectors, "ngrams", settings, NOW)


# --- listing ------------------------------------------------------------------------------


def listed(tmp_path: Path) -> list[Pair]:
    lines = (tmp_path / "log.pairs.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Pair) for line in lines]


async def test_questions_are_listed_with_what_would_have_answered_them(tmp_path: Path) -> None:
    log = write(
        tmp_path / "log.jsonl",
        [
            {"question": "离职证明去哪里开", "time": "2026-11-01"},
            {"question": "年假能结转吗"},
            {"question": "离职证明去哪里开？"},
            {"question": "年假不能结转吗"},
            {"question": "请问在哪里开离职证明"},
            {"question": "print(x)怎么用"},
            {"question": "年假可以结转吗"},
            {"question": "年假能不能结转啊"},
        ],
    )
    told = await calibrate(log, vectors, "ngrams", SemanticCacheSettings(), NOW)
    pairs = listed(tmp_path)
    assert f"{len(pairs)} pairs are in" in told
    assert {(pair.a, pair.b) for pair in pairs} == {
        ("离职证明去哪里开", "请问在哪里开离职证明"),
        ("年假能结转吗", "年假可以结转吗"),
        ("年假能结转吗", "年假能不能结转啊"),
    }
    assert [pair.similarity for pair in pairs] == sorted((pair.similarity for pair in pairs), reverse=True)
    assert all(pair.same is None for pair in pairs)


async def test_a_list_that_may_hold_labels_is_not_overwritten(tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", [{"question": "年假能结转吗"}])
    await calibrate(log, vectors, "ngrams", SemanticCacheSettings(), NOW)
    with pytest.raises(ValueError, match="move it away"):
        await calibrate(log, vectors, "ngrams", SemanticCacheSettings(), NOW)


async def test_what_is_labelled_is_not_listed_again_and_the_list_has_an_end(tmp_path: Path) -> None:
    known = {"a": "年假可以结转吗", "b": "年假能结转吗", "same": True}
    many = [{"question": "请问" * (number % 7) + f"{number}号楼怎么走"} for number in range(200)]
    many += [{"question": f"{number}号楼如何走"} for number in range(200)]
    log = write(tmp_path / "log.jsonl", [{"question": known["a"]}, {"question": known["b"]}, known, *many])
    settings = semantic(tmp_path)
    with pytest.raises(ValueError, match="does not prove"):
        await calibrate(log, vectors, "ngrams", settings, NOW)
    pairs = listed(tmp_path)
    assert len(pairs) == 2 * pairs_needed(0.2) < 200
    assert not any("年假" in pair.a for pair in pairs)


# --- reading ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", r"log.jsonl:2: .*each line must be a JSON object"),
        ("[]", r"log.jsonl:2: .*each line must be a JSON object"),
        ('{"a": "年假", "b": "病假", "same": "yes"}', r"log.jsonl:2: .*bool.*same"),
        ('{"a": "年假"}', r'log.jsonl:2: needs "question", or "a" and "b"'),
        ('{"question": " "}', r'log.jsonl:2: needs "question", or "a" and "b"'),
        ('{"question": "年假", "a": "年假", "b": "病假"}', r'log.jsonl:2: needs "question", or "a" and "b"'),
        ('{"a": "病假？", "b": "年假", "same": false}', r'log.jsonl:2: "same" contradicts line 1'),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path: Path, line: str, says: str) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text('{"a": "年假", "b": "病假？", "same": true}\n' + line, encoding="utf-8")
    with pytest.raises(ValueError, match=says):
        read_log(file)


def test_each_pair_counts_once_and_what_is_not_labelled_is_passed_over(tmp_path: Path) -> None:
    pair = {"a": "年假能结转吗?", "b": "年假可以结转吗"}
    turned = {"a": pair["b"], "b": "年假能结转吗", "same": True}
    log = read_log(write(tmp_path / "log.jsonl", [pair, turned, {**pair, "same": True}, {"question": "病假呢?"}]))
    assert log.pairs == (Pair(turned["b"], turned["a"], True),) or log.pairs == (Pair(turned["a"], turned["b"], True),)
    assert log.questions == ("病假呢",)


async def test_a_file_without_anything(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no questions and no labelled pairs"):
        await calibrate(write(tmp_path / "log.jsonl", []), vectors, "ngrams", semantic(tmp_path), NOW)
    with pytest.raises(ValueError, match="cannot be read"):
        read_log(tmp_path / "nowhere.jsonl")
    (tmp_path / "long.jsonl").write_text('{"question": "年假"}\n' * (MAX_LINES + 1), encoding="utf-8")
    with pytest.raises(ValueError, match="take the latest"):
        read_log(tmp_path / "long.jsonl")
