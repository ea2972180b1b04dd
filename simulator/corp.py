"""The corporation: who is there, and what every door of the platform stands on."""

import itertools
import secrets
from collections import ChainMap
from collections.abc import Mapping

from simulator.chats import Chats
from simulator.clock import Clock
from simulator.faults import Faults, Strike
from simulator.journal import Journal, Kind
from simulator.rules import Rules
from simulator.settings import (
    AppSettings,
    BotSettings,
    CustomerSettings,
    DeskSettings,
    GroupSettings,
    PersonSettings,
    Settings,
)


class NobodyThere(Exception):
    """No such person, application, bot, group or chat; or the person is not in it."""


class Corp:
    """People, applications, bots and groups, with the platform's clock, journal, chats and accidents."""

    def __init__(self, settings: Settings, clock: Clock, faults: Faults, chats: Chats, journal: Journal) -> None:
        self.settings = settings
        self.clock = clock
        self.faults = faults
        self.chats = chats
        self.journal = journal
        self.people: Mapping[str, PersonSettings] = {person.id: person for person in settings.people}
        self._folded = {person.id.lower(): person.id for person in settings.people}
        self.apps: dict[int, AppSettings] = {app.agent_id: app for app in settings.apps}
        """As they are now: the admin console changes secrets and keys of a running corporation."""
        kf = settings.kf
        self.kf_app = AppSettings(
            agent_id=kf.agent_id,
            name="微信客服",
            secret=kf.secret,
            token=kf.token,
            encoding_aes_key=kf.encoding_aes_key,
            callback_url=kf.callback_url,
        )
        """The application that may call customer service; nobody chats with it."""
        self.granted: Mapping[int, AppSettings] = ChainMap(self.apps, {kf.agent_id: self.kf_app})
        """Every application that gets tokens."""
        self.desks: Mapping[str, DeskSettings] = {desk.open_kfid: desk for desk in kf.accounts}
        self.customers: Mapping[str, CustomerSettings] = {customer.id: customer for customer in settings.customers}
        self.bots: Mapping[str, BotSettings] = {bot.id: bot for bot in settings.bots}
        self.groups: dict[str, GroupSettings] = {group.id: group for group in settings.groups}
        self._without_bot: set[str] = set()
        # Millionths of a second keep ids apart from those of an earlier run, which a store may remember.
        self._ids = itertools.count(int(clock.time() * 1000) * 1_000_000)

    @property
    def rules(self) -> Rules:
        return self.settings.rules

    @property
    def now(self) -> float:
        return self.clock.time()

    def new_msg_id(self) -> str:
        """A 64-bit number as text, larger than all before."""
        return str(next(self._ids))

    def new_opaque_id(self, prefix: str) -> str:
        """An id that says nothing and occurs once."""
        return prefix + secrets.token_hex(12)

    def person_named(self, user_id: str) -> str | None:
        """The UserID in its own spelling; WeCom does not mind case in ``touser``."""
        return self._folded.get(user_id.lower())

    def members(self, group: GroupSettings) -> tuple[str, ...]:
        """UserIDs of a group."""
        return group.members or tuple(self.people)

    def group_bot(self, group: GroupSettings) -> BotSettings | None:
        """The bot in a group; ``None`` in the groups of applications, and where there are no bots."""
        if group.id in self._without_bot:
            return None
        return self.bots.get(group.bot) if group.bot else next(iter(self.bots.values()), None)

    def add_group(self, group: GroupSettings, *, with_bot: bool) -> None:
        """A new group, or a known one that changed."""
        self.groups[group.id] = group
        if not with_bot:
            self._without_bot.add(group.id)

    def chats_of(self, person: str) -> list[tuple[str, str]]:
        """Key and name of every chat that a person has."""
        if person in self.customers:
            return [(f"kf:{desk.open_kfid}", desk.name) for desk in self.desks.values()]
        found = [(f"app:{app.agent_id}", app.name) for app in self.settings.apps]
        found += [(f"bot:{bot.id}", bot.name) for bot in self.settings.bots]
        found += [(f"group:{group.id}", group.name) for group in self.groups.values() if person in self.members(group)]
        return found

    def chat_key(self, chat: str) -> str:
        """A chat's key; ``app``, ``bot``, ``group`` and ``kf`` alone mean the first of their kind.

        Raises:
            NobodyThere: no such chat.
        """
        keys = [f"app:{app}" for app in self.apps] + [f"bot:{bot}" for bot in self.bots]
        keys += [f"group:{group}" for group in self.groups] + [f"kf:{desk}" for desk in self.desks]
        for key in keys:
            if chat in (key, key.partition(":")[0]):
                return key
        raise NobodyThere(f"no chat {chat!r}")

    def must_know(self, person: str) -> None:
        """Raises :class:`NobodyThere` for an unknown UserID."""
        if person not in self.people:
            raise NobodyThere(f"no person {person!r}")

    def strike(self, name: str, *, chat: str = "", person: str = "", msg_id: str = "") -> Strike | None:
        """Whether a fault happens at this occasion; the journal hears of it."""
        strike = self.faults.strike(name)
        if strike is not None:
            self.journal.note(Kind.FAULT, chat=chat, person=person, msg_id=msg_id, detail=name)
        return strike
