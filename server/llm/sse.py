"""Server-sent events out of raw bytes. Pure: bytes in, events out.

Follows the event stream grammar of the WHATWG HTML standard (section 9.2.6), and reads
what servers really send: comments as keep-alives, ``data:`` without a space, any of
the three line ends, and breaks at any byte, inside of a character too. It splits bytes
and leaves characters alone, so a broken character never reaches a decoder.
"""

from typing import Final

import msgspec

MAX_EVENT_BYTES: Final = 1 << 20

_BOM: Final = b"\xef\xbb\xbf"


class EventTooLarge(ValueError):
    """An event, or a line without an end, is larger than the bound."""


class ServerSentEvent(msgspec.Struct, frozen=True, gc=False):
    """One event: its data lines joined by line feeds, and its type where it has one."""

    data: bytes
    event: bytes = b""


class SseDecoder:
    """Turns the pieces of a stream into events; the same events for every way of cutting it."""

    __slots__ = ("_after_cr", "_begun", "_data", "_event", "_max", "_pending", "_pending_size", "_size", "comments")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        """Args: the most bytes an event may have, line ends not counted."""
        self._max = max_event_bytes
        self._begun = False
        self._after_cr = False
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._data: list[bytes] = []
        self._event = b""
        self._size = 0
        self.comments = 0
        """How many comment lines have come so far: signs of life that carry nothing."""

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """The events that are complete with this piece.

        Raises:
            EventTooLarge: the decoder is of no use afterwards.
        """
        if not self._begun:
            data = self._without_mark(data)
        if self._after_cr and data:
            # The line was ended by the CR already; this LF is its second half.
            self._after_cr = False
            if data[0] == 0x0A:
                data = data[1:]
        if not data:
            return []
        if b"\n" not in data and b"\r" not in data:
            self._keep(data)
            return []
        if self._pending:
            self._pending.append(data)
            data = b"".join(self._pending)
            self._pending.clear()
            self._pending_size = 0
        lines = data.splitlines()
        last = data[-1]
        if last == 0x0D:
            self._after_cr = True
        elif last != 0x0A:
            self._keep(lines.pop())
        return self._read(lines)

    def close(self) -> list[ServerSentEvent]:
        """What an ended stream still owed: the event whose blank line never came.

        The standard throws it away. It is given here, because some servers end without
        the blank line, and whoever reads the data can tell a half event from a whole one.
        """
        rest = b"".join(self._pending)
        self._pending.clear()
        return self._read([rest, b""])

    def _without_mark(self, data: bytes) -> bytes:
        head = b"".join(self._pending) + data
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._pending = [head]
            return b""
        self._begun = True
        self._pending.clear()
        return head[len(_BOM) :] if head.startswith(_BOM) else head

    def _keep(self, part: bytes) -> None:
        # Kept as a list: joining at every piece would make a long line quadratic.
        self._pending.append(part)
        self._pending_size += len(part)
        if self._pending_size > self._max:
            raise EventTooLarge(f"a line exceeds {self._max} bytes")

    def _read(self, lines: list[bytes]) -> list[ServerSentEvent]:
        events: list[ServerSentEvent] = []
        for line in lines:
            if line.startswith(b"data: "):
                self._add(line, line[6:])
            elif not line:
                if self._data:
                    data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                    events.append(ServerSentEvent(data, self._event))
                    self._data = []
                    self._size = 0
                self._event = b""
            elif len(line) > self._max:
                raise EventTooLarge(f"a line exceeds {self._max} bytes")
            elif line[0] == 0x3A:
                self.comments += 1
            else:
                self._read_field(line)
        return events

    def _read_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if name == b"data":
            self._add(line, value)
        elif name == b"event":
            self._event = value
        elif name == b"error":
            # Not in the standard: old llama.cpp servers report a failure in a field of
            # this name, which a strict reader would not see.
            self._event = b"error"
            self._add(line, value)

    def _add(self, line: bytes, value: bytes) -> None:
        self._size += len(line)
        if self._size > self._max:
            raise EventTooLarge(f"an event exceeds {self._max} bytes")
        self._data.append(value)
