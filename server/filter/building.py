"""From the files of word lists to compiled ones, in a thread or in a process of its own.

To fold and sort a million words takes the interpreter for seconds. A process of its own does
it, and the service only reads the outcome, so that running streams go on meanwhile.
"""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

import msgspec

import server
from server.budget import Budget
from server.filter.compiled import Compiled, Saved, compile_rows
from server.filter.list_files import FileState, read_list
from server.filter.list_rows import Kind, ListError, Row, RowReader
from server.filter.variants import Variants, installed_pinyin

MAX_IN_THREAD: Final = 512 << 10
"""Bytes of lists up to which a thread does it: some 30,000 words, in a few tenths of a second."""

MAX_BUILD_SECONDS: Final = 600.0

MAX_TAGS: Final = 200
"""Different tags of all lists: they are labels of metrics."""

_MAX_ANSWER_BYTES: Final = 64 << 10
_COMMAND: Final = (sys.executable, "-E", "-s", "-m", "server.filter.build_process")
_ROOT: Final = Path(server.__file__).parent.parent
_ENVIRONMENT: Final = {"LANG": "C.UTF-8"}
"""Nothing of this program's own environment, where keys may be."""

_OUTCOME: Final = "outcome"
_SECTIONS: Final = ("words", "written", "numbers", "begins", "automaton")


class Job(msgspec.Struct, frozen=True):
    """What is to be built."""

    paths: tuple[str, ...]
    max_words: int
    single_characters: bool
    plain: bool = False
    """Whether to use the matcher in plain Python, even where the fast one is installed."""


class Order(msgspec.Struct, frozen=True):
    """A job for a process, and where the outcome goes."""

    job: Job
    outcome: str


class Outcome(msgspec.Struct, frozen=True):
    """What a process says. Without ``rule``, the outcome is where it was ordered."""

    file: str = ""
    line: int | None = None
    rule: str = ""


class BuildFailed(Exception):
    """No list is to blame: the process that should build them ended, or took too long."""


def read_rows(job: Job) -> list[Row]:
    """The rows of all files with their variants. Blocks.

    Raises:
        ListError: naming file, line, rule and remedy.
    """
    variants = Variants(installed_pinyin())
    rows: list[Row] = []
    tags: set[str] = set()
    for path in job.paths:
        reader = RowReader(Path(path).name, single_characters=job.single_characters)
        for row in read_list(path, single_characters=job.single_characters):
            rows.extend(variants.of(row, reader) if row.variants else (row,))
            tags.add(row.kind.tag)
            if len(rows) > job.max_words:
                raise ListError(
                    row.kind.file, row.line, f"is word {len(rows)} with its variants; filter.max_words is less"
                )
            if len(tags) > MAX_TAGS:
                raise ListError(row.kind.file, row.line, f"tag: is the {len(tags)}th; use at most {MAX_TAGS} of them")
    return rows


def build(job: Job) -> Compiled:
    """Reads and compiles. Blocks.

    Raises:
        ListError: naming file, line, rule and remedy.
    """
    return compile_rows(read_rows(job), plain=job.plain)


async def build_lists(
    files: Sequence[FileState], job: Job, budget: Budget, *, max_in_thread: int = MAX_IN_THREAD
) -> Compiled:
    """Reads and compiles off the event loop, beside the service if it is much.

    Args:
        max_in_thread: bytes of lists up to which a thread does it.

    Raises:
        ListError: naming file, line, rule and remedy.
        BuildFailed: if the process that builds ended, or took too long.
    """
    if sum(file.size for file in files) <= max_in_thread:
        return await asyncio.to_thread(build, job)
    folder: Path | None = None
    try:
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="weconverse-lists-"))
        await _run(Order(job, str(folder / _OUTCOME)), budget)
        return await asyncio.to_thread(load, folder / _OUTCOME)
    except OSError as error:
        raise BuildFailed(f"the lists cannot be built beside the service: {error.strerror}") from None
    finally:
        if folder is not None:
            # In a thread, as everything here: a hundred megabytes are not gone at once.
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _run(order: Order, budget: Budget) -> None:
    process = await asyncio.create_subprocess_exec(
        *_COMMAND,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=_ROOT,
        env=_ENVIRONMENT,
        limit=_MAX_ANSWER_BYTES,
    )
    try:
        async with asyncio.timeout(budget.within(MAX_BUILD_SECONDS)):
            said, _ = await process.communicate(msgspec.json.encode(order))
    except TimeoutError:
        raise BuildFailed("building the lists took too long") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        raise BuildFailed(f"the process that builds the lists ended with {process.returncode}")
    answer = msgspec.json.decode(said, type=Outcome)
    if answer.rule:
        raise ListError(answer.file, answer.line, answer.rule)


def save(compiled: Compiled, path: Path) -> None:
    """Writes what :func:`load` reads: the sizes of all pieces, then the pieces."""
    saved = compiled.save()
    sections = {name: getattr(saved, name) for name in _SECTIONS}
    head = msgspec.msgpack.encode(
        _Head(saved.version, saved.kinds, saved.longest, {name: list(map(len, sections[name])) for name in _SECTIONS})
    )
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8))
        file.write(head)
        for name in _SECTIONS:
            file.writelines(sections[name])


def load(path: Path) -> Compiled:
    """Reads what :func:`save` wrote. Blocks, and keeps the interpreter for a millisecond or two at a time."""
    with path.open("rb") as file:
        head = msgspec.msgpack.decode(file.read(int.from_bytes(file.read(8))), type=_Head)
        sections = {name: _pieces(file, head.sizes[name]) for name in _SECTIONS}
    return Compiled.load(Saved(head.version, head.kinds, head.longest, **sections))


def _pieces(file: IO[bytes], sizes: Sequence[int]) -> list[bytes]:
    return [file.read(size) for size in sizes]


class _Head(msgspec.Struct, frozen=True):
    version: str
    kinds: tuple[Kind, ...]
    longest: int
    sizes: Mapping[str, list[int]]
