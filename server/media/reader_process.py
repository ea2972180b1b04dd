"""The process that reads one file, seen from the service."""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import structlog

import server
from server.budget import Budget
from server.media.job import MAX_ANSWER_BYTES, Job, Outcome, Problem, Unread
from server.media.places import Places

_log = structlog.get_logger(__name__)

_COMMAND: Final = (sys.executable, "-E", "-s", "-m", "server.media.worker")
_ROOT: Final = Path(server.__file__).parent.parent
_ENVIRONMENT: Final = {"LANG": "C.UTF-8"}
"""Nothing of this program's own environment, where keys may be."""

_decode = msgspec.msgpack.Decoder(Outcome).decode

_DEATHS: Final[Mapping[int, Problem]] = {
    -signal.SIGXCPU: "too_slow",
    -signal.SIGABRT: "too_large",
}
"""What a signal says that ended a process. Libraries that cannot bear to be out of memory abort; whatever else kills
one is a defect that the file has found."""


def command_of(job: Job) -> tuple[str, ...]:
    """What to start, with the file as its input."""
    return (*_COMMAND, msgspec.json.encode(job).decode())


class ReaderProcesses:
    """Starts a process for each file, and no more than so many at a time. Idle, there is none."""

    def __init__(self, places: int) -> None:
        """Args: processes at a time; further files wait their turn."""
        self._places = Places(places)

    async def read(self, job: Job, data: bytes, budget: Budget, *, whose: str, seconds: float) -> Outcome:
        """What became of a file; a process that dies over it found it damaged.

        The process is gone when this returns or raises, whatever happened.

        Args:
            whose: the file is. Files of many people take turns.
            seconds: that reading may take, of the budget; waiting for a process is not part of them, because
                what others have sent says nothing about this file.
        """
        try:
            async with asyncio.timeout(budget.remaining()), self._places.one(whose):
                async with asyncio.timeout(budget.within(seconds)):
                    with await asyncio.to_thread(_file_of, data) as file:
                        return await _answer(job, file)
        except TimeoutError:
            return Unread("too_slow")
        except OSError as error:
            # The system has no room for another process, or for the file.
            _log.warning("media_process_not_started", reason=error.strerror)
            return Unread("too_slow")


def outcome_of(answer: bytes, status: int) -> Outcome:
    """What a process said, or what its end says if it died before; ``status`` as :mod:`asyncio` has it."""
    try:
        outcome: Outcome = _decode(answer)
    except msgspec.MsgspecError:
        return Unread(_DEATHS.get(status, "damaged"))
    return outcome


async def _answer(job: Job, file: BinaryIO) -> Outcome:
    async with _running(job, file) as process:
        assert process.stdout is not None
        answer = await _bounded(process.stdout)
        return outcome_of(answer, await process.wait())


@asynccontextmanager
async def _running(job: Job, file: BinaryIO) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command_of(job),
        stdin=file.fileno(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=_ROOT,
        env=_ENVIRONMENT,
        # Ctrl-C in a terminal is for the service, which may still want the answer while it drains.
        start_new_session=True,
    )
    try:
        yield process
    finally:
        # It has ended by itself, but for one that is late or whose answer nobody waits for any more.
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _bounded(stream: asyncio.StreamReader) -> bytes:
    answer = bytearray()
    while piece := await stream.read(1 << 20):
        answer += piece
        if len(answer) > MAX_ANSWER_BYTES:
            return b""
    return bytes(answer)


def _file_of(data: bytes) -> BinaryIO:
    """The data as a file that has no name, in memory where the system can do that. Blocks."""
    if hasattr(os, "memfd_create"):
        file: BinaryIO = os.fdopen(os.memfd_create("media"), "w+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - whoever asked closes it
    file.write(data)
    file.seek(0)
    return file
