"""Every promise of ``server/store/audit.py``, asked of each backend through the protocol alone."""

import asyncio
from typing import Any

import msgspec
import pytest

from server.errors import InvalidField, StoreUnavailable
from server.store.audit import AuditLog, AuditRow, Kept
from tests.contract.conftest import OpenAuditLog


def row(kind: str = "added", **more: Any) -> AuditRow:
    fields: dict[str, Any] = {"time": 100.5, "admin": "王", "entry": "added:1", "tag": "ads", "word": "加微信"}
    return AuditRow(kind=kind, **{**fields, **more})


async def rows(log: AuditLog, page_size: int = 100, page_token: str = "") -> list[AuditRow]:
    return list((await log.page(page_size, page_token)).rows)


async def test_a_change_is_a_row_and_what_is_in_force(open_audit_log: OpenAuditLog) -> None:
    async with open_audit_log("a") as log:
        assert (await rows(log), await log.kept()) == ([], ())
        added = row(action="block", after='{"word": "加微信"}')
        assert await log.append(added, keep=Kept("added:1", '{"word": "加微信"}')) == 1
        reloaded = AuditRow(time=101.0, admin="王", kind="reloaded")
        assert await log.append(reloaded) == 2
        changed = row("replaced", before='{"word": "加微信"}', after="{}")
        assert await log.append(changed, keep=Kept("added:1", "{}"), drop=["added:1"]) == 3
        expected = [
            msgspec.structs.replace(each, sequence=sequence)
            for sequence, each in ((3, changed), (2, reloaded), (1, added))
        ]
    async with open_audit_log("a") as log:
        assert (await rows(log), await log.kept()) == (expected, (Kept("added:1", "{}"),))


async def test_what_is_dropped_is_in_force_no_more(open_audit_log: OpenAuditLog) -> None:
    async with open_audit_log("a") as log:
        for number in (2, 1, 3):
            await log.append(row(entry=f"added:{number}"), keep=Kept(f"added:{number}", str(number)))
        await log.append(row("removed"), drop=["added:2", "never there"])
        await log.append(row("removed"), keep=Kept("withdrawn:1", "w"), drop=["ads.csv:12"])
        kept = (Kept("added:1", "1"), Kept("added:3", "3"), Kept("withdrawn:1", "w"))
        assert await log.kept() == kept
    async with open_audit_log("a") as log:
        assert await log.kept() == kept


async def test_pages_are_whole_and_newest_first(open_audit_log: OpenAuditLog) -> None:
    async with open_audit_log("a") as log:
        for number in range(7):
            await log.append(row(entry=str(number)))
        seen, token = [], ""
        while True:
            page = await log.page(3, token)
            seen.append([each.entry for each in page.rows])
            await log.append(row(entry="later"))  # does not move what follows
            token = page.next_page_token
            if not token:
                break
        assert seen == [["6", "5", "4"], ["3", "2", "1"], ["0"]]
        assert (await log.page(10, "")).next_page_token == ""


@pytest.mark.parametrize("token", ["x", "AAAA", "é", "A" * 20])
async def test_an_invented_token_is_refused(open_audit_log: OpenAuditLog, token: str) -> None:
    async with open_audit_log("a") as log:
        with pytest.raises(InvalidField) as caught:
            await log.page(3, token)
        assert caught.value.field == "page_token"


async def test_many_at_once_keep_their_order(open_audit_log: OpenAuditLog) -> None:
    async with open_audit_log("a") as log:
        sequences = await asyncio.gather(*(log.append(row(entry=str(number))) for number in range(50)))
        assert sequences == list(range(1, 51))
        assert [each.entry for each in await rows(log)] == [str(number) for number in reversed(range(50))]


async def test_a_closed_log_says_so(open_audit_log: OpenAuditLog) -> None:
    async with open_audit_log("a") as log:
        pass
    for call in (log.append(row()), log.kept(), log.page(1, "")):
        with pytest.raises(StoreUnavailable):
            await call
