"""What ``kf/sync_msg`` gives of each account: items in order, behind opaque cursors (DOC 94670). Pure."""

import base64
import hashlib
import secrets
from collections import deque
from typing import Any, Final

import msgspec

from simulator.rules import Refused

_CURSOR_BYTES: Final = 64


class _Kept(msgspec.Struct, frozen=True):
    number: int
    at: float
    item: dict[str, Any]


class Page(msgspec.Struct, frozen=True):
    """A piece of a list."""

    items: list[dict[str, Any]]
    next_cursor: str
    has_more: bool


class ItemList:
    """The items of one account."""

    def __init__(self, open_kfid: str, limit: int, history_seconds: float) -> None:
        """Args: at most ``limit`` items are kept; older ones than ``history_seconds`` are not given any more."""
        self._open_kfid = open_kfid
        self._history_seconds = history_seconds
        self._kept: deque[_Kept] = deque(maxlen=limit)
        self._number = 0
        self._key = secrets.token_bytes(16)

    def add(self, item: dict[str, Any], now: float) -> None:
        """Puts an item at the end."""
        self._number += 1
        self._kept.append(_Kept(self._number, now, item))

    def page(self, cursor: object, limit: int, now: float) -> Page:
        """What lies behind a cursor; without one, the last days.

        Raises:
            Refused: 40058 for a cursor that was not given out here.
        """
        after = self._read(cursor) if cursor else 0
        since = now - self._history_seconds
        # Numbers have no gaps, so where to begin can be counted instead of looked for.
        first = self._kept[0].number if self._kept else self._number + 1
        items: list[dict[str, Any]] = []
        for at in range(max(0, after + 1 - first), len(self._kept)):
            kept = self._kept[at]
            after = kept.number
            if kept.at >= since:
                items.append(kept.item)
                if len(items) == limit:
                    break
        return Page(items, self._cursor(after), after < self._number)

    def _cursor(self, number: int) -> str:
        return base64.urlsafe_b64encode(number.to_bytes(8) + self._mark(number)).decode()

    def _mark(self, number: int) -> bytes:
        return hashlib.blake2b(f"{self._open_kfid} {number}".encode(), digest_size=16, key=self._key).digest()

    def _read(self, cursor: object) -> int:
        if not isinstance(cursor, str) or len(cursor.encode()) > _CURSOR_BYTES:
            raise Refused(40058, "invalid cursor")
        try:
            raw = base64.urlsafe_b64decode(cursor.encode())
        except ValueError:
            raise Refused(40058, "invalid cursor") from None
        number = int.from_bytes(raw[:8])
        if not secrets.compare_digest(raw[8:], self._mark(number)):
            raise Refused(40058, "invalid cursor")
        return number
