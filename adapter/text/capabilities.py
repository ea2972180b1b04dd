"""What each door of WeCom shows: the one table that texts are degraded and files are chosen by. Pure.

``docs/doors.md`` is made from it. Bytes are of UTF-8 before any encoding.
"""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

Kind = Literal["image", "voice", "video", "file"]

MIB: Final = 1024 * 1024
LEAST_BYTES: Final = 6
"""Every file must be larger than five bytes (DOC 90253)."""
VOICE_SECONDS: Final = 60.0


class Files(msgspec.Struct, frozen=True):
    """Files of one kind that a door takes."""

    most_bytes: int
    types: frozenset[str] = frozenset()
    """Their media types; empty: any."""


class Door(msgspec.Struct, frozen=True, kw_only=True):
    """What one way to people shows of a reply."""

    title: str
    text_bytes: int
    """Of one message; longer texts are sent in parts."""
    markdown: bool = False
    """Whether marks are shown as what they mean: headings, bold, links, inline code, quotes."""
    tables: bool = False
    lists: bool = False
    code: bool = False
    """Whether a fenced block is shown as one."""
    pictures: bool = False
    """Whether Markdown can hold pictures."""
    cards: bool = False
    files: Mapping[Kind, Files] = {}
    """What can be sent as a message of its own, by kind."""
    note: str = ""
    source: str = ""


_PICTURES: Final = frozenset({"image/png", "image/jpeg"})
_UPLOADED: Final[Mapping[Kind, Files]] = {
    "image": Files(10 * MIB, _PICTURES),
    "voice": Files(2 * MIB, frozenset({"audio/amr"})),
    "video": Files(10 * MIB, frozenset({"video/mp4"})),
    "file": Files(20 * MIB),
}

DOORS: Final[Mapping[str, Door]] = {
    "app_text": Door(
        title="application, text",
        text_bytes=2048,
        cards=True,
        files=_UPLOADED,
        note="Also shown in the personal WeChat.",
        source="DOC 90236, 90253",
    ),
    "app_markdown": Door(
        title="application, markdown",
        text_bytes=2048,
        markdown=True,
        cards=True,
        files=_UPLOADED,
        note="Not shown in the personal WeChat. No lists, tables, pictures or code blocks are promised.",
        source="DOC 90236, 90253",
    ),
    "bot": Door(
        title="bot, long connection",
        text_bytes=20480,
        markdown=True,
        tables=True,
        lists=True,
        code=True,
        cards=True,
        files={**_UPLOADED, "image": Files(10 * MIB, _PICTURES | {"image/gif"})},
        note="Files and cards are messages of their own.",
        source="DOC 101463",
    ),
    "bot_callback": Door(
        title="bot, callback mode",
        text_bytes=20480,
        markdown=True,
        tables=True,
        lists=True,
        code=True,
        cards=True,
        files={"image": Files(10 * MIB, _PICTURES)},
        note="At most ten pictures, in the last frame of the stream; no other files.",
        source="DOC 101031, 101138",
    ),
    "kf": Door(
        title="customer service",
        text_bytes=2048,
        files=_UPLOADED,
        note="The customer is in the personal WeChat: text, menus and files.",
        source="DOC 90253, 96427",
    ),
    "robot_text": Door(
        title="group robot, text",
        text_bytes=2048,
        cards=True,
        files={"image": Files(2 * MIB, _PICTURES), "voice": _UPLOADED["voice"], "file": _UPLOADED["file"]},
        source="DOC 91770",
    ),
    "robot_markdown": Door(
        title="group robot, markdown",
        text_bytes=4096,
        markdown=True,
        cards=True,
        files={"image": Files(2 * MIB, _PICTURES), "voice": _UPLOADED["voice"], "file": _UPLOADED["file"]},
        source="DOC 91770",
    ),
    "robot_markdown_v2": Door(
        title="group robot, markdown_v2",
        text_bytes=4096,
        markdown=True,
        tables=True,
        lists=True,
        code=True,
        pictures=True,
        cards=True,
        files={"image": Files(2 * MIB, _PICTURES), "voice": _UPLOADED["voice"], "file": _UPLOADED["file"]},
        note="Plain text on clients before 4.1.36.",
        source="DOC 91770",
    ),
    "wechat": Door(
        title="personal WeChat (微信插件)",
        text_bytes=2048,
        files=_UPLOADED,
        note="What is left of an application's messages there: Markdown and cards become a hint to open WeCom.",
        source="DOC 90236",
    ),
}


def kind_for(files: Mapping[Kind, Files], mime_type: str, size: int, *, voice_seconds: float = 0.0) -> Kind | None:
    """As what a file is sent: as what it is where the door takes that, else as a file; ``None`` if not at all.

    Args: ``files`` of the door; ``voice_seconds`` is how long a recording is.
    """
    if size < LEAST_BYTES:
        return None
    for kind, limit in files.items():
        if kind != "file" and mime_type in limit.types and size <= limit.most_bytes:
            if kind == "voice" and voice_seconds > VOICE_SECONDS:
                continue
            return kind
    rest = files.get("file")
    return "file" if rest is not None and size <= rest.most_bytes else None
