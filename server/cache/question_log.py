"""Questions and labelled pairs, as an operator keeps them in files of JSON Lines.

A line is of one of two kinds, mixed as one likes:

- ``{"question": "年假有几天"}``: a question of the log, in the order of asking.
- ``{"a": "…", "b": "…", "same": true}``: a pair of questions, and whether one answer
  serves both; ``null`` while nobody has said.

Other fields are passed over, so a log need not be stripped first.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from server.cache.fold import fold

MAX_LINES: Final = 100_000


class Pair(msgspec.Struct, frozen=True):
    """Two questions, and whether one answer serves both; ``None`` while nobody has said."""

    a: str
    b: str
    same: bool | None = None
    similarity: float | None = None
    """Their cosine, for those who label."""


class Log(NamedTuple):
    """What FILE holds, in the form in which questions are compared."""

    questions: tuple[str, ...]
    pairs: tuple[Pair, ...]


class _Line(msgspec.Struct, frozen=True):
    question: str = ""
    a: str = ""
    b: str = ""
    same: bool | None = None


def read_log(file: Path) -> Log:
    """What FILE holds, each question and each pair once.

    Raises:
        ValueError: naming the line that cannot be used, and why.
    """
    questions: dict[str, None] = {}
    pairs: dict[frozenset[str], tuple[Pair, int]] = {}
    for number, line in _lines(file):
        if line.question.strip():
            questions[fold(line.question)] = None
            continue
        pair = Pair(fold(line.a), fold(line.b), line.same)
        known, at = pairs.get(frozenset((pair.a, pair.b)), (pair, number))
        if pair.same is not None and known.same is not None and pair.same != known.same:
            raise ValueError(f'{file}:{number}: "same" contradicts line {at} about the same pair; correct one of them')
        pairs[frozenset((pair.a, pair.b))] = (known if pair.same is None else pair, at)
    return Log(tuple(questions), tuple(pair for pair, _ in pairs.values()))


def _lines(file: Path) -> Iterator[tuple[int, _Line]]:
    decode = msgspec.json.Decoder(_Line).decode
    try:
        with file.open("rb") as lines:
            for number, raw in enumerate(lines, 1):
                if not raw.strip():
                    continue
                if number > MAX_LINES:
                    raise ValueError(f"{file}: has more than {MAX_LINES} lines; take the latest ones")
                line = decode(raw)
                if bool(line.question.strip()) == bool(line.a.strip() and line.b.strip()):
                    raise ValueError(f'{file}:{number}: needs "question", or "a" and "b"')
                yield number, line
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}:{number}: {error}; each line must be a JSON object") from None


def write_pairs(file: Path, pairs: Iterable[Pair]) -> None:
    """Writes pairs for people to label.

    Raises:
        ValueError: if the file exists already, or cannot be written.
    """
    if file.exists():
        raise ValueError(f"{file}: exists and may hold labels; move it away")
    write_whole(file, b"".join(msgspec.json.encode(pair) + b"\n" for pair in pairs))


def write_whole(file: Path, content: bytes) -> None:
    """Writes a file as a whole or not at all.

    Raises:
        ValueError: if it cannot be written.
    """
    beside = file.with_name(file.name + ".new")
    try:
        with beside.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        beside.replace(file)
    except OSError as error:
        raise ValueError(f"{file}: cannot be written: {error.strerror}") from None
