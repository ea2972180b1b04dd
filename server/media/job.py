"""What the service and the process that reads a file say to one another.

The file is the input of the process, the job its one argument, and the outcome all that
it writes: one file, one process. Nothing here needs a third package beside msgspec.
"""

from typing import Final, Literal

import msgspec

MAX_ANSWER_BYTES: Final = 16 << 20
"""Bytes of an outcome: a recording of eight minutes as it is sent on, and far more than a text or picture takes."""


class Job(msgspec.Struct, frozen=True):
    """What to make of a file."""

    kind: Literal["document", "picture", "recording"]
    extension: str = ""
    """Of its name, in lower case; empty for none. Of a recording, that of its bytes."""
    max_characters: int = 0
    """Of a document's text."""
    edge: int = 0
    """Of the square with as many points as a picture may have."""
    quality: int = 0
    """Of a picture that is made anew, as JPEG counts it."""
    max_picture_bytes: int = 0
    max_recording_seconds: int = 0
    memory_bytes: int = 0
    """What the process may have in memory, the program that reads included."""
    processor_seconds: int = 0


Problem = Literal["too_large", "damaged", "unsupported", "encrypted", "without_text", "too_slow"]
"""Why a file cannot be read."""


class Text(msgspec.Struct, frozen=True, tag="text"):
    """What a document says, and whether there was more of it."""

    text: str
    cut: bool


class Picture(msgspec.Struct, frozen=True, tag="picture"):
    """A picture that was made anew; without data, the one that was sent will do."""

    mime_type: str
    data: bytes = b""


class Sound(msgspec.Struct, frozen=True, tag="sound"):
    """A recording as a WAV file, 16,000 samples a second, one channel."""

    data: bytes


class Unread(msgspec.Struct, frozen=True, tag="unread"):
    """It cannot be read."""

    problem: Problem


Outcome = Text | Picture | Sound | Unread


class CannotRead(Exception):
    """Raised by whoever reads a file that cannot be read."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem: Final[Problem] = problem
