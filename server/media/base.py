"""What the turns may ask of this room, and what this room asks of others."""

from typing import Literal, Protocol

from server.budget import Budget
from server.domain import Content

MediaKind = Literal["document", "picture", "recording", "other"]
"""What was sent, by its bytes. ``other``: what nobody here reads, and what came without bytes."""


class MediaReader(Protocol):
    """Turns the media of a message into what models read."""

    async def read(self, content: Content, budget: Budget, max_characters: int, whose: str) -> Content:
        """The message as it is answered and kept: small, whatever was sent.

        A document becomes text with its name above it, a recording what was said in it, a
        picture a smaller one where it was large. What cannot be read stays as a part without
        bytes that says why (:class:`server.domain.Missing`). An address stays an address.

        Args:
            content: with at least one part that has bytes.
            budget: how long it may take; what is not read by then was too slow.
            max_characters: of all text of the message together, what was typed included.
            whose: the message is: where many are read, those of one conversation wait for each other first.

        Raises:
            asyncio.CancelledError: and nothing else.
        """
        ...


class Transcriber(Protocol):
    """Somebody who listens to recordings."""

    async def transcribe(self, recording: bytes, extension: str, budget: Budget) -> str | None:
        """What is said in a recording; empty if nothing is; ``None`` if nobody could say.

        Args:
            recording: a whole file.
            extension: that its name would have, such as ``wav``.
        """
        ...


class MediaObserver(Protocol):
    """Counts what was read."""

    def media_read(self, kind: MediaKind, outcome: str, seconds: float) -> None:
        """A part was dealt with: ``read``, ``cut``, ``passed``, ``shrunk``, or why it could not be read."""
        ...
