"""What an application sends for a turn, piece by piece: texts, cards, files, messages in WeCom's own JSON. Pure.

The pieces are the same in every attempt, so that counting them says what was sent. One
thing changes them on the way, and leaves what stands before alone: from the card on that
WeCom refuses, cards are said in words.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from adapter.application.messages import Message, Receiver, card, fits, markdown, text
from adapter.application.native import in_words, native
from adapter.cards import CARD_TYPE, MESSAGE_TYPE, card_text, checked, choices_card, choices_text
from adapter.text.capabilities import DOORS
from adapter.text.exhibits import with_files
from adapter.text.render import app_parts
from weconverse import Turn
from weconverse.v1.conversation_pb2 import Media, Part


class Said(msgspec.Struct, frozen=True):
    """A message that can be sent as it is."""

    message: Message
    rich: int | None = None
    """Counts the pieces that could be said in words instead, from 0; ``None`` for those that cannot."""


class File(msgspec.Struct, frozen=True):
    """A picture, a recording, a film or a file, to be put up first."""

    media: Media


Piece = Said | File


def pieces_of(
    turn: Turn,
    receiver: Receiver,
    *,
    with_markdown: bool,
    with_cards: bool,
    words_from: int | None = None,
    file_above: int = 0,
) -> list[Piece]:
    """The pieces of an ended turn, in order; at least one.

    Args:
        with_cards: whether people there can be shown cards.
        words_from: the first piece that WeCom refused and that can be said in words; ``None``: none yet.
        file_above: bytes above which a table or a block of code becomes a file; 0: never.

    Raises:
        ValueError: a part is not what its type says; names the field, the rule and the remedy.
    """
    say = _Saying(receiver, with_markdown, with_cards, words_from)
    door = DOORS["app_markdown" if with_markdown else "app_text"]
    pieces = list(say.pieces(turn, with_files(turn.reply.parts, door, file_above)))
    return pieces or list(say.words(""))


class _Saying:
    def __init__(self, receiver: Receiver, with_markdown: bool, with_cards: bool, words_from: int | None) -> None:
        self._receiver = receiver
        self._markdown = with_markdown
        self._cards = with_cards
        self._words_from = words_from
        self._rich = 0

    def pieces(self, turn: Turn, parts: Iterable[Part]) -> Iterator[Piece]:
        texts: list[str] = []
        for part in parts:
            kind = part.media.mime_type if part.HasField("media") else ""
            if part.HasField("text"):
                texts.append(part.text)
            elif kind in (CARD_TYPE, MESSAGE_TYPE):
                yield from self._flushed(texts)
                yield from self._special(part.media)
            elif kind:
                yield from self._flushed(texts)
                yield File(part.media)
        choices = choices_card(turn)
        if choices is not None and self._cards and not self._receiver.chat:
            yield from self._flushed(texts)
            yield from self._rich_piece(card(choices), choices_text(turn))
        elif lines := choices_text(turn):
            yield from self._flushed([*texts, f"\n{lines}"])
        else:
            yield from self._flushed(texts)

    def words(self, content: str) -> Iterator[Piece]:
        """As few messages as possible: a person may get only so many in a minute."""
        make = markdown if self._markdown else text
        for part in app_parts(content, markdown=self._markdown):
            yield Said(make(part))

    def _flushed(self, texts: list[str]) -> Iterator[Piece]:
        if any(piece.strip() for piece in texts):
            yield from self.words("\n".join(texts))
        texts.clear()

    def _special(self, media: Media) -> Iterator[Piece]:
        if media.mime_type == MESSAGE_TYPE:
            message = native(media.inline_data)
            yield from self._rich_piece(message, in_words(message))
            return
        try:
            message = card(checked(media.inline_data, "app"))
        except ValueError:
            # It would be refused. What it says reaches people all the same, where it can be read at all.
            yield from self.words(card_text(_readable(media.inline_data)))
            return
        yield from self._rich_piece(message, card_text(message.body))

    def _rich_piece(self, message: Message, words: str) -> Iterator[Piece]:
        if not words:
            yield Said(message)
            return
        number, self._rich = self._rich, self._rich + 1
        shown = fits(message, self._receiver) and (self._cards or message.kind != "template_card")
        if shown and (self._words_from is None or number < self._words_from):
            yield Said(message, number)
        else:
            yield from self.words(words)


def _readable(card_bytes: bytes) -> dict[str, Any]:
    """Raises :class:`ValueError` where nothing could be said."""
    try:
        return msgspec.json.decode(card_bytes, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("card: is not a JSON object; give the template_card object itself, in UTF-8") from None
