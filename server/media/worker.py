"""Reads one file, in a process of its own: ``python -m server.media.worker JOB < FILE > OUTCOME``.

Files come from anybody, and the formats are programs in disguise: archives that unpack to
gigabytes, XML that grows, pages that draw one another in circles. No library promises to
bear all of that. So it happens here, where the system bounds the memory and the processor
time, where there are no keys and no conversations, and where the service can simply pull
the plug. The next file gets the next process, so that nothing of one person's file can
reach another's.
"""

import os
import re
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from server.media.bounded_text import BoundedText, Enough
from server.media.job import CannotRead, Job, Outcome, Text, Unread

_HEAD_BYTES: Final = 1024
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""How files of old Office begin, and those of any Office with a password."""

_LOCKED: Final = "EncryptedPackage".encode("utf-16-le")
_OPEN_FILES: Final = 64

_LEAST_BYTES: Final = 24 << 20
"""Left for reading, however large the program is."""

_MARGIN_BYTES: Final = 4 << 20
"""Of the program, which are only loaded when they are used."""


def main() -> None:
    """Does one job."""
    job = msgspec.json.decode(sys.argv[1], type=Job)
    _bound(job)
    outcome: Outcome
    try:
        # Not as `sys.stdin.buffer`, whose type promises less than a file does.
        with open(sys.stdin.fileno(), "rb", closefd=False) as file:
            outcome = _read(job, file)
    except CannotRead as refused:
        outcome = Unread(refused.problem)
    except MemoryError:
        outcome = Unread("too_large")
    except Exception:  # noqa: BLE001  # the one boundary of the process: libraries raise anything over a broken file
        outcome = Unread("damaged")
    sys.stdout.buffer.write(msgspec.msgpack.encode(outcome))


def _read(job: Job, file: BinaryIO) -> Outcome:
    match job.kind:
        case "document":
            return _document(job, file)
        case "picture":
            from server.media.picture import read_picture  # each process loads what its file needs

            _bound_memory(job)
            return read_picture(
                file,
                os.fstat(file.fileno()).st_size,
                edge=job.edge,
                quality=job.quality,
                max_bytes=job.max_picture_bytes,
            )
        case "recording":
            from server.media.recording import read_recording

            _bound_memory(job)
            return read_recording(file, job.extension, job.max_recording_seconds)


# --- documents -------------------------------------------------------------------------------


def _document(job: Job, file: BinaryIO) -> Outcome:
    text = BoundedText(job.max_characters)
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    with suppress(Enough):
        if b"%PDF-" in head:
            _pdf(job, file, text)
        elif head.startswith(b"PK"):
            _office(job, file, text)
        elif head.startswith(_OLE):
            raise CannotRead("encrypted" if _LOCKED in file.read(1 << 20) else "unsupported")
        elif head.startswith(b"{\\rtf"):
            raise CannotRead("unsupported")
        else:
            from server.media.plain_text import read_plain

            _bound_memory(job)
            read_plain(file, job.extension, text, job.max_characters)
    said = text.text()
    if not said:
        raise CannotRead("without_text")
    return Text(said, text.cut)


def _pdf(job: Job, file: BinaryIO, text: BoundedText) -> None:
    from server.media.portable_document import read_pdf

    _bound_memory(job)
    read_pdf(file, text)


def _office(job: Job, file: BinaryIO, text: BoundedText) -> None:
    from server.media import packed, slides, word_document

    _bound_memory(job)
    with packed.opened(file) as archive:
        names = frozenset(archive.namelist())
        if word_document.DOCUMENT in names:
            _bound_memory(job)
            word_document.read_word(archive, text)
        elif slides.PRESENTATION in names:
            _bound_memory(job)
            slides.read_slides(archive, text)
        elif packed.WORKBOOK in names:
            # Half of what it takes to start, and only workbooks need it.
            from server.media import workbook

            _bound_memory(job)
            workbook.read_workbook(archive, file, text)
        else:
            raise CannotRead("unsupported")


# --- bounds ------------------------------------------------------------------------------------


def _bound(job: Job) -> None:
    """Gives up what this process will not need."""
    for what, soft, hard in (
        # The first signal tells the service that it took too long, and not that it died.
        (resource.RLIMIT_CPU, job.processor_seconds, job.processor_seconds + 1),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES, _OPEN_FILES),
    ):
        resource.setrlimit(what, (soft, hard))


def _bound_memory(job: Job) -> None:
    """Allows the program, with all that it reads, so much memory. Again once more of it is loaded."""
    status = _status()
    if not status:
        return  # no Linux: the time remains bounded
    left = job.memory_bytes - _MARGIN_BYTES - status["VmRSS"]
    most = status["VmData"] + max(_LEAST_BYTES, left)
    _, allowed = resource.getrlimit(resource.RLIMIT_DATA)
    if allowed != resource.RLIM_INFINITY:
        most = min(most, allowed)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _status() -> dict[str, int]:
    """What the system says of this process, in bytes."""
    try:
        said = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return {}
    return {name: int(kibibytes) << 10 for name, kibibytes in re.findall(r"^(\w+):\s+(\d+) kB$", said, re.MULTILINE)}


if __name__ == "__main__":
    main()
