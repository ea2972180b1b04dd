"""What travels between WeCom and this program, as values: XML and JSON bodies, and frames.

Pure: bytes in, structs out, and back. Everything that comes in is foreign. The outer
XML of a callback is not signed, so it is parsed without document types, with bounds on
size, depth and number of elements, and nothing is decided on its fields but the cipher
text. The formats are those of DOC 90238 to 90241 (application), 100719, 101027 and
101031 (bot) and 101463 (long connection).
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn
from xml.etree.ElementTree import ParseError
from xml.sax.saxutils import escape

import msgspec
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from adapter.crypto import Sealed

MAX_BODY_BYTES: Final = 65536
_MAX_DEPTH: Final = 8
_MAX_ELEMENTS: Final = 512
_DECLARED_ENCODING: Final = re.compile(rb"<\?xml[^>]*?encoding\s*=\s*[\"']([^\"']*)[\"']")
_NOT_IN_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_RAW_CONTROLS: Final = bytes([*range(1, 9), 11, 12, *range(14, 32)])


class WireError(Exception):
    """Bytes that are not what the format says. The text names what was wrong, without quoting them."""


# --- The outer body of a callback --------------------------------------------------------


class OuterEnvelope(msgspec.Struct, frozen=True):
    """The outer body of a callback. Only ``encrypted`` is covered by the signature: do not trust the rest."""

    to_user_name: str
    agent_id: str
    encrypted: str


def parse_envelope(body: bytes, max_bytes: int = MAX_BODY_BYTES) -> OuterEnvelope:
    """Reads the outer body, XML (DOC 90238) or JSON (DOC 101033), whichever it begins like.

    Raises:
        WireError: too long, malformed, not UTF-8, with a document type, or without cipher text.
    """
    if len(body) > max_bytes:
        raise WireError(f"body: longer than {max_bytes} bytes")
    fields = _json_fields(body) if body.lstrip()[:1] == b"{" else _xml_fields(body)
    found: dict[str, str] = {}
    for name, value in fields.items():
        plain_name = name.lower()
        if plain_name in ("tousername", "agentid", "encrypt"):
            if plain_name in found:
                raise WireError("body: a field occurs twice")
            found[plain_name] = value
    if "encrypt#2" in (name.lower() for name in fields):
        raise WireError("body: a field occurs twice")
    if not found.get("encrypt"):
        raise WireError("body: Encrypt is missing")
    return OuterEnvelope(found.get("tousername", ""), found.get("agentid", "").strip(), found["encrypt"])


def envelope_xml(sealed: Sealed, to_user_name: str, agent_id: str) -> bytes:
    """The body of a callback, as WeCom posts it; signature, timestamp and nonce go into the query."""
    return (
        f"<xml>{_cdata('ToUserName', to_user_name)}{_cdata('Encrypt', sealed.encrypted)}"
        f"{_cdata('AgentID', agent_id)}</xml>"
    ).encode()


def passive_xml(sealed: Sealed) -> bytes:
    """The body of an encrypted passive reply (DOC 90241)."""
    return (
        f"<xml>\n{_cdata('Encrypt', sealed.encrypted)}\n{_cdata('MsgSignature', sealed.msg_signature)}\n"
        f"<TimeStamp>{escape(sealed.timestamp)}</TimeStamp>\n{_cdata('Nonce', sealed.nonce)}\n</xml>"
    ).encode()


# --- A decrypted message of the application ----------------------------------------------


class AppMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message or an event of the self-built application (DOC 90239, 90240)."""

    to_user: str = ""
    """The CorpID."""
    from_user: str = ""
    """The UserID; ``sys`` for what the platform says; empty where WeCom names nobody."""
    create_time: int = 0
    """POSIX seconds; 0 if absent."""
    msg_type: str = ""
    """Empty where WeCom has none, as in what a suite receives."""
    msg_id: str = ""
    """A 64-bit number as text; empty on events."""
    agent_id: str = ""
    content: str = ""
    event: str = ""
    event_key: str = ""
    fields: Mapping[str, str] = {}
    """Everything else by element name; nested names are joined by dots, a repeated one ends in ``#2``, ``#3``, …"""


_NAMED: Final = {
    "ToUserName": "to_user",
    "FromUserName": "from_user",
    "MsgType": "msg_type",
    "MsgId": "msg_id",
    "AgentID": "agent_id",
    "AgentId": "agent_id",  # so spelt in the old task card sample
    "Content": "content",
    "Event": "event",
    "EventKey": "event_key",
}
_BARE: Final = frozenset({"create_time", "msg_id", "agent_id"})


def parse_message(plain: bytes) -> AppMessage:
    """Reads a decrypted message, of whatever type or event; what is not known stands in ``fields``.

    Raw control characters, which XML forbids and people paste, are dropped: by now the
    signature has proven that the platform sent them, and refusing would lose the message.

    Raises:
        WireError: malformed, not UTF-8, or without any field.
    """
    is_json = plain.lstrip()[:1] == b"{"
    fields = _json_fields(plain) if is_json else _xml_fields(plain.translate(None, _RAW_CONTROLS))
    known: dict[str, str] = {}
    rest: dict[str, str] = {}
    for name, value in fields.items():
        target = _NAMED.get(name)
        if target is not None and target not in known:
            known[target] = value.strip() if target in _BARE else value
        elif name != "CreateTime":
            rest[name] = value
    if not fields:
        raise WireError("message: has no fields")
    return AppMessage(create_time=_seconds(fields.get("CreateTime", "")), fields=rest, **known)


def message_xml(message: AppMessage) -> bytes:
    """The inner XML that WeCom would seal for ``message``; the inverse of :func:`parse_message`.

    Characters that XML cannot carry are dropped.
    """
    parts = [
        _cdata("ToUserName", message.to_user),
        _cdata("FromUserName", message.from_user) if message.from_user else "",
        f"<CreateTime>{message.create_time}</CreateTime>",
        _cdata("MsgType", message.msg_type),
    ]
    if message.msg_type == "event":
        parts += [_cdata("Event", message.event), _cdata("EventKey", message.event_key)]
    if message.content or message.msg_type == "text":
        parts.append(_cdata("Content", message.content))
    parts.append(_nested_xml(message.fields))
    parts.append(f"<MsgId>{escape(message.msg_id)}</MsgId>" if message.msg_id else "")
    parts.append(f"<AgentID>{escape(message.agent_id)}</AgentID>" if message.agent_id else "")
    return f"<xml>{''.join(parts)}</xml>".encode()


def _nested_xml(fields: Mapping[str, str]) -> str:
    tree: dict[str, Any] = {}
    for path, value in fields.items():
        *parents, leaf = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return _tree_xml(tree)


def _tree_xml(tree: Mapping[str, Any]) -> str:
    out = []
    for name, value in tree.items():
        tag = name.partition("#")[0]
        out.append(_cdata(tag, value) if isinstance(value, str) else f"<{tag}>{_tree_xml(value)}</{tag}>")
    return "".join(out)


def _cdata(tag: str, text: str) -> str:
    safe = _NOT_IN_XML.sub("", text).replace("]]>", "]]]]><![CDATA[>")
    return f"<{tag}><![CDATA[{safe}]]></{tag}>"


def _seconds(text: str) -> int:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else 0


# --- XML and JSON to flat fields ---------------------------------------------------------


class _Flat:
    """A parser target that keeps the text of every leaf under its path, within bounds."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self._path: list[str] = []
        self._text: list[str] = []
        self._is_leaf = False
        self._count = 0
        self._seen: list[dict[str, int]] = [{}]

    def start(self, tag: str, _attributes: Mapping[str, str]) -> None:
        self._count += 1
        if len(self._path) >= _MAX_DEPTH or self._count > _MAX_ELEMENTS:
            raise WireError("xml: nested too deep or too many elements")
        ordinal = self._seen[-1].get(tag, 0) + 1
        self._seen[-1][tag] = ordinal
        self._seen.append({})
        self._path.append(tag if ordinal == 1 else f"{tag}#{ordinal}")
        self._text.clear()
        self._is_leaf = True

    def end(self, _tag: str) -> None:
        if self._is_leaf and len(self._path) > 1:
            self.fields[".".join(self._path[1:])] = "".join(self._text)
        self._path.pop()
        self._seen.pop()
        self._text.clear()
        self._is_leaf = False

    def data(self, text: str) -> None:
        if self._is_leaf:
            self._text.append(text)

    def close(self) -> None:
        """Called by the parser; there is nothing left to do."""


def _xml_fields(body: bytes) -> dict[str, str]:
    declared = _DECLARED_ENCODING.match(body[:200].removeprefix(b"\xef\xbb\xbf").lstrip())
    if declared and declared[1].lower() not in (b"utf-8", b"utf8"):
        raise WireError("xml: encoding is not UTF-8")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise WireError("xml: not UTF-8") from None
    if "\0" in text:
        raise WireError("xml: not UTF-8")
    target = _Flat()
    parser = DefusedXMLParser(target=target, forbid_dtd=True)
    try:
        parser.feed(text.strip())
        parser.close()
    except DefusedXmlException:
        raise WireError("xml: document types and entities are not allowed") from None
    except ParseError:
        raise WireError("xml: not well-formed") from None
    return target.fields


def _json_fields(body: bytes) -> dict[str, str]:
    flat: dict[str, str] = {}
    _flatten(_json_object(body), "", flat, 1)
    return flat


def _flatten(value: Any, path: str, into: dict[str, str], depth: int) -> None:
    if depth > _MAX_DEPTH + 1 or len(into) > _MAX_ELEMENTS:
        raise WireError("json: nested too deep or too many fields")
    if isinstance(value, dict):
        for name, inner in value.items():
            _flatten(inner, f"{path}.{name}" if path else name, into, depth + 1)
    elif isinstance(value, list):
        for number, inner in enumerate(value, start=1):
            _flatten(inner, path if number == 1 else f"{path}#{number}", into, depth + 1)
    else:
        into[path] = value if isinstance(value, str) else "" if value is None else str(value)


def _json_object(text: str | bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        value = lenient_json(text)
    except RecursionError:
        raise WireError("json: nested too deep") from None
    if not isinstance(value, dict):
        raise WireError("json: not an object")
    return value


def lenient_json(text: str | bytes) -> Any:
    """For what strict decoders refuse and WeCom sends: raw control characters inside strings (DOC 101463).

    What is no UTF-8, and half surrogate pairs, are replaced.

    Raises:
        WireError: not JSON.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    try:
        value = json.loads(text.removeprefix("\ufeff"), strict=False, parse_constant=_no_constant)
        # Once around, so that half surrogate pairs from \u escapes cannot travel further.
        return msgspec.json.decode(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except RecursionError:
        raise WireError("json: nested too deep") from None
    except (ValueError, msgspec.DecodeError):
        raise WireError("json: not well-formed") from None


def _no_constant(_name: str) -> NoReturn:
    raise ValueError("no JSON constant")


# --- Frames of the long connection (DOC 101463) ------------------------------------------


class Frame(msgspec.Struct, frozen=True):
    """One frame. Acknowledgements have no ``cmd`` but an ``errcode``."""

    cmd: str
    req_id: str
    body: dict[str, Any]
    errcode: int | None = None
    errmsg: str = ""


def parse_frame(text: str | bytes) -> Frame:
    """Reads a frame; tolerates raw control characters, and binary frames that hold text.

    Raises:
        WireError: not a JSON object.
    """
    value = _json_object(text)
    return Frame(
        cmd=_string(value.get("cmd")),
        req_id=_string(_mapping(value.get("headers")).get("req_id")),
        body=_mapping(value.get("body")),
        errcode=_integer(value.get("errcode")),
        errmsg=_string(value.get("errmsg")),
    )


def subscribe_frame(req_id: str, bot_id: str, secret: str) -> str:
    """The first frame of a connection. It holds the secret: do not log it."""
    return _frame("aibot_subscribe", req_id, {"bot_id": bot_id, "secret": secret})


def ping_frame(req_id: str) -> str:
    """The heartbeat, due every 30 s."""
    return _frame("ping", req_id)


def pong_frame(req_id: str) -> str:
    """The answer to a ``ping`` of the server, with its ``req_id``."""
    return _frame("pong", req_id)


def stream_frame(req_id: str, stream_id: str, content: str, finish: bool, feedback_id: str = "") -> str:
    """The whole text so far of a reply; ``req_id`` is that of the person's message.

    ``content`` is at most 20480 bytes and has a visible character (``render`` sees to both).
    With ``feedback_id``, at most 256 bytes and in the first frame only, people may rate the reply.
    """
    stream: dict[str, Any] = {"id": stream_id, "finish": finish, "content": content}
    if feedback_id:
        stream["feedback"] = {"id": feedback_id}
    return _frame("aibot_respond_msg", req_id, {"msgtype": "stream", "stream": stream})


def respond_frame(req_id: str, msgtype: str, inner: Mapping[str, Any]) -> str:
    """A whole message in answer to a person's: ``template_card``, ``file``, ``image``, ``voice`` or ``video``."""
    return _frame("aibot_respond_msg", req_id, {"msgtype": msgtype, msgtype: inner})


def update_card_frame(req_id: str, card: Mapping[str, Any], userids: Sequence[str] = ()) -> str:
    """What takes a touched card's place, under the ``req_id`` of the event, due within 5 s.

    Args: ``userids`` only in groups: whose card changes.
    """
    body: dict[str, Any] = {"response_type": "update_template_card", "template_card": card}
    if userids:
        body["userids"] = userids
    return _frame("aibot_respond_update_msg", req_id, body)


def welcome_frame(req_id: str, text: str) -> str:
    """The answer to ``enter_chat``, with its ``req_id``, due within 5 s."""
    return _frame("aibot_respond_welcome_msg", req_id, {"msgtype": "text", "text": {"content": text}})


def send_frame(req_id: str, chat_id: str, chat_type: int, msgtype: str, inner: Mapping[str, Any]) -> str:
    """A message of the bot's own accord, to a UserID or group id.

    Args: ``chat_type`` 1 for a person, 2 for a group; ``msgtype`` is ``markdown`` (at most 20480 bytes),
        ``template_card``, ``file``, ``image``, ``voice`` or ``video``.
    """
    body = {"chatid": chat_id, "chat_type": chat_type, "msgtype": msgtype, msgtype: inner}
    return _frame("aibot_send_msg", req_id, body)


def command_frame(cmd: str, req_id: str, body: Mapping[str, Any]) -> str:
    """A command that shows nobody anything: the steps of an upload."""
    return _frame(cmd, req_id, body)


def ack_frame(req_id: str, errcode: int, errmsg: str, body: Mapping[str, Any] | None = None) -> str:
    """How the platform answers a frame; it has no ``cmd``."""
    frame: dict[str, Any] = {"headers": {"req_id": req_id}, "errcode": errcode, "errmsg": errmsg}
    if body is not None:
        frame["body"] = body
    return msgspec.json.encode(frame).decode()


def callback_frame(req_id: str, body: Mapping[str, Any]) -> str:
    """How the platform hands over a person's message; ``body`` as in DOC 100719."""
    return _frame("aibot_msg_callback", req_id, body)


def event_frame(req_id: str, body: Mapping[str, Any]) -> str:
    """How the platform hands over an event; ``body`` as in DOC 101027."""
    return _frame("aibot_event_callback", req_id, body)


def _frame(cmd: str, req_id: str, body: Mapping[str, Any] | None = None) -> str:
    frame: dict[str, Any] = {"cmd": cmd, "headers": {"req_id": req_id}}
    if body is not None:
        frame["body"] = body
    return msgspec.json.encode(frame).decode()


# --- Messages of the bot (DOC 100719, 101027) --------------------------------------------


class BotMedia(msgspec.Struct, frozen=True):
    """A file beside a message: ``url`` is valid for 5 minutes, ``aeskey`` opens what it yields."""

    kind: str
    """``image``, ``voice``, ``file`` or ``video``."""
    url: str = ""
    aeskey: str = ""


class BotCardClick(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody did with a template card (DOC 101027)."""

    task_id: str = ""
    event_key: str = ""
    """The key of the button."""
    card_type: str = ""
    selected: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """The key of each question, and the ids of what was chosen."""


class BotFeedback(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody thinks of a reply (DOC 101027)."""

    id: str = ""
    """The ``feedback.id`` that went out with the reply."""
    kind: int = 0
    """1 accurate, 2 inaccurate, 3 withdrawn."""
    reasons: tuple[int, ...] = ()
    """1 irrelevant, 2 incomplete, 3 wrong, 4 an error in the analysis of data."""
    content: str = ""
    """In the person's words."""


class BotMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message or an event that a bot receives, over either door."""

    msgid: str = ""
    aibotid: str = ""
    chatid: str = ""
    """The group; empty in single chats."""
    chattype: str = ""
    """``single`` or ``group``; empty on some events."""
    userid: str = ""
    corpid: str = ""
    """Only for bots of another corporation."""
    msgtype: str = ""
    text: str = ""
    """What the person wrote or said; the texts of a mixed message joined by line breaks."""
    media: tuple[BotMedia, ...] = ()
    pieces: tuple[str | BotMedia, ...] = ()
    """The texts and media of a mixed message in their order; empty for every other kind."""
    quote_type: str = ""
    """The kind of the quoted message; empty if nothing is quoted."""
    quote_text: str = ""
    quote_media: tuple[BotMedia, ...] = ()
    quote_pieces: tuple[str | BotMedia, ...] = ()
    """As ``pieces``, of the quoted message."""
    event: str = ""
    """The ``eventtype`` when ``msgtype`` is ``event``."""
    event_key: str = ""
    click: BotCardClick | None = None
    """With the event ``template_card_event``."""
    feedback: BotFeedback | None = None
    """With the event ``feedback_event``."""
    create_time: int = 0
    """POSIX seconds; 0 if absent."""
    response_url: str = ""
    stream_id: str = ""
    """The stream that a refresh poll asks for (callback mode only)."""
    raw: Mapping[str, Any] = {}


def bot_message_body(plain: bytes) -> dict[str, Any]:
    """Reads the decrypted JSON of the callback mode, for :func:`parse_bot_message`.

    Raises:
        WireError: not a JSON object.
    """
    return _json_object(plain)


def parse_bot_message(body: Mapping[str, Any]) -> BotMessage:
    """Reads the body of a callback frame, or the decrypted JSON of the callback mode.

    Never fails: what is missing or of another type reads as empty, and unknown kinds keep their name.
    """
    sender = _mapping(body.get("from"))
    quote = _mapping(body.get("quote"))
    event = _mapping(body.get("event"))
    eventtype = _string(event.get("eventtype"))
    text, media, pieces = _bot_content(body)
    quote_text, quote_media, quote_pieces = _bot_content(quote)
    # Some clients' types put an event's fields beside eventtype, the document one level deeper.
    detail = {**event, **_mapping(event.get(eventtype))}
    return BotMessage(
        msgid=_string(body.get("msgid")),
        aibotid=_string(body.get("aibotid")),
        chatid=_string(body.get("chatid")),
        chattype=_string(body.get("chattype")),
        userid=_string(sender.get("userid")),
        corpid=_string(sender.get("corpid")),
        msgtype=_string(body.get("msgtype")),
        text=text,
        media=media,
        pieces=pieces,
        quote_type=_string(quote.get("msgtype")),
        quote_text=quote_text,
        quote_media=quote_media,
        quote_pieces=quote_pieces,
        event=eventtype,
        event_key=_string(detail.get("event_key")),
        click=_click(detail) if eventtype == "template_card_event" else None,
        feedback=_feedback(detail) if eventtype == "feedback_event" else None,
        create_time=_integer(body.get("create_time")) or 0,
        response_url=_string(body.get("response_url")),
        stream_id=_string(_mapping(body.get("stream")).get("id")),
        raw=body,
    )


def _click(detail: Mapping[str, Any]) -> BotCardClick:
    selected = []
    for item in _items(_mapping(detail.get("selected_items")).get("selected_item")):
        options = _mapping(item.get("option_ids")).get("option_id")
        ids = options if isinstance(options, list) else [options]
        selected.append((_string(item.get("question_key")), tuple(filter(None, map(_string, ids)))))
    return BotCardClick(
        task_id=_string(detail.get("task_id")),
        event_key=_string(detail.get("event_key")),
        card_type=_string(detail.get("card_type")),
        selected=tuple(selected),
    )


def _feedback(detail: Mapping[str, Any]) -> BotFeedback:
    reasons = detail.get("inaccurate_reason_list")
    numbers = [_integer(reason) for reason in (reasons if isinstance(reasons, list) else [])]
    return BotFeedback(
        id=_string(detail.get("id")),
        kind=_integer(detail.get("type")) or 0,
        reasons=tuple(number for number in numbers if number is not None),
        content=_string(detail.get("content")),
    )


def _bot_content(body: Mapping[str, Any]) -> tuple[str, tuple[BotMedia, ...], tuple[str | BotMedia, ...]]:
    """Texts, media, and of a mixed message both in their order."""
    if body.get("msgtype") != "mixed":
        return *_bot_item(body), ()
    read = [_bot_item(item) for item in _items(_mapping(body.get("mixed")).get("msg_item"))]
    pieces: list[str | BotMedia] = []
    for text, media in read:
        pieces += [text, *media] if text else media
    return "\n".join(text for text, _ in read if text), tuple(one for _, media in read for one in media), tuple(pieces)


def _bot_item(body: Mapping[str, Any]) -> tuple[str, tuple[BotMedia, ...]]:
    kind = _string(body.get("msgtype"))
    inner = _mapping(body.get(kind))
    if kind in ("image", "file", "video"):
        return "", (BotMedia(kind, _string(inner.get("url")), _string(inner.get("aeskey"))),)
    text = _string(inner.get("content"))
    return text, (BotMedia("voice"),) if kind == "voice" and not text.strip() else ()


def _string(value: Any) -> str:
    return value if isinstance(value, str) else str(value) if type(value) is int else ""


def _integer(value: Any) -> int | None:
    if type(value) is int:
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,15}", value) else None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _items(value: Any) -> list[dict[str, Any]]:
    return [_mapping(item) for item in value] if isinstance(value, list) else []
