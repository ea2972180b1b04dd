"""Groups that applications create and write to (应用群聊; DOC 90244 to 90248)."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from simulator.app_kinds import Shown
from simulator.corp import Corp
from simulator.journal import Kind
from simulator.rules import Refused
from simulator.settings import AppSettings, GroupSettings
from simulator.windows import Windows

Read = Callable[[Mapping[str, Any]], Shown]
"""What people see of a message. Raises :class:`Refused`."""

_CHAT_ID: Final = re.compile(r"[0-9a-zA-Z]{1,32}", re.ASCII)
_KINDS: Final = frozenset({"text", "image", "voice", "video", "file", "textcard", "news", "mpnews", "markdown"})
_NAME_CHARACTERS: Final = 50
_MOST_MEMBERS: Final = 2000


class AppChats:
    """The groups of all applications. Each is written to by the one that created it, and by nobody else."""

    def __init__(self, corp: Corp, read: Read) -> None:
        self._corp = corp
        self._read = read
        self._owner: dict[str, int] = {}
        rules = corp.rules
        self._rates: Windows[str] = Windows(rules.group_per_minute, 60 * rules.group_per_minute, 10_000)

    def owner(self, chat_id: str) -> int | None:
        """The application that created a group; ``None`` where no application did."""
        return self._owner.get(chat_id)

    def create(self, app: AppSettings, body: Mapping[str, Any]) -> dict[str, Any]:
        """``appchat/create``. Raises :class:`Refused`."""
        members = self._members(body.get("userlist"))
        chat_id = body.get("chatid") or self._corp.new_opaque_id("wr")[:32]
        if not isinstance(chat_id, str) or not _CHAT_ID.fullmatch(chat_id):
            raise Refused(86001)
        if chat_id in self._corp.groups:
            raise Refused(86003)
        name = self._name(body.get("name", ""))
        self._owner[chat_id] = app.agent_id
        self._corp.add_group(GroupSettings(id=chat_id, name=name or "群聊", members=members), with_bot=False)
        return {"errcode": 0, "errmsg": "ok", "chatid": chat_id}

    def get(self, app: AppSettings, chat_id: str) -> dict[str, Any]:
        """``appchat/get``. Raises :class:`Refused`."""
        group = self._mine(app, chat_id)
        info = {"chatid": group.id, "name": group.name, "owner": group.members[0], "userlist": list(group.members)}
        return {"errcode": 0, "errmsg": "ok", "chat_info": info}

    def update(self, app: AppSettings, body: Mapping[str, Any]) -> dict[str, Any]:
        """``appchat/update``. Raises :class:`Refused`."""
        group = self._mine(app, body.get("chatid"))
        gone = set(body.get("del_user_list") or ())
        wanted = [*(one for one in group.members if one not in gone), *(body.get("add_user_list") or ())]
        changed = msgspec.structs.replace(
            group, name=self._name(body.get("name", "")) or group.name, members=self._members(wanted)
        )
        self._corp.add_group(changed, with_bot=False)
        return {"errcode": 0, "errmsg": "ok"}

    def send(self, app: AppSettings, body: Mapping[str, Any]) -> dict[str, Any]:
        """``appchat/send``. It has no duplicate check. Raises :class:`Refused`."""
        group = self._mine(app, body.get("chatid"))
        if body.get("msgtype") not in _KINDS:
            raise Refused(40008)
        look, text, lost, content = self._read(body)
        chat, journal = f"group:{group.id}", self._corp.journal
        msg_id = self._corp.new_opaque_id("msg_")
        if not self._rates.admit(group.id, self._corp.now):
            journal.note(Kind.DROPPED, chat=chat, msg_id=msg_id, detail="超过群成员的接收频率，平台已丢弃且不报错")
            return {"errcode": 0, "errmsg": "ok"}
        self._corp.chats.post(
            chat=chat,
            person="",
            speaker=f"app:{app.agent_id}",
            text=text,
            look=look,
            now=self._corp.now,
            msg_id=msg_id,
            lost_bytes=lost,
            content=content,
        )
        journal.note(Kind.SHOWN, chat=chat, msg_id=msg_id)
        # Whether the real answer has a msgid is not documented, so nobody may count on one.
        return {"errcode": 0, "errmsg": "ok"}

    def _mine(self, app: AppSettings, chat_id: object) -> GroupSettings:
        if not isinstance(chat_id, str) or chat_id not in self._corp.groups:
            raise Refused(40050)
        if self._owner.get(chat_id) != app.agent_id:
            raise Refused(86008)
        return self._corp.groups[chat_id]

    def _members(self, names: object) -> tuple[str, ...]:
        if not isinstance(names, list):
            raise Refused(40058, "invalid userlist")
        found = [self._corp.person_named(str(name)) for name in names]
        if None in found:
            raise Refused(40003)
        members = tuple(dict.fromkeys(name for name in found if name is not None))
        if not 2 <= len(members) <= _MOST_MEMBERS:
            raise Refused(86004)
        return members

    def _name(self, name: object) -> str:
        if not isinstance(name, str) or len(name) > _NAME_CHARACTERS:
            raise Refused(40058, f"name exceed max length {_NAME_CHARACTERS}")
        return name
