"""A second opinion on a text, from a service of the operator's over HTTP.

One question is one POST. What a text is that got no answer is the operator's choice
(``when_unavailable``); errors are counted and logged, the text never is.
"""

from collections.abc import Collection
from typing import Final, Literal, Protocol, Self

import msgspec
import structlog
from yarl import URL

from server.budget import Budget
from server.filter.entries import Action, Direction
from server.filter.operator_service import NoAnswer, OperatorService, check_key, checked_url
from server.settings import ModerationSettings

_log = structlog.get_logger(__name__)

MAX_ANSWER_BYTES: Final = 16 << 10
"""An answer is a handful of words."""

UNAVAILABLE_TAG: Final = "moderation_unavailable"
"""The tag of a text that is blocked because nobody answered."""


class Opinion(msgspec.Struct, frozen=True):
    """What was said of a text."""

    action: Action = Action.PASS
    """``PASS``, ``FLAG``, ``HAND_OVER`` or ``BLOCK``: of a text as a whole."""
    tag: str = ""


class ModerationObserver(Protocol):
    """Called on the event loop: must be quick and must not raise."""

    def moderated(self, direction: Direction, outcome: str, seconds: float) -> None:
        """A question ended: ``allowed``, ``refused``, or why there was no answer: ``busy`` (no free place in
        time), ``slow``, ``unreachable``, ``status``, ``garbage``. A question without an answer is logged too."""
        ...


class Unmoderated:
    """Counts nothing."""

    def moderated(self, direction: Direction, outcome: str, seconds: float) -> None: ...


class _Answer(msgspec.Struct, frozen=True):
    """Fields that are not known are ignored."""

    allow: bool
    tag: str | None = None
    action: Literal["flag", "hand_over", "block"] | None = None


_decode: Final = msgspec.json.Decoder(_Answer).decode


class HttpModeration:
    """Asks the service. Belongs to one event loop; use it as a context manager."""

    def __init__(self, settings: ModerationSettings, observer: ModerationObserver | None = None) -> None:
        """Connects to nothing yet.

        Raises:
            ValueError: if ``url`` is not an address that may be used. The message begins with the field.
        """
        url = _checked_url(settings)
        self._settings = settings
        self._observer = observer or Unmoderated()
        self._service = OperatorService(
            url, settings.api_key, max_calls=settings.max_calls, max_answer_bytes=MAX_ANSWER_BYTES
        )

    async def __aenter__(self) -> Self:
        await self._service.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._service.__aexit__(*error)

    async def opinion(self, text: str, direction: Direction, assistant: str, budget: Budget) -> Opinion:
        """What the service says of a text: always something, and within the budget.

        Args:
            text: at most ``text_characters`` and ``context_characters``; longer ones are the caller's to cut.
            direction: ``INPUT`` or ``OUTPUT``.
        """
        own = budget.part(self._settings.budget_seconds)
        whole = own.remaining()
        try:
            answer = await self._ask(text, direction, assistant, own)
        except NoAnswer as failed:
            self._observer.moderated(direction, failed.reason, whole - own.remaining())
            unavailable = self._settings.when_unavailable
            _log.warning(
                "moderation_failed",
                assistant=assistant,
                direction=_name(direction),
                reason=failed.reason,
                text_is=f"{unavailable}ed",
            )
            return Opinion(Action.BLOCK, UNAVAILABLE_TAG) if unavailable == "block" else Opinion()
        opinion = Opinion() if answer.allow else _refusal(answer)
        self._observer.moderated(direction, "allowed" if answer.allow else "refused", whole - own.remaining())
        if not answer.allow:
            action = opinion.action.name.lower()
            _log.info("moderation_hit", assistant=assistant, direction=_name(direction), tag=opinion.tag, action=action)
        return opinion

    async def _ask(self, text: str, direction: Direction, assistant: str, budget: Budget) -> _Answer:
        question = {"direction": _name(direction), "assistant": assistant, "text": text}
        # Half a surrogate pair, which a piece of a text may have, is no Unicode and cannot be sent.
        body = msgspec.json.encode(question | {"text": text.encode("utf-8", "replace").decode()})
        data = await self._service.ask(body, budget)
        try:
            return _decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise NoAnswer("garbage") from None


def check_moderation(settings: ModerationSettings, assistants: Collection[str]) -> None:
    """Checks the settings without asking anybody.

    Args:
        assistants: the names of all there are.

    Raises:
        ValueError: for an address or a key that cannot be used, or an assistant that does not exist: its texts
            would silently not be asked about. The message begins with the field.
    """
    if not settings.url:
        return
    _checked_url(settings)
    unknown = sorted(set(settings.assistants) - set(assistants))
    if unknown:
        known = ", ".join(sorted(assistants))
        raise ValueError(f"moderation.assistants: there is no assistant {unknown[0]!r}; there are {known}; correct it")


def _refusal(answer: _Answer) -> Opinion:
    action = Action.BLOCK if answer.action is None else Action[answer.action.upper()]
    # The service is the operator's, and still only a service: what it says goes to the log cut and in plain characters.
    tag = "".join(each for each in (answer.tag or "")[:64] if each.isprintable())
    return Opinion(action, tag or "moderation")


def _name(direction: Direction) -> str:
    return str(direction.name).lower()


def _checked_url(settings: ModerationSettings) -> URL:
    """The address, once it and the key were found to be usable."""
    check_key(settings.api_key, section="moderation.")
    example = "https://example.com/check"
    return checked_url(settings.url, plain_http=settings.plain_http, section="moderation.", example=example)
