"""Access tokens: who gets one, how long it holds, who is blocked. Pure but for the clock.

DOC 91039, and 45009 and 40001 of DOC 90313.
"""

import secrets

import msgspec

from simulator.corp import Corp
from simulator.journal import Kind
from simulator.rules import Refused
from simulator.settings import AppSettings
from simulator.windows import Remembered, Windows

_ADDRESSES = 1000


class _Token(msgspec.Struct):
    text: str
    agent_id: int
    until: float


class Tokens:
    """One valid token an application; asking again yields the same."""

    def __init__(self, corp: Corp) -> None:
        self._corp = corp
        self._valid: dict[int, _Token] = {}
        # An ended token is remembered for a while, to be called expired rather than unknown.
        self._ended: Remembered[str, int] = Remembered(1000)
        self._calls: Windows[int] = Windows(
            corp.rules.token_calls_per_minute, 60 * corp.rules.token_calls_per_minute, 1000
        )
        limit = corp.rules.wrong_secret_limit
        # One less than the limit fits: the wrong secret that no longer does is the one that blocks.
        self._wrong: Windows[str] = Windows(limit - 1, limit - 1, _ADDRESSES)
        self._blocked: Remembered[str, bool] = Remembered(_ADDRESSES)
        self.issued = 0

    def issue(self, corp_id: str, secret: str, address: str) -> tuple[str, int]:
        """The token of the application with this secret, and the seconds it still holds.

        Raises:
            Refused: 40013, 40001, or 45009 for a blocked address or too many calls.
        """
        now = self._corp.now
        if self._blocked.get(address, now):
            raise Refused(45009, f"api freq out of limit, wrong secret too often, from ip: {address}")
        if corp_id != self._corp.settings.corp_id:
            raise Refused(40013)
        app = self._app_of(secret)
        if app is None:
            self._count_wrong(address, now)
            raise Refused(40001)
        if not self._calls.admit(app.agent_id, now):
            raise Refused(45009)
        token = self._valid.get(app.agent_id)
        if token is None or token.until <= now:
            token = self._renew(app.agent_id, now)
        return token.text, max(1, int(token.until - now))

    def _app_of(self, secret: str) -> AppSettings | None:
        apps = self._corp.granted.values()
        return next(
            (app for app in apps if secrets.compare_digest(app.secret.reveal().encode(), secret.encode())), None
        )

    def _count_wrong(self, address: str, now: float) -> None:
        if not self._wrong.admit(address, now):
            self._blocked.put(address, True, now + self._corp.rules.wrong_secret_block_seconds)

    def _renew(self, agent_id: int, now: float) -> _Token:
        self._retire(agent_id)
        token = _Token(secrets.token_urlsafe(150), agent_id, now + self._corp.rules.token_seconds)
        self._valid[agent_id] = token
        self.issued += 1
        return token

    def _retire(self, agent_id: int) -> None:
        old = self._valid.pop(agent_id, None)
        if old is not None:
            self._ended.put(old.text, agent_id, self._corp.now + 86400)

    def end(self, agent_id: int) -> None:
        """Ends the token of one application, as a new secret does."""
        self._retire(agent_id)

    def app_of(self, token: str) -> AppSettings:
        """The application that a token belongs to.

        Raises:
            Refused: 41001, 40014 for an unknown token, ``rules.expired_token_code`` for an ended one.
        """
        if not token:
            raise Refused(41001)
        now = self._corp.now
        for held in self._valid.values():
            if secrets.compare_digest(held.text.encode(), token.encode()):
                if held.until <= now:
                    raise Refused(self._corp.rules.expired_token_code)
                return self._corp.granted[held.agent_id]
        raise Refused(40014 if self._ended.get(token, now) is None else self._corp.rules.expired_token_code)

    def expire(self) -> None:
        """Ends every token now, as the platform may at any time."""
        for agent_id in list(self._valid):
            self._retire(agent_id)
        self._corp.journal.note(Kind.FAULT, detail="token_expired")
