"""A thread that works off jobs in batches, and the way back to the event loop."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Final, Generic, TypeVar, TypeVarTuple

import structlog

from server.errors import StoreUnavailable

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

_log = structlog.get_logger(__name__)


class Job(Generic[T]):
    """A call on the connection, and where its outcome goes."""

    __slots__ = ("_arguments", "_function", "_future", "error", "result")

    def __init__(self, future: "asyncio.Future[T]", function: Callable[..., T], arguments: tuple[Any, ...]) -> None:
        self._future = future
        self._function = function
        self._arguments = arguments
        self.result: T | None = None
        self.error: Exception | None = None

    def run(self, connection: sqlite3.Connection) -> None:
        """Calls the function and keeps its result. May be called again after a rollback."""
        self.error = None
        self.result = self._function(connection, *self._arguments)

    def fail(self, error: Exception) -> None:
        """Keeps the error; one of the database becomes ``StoreUnavailable``, everything else stays itself."""
        if isinstance(error, sqlite3.Error):
            unavailable = StoreUnavailable("sqlite")
            unavailable.__cause__ = error
            self.error = unavailable
        else:
            self.error = error

    def resolve(self) -> None:
        """Hands the outcome to whoever waits, on the event loop. Nobody waits after a cancellation."""
        if self._future.done():
            return
        if self.error is None:
            self._future.set_result(self.result)  # type: ignore[arg-type]  # T may include None
        else:
            self._future.set_exception(self.error)


Batch = Sequence[Job[Any]]


class JobThread:
    """Runs jobs in the order in which they were asked for, as many together as are waiting.

    The whole batch comes back to the event loop in one call, so the price of crossing
    threads is paid once a batch, as is that of whatever ``run_batch`` does around it.

    Belongs to the event loop that made it: every method is called there.
    """

    def __init__(
        self,
        name: str,
        run_batch: Callable[[Batch], None],
        close: Callable[[], None],
        *,
        capacity: int,
        largest_batch: int,
        gather_seconds: float = 0.0,
    ) -> None:
        """Args:
        run_batch: runs each job of a non-empty batch and leaves a result or an error in it. Never raises.
        close: what the thread does last. Never raises.
        capacity: jobs that may be waiting or running before :meth:`submit` refuses.
        largest_batch: jobs that are run together at most, which bounds how long one waits for its neighbours.
        gather_seconds: the least time between two hand-overs to the thread. A job that comes after a pause
            goes at once; under load, jobs gather on the event loop, because waking the thread costs more
            than most jobs: each wake-up takes the interpreter away from the loop, and gives it back.
        """
        self._run_batch = run_batch
        self._close = close
        self._capacity = capacity
        self._largest_batch = largest_batch
        self._loop = asyncio.get_running_loop()
        # Unbounded by itself and fast for it; `_open_jobs` is the bound. It is counted on
        # the event loop alone (asked for, and resolved), so it needs no lock.
        self._queue: SimpleQueue[list[Job[Any]] | None] = SimpleQueue()
        self._gather_seconds = gather_seconds
        self._gathered: list[Job[Any]] = []
        self._handed_over = float("-inf")
        self._hand_over_due: asyncio.Handle | None = None
        self._left_over: list[Job[Any]] = []
        """Of the thread alone: what did not fit into the batch that runs."""
        self._open_jobs = 0
        self._stopping = False
        self._stopped = asyncio.Event()
        self._thread: Final = threading.Thread(target=self._work, name=name, daemon=False)
        self._thread.start()

    def submit(
        self, function: Callable[[sqlite3.Connection, *Arguments], T], *arguments: *Arguments
    ) -> "asyncio.Future[T]":
        """Asks for ``function(connection, *arguments)``; jobs run, and futures resolve, in the order of asking.

        The function runs in the thread and may run twice (the first run is then rolled
        back), so it depends on nothing but its arguments and the database. Cancelling the
        future does not stop the job.

        Raises:
            StoreUnavailable: if too many jobs are waiting, or the thread is stopping.
        """
        if self._stopping or self._open_jobs >= self._capacity:
            raise StoreUnavailable("sqlite")
        future: asyncio.Future[T] = self._loop.create_future()
        self._open_jobs += 1
        self._gathered.append(Job(future, function, arguments))
        if self._hand_over_due is None:
            wait = self._handed_over + self._gather_seconds - self._loop.time()
            # Not at once in any case: what the loop has still to do in this turn may ask for more.
            self._hand_over_due = (
                self._loop.call_later(wait, self._hand_over) if wait > 0 else self._loop.call_soon(self._hand_over)
            )
        return future

    def _hand_over(self) -> None:
        if self._hand_over_due is not None:
            self._hand_over_due.cancel()
            self._hand_over_due = None
        if self._gathered:
            gathered, self._gathered = self._gathered, []
            self._handed_over = self._loop.time()
            self._queue.put(gathered)

    def stop(self) -> None:
        """Lets the thread end behind what was asked for. Idempotent."""
        if not self._stopping:
            self._stopping = True
            self._hand_over()
            self._queue.put(None)

    async def stopped(self) -> None:
        """Waits until everything asked for is resolved and the thread is gone."""
        await self._stopped.wait()
        self._thread.join()

    def join(self) -> None:
        """Blocks until the thread is gone: for another thread that must outlive this one."""
        self._thread.join()

    def _work(self) -> None:
        try:
            while self._work_off_batch():
                pass
        except RuntimeError:
            # The event loop was closed over our head: nobody is left to be told. What was
            # committed is committed.
            if not self._loop.is_closed():
                raise
            _log.warning("store_left_open", thread=self._thread.name)
        finally:
            self._close()
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._stopped.set)

    def _work_off_batch(self) -> bool:
        batch = self._next_batch()
        if batch:
            self._run_batch(batch)
            self._loop.call_soon_threadsafe(self._resolve, batch)
        return bool(batch)

    def _next_batch(self) -> list[Job[Any]]:
        """Waits for jobs and takes all that are there; empty at the end, as nothing follows the stop."""
        batch: list[Job[Any]] = self._left_over
        self._left_over = []
        queue = self._queue
        # This thread is the only one that takes, so what is counted stays there.
        while not batch or (len(batch) < self._largest_batch and queue.qsize()):
            gathered = queue.get()
            if gathered is None:
                if batch:
                    queue.put(None)
                return batch
            batch.extend(gathered)
        self._left_over = batch[self._largest_batch :]
        return batch[: self._largest_batch]

    def _resolve(self, batch: Batch) -> None:
        self._open_jobs -= len(batch)
        for job in batch:
            job.resolve()
