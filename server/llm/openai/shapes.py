"""The JSON that OpenAI-style servers send, as typed values. Pure.

Unknown fields are skipped without being built. What has an odd shape (text as a list of
parts, counts that are ``null``) fails the typed reader and goes through a slow and
patient one; what is not JSON at all raises.
"""

import json
from typing import Any, Final

import msgspec
from msgspec import Raw

_NOTHING: Final = Raw()


class Delta(msgspec.Struct, gc=False):
    """Text and thoughts, of a piece (``delta``) or of the whole (``message``)."""

    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: Raw = _NOTHING
    function_call: Raw = _NOTHING


class PromptDetails(msgspec.Struct, gc=False):
    """What OpenAI, and most others, say about the tokens that were read."""

    cached_tokens: int | None = None


class TokenCounts(msgspec.Struct, gc=False):
    """``usage``."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: PromptDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    """DeepSeek's name for it."""
    cached_tokens: int | None = None
    """Moonshot's."""

    @property
    def cached(self) -> int:
        """Tokens of the prompt that the vendor had in a cache of its own."""
        details = self.prompt_tokens_details
        return (details and details.cached_tokens) or self.prompt_cache_hit_tokens or self.cached_tokens or 0


class Choice(msgspec.Struct, gc=False):
    """One of the replies; this service asks for one and reads index 0."""

    index: int = 0
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None
    usage: TokenCounts | None = None


class BaseResp(msgspec.Struct, gc=False):
    """MiniMax's envelope: an error unless ``status_code`` is 0."""

    status_code: int = 0


class Body(msgspec.Struct, gc=False):
    """A piece of a stream, or a whole reply: the two differ in ``delta`` and ``message`` only."""

    choices: list[Choice] | None = None
    usage: TokenCounts | None = None
    error: Raw = _NOTHING
    base_resp: BaseResp | None = None
    odd_error: bool = False
    """Found by the patient reader: an error in one of the shapes that have no ``error`` field."""

    @property
    def is_error(self) -> bool:
        """Whether this is, or has in it, a report of failure."""
        return self.odd_error or holds(self.error) or (self.base_resp is not None and self.base_resp.status_code != 0)


_decode_typed: Final = msgspec.json.Decoder(Body).decode
_EMPTY_VALUES: Final = frozenset({b"", b"null", b"[]", b"{}", b'""', b"false", b"0"})


def decode(data: bytes) -> Body:
    """Reads a piece of a stream or a whole reply.

    Raises:
        ValueError: if it is not a JSON object.
    """
    try:
        body = _decode_typed(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _from_object(_load(data))
    if body.choices or body.usage is not None or holds(body.error):
        return body
    # Neither text nor counts: it may be an error in a shape of its own.
    return _from_object(_load(data))


def holds(value: Raw) -> bool:
    """Whether a field that was skipped had something in it."""
    return value is not _NOTHING and bytes(value) not in _EMPTY_VALUES


def _load(data: bytes) -> dict[str, Any]:
    # The standard reader takes half surrogate pairs, which some servers send when they
    # cut text between UTF-16 units; msgspec refuses the whole object.
    try:
        found = json.loads(data.decode("utf-8", "replace"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if isinstance(found, list) and found:
        found = found[0]
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - of the same kind as text that is no JSON
    return found


def _from_object(found: dict[str, Any]) -> Body:
    choices = found.get("choices")
    error = found.get("error")
    base = found.get("base_resp")
    status = _number(base.get("status_code")) if isinstance(base, dict) else 0
    return Body(
        [_choice(choice) for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else None,
        _counts(found.get("usage")),
        _raw(error),
        BaseResp(status),
        not choices and _tells_an_error(found),
    )


def _tells_an_error(found: dict[str, Any]) -> bool:
    if found.get("object") == "error" or found.get("type") == "error" or found.get("error_code"):
        return True
    # A code of 0 is how Spark says that all is well; `success` with a code is another such.
    return bool(found.get("detail")) or (bool(found.get("code")) and "message" in found)


def _choice(found: dict[str, Any]) -> Choice:
    reason = found.get("finish_reason")
    return Choice(
        _number(found.get("index")),
        _delta(found.get("delta")),
        _delta(found.get("message")),
        reason if isinstance(reason, str) else None,
        _counts(found.get("usage")),
    )


def _delta(found: object) -> Delta | None:
    if not isinstance(found, dict):
        return None
    text, thought = _parts(found.get("content"))
    return Delta(
        text,
        thought + _parts(found.get("reasoning"))[0],
        _parts(found.get("reasoning_content"))[0],
        _parts(found.get("refusal"))[0],
        _raw(found.get("tool_calls")),
        _raw(found.get("function_call")),
    )


def _parts(content: object) -> tuple[str, str]:
    """Text and thought of a ``content``, which may be a list of typed parts (Mistral)."""
    if isinstance(content, str):
        return _whole_characters(content), ""
    text: list[str] = []
    thought: list[str] = []
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict):
            thought.extend(_parts(part.get("thinking")))
            text.extend(_parts(part.get("text")))
    return "".join(text), "".join(thought)


def _whole_characters(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _counts(found: object) -> TokenCounts | None:
    if not isinstance(found, dict) or not found:
        return None
    details = found.get("prompt_tokens_details")
    return TokenCounts(
        _number(found.get("prompt_tokens")),
        _number(found.get("completion_tokens")),
        _number(found.get("total_tokens")),
        PromptDetails(_number(details.get("cached_tokens"))) if isinstance(details, dict) else None,
        _number(found.get("prompt_cache_hit_tokens")),
        _number(found.get("cached_tokens")),
    )


def _number(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0


def _raw(value: object) -> Raw:
    return Raw(msgspec.json.encode(value)) if value else _NOTHING
