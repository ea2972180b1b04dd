"""Who sees what: chats and their bubbles. Pure state; time is handed in.

A chat has a key: ``app:<agentid>``, ``bot:<botid>``, ``kf:<open_kfid>`` or ``group:<chatid>``.
With an application, a bot or customer service every person has a conversation of their own;
a group has one.
"""

import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

import msgspec

EXPIRED_TEXT: Final = "回复超时，内容未能完整显示"
"""What stands under a stream that ran out of its window. The platform's own wording is not documented."""

Look = Literal["text", "markdown", "stream", "card", "media", "notice"]

_INVISIBLE: Final = re.compile(
    "[\\s\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\x00-\x1f\x7f-\x9f]+"
)
_THINK: Final = re.compile(r"<think>(.*?)(?:</think>|\Z)", re.DOTALL)


def has_visible(text: str) -> bool:
    """Whether anything of it would be seen: the platform ignores content where nothing is."""
    return bool(_INVISIBLE.sub("", text))


def folded(content: str) -> tuple[str, str]:
    """Parts a stream's content into what stands in the bubble and what is folded away (DOC 101031)."""
    thoughts = "\n".join(part.strip("\n") for part in _THINK.findall(content))
    return _THINK.sub("", content).lstrip("\n") if thoughts or "<think>" in content else content, thoughts


class Bubble(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One bubble as a person sees it. Times are POSIX seconds."""

    number: int
    """Grows by one with every bubble of the simulator: the order of appearance."""
    chat: str
    person: str = ""
    """Whose conversation; empty in groups."""
    speaker: str
    """A UserID, an external_userid, ``app:<agentid>``, ``bot:<botid>``, ``kf:<open_kfid>`` or ``robot:<name>``."""
    look: Look = "text"
    text: str
    """What is seen, after every cut; without what is folded away."""
    thoughts: str = ""
    """What a thinking area hides."""
    content: dict[str, Any] | None = None
    """What is more than text, for the page. By ``kind``: ``card`` {``card``: the template card as it was sent,
    ``replaced``: what was chosen, or empty; in a group perhaps ``by``: the same for single members}; ``image``,
    ``voice``, ``video``, ``file`` {``name``, ``size``, ``url``: where this simulator gives the bytes}; ``news``
    {``articles``}; ``menu`` {``head``, ``items``, ``tail``}; ``link``, ``location``, ``textcard``, ``miniprogram``
    {their fields}; ``mixed`` {``items``: of these kinds and ``text``}; ``quote`` {``quoted``: a line of what the
    person quotes, ``by``: its speaker}."""
    feedback_id: str = ""
    """With it, the page offers to rate the message (DOC 101031)."""
    finished: bool = True
    expired: bool = False
    recalled: bool = False
    created_at: float
    updated_at: float
    msg_id: str = ""
    """The platform's id of this message."""
    answers: str = ""
    """The message id of the person's message it replies to, where the protocol says so."""
    stream_id: str = ""
    sent: int = 1
    """How often it was sent: requests that the platform took for this bubble, or frames of a stream."""
    suppressed: int = 0
    """How many of these were suppressed as duplicates."""
    lost_bytes: int = 0
    """Bytes that were cut off its end without an error."""
    version: int = 0
    """Grows by one with every change."""


class Conversation:
    """The bubbles of one person in one chat, or of one group."""

    def __init__(self, chat: str, person: str, limit: int) -> None:
        self.chat = chat
        self.person = person
        self.bubbles: deque[Bubble] = deque(maxlen=limit)


class Chats:
    """Every conversation of the corporation."""

    def __init__(self, limit: int, on_change: Callable[[Bubble], None]) -> None:
        """Args: how many bubbles a conversation keeps; who hears of each that appears or changes."""
        self._limit = limit
        self._on_change = on_change
        self._conversations: dict[tuple[str, str], Conversation] = {}
        self._number = 0

    def post(
        self,
        *,
        chat: str,
        person: str,
        speaker: str,
        text: str,
        now: float,
        look: Look = "text",
        msg_id: str = "",
        answers: str = "",
        stream_id: str = "",
        finished: bool = True,
        lost_bytes: int = 0,
        content: dict[str, Any] | None = None,
        feedback_id: str = "",
    ) -> Bubble:
        """Shows a new bubble at the end of a conversation."""
        self._number += 1
        bubble = Bubble(
            number=self._number,
            chat=chat,
            person=owner(chat, person),
            speaker=speaker,
            look=look,
            text=text,
            finished=finished,
            created_at=now,
            updated_at=now,
            msg_id=msg_id,
            answers=answers,
            stream_id=stream_id,
            lost_bytes=lost_bytes,
            content=content,
            feedback_id=feedback_id,
        )
        self._conversation(chat, person).bubbles.append(bubble)
        self._on_change(bubble)
        return bubble

    def redraw(self, bubble: Bubble, content: str, *, finished: bool, now: float) -> None:
        """Puts a stream's whole text so far in place of what stood there."""
        bubble.text, bubble.thoughts = folded(content)
        bubble.finished = finished
        bubble.updated_at = now
        self.touched(bubble)

    def touched(self, bubble: Bubble) -> None:
        """Tells the listeners that a bubble was changed in place."""
        bubble.version += 1
        self._on_change(bubble)

    def bubbles(self, person: str, chat: str) -> list[Bubble]:
        """What the person sees there, oldest first; the person's own messages included."""
        found = self._conversations.get((chat, owner(chat, person)))
        return list(found.bubbles) if found else []

    def conversations(self) -> Iterator[Conversation]:
        """All that have a bubble."""
        yield from self._conversations.values()

    def _conversation(self, chat: str, person: str) -> Conversation:
        key = (chat, owner(chat, person))
        if key not in self._conversations:
            self._conversations[key] = Conversation(*key, self._limit)
        return self._conversations[key]


def owner(chat: str, person: str) -> str:
    """Whose conversation it is: the person's, or nobody's in a group."""
    return "" if chat.startswith("group:") else person


def cut(text: str, limit: int) -> tuple[str, int]:
    """The text up to a number of UTF-8 bytes, and how many bytes were lost; no half characters are shown."""
    raw = text.encode()
    if len(raw) <= limit:
        return text, 0
    kept = raw[:limit].decode(errors="ignore")
    return kept, len(raw) - len(kept.encode())
