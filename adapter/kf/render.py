"""What a customer sees of a reply: the personal WeChat shows text, menus and files. Pure."""

from collections.abc import Sequence
from typing import Final

import msgspec

from adapter.cards import CARD_TYPE, card_text
from adapter.kf.wire import MENU_HEAD_BYTES, MENU_ITEMS, TEXT_BYTES, MenuItem
from adapter.media.kinds import amr_seconds, safe_name
from adapter.text.capabilities import DOORS, VOICE_SECONDS, Kind, kind_for
from adapter.text.exhibits import with_files
from adapter.text.plain import plain
from adapter.text.split import split
from adapter.text.visible import clean, has_visible, utf8_length
from weconverse import Turn
from weconverse.v1.conversation_pb2 import Media

_NOTHING: Final = "（没有可以显示的内容）"
_CUT: Final = "\n（内容较长，余下部分无法在此显示）"
_IN_FILE: Final = "\n（内容较长，完整内容请看随后的文件）"
_CHOOSE: Final = "请选择："
_FILE_NAME: Final = "文件"
_WHOLE_NAME: Final = "完整回答.txt"

_DOOR: Final = DOORS["kf"]


class Text(msgspec.Struct, frozen=True):
    """A text of at most 2,048 bytes."""

    content: str


class Menu(msgspec.Struct, frozen=True):
    """Something to choose from, below at most 1,024 bytes of text."""

    head: str
    items: tuple[MenuItem, ...]


class File(msgspec.Struct, frozen=True):
    """A picture, a recording, a film or a file, to be put up first."""

    kind: Kind
    name: str
    data: bytes

    @property
    def in_words(self) -> str:
        """What stands in its place when it cannot be sent."""
        return f"（{self.name}没能发送成功。）"


Message = Text | Menu | File


def messages(turn: Turn, room: int, *, file_above: int = 0) -> list[Message]:
    """The messages that say an ended turn: at least one, and at most ``room`` (1 or more).

    Tables and code of more than ``file_above`` bytes are files (0: never); as lines they would
    need more messages than a customer may get.

    A reply that needs more is cut at a good place and follows as a file, where there is room
    for one. Equal arguments give equal messages.
    """
    texts, files = list[str](), list[File]()
    for part in with_files(turn.reply.parts, _DOOR, file_above):
        if part.HasField("media"):
            said = _of_media(part.media)
            texts.append(said) if isinstance(said, str) else files.append(said)
        else:
            texts.append(plain(clean(part.text)))
    items = [MenuItem(choice.label or choice.text, choice.text or choice.label) for choice in turn.choices]
    items = [item for item in items if has_visible(item.label)]
    if items and not _fit(items):
        texts.append("\n".join([_CHOOSE, *(f"{number}. {item.label}" for number, item in enumerate(items, start=1))]))
        items = []
    text = "\n".join(text for text in texts if text).strip()
    needs_text = has_visible(text) or bool(items) or not files or len(files) > room
    sent, left = files[: room - needs_text], files[room - needs_text :]
    if left:
        text = "\n".join([text, *(file.in_words for file in left)]).strip()
    if not needs_text:
        return [*sent]
    return [*_said(text, items, room - len(sent)), *sent]


def _of_media(media: Media) -> str | File:
    """A file to send, or what is said in its place."""
    if media.mime_type == CARD_TYPE:
        return plain(clean(card_text(_card(media.inline_data))))
    name = clean(media.display_name).strip() or _FILE_NAME
    seconds = amr_seconds(media.inline_data, VOICE_SECONDS) if media.mime_type == "audio/amr" else 0.0
    kind = kind_for(_DOOR.files, media.mime_type, len(media.inline_data), voice_seconds=seconds)
    if kind is not None:
        return File(kind, safe_name(name, media.mime_type) or _FILE_NAME, media.inline_data)
    return f"{name}：{media.uri}" if media.uri.startswith("https://") else f"（{name}没能发送成功。）"


def _card(raw: bytes) -> dict[str, object]:
    try:
        return msgspec.json.decode(raw, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _fit(items: Sequence[MenuItem]) -> bool:
    return len(items) <= MENU_ITEMS and all(item.fits for item in items)


def _said(text: str, items: Sequence[MenuItem], room: int) -> list[Message]:
    if not items:
        return _texts(text, room) or [Text(_NOTHING)]
    if utf8_length(text) <= MENU_HEAD_BYTES:
        return [Menu(text or _CHOOSE, tuple(items))]
    if room < 2:
        return [Menu(_head(text, MENU_HEAD_BYTES, _CUT), tuple(items))]
    return [*_texts(text, room - 1), Menu(_CHOOSE, tuple(items))]


def _texts(text: str, room: int) -> list[Message]:
    parts = split(text, TEXT_BYTES)
    if len(parts) <= room:
        return [Text(part) for part in parts]
    if room < 2:
        return [Text(_head(text, TEXT_BYTES, _CUT))]
    # Numbers would count what is not sent; cut again without them, with a place for the note.
    whole = split(text, TEXT_BYTES - utf8_length(_IN_FILE), numbered=False)
    shown = whole[: room - 1]
    data = text.encode()[: _DOOR.files["file"].most_bytes].decode(errors="ignore").encode()
    return [*map(Text, shown[:-1]), Text(shown[-1] + _IN_FILE), File("file", _WHOLE_NAME, data)]


def _head(text: str, limit: int, note: str) -> str:
    return split(text, limit - utf8_length(note), numbered=False)[0] + note
