"""Log lines: one object a line, to stderr, and never the text of a message."""

import atexit
import json
import logging
import sys
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

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(
    level: Literal["debug", "info", "warning", "error"],
    style: Literal["json", "text"],
    output: BinaryIO | None = None,
    *,
    for_good: bool = True,
) -> None:
    """Sets up ``structlog`` and the standard library's logging for this process.

    Lines of other libraries (aiohttp, grpc, asyncio) join from ``warning`` upwards.

    Args:
        output: where lines go; stderr if ``None``.
        for_good: loggers keep what they find at their first line, which saves a third of the
            time of each line. A test that configures again and again sets ``False``.
    """
    writer = LineWriter(output or sys.stderr.buffer)
    atexit.register(writer.flush)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
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


def drop_forbidden(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Removes what must not be in a log; names what was removed, so that its writer can be found."""
    if not _FORBIDDEN.isdisjoint(event):
        dropped = sorted(_FORBIDDEN.intersection(event))
        for key in dropped:
            del event[key]
        event["dropped"] = dropped
    return event


class LineWriter:
    """Writes whole lines, each flushed to the operating system: what was logged survives ``kill -9``."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output

    def write(self, line: bytes) -> None:
        """Writes one line. A reader of the log that went away must not stop the program."""
        try:
            self._output.write(line)
            self._output.flush()
        except (BrokenPipeError, ValueError):  # ValueError: the stream was closed at the end of the process
            return

    def flush(self) -> None:
        """Hands over what is left."""
        try:
            self._output.flush()
        except (BrokenPipeError, ValueError):
            return


class _Lines:
    """What structlog writes to: every level is a line."""

    def __init__(self, writer: LineWriter) -> None:
        self._write = writer.write

    def msg(self, line: bytes) -> None:
        self._write(line)

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


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
