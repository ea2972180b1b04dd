"""Coverage-guided fuzzing of the filter: `python -m tests.fuzz.atheris_filter HARNESS [options of libFuzzer]`.

Needs requirements-fuzz.lock. A crash is a bug: what each harness checks is what the property tests check.
"""

import sys
from collections.abc import Callable

import atheris

with atheris.instrument_imports(include=["server.filter"]):
    from server.filter.automaton import build_matcher
    from server.filter.entries import Action, Direction, Entry, Pattern
    from server.filter.fold import Folded, fold_characters, fold_word
    from server.filter.matcher import Prefixes
    from server.filter.passes import stream_of
    from server.filter.plain_matcher import PlainMatcher
    from server.filter.rendering import Rendering


class Lists:
    """Words as a stream takes them."""

    def __init__(self, words: dict[str, Pattern]) -> None:
        self._patterns = list(words.values())
        self.matcher = build_matcher(list(words))
        self.prefixes = Prefixes(words)
        self.repeats = True

    def pattern(self, number: int) -> Pattern:
        return self._patterns[number]


def drawn_lists(source: "atheris.FuzzedDataProvider") -> Lists:
    words: dict[str, Pattern] = {}
    for number in range(source.ConsumeIntInRange(1, 6)):
        folded = fold_word(source.ConsumeUnicodeNoSurrogates(source.ConsumeIntInRange(1, 6)))[:64]
        if folded:
            boundary = "word" if source.ConsumeBool() else "any"
            entry = Entry(
                str(number), folded, boundary=boundary, action=Action(source.ConsumeIntInRange(0, 5)), repeats=True
            )
            words[folded] = Pattern(folded, (entry,), allows=source.ConsumeIntInRange(0, 5) == 0)
    return Lists(words)


def rendered(words: Lists, pieces: list[str]) -> tuple[str, list[tuple[str, int, int]]]:
    stream = stream_of(words, Direction.INPUT)
    rendering = Rendering(lambda entry: entry.action or Action.PASS, lambda entry: f"<{entry.id}>")
    shown, told = "", []
    for piece in [*pieces, None]:
        part = rendering.apply(stream.close() if piece is None else stream.feed(piece))
        shown += part.text
        told += [(hit.entry.id, hit.start, hit.end) for hit in part.hits]
        if part.stopped is not None:
            break
    return shown, told


def fold_harness(source: "atheris.FuzzedDataProvider") -> None:
    text = source.ConsumeUnicode(200)
    folded = Folded(text)
    assert fold_word(folded.content) == folded.content
    assert folded.start(len(folded.content)) == len(text)
    assert len(fold_characters(text)) >= len(text)
    for position in range(len(folded.content)):
        assert folded.start(position) < folded.end(position + 1) <= len(text)


def matcher_harness(source: "atheris.FuzzedDataProvider") -> None:
    words = list(dict.fromkeys(source.ConsumeUnicodeNoSurrogates(5) for _ in range(source.ConsumeIntInRange(1, 8))))
    words = [word for word in words if word]
    text = source.ConsumeUnicodeNoSurrogates(100)
    assert build_matcher(words).matches(text) == PlainMatcher(words).matches(text)
    live = [at for at in range(len(text)) if any(word.startswith(text[at:]) and word != text[at:] for word in words)]
    assert Prefixes(words).first_live(text, 0) == (live[0] if live else len(text))


def stream_harness(source: "atheris.FuzzedDataProvider") -> None:
    words = drawn_lists(source)
    pieces = [source.ConsumeUnicodeNoSurrogates(source.ConsumeIntInRange(0, 12)) for _ in range(12)]
    whole = rendered(words, ["".join(pieces)])
    assert rendered(words, pieces) == whole
    assert rendered(words, list("".join(pieces))) == whole


HARNESSES: dict[str, Callable[["atheris.FuzzedDataProvider"], None]] = {
    "fold": fold_harness,
    "matcher": matcher_harness,
    "stream": stream_harness,
}


def main() -> None:
    harness = HARNESSES[sys.argv[1]]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], lambda data: harness(atheris.FuzzedDataProvider(data)))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
