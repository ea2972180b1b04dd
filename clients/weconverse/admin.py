"""Looks at and changes the word lists of a service while it runs, with the token of an administrator."""

from collections.abc import AsyncIterator

import grpc.aio

from weconverse._connecting import Connecting
from weconverse._names import assistant_name, entry_name
from weconverse.v1.admin_pb2 import (
    AddLexiconEntryRequest,
    LexiconChange,
    LexiconEntry,
    ListLexiconAuditRequest,
    ListLexiconEntriesRequest,
    ReloadLexiconRequest,
    ReloadLexiconResponse,
    RemoveLexiconEntryRequest,
    TestTextRequest,
    TestTextResponse,
)
from weconverse.v1.admin_pb2_grpc import AdminServiceStub


class _Stubs:
    """The service for administrators, on one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.admin = AdminServiceStub(channel)


class AdminClient(Connecting[_Stubs]):
    """Talks to the service for administrators.

    ::

        async with AdminClient("127.0.0.1:50051", token=token) as admin:
            await admin.add_entry("加薇信", tag="ads", action=LexiconEntry.BLOCK)
            async for entry in admin.list_entries(tag="ads"):
                print(entry.name, entry.word)

    The token is that of an administrator, which calls nothing else; that of a calling
    service is refused with :class:`weconverse.CallerNotAllowed`. A service without
    administrators answers :class:`weconverse.Unimplemented`.

    Made, used and closed like :class:`weconverse.ConversationClient`, with one difference:
    the channel repeats nothing by itself, so that no change is made twice by accident. Where
    the service says how long to wait, a call still waits and asks again within its deadline.
    """

    def _stubs(self, channel: grpc.aio.Channel) -> _Stubs:
        return _Stubs(channel)

    async def list_entries(
        self,
        *,
        tag: str = "",
        prefix: str = "",
        origin: LexiconEntry.Origin.ValueType = LexiconEntry.ORIGIN_UNSPECIFIED,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[LexiconEntry]:
        """Entries, asked for page by page: those of administrators first, then those of the files by their words.

        Args:
            tag: only those of this tag.
            prefix: only words that begin so.
            origin: only those that come from there.
            page_size: the most entries to ask for at once; 0 leaves it to the service.
            timeout: seconds for each page.
        """
        request = ListLexiconEntriesRequest(tag=tag, prefix=prefix, origin=origin, page_size=page_size)
        while True:
            page = await self._unary(self._connected().admin.ListLexiconEntries, request, timeout)
            for entry in page.entries:
                yield entry
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return

    async def test_text(
        self,
        text: str,
        direction: LexiconEntry.Direction.ValueType,
        *,
        assistant: str = "",
        timeout: float | None = None,
    ) -> TestTextResponse:
        """What the filter would make of a text, and why. The service does not keep it.

        Args:
            text: at most 20,000 characters.
            direction: ``LexiconEntry.INPUT`` for what people say, ``LexiconEntry.OUTPUT`` for what models say.
            assistant: whose policy decides, with or without ``assistants/``; empty selects the default.
            timeout: seconds for all tries together.
        """
        request = TestTextRequest(text=text, direction=direction, assistant=assistant_name(assistant))
        return await self._unary(self._connected().admin.TestText, request, timeout)

    async def add_entry(
        self,
        word: str,
        *,
        tag: str = "",
        level: int = 0,
        boundary: LexiconEntry.Boundary.ValueType = LexiconEntry.BOUNDARY_UNSPECIFIED,
        direction: LexiconEntry.Direction.ValueType = LexiconEntry.DIRECTION_UNSPECIFIED,
        action: LexiconEntry.Action.ValueType = LexiconEntry.ACTION_UNSPECIFIED,
        replacement: str = "",
        allowed: bool = False,
        timeout: float | None = None,
    ) -> LexiconEntry:
        """Adds an entry, or replaces the one that an administrator added for the same word. In force on return.

        Args:
            word: what to look for.
            tag: what kind of word it is; empty means ``default``.
            level: how grave it is, from 0 to 100; nothing is decided by it.
            boundary: where it counts; unspecified is what its script suggests.
            direction: whose words are meant; unspecified is those of both.
            action: what a hit leads to; unspecified leaves it to the policy.
            replacement: what stands in the place of a hit that is replaced.
            allowed: whether it is a word inside of which nothing is looked for.
            timeout: seconds for all tries together.
        """
        entry = LexiconEntry(
            word=word,
            tag=tag,
            level=level,
            boundary=boundary,
            direction=direction,
            action=action,
            replacement=replacement,
            allowed=allowed,
        )
        return await self._unary(self._connected().admin.AddLexiconEntry, AddLexiconEntryRequest(entry=entry), timeout)

    async def remove_entry(self, name: str, *, timeout: float | None = None) -> LexiconEntry | None:
        """Removes an added entry, withdraws the word of one in a file, or ends a withdrawal.

        Args:
            name: of the entry, with or without ``lexiconEntries/``.
            timeout: seconds for all tries together.

        Returns:
            The withdrawal, if the entry was one of a file.
        """
        request = RemoveLexiconEntryRequest(name=entry_name(name))
        response = await self._unary(self._connected().admin.RemoveLexiconEntry, request, timeout)
        return response.withdrawal if response.HasField("withdrawal") else None

    async def reload(self, *, timeout: float | None = None) -> ReloadLexiconResponse:
        """Has the files read anew.

        Raises:
            LexiconRefused: for a file that cannot be used; the lists that were in force stay.
        """
        return await self._unary(self._connected().admin.ReloadLexicon, ReloadLexiconRequest(), timeout)

    async def audit(self, *, page_size: int = 0, timeout: float | None = None) -> AsyncIterator[LexiconChange]:
        """What administrators changed, newest first, asked for page by page.

        Args:
            page_size: the most changes to ask for at once; 0 leaves it to the service.
            timeout: seconds for each page.
        """
        request = ListLexiconAuditRequest(page_size=page_size)
        while True:
            page = await self._unary(self._connected().admin.ListLexiconAudit, request, timeout)
            for change in page.changes:
                yield change
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return
