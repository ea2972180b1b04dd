"""Log lines: one object a line, to stderr, and never the text of a message."""

import asyncio
import atexit
import json
import logging
import sys
import threading
import time
from typing import BinaryIO, Final, Literal

import msgspec
import structlog
from structlog.typing import EventDict, WrappedLogger

_FORBIDDEN: Final = frozenset(
    {
        # secrets
        *("authorization", "token", "access_token", "secret", "password", "api_key", "aes_key", "encoding_aes_key"),
        *("cookie", "private_key", "corpsecret"),
        # what people and models said
        *("text", "input", "reply", "question", "answer", "content", "prompt", "messages", "delta", "body"),
    }
)
"""Keys that are dropped from every line, whoever wrote them: a second fence, not the first."""

_WAIT_SECONDS: Final = 0.05
_MOST_WAITING_BYTES: Final = 64 * 1024

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(
    level: Literal["debug", "info", "warning", "error"],
    style: Literal["json", "text"],
    output: BinaryIO | None = None,
    *,
    for_good: bool = True,
) -> "LineWriter":
    """Sets up ``structlog`` and the standard library's logging for this process.

    Lines of other libraries (aiohttp, grpc, asyncio) join from ``warning`` upwards.

    Args:
        output: where lines go; stderr if ``None``.
        for_good: loggers keep what they find at their first line, which saves a third of the
            time of each line. A test that configures again and again sets ``False``.

    Returns:
        what the lines go through; ``flush`` writes those that wait.
    """
    writer = LineWriter(output or sys.stderr.buffer)
    atexit.register(writer.flush)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _Stamp(),
            drop_forbidden,
            structlog.processors.format_exc_info,
            _as_json if style == "json" else _as_text,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *args: _Lines(writer),
        cache_logger_on_first_use=for_good,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Bridge()]
    root.setLevel(max(logging.WARNING, _LEVELS[level]))
    return writer


def drop_forbidden(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Removes what must not be in a log; names what was removed, so that its writer can be found."""
    if not _FORBIDDEN.isdisjoint(event):
        dropped = sorted(_FORBIDDEN.intersection(event))
        for key in dropped:
            del event[key]
        event["dropped"] = dropped
    return event


class _Stamp:
    """Adds level and time (RFC 3339, UTC): two of structlog's processors in a third of their time."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        event["level"] = "error" if method == "exception" else method
        event["timestamp"] = f"{self._text}.{nanoseconds // 1000:06}Z"
        return event


class LineWriter:
    """Gathers lines for a moment and writes them together.

    A write gives the interpreter away for its duration, and getting it back costs a busy
    server more than everything else about a line: 40 µs a call, measured, against 7. So
    lines wait for up to 50 ms, or 64 KiB; those from ``warning`` upwards do not wait, nor
    do lines of threads without an event loop. What waits is lost with ``kill -9``.
    """

    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self._lock = threading.Lock()
        self._waiting: list[bytes] = []
        self._size = 0
        self._scheduled = False

    def write(self, line: bytes) -> None:
        """Takes a line that may wait."""
        with self._lock:
            self._waiting.append(line)
            self._size += len(line)
            self._scheduled = self._scheduled or self._soon()
            wait = self._scheduled and self._size < _MOST_WAITING_BYTES
        if not wait:
            self.flush()

    def write_now(self, line: bytes) -> None:
        """Takes a line that may not wait; what waits goes before it."""
        with self._lock:
            self._waiting.append(line)
        self.flush()

    def flush(self) -> None:
        """Writes what waits. A reader of the log that went away does not stop the program."""
        with self._lock:
            lines, self._waiting, self._size = self._waiting, [], 0
            if not lines:
                return
            try:
                self._output.write(b"".join(lines))
                self._output.flush()
            except (BrokenPipeError, ValueError):  # ValueError: the stream was closed at the end of the process
                return

    def _soon(self) -> bool:
        try:
            asyncio.get_running_loop().call_later(_WAIT_SECONDS, self._due)
        except RuntimeError:
            return False
        return True

    def _due(self) -> None:
        self._scheduled = False
        self.flush()


class _Lines:
    """What structlog writes to: every level is a line."""

    def __init__(self, writer: LineWriter) -> None:
        self._write = writer.write
        self._write_now = writer.write_now

    def msg(self, line: bytes) -> None:
        self._write(line)

    def urgent(self, line: bytes) -> None:
        self._write_now(line)

    log = debug = info = msg
    warn = warning = fatal = failure = err = error = critical = exception = urgent


_encode = msgspec.json.Encoder(enc_hook=str).encode


def _as_json(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
    try:
        return _encode(event) + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair, as in a broken file name: escape instead of failing
        return json.dumps(event, default=str).encode() + b"\n"


def _as_text(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
    event = dict(event)
    head = f"{event.pop('timestamp', '')} {event.pop('level', ''):7} {event.pop('event', '')}"
    trace = event.pop("exception", None)
    line = " ".join([head, *(f"{key}={_shown(value)}" for key, value in event.items())])
    return (f"{line}\n{trace}\n" if trace else f"{line}\n").encode(errors="backslashreplace")


def _shown(value: object) -> str:
    text = str(value)
    return repr(text) if " " in text or "\n" in text else text


class _Bridge(logging.Handler):
    """Takes the standard library's records into the same lines."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger()
        level = "error" if record.levelno >= logging.ERROR else "warning"
        try:
            getattr(logger, level)(
                "library_log", logger=record.name, message=record.getMessage(), exc_info=record.exc_info
            )
        except Exception:  # noqa: BLE001  # logging's own rule: a record that cannot be written must not raise
            self.handleError(record)
