"""A door that WeCom calls: one address for each account, checked on GET and used on POST."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Generic, Protocol, TypeVar

from aiohttp import web

from adapter.callbacks.gate import Gate, Rejected, Seal


class Called(Protocol):
    """What every door needs of an account."""

    @property
    def envelope(self) -> Seal:
        """Opens its callbacks."""
        ...


A = TypeVar("A", bound=Called)


class CalledDoor(ABC, Generic[A]):
    """Answers the callbacks of all accounts of one kind. Add :meth:`routes` to a web application."""

    def __init__(self, path: str, accounts: Mapping[str, A], gate: Gate) -> None:
        """Args: ``path`` has ``{account}`` in it."""
        self._path = path
        self._accounts = dict(accounts)
        self._gate = gate

    def routes(self) -> list[web.RouteDef]:
        """The two routes of the door."""
        return [web.get(self._path, self.check, allow_head=False), web.post(self._path, self.receive)]

    async def check(self, request: web.Request) -> web.Response:
        """Answers the address check."""

        async def verified() -> web.Response:
            return self._gate.verified(request, self._account(request).envelope)

        return await self._gate.answered(verified)

    async def receive(self, request: web.Request) -> web.Response:
        """Takes one callback."""
        return await self._gate.answered(lambda: self._received(request))

    @abstractmethod
    async def _received(self, request: web.Request) -> web.Response:
        """Opens a callback and does what it asks for. Raises as :meth:`Gate.opened`."""

    def _account(self, request: web.Request) -> A:
        account = self._accounts.get(request.match_info["account"])
        if account is None:
            raise Rejected(404, "account")
        return account
