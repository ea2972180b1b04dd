"""The simulator as one object: everything put together, a port opened, and what a test asks it.

The only file that knows all doors.
"""

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from adapter.crypto import Envelope
from adapter.wire import AppMessage
from program.secret import Secret
from simulator.app_cards import AppCards
from simulator.app_kinds import shown
from simulator.app_rest import AppRest
from simulator.appchats import AppChats
from simulator.bot_callbacks import BotCallbacks
from simulator.bots import Bot, Push
from simulator.callbacks import Callbacks, UrlCheck
from simulator.cards import touched
from simulator.chats import Bubble, Chats
from simulator.clock import Clock, SystemClock
from simulator.corp import Corp, NobodyThere
from simulator.faults import Faults
from simulator.journal import Entry, Journal, Kind
from simulator.kf import CustomerService
from simulator.kf_rest import KfRest
from simulator.media import MediaStore
from simulator.menus import Menus
from simulator.page import Page
from simulator.passive import Passive
from simulator.quotes import Quote
from simulator.rest import Rest
from simulator.robots import Robots
from simulator.rules import Refused
from simulator.sending import Sending
from simulator.sent_files import BotFiles, Item, app_fields
from simulator.settings import AppSettings, Settings, host_and_port, problems
from simulator.socket import Socket, respond_by_code
from simulator.tokens import Tokens

T = TypeVar("T")

SOCKET_PATH = "/openws"


class SimulatorError(Exception):
    """The settings contradict themselves, or the port cannot be opened."""


class Simulator:
    """A local WeCom. ``async with Simulator(settings) as sim`` opens and closes it.

    Chats are named by key (``app:1000002``, ``bot:aib…``, ``group:wr…``) or, for the first of
    a kind, by ``"app"``, ``"bot"`` and ``"group"``.
    """

    def __init__(
        self, settings: Settings | None = None, *, faults: Faults | None = None, clock: Clock | None = None
    ) -> None:
        """Args: a manual clock makes windows and schedules a matter of the test.

        Raises:
            SimulatorError: a setting contradicts another one.
        """
        self.settings = settings or Settings()
        for field, reason in problems(self.settings):
            raise SimulatorError(f"{field}: {reason}")
        self.clock: Clock = clock or SystemClock()
        self.faults = faults or Faults(self.settings.faults.switches, seed=self.settings.faults.seed)
        self._changes: set[Callable[[Bubble | Entry], None]] = set()
        self._changed = asyncio.Event()
        bounds = self.settings.bounds
        self.journal = Journal(self.clock, bounds.journal, self._tell)
        self.chats = Chats(bounds.bubbles, self._tell)
        self.corp = Corp(self.settings, self.clock, self.faults, self.chats, self.journal)
        self.tokens = Tokens(self.corp)
        self.media = MediaStore(self.corp)
        self.cards = AppCards(self.corp)
        self.menus = Menus(self.corp)
        self.callbacks = Callbacks(self.corp, Passive(self.corp, self.media, self.cards))
        self.socket = Socket(self.corp, self.media)
        self.bot_callbacks = BotCallbacks(self.corp, self.socket.bots)
        self.robots = Robots(self.corp, self.media)
        self._sending = Sending(self.corp, self.media, self.cards)
        self.appchats = AppChats(self.corp, lambda body: shown(body, self.corp.rules, self.media))
        self.kf = CustomerService(self.corp, self.callbacks, self.media)
        self._stack = AsyncExitStack()
        self._port = 0

    # --- life ---

    async def __aenter__(self) -> "Simulator":
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.callbacks)
            await stack.enter_async_context(self.bot_callbacks)
            await stack.enter_async_context(self.socket)
            # Long connections and event streams are ended by hand; nothing else takes long.
            runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=0.2)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await self._open_port(runner)
            self.media.base = self.rest_base
            for bot in self.socket.bots.values():
                bot.response_base = self.rest_base
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stack.aclose()

    async def _open_port(self, runner: web.AppRunner) -> None:
        host, port = host_and_port(self.settings.listen.address)
        try:
            site = web.TCPSite(runner, host, port, ssl_context=self._tls())
            await site.start()
        except OSError as error:
            raise SimulatorError(
                f"listen.address: cannot listen on {self.settings.listen.address} ({error.strerror})"
            ) from None
        self._port = runner.addresses[0][1]

    def _tls(self) -> ssl.SSLContext | None:
        tls = self.settings.listen.tls
        if not tls.certificate_file:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tls.certificate_file, tls.key_file)
        return context

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=1 << 20)
        kf = KfRest(self.corp, self.kf, self.media)
        apps = AppRest(self.cards, self.appchats, self.menus)
        rest = Rest(self.corp, self.tokens, self._sending, self._respond, self.media, kf, apps, self.robots)
        application.add_routes(rest.routes())
        application.add_routes(self.media.routes())
        application.add_routes([web.get(SOCKET_PATH, self.socket.serve)])
        page = Page(self)
        application.add_routes(page.routes())
        application.on_shutdown.extend((self.socket.hang_up, page.hang_up))
        return application

    def _respond(self, code: str, raw: bytes) -> None:
        try:
            body = msgspec.json.decode(raw, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Refused(47001) from None
        respond_by_code(self.socket.bots, code, body)

    # --- where it is ---

    @property
    def address(self) -> str:
        """``host:port``."""
        host, _ = host_and_port(self.settings.listen.address)
        return f"[{host}]:{self._port}" if ":" in host else f"{host}:{self._port}"

    def _base(self, scheme: str) -> str:
        return f"{scheme}{'s' if self.settings.listen.tls.certificate_file else ''}://{self.address}"

    @property
    def page_url(self) -> str:
        """The chat page."""
        return f"{self._base('http')}/"

    @property
    def rest_base(self) -> str:
        """Stands for ``https://qyapi.weixin.qq.com``."""
        return self._base("http")

    @property
    def socket_base(self) -> str:
        """Stands for ``wss://openws.work.weixin.qq.com``."""
        return self._base("ws") + SOCKET_PATH

    # --- what people do ---

    async def write_to_app(self, person: str, text: str, *, app: int | None = None) -> str:
        """A member writes to an application. Returns the message id; delivery goes on by itself.

        Raises:
            NobodyThere: unknown person or application.
            BacklogFull: too many callbacks are under way.
        """
        return self.send_to_app(person, "text", {"Content": text}, shown=text, app=app)

    def send_to_app(
        self,
        person: str,
        msg_type: str,
        fields: Mapping[str, str],
        *,
        shown: str = "",
        app: int | None = None,
        content: dict[str, Any] | None = None,
    ) -> str:
        """A message of any kind: ``fields`` as in DOC 90239. Returns the message id. Raises as :meth:`write_to_app`.

        Args: ``content`` of the person's own bubble (``chats.Bubble.content``).
        """
        self.corp.must_know(person)
        receiver = self._app(app)
        msg_id, chat = self.corp.new_msg_id(), f"app:{receiver.agent_id}"
        rest = dict(fields)
        message = AppMessage(
            to_user=self.settings.corp_id,
            from_user=person,
            create_time=int(self.corp.now),
            msg_type=msg_type,
            msg_id=msg_id,
            agent_id=str(receiver.agent_id),
            content=rest.pop("Content", ""),
            fields=rest,
        )
        self.callbacks.post(receiver, message)
        look = "text" if msg_type == "text" else "media"
        self._written(chat, person, msg_id, shown or f"[{msg_type}]", look, content=content)
        return msg_id

    def send_media_to_app(
        self, person: str, kind: str, name: str, data: bytes, *, recognition: str = "", app: int | None = None
    ) -> str:
        """A file: ``kind`` is ``image``, ``voice``, ``video`` or ``file``. Returns the message id.

        Args: ``recognition`` is what the platform understood of a recording, where it says so.
        """
        self.corp.must_know(person)
        media_id = self.media.put(kind, name, data, checked=False)
        fields = app_fields(self.media, media_id, recognition)
        return self.send_to_app(
            person, kind, fields, shown=f"[{kind}] {name}", app=app, content=self.media.content(media_id)
        )

    def send_event(
        self, person: str, event: str, fields: Mapping[str, str] | None = None, *, app: int | None = None
    ) -> None:
        """An event of an application (DOC 90240), such as ``enter_agent`` or ``click``."""
        receiver = self._app(app)
        rest = dict(fields or {})
        message = AppMessage(
            to_user=self.settings.corp_id,
            from_user=person,
            create_time=int(self.corp.now),
            msg_type="event",
            agent_id=str(receiver.agent_id),
            event=event,
            event_key=rest.pop("EventKey", ""),
            fields=rest,
        )
        self.callbacks.post(receiver, message)

    def touch_menu(
        self, person: str, entry: str, result: Mapping[str, str] | None = None, *, app: int | None = None
    ) -> None:
        """A member touches an entry of an application's menu, by its name or key.

        Args: ``result`` is what else the event brings, such as ``ScanCodeInfo.ScanResult`` (DOC 90240).

        Raises:
            NobodyThere: unknown person or application.
            NoSuchEntry: the menu has no such entry.
        """
        self.corp.must_know(person)
        receiver = self._app(app)
        event, key = self.menus.entry(receiver, entry)
        self.send_event(person, event, {"EventKey": key, **(result or {})}, app=receiver.agent_id)

    async def write_to_bot(self, person: str, text: str, group: str | None = None, *, bot: str | None = None) -> str:
        """A member writes to a bot, alone or in a group, where the mention is put in front if it is missing.

        Returns the message id. Without a connection the message waits for one.

        Raises:
            NobodyThere: unknown person, bot or group, or the person is not in it.
        """
        self.corp.must_know(person)
        if group is None:
            receiver = self._bot(bot)
            chat, shown = f"bot:{receiver.settings.id}", text
        else:
            chat, receiver = self._group(group, person)
            mention = f"@{receiver.settings.name}"
            shown = text if mention in text else f"{mention} {text}"
        return self._push(receiver, receiver.write(person, chat, shown), shown)

    def send_to_bot(
        self,
        person: str,
        body: Mapping[str, Any],
        *,
        shown: str = "",
        bot: str | None = None,
        content: dict[str, Any] | None = None,
    ) -> str:
        """A message of another kind in the single chat: ``body`` has ``msgtype`` and its body (DOC 100719).

        Args: ``content`` of the person's own bubble (``chats.Bubble.content``).
        """
        self.corp.must_know(person)
        receiver = self._bot(bot)
        push = receiver.write_other(person, f"bot:{receiver.settings.id}", body)
        return self._push(receiver, push, shown or f"[{body.get('msgtype')}]", media=True, content=content)

    def send_media_to_bot(
        self,
        person: str,
        *items: Item,
        group: str | None = None,
        quoted: Item | None = None,
        bot: str | None = None,
    ) -> str:
        """Files and texts in one message; ``quoted``: what is quoted. In a group the bot is mentioned in front.

        Returns the message id.
        """
        self.corp.must_know(person)
        if group is None:
            receiver = self._bot(bot)
            chat = f"bot:{receiver.settings.id}"
        else:
            chat, receiver = self._group(group, person)
            items = (f"@{receiver.settings.name} ", *items)
        files = BotFiles(self.media, receiver, items, quoted)
        push = receiver.write_other(person, chat, files.body(), anew=files.body)
        return self._push(receiver, push, files.text(), media=True, content=files.shown())

    def quote_to_bot(
        self, person: str, text: str, bubble: Bubble, *, group: str | None = None, bot: str | None = None
    ) -> str:
        """A member quotes a message, whatever kind it is, and writes to the bot. Returns the message id."""
        self.corp.must_know(person)
        if group is None:
            receiver = self._bot(bot)
            chat, shown = f"bot:{receiver.settings.id}", text
        else:
            chat, receiver = self._group(group, person)
            shown = f"@{receiver.settings.name} {text}"
        quote = Quote(self.media, receiver, bubble)

        def body() -> dict[str, Any]:
            return {"msgtype": "text", "text": {"content": shown}, "quote": quote.body()}

        push = receiver.write_other(person, chat, body(), anew=body)
        return self._push(receiver, push, shown, content=quote.shown())

    def touch_card(
        self, person: str, bubble: Bubble, key: str, selected: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        """A member touches a button of a card, an entry of its menu, or sends off what was selected, by question.

        Raises:
            CannotTouch: a person could not do that.
        """
        if not bubble.speaker.startswith("app:"):
            self.touch_bot_card(person, bubble, key, selected)
            return
        receiver = self._app(int(bubble.speaker.removeprefix("app:")))
        event, fields = self.cards.event(receiver, touched(bubble.content, key, selected or {}))
        self.send_event(person, event, fields, app=receiver.agent_id)

    def touch_bot_card(
        self, person: str, bubble: Bubble, key: str, selected: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        """A member touches a button of a bot's card, or sends off what was selected on it, by question.

        Raises:
            CannotTouch: a person could not do that.
        """
        receiver = self._bot(bubble.speaker)
        self._hand_over(receiver, receiver.touch(person, bubble, key, selected or {}))

    def rate(self, person: str, bubble: Bubble, kind: int, reasons: Sequence[int] = (), content: str = "") -> None:
        """A member rates a bot's reply: ``kind`` 1 accurate, 2 inaccurate, 3 withdrawn.

        Args: ``reasons`` and ``content`` say why it is inaccurate (1 irrelevant, 2 incomplete, 3 wrong, 4 analysis).

        Raises:
            NobodyThere: the reply asks for no rating.
        """
        receiver = self._bot(bubble.speaker)
        self._hand_over(receiver, receiver.rate(person, bubble, kind, reasons, content))

    def write_in_group(self, person: str, text: str, group: str = "group") -> str:
        """A member writes in a group. The bot hears of it only when it is mentioned. Returns the message id."""
        chat, receiver = self._in_group(group, person)
        if receiver is not None and f"@{receiver.settings.name}" in text:
            return self._push(receiver, receiver.write(person, chat, text), text)
        msg_id = self.corp.new_opaque_id("GM")
        self._written(chat, person, msg_id, text, "text", owed=False)
        return msg_id

    def enter(self, person: str, chat: str) -> None:
        """A member opens a chat: ``enter_chat`` once a day, or ``enter_agent`` for an application that wants it."""
        self.corp.must_know(person)
        key = self.corp.chat_key(chat)
        kind, _, name = key.partition(":")
        if kind == "app" and self.corp.apps[int(name)].report_enter:
            self.send_event(person, "enter_agent", app=int(name))
        elif kind == "bot" and (self.corp.bots[name].mode == "callback" or self.socket.connected(name)):
            push = self.socket.bots[name].enter(person)
            if push is not None:
                self._hand_over(self.socket.bots[name], push)

    def _push(
        self, bot: Bot, push: Push, shown: str, *, media: bool = False, content: dict[str, Any] | None = None
    ) -> str:
        self._written(push.chat, push.person, push.msg_id, shown, "media" if media else "text", content=content)
        self._hand_over(bot, push)
        return push.msg_id

    def _hand_over(self, bot: Bot, push: Push) -> None:
        """Over the long connection, or to the callback address: as the bot's mode is."""
        (self.bot_callbacks if bot.settings.mode == "callback" else self.socket).push(bot, push)

    def _written(
        self,
        chat: str,
        person: str,
        msg_id: str,
        text: str,
        look: Any,
        *,
        owed: bool = True,
        content: dict[str, Any] | None = None,
    ) -> None:
        self.chats.post(
            chat=chat,
            person=person,
            speaker=person,
            text=text,
            look=look,
            now=self.corp.now,
            msg_id=msg_id,
            content=content,
        )
        if owed:
            self.journal.note(Kind.WRITTEN, chat=chat, person=person, msg_id=msg_id)

    # --- customer service; more of it in ``kf`` ---

    def customer_writes(self, customer: str, text: str, *, account: str | None = None) -> str:
        """A customer writes to an account of customer service (``wk…``; the first). Returns the message id."""
        return self.kf.write(customer, {"msgtype": "text", "text": {"content": text}}, account)

    def customer_sends(self, customer: str, content: Mapping[str, Any], *, account: str | None = None) -> str:
        """A message of another kind: ``content`` has ``msgtype`` and its body (DOC 94670)."""
        return self.kf.write(customer, content, account)

    def customer_enters(self, customer: str, *, account: str | None = None) -> str:
        """A customer opens the chat. Returns the ``welcome_code`` that the application is given, if any."""
        return self.kf.enter(customer, account)

    def customer_clicks_menu(self, customer: str, label: str, *, account: str | None = None) -> str:
        """A customer chooses from the last menu. Returns the message id."""
        return self.kf.click(customer, label, account)

    def servicer_takes(self, servicer: str, customer: str, *, account: str | None = None) -> None:
        """A member takes a customer over: from the pool, from the assistant, from a colleague."""
        self.kf.take(servicer, customer, account)

    def servicer_writes(self, servicer: str, customer: str, text: str, *, account: str | None = None) -> str:
        """A member writes to the customer whom they serve. Returns the message id."""
        return self.kf.write_as(servicer, customer, text, account)

    def servicer_ends(self, servicer: str, customer: str, *, account: str | None = None) -> None:
        """A member ends the session with a customer."""
        self.kf.end(servicer, customer, account)

    def set_kf_callback_url(self, url: str) -> None:
        """Where the callbacks of customer service go from now on, unchecked."""
        self.callbacks.urls[self.corp.kf_app.agent_id] = url

    async def save_kf_callback_url(self, url: str) -> UrlCheck:
        """The address is taken only if it passes the check."""
        outcome = await self.callbacks.check(self.corp.kf_app, url)
        if outcome.passed:
            self.set_kf_callback_url(url)
        return outcome

    # --- who is meant ---

    def _app(self, agent_id: int | None) -> AppSettings:
        if agent_id is None:
            agent_id = int(self.corp.chat_key("app").partition(":")[2])
        if agent_id not in self.corp.apps:
            raise NobodyThere(f"no application {agent_id}")
        return self.corp.apps[agent_id]

    def _bot(self, bot_id: str | None) -> Bot:
        key = self.corp.chat_key("bot" if bot_id is None else f"bot:{bot_id.removeprefix('bot:')}")
        return self.socket.bots[key.partition(":")[2]]

    def _group(self, group: str, person: str) -> tuple[str, Bot]:
        chat, bot = self._in_group(group, person)
        if bot is None:
            raise NobodyThere(f"no bot in {group!r}")
        return chat, bot

    def _in_group(self, group: str, person: str) -> tuple[str, Bot | None]:
        chat = self.corp.chat_key(group if group.partition(":")[0] == "group" else f"group:{group}")
        settings = self.corp.groups[chat.partition(":")[2]]
        if person not in self.corp.members(settings):
            raise NobodyThere(f"{person!r} is not in {group!r}")
        bot = self.corp.group_bot(settings)
        return chat, self.socket.bots[bot.id] if bot is not None else None

    # --- the admin console ---

    def set_callback_url(self, url: str, *, app: int | None = None) -> None:
        """Where callbacks go from now on, unchecked."""
        self.callbacks.urls[self._app(app).agent_id] = url

    async def save_callback_url(self, url: str, *, app: int | None = None) -> UrlCheck:
        """As "save configuration" does it: the address is taken only if it passes the check."""
        receiver = self._app(app)
        outcome = await self.callbacks.check(receiver, url)
        if outcome.passed:
            self.callbacks.urls[receiver.agent_id] = url
        return outcome

    def set_bot_callback_url(self, url: str, *, bot: str | None = None) -> None:
        """Where the callbacks of a bot go from now on, unchecked."""
        self.bot_callbacks.urls[self._bot(bot).settings.id] = url

    async def save_bot_callback_url(self, url: str, *, bot: str | None = None) -> UrlCheck:
        """The same for a bot in callback mode."""
        settings = self._bot(bot).settings
        outcome = await self.bot_callbacks.check(settings, url)
        if outcome.passed:
            self.bot_callbacks.urls[settings.id] = url
        return outcome

    def change_callback_keys(self, token: str, encoding_aes_key: str, *, app: int | None = None) -> None:
        """New Token and EncodingAESKey, saved at one moment: every attempt from now on is sealed with them.

        Raises:
            ValueError: the console would not take them.
        """
        Envelope(token, encoding_aes_key, self.settings.corp_id)
        self._change_app(app, token=Secret(token), encoding_aes_key=Secret(encoding_aes_key))

    def change_app_secret(self, secret: str, *, app: int | None = None) -> None:
        """A new Secret; the old one and its token are refused from now on."""
        self.tokens.end(self._change_app(app, secret=Secret(secret)))

    def change_bot_secret(self, secret: str, *, bot: str | None = None) -> None:
        """A new Secret of a bot, for its next subscription."""
        changed = self._bot(bot)
        changed.settings = msgspec.structs.replace(changed.settings, secret=Secret(secret))

    def _change_app(self, app: int | None, **changes: Secret) -> int:
        before = self._app(app)
        self.corp.apps[before.agent_id] = msgspec.structs.replace(before, **changes)
        return before.agent_id

    def connected(self, bot: str | None = None) -> bool:
        """Whether a bot has a subscribed connection."""
        return self.socket.connected(self._bot(bot).settings.id)

    # --- accidents on demand; switches are in ``faults`` ---

    def kick(self, bot: str | None = None, *, half: bool = False) -> None:
        """Another connection takes over; ``half``: the old socket stays open and is dead."""
        self.socket.kick(self._bot(bot).settings.id, half=half)

    def cut(self, bot: str | None = None) -> None:
        """The long connection breaks."""
        self.socket.cut(self._bot(bot).settings.id)

    def lose_subscription(self, bot: str | None = None) -> None:
        """The subscription goes, the socket stays (846609)."""
        self.socket.lose_subscription(self._bot(bot).settings.id)

    def silence(self, seconds: float, bot: str | None = None) -> None:
        """The platform neither reads nor writes for a while."""
        self.socket.silence(self._bot(bot).settings.id, seconds)

    def expire_tokens(self) -> None:
        """Every access token ends now."""
        self.tokens.expire()

    def expire_streams(self) -> None:
        """Every unfinished stream ends now."""
        for bot in self.socket.bots.values():
            bot.expire_all()

    # --- what is seen ---

    def bubbles(self, person: str, chat: str) -> list[Bubble]:
        """What the person sees in a chat, oldest first, own messages included."""
        return self.chats.bubbles(person, self.corp.chat_key(chat))

    def replies(self, person: str, chat: str) -> list[Bubble]:
        """The same without what people wrote."""
        written_by = self.corp.people.keys() | self.corp.customers.keys()
        return [bubble for bubble in self.bubbles(person, chat) if bubble.speaker not in written_by]

    def acknowledged(self) -> list[str]:
        """Ids of application messages that were answered with 200 and so are owed a reply, in order."""
        return self.journal.message_ids(Kind.ACKNOWLEDGED)

    def written(self, chat: str) -> list[str]:
        """Ids of all messages of people to a bot or an application, in order; a bot owes each of its own a reply."""
        key = self.corp.chat_key(chat)
        return [entry.msg_id for entry in self.journal.entries(Kind.WRITTEN, chat=key)]

    @property
    def counters(self) -> Counter[str]:
        """How often each kind of thing happened, and each fault as ``fault.<name>``."""
        found = Counter({str(kind): count for kind, count in self.journal.counts.items()})
        found.update({f"fault.{name}": count for name, count in self.faults.struck.items()})
        return found

    # --- waiting and listening ---

    def listen(self, listener: Callable[[Bubble | Entry], None]) -> Callable[[], None]:
        """Tells of every bubble that appears or changes and of every entry. Returns how to stop that."""
        self._changes.add(listener)
        return lambda: self._changes.discard(listener)

    def _tell(self, change: Bubble | Entry) -> None:
        for listener in list(self._changes):
            listener(change)
        self._changed.set()

    async def wait_for(self, predicate: Callable[[], T], timeout: float = 5.0) -> T:
        """Returns what the predicate says as soon as that is true; it is asked after every change.

        Raises:
            TimeoutError: it did not become true in this many real seconds.
        """
        async with asyncio.timeout(timeout):
            while not (outcome := predicate()):
                self._changed.clear()
                await self._changed.wait()
            return outcome
