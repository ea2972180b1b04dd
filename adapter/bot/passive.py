"""Passive answers of a bot in callback mode: what is sealed into the body of a 200 (DOC 101031, 101033). Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from adapter.callbacks.gate import Opened, Seal


def sealed(reply: Mapping[str, Any], opened: Opened, seal: Seal) -> bytes:
    """The body that carries a reply: under the nonce of the callback, with the time as a number."""
    made = seal.seal(msgspec.json.encode(reply), opened.timestamp, opened.nonce)
    return msgspec.json.encode(
        {
            "encrypt": made.encrypted,
            "msgsignature": made.msg_signature,
            "timestamp": int(made.timestamp),
            "nonce": made.nonce,
        }
    )


def stream(
    stream_id: str,
    content: str,
    *,
    finish: bool,
    pictures: Sequence[Mapping[str, Any]] = (),
    feedback_id: str = "",
) -> dict[str, Any]:
    """The whole text so far.

    Args:
        content: at most 20480 bytes, with a visible character.
        pictures: ``msg_item``, with ``finish`` only.
        feedback_id: in the first answer only; empty: the reply cannot be rated.
    """
    inner: dict[str, Any] = {"id": stream_id, "finish": finish, "content": content}
    if pictures:
        inner["msg_item"] = list(pictures)
    if feedback_id:
        inner["feedback"] = {"id": feedback_id}
    return {"msgtype": "stream", "stream": inner}


def text(content: str) -> dict[str, Any]:
    """The answer to ``enter_chat``; a message of a person does not take it."""
    return {"msgtype": "text", "text": {"content": content}}


def updated_card(card: Mapping[str, Any], userids: Sequence[str] = ()) -> dict[str, Any]:
    """What takes a touched card's place, under the same ``task_id``.

    Args: ``userids`` only in groups: whose card changes.
    """
    reply: dict[str, Any] = {"response_type": "update_template_card", "template_card": card}
    if userids:
        reply["userids"] = list(userids)
    return reply
