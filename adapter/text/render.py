"""What WeCom shows of a reply. Pure: text in, the content of messages and frames out."""

import re
from typing import Final

from adapter.text.capabilities import DOORS
from adapter.text.markdown import close_fence
from adapter.text.plain import plain, without_tables
from adapter.text.split import split
from adapter.text.visible import clean, has_visible, utf8_length

__all__ = [
    "APP_TEXT_LIMIT",
    "BOT_STREAM_LIMIT",
    "MERGED",
    "PLACEHOLDER",
    "app_parts",
    "bot_parts",
    "bot_stream_content",
    "clean",
    "for_bot",
    "has_visible",
    "plain",
    "split",
]

APP_TEXT_LIMIT: Final = DOORS["app_text"].text_bytes
"""Bytes of a text or Markdown message of an application; beyond, WeCom cuts silently or refuses (DOC 90236)."""

BOT_STREAM_LIMIT: Final = DOORS["bot"].text_bytes
"""Bytes of a bot's stream or Markdown content; beyond, WeCom refuses the whole (DOC 101031, 101463)."""

PLACEHOLDER: Final = "思考中…"
"""Shown while there is nothing to show: a frame without a visible character would be ignored."""

MERGED: Final = "（见下一条回答）"
"""Ends a bubble that was opened for a message which the next answer covers: a stream cannot be taken back."""

_NOTHING: Final = "（没有可以显示的内容）"
_CONTINUED: Final = "\n\n（内容较长，余下部分随后发送）"
# A client folds everything from this tag on into a thinking area, also when a reply merely quotes it.
_THINK: Final = re.compile(r"<(?=\s{0,16}/?\s{0,16}think)", re.IGNORECASE)
_ZERO_WIDTH_SPACE: Final = "\u200b"


def app_parts(reply: str, *, markdown: bool = False) -> list[str]:
    """The messages of an application that say ``reply``: at least one, in order, each at most 2048 bytes.

    By default their type is text, which WeCom and its plugin in the personal WeChat both
    show, so Markdown is said in words. With ``markdown`` they are of that type: marks
    stay, but tables, which it does not show, still become lines.
    """
    text = clean(reply)
    return split(without_tables(text) if markdown else plain(text), APP_TEXT_LIMIT) or [_NOTHING]


def bot_parts(reply: str) -> list[str]:
    """The messages of a bot that say ``reply``: at least one, each at most 20480 bytes.

    The first one is the last frame of the stream; the rest follow as messages.
    """
    return split(for_bot(reply), BOT_STREAM_LIMIT) or [_NOTHING]


def bot_stream_content(text_so_far: str) -> str:
    """What the bubble shows while a reply grows: 1 to 20480 bytes, with something to see.

    A code block that is still open is closed for display. A text that has outgrown the
    bubble is shown up to where it fits, with a note that the rest follows.
    """
    # Only the beginning counts, and frames are many: what lies far behind the limit is not looked at.
    head = text_so_far[: 2 * BOT_STREAM_LIMIT]
    text = for_bot(head)
    closed = close_fence(text)
    if len(head) == len(text_so_far) and utf8_length(closed) <= BOT_STREAM_LIMIT:
        return closed if has_visible(closed) else PLACEHOLDER
    parts = split(text, BOT_STREAM_LIMIT - utf8_length(_CONTINUED), numbered=False)
    return parts[0] + _CONTINUED if parts else PLACEHOLDER


def for_bot(text: str) -> str:
    """``text`` as a bot may say it, of whatever length: without what no client shows, and never folded away."""
    return _THINK.sub(f"<{_ZERO_WIDTH_SPACE}", clean(text))
