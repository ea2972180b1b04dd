"""The script of the demonstration model: a TOML file of questions and answers.

::

    [defaults]
    answer = "…{question}…"     # where nothing matches
    pictures = "…{pictures}…"   # to a message with pictures: how many, of which formats and sizes

    [[entries]]
    words = ["年假", "休假"]      # any of them in the question; the first entry that matches wins
    answer = "…"                # {question} stands for the question
    reasoning = "…"             # thought aloud first
    stall_seconds = 5.0         # silence before the first word
    cut = true                  # breaks off in the middle
    fail = "transient"          # fails with this error class instead of answering
"""

from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from server.llm.base import ErrorClass

SHIPPED: Final = Path(__file__).with_name("demo_script.toml")


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is answered to which questions, and what goes wrong with it."""

    words: Annotated[tuple[Annotated[str, Meta(min_length=1)], ...], Meta(min_length=1)]
    answer: str = ""
    reasoning: str = ""
    stall_seconds: Annotated[float, Meta(ge=0)] = 0.0
    cut: bool = False
    fail: ErrorClass | None = None


class Defaults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is answered where no entry matches."""

    answer: Annotated[str, Meta(min_length=1)]
    pictures: str = ""
    """Empty: pictures are passed over."""


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All entries, in the order in which they are tried."""

    defaults: Defaults
    entries: tuple[Entry, ...] = ()

    def entry_for(self, question: str) -> Entry | None:
        """The first entry with a word that is in the question; letter case does not matter."""
        asked = question.casefold()
        return next((entry for entry in self.entries if any(word.casefold() in asked for word in entry.words)), None)


def load_script(path: Path) -> Script:
    """Reads a script.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is not TOML or not a script; the message names the field.
    """
    return msgspec.toml.decode(path.read_bytes(), type=Script)
