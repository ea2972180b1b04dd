"""What ``message/send`` does with a request (DOC 90236): the checks in order, and what members see."""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from simulator.app_cards import AppCards
from simulator.app_kinds import shown
from simulator.chats import Bubble, Look
from simulator.corp import Corp
from simulator.journal import Kind
from simulator.media import MediaStore
from simulator.rules import Refused
from simulator.settings import AppSettings
from simulator.windows import Remembered, Windows


class _Sent(msgspec.Struct):
    """A message that was taken, for the duplicate check and for recall."""

    msg_id: str
    agent_id: int
    at: float
    answer: dict[str, Any]
    bubbles: list[Bubble]
    content: dict[str, Any] | None = None
    """What of it is more than text (``chats.Bubble.content``)."""


class Sending:
    """The application side of the platform: takes messages and shows them."""

    def __init__(self, corp: Corp, media: MediaStore, cards: AppCards) -> None:
        self._corp = corp
        self._media = media
        self._cards = cards
        limit = corp.settings.bounds.messages
        self._sent: Remembered[str, _Sent] = Remembered(limit)
        self._seen: Remembered[bytes, _Sent] = Remembered(limit)
        rules = corp.rules
        self._members: Windows[tuple[int, str]] = Windows(rules.member_per_minute, rules.member_per_hour, limit)

    def send(self, app: AppSettings, raw: bytes) -> dict[str, Any]:
        """Takes a request of this application and answers it.

        Raises:
            Refused: nothing was taken and nothing is shown.
        """
        body = decoded(raw)
        self._check_agent(app, body)
        look, text, lost, content = shown(body, self._corp.rules, self._media)
        people, invalid = self._recipients(body)
        twin, key, interval = self._twin(app, raw, body)
        if twin is not None:
            return self._suppress(app, twin)
        card = body["template_card"] if body["msgtype"] == "template_card" else None
        if card is not None:
            self._cards.admit(app, card)
        sent = _Sent(self._corp.new_opaque_id("msg_"), app.agent_id, self._corp.now, {}, [], content)
        sent.answer = {
            "errcode": 0,
            "errmsg": "ok",
            "invaliduser": "|".join(invalid),
            "invalidparty": "",
            "invalidtag": "",
            "unlicenseduser": "",
            "msgid": sent.msg_id,
        }
        self._sent.put(sent.msg_id, sent, sent.at + self._corp.rules.recall_seconds)
        if key is not None:
            self._seen.put(key, sent, sent.at + interval)
        for person in people:
            self._show(app, person, look, text, lost, sent)
        if card is not None:
            sent.answer["response_code"] = self._cards.sent(app, card, sent.bubbles)
        return sent.answer

    # --- checks, in the order in which the platform makes them ---

    def _check_agent(self, app: AppSettings, body: Mapping[str, Any]) -> None:
        agent_id = body.get("agentid")
        if isinstance(agent_id, str) and agent_id.isdecimal():
            agent_id = int(agent_id)
        if type(agent_id) is not int:
            raise Refused(40056)
        if agent_id != app.agent_id:
            raise Refused(301002)

    def _recipients(self, body: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """Who gets it, and which names nobody has, in lower case."""
        parties, tags = _names(body, "toparty"), _names(body, "totag")
        if len(parties) > 100:
            raise Refused(82002)
        if len(tags) > 100:
            raise Refused(82003)
        names = _names(body, "touser")
        if not names and not parties and not tags:
            raise Refused(82001)
        if names == ["@all"]:
            return list(self._corp.people), []
        if len(names) > self._corp.rules.recipients:
            raise Refused(40058, f"touser exceed max count {self._corp.rules.recipients}")
        found = {name: self._corp.person_named(name) for name in names}
        people = list(dict.fromkeys(person for person in found.values() if person))
        if not people:
            raise Refused(81013)
        return people, [name.lower() for name, person in found.items() if person is None]

    def _twin(self, app: AppSettings, raw: bytes, body: Mapping[str, Any]) -> tuple[_Sent | None, bytes | None, float]:
        """An earlier request that was the same, within the interval that this one names."""
        if body.get("enable_duplicate_check") not in (1, True):
            return None, None, 0
        rules = self._corp.rules
        interval = body.get("duplicate_check_interval", rules.duplicate_seconds)
        if type(interval) is not int or interval < 0:
            raise Refused(40058, "invalid duplicate_check_interval")
        interval = min(interval or rules.duplicate_seconds, rules.duplicate_seconds_limit)
        said = raw if rules.duplicate_compares == "bytes" else msgspec.json.encode(body, order="deterministic")
        key = hashlib.blake2b(said, digest_size=16, key=str(app.agent_id).encode()).digest()
        return self._seen.get(key, self._corp.now), key, interval

    # --- effects ---

    def _suppress(self, app: AppSettings, twin: _Sent) -> dict[str, Any]:
        for bubble in twin.bubbles:
            bubble.sent += 1
            bubble.suppressed += 1
            self._corp.chats.touched(bubble)
        self._corp.journal.note(
            Kind.SUPPRESSED,
            chat=f"app:{app.agent_id}",
            person=twin.bubbles[0].person if len(twin.bubbles) == 1 else "",
            msg_id=twin.msg_id,
            detail="与此前的请求完全相同，在重复检查间隔内，未再次下发",
        )
        return twin.answer

    def _show(self, app: AppSettings, person: str, look: Look, text: str, lost: int, sent: _Sent) -> None:
        chat = f"app:{app.agent_id}"
        journal = self._corp.journal
        if not self._members.admit((app.agent_id, person), sent.at):
            journal.note(
                Kind.DROPPED,
                chat=chat,
                person=person,
                msg_id=sent.msg_id,
                detail="超过该成员的接收频率，平台已丢弃且不报错",
            )
            return
        bubble = self._corp.chats.post(
            chat=chat,
            person=person,
            speaker=chat,
            text=text,
            look=look,
            now=sent.at,
            msg_id=sent.msg_id,
            lost_bytes=lost,
            content=dict(sent.content) if sent.content else None,  # one for each person: cards change
        )
        sent.bubbles.append(bubble)
        journal.note(Kind.SHOWN, chat=chat, person=person, msg_id=sent.msg_id)
        if lost:
            journal.note(
                Kind.CUT,
                chat=chat,
                person=person,
                msg_id=sent.msg_id,
                detail=f"超过 {self._corp.rules.text_bytes} 字节，末尾 {lost} 字节被截断且不报错",
            )

    def recall(self, app: AppSettings, raw: bytes) -> dict[str, Any]:
        """Takes a message back.

        Raises:
            Refused: 40058 for another application's or an unknown message, 42052 when it is too late.
        """
        msg_id = decoded(raw).get("msgid")
        found = next((sent for sent in self._sent.values() if sent.msg_id == msg_id), None)
        if found is None or found.agent_id != app.agent_id:
            raise Refused(40058, "invalid msgid")
        if self._corp.now > found.at + self._corp.rules.recall_seconds:
            raise Refused(42052)
        for bubble in found.bubbles:
            bubble.recalled = True
            bubble.text = "消息已撤回"
            self._corp.chats.touched(bubble)
        self._corp.journal.note(Kind.RECALLED, chat=f"app:{app.agent_id}", msg_id=found.msg_id)
        return {"errcode": 0, "errmsg": "ok"}


def decoded(raw: bytes) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refused(47001) from None
    if not isinstance(body, dict):
        raise Refused(47001)
    return body


def _names(body: Mapping[str, Any], field: str) -> list[str]:
    value = body.get(field, "")
    if not isinstance(value, str):
        raise Refused(40058, f"invalid {field}")
    return [name for name in value.split("|") if name]
