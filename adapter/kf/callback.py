"""Door 4: the callbacks of customer service (DOC 94670), at ``/wecom/kf/{account}``.

They hold no content: a callback says that an account has something new. So it is
acknowledged at once. Nothing is lost when the program dies then, because what there is
stays with WeCom until it was fetched and handled.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from aiohttp import web

from adapter.callbacks.door import CalledDoor
from adapter.callbacks.gate import Gate, Seal
from adapter.kf.sync import KfSync
from adapter.kf.wire import hint_of
from adapter.metrics import Metrics
from adapter.wire import AppMessage, parse_message

PATH: Final = "/wecom/kf/{account}"


class KfAccount(NamedTuple):
    """What the door needs of one application."""

    envelope: Seal
    sync: KfSync

    def hears(self, message: AppMessage) -> bool:
        """Whether an event is about customer service; the account then looks for what is new."""
        hint = hint_of(message)
        if hint is not None:
            self.sync.hint(hint)
        elif message.event == "kf_account_auth_change":
            self.sync.look_again()
        else:
            return False
        return True


class KfDoor(CalledDoor[KfAccount]):
    """Answers the callbacks of all applications. Add :meth:`routes` to a web application."""

    def __init__(self, accounts: Mapping[str, KfAccount], gate: Gate, metrics: Metrics) -> None:
        super().__init__(PATH, accounts, gate)
        self._hints = metrics.messages.labels("kf", "hint")
        self._silence = metrics.messages.labels("kf", "silence")

    async def _received(self, request: web.Request) -> web.Response:
        account = self._account(request)
        opened = await self._gate.opened(request, account.envelope)
        heard = account.hears(parse_message(opened.plain))
        (self._hints if heard else self._silence).inc()
        return web.Response()
