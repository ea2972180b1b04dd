"""What the chat page shows of the corporation: who is there, how doors stand, and what everybody sees."""

from typing import TYPE_CHECKING, Any

from simulator.chats import Bubble
from simulator.corp import NobodyThere
from simulator.faults import FAULTS
from simulator.settings import GroupSettings

if TYPE_CHECKING:
    from simulator.app import Simulator


class Reading:
    """Answers the page's questions about one simulator."""

    def __init__(self, simulator: "Simulator") -> None:
        self._sim = simulator

    def state(self) -> dict[str, Any]:
        """Everything but bubbles, entries and rules."""
        sim = self._sim
        corp, kf = sim.corp, sim.kf
        return {
            "people": [
                {
                    "id": person.id,
                    "name": person.name,
                    "title": person.title,
                    "chats": corp.chats_of(person.id),
                    "serves": person.id in kf.receiving,
                }
                for person in sim.settings.people
            ],
            "customers": [
                {"id": customer.id, "name": customer.name, "chats": corp.chats_of(customer.id)}
                for customer in sim.settings.customers
            ],
            "apps": [
                {"id": app.agent_id, "name": app.name, "url": sim.callbacks.urls[app.agent_id], "menu": menu}
                for app in corp.apps.values()
                for menu in [sim.menus.get(app)]
            ],
            "bots": [
                {
                    "id": bot.id,
                    "name": bot.name,
                    "mode": bot.mode,
                    "connected": sim.socket.connected(bot.id),
                    "url": sim.bot_callbacks.urls.get(bot.id, ""),
                }
                for bot in sim.settings.bots
            ],
            "groups": [self._group(group) for group in corp.groups.values()],
            "robots": sim.robots.listed(),
            "desks": [{"id": desk.open_kfid, "name": desk.name} for desk in corp.desks.values()],
            "kf": {"url": sim.callbacks.urls.get(corp.kf_app.agent_id, ""), "receiving": kf.receiving},
            "sessions": [
                {"desk": desk, "customer": customer, "state": session.state, "servicer": session.servicer}
                for desk, customer, session in kf.sessions()
            ],
            "faults": list(FAULTS.values()),
            "switches": sim.faults.active,
            "struck": sim.faults.struck,
            "counters": sim.counters,
            "rest_base": sim.rest_base,
            "socket_base": sim.socket_base,
            "stream_seconds": sim.settings.rules.stream_seconds,
        }

    def _group(self, group: GroupSettings) -> dict[str, Any]:
        corp = self._sim.corp
        bot = corp.group_bot(group)
        owner = self._sim.appchats.owner(group.id)
        return {
            "id": group.id,
            "name": group.name,
            "members": corp.members(group),
            "bot": bot.name if bot else "",
            "app": corp.apps[owner].name if owner in corp.apps else "",
        }

    def bubbles(self, person: str, chat: str) -> dict[str, list[Bubble]]:
        """By chat, what a person or a customer sees in it.

        Raises:
            NobodyThere: no such person or chat.
        """
        corp = self._sim.corp
        if person not in corp.customers:
            corp.must_know(person)
        chats = [key for key, _ in corp.chats_of(person)]
        if chat:
            chats = [corp.chat_key(chat)]
        return {key: self._sim.bubbles(person, key) for key in chats}

    def bubble(self, person: str, chat: str, number: int) -> Bubble:
        """One of them. Raises :class:`NobodyThere`."""
        key = self._sim.corp.chat_key(chat)
        for bubble in self.bubbles(person, key)[key]:
            if bubble.number == number:
                return bubble
        raise NobodyThere(f"no bubble {number} in {chat!r}")
