"""Passive replies (被动回复): what the answer to a callback itself may say (DOC 90241). Pure.

Only for what is known at once and needs no model: WeCom waits for 5 seconds, takes one
reply for each callback, and knows neither Markdown nor files here. It costs no request and
counts against no frequency limit. Whatever takes longer is a message of its own.
"""

from typing import Final

from adapter.callbacks.gate import Opened, Seal
from adapter.wire import AppMessage, message_xml, passive_xml

_TAKE_TEXT: Final = frozenset({"", "subscribe", "enter_agent", "click", "scancode_waitmsg"})
"""Events of ours whose answer can be a text, and messages. What answers a touched card can only change the card."""

_TEXT_BYTES: Final = 2048
"""WeCom cuts what is longer, in the middle of a character if need be."""


def takes_text(event: str) -> bool:
    """Whether the callback of this event can be answered with a text; of a message, which has no event, it can."""
    return event in _TAKE_TEXT


def text(content: str) -> AppMessage:
    """A sentence, up to 2,048 bytes of it. ``content`` has something to see."""
    return AppMessage(msg_type="text", content=content.encode()[:_TEXT_BYTES].decode(errors="ignore"))


def update_button(name: str) -> AppMessage:
    """New words for the buttons of the card that was touched, which can then not be touched again."""
    return AppMessage(msg_type="update_button", fields={"Button.ReplaceName": name})


def answer(reply: AppMessage, message: AppMessage, opened: Opened, seal: Seal) -> bytes:
    """The body that answers a callback with ``reply``.

    Args:
        message: what came in the callback.
        opened: the callback, whose time and nonce the reply repeats.
    """
    inner = message_xml(
        AppMessage(
            to_user=message.from_user,
            from_user=message.to_user,
            create_time=int(opened.timestamp),
            msg_type=reply.msg_type,
            content=reply.content,
            fields=reply.fields,
        )
    )
    return passive_xml(seal.seal(inner, opened.timestamp, opened.nonce))
