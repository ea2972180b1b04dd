"""Log lines about a backend that failed. What a backend says may quote a prompt, so it stands at ``debug`` alone."""

import re
from collections.abc import Callable
from typing import Final

import structlog

from server.llm.base import ProviderError

_log = structlog.get_logger(__name__)

_WORD: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,64}").fullmatch


def log_failure(write: Callable[..., object], event: str, error: ProviderError, **facts: object) -> None:
    """Writes what went wrong, and at ``debug`` a second line, ``backend_said``, with the backend's own words.

    Args:
        write: the level, as a method of a logger.
        event: the name of the line.
        error: what went wrong; its ``model`` is not written.
        facts: what else there is to say, in both lines, such as which model it was.
    """
    code = plain_word(error.code)
    write(event, **facts, kind=error.kind.value, status=error.status, code=code, reason=error.summary)
    if error.said or code != error.code:
        _log.debug("backend_said", about=event, **facts, code=error.code, said=error.said)


def plain_word(word: str) -> str:
    """A code or a finish reason as a backend gives it; ``(no word)`` in the place of one that could be a sentence."""
    return word if not word or _WORD(word) else "(no word)"
