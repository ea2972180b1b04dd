"""What may be shown of the replies of one turn's routes, of which only the last one stands."""

from collections.abc import Callable
from typing import Final

import msgspec

from server.domain import FinishReason
from server.llm.base import Chunk, ErrorClass, ProviderError
from server.routing.verdicts import NO_ROOM_FOR_TEXT, NOTHING_VISIBLE

MAX_HELD_CHARACTERS: Final = 200_000
"""Thoughts that are held back before a reply begins anew; what comes later is left out."""

_WITH_TEXT: Final = frozenset({FinishReason.STOP, FinishReason.LENGTH})
"""The ends that only count with something to read before them."""


class Showing:
    """Looks at the pieces of each route until there is visible text; later ones need no look.

    The reply of the first route is passed on as it comes. One that takes the place of
    what is already shown is held back until it has visible text, and then begins with
    a chunk marked ``restart``, because what was shown must not be replaced by nothing.
    Its thoughts so far come with that chunk, not before: a person would take them for
    thoughts behind the text that still stands there.
    """

    __slots__ = ("_anew", "_began", "_held", "_model", "_text", "_thoughts", "settled", "text_shown")

    def __init__(self) -> None:
        self.text_shown = False
        """Whether text was handed out, of whatever route."""
        self.settled = False
        """Whether this route has visible text: there is nothing more to :meth:`take`."""
        self._anew = False
        self._model = ""
        self._began: Callable[[], None] | None = None
        self._text: list[str] = []
        self._thoughts: list[str] = []
        self._held = 0

    def next_route(self, model: str, began: Callable[[], None]) -> None:
        """Another route begins. Args: its name; what is told its first piece."""
        self.settled = False
        self._anew = self.text_shown
        self._model = model
        self._began = began
        self._forget()

    def take(self, chunk: Chunk) -> Chunk | None:
        """What of this chunk, and of those that were held back, may be handed out now.

        Raises:
            ProviderError: INCOMPLETE, if the reply ends here with nothing to read.
        """
        if self._began is not None:
            self._began()
            self._began = None
        self.settled = bool(chunk.text) and not chunk.text.isspace()
        if not self.settled and self._says_nothing(chunk.finish):
            code = NO_ROOM_FOR_TEXT if chunk.finish is FinishReason.LENGTH else NOTHING_VISIBLE
            raise ProviderError(ErrorClass.INCOMPLETE, "the reply holds nothing visible", code=code)
        if not self._anew:
            self.text_shown = self.text_shown or bool(chunk.text)
            return chunk
        if chunk.finish is not None and not self.settled:
            return chunk
        if chunk.restart:  # by a backend that has routes of its own
            self._forget()
        if not self.settled:
            self._hold(chunk)
            return None
        return msgspec.structs.replace(
            chunk,
            text="".join((*self._text, chunk.text)),
            reasoning="".join((*self._thoughts, chunk.reasoning)),
            model=chunk.model or self._model,
            restart=True,
        )

    def _says_nothing(self, finish: FinishReason | None) -> bool:
        if self._anew:
            # A refusal gets a sentence of its own from whoever shows it. Anything else would
            # leave the broken text of the earlier route standing, as if it were complete.
            return finish is not None and finish is not FinishReason.PROVIDER_BLOCKED
        return finish in _WITH_TEXT

    def _hold(self, chunk: Chunk) -> None:
        self._held += len(chunk.text) + len(chunk.reasoning)
        if self._held <= MAX_HELD_CHARACTERS:
            self._text.append(chunk.text)
            self._thoughts.append(chunk.reasoning)

    def _forget(self) -> None:
        self._text.clear()
        self._thoughts.clear()
        self._held = 0
