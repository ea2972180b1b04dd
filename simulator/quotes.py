"""What a bot gets of a message that somebody quotes (DOC 100719): texts, and the files in it under new addresses."""

from collections.abc import Mapping
from typing import Any, Final

from simulator.bots import Bot
from simulator.chats import Bubble
from simulator.media import KINDS, MediaStore, new_key

_SHOWN: Final = 200
"""Characters of a quoted message."""


class Quote:
    """A quoted bubble, written anew for each delivery: addresses of files live five minutes."""

    def __init__(self, store: MediaStore, bot: Bot, bubble: Bubble) -> None:
        self._store = store
        self._callback_key = bot.settings.encoding_aes_key.reveal() if bot.settings.mode == "callback" else ""
        self._bubble = bubble

    def shown(self) -> dict[str, Any]:
        """What the person's own bubble holds of it (``chats.Bubble.content``)."""
        line = " ".join(self._bubble.text.split())[:_SHOWN]
        return {"kind": "quote", "quoted": line, "by": self._bubble.speaker}

    def body(self) -> dict[str, Any]:
        """The field ``quote``."""
        bubble = self._bubble
        content = bubble.content or {}
        if content.get("kind") != "mixed":
            return self._one(content, bubble.text)
        items = [self._one(item, "") for item in content["items"]]
        if bubble.stream_id:  # a reply with pictures below its text
            items.insert(0, _text(bubble.text))
        return {"msgtype": "mixed", "mixed": {"msg_item": items}}

    def _one(self, content: Mapping[str, Any], text: str) -> dict[str, Any]:
        kind = content.get("kind")
        if kind == "voice":
            return {"msgtype": "voice", "voice": {"content": str(content.get("text", ""))}}
        if kind not in KINDS:
            return _text(str(content.get("text") or text))
        key = self._callback_key or new_key()
        inner = {"url": self._store.presigned(str(content["url"]).rpartition("/")[2], key)}
        return {"msgtype": kind, kind: inner if self._callback_key else {**inner, "aeskey": key}}


def _text(text: str) -> dict[str, Any]:
    return {"msgtype": "text", "text": {"content": text}}
