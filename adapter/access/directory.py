"""What WeCom's directory says about members: their departments, and who has a tag (DOC 90196, 90208, 90213).

Reading it is limited, and a message waits for the answer. So it is asked once for each
thing and each time of being fresh, however many messages wait; a limit that was reached
stops all questions for its time; and while WeCom cannot be asked, the last good answer
counts, for a day.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

import msgspec
import structlog
from cachetools import LRUCache

from adapter.metrics import Metrics
from adapter.rest.api import Answer, WeComApi
from adapter.rest.errors import CredentialRefused, RequestRefused, SlowDown, WeComError, WeComUnreachable

log = structlog.get_logger()

_NOT_VISIBLE: Final = frozenset({40003, 46004, 48002, 50002, 60011, 60111})
"""There is no such member, or none that this application may see (DOC 90313)."""
_NO_SUCH: Final = frozenset({40068, 60003, 60123})
"""There is no such tag or department."""
_AT_A_TIME: Final = 16
"""Requests at a time; beyond it the others wait. 45033 is about that."""
_MOST_UNDER_WAY: Final = 512
"""Things that may be asked about at a time; for more nobody could say an answer in time."""
_AGAIN_SECONDS: Final = 10.0
"""Between two questions for the same thing, after a failure or a change that was told: the last good answer counts."""
_LONGEST_PAUSE: Final = 60.0
"""A minute is the shortest window of 45009, and what an operator mends shall count soon after."""
_MOST_TAGS: Final = 1000
_MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
"""A tag lists all of its members, and the tree all departments."""

K = TypeVar("K", bound=str | int)
V = TypeVar("V")


class NotKnown(Exception):
    """The directory cannot be asked now, and nothing is remembered that could be used."""


class Tagged(NamedTuple):
    """Who has a tag."""

    members: frozenset[str]
    """UserIDs in lower case."""
    departments: frozenset[int]
    """Whoever is in one of these, or below."""


class Memberships(Protocol):
    """What rules ask about people. Implemented by :class:`Directory`."""

    async def departments(self, user: str) -> frozenset[int]:
        """The departments of a member with all above them; none for who is not visible. Raises :class:`NotKnown`."""
        ...

    async def tagged(self, tag: int) -> Tagged:
        """Who has a tag; nobody for one that does not exist. Raises :class:`NotKnown`."""
        ...


class _Member(Answer):
    department: tuple[int, ...] = ()


class _Department(msgspec.Struct):
    id: int
    parentid: int = 0


class _Departments(Answer):
    department_id: tuple[_Department, ...] = ()


class _TagMember(msgspec.Struct):
    userid: str


class _Tag(Answer):
    userlist: tuple[_TagMember, ...] = ()
    partylist: tuple[int, ...] = ()


class _Ages(NamedTuple):
    """For how long an answer counts, in seconds."""

    fresh: float
    """Without asking again."""
    stale: float
    """When WeCom cannot be asked."""
    unknown: float
    """Both of these, when the answer was that there is no such thing."""


class _Read(NamedTuple, Generic[V]):
    """An answer, and until when it counts."""

    value: V
    at: float
    fresh_until: float
    stale_until: float


class Directory:
    """The directory as one application sees it. Close it with :meth:`aclose`."""

    def __init__(
        self,
        api: WeComApi,
        metrics: Metrics,
        *,
        app: str,
        fresh_seconds: float = 3600.0,
        stale_seconds: float = 86400.0,
        unknown_seconds: float = 300.0,
        request_seconds: float = 1.0,
        max_members: int = 50_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args: ``app`` names the application in log lines; the rest is ``DirectorySettings``."""
        self._api = api
        self._app = app
        self._clock = clock
        self._unknown_seconds = unknown_seconds
        self._reported: set[int] = set()
        asking = self._asking = _Asking(metrics, clock, request_seconds)
        ages = _Ages(fresh_seconds, stale_seconds, unknown_seconds)
        self._members: _Shelf[str, frozenset[int]] = _Shelf("user/get", asking, self._read_member, ages, max_members)
        self._tags: _Shelf[int, Tagged] = _Shelf("tag/get", asking, self._read_tag, ages, _MOST_TAGS)
        # The whole tree is one answer; its key is the department that it begins at, and 0 stands for all.
        self._tree: _Shelf[int, Mapping[int, int]] = _Shelf("department/simplelist", asking, self._read_tree, ages, 1)

    async def departments(self, user: str) -> frozenset[int]:
        """See :class:`Memberships`. UserIDs are the same in any case."""
        own = await self._members.get(user.lower())
        if not own:
            return own
        parents = await self._tree.get(0)
        if not own <= parents.keys():
            # A department that is younger than the tree.
            parents = await self._tree.get(0, read_after=self._clock() - self._unknown_seconds)
        found: set[int] = set()
        for department in own:
            # Where the application does not see what is above, the way ends; a circle ends it too.
            while department and department not in found:
                found.add(department)
                department = parents.get(department, 0)
        return frozenset(found)

    async def tagged(self, tag: int) -> Tagged:
        """See :class:`Memberships`."""
        return await self._tags.get(tag)

    def changed(self, change_type: str, user: str = "") -> None:
        """Lets what a ``change_contact`` event makes untrue be asked about anew (DOC 90240, ``ChangeType``)."""
        if change_type.endswith("_party"):
            self._tree.doubt()
        elif change_type == "update_tag":
            self._tags.doubt()
        elif user:
            self._members.doubt(user.lower())

    async def aclose(self) -> None:
        """Ends the questions under way."""
        await self._asking.aclose()

    async def _read_member(self, user: str) -> tuple[frozenset[int], bool]:
        try:
            answer = await self._api.get("user/get", {"userid": user}, _Member, most=_MAX_ANSWER_BYTES)
        except RequestRefused as refused:
            self._not_there(refused, _NOT_VISIBLE)
            return frozenset(), False
        return frozenset(answer.department), True

    async def _read_tag(self, tag: int) -> tuple[Tagged, bool]:
        try:
            answer = await self._api.get("tag/get", {"tagid": str(tag)}, _Tag, most=_MAX_ANSWER_BYTES)
        except RequestRefused as refused:
            self._not_there(refused, _NOT_VISIBLE | _NO_SUCH)
            return Tagged(frozenset(), frozenset()), False
        members = frozenset(member.userid.lower() for member in answer.userlist)
        return Tagged(members, frozenset(answer.partylist)), True

    async def _read_tree(self, _root: int) -> tuple[Mapping[int, int], bool]:
        try:
            answer = await self._api.get("department/simplelist", {}, _Departments, most=_MAX_ANSWER_BYTES)
        except RequestRefused as refused:
            self._not_there(refused, _NOT_VISIBLE | _NO_SUCH)
            return {}, False
        return {department.id: department.parentid for department in answer.department_id}, True

    def _not_there(self, refused: RequestRefused, codes: frozenset[int]) -> None:
        """Takes a refusal for "nobody of ours", if it is one. Once for each code an operator hears of it."""
        if refused.code not in codes:
            raise refused
        if refused.code not in self._reported:
            self._reported.add(refused.code)
            log.warning(
                "directory_not_visible",
                app=self._app,
                code=refused.code,
                call=refused.call,
                remedy="who is not visible is in no department and no tag; widen the application's visible scope",
            )


class _Asking:
    """What all questions share: how many there are at a time, and when WeCom is left alone."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float], request_seconds: float) -> None:
        self.clock = clock
        self.request_seconds = request_seconds
        self.counted = metrics.directory_reads
        self._at_a_time = asyncio.Semaphore(_AT_A_TIME)
        self._not_before = 0.0
        self._flights: set[asyncio.Task[Any]] = set()

    @property
    def may_ask(self) -> bool:
        return self.clock() >= self._not_before and len(self._flights) < _MOST_UNDER_WAY

    def start(self, call: str, question: Callable[[], Awaitable[V]]) -> "asyncio.Task[V]":
        """Asks in a task of its own, so that who stops waiting takes the answer from nobody."""
        flight = asyncio.create_task(self._ask(call, question), name=f"directory {call}")
        self._flights.add(flight)
        flight.add_done_callback(self._landed)
        return flight

    def _landed(self, flight: "asyncio.Task[Any]") -> None:
        self._flights.discard(flight)
        if not flight.cancelled():
            flight.exception()  # marks it as seen: perhaps nobody waits any more

    async def _ask(self, call: str, question: Callable[[], Awaitable[V]]) -> V:
        async with self._at_a_time:
            try:
                answer = await question()
            except WeComError as error:
                self.counted.labels(call, _result(error)).inc()
                # Whatever it is, it is not about this one question, and asking more makes it worse.
                pause = min(_LONGEST_PAUSE, error.retry_after or 0.0)
                self._not_before = max(self._not_before, self.clock() + pause)
                log.warning("directory_not_read", call=call, why=str(error))
                raise
        self.counted.labels(call, "ok").inc()
        return answer

    async def aclose(self) -> None:
        flights = list(self._flights)
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)


def _result(error: WeComError) -> str:
    if isinstance(error, SlowDown):
        return "slow_down"
    if isinstance(error, CredentialRefused):
        return "credentials"
    return "unreachable" if isinstance(error, WeComUnreachable) else "refused"


class _Shelf(Generic[K, V]):
    """The answers to one kind of question; at most ``most``, the longest unused go first."""

    def __init__(
        self,
        call: str,
        asking: _Asking,
        read: Callable[[K], Awaitable[tuple[V, bool]]],
        ages: _Ages,
        most: int,
    ) -> None:
        """Args: ``read`` asks WeCom, and says beside the answer whether there is such a thing at all."""
        self._call = call
        self._asking = asking
        self._read = read
        self._ages = ages
        self._known: LRUCache[K, _Read[V]] = LRUCache(most)
        self._flights: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K, *, read_after: float = -math.inf) -> V:
        """The answer about ``key``; one that was read before ``read_after`` counts as stale.

        Raises:
            NotKnown: there is none.
        """
        known = self._known.get(key)
        if known is not None and self._asking.clock() < known.fresh_until and known.at > read_after:
            return known.value
        flight = self._flights.get(key)
        if flight is None and self._asking.may_ask:
            flight = self._take_off(key)
        if flight is not None:
            try:
                async with asyncio.timeout(self._asking.request_seconds):
                    return await asyncio.shield(flight)
            except (WeComError, TimeoutError) as error:
                log.debug("directory_not_asked", call=self._call, why=str(error))
        return self._last_good(key)

    def doubt(self, key: K | None = None) -> None:
        """Has an answer, or all of them, asked for anew; until that succeeds it still counts as the last good one.

        Not sooner than ten seconds after it was read: changes come in thousands when a
        department is imported.
        """
        for one in list(self._known) if key is None else [key]:
            known = self._known.get(one)
            if known is not None:
                until = min(known.fresh_until, known.at + _AGAIN_SECONDS)
                self._known[one] = known._replace(fresh_until=until)

    def _take_off(self, key: K) -> "asyncio.Task[V]":
        flight = self._flights[key] = self._asking.start(self._call, lambda: self._fetch(key))
        flight.add_done_callback(lambda _: self._flights.pop(key, None))
        return flight

    async def _fetch(self, key: K) -> V:
        value, exists = await self._read(key)
        now, ages = self._asking.clock(), self._ages
        fresh, stale = (ages.fresh, max(ages.fresh, ages.stale)) if exists else (ages.unknown, ages.unknown)
        self._known[key] = _Read(value, now, now + fresh, now + stale)
        return value

    def _last_good(self, key: K) -> V:
        known, now = self._known.get(key), self._asking.clock()
        if known is None or now >= known.stale_until:
            raise NotKnown(self._call)
        self._asking.counted.labels(self._call, "stale").inc()
        # Whoever comes next shall not wait for the same failure again.
        self._known[key] = known._replace(fresh_until=max(known.fresh_until, now + _AGAIN_SECONDS))
        return known.value
