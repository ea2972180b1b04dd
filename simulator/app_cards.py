"""Template cards that applications sent: who touches them, and how they change afterwards (DOC 90236, 94888)."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from simulator.cards import Touch, check, content_of, template_card
from simulator.chats import Bubble
from simulator.corp import Corp
from simulator.rules import Refused
from simulator.settings import AppSettings
from simulator.windows import Remembered


class _Sent(msgspec.Struct):
    """A card, and the bubbles in which people see it."""

    agent_id: int
    task_id: str
    bubbles: list[Bubble]


class AppCards:
    """Every card of every application. A ``response_code`` is good for 72 hours and one update."""

    def __init__(self, corp: Corp) -> None:
        self._corp = corp
        limit = corp.settings.bounds.messages
        self._tasks: Remembered[tuple[int, str], _Sent] = Remembered(limit)
        self._codes: Remembered[str, _Sent] = Remembered(limit)

    def admit(self, app: AppSettings, card: Mapping[str, Any]) -> None:
        """Raises :class:`Refused` when the ``task_id`` was used before: it is unique in an application."""
        if card.get("task_id") and self._tasks.get((app.agent_id, card["task_id"]), self._corp.now) is not None:
            raise Refused(42014, "task_id was used before")

    def sent(self, app: AppSettings, card: Mapping[str, Any], bubbles: list[Bubble]) -> str:
        """Takes note of a card that people see in these bubbles; its ``response_code``."""
        sent = _Sent(app.agent_id, str(card.get("task_id", "")), bubbles)
        if sent.task_id:
            self._tasks.put((app.agent_id, sent.task_id), sent, self._corp.now + self._corp.rules.req_id_seconds * 30)
        return self._new_code(sent)

    def _new_code(self, sent: _Sent) -> str:
        code = self._corp.new_opaque_id("rc_")
        self._codes.put(code, sent, self._corp.now + self._corp.rules.response_code_seconds)
        return code

    def event(self, app: AppSettings, touch: Touch) -> tuple[str, dict[str, str]]:
        """The event that tells the application of a touch, and its fields (DOC 90240)."""
        fields = {"EventKey": touch.event_key, "TaskId": touch.task_id, "CardType": touch.card_type}
        sent = self._tasks.get((app.agent_id, touch.task_id), self._corp.now)
        if sent is not None:
            fields["ResponseCode"] = self._new_code(sent)
        for number, (question, ids) in enumerate(touch.selected.items(), start=1):
            item = "SelectedItems.SelectedItem" + (f"#{number}" if number > 1 else "")
            fields[f"{item}.QuestionKey"] = question
            for place, one in enumerate(ids, start=1):
                fields[f"{item}.OptionIds.OptionId" + (f"#{place}" if place > 1 else "")] = one
        return ("template_card_menu_event" if touch.from_menu else "template_card_event"), fields

    # --- changes ---

    def rename_button(self, app: AppSettings, task_id: str, person: str, name: str) -> bool:
        """The passive reply ``update_button``: whether there was such a card."""
        return self._change(self._tasks.get((app.agent_id, task_id), self._corp.now), (person,), name, None)

    def replace(self, app: AppSettings, task_id: str, person: str, card: Mapping[str, Any], words: str) -> bool:
        """The passive reply ``update_template_card``: whether there was such a card.

        Raises:
            Refused: the new one breaks a rule.
        """
        check(card, "app")
        return self._change(self._tasks.get((app.agent_id, task_id), self._corp.now), (person,), words, card)

    def update(self, app: AppSettings, body: Mapping[str, Any]) -> dict[str, Any]:
        """``message/update_template_card``.

        Raises:
            Refused: nothing changed.
        """
        if body.get("agentid") != app.agent_id:
            raise Refused(301002)
        code = body.get("response_code")
        sent = self._codes.get(code, self._corp.now) if isinstance(code, str) else None
        if sent is None:
            raise Refused(40058, "invalid response_code: unknown, used, or older than 72 hours")
        if sent.agent_id != app.agent_id:
            raise Refused(42015)
        card, button = body.get("template_card"), body.get("button")
        if isinstance(card, dict):
            check(card, "app")
            words = str(card.get("replace_text", ""))
        elif isinstance(button, dict) and button.get("replace_name"):
            card, words = None, str(button["replace_name"])
        else:
            raise Refused(40058, "button.replace_name or template_card is required")
        people = self._people(body)
        self._codes.pop(str(code))
        self._change(sent, people, words, card)
        known = {self._corp.person_named(person) for person in people}
        invalid = [person for person in people if self._corp.person_named(person) is None]
        return {"errcode": 0, "errmsg": "ok", "invaliduser": invalid if known else people}

    def _people(self, body: Mapping[str, Any]) -> list[str]:
        users = body.get("userids", [])
        if not isinstance(users, list) or len(users) > self._corp.rules.recipients:
            raise Refused(40058, f"userids: at most {self._corp.rules.recipients}")
        for name, code in (("partyids", 82002), ("tagids", 82003)):
            if len(body.get(name) or ()) > 100:
                raise Refused(code)
        if body.get("atall") == 1:
            return list(self._corp.people)
        if not users and not body.get("partyids") and not body.get("tagids"):
            raise Refused(82001)
        return [str(user) for user in users]

    def _change(self, sent: _Sent | None, people: Iterable[str], words: str, card: Mapping[str, Any] | None) -> bool:
        if sent is None:
            return False
        names = {self._corp.person_named(person) for person in people}
        for bubble in sent.bubbles:
            if bubble.person not in names:
                continue
            if card is not None:
                bubble.content = content_of(card)
                _, bubble.text = template_card(card, "app")
            if bubble.content is not None:
                bubble.content["replaced"] = words
            bubble.updated_at = self._corp.now
            self._corp.chats.touched(bubble)
        return True
