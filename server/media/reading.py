"""Reads the media of messages: what each part is, who reads it, and what stands in its place afterwards."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec
import structlog

from server.budget import Budget
from server.domain import Content, MediaPart, Missing, Part, TextPart
from server.media.base import MediaKind, MediaObserver, Transcriber
from server.media.job import Job, Outcome, Picture, Problem, Sound, Text, Unread
from server.media.kinds import extension_of, kind_of
from server.media.reader_process import ReaderProcesses
from server.settings import MediaSettings, SpeechSettings

_log = structlog.get_logger(__name__)

MEMORY_BYTES: Final[Mapping[str, int]] = {"document": 64 << 20, "picture": 80 << 20, "recording": 80 << 20}
"""What reading one file may take, the program that reads it included. A photo as cameras take them has to fit, and the
programs of recordings are large themselves."""

MAX_PICTURE_BYTES: Final = 2 << 20
"""Of one picture that is kept."""

MAX_PICTURES_BYTES: Final = 8 << 20
"""Of all pictures of a message together, so that a turn fits into an answer of ``ListTurns``."""

_MARK: Final = "【文件"
_NO_MARK: Final = "〔文件"
"""Stands where a document itself has the mark: it can neither end before its end, nor begin another one."""

_END: Final = f"\n{_MARK}结束】"
_CUT: Final = "\n（文件较长，只读取了前 {} 字）"
_NOTE_CHARACTERS: Final = len(_CUT) + 8 + len(_END)
"""Of these lines, and of the break before the text."""

_NAME_CHARACTERS: Final = 100
_BRACKETS: Final = str.maketrans("【】", "〔〕")
_SAID_CHARACTERS: Final = 4000
"""Of a recording. Two minutes hold a thousand."""

_PROBLEMS: Final[dict[Problem, Missing]] = {
    "too_large": Missing.TOO_LARGE,
    "damaged": Missing.DAMAGED,
    "unsupported": Missing.UNSUPPORTED,
    "encrypted": Missing.ENCRYPTED,
    "without_text": Missing.WITHOUT_TEXT,
    "too_slow": Missing.TOO_SLOW,
}


class _Read(msgspec.Struct, frozen=True):
    """What became of a part: a text with the line above it, or a part."""

    part: Part
    heading: str = ""
    cut: bool = False
    outcome: str = "read"


class Reading:
    """A :class:`~server.media.base.MediaReader`."""

    def __init__(
        self,
        settings: MediaSettings,
        speech: SpeechSettings,
        transcriber: Transcriber | None,
        observer: MediaObserver,
    ) -> None:
        """Args: who listens to recordings; ``None`` where nobody does."""
        self._settings = settings
        self._speech = speech
        self._transcriber = transcriber
        self._observer = observer
        self._processes = ReaderProcesses(settings.processes)

    async def read(self, content: Content, budget: Budget, max_characters: int, whose: str) -> Content:
        """See :meth:`server.media.base.MediaReader.read`."""
        pictures = sum(1 for part in content.media if part.inline_data)
        picture_bytes = min(MAX_PICTURE_BYTES, MAX_PICTURES_BYTES // max(1, pictures))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._part(part, budget, picture_bytes, whose)) for part in content.parts]
        return Content(_fitted([task.result() for task in tasks], max_characters))

    async def _part(self, part: Part, budget: Budget, picture_bytes: int, whose: str) -> _Read:
        if isinstance(part, TextPart) or part.inline_data is None:
            return _Read(part)
        kind, extension = kind_of(part.inline_data, part.mime_type)
        began = time.monotonic()
        match kind:
            case _ if not part.inline_data:
                read = _unread(part, Missing.WITHOUT_TEXT)
            case "document":
                read = await self._document(part, part.inline_data, budget, whose)
            case "picture":
                read = await self._picture(part, part.inline_data, budget, picture_bytes, whose)
            case "recording":
                read = await self._recording(part, part.inline_data, extension, budget, whose)
            case "other":
                read = _unread(part, Missing.UNSUPPORTED)
        self._note(kind, read.outcome, len(part.inline_data), time.monotonic() - began)
        return read

    async def _document(self, part: MediaPart, data: bytes, budget: Budget, whose: str) -> _Read:
        claimed = part.mime_type.lower()
        job = self._job("document", extension_of(part.display_name) or claimed.rpartition("/")[2])
        outcome = await self._processes.read(job, data, budget, whose=whose, seconds=self._settings.seconds)
        if isinstance(outcome, Text):
            name = _name(part.display_name)
            heading = f"{_MARK}：{name}】" if name else f"{_MARK}】"
            text = outcome.text.replace(_MARK, _NO_MARK)
            return _Read(TextPart(text), heading, outcome.cut, "cut" if outcome.cut else "read")
        if isinstance(outcome, Unread) and outcome.problem == "unsupported":
            # Not what it is said to be, rather than of a kind that nobody reads.
            broken = claimed.startswith(("image/", "audio/"))
            return _unread(part, Missing.DAMAGED if broken else Missing.UNSUPPORTED)
        return _refused(part, outcome)

    async def _picture(self, part: MediaPart, data: bytes, budget: Budget, most: int, whose: str) -> _Read:
        job = msgspec.structs.replace(self._job("picture"), max_picture_bytes=most)
        outcome = await self._processes.read(job, data, budget, whose=whose, seconds=self._settings.seconds)
        if not isinstance(outcome, Picture):
            return _refused(part, outcome)
        kept = msgspec.structs.replace(part, mime_type=outcome.mime_type, inline_data=outcome.data or data)
        return _Read(kept, outcome="shrunk" if outcome.data else "passed")

    async def _recording(self, part: MediaPart, data: bytes, extension: str, budget: Budget, whose: str) -> _Read:
        if self._transcriber is None:
            return _unread(part, Missing.NO_LISTENER)
        own = budget.part(self._speech.seconds)
        if self._speech.convert == "wav":
            if extension == "silk":
                return _unread(part, Missing.UNSUPPORTED)
            job = self._job("recording", extension)
            outcome = await self._processes.read(job, data, own, whose=whose, seconds=self._settings.seconds)
            if not isinstance(outcome, Sound):
                return _refused(part, outcome)
            data, extension = outcome.data, "wav"
        said = await self._transcriber.transcribe(data, extension, own)
        return _Read(TextPart(said[:_SAID_CHARACTERS])) if said else _unread(part, Missing.NOT_UNDERSTOOD)

    def _job(self, kind: Literal["document", "picture", "recording"], extension: str = "") -> Job:
        settings = self._settings
        return Job(
            kind=kind,
            extension=extension,
            max_characters=settings.max_characters,
            edge=settings.picture_edge,
            quality=settings.picture_quality,
            max_recording_seconds=self._speech.max_recording_seconds,
            memory_bytes=MEMORY_BYTES[kind],
            processor_seconds=max(1, int(settings.seconds)),
        )

    def _note(self, kind: MediaKind, outcome: str, size: int, seconds: float) -> None:
        self._observer.media_read(kind, outcome, seconds)
        # Names of files are people's, as their texts are.
        _log.info("media_read", kind=kind, outcome=outcome, bytes=size, seconds=round(seconds, 3))


def _fitted(parts: Sequence[_Read], max_characters: int) -> tuple[Part, ...]:
    """The parts with all their texts within so many characters: what was read gives way to what was typed."""
    texts = [(read, read.part.text) for read in parts if isinstance(read.part, TextPart)]
    # Parts are joined by line breaks. Every document keeps its name, and room to say that it was cut.
    left = max_characters - sum(
        len(read.heading) + _NOTE_CHARACTERS if read.heading else len(text) for read, text in texts
    )
    left -= len(parts)
    fitted: list[Part] = []
    for read in parts:
        part = read.part
        if isinstance(part, TextPart) and read.heading:
            kept = part.text[: max(0, left)]
            left -= len(kept)
            cut = read.cut or len(kept) < len(part.text)
            part = TextPart(f"{read.heading}\n{kept}{_CUT.format(len(kept)) if cut else ''}{_END}")
        fitted.append(part)
    return tuple(fitted)


def _name(name: str) -> str:
    """A file's name on one line, which cannot close the heading that it stands in."""
    shown = "".join(character for character in name if character.isprintable()).translate(_BRACKETS)
    return shown[:_NAME_CHARACTERS].strip()


def _refused(part: MediaPart, outcome: Outcome) -> _Read:
    return _unread(part, _PROBLEMS[outcome.problem] if isinstance(outcome, Unread) else Missing.DAMAGED)


def _unread(part: MediaPart, missing: Missing) -> _Read:
    left = msgspec.structs.replace(part, inline_data=None, missing=missing)
    return _Read(left, outcome=missing.name.lower())
