"""The requests of customer service (DOC 94670, 96427, 94669) that one application makes."""

from typing import Any, Final

import msgspec

from adapter.kf.wire import NEW, PAGE_ITEMS, KfItem, Receiver, read_item, sync_request
from adapter.rest.api import Answer, WeComApi

_PAGE_OF_ACCOUNTS: Final = 100
_MOST_ACCOUNTS: Final = 5000
"""More than a company can have; ends the asking whatever the answers are."""


class _SyncAnswer(Answer):
    """Of ``kf/sync_msg``."""

    next_cursor: str = ""
    has_more: int = 0
    msg_list: list[dict[str, Any]] = msgspec.field(default_factory=list)


class _StateAnswer(Answer):
    """Of ``kf/service_state/get``."""

    service_state: int = NEW
    servicer_userid: str = ""


class _Account(msgspec.Struct):
    open_kfid: str = ""


class _AccountsAnswer(Answer):
    """Of ``kf/account/list``."""

    account_list: list[_Account] = msgspec.field(default_factory=list)


class Page(msgspec.Struct, frozen=True):
    """One answer of ``kf/sync_msg``."""

    items: list[KfItem]
    """May be empty although there is more."""
    next_cursor: str
    has_more: bool


class KfApi:
    """Customer service, seen from one application. Every method raises ``WeComError``."""

    def __init__(self, api: WeComApi) -> None:
        self._api = api

    async def sync(self, open_kfid: str, cursor: str, token: str, most: int = PAGE_ITEMS) -> Page:
        """What an account has behind a cursor, at most ``most`` items (1 to 1,000)."""
        body = sync_request(open_kfid, cursor, token, most)
        answer = await self._api.call("kf/sync_msg", body, _SyncAnswer, repeatable=True)
        items = [read_item(raw, open_kfid) for raw in answer.msg_list]
        return Page(items, answer.next_cursor, bool(answer.has_more))

    async def send(self, message: bytes) -> None:
        """Sends a message. When its fate is unknown it is not repeated here: only the caller knows what that costs."""
        await self._api.send("kf/send_msg", message, repeatable=False)

    async def send_on_event(self, message: bytes) -> None:
        """Answers an event, under its code. A code works once, so repeating is harmless."""
        await self._api.call("kf/send_msg_on_event", message, Answer, repeatable=True)

    async def state(self, to: Receiver) -> int:
        """Who has the customer now; see the states of :mod:`adapter.kf.wire`."""
        answer = await self._api.call("kf/service_state/get", _session(to), _StateAnswer, repeatable=True)
        return answer.service_state

    async def give(self, to: Receiver, state: int, servicer: str = "") -> None:
        """Gives the customer to the pool or to a person. Harmless to repeat."""
        body = _session(to, state, servicer)
        await self._api.call("kf/service_state/trans", body, Answer, repeatable=True)

    async def accounts(self) -> list[str]:
        """The ``open_kfid`` of every account that the application may serve."""
        found: list[str] = []
        while len(found) < _MOST_ACCOUNTS:
            body = msgspec.json.encode({"offset": len(found), "limit": _PAGE_OF_ACCOUNTS})
            answer = await self._api.call("kf/account/list", body, _AccountsAnswer, repeatable=True)
            found += [account.open_kfid for account in answer.account_list if account.open_kfid]
            if len(answer.account_list) < _PAGE_OF_ACCOUNTS:
                break
        return found


def _session(to: Receiver, state: int | None = None, servicer: str = "") -> bytes:
    body: dict[str, object] = {"open_kfid": to.open_kfid, "external_userid": to.external_userid}
    if state is not None:
        body["service_state"] = state
    if servicer:
        body["servicer_userid"] = servicer
    return msgspec.json.encode(body)
