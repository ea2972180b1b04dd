"""The access token of one application: one request for it at a time, and never a loop.

Asking often is blocked by WeCom, and a wrong secret asked for repeatedly blocks the whole
address for an hour (DOC 90313, 45009), so failures are remembered here.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import structlog

from adapter.backoff import Backoff
from adapter.rest.errors import CredentialRefused, WeComError

log = structlog.get_logger()

_EARLY: Final = 0.8
"""The share of its life after which a token is renewed in the background."""
_EARLY_GAP: Final = 30.0
"""WeCom hands out the same token while it lives, so near its end early renewals would crowd."""
RETRY_SECONDS: Final = 15.0
"""When to come back after a refused secret: an operator may have replaced it meanwhile."""
_FRUITLESS: Final = 3
"""Fresh tokens in a row that were refused too; then the token is not what is wrong."""


class FreshToken(msgspec.Struct, frozen=True):
    """A token as WeCom gave it; ``life`` in seconds."""

    text: str
    life: float

    def __repr__(self) -> str:
        return f"FreshToken(life={self.life})"


class AccessToken:
    """Holds the token of one application and renews it.

    Close it with :meth:`aclose`: a renewal may be under way.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[FreshToken]],
        *,
        clock: Callable[[], float] = time.monotonic,
        wrong_secret_pause: Backoff | None = None,
        changes: Callable[[], int] = lambda: 0,
    ) -> None:
        """Args: ``fetch`` asks WeCom once and raises :class:`WeComError`; ``clock`` gives seconds that only grow;
        ``changes`` counts how often the secret was replaced: a new one is tried at once, whatever the old one met.
        """
        self._fetch = fetch
        self._clock = clock
        self._changes = changes
        self._refused_at_change = 0
        self._wrong_secret_pause = wrong_secret_pause or Backoff(120.0, 1800.0)
        self._token = ""
        self._early_at = 0.0
        self._dead_at = 0.0
        self._fruitless = 0
        self._closed_until = 0.0
        self._refusal: CredentialRefused | None = None
        self._flight: asyncio.Task[str] | None = None

    async def current(self) -> str:
        """A token that should work.

        Raises:
            CredentialRefused: at once, while a refused secret is not tried again.
            WeComError: WeCom gave none.
        """
        now = self._clock()
        if self._token and now < self._dead_at:
            if now >= self._early_at and self._flight is None:
                self._early_at = now + _EARLY_GAP
                self._take_off().add_done_callback(_log_early_failure)
            return self._token
        return await self._renew()

    async def after_refusal(self, refused: str, call: str) -> str:
        """Another token than ``refused``, which WeCom did not accept for ``call``. Raises as :meth:`current` does."""
        if self._token not in ("", refused):
            return self._token
        if self._flight is None:
            self._fruitless += 1
            if self._fruitless > _FRUITLESS:
                self._fruitless = 0
                self._shut(CredentialRefused(40014, call))
        self._token = ""
        return await self._renew()

    def worked(self) -> None:
        """Tells that WeCom accepted the token."""
        self._fruitless = 0

    async def aclose(self) -> None:
        """Ends a renewal under way, and waits for that."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.gather(self._flight, return_exceptions=True)

    async def _renew(self) -> str:
        if self._refusal is not None and self._refused_at_change == self._changes():
            left = self._closed_until - self._clock()
            if left > 0:
                # Whoever comes back sooner than that costs WeCom nothing, and finds a new secret if there is one.
                raise CredentialRefused(self._refusal.code, self._refusal.call, min(left, RETRY_SECONDS))
        # Shielded: a caller that gives up must not take the token away from the others who wait.
        return await asyncio.shield(self._flight or self._take_off())

    def _take_off(self) -> asyncio.Task[str]:
        flight = asyncio.create_task(self._refresh(), name="access token")
        self._flight = flight
        flight.add_done_callback(self._landed)
        return flight

    def _landed(self, flight: asyncio.Task[str]) -> None:
        self._flight = None
        if not flight.cancelled():
            flight.exception()  # marks it as seen: whoever waited has it, and an early renewal has nobody who waits

    async def _refresh(self) -> str:
        changes = self._changes()
        try:
            fresh = await self._fetch()
        except CredentialRefused as refusal:
            self._shut(refusal)
            # What was refused is the secret as it was asked with: it may have been replaced meanwhile.
            self._refused_at_change = changes
            raise
        now = self._clock()
        self._token = fresh.text
        self._early_at = now + max(_EARLY * fresh.life, min(_EARLY_GAP, fresh.life))
        self._dead_at = now + fresh.life
        self._refusal = None
        self._wrong_secret_pause.reset()
        return fresh.text

    def _shut(self, refusal: CredentialRefused) -> None:
        pause = self._wrong_secret_pause.pause()
        self._refusal = refusal
        self._refused_at_change = self._changes()
        self._closed_until = self._clock() + pause
        log.error("wecom_credentials_refused", code=refusal.code, call=refusal.call, next_try_in=round(pause))


def _log_early_failure(flight: "asyncio.Task[str]") -> None:
    if not flight.cancelled() and isinstance(flight.exception(), WeComError):
        log.warning("early_renewal_failed", reason=str(flight.exception()))
