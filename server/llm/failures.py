"""Turns what a backend answers instead of a reply into a :class:`ProviderError`. Pure.

The status alone cannot say what to do next: 429 also means that the money is gone, and
400 that the content was refused. So the body's code decides, then its words, then the
status. The tables are in ``vendor_codes.py``.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from server.llm import retry_hints
from server.llm.base import RETRYABLE, ErrorClass, ProviderError
from server.llm.vendor_codes import NAMES, NUMBERS, PHRASES, STATUSES

MAX_SAID: Final = 500
"""Characters of a backend's own words that an error keeps."""


LONGEST_RATE_LIMIT_SECONDS: Final = 3600.0
"""Who asks to wait for longer means a plan that has run out, and not the pace of calls."""


class VendorError(msgspec.Struct, frozen=True):
    """What an error body says, whatever its shape."""

    message: str
    codes: tuple[str, ...] = ()
    """Codes and types, the most telling first."""
    shape: str = ""
    """``error``, ``base_resp``, ``sid``, ``error_code``, or empty: which table of numbers applies."""
    retry_delay: float | None = None
    per_day: bool = False
    """Whether the limit that was hit is one per day, or allows nothing at all."""


def failure_of(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    overrides: Mapping[str, ErrorClass] | None = None,
) -> ProviderError:
    """The error for an answer that is not a reply.

    Args:
        status: the HTTP status, not 2xx.
        headers: names in lower case, or a mapping that does not care.
        body: as much of it as was read; JSON of any known shape, HTML, or nothing.
        now: POSIX seconds, for a ``retry-after`` that is a date.
        overrides: codes in lower case that this backend uses in its own way, and statuses that
            mean something of their own there where no code says more.
    """
    said = read_body(body)
    own = overrides or {}
    kind = _by_code(said, own) or own.get(str(status)) or _by_phrase(said, status) or by_status(status)
    hint = retry_hints.retry_after(headers, now)
    wait = said.retry_delay if hint is None else hint
    if kind is ErrorClass.RATE_LIMIT and (said.per_day or (wait or 0) >= LONGEST_RATE_LIMIT_SECONDS):
        kind = ErrorClass.QUOTA
    kind = _overruled(kind, retry_hints.should_retry(headers))
    return ProviderError(
        kind,
        f"HTTP {status}",
        said=said.message[:MAX_SAID],
        status=status,
        code=said.codes[0] if said.codes else "",
        retry_after=wait,
    )


def failure_in_stream(body: bytes, *, overrides: Mapping[str, ErrorClass] | None = None) -> ProviderError:
    """The error for an error object inside of a reply that began with status 200.

    ``INCOMPLETE`` unless the object says something more telling.
    """
    said = read_body(body)
    kind = _by_code(said, overrides or {}) or _by_phrase(said, 400) or _by_numeric_status(said)
    if kind is ErrorClass.RATE_LIMIT and said.per_day:
        kind = ErrorClass.QUOTA
    return ProviderError(
        kind,
        "in the reply",
        said=said.message[:MAX_SAID],
        code=said.codes[0] if said.codes else "",
        retry_after=said.retry_delay,
    )


def without_key(error: ProviderError, key: str, model: str) -> ProviderError:
    """The error with the route's name in it, and the key out of it should the backend have quoted that."""
    error.model = model
    if key:
        error.said = error.said.replace(key, "********")
    error.said = error.said[:MAX_SAID]
    return error


def by_status(status: int) -> ErrorClass:
    """The class of an HTTP status about which nothing else is known."""
    known = STATUSES.get(status)
    if known is not None:
        return known
    return ErrorClass.TRANSIENT if status >= 500 else ErrorClass.BAD_REQUEST


def read_body(body: bytes) -> VendorError:
    """What an error body says; its first characters, if it has no known shape."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # A stretch of markup or binary from a proxy: enough to recognise it by.
        return VendorError(" ".join(body[: MAX_SAID * 4].decode("utf-8", "replace").split()) or "(empty body)")
    if isinstance(found, list) and found:
        found = found[0]
    return _read_object(found) if isinstance(found, dict) else VendorError(_text(found))


def _read_object(body: dict[str, Any]) -> VendorError:
    error = body.get("error")
    base = body.get("base_resp")
    if isinstance(error, dict):
        details = _details(error)
        codes = (*details.codes, *_codes(error, "code", "type", "status"))
        return VendorError(_text(error.get("message", error)), codes, "error", details.retry_delay, details.per_day)
    if error:
        return VendorError(_text(error), _codes(body, "code", "type"))
    if isinstance(base, dict):
        return VendorError(_text(base.get("status_msg", base)), _codes(base, "status_code"), "base_resp")
    for name in ("message", "error_msg", "msg", "detail"):
        if body.get(name):
            shape = next((mark for mark in ("sid", "error_code") if mark in body), "")
            return VendorError(_text(body[name]), _codes(body, "code", "error_code", "type"), shape)
    return VendorError(_text(body), _codes(body, "code", "error_code", "type"))


def _details(error: dict[str, Any]) -> VendorError:
    """What Gemini (a list of ``google.rpc`` messages) and Anthropic (an object) put beside the message."""
    details = error.get("details")
    if isinstance(details, dict):
        return VendorError("", _codes(details, "error_code"))
    delay: float | None = None
    per_day = False
    for detail in details if isinstance(details, list) else ():
        if not isinstance(detail, dict):
            continue
        if isinstance(detail.get("retryDelay"), str):
            delay = retry_hints.duration(detail["retryDelay"])
        violations = _text(detail.get("violations", ""))
        per_day = per_day or "PerDay" in violations or '"quotaValue":"0"' in violations
    return VendorError("", (), "", delay, per_day)


def _codes(source: dict[str, Any], *names: str) -> tuple[str, ...]:
    found = (source.get(name) for name in names)
    return tuple(str(code) for code in found if isinstance(code, str | int) and not isinstance(code, bool) and code)


def _by_code(said: VendorError, overrides: Mapping[str, ErrorClass]) -> ErrorClass | None:
    numbers = NUMBERS.get(said.shape, {})
    for code in said.codes:
        name = code.lower()
        kind = overrides.get(name) or NAMES.get(name) or numbers.get(code)
        while kind is None and "." in name:
            name = name.rpartition(".")[0]
            kind = overrides.get(name) or NAMES.get(name)
        if kind is not None:
            return kind
    return None


def _by_phrase(said: VendorError, status: int) -> ErrorClass | None:
    if status >= 500:
        return None
    message = said.message.lower()
    return next((kind for phrase, kind in PHRASES if phrase in message), None)


def _by_numeric_status(said: VendorError) -> ErrorClass:
    for code in said.codes:
        if code.isascii() and code.isdigit() and 400 <= int(code) < 500:
            return by_status(int(code))
    return ErrorClass.INCOMPLETE


def _overruled(kind: ErrorClass, should_retry: bool | None) -> ErrorClass:
    """The class after ``x-should-retry``, which is the backend's own last word on a second attempt."""
    if should_retry is True and kind is ErrorClass.BAD_REQUEST:
        return ErrorClass.TRANSIENT
    if should_retry is False and kind in RETRYABLE:
        return ErrorClass.QUOTA if kind is ErrorClass.RATE_LIMIT else ErrorClass.BAD_REQUEST
    return kind


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()
