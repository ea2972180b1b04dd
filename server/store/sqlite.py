"""The store of turns in one SQLite file.

One thread writes, on one connection, which is also the only one that checkpoints; one
thread reads. Nothing else opens the file: SQLite before 3.51.3 can damage a file when
two connections write or checkpoint at the same moment, and a lock file keeps a second
process out.
"""

import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, Self

import msgspec
import structlog

from server.domain import (
    Ask,
    Content,
    Conversation,
    DeliveryState,
    Event,
    Owed,
    Rating,
    Round,
    Sender,
    Turn,
    TurnName,
    TurnState,
    digest,
)
from server.store import aging, owed_turns, turn_log
from server.store.audit_log import SqliteAuditLog
from server.store.base import Accepted, DeliveryReport, Dropped, Merged, Retention, StoredTurn, TurnPage, TurnStore
from server.store.group_commit import Committed, GroupCommit, SharedSnapshot
from server.store.handed_off import MaybeHandedOff
from server.store.job_thread import JobThread
from server.store.lock_file import LockFile
from server.store.page_token import make_token, read_token
from server.store.refusals import StoreRefused
from server.store.rows import finished_row, inserted_row, pushed_size
from server.store.schema import migrate, read_migrations

CAPACITY: Final = 8192
"""Writes, and as many reads, that may be waiting before the store says it is unavailable."""

_LARGEST_BATCH: Final = 512
_CACHE_KIB: Final = 64 * 1024
"""Pages the writer keeps, at most: new rows go to random places of their index, and the default
of 2 MiB reads a page back for nearly every row once the file has grown."""
_READ_GATHER_SECONDS: Final = 0.002
"""Reads gather for less: somebody waits for a question to begin, not only for an end to be written."""
# Four times the default: a page that is written often goes back into the file less often.
# Costs 16 MB of log beside the file, and some milliseconds more to open after a crash.
_CHECKPOINT_PAGES: Final = 4000
_WAL_BYTES_KEPT: Final = 64 << 20

_log = structlog.get_logger(__name__)


class SqliteTurnStore(TurnStore):
    """:class:`server.store.base.TurnStore` in a file.

    Belongs to the event loop that opened it. What was asked for is done even if the
    caller is cancelled while it waits. Writes happen, and return, in the order in which
    they were asked for; a read sees every write that returned before it was asked for.
    """

    def __init__(
        self, writer: JobThread, reader: JobThread, maybe_handed_off: MaybeHandedOff, clock: Callable[[], float]
    ) -> None:
        """Use :meth:`open`."""
        self._writer = writer
        self._reader = reader
        self._maybe_handed_off = maybe_handed_off
        self._clock = clock
        self.audit: Final = SqliteAuditLog(writer, reader)
        """The log of changes to word lists, open as long as the store is."""

    @classmethod
    async def open(
        cls,
        path: str | Path,
        *,
        clock: Callable[[], float] = time.time,
        capacity: int = CAPACITY,
        gather_seconds: float = 0.0,
        committed: Committed = lambda size, seconds: None,
    ) -> Self:
        """Opens the file, which is made if it does not exist, and brings its schema up to date.

        Blocks the event loop while it does: nothing can be served before.

        Args:
            clock: POSIX seconds; for what has no time from its caller.
            gather_seconds: the least time between two batches; see :class:`JobThread`.
            committed: hears, in the writer's thread, of each commit: how many writes, how many seconds.

        Raises:
            StoreRefused: if the file is in use, newer than this program, or no database.
        """
        path = Path(path)
        try:
            lock = LockFile(path)
        except OSError as error:
            raise StoreRefused(f"{path} cannot be locked: {error}; the folder must exist and be writable") from error
        try:
            writing, reading = _connect(path, clock())
            handed_off = MaybeHandedOff(turn_log.all_handed_off(writing))
        except BaseException as error:
            lock.release()
            if isinstance(error, sqlite3.Error):
                raise StoreRefused(f"{path} cannot be used as a database: {error}") from error
            raise
        reader = JobThread(
            "turn-store-reader",
            SharedSnapshot(reading).run_batch,
            reading.close,
            capacity=capacity,
            largest_batch=_LARGEST_BATCH,
            gather_seconds=min(gather_seconds, _READ_GATHER_SECONDS),
        )
        writer = JobThread(
            "turn-store-writer",
            GroupCommit(writing, committed).run_batch,
            partial(_close_last, reader, writing, lock),
            capacity=capacity,
            largest_batch=_LARGEST_BATCH,
            gather_seconds=gather_seconds,
        )
        return cls(writer, reader, handed_off, clock)

    # --- owed turns -------------------------------------------------------------------

    async def accept(
        self,
        ask: Ask,
        owed: Owed,
        *,
        time: float,
        claim: bool,
        final: Turn | None = None,
        input_digest: bytes | None = None,
    ) -> Accepted:
        """See :meth:`server.store.base.TurnStore.accept`."""
        claimed = claim and final is None
        turn = Turn(
            name=ask.name,
            state=TurnState.RUNNING if claimed else TurnState.QUEUED,
            input=ask.input,
            create_time=time,
            assistant=ask.assistant,
            channel=ask.channel,
            sender=ask.sender,
            delivery_state=DeliveryState.OWED,
        )
        if final is not None:
            _take_end(turn, final, self._end_time(final))
        stored = StoredTurn(
            turn,
            ask,
            input_digest or digest(ask.input),
            sequence=0,
            owed=owed,
            epoch=int(claimed),
            attempts=int(claimed),
        )
        row = inserted_row(stored)
        outcome = await self._writer.submit(owed_turns.accept, ask.name, row)
        if isinstance(outcome, StoredTurn):
            return Accepted(outcome, created=False)
        return Accepted(msgspec.structs.replace(stored, sequence=outcome, pushed_bytes=pushed_size(row)), created=True)

    async def claim(self, name: TurnName) -> StoredTurn:
        """See :meth:`server.store.base.TurnStore.claim`."""
        return await self._writer.submit(owed_turns.claim, name)

    async def finish_owed(
        self,
        turn: Turn,
        events: Sequence[Event],
        *,
        epoch: int,
        kept_input: Content | None = None,
        hands_over: bool = False,
    ) -> None:
        """See :meth:`server.store.base.TurnStore.finish_owed`."""
        end_time = self._end_time(turn)
        row = finished_row(turn, events, epoch, end_time, kept_input)
        if hands_over:
            self._maybe_handed_off.add(turn.name.conversation)
        await self._writer.submit(owed_turns.finish_owed, turn.name, row, end_time if hands_over else None)

    async def merge(self, earlier: Turn, into: TurnName) -> Merged | None:
        """See :meth:`server.store.base.TurnStore.merge`."""
        end_time = self._end_time(earlier)
        row = finished_row(earlier, (), 0, end_time)
        return await self._writer.submit(owed_turns.merge, earlier.name, row, into, end_time)

    async def record_offer(self, name: TurnName) -> int:
        """See :meth:`server.store.base.TurnStore.record_offer`."""
        return await self._writer.submit(owed_turns.record_offer, name)

    async def record_report(self, report: DeliveryReport) -> None:
        """See :meth:`server.store.base.TurnStore.record_report`."""
        if report.outcome not in owed_turns.OUTCOMES:
            raise ValueError(f"{report.outcome!r} is no outcome of a delivery")
        await self._writer.submit(owed_turns.record_report, report)

    async def unsettled(self) -> tuple[StoredTurn, ...]:
        """See :meth:`server.store.base.TurnStore.unsettled`."""
        return await self._reader.submit(owed_turns.unsettled)

    async def replay_undeliverable(self, account: str | None = None) -> int:
        """See :meth:`server.store.base.TurnStore.replay_undeliverable`."""
        return await self._writer.submit(owed_turns.replay_undeliverable, account, self._clock())

    # --- turns that went to their caller ------------------------------------------------

    async def finish(
        self,
        turn: Turn,
        ask: Ask,
        events: Sequence[Event],
        *,
        input_digest: bytes | None = None,
        hands_over: bool = False,
    ) -> None:
        """See :meth:`server.store.base.TurnStore.finish`."""
        ended = msgspec.structs.replace(turn, end_time=self._end_time(turn), delivery_state=DeliveryState.NOT_OWED)
        if ask.history:
            # It repeats with every turn of the conversation, and this one will not run again.
            ask = msgspec.structs.replace(ask, history=())
        stored = StoredTurn(ended, ask, input_digest or digest(ask.input), sequence=0, events=tuple(events))
        if hands_over:
            self._maybe_handed_off.add(ask.name.conversation)
        await self._writer.submit(
            turn_log.finish, ask.name, inserted_row(stored), ended.end_time if hands_over else None
        )

    # --- reading ----------------------------------------------------------------------

    async def find(self, name: TurnName) -> StoredTurn | None:
        """See :meth:`server.store.base.TurnStore.find`."""
        return await self._reader.submit(owed_turns.find, name)

    async def list_turns(self, conversation: str, page_size: int, page_token: str) -> TurnPage:
        """See :meth:`server.store.base.TurnStore.list_turns`."""
        before = read_token(conversation, page_token)
        turns, last = await self._reader.submit(turn_log.list_turns, conversation, before, page_size)
        return TurnPage(turns, "" if last is None else make_token(conversation, last))

    async def recent_rounds(self, conversation: str, limit: int) -> tuple[Round, ...]:
        """See :meth:`server.store.base.TurnStore.recent_rounds`."""
        return await self._reader.submit(turn_log.recent_rounds, conversation, limit)

    async def conversation(self, name: str) -> Conversation | None:
        """See :meth:`server.store.base.TurnStore.conversation`."""
        return await self._reader.submit(turn_log.conversation, name)

    # --- conversations ----------------------------------------------------------------

    async def cut_memory(self, conversation: str, *, time: float) -> None:
        """See :meth:`server.store.base.TurnStore.cut_memory`."""
        await self._writer.submit(turn_log.cut_memory, conversation, time)

    async def hand_off(self, conversation: str, *, time: float) -> None:
        """See :meth:`server.store.base.TurnStore.hand_off`."""
        self._maybe_handed_off.add(conversation)
        await self._writer.submit(turn_log.hand_off, conversation, time)

    async def resume(self, conversation: str) -> bool:
        """See :meth:`server.store.base.TurnStore.resume`."""
        return await self._writer.submit(turn_log.resume, conversation)

    async def handed_off(self, conversation: str) -> bool:
        """See :meth:`server.store.base.TurnStore.handed_off`."""
        if conversation not in self._maybe_handed_off:
            return False
        return await self._reader.submit(turn_log.is_handed_off, conversation)

    async def delete_conversation(self, conversation: str) -> bool:
        """See :meth:`server.store.base.TurnStore.delete_conversation`."""
        return await self._writer.submit(turn_log.delete_conversation, conversation)

    async def rate(self, name: TurnName, rater: Sender | None, rating: Rating, comment: str, *, time: float) -> None:
        """See :meth:`server.store.base.TurnStore.rate`."""
        who = rater.id if rater else ""
        await self._writer.submit(turn_log.rate, name, who, rating, comment, time)

    # --- upkeep -----------------------------------------------------------------------

    async def apply_retention(self, retention: Retention) -> Dropped:
        """See :meth:`server.store.base.TurnStore.apply_retention`."""
        keys = await self._in_slices(aging.drop_keys, retention.keys_before)
        payloads = await self._in_slices(aging.drop_payloads, retention.payloads_before)
        before = retention.keys_before
        while names := await self._reader.submit(aging.unused_conversations, before):
            if not await self._writer.submit(aging.drop_unused_conversations, names, before):
                break
        return Dropped(payloads=payloads, keys=keys)

    async def _in_slices(self, drop: Callable[[sqlite3.Connection, float], int], before: float) -> int:
        """Repeats a job until it leaves less than a slice; other writes go between."""
        total = 0
        while True:
            count = await self._writer.submit(drop, before)
            total += count
            if count < aging.SLICE:
                return total

    async def probe(self) -> None:
        """See :meth:`server.store.base.TurnStore.probe`."""
        await self._writer.submit(aging.probe_write, self._clock())
        await self._reader.submit(aging.probe_read)

    async def aclose(self) -> None:
        """See :meth:`server.store.base.TurnStore.aclose`. May be called again; may be cancelled, and then
        closes all the same."""
        self._reader.stop()
        self._writer.stop()
        await self._writer.stopped()
        await self._reader.stopped()

    def _end_time(self, turn: Turn) -> float:
        """Retention needs one of every turn that has ended."""
        return self._clock() if turn.end_time is None else turn.end_time


@asynccontextmanager
async def open_sqlite(path: str | Path, *, clock: Callable[[], float] = time.time) -> AsyncIterator[SqliteTurnStore]:
    """A store for as long as the context lasts; see :meth:`SqliteTurnStore.open`."""
    store = await SqliteTurnStore.open(path, clock=clock)
    try:
        yield store
    finally:
        await store.aclose()


def _take_end(turn: Turn, final: Turn, end_time: float) -> None:
    turn.state = final.state
    turn.reply = final.reply
    turn.pushed = final.pushed
    turn.finish_reason = final.finish_reason
    turn.cache_outcome = final.cache_outcome
    turn.model = final.model
    turn.usage = final.usage
    turn.end_time = end_time
    turn.first_delta_latency = final.first_delta_latency
    turn.failure = final.failure


def _connect(path: Path, now: float) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """The connection that writes and the one that reads, on a file that is up to date."""
    writing = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    try:
        (journal,) = writing.execute("PRAGMA journal_mode = WAL").fetchone()
        if journal != "wal":
            raise StoreRefused(f"{path} stays in journal mode {journal}; put it on a local disk, which can do WAL")
        # Flushes every commit: what was acknowledged survives a power cut, too.
        writing.execute("PRAGMA synchronous = FULL")
        writing.execute("PRAGMA foreign_keys = ON")
        # What retention emptied is overwritten where that costs no page more.
        writing.execute("PRAGMA secure_delete = FAST")
        writing.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        writing.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        writing.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES_KEPT}")
        version = migrate(writing, path, read_migrations(), time=now)
        reading = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
        reading.execute("PRAGMA query_only = ON")
        reading.execute("PRAGMA wal_autocheckpoint = 0")
    except BaseException:
        writing.close()
        raise
    _log.info("store_open", path=str(path), sqlite=sqlite3.sqlite_version, schema_version=version)
    return writing, reading


def _close_last(reader: JobThread, writing: sqlite3.Connection, lock: LockFile) -> None:
    """Ends the writer behind the reader, as the last connection to close is one that checkpoints."""
    reader.join()
    try:
        writing.close()
    except sqlite3.Error as error:
        _log.error("store_close_failed", error=repr(error))
    finally:
        lock.release()
