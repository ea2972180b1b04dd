"""How long a backend asks to wait. Pure."""

import math
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)s")


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait, at least 0, or ``None`` if the backend did not say.

    Read in this order: ``retry-after-ms``, ``x-ms-retry-after-ms``, ``retry-after`` as
    seconds (decimals too), ``retry-after`` as an HTTP date.

    Args:
        headers: names in lower case, or a mapping that does not care.
        now: POSIX seconds, for the date.
    """
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        milliseconds = _number(headers.get(name))
        if milliseconds is not None:
            return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, date.timestamp() - now)


def should_retry(headers: Mapping[str, str]) -> bool | None:
    """What ``x-should-retry`` says, if anything: the backend's own word, which overrides the status."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())


def duration(text: str) -> float | None:
    """Seconds of a duration in protobuf's JSON form, such as ``37s`` or ``0.5s``."""
    found = _DURATION.fullmatch(text.strip())
    return float(found[1]) if found else None


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
