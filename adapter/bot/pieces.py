"""What a bot shows of a turn, piece by piece: texts, cards and files. Pure.

The pieces of a turn are the same in every attempt, so that counting them says what was
sent. Two things change them on the way, and both leave what stands before alone: texts
that WeCom calls too long are halved, and a card or a file that it refuses is said in words.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final

import msgspec

from adapter.cards import CARD_TYPE, card_text, checked, choices_card, choices_text, task_id
from adapter.text.render import BOT_STREAM_LIMIT, bot_parts, split
from adapter.translate import Address
from weconverse import Turn
from weconverse.v1.conversation_pb2 import Media, Part

_SEE_BELOW: Final = "请看下面的内容。"
"""The text of a reply that has none of its own: a bubble is there already, and must end with something."""
_FILE_NAME: Final = "文件"
_BRACKETS: Final = str.maketrans("[]", "【】")


class Words(msgspec.Struct, frozen=True):
    """A text of at most 20480 bytes."""

    text: str


class Card(msgspec.Struct, frozen=True):
    """A template card, checked."""

    number: int
    """Counts the cards and files of a turn, from 0."""
    card: dict[str, Any]


class File(msgspec.Struct, frozen=True):
    """A picture, a recording, a film or a file, with its bytes or its address."""

    number: int
    """As :attr:`Card.number`."""
    media: Media


Piece = Words | Card | File


def pieces_of(
    turn: Turn, address: Address, *, level: int = 0, refused: Collection[int] = (), answering: bool = True
) -> list[Piece]:
    """The pieces of an ended turn, in order; at least one.

    Args:
        level: how often texts were halved.
        refused: the numbers of cards and files that are said in words.
        answering: whether the first piece ends a bubble, and so must be a text.
    """
    pieces = list(_pieces(turn, shows_cards(address), refused))
    if not pieces or (answering and not isinstance(pieces[0], Words)):
        pieces[:0] = map(Words, bot_parts(_SEE_BELOW if pieces else ""))
    for step in range(1, level + 1):
        pieces = halved(pieces, step)
    return pieces


def shows_cards(address: Address) -> bool:
    """Whether a card can go there: in answer to a message, and of our own accord to a person (DOC 101463)."""
    return bool(address.req_id) or not address.chat


def halved(pieces: Iterable[Piece], level: int) -> list[Piece]:
    """The pieces with their texts cut to what ``level`` allows."""
    out: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, Words):
            out += map(Words, split(piece.text, BOT_STREAM_LIMIT >> level, numbered=False))
        else:
            out.append(piece)
    return out


def _pieces(turn: Turn, cards_shown: bool, refused: Collection[int]) -> Iterator[Piece]:
    texts: list[str] = []
    number = 0
    for part in _with_choices(turn, cards_shown):
        if isinstance(part, Part) and part.HasField("text"):
            texts.append(part.text)
            continue
        yield from _said(texts)
        # In a piece of its own also where it is said in words: what stands before it may have been sent.
        if isinstance(part, Part):
            yield from [Words(file_words(part.media))] if number in refused else [File(number, part.media)]
        elif not cards_shown or number in refused:
            buttons = part.get("task_id") == task_id(turn.name)
            yield from map(Words, bot_parts(choices_text(turn) if buttons else card_text(part)))
        else:
            yield Card(number, part)
        number += 1
    yield from _said(texts)


def file_words(media: Media) -> str:
    """What stands in the place of a file that cannot be sent: where it is, or that it is missing."""
    name = media.display_name.strip() or _FILE_NAME
    if media.uri.startswith("https://"):
        return f"[{name.translate(_BRACKETS)}]({media.uri})"
    return f"（{name}没能发送成功。）"


def _with_choices(turn: Turn, cards_shown: bool) -> Iterator[Part | dict[str, Any]]:
    """The parts of the reply, cards read; the choices behind them as a card or as lines."""
    for part in turn.reply.parts:
        if part.HasField("media") and part.media.mime_type == CARD_TYPE:
            yield _card(part.media)
        elif part.WhichOneof("data") is not None:
            yield part
    choices = choices_card(turn) if cards_shown else None
    if choices is not None:
        yield choices
    elif lines := choices_text(turn):
        yield Part(text=f"\n{lines}")


def _card(media: Media) -> Part | dict[str, Any]:
    """A card that may be sent; where it breaks a limit, what it says."""
    try:
        return checked(media.inline_data, "bot")
    except ValueError:
        pass
    try:
        return Part(text=card_text(msgspec.json.decode(media.inline_data, type=dict[str, Any])))
    except msgspec.MsgspecError:
        return Part(text=card_text({}))


def _said(texts: list[str]) -> Iterator[Piece]:
    """The texts so far as pieces; ``texts`` is empty afterwards."""
    if any(text.strip() for text in texts):
        yield from map(Words, bot_parts("\n".join(texts)))
    texts.clear()
