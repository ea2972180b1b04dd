"""What becomes of personal data on its way to a model and back, and to the log.

A :class:`PiiGuard` belongs to an assistant. It takes all texts of a prompt at once, since one
value has one name in all of them, and gives them back as the model may read them, together
with what turns the reply into what the person may read.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec
import structlog

from server.budget import Budget
from server.filter.pii.external import ExternalRecogniser, RecogniserFailed
from server.filter.pii.find import EVERY_KIND, Decided, find_all, with_divisions
from server.filter.pii.kinds import Finding, PiiKind
from server.filter.pii.output import MaskingStream, masked
from server.filter.pii.placeholders import HINT, Placeholders, Restorer, hide
from server.filter.pii.text import PlainText
from server.filter.pii.values import canonical
from server.settings import PiiSettings

_log = structlog.get_logger(__name__)

_IN_LOGS: Final = EVERY_KIND - {PiiKind.USCC}

_MOST_PASSES: Final = 8

REMEMBERED_TEXTS: Final = 512
"""Texts whose external findings are kept: those of the remembered rounds come again with every question."""


def mask_for_log(text: str) -> str:
    """A text as it may be logged, whatever the settings say: every value that is found is masked.

    Masking a masked text changes nothing.
    """
    for _ in range(_MOST_PASSES):
        found = find_all(text, _IN_LOGS)
        if not found.findings:
            break
        # What stood beside a value may be one of its own once that is masked: ``2001:db8::1.13912345678``.
        text = masked(found)
    return text


class ReplyText(Protocol):
    """A reply on its way from the model to the person. What it gives is final.

    Joined together it is the same for every way of cutting. A reply that is begun anew, and
    what a model thinks aloud, are texts of their own.
    """

    def feed(self, text: str) -> str:
        """The next piece; may be empty."""
        ...

    def close(self) -> str:
        """The rest, at the end of the text."""
        ...


class Guarded:
    """A prompt as the model may read it."""

    def __init__(
        self,
        texts: tuple[str, ...],
        *,
        names: Placeholders | None,
        masked_kinds: frozenset[PiiKind],
        known: frozenset[str],
    ) -> None:
        """Args: what is masked in replies, but for what is known."""
        self.texts = texts
        """In the order in which they were given."""
        self._names = names.names() if names is not None else {}
        self._masked_kinds = masked_kinds
        self._known = known

    @property
    def hint(self) -> str:
        """What the model should be told about the names in the texts; empty where there are none."""
        return HINT if self._names else ""

    def reply(self) -> ReplyText:
        """What a reply to the prompt passes through, a new one for each beginning."""
        return _Reply(MaskingStream(self._masked_kinds, self._known), Restorer(self._names))


class _Reply:
    def __init__(self, masking: MaskingStream, restoring: Restorer) -> None:
        self._masking = masking
        self._restoring = restoring

    def feed(self, text: str) -> str:
        return self._restoring.feed(self._masking.feed(text))

    def close(self) -> str:
        # The names come last: what the person has said is not masked again.
        return self._restoring.feed(self._masking.close()) + self._restoring.close()


class PiiGuard:
    """The rules of one assistant."""

    def __init__(self, settings: PiiSettings, external: ExternalRecogniser | None = None) -> None:
        """Args: a recogniser beside our own ones."""
        self._settings = settings
        self._kinds = frozenset(PiiKind(kind) for kind in settings.kinds)
        self._external = external
        self._remembered: OrderedDict[str, tuple[Finding, ...]] = OrderedDict()

    async def guard(self, texts: Sequence[str], budget: Budget) -> Guarded:
        """All texts of a prompt, in their order, as the model may read them.

        Raises:
            RecogniserFailed: if the external recogniser gave no answer, and the settings want one.
        """
        mode = self._settings.mode
        masked_kinds = self._kinds if self._settings.mask_output else frozenset[PiiKind]()
        if mode == "off" and not masked_kinds:
            return Guarded(tuple(texts), names=None, masked_kinds=masked_kinds, known=frozenset())
        found = [find_all(text, self._kinds) for text in texts]
        known = frozenset(
            canonical(finding.kind, value)
            for each in found
            for finding, value in zip(each.findings, each.values, strict=True)
        )
        names: Placeholders | None = None
        if mode == "mask":
            found = [await self._with_external(each, budget) for each in found]
            texts = [masked(each) for each in found]
        elif mode == "placeholders":
            found = [await self._with_external(with_divisions(each), budget) for each in found]
            names = Placeholders(texts)
            texts = [_named(each, names) for each in found]
        return Guarded(tuple(texts), names=names, masked_kinds=masked_kinds, known=known)

    async def _with_external(self, decided: Decided, budget: Budget) -> Decided:
        """The findings with those of the external recogniser that none of ours overlaps."""
        if self._external is None or not decided.text:
            return decided
        try:
            more = await self._ask(self._external, decided.text, budget)
        except RecogniserFailed as error:
            unavailable = self._settings.recogniser.when_unavailable
            _log.warning("pii_recogniser_failed", reason=error.reason, text_is=f"{unavailable}ed")
            if unavailable == "block":
                raise
            return decided
        return _together(decided, more)

    async def _ask(self, external: ExternalRecogniser, text: str, budget: Budget) -> tuple[Finding, ...]:
        known = self._remembered.get(text)
        if known is None:
            known = await external.find(text, budget)
            self._remembered[text] = known
            if len(self._remembered) > REMEMBERED_TEXTS:
                self._remembered.popitem(last=False)
        else:
            self._remembered.move_to_end(text)
        return known


def _together(decided: Decided, more: Sequence[Finding]) -> Decided:
    parts = list(zip(decided.findings, decided.values, strict=True))
    # The longest first: of two that overlap, the one that hides more.
    for finding in sorted(more, key=lambda each: each.start - each.end):
        if all(finding.end <= taken.start or taken.end <= finding.start for taken, _ in parts):
            parts.append((finding, PlainText(decided.text[finding.start : finding.end]).text))
    parts.sort(key=lambda part: part[0].start)
    return msgspec.structs.replace(
        decided, findings=tuple(finding for finding, _ in parts), values=tuple(value for _, value in parts)
    )


def _named(decided: Decided, names: Placeholders) -> str:
    text = decided.text
    return hide(
        text,
        [
            (finding.start, finding.end, names.name(finding.kind, value, text[finding.start : finding.end]))
            for finding, value in zip(decided.findings, decided.values, strict=True)
        ],
    )
