"""Door 1: the callbacks of self-built applications (DOC 90238), at ``/wecom/app/{account}``."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from aiohttp import web

from adapter.gate import Gate, Rejected, Seal
from adapter.metrics import Metrics
from adapter.taking import Submit, Taking
from adapter.translate import Incoming, from_app_message
from adapter.wire import parse_message

PATH: Final = "/wecom/app/{account}"


class AppAccount(NamedTuple):
    """What the door needs of one application."""

    envelope: Seal
    submit: Submit


class AppDoor:
    """Answers the callbacks of all applications. Add :meth:`routes` to a web application."""

    def __init__(
        self,
        accounts: Mapping[str, AppAccount],
        gate: Gate,
        metrics: Metrics,
        *,
        submit_seconds: float = 3.5,
        pseudonym_key: bytes = b"",
    ) -> None:
        """Args: ``pseudonym_key`` as for ``translate.from_app_message``."""
        self._accounts = dict(accounts)
        self._gate = gate
        self._taking = Taking(metrics, door="app", submit_seconds=submit_seconds)
        self._silence = metrics.messages.labels("app", "silence")
        self._pseudonym_key = pseudonym_key

    def routes(self) -> list[web.RouteDef]:
        """The two routes of the door."""
        return [web.get(PATH, self.check, allow_head=False), web.post(PATH, self.receive)]

    async def check(self, request: web.Request) -> web.Response:
        """Answers the address check."""

        async def verified() -> web.Response:
            return self._gate.verified(request, self._account(request).envelope)

        return await self._gate.answered(verified)

    async def receive(self, request: web.Request) -> web.Response:
        """Takes one message or event."""
        return await self._gate.answered(lambda: self._received(request))

    async def _received(self, request: web.Request) -> web.Response:
        account = self._account(request)
        opened = await self._gate.opened(request, account.envelope)
        message = parse_message(opened.plain)
        meaning = from_app_message(request.match_info["account"], message, key=self._pseudonym_key)
        if isinstance(meaning, Incoming):
            await self._taking.take(account.submit, meaning)
        else:
            self._silence.inc()
        return web.Response()

    def _account(self, request: web.Request) -> AppAccount:
        account = self._accounts.get(request.match_info["account"])
        if account is None:
            raise Rejected(404, "account")
        return account
