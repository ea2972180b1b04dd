"""Replies given again to questions that mean the same, where a calibration has proven how rarely that is wrong.

Three things must agree before an answer is shared: the partition, which no reply ever
leaves; the guards, which compare what vectors are blind to; and the vectors, at least as
much as the calibration says. What is kept lies in buckets of equal fingerprints, so most of
what could not be shared is never even looked at.
"""

import asyncio
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import structlog
from cachetools import LRUCache

from server.budget import Budget
from server.cache.base import CachedReply, QuestionVectors
from server.cache.fold import fold
from server.cache.guards import Gist, gist_of, stopped_by
from server.cache.inprocess import MAX_REPLY_BYTES
from server.cache.neighbours import nearest, sketch_of
from server.domain import FinishReason

_log = structlog.get_logger(__name__)

MAX_BYTES: Final = 256 << 20
"""Vectors and texts over all partitions, where nothing else is said. Some 45,000 entries of 1,024 numbers."""

SEARCHED_ON_LOOP: Final = 4000
"""Entries of one fingerprint that are searched on the event loop, in about 1 ms, where nothing else is said."""

_LATELY_ASKED: Final = 512
"""Questions whose vector is remembered until their reply comes."""

_ENTRY_BYTES: Final = 1500
"""What an entry takes beside its vector and its text: sketch, gist, and the objects themselves."""


class SemanticObserver(Protocol):
    """Called on the event loop, on the hot path: must be quick and must not raise."""

    def semantic_asked(self, outcome: str) -> None:
        """``hit``, ``miss``, ``unsuitable`` (a question that shares with nobody) or ``no_vector``."""
        ...


class Unobserved:
    """Counts nothing."""

    def semantic_asked(self, outcome: str) -> None: ...


class _Asked(NamedTuple):
    """A question as it is compared."""

    text: str
    gist: Gist
    vector: "array[float]"
    sketch: int


class _Entry(NamedTuple):
    asked: _Asked
    reply: CachedReply
    size: int
    """Bytes."""
    expires: float

    @property
    def vector(self) -> "array[float]":
        return self.asked.vector

    @property
    def sketch(self) -> int:
        return self.asked.sketch


class _Partition:
    """The entries of one partition, the least recently used first, and the same in buckets of equal fingerprints."""

    def __init__(self) -> None:
        self.entries: OrderedDict[str, _Entry] = OrderedDict()
        self._buckets: dict[tuple[tuple[str, ...], ...], dict[str, _Entry]] = {}

    def bucket(self, gist: Gist) -> list[_Entry]:
        return list(self._buckets.get(gist.fingerprint, {}).values())

    def add(self, entry: _Entry) -> None:
        text, kind = entry.asked.text, entry.asked.gist.fingerprint
        self.entries[text] = entry
        self._buckets.setdefault(kind, {})[text] = entry

    def remove(self, text: str) -> _Entry | None:
        entry = self.entries.pop(text, None)
        if entry is not None:
            kind = entry.asked.gist.fingerprint
            del self._buckets[kind][text]
            if not self._buckets[kind]:
                del self._buckets[kind]
        return entry


class InProcessSemanticCache:
    """A :class:`~server.cache.base.SemanticCache` in this process. Belongs to one event loop."""

    def __init__(
        self,
        vectors: QuestionVectors,
        *,
        threshold: float,
        dimension: int,
        entries: int,
        ttl_seconds: float,
        max_bytes: int = MAX_BYTES,
        searched_on_loop: int = SEARCHED_ON_LOOP,
        observer: SemanticObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        threshold, dimension: as calibrated: the least cosine, and how many numbers a vector has.
        entries: replies kept in each partition.
        ttl_seconds: how long a reply may be given again.
        max_bytes: of all partitions together; then the least recently used partition gives.
        searched_on_loop: entries of one fingerprint up to which no thread is asked to search.
        clock: counts the seconds.
        """
        self._vectors = vectors
        self._threshold = threshold
        self._dimension = dimension
        self._entries = entries
        self._ttl = ttl_seconds
        self._max_bytes = max_bytes
        self._searched_on_loop = searched_on_loop
        self._observer = observer or Unobserved()
        self._clock = clock
        self._partitions: OrderedDict[bytes, _Partition] = OrderedDict()
        self._bytes = 0
        self._lately: LRUCache[tuple[bytes, str], _Asked] = LRUCache(_LATELY_ASKED)

    async def get(self, question: str, partition: bytes, budget: Budget) -> CachedReply | None:
        """See :meth:`server.cache.base.SemanticCache.get`."""
        gist = gist_of(question)
        if gist is None:
            self._observer.semantic_asked("unsuitable")
            return None
        text = fold(question)
        vector = await self._vectors.vector(text, budget)
        if vector is None or not self._fits(vector):
            self._observer.semantic_asked("no_vector")
            return None
        asked = _Asked(text, gist, vector, sketch_of(vector))
        entry = await self._find(asked, partition)
        if entry is None:
            self._lately[partition, text] = asked
            self._observer.semantic_asked("miss")
            return None
        self._observer.semantic_asked("hit")
        return entry.reply

    async def put(self, question: str, partition: bytes, reply: CachedReply) -> None:
        """See :meth:`server.cache.base.SemanticCache.put`."""
        asked = self._lately.pop((partition, fold(question)), None)
        if asked is None or reply.finish_reason is not FinishReason.STOP:
            return
        length = len(reply.text.encode("utf-8", "replace"))
        if length > MAX_REPLY_BYTES:
            return
        size = _ENTRY_BYTES + length + len(asked.vector) * asked.vector.itemsize
        kept = self._partitions.setdefault(partition, _Partition())
        self._partitions.move_to_end(partition)
        self._remove(kept, asked.text)
        kept.add(_Entry(asked, reply, size, self._clock() + self._ttl))
        self._bytes += size
        self._make_room(kept)

    def _fits(self, vector: "array[float]") -> bool:
        if len(vector) == self._dimension:
            return True
        _log.error("embedding_not_as_calibrated", numbers=len(vector), calibrated=self._dimension)
        return False

    async def _find(self, asked: _Asked, partition: bytes) -> _Entry | None:
        kept = self._partitions.get(partition)
        if kept is None:
            return None
        self._partitions.move_to_end(partition)
        bucket = self._alive(kept, asked.gist)
        if len(bucket) > self._searched_on_loop:
            found = await asyncio.to_thread(nearest, asked.vector, asked.sketch, bucket, self._threshold)
        else:
            found = nearest(asked.vector, asked.sketch, bucket, self._threshold)
        for near in found:
            entry = bucket[near.place]
            if not stopped_by(asked.gist, entry.asked.gist):
                if entry.asked.text in kept.entries:
                    kept.entries.move_to_end(entry.asked.text)
                return entry
        return None

    def _alive(self, kept: _Partition, gist: Gist) -> list[_Entry]:
        """What may be compared; what is too old is dropped on the way."""
        now, alive = self._clock(), []
        for entry in kept.bucket(gist):
            if entry.expires > now:
                alive.append(entry)
            else:
                self._remove(kept, entry.asked.text)
        return alive

    def _make_room(self, kept: _Partition) -> None:
        while len(kept.entries) > self._entries:
            self._remove(kept, next(iter(kept.entries)))
        while self._bytes > self._max_bytes:
            name, idlest = next(iter(self._partitions.items()))
            if idlest.entries:
                self._remove(idlest, next(iter(idlest.entries)))
            if not idlest.entries:
                del self._partitions[name]

    def _remove(self, kept: _Partition, text: str) -> None:
        entry = kept.remove(text)
        if entry is not None:
            self._bytes -= entry.size
