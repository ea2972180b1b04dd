"""What an application sends, and to whom, as WeCom takes it (DOC 90236, 90248). Pure."""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

_GROUP: Final = re.compile(r"[0-9a-zA-Z_-]{1,64}", re.ASCII)
_PLACES: Final = {"user": "touser", "party": "toparty", "tag": "totag"}

_NOT_IN_GROUPS: Final = frozenset({"template_card", "miniprogram_notice"})
"""Kinds that ``appchat/send`` does not take."""


# --- To whom -----------------------------------------------------------------------------


class Receiver(msgspec.Struct, frozen=True):
    """Who gets a message: people, or a group that this application created."""

    people: Mapping[str, str] = {}
    """Where ``message/send`` has them: ``touser``, ``toparty`` or ``totag``."""
    chat: str = ""
    """The ``chatid`` for ``appchat/send``."""

    @property
    def users(self) -> tuple[str, ...]:
        """The UserIDs, where they are known; of departments, tags and everybody they are not."""
        users = self.people.get("touser", "")
        return () if users == "@all" else tuple(filter(None, users.split("|")))

    @property
    def key(self) -> str:
        """Tells receivers apart."""
        return f"chat:{self.chat}" if self.chat else "|".join(f"{where}:{who}" for where, who in self.people.items())


def to_user(user: str) -> Receiver:
    """One person."""
    return Receiver({"touser": user})


def receiver_of(recipient: str) -> Receiver:
    """The receiver that a push names: ``user:ID``, ``party:ID``, ``tag:ID``, ``@all`` or ``chat:CHATID``.

    Several ids of one kind are joined by ``|``.

    Raises:
        ValueError: none of these.
    """
    if recipient == "@all":
        return to_user("@all")
    kind, _, who = recipient.partition(":")
    ids = [one.strip() for one in who.split("|")]
    if kind == "chat" and _GROUP.fullmatch(who):
        return Receiver(chat=who)
    # An @all among the people would reach everybody, which nobody asked for.
    if kind in _PLACES and all(ids) and "@all" not in ids:
        return Receiver({_PLACES[kind]: "|".join(ids)})
    raise ValueError("recipient: must be user:ID, party:ID, tag:ID (several joined by |), @all or chat:CHATID")


# --- What --------------------------------------------------------------------------------


class Message(msgspec.Struct, frozen=True):
    """One message, without its receiver."""

    kind: str
    """The ``msgtype``."""
    body: Mapping[str, Any]
    """What stands under the name of the kind."""
    options: Mapping[str, int] = {}
    """``safe`` and ``enable_id_trans``."""


def text(content: str) -> Message:
    """A text of at most 2048 bytes."""
    return Message("text", {"content": content})


def markdown(content: str) -> Message:
    """Markdown of at most 2048 bytes."""
    return Message("markdown", {"content": content})


def card(template_card: Mapping[str, Any]) -> Message:
    """A template card that was checked."""
    return Message("template_card", template_card)


def call_for(receiver: Receiver) -> str:
    """The path of the request that sends something there."""
    return "appchat/send" if receiver.chat else "message/send"


def encode(message: Message, receiver: Receiver, agent_id: int, *, duplicate_check: bool, interval: int) -> bytes:
    """The body of the request; UTF-8 without escapes (DOC 90313, 40033).

    Equal arguments give equal bytes. The order of the fields is part of that promise: the
    duplicate check compares the request as a whole, so the same part must be the same bytes
    in every attempt and every release that may recover it. Groups have no such check.
    """
    if receiver.chat:
        return msgspec.json.encode(
            {"msgtype": message.kind, "chatid": receiver.chat, message.kind: message.body, **message.options}
        )
    return msgspec.json.encode(
        {
            "msgtype": message.kind,
            **receiver.people,
            "agentid": agent_id,
            message.kind: message.body,
            **message.options,
            "enable_duplicate_check": int(duplicate_check),
            "duplicate_check_interval": interval,
        }
    )


def fits(message: Message, receiver: Receiver) -> bool:
    """Whether messages of this kind can go there at all."""
    return not (receiver.chat and message.kind in _NOT_IN_GROUPS)
