"""The rules of an intent: compiled once, asked for every question. Pure."""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from server.routing.language import language_of
from server.settings import IntentSettings

try:
    import re2
except ImportError:  # an extra: requirements-extras.lock
    re2 = None

Rule = Callable[[str, bool], bool]
"""Whether a folded question, and whether it has pictures, fits."""

MAX_CHARACTERS: Final = 4000
"""What is looked at of a question: what it is about stands at its beginning, or nowhere."""


def fold(question: str) -> str:
    """The form in which rules see a question: without differences of case and width."""
    return unicodedata.normalize("NFKC", question[:MAX_CHARACTERS]).casefold()


def compile_intents(assistant: str, intents: Mapping[str, IntentSettings]) -> dict[str, tuple[Rule, ...]]:
    """The rules of each intent of an assistant, in the order of the settings.

    Raises:
        ValueError: for a rule that cannot be used. The message begins with the field.
    """
    compiled = {}
    for name, entry in intents.items():
        try:
            compiled[name] = compile_rules(entry)
        except ValueError as error:
            raise ValueError(f"assistants.{assistant}.intents.{name}.{error}") from error
    return compiled


def compile_rules(entry: IntentSettings) -> tuple[Rule, ...]:
    """The rules that are set; all of them must hold. Empty: the intent has no rules.

    Raises:
        ValueError: for a pattern that cannot be used, or lengths that no question has. The message begins with
            the field.
    """
    _check_lengths(entry)
    rules: list[Rule] = []
    if entry.min_characters or entry.max_characters:
        most = entry.max_characters or MAX_CHARACTERS
        rules.append(lambda text, _: entry.min_characters <= len(text) <= most)
    if entry.has_pictures is not None:
        rules.append(lambda _, pictures: pictures is entry.has_pictures)
    if entry.words:
        has_word = _words(entry.words).search
        rules.append(lambda text, _: has_word(text) is not None)
    if entry.languages:
        rules.append(lambda text, _: language_of(text) in entry.languages)
    if entry.patterns:
        found = _patterns(entry.patterns)
        rules.append(lambda text, _: any(search(text) for search in found))
    return tuple(rules)


def _check_lengths(entry: IntentSettings) -> None:
    if entry.max_characters and entry.min_characters > entry.max_characters:
        raise ValueError(f"min_characters: is above max_characters ({entry.max_characters}), so that nothing fits both")
    if entry.min_characters > MAX_CHARACTERS:
        raise ValueError(f"min_characters: must be at most {MAX_CHARACTERS}, which is what rules look at")


def _words(words: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(_word(fold(word)) for word in words if word.strip()) or r"(?!)")


def _word(word: str) -> str:
    """Where a word begins or ends in a Latin letter or a digit, it must not go on there: `api` is not in `capital`."""
    before = r"(?<![a-z0-9])" if word[0].isascii() and word[0].isalnum() else ""
    after = r"(?![a-z0-9])" if word[-1].isascii() and word[-1].isalnum() else ""
    return f"{before}{re.escape(word)}{after}"


def _patterns(patterns: Sequence[str]) -> list[Callable[[str], object]]:
    if re2 is None:
        raise ValueError("patterns: need the package google-re2; install requirements-extras.lock, or use words")
    compiled = []
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = False
    for index, pattern in enumerate(patterns):
        try:
            compiled.append(re2.compile(pattern, options=options).search)
        except re2.error as error:
            raise ValueError(f"patterns[{index}]: is not a regular expression of RE2: {_told(error)}") from None
    return compiled


def _told(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
