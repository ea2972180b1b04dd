# ruff: noqa: N802  # RPCs are named as in the contract
"""``AdminService`` on the wire: check, convert, call, convert, return.

Who calls is an administrator: the interceptor of identities lets nobody else come here.
"""

from typing import Any, TypeAlias

import grpc

from server.filter.base import LexiconAdmin
from server.rpc import admin_checks, admin_convert
from server.rpc.call import current
from weconverse.v1 import admin_pb2 as pb
from weconverse.v1 import admin_pb2_grpc

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class AdminServicer(admin_pb2_grpc.AdminServiceServicer):
    """Answers ``weconverse.v1.AdminService`` from a :class:`LexiconAdmin`."""

    def __init__(self, lexicon: LexiconAdmin) -> None:
        self._lexicon = lexicon

    async def ListLexiconEntries(
        self, request: pb.ListLexiconEntriesRequest, context: Context
    ) -> pb.ListLexiconEntriesResponse:
        """Lists entries, a page at a time."""
        admin_checks.list_entries(request)
        size = admin_convert.page_size(request.page_size)
        page = await self._lexicon.list_entries(admin_convert.query(request), size, request.page_token)
        return admin_convert.entries(page)

    async def TestText(self, request: pb.TestTextRequest, context: Context) -> pb.TestTextResponse:
        """Says what the filter would make of a text, and why."""
        admin_checks.try_text(request)
        assistant = request.assistant.removeprefix("assistants/") or "default"
        direction = admin_convert.direction(request.direction)
        return admin_convert.tried(await self._lexicon.try_text(request.text, assistant, direction))

    async def AddLexiconEntry(self, request: pb.AddLexiconEntryRequest, context: Context) -> pb.LexiconEntry:
        """Adds an entry, or replaces the one that was added for the same word."""
        admin_checks.add(request)
        new = admin_convert.new_entry(request.entry)
        return admin_convert.entry(await self._lexicon.add(new, current.get().caller))

    async def RemoveLexiconEntry(
        self, request: pb.RemoveLexiconEntryRequest, context: Context
    ) -> pb.RemoveLexiconEntryResponse:
        """Removes an entry that was added, or withdraws a word from the files."""
        admin_checks.remove(request)
        entry_id = request.name.removeprefix("lexiconEntries/")
        withdrawal = await self._lexicon.remove(entry_id, current.get().caller)
        return pb.RemoveLexiconEntryResponse(withdrawal=None if withdrawal is None else admin_convert.entry(withdrawal))

    async def ReloadLexicon(self, request: pb.ReloadLexiconRequest, context: Context) -> pb.ReloadLexiconResponse:
        """Reads the files anew."""
        return admin_convert.loaded(await self._lexicon.reload(current.get().caller))

    async def ListLexiconAudit(
        self, request: pb.ListLexiconAuditRequest, context: Context
    ) -> pb.ListLexiconAuditResponse:
        """Lists what administrators changed, newest first."""
        admin_checks.list_audit(request)
        size = admin_convert.page_size(request.page_size)
        return admin_convert.audit(await self._lexicon.changes(size, request.page_token))
