"""Files that people send: what the callback of an application and the message of a bot say of them."""

from collections.abc import Sequence
from typing import Any

from simulator.bots import Bot
from simulator.media import MediaStore, new_key

Item = str | tuple[str, str, bytes]
"""A text, or a file: its kind (``image``, ``voice``, ``video``, ``file``), its name and its bytes."""


def app_fields(store: MediaStore, media_id: str, recognition: str) -> dict[str, str]:
    """The fields of an application's message beside its type (DOC 90239)."""
    stored = store.get(media_id)
    fields = {"MediaId": media_id}
    match stored.kind:
        case "image":
            fields["PicUrl"] = f"{store.base}/media/{media_id}"
        case "voice":
            fields["Format"] = "amr"
            if recognition:
                fields["Recognition"] = recognition
        case "video":
            fields["ThumbMediaId"] = store.put("image", "thumb.png", b"", checked=False)
        case _:
            fields["FileName"] = stored.name
    return fields


class BotFiles:
    """A message of a bot with files in it, written anew for each delivery: its addresses live five minutes."""

    def __init__(self, store: MediaStore, bot: Bot, items: Sequence[Item], quoted: Item | None = None) -> None:
        self._store = store
        self._callback_key = bot.settings.encoding_aes_key.reveal() if bot.settings.mode == "callback" else ""
        self._items = [self._kept(item) for item in items]
        self._quoted = None if quoted is None else self._kept(quoted)

    def _kept(self, item: Item) -> str | tuple[str, str]:
        """A text, or the kind and the ``media_id`` of a file."""
        if isinstance(item, str):
            return item
        kind, name, data = item
        return kind, self._store.put(kind, name, data, checked=False)

    def body(self) -> dict[str, Any]:
        """The message (DOC 100719): of the kind of its only item, or mixed."""
        body = self._one(self._items[0]) if len(self._items) == 1 else self._mixed()
        if self._quoted is not None:
            body["quote"] = self._one(self._quoted)
        return body

    def _mixed(self) -> dict[str, Any]:
        return {"msgtype": "mixed", "mixed": {"msg_item": [self._one(item) for item in self._items]}}

    def _one(self, item: str | tuple[str, str]) -> dict[str, Any]:
        if isinstance(item, str):
            return {"msgtype": "text", "text": {"content": item}}
        kind, media_id = item
        if self._callback_key:
            return {"msgtype": kind, kind: {"url": self._store.presigned(media_id, self._callback_key)}}
        key = new_key()
        return {"msgtype": kind, kind: {"url": self._store.presigned(media_id, key), "aeskey": key}}

    def shown(self) -> dict[str, Any]:
        """What the person's own bubble holds (``chats.Bubble.content``)."""
        items = [
            {"kind": "text", "text": item} if isinstance(item, str) else self._store.content(item[1])
            for item in self._items
        ]
        return items[0] if len(items) == 1 else {"kind": "mixed", "items": items}

    def text(self) -> str:
        """The same in words."""
        return "\n".join(
            item if isinstance(item, str) else f"[{item[0]}] {self._store.get(item[1]).name}" for item in self._items
        )
