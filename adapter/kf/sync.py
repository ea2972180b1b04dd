"""Fetches what is new at customer service: pulled to the end, one puller for each account of it.

A callback is only a hint that there is something. Hints may be lost, doubled and reordered:
each makes one more round, a hint during a round makes another one behind it, and the
instance that holds the lease also looks without being asked, at its start and then every
minute. Every instance follows the hints that it gets, whoever holds the lease, because a
callback reaches only one of them; two that read the same items do no harm.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from adapter.backoff import Backoff
from adapter.delivery import Standing
from adapter.kf.api import KfApi
from adapter.kf.cursors import Cursors
from adapter.kf.errors import TOKEN_ENDED, code_of
from adapter.kf.inbox import KfInbox
from adapter.kf.wire import PAGE_ITEMS, TOKEN_SECONDS, Hint
from adapter.metrics import Metrics
from adapter.rest.errors import ContentRefused, ReceiverRefused, SlowDown, WeComError, WeComUnreachable

log = structlog.get_logger()

_MOST_ACCOUNTS: Final = 5000
_NEXT_LOOK: Final = 3600.0
"""Seconds between two looks at the list of accounts; callbacks name new ones before."""
_LOOK_AGAIN: Final = 60.0
"""The same when the list could not be read."""
_EMPTY_PAUSE: Final = 0.2
"""After an answer that does not move the cursor and says that there is more."""


class KfSync:
    """The pullers of one application."""

    def __init__(
        self,
        api: KfApi,
        inbox: KfInbox,
        cursors: Cursors,
        metrics: Metrics,
        *,
        account: str,
        open_kfids: Iterable[str] = (),
        poll_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args: ``open_kfids`` that are known beforehand; ``clock`` gives seconds that only grow."""
        self._api = api
        self._inbox = inbox
        self._cursors = cursors
        self._counted = metrics.kf_pulls
        self._account = account
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._pullers: dict[str, _Puller] = {}
        self._group: asyncio.TaskGroup | None = None
        self._active = False
        self._look = asyncio.Event()
        self._stopping = asyncio.Event()
        for open_kfid in open_kfids:
            self._puller(open_kfid)

    async def run(self) -> None:
        """Pulls until :meth:`stop`, or until it is cancelled."""
        await self._cursors.load()
        async with asyncio.TaskGroup() as group:
            self._group = group
            tasks = [group.create_task(self._look_for_accounts(), name=f"accounts of {self._account}")]
            for puller in self._pullers.values():
                puller.start(group)
            await self._stopping.wait()
            self._group = None
            for task in tasks:
                task.cancel()
            for puller in self._pullers.values():
                puller.stop()

    def stop(self) -> None:
        """Ends the pulling now. What is not handled yet lies before no cursor, and is fetched again."""
        self._stopping.set()

    def hint(self, hint: Hint) -> None:
        """Takes up what a callback said; never waits."""
        if (puller := self._puller(hint.open_kfid)) is not None:
            puller.hint(hint.token)

    async def caught_up(self, open_kfid: str) -> None:
        """Waits until everything was handled that the account has now. The caller bounds the time."""
        if (puller := self._puller(open_kfid)) is not None:
            await puller.caught_up()

    def look_again(self) -> None:
        """Has the list of accounts read soon; never waits."""
        self._look.set()

    def stand(self, standing: Standing) -> None:
        """Hears whether this instance holds the lease: then it also looks without being asked."""
        was_active, self._active = self._active, standing == "active"
        if self._active and not was_active:
            self._look.set()
            for puller in self._pullers.values():
                puller.ask()

    @property
    def active(self) -> bool:
        """Whether this instance holds the lease."""
        return self._active

    def _puller(self, open_kfid: str) -> "_Puller | None":
        puller = self._pullers.get(open_kfid)
        if puller is None and len(self._pullers) < _MOST_ACCOUNTS:
            puller = self._pullers[open_kfid] = _Puller(self, open_kfid)
            if self._group is not None:
                puller.start(self._group)
        return puller

    async def _look_for_accounts(self) -> None:
        """Learns which accounts there are, so that none depends on its first callback."""
        while True:
            await self._look.wait()
            self._look.clear()
            if not self._active:
                continue
            pause = _NEXT_LOOK
            try:
                for open_kfid in await self._api.accounts():
                    if open_kfid not in self._pullers and (puller := self._puller(open_kfid)) is not None:
                        puller.ask()
            except WeComError as error:
                log.warning("kf_accounts_unknown", account=self._account, why=str(error))
                pause = _LOOK_AGAIN
            try:
                async with asyncio.timeout(pause):
                    await self._look.wait()
            except TimeoutError:
                self._look.set()

    # --- for the pullers -------------------------------------------------------------------

    async def pull(self, puller: "_Puller") -> None:
        """Pulls one account to its end, however long that takes."""
        backoff, open_kfid, most = Backoff(0.5, 60.0), puller.open_kfid, PAGE_ITEMS
        while True:
            cursor, token = self._cursors.get(open_kfid), puller.token()
            try:
                page = await self._api.sync(open_kfid, cursor, token, most)
            except WeComError as error:
                if token and code_of(error) == TOKEN_ENDED:
                    puller.forget(token)
                    continue
                self._counted.labels(self._account, "limited" if isinstance(error, SlowDown) else "failed").inc()
                log.warning("kf_pull_failed", account=self._account, open_kfid=open_kfid, why=str(error))
                if isinstance(error, ReceiverRefused):
                    return  # there is no such account (any more); the next hint or look asks again
                if isinstance(error, ContentRefused) and cursor:
                    # A cursor that WeCom does not know (any more). Beginning anew costs time and nothing else.
                    await self._cursors.put(open_kfid, "")
                if isinstance(error, WeComUnreachable):
                    # A thousand long items may be more than an answer can hold, or than it can hold in time.
                    most = max(1, most // 8)
                pause = max(backoff.pause(), min(error.retry_after or 0.0, 60.0))
                # A callback ends the pause where it changes something: WeCom is less strict with a token.
                await (asyncio.sleep(pause) if token else puller.until_token(pause))
                continue
            self._counted.labels(self._account, "ok").inc()
            backoff.reset()
            most = min(PAGE_ITEMS, most * 2)
            await self._inbox.take(page.items)
            if page.next_cursor:
                await self._cursors.put(open_kfid, page.next_cursor)
            if not page.has_more:
                return
            if page.next_cursor in ("", cursor):
                await asyncio.sleep(_EMPTY_PAUSE)

    @property
    def poll_seconds(self) -> float:
        """Seconds between two looks without being asked."""
        return self._poll_seconds

    def now(self) -> float:
        """Seconds that only grow."""
        return self._clock()


class _Puller:
    """One account of customer service."""

    def __init__(self, sync: KfSync, open_kfid: str) -> None:
        self._sync = sync
        self.open_kfid = open_kfid
        self._asked = asyncio.Event()
        self._token = ""
        self._token_until = 0.0
        self._fresh_token = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._waiting: list[asyncio.Future[None]] = []
        """Who waits for a round that begins after they came."""

    def start(self, group: asyncio.TaskGroup) -> None:
        self._task = group.create_task(self._run(), name=f"pull {self.open_kfid}")

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def ask(self) -> None:
        self._asked.set()

    def hint(self, token: str) -> None:
        if token:
            self._token, self._token_until = token, self._sync.now() + TOKEN_SECONDS
            self._fresh_token.set()
        self._asked.set()

    async def caught_up(self) -> None:
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self._asked.set()
        await done

    def token(self) -> str:
        """That of the latest callback, or nothing when it is too old."""
        return self._token if self._sync.now() < self._token_until else ""

    def forget(self, token: str) -> None:
        """Lets go of a token that WeCom does not take any more, unless there is a later one."""
        if self._token == token:
            self._token = ""

    async def until_token(self, seconds: float) -> None:
        """Waits for the token of another callback, for that many seconds at most."""
        self._fresh_token.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._fresh_token.wait()

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._sync.poll_seconds):
                    await self._asked.wait()
            except TimeoutError:
                if not self._sync.active:
                    continue
            self._asked.clear()
            waiting, self._waiting = self._waiting, []
            await self._sync.pull(self)
            for done in waiting:
                if not done.done():  # whoever waited may have given up
                    done.set_result(None)
