"""The word lists of the service while it runs: read, watched, changed, and swapped as one."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

import structlog

from server.budget import Budget, Clock
from server.errors import InvalidField, LexiconRefused
from server.filter.base import FilterObserver, ListedEntry, Loaded, Occurrence, Overlay, Unobserved
from server.filter.building import MAX_BUILD_SECONDS, BuildFailed, Job, build_lists
from server.filter.compiled import Compiled
from server.filter.entries import Direction
from server.filter.fold import fold_word
from server.filter.list_files import FileState, find_lists
from server.filter.list_rows import MAX_LEVEL, MAX_REPLACEMENT, TAG, ListError, RowReader
from server.filter.occurrences import occurrences
from server.filter.snapshot import ListedRows, Snapshot, TaggedRows
from server.filter.text_pattern import TextPattern
from server.settings import FilterSettings

_log = structlog.get_logger(__name__)

Build = Callable[[Sequence[FileState], Job, Budget], Awaitable[Compiled]]


class Lexicons:
    """A :class:`~server.filter.base.ChangeableLexicon`. An async context manager: it watches while it is open.

    What is in force is one immutable :class:`~server.filter.snapshot.Snapshot`; whoever has
    taken it keeps it. A list that cannot be used changes nothing. Belongs to one event loop.
    """

    def __init__(
        self,
        settings: FilterSettings,
        observer: FilterObserver | None = None,
        *,
        patterns: Sequence[TextPattern] = (),
        build: Build = build_lists,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Args:
        patterns: told with the words of a text that is tried.
        build: reads the files and makes them ready.
        clock, sleep: what counts the seconds, and waits.
        """
        self._settings = settings
        self._observer = observer or Unobserved()
        self._patterns = patterns
        self._build = build
        self._clock = clock
        self._sleep = sleep
        self._current: Snapshot | None = None
        self._tried: tuple[FileState, ...] = ()
        """The files as they were when they were last read, with whatever outcome."""
        self._said = ""
        """The last complaint, so that it is made once."""
        self._one_at_a_time = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Reads the lists.

        Raises:
            ValueError: if they cannot be used; the message begins with the setting. There are
                none from before, and to start without would show what must not be shown.
        """
        try:
            await self._load(await asyncio.to_thread(find_lists, self._settings.lists))
        except (ListError, BuildFailed) as error:
            raise ValueError(f"filter.lists: {error}") from None
        self._watching = asyncio.create_task(self._watch(), name="word lists")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    @property
    def current(self) -> Snapshot:
        """What is in force now."""
        assert self._current is not None, "not open"
        return self._current

    def words(self) -> Snapshot:
        """What is in force now, for whoever wants to be given a function."""
        return self.current

    # --- what administrators ask ------------------------------------------------------

    def listed(self, tag: str = "") -> Sequence[ListedEntry]:
        """See :meth:`server.filter.base.ChangeableLexicon.listed`."""
        current = self.current
        if tag:
            return TaggedRows(current.lists, current.overlay.withdrawn, tag)
        return ListedRows(current.lists, current.overlay.withdrawn)

    def forms(self, entry_id: str) -> Sequence[ListedEntry]:
        """See :meth:`server.filter.base.ChangeableLexicon.forms`."""
        current = self.current
        rows = map(current.lists.row, current.lists.rows_named(entry_id))
        return [each for each in rows if each.folded not in current.overlay.withdrawn]

    def fold(self, word: str) -> str:
        """See :meth:`server.filter.base.ChangeableLexicon.fold`."""
        return fold_word(word)

    def check(self, entry: ListedEntry) -> None:
        """See :meth:`server.filter.base.ChangeableLexicon.check`."""
        reader = RowReader("entry", single_characters=self._settings.single_characters)
        try:
            reader.folded(1, entry.entry.word)
        except ListError as error:
            raise InvalidField("word", error.rule.removeprefix("word: ")) from None
        if not TAG.fullmatch(entry.entry.tag):
            raise InvalidField("tag", "must be 1 to 64 letters, digits, dots, dashes or underscores")
        if not 0 <= entry.entry.level <= MAX_LEVEL:
            raise InvalidField("level", f"must be from 0 to {MAX_LEVEL}")
        if len(entry.entry.replacement) > MAX_REPLACEMENT:
            raise InvalidField("replacement", f"must have at most {MAX_REPLACEMENT} characters")

    def occurrences(self, text: str, direction: Direction) -> Sequence[Occurrence]:
        """See :meth:`server.filter.base.ChangeableLexicon.occurrences`."""
        return occurrences(self.current, text, direction, self._patterns)

    async def lay_over(self, overlay: Overlay) -> Loaded:
        """See :meth:`server.filter.base.ChangeableLexicon.lay_over`."""
        async with self._one_at_a_time:
            began = self._clock()
            self._current = await asyncio.to_thread(Snapshot, self.current.lists, overlay)
            return Loaded(len(self._current), self._clock() - began)

    async def reload(self) -> Loaded:
        """See :meth:`server.filter.base.ChangeableLexicon.reload`."""
        async with self._one_at_a_time:
            try:
                return await self._load(await asyncio.to_thread(find_lists, self._settings.lists))
            except ListError as error:
                self._refuse(error)
                raise LexiconRefused(error.file, error.line, error.rule) from None
            except BuildFailed as error:
                self._refuse(error)
                raise LexiconRefused("filter.lists", None, f"{error}; try again") from None

    # --- watching ---------------------------------------------------------------------

    async def look(self) -> None:
        """Reads the lists anew if a file was changed, added or removed."""
        async with self._one_at_a_time:
            try:
                files = await asyncio.to_thread(find_lists, self._settings.lists)
                if files != self._tried:
                    await self._load(files)
            except (ListError, BuildFailed) as error:
                self._refuse(error)

    async def _watch(self) -> None:
        while True:
            await self._sleep(self._settings.reload_seconds)
            await self.look()

    async def _load(self, files: tuple[FileState, ...]) -> Loaded:
        began = self._clock()
        settings = self._settings
        job = Job(tuple(file.path for file in files), settings.max_words, settings.single_characters)
        try:
            lists = await self._build(files, job, Budget(MAX_BUILD_SECONDS, self._clock))
        except ListError:
            self._tried = files  # The same files would be refused again.
            raise
        overlay = Overlay() if self._current is None else self._current.overlay
        self._current = await asyncio.to_thread(Snapshot, lists, overlay)
        self._tried = files
        self._said = ""
        loaded = Loaded(len(self._current), self._clock() - began)
        self._observer.lexicon_loaded(loaded.entries, loaded.seconds)
        _log.info(
            "lexicon_loaded", entries=loaded.entries, seconds=round(loaded.seconds, 3), version=self.current.version
        )
        return loaded

    def _refuse(self, error: ListError | BuildFailed) -> None:
        if str(error) == self._said:
            return
        self._said = str(error)
        self._observer.lexicon_refused()
        _log.error("lexicon_refused", reason=str(error), remedy="correct the file; the lists before it stay in force")
