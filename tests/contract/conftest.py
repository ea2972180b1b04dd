"""What is there to be tested: one opener a backend."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from server.store.audit import AuditLog
from server.store.base import TurnStore
from server.store.sqlite import open_sqlite

OpenTurnStore = Callable[[str], AbstractAsyncContextManager[TurnStore]]
"""Opens the storage of that name; again, if it was open before."""


def _sqlite(folder: Path, name: str) -> AbstractAsyncContextManager[TurnStore]:
    return open_sqlite(folder / f"{name}.db", clock=lambda: 5000.0)


@pytest.fixture(params=["sqlite"])
def open_turn_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenTurnStore:
    return {"sqlite": partial(_sqlite, tmp_path)}[request.param]


@pytest.fixture
async def turn_store(open_turn_store: OpenTurnStore) -> AsyncIterator[TurnStore]:
    async with open_turn_store("turns") as store:
        yield store


OpenAuditLog = Callable[[str], AbstractAsyncContextManager[AuditLog]]
"""Opens the log of that name; again, if it was open before."""


@asynccontextmanager
async def _sqlite_audit(folder: Path, name: str) -> AsyncIterator[AuditLog]:
    async with open_sqlite(folder / f"{name}.db", clock=lambda: 5000.0) as store:
        yield store.audit


@pytest.fixture(params=["sqlite"])
def open_audit_log(request: pytest.FixtureRequest, tmp_path: Path) -> OpenAuditLog:
    return {"sqlite": partial(_sqlite_audit, tmp_path)}[request.param]
