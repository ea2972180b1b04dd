"""What people do on the chat page, as requests: each is a method of :class:`Writing`, named as its address."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from simulator.chats import Bubble
from simulator.corp import NobodyThere
from simulator.faults import Switch
from simulator.page_files import SILENCE, Form
from simulator.page_reading import Reading

if TYPE_CHECKING:
    from simulator.app import Simulator

_QUOTED: Final = 200
"""Characters of a quoted message that stand in front of an application's text."""
_SPEECH: Final = "语音转成的文字"


class _Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A request of the page."""


class Write(_Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A person or a customer writes; ``quote`` is the number of the bubble that is quoted."""

    person: str
    chat: str
    text: str = ""
    quote: int = 0


class Say(_Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is neither a text nor a file: a recording made here, a place, a link, a kind that nobody knows."""

    person: str
    chat: str
    kind: Literal["voice", "location", "link", "other"]
    fields: Annotated[dict[str, str], Meta(max_length=10)] = {}


class Enter(_Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Somebody opens a chat."""

    person: str
    chat: str


class Touch(_Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A card: which key was touched, and what was selected by question."""

    person: str
    chat: str
    number: int
    key: str = ""
    selected: dict[str, tuple[str, ...]] = {}


class Rate(_Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A reply: ``kind`` 1 accurate, 2 inaccurate, 3 withdrawn."""

    person: str
    chat: str
    number: int
    kind: Literal[1, 2, 3]
    reasons: tuple[Annotated[int, Meta(ge=1, le=4)], ...] = ()
    content: Annotated[str, Meta(max_length=200)] = ""


class MenuTouch(_Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An entry of an application's menu; ``result`` is what was scanned or where somebody is."""

    person: str
    app: int
    entry: str
    result: dict[str, str] = {}


class Choose(_Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A customer chooses from a menu."""

    person: str
    chat: str
    label: str


class Serve(_Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a person who serves customers does."""

    servicer: str
    act: Literal["take", "write", "end", "receive", "pause"]
    customer: str = ""
    chat: str = ""
    text: str = ""


class Recall(_Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A customer, or the person who serves them, takes a message back."""

    person: str
    chat: str
    number: int
    customer: str = ""


class SetFault(_Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A switch."""

    name: str
    on: bool = True
    probability: float = 1.0
    count: int | None = None
    seconds: float | None = None


class Act(_Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An accident that happens now."""

    name: Literal["kick", "cut", "lose_subscription", "silence", "expire_tokens", "expire_streams", "clear_faults"]
    bot: str | None = None
    seconds: float = 10.0


class SaveUrl(_Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The address of an application's or a bot's callbacks, or of customer service."""

    app: int | None = None
    bot: str = ""
    kf: bool = False
    url: str


class Disable(_Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Somebody disables the robot of a group, or enables it."""

    robot: str
    disabled: bool


ACTIONS: Final[Mapping[str, type[_Request]]] = {
    "write": Write,
    "say": Say,
    "enter": Enter,
    "touch": Touch,
    "rate": Rate,
    "menu": MenuTouch,
    "choose": Choose,
    "serve": Serve,
    "recall": Recall,
    "faults": SetFault,
    "act": Act,
    "callback": SaveUrl,
    "robot": Disable,
}
"""Every address that takes JSON, and what it takes."""


class Writing:
    """Does what the page asks for. Every method raises :class:`NobodyThere` for who or what is not there."""

    def __init__(self, simulator: "Simulator") -> None:
        self._sim = simulator
        self._reading = Reading(simulator)

    # --- messages ---

    async def write(self, asked: Write) -> dict[str, str]:
        """Returns the message id."""
        sim, person, text = self._sim, asked.person, _said(asked.text)
        chat, kind, name = self._place(asked.chat)
        quoted = self._reading.bubble(person, chat, asked.quote) if asked.quote else None
        if kind == "kf":
            return {"msg_id": sim.customer_writes(person, text, account=name)}
        if kind == "app":
            return {"msg_id": self._to_app(person, text, quoted, int(name))}
        if quoted is not None:
            group, bot = (chat, None) if kind == "group" else (None, name)
            return {"msg_id": sim.quote_to_bot(person, text, quoted, group=group, bot=bot)}
        if kind == "group":
            return {"msg_id": sim.write_in_group(person, text, chat)}
        return {"msg_id": await sim.write_to_bot(person, text, bot=name)}

    def _to_app(self, person: str, text: str, quoted: Bubble | None, app: int) -> str:
        """To applications a quote is part of the text: the client puts it in front."""
        if quoted is None:
            return self._sim.send_to_app(person, "text", {"Content": text}, shown=text, app=app)
        sentence = " ".join(quoted.text.split())[:_QUOTED]
        content = {"kind": "quote", "quoted": sentence, "by": quoted.speaker}
        body = {"Content": f"「{self._name(quoted.speaker)}：{sentence}」\n- - - - - - - - - - - - - - -\n{text}"}
        return self._sim.send_to_app(person, "text", body, shown=text, app=app, content=content)

    def _name(self, speaker: str) -> str:
        corp = self._sim.corp
        kind, _, name = speaker.partition(":")
        if kind == "app" and name:
            return corp.apps[int(name)].name
        return corp.people[speaker].name if speaker in corp.people else speaker

    async def files(self, form: Form) -> dict[str, str]:
        """A message with files, or several where the door has no mixed ones. Returns the id of the last."""
        sim, person = self._sim, form.person
        if not form.files:
            raise NobodyThere("no file")
        chat, kind, name = self._place(form.chat)
        if kind in ("bot", "group"):
            group, bot = (chat, None) if kind == "group" else (None, name)
            return {"msg_id": sim.send_media_to_bot(person, *form.items, group=group, bot=bot)}
        msg_id = ""
        for file_kind, file_name, data in form.files:
            if kind == "app":
                msg_id = sim.send_media_to_app(
                    person, file_kind, file_name, data, recognition=form.recognition, app=int(name)
                )
            else:
                msg_id = sim.kf.send_file(person, file_kind, file_name, data, name)
        if form.text.strip():
            msg_id = (await self.write(Write(person=person, chat=chat, text=form.text)))["msg_id"]
        return {"msg_id": msg_id}

    async def say(self, asked: Say) -> dict[str, str]:
        """Returns the message id."""
        chat, kind, name = self._place(asked.chat)
        say: dict[str, Callable[[Say, str], str]] = {"app": self._say_to_app, "bot": self._say_to_bot}
        say["kf"] = self._say_to_desk
        if kind not in say:
            raise NobodyThere(f"{asked.kind} cannot be said in {chat!r}")
        return {"msg_id": say[kind](asked, name)}

    def _say_to_app(self, asked: Say, name: str) -> str:
        sim, fields, app = self._sim, asked.fields, int(name)
        if asked.kind == "voice":
            spoken = fields.get("text", _SPEECH)
            return sim.send_media_to_app(asked.person, "voice", "语音.amr", SILENCE, recognition=spoken, app=app)
        content: dict[str, Any] = {"kind": asked.kind, **fields}
        wire = {
            "location": {
                "Location_X": fields.get("latitude", ""),
                "Location_Y": fields.get("longitude", ""),
                "Scale": "15",
                "Label": _place_name(fields),
                "AppType": "wxwork",
            },
            "link": {
                "Title": fields.get("title", ""),
                "Description": fields.get("desc", ""),
                "Url": fields.get("url", ""),
                "PicUrl": "",
            },
        }.get(asked.kind, {})
        shown = _shown(asked)
        return sim.send_to_app(
            asked.person, _kind(asked, "miniprogram"), wire, shown=shown, app=app, content=content if wire else None
        )

    def _say_to_bot(self, asked: Say, name: str) -> str:
        if asked.kind == "voice":
            spoken = asked.fields.get("text", _SPEECH)
            body: dict[str, Any] = {"msgtype": "voice", "voice": {"content": spoken}}
            content: dict[str, Any] | None = {"kind": "voice", "name": "语音.amr", "size": len(SILENCE), "text": spoken}
        else:
            kind = _kind(asked, "miniprogram")
            body = {"msgtype": kind, kind: dict(asked.fields)}
            content = {"kind": asked.kind, **asked.fields} if asked.kind != "other" else None
        return self._sim.send_to_bot(asked.person, body, shown=_shown(asked), bot=name, content=content)

    def _say_to_desk(self, asked: Say, name: str) -> str:
        if asked.kind == "voice":
            return self._sim.kf.send_file(asked.person, "voice", "语音.amr", SILENCE, name)
        kind = _kind(asked, "channels_live")
        body: dict[str, Any] = dict(asked.fields)
        for field in ("latitude", "longitude"):
            if field in body:
                body[field] = _number(field, body[field])
        return self._sim.kf.write(asked.person, {"msgtype": kind, kind: body}, name, shown=_shown(asked))

    # --- what is touched ---

    async def enter(self, asked: Enter) -> None:
        """Events of the door, where it has some."""
        _, kind, name = self._place(asked.chat)
        if kind == "kf":
            self._sim.customer_enters(asked.person, account=name)
        elif kind != "group":
            self._sim.enter(asked.person, asked.chat)

    async def touch(self, asked: Touch) -> None:
        """Raises :class:`CannotTouch` as well."""
        bubble = self._reading.bubble(asked.person, asked.chat, asked.number)
        if not bubble.speaker.startswith(("app:", "bot:")):
            raise NobodyThere("nobody hears of a touch on this card")
        self._sim.touch_card(asked.person, bubble, asked.key, asked.selected)

    async def rate(self, asked: Rate) -> None:
        """A rating of a bot's reply."""
        bubble = self._reading.bubble(asked.person, asked.chat, asked.number)
        if not bubble.feedback_id:
            raise NobodyThere(f"bubble {asked.number} cannot be rated")
        self._sim.rate(asked.person, bubble, asked.kind, asked.reasons, asked.content)

    async def menu(self, asked: MenuTouch) -> None:
        """Raises :class:`NoSuchEntry` as well."""
        self._sim.touch_menu(asked.person, asked.entry, asked.result, app=asked.app)

    async def choose(self, asked: Choose) -> dict[str, str]:
        """Returns the message id."""
        _, _, name = self._place(asked.chat)
        return {"msg_id": self._sim.customer_clicks_menu(asked.person, asked.label, account=name)}

    async def serve(self, asked: Serve) -> None:
        """What happens to a session."""
        sim, kf = self._sim, self._sim.kf
        if asked.act in ("receive", "pause"):
            kf.receive(asked.servicer, receiving=asked.act == "receive")
            return
        _, _, desk = self._place(asked.chat)
        if asked.act == "take":
            sim.servicer_takes(asked.servicer, asked.customer, account=desk)
        elif asked.act == "end":
            sim.servicer_ends(asked.servicer, asked.customer, account=desk)
        else:
            sim.servicer_writes(asked.servicer, asked.customer, _said(asked.text), account=desk)

    async def recall(self, asked: Recall) -> None:
        """Only in customer service, where the application hears of it."""
        _, kind, desk = self._place(asked.chat)
        bubble = self._reading.bubble(asked.customer or asked.person, asked.chat, asked.number)
        if kind != "kf" or bubble.speaker != asked.person or bubble.recalled:
            raise NobodyThere(f"bubble {asked.number} cannot be taken back by {asked.person!r}")
        if asked.customer:
            self._sim.kf.recall_as(asked.person, asked.customer, bubble.msg_id, desk)
        else:
            self._sim.kf.recall(asked.person, bubble.msg_id, desk)

    # --- the panel ---

    async def faults(self, asked: SetFault) -> dict[str, Switch]:
        """Returns all switches."""
        if asked.on:
            bounded = msgspec.convert(
                {"probability": asked.probability, "count": asked.count, "seconds": asked.seconds}, Switch
            )
            self._sim.faults.set(asked.name, bounded)
        else:
            self._sim.faults.clear(asked.name)
        return dict(self._sim.faults.active)

    async def act(self, asked: Act) -> None:
        """An accident."""
        sim = self._sim
        actions: dict[str, Callable[[], None]] = {
            "kick": lambda: sim.kick(asked.bot),
            "cut": lambda: sim.cut(asked.bot),
            "lose_subscription": lambda: sim.lose_subscription(asked.bot),
            "silence": lambda: sim.silence(asked.seconds, asked.bot),
            "expire_tokens": sim.expire_tokens,
            "expire_streams": sim.expire_streams,
            "clear_faults": sim.faults.clear,
        }
        actions[asked.name]()

    async def callback(self, asked: SaveUrl) -> Any:
        """Returns how the check of the address went."""
        if asked.bot:
            return await self._sim.save_bot_callback_url(asked.url, bot=asked.bot)
        if asked.kf:
            return await self._sim.save_kf_callback_url(asked.url)
        return await self._sim.save_callback_url(asked.url, app=asked.app)

    async def robot(self, asked: Disable) -> None:
        """The switch of a robot."""
        self._sim.robots.disable(asked.robot, disabled=asked.disabled)

    def _place(self, chat: str) -> tuple[str, str, str]:
        """The chat's key, its kind, and the name in it."""
        key = self._sim.corp.chat_key(chat)
        kind, _, name = key.partition(":")
        return key, kind, name


def _said(text: str) -> str:
    if not text.strip():
        raise NobodyThere("text is empty")
    return text


def _kind(asked: Say, unknown: str) -> str:
    """The message type on the wire; ``unknown`` is one that the door's documents do not name."""
    return unknown if asked.kind == "other" else asked.kind


def _place_name(fields: Mapping[str, str]) -> str:
    return " ".join(part for part in (fields.get("name", ""), fields.get("address", "")) if part)


def _shown(asked: Say) -> str:
    match asked.kind:
        case "voice":
            return "[语音]"
        case "location":
            return f"[位置] {_place_name(asked.fields)}"
        case "link":
            return f"[链接] {asked.fields.get('title', '')}"
        case _:
            return "[小程序]"


def _number(field: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise NobodyThere(f"{field} is not a number") from None
