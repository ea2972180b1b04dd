"""What a customer's message means to the service. Pure; the rule is that of :mod:`adapter.translate`."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from adapter.kf.wire import KfItem, clicked
from adapter.translate import FETCHABLE, Address, Attachment, Incoming, Silence, incoming, media_part
from weconverse.v1.conversation_pb2 import Content, Part

_MOST_RECORDS: Final = 50
"""Of a merged message that are told."""
_RECORD_CHARACTERS: Final = 500


def from_kf_item(account: str, item: KfItem, *, key: bytes = b"") -> Incoming | Silence:
    """Decides what an item of a customer means.

    Args:
        account: the account's name in the settings, 1 to 64 characters of ``[a-zA-Z0-9._-]``.
        key: as for ``adapter.translate.incoming``.
    """
    if not item.external_userid or not item.msgid:
        return Silence("no person")
    parts, attachments = _parts(item)
    if not parts:
        return Silence("empty")
    return incoming(account, key, item.msgid, Content(parts=parts), address_of(item), attachments)


def address_of(item: KfItem) -> Address:
    """Where an answer to the item goes."""
    return Address(door="kf", user=item.external_userid, open_kfid=item.open_kfid, create_time=item.send_time)


def _parts(item: KfItem) -> tuple[list[Part], tuple[Attachment, ...]]:
    kind = FETCHABLE.get(item.kind)
    if kind is not None:
        name = item.text("filename") if kind == "file" else ""
        part = media_part(kind, display_name=name)
        return [part], (Attachment(part=0, kind=kind, media_id=item.text("media_id")),)
    say = _SAID.get(item.kind)
    if say is None:
        return [media_part(item.kind)], ()
    text = say(item.body).strip()
    return ([Part(text=text)] if text else []), ()


# --- Kinds that are said in words --------------------------------------------------------


def _text(body: Mapping[str, Any]) -> str:
    # A click comes as the label of the item; what an item of ours stands for is in its id.
    return clicked(_of(body, "menu_id")) or _of(body, "content")


def _location(body: Mapping[str, Any]) -> str:
    name = " ".join(_all(body, "name", "address"))
    return f"位置：{name}（纬度 {_of(body, 'latitude') or '?'}，经度 {_of(body, 'longitude') or '?'}）"


def _link(body: Mapping[str, Any]) -> str:
    return f"链接：{' '.join(_all(body, 'title', 'url'))}\n{_of(body, 'desc')}"


def _titled(label: str, *fields: str) -> Callable[[Mapping[str, Any]], str]:
    def say(body: Mapping[str, Any]) -> str:
        return f"{label}：{' '.join(_all(body, *fields))}".rstrip("：")

    return say


def _menu(body: Mapping[str, Any]) -> str:
    """A menu that the customer forwards."""
    items = body.get("list")
    lines = [_of(body, "head_content"), *_items(items if isinstance(items, list) else []), _of(body, "tail_content")]
    return "\n".join(line for line in lines if line)


def _items(items: list[Any]) -> Iterator[str]:
    for item in items[:_MOST_RECORDS]:
        kind = _of(item, "type") if isinstance(item, dict) else ""
        inner = item.get(kind) if kind else None
        content = _of(inner, "content") if isinstance(inner, dict) else ""
        if content:
            yield f"• {content}"


def _merged(body: Mapping[str, Any]) -> str:
    """A chat record (合并转发)."""
    records = body.get("item")
    lines = [f"聊天记录：{_of(body, 'title')}".rstrip("：")]
    for record in (records if isinstance(records, list) else [])[:_MOST_RECORDS]:
        if isinstance(record, dict):
            said = _of(record, "msg_content")[:_RECORD_CHARACTERS] or f"[{_of(record, 'msgtype')}]"
            lines.append(f"{_of(record, 'sender_name') or '?'}：{said}")
    return "\n".join(lines)


_SAID: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "text": _text,
    "location": _location,
    "link": _link,
    "business_card": _titled("名片", "name", "userid"),
    "miniprogram": _titled("小程序", "title"),
    "msgmenu": _menu,
    "channels": _titled("视频号动态", "nickname", "title"),
    "channels_shop_product": _titled("视频号商品", "title", "sales_price", "shop_nickname"),
    "channels_shop_order": _titled("视频号订单", "order_id", "product_titles", "price_wording", "state"),
    "merged_msg": _merged,
    "meeting": _titled("会议", "title", "topic"),
    "schedule": _titled("日程", "title"),
    "note": _titled("笔记", "title"),
}


def _of(body: Mapping[str, Any], field: str) -> str:
    value = body.get(field)
    return value if isinstance(value, str) else str(value) if type(value) in (int, float) else ""


def _all(body: Mapping[str, Any], *fields: str) -> list[str]:
    return [text for text in (_of(body, field).strip() for field in fields) if text]
