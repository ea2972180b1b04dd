"""How much of a text is held back, and what a check costs: `python -m tests.fuzz.hold_back LIST TEXT...`.

The list is one of the formats of the filter; the texts are ordinary prose, a paragraph a line.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from server.filter.building import Job, read_rows
from server.filter.compiled import Compiled, compile_rows
from server.filter.entries import Direction
from server.filter.word_stream import WordStream

MOST_WORDS = 2_000_000
MOST_PARAGRAPHS = 400
MESSAGE_BYTES = 200
CHUNK = 4


def held_back(words: Compiled, texts: Sequence[str]) -> list[int]:
    """After each character, how many of those that came are not shown; sorted."""
    held: list[int] = []
    for text in texts:
        stream, shown = WordStream(words, Direction.OUTPUT), 0
        for came, character in enumerate(text, 1):
            shown += len(stream.feed(character).text)
            held.append(came - shown)
    return sorted(held)


def microseconds(call: Callable[[], int]) -> float:
    """Of one of the calls that ``call`` makes and counts; the best of five rounds."""
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        calls = call()
        best = min(best, (time.perf_counter() - began) / max(calls, 1))
    return best * 1e6


def checks(words: Compiled, messages: Sequence[str]) -> int:
    for message in messages:
        WordStream(words, Direction.INPUT).close(message)
    return len(messages)


def chunks(words: Compiled, messages: Sequence[str]) -> int:
    count = 0
    for message in messages:
        stream = WordStream(words, Direction.OUTPUT)
        for start in range(0, len(message), CHUNK):
            stream.feed(message[start : start + CHUNK])
            count += 1
        stream.close()
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("list", type=Path)
    parser.add_argument("texts", type=Path, nargs="+")
    given = parser.parse_args()
    rows = read_rows(Job((str(given.list),), MOST_WORDS, single_characters=False))
    lines = [line.strip() for path in given.texts for line in path.read_text().splitlines()]
    texts = [line for line in lines if sum("一" <= each <= "鿿" for each in line) >= 10][:MOST_PARAGRAPHS]
    prose = "。".join(texts).encode()
    starts = range(0, len(prose), MESSAGE_BYTES)
    messages = [prose[start : start + MESSAGE_BYTES].decode("utf-8", "ignore") for start in starts]
    for plain in (False, True):
        words = compile_rows(rows, plain=plain)
        whole = microseconds(lambda words=words: checks(words, messages))  # type: ignore[misc]  # bound now, not later
        piece = microseconds(lambda words=words: chunks(words, messages))  # type: ignore[misc]  # the same
        print(f"{type(words.matcher).__name__}: message {whole:.1f} µs, chunk of {CHUNK} {piece:.1f} µs")
    held = held_back(words, texts)
    shares = ", ".join(f"p{part} {held[int(len(held) * part / 100)]}" for part in (50, 95, 99))
    nothing = sum(each == 0 for each in held) / len(held)
    print(
        f"{len(words)} words, held after each of {len(held)} characters: mean {sum(held) / len(held):.2f}, {shares}, "
    )
    print(f"most {held[-1]}, nothing after {nothing:.0%}")


if __name__ == "__main__":
    main()
