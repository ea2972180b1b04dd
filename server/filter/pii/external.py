"""The place for a recogniser of somebody else's, such as a model that finds names in running text.

It is asked about whole texts only: about what goes to a model, not about a reply on its way.
"""

from typing import Final, Protocol, Self

import msgspec

from server.budget import Budget
from server.filter.operator_service import NoAnswer, OperatorService, Reason, check_key, checked_url
from server.filter.pii.kinds import Finding, PiiKind
from server.settings import PiiRecogniserSettings

MAX_ANSWER_BYTES: Final = 1 << 20


class RecogniserFailed(Exception):
    """There is no answer, or none that can be used."""

    def __init__(self, reason: Reason) -> None:
        """Args: ``busy`` (no free place in time), ``slow``, ``unreachable``, ``status`` (another than 200), or
        ``garbage`` (too long, no JSON of the agreed form, or places that the text does not have).
        """
        super().__init__(reason)
        self.reason: Final[Reason] = reason


class ExternalRecogniser(Protocol):
    """Finds personal data in whole texts."""

    async def find(self, text: str, budget: Budget) -> tuple[Finding, ...]:
        """What is in a text, within the budget, in any order; findings may overlap.

        Raises:
            RecogniserFailed: if that is not known.
        """
        ...


class _Span(msgspec.Struct, frozen=True):
    """Fields that are not known are ignored."""

    kind: str
    start: int
    end: int
    confidence: float = 1.0


class _Answer(msgspec.Struct, frozen=True):
    spans: list[_Span]


_decode: Final = msgspec.json.Decoder(_Answer).decode


class HttpRecogniser:
    """Asks a service: one POST of ``{"text"}`` is answered by ``{"spans": [{"kind", "start", "end", "confidence"}]}``.

    Places count Unicode characters of the text. A kind that is none of :class:`PiiKind` is :attr:`PiiKind.OTHER`.
    Belongs to one event loop; use it as a context manager.
    """

    def __init__(self, settings: PiiRecogniserSettings) -> None:
        """Connects to nothing yet.

        Raises:
            ValueError: if a setting cannot be used. The message begins with its name.
        """
        example = "https://example.com/find"
        url = checked_url(settings.url, plain_http=settings.plain_http, section="", example=example)
        check_key(settings.api_key, section="")
        self._settings = settings
        self._service = OperatorService(
            url, settings.api_key, max_calls=settings.max_calls, max_answer_bytes=MAX_ANSWER_BYTES
        )

    async def __aenter__(self) -> Self:
        await self._service.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._service.__aexit__(*error)

    async def find(self, text: str, budget: Budget) -> tuple[Finding, ...]:
        """See :meth:`ExternalRecogniser.find`."""
        own = budget.part(self._settings.budget_seconds)
        # Half a surrogate pair is no Unicode and cannot be sent; what stands for it is one character too.
        body = msgspec.json.encode({"text": text.encode("utf-8", "replace").decode()})
        try:
            data = await self._service.ask(body, own)
        except NoAnswer as failed:
            raise RecogniserFailed(failed.reason) from None
        return _findings(data, len(text), self._settings.min_confidence)


_KINDS: Final = {kind.value: kind for kind in PiiKind}


def _findings(data: bytes, length: int, min_confidence: float) -> tuple[Finding, ...]:
    try:
        spans = _decode(data).spans
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise RecogniserFailed("garbage") from None
    if not all(0 <= span.start < span.end <= length for span in spans):
        raise RecogniserFailed("garbage")
    return tuple(
        Finding(_KINDS.get(span.kind.lower(), PiiKind.OTHER), span.start, span.end, span.confidence)
        for span in spans
        if span.confidence >= min_confidence
    )
