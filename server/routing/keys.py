"""The keys of a model: which one the next call takes, and which are out of use.

What a backend says against a key (it is wrong) keeps that key out of use; what it says
against an account (its rate, its money) keeps the whole quota group out, because another
key of the same account would hear the same.
"""

import hashlib
import math
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

import structlog

from program.secret import Secret
from server.budget import Budget
from server.llm.base import ErrorClass, ProviderError
from server.llm.failure_lines import log_failure
from server.routing.rests import Rest
from server.settings import RoutingSettings

_log = structlog.get_logger()

LONGEST_RATE_REST_SECONDS: Final = 60.0
"""Where the doubling of rests after rate limits without a hint ends."""

_TIMES_AS_LONG: Final = 6
"""How far the rest of an account without money doubles."""


class QuotaGroup:
    """An account whose limits its keys share, whatever models they are for."""

    __slots__ = ("money", "name", "rate")

    def __init__(self, name: str, settings: RoutingSettings) -> None:
        self.name = name
        self.rate = Rest(settings.rate_limit_seconds, LONGEST_RATE_REST_SECONDS)
        quota = settings.quota_minutes * 60
        self.money = Rest(quota, quota * _TIMES_AS_LONG)

    def rests(self, now: float) -> bool:
        """Whether it is better left alone."""
        return self.rate.until > now or self.money.until > now


class Key:
    """A key. It prints as its place in the settings and a short digest; ``secret`` never prints."""

    __slots__ = ("alerted", "balance", "group", "name", "refused", "secret", "weight")

    def __init__(self, place: str, secret: Secret, weight: float, group: QuotaGroup, refused: Rest) -> None:
        self.name = f"{place}#{hashlib.sha256(secret.reveal().encode()).hexdigest()[:8]}" if secret else place
        self.secret = secret
        self.weight = weight
        self.group = group
        self.refused = refused
        self.balance = 0.0
        """What smooth weighted choice owes it."""
        self.alerted = False
        """Whether its refusal was reported; until it works again, or is replaced."""

    def __repr__(self) -> str:
        return f"Key({self.name})"

    def succeeded(self, called_at: float) -> None:
        """A call with it was answered."""
        self.alerted = False
        self.refused.end(called_at)
        self.group.rate.end(called_at)
        self.group.money.end(called_at)


class KeySource:
    """Where keys come from: one entry of the settings, which is a file or a fixed text."""

    __slots__ = ("keys", "max_age_days", "path", "place", "weight")

    def __init__(self, place: str, path: str, weight: float, max_age_days: float) -> None:
        """Args: how it is named in logs, such as ``keys[0]``; the file, or nothing; the age of 0 is any."""
        self.place = place
        self.path = path
        self.weight = weight
        self.max_age_days = max_age_days
        self.keys: tuple[Key, ...] = ()


class KeyPool:
    """All keys of one model. A model that wants none has a single empty one."""

    def __init__(self, model: str, settings: RoutingSettings, usable_changed: Callable[[str, int], None]) -> None:
        """Args: told the number of usable keys whenever it may have changed."""
        self._model = model
        self._refused_seconds = settings.refused_key_minutes * 60
        self._usable_changed = usable_changed
        self._sources: list[tuple[KeySource, QuotaGroup]] = []
        self._keys: tuple[Key, ...] = ()
        self.look_again: Callable[[Budget], Awaitable[None]] | None = None
        """Rereads the files of this pool at once; ``None`` where there are none."""

    def add_source(self, source: KeySource, group: QuotaGroup, texts: Sequence[str]) -> None:
        """Takes the keys of an entry of the settings."""
        self._sources.append((source, group))
        self._put(source, group, texts)

    def replace(self, source: KeySource, texts: Sequence[str], now: float, *, forgive: bool) -> None:
        """A source has other keys now. Those that it had before keep their state; calls under way keep their key.

        Args:
            forgive: whether refusals end, too: somebody has changed something about them.
        """
        group = next(group for known, group in self._sources if known is source)
        self._put(source, group, texts)
        if forgive:
            group.money.clear()
            for key in source.keys:
                key.refused.clear()
        self._tell(now)

    def _put(self, source: KeySource, group: QuotaGroup, texts: Sequence[str]) -> None:
        known = {key.secret.reveal(): key for key in source.keys}
        source.keys = tuple(
            known.get(text) or self._key(f"{source.place}.{line}", text, source.weight, group)
            for line, text in enumerate(dict.fromkeys(texts), 1)
        )
        self._keys = tuple(key for each, _ in self._sources for key in each.keys)

    def _key(self, place: str, text: str, weight: float, group: QuotaGroup) -> Key:
        return Key(place, Secret(text), weight, group, Rest(self._refused_seconds, self._refused_seconds))

    @property
    def keys(self) -> tuple[Key, ...]:
        """All of them, in the order of the settings."""
        return self._keys

    # --- choosing -----------------------------------------------------------------------------

    def choose(self, now: float, closed: Collection[str] = ()) -> Key | None:
        """The next key by weight among those that can be used, or ``None``.

        Smooth weighted choice: with weights 5 and 1, the rare key comes once within any
        six calls, not after a row of five of each.

        Args:
            closed: quota groups that this call must not use.
        """
        keys = self._keys
        if len(keys) == 1:
            return keys[0] if _usable(keys[0], now, closed) else None
        chosen: Key | None = None
        total = 0.0
        for key in keys:
            if _usable(key, now, closed):
                key.balance += key.weight
                total += key.weight
                if chosen is None or key.balance > chosen.balance:
                    chosen = key
        if chosen is not None:
            chosen.balance -= total
        return chosen

    def wait(self, now: float, closed: Collection[str] = ()) -> float:
        """Seconds until a key can be used: 0 if one can, infinite if time alone will not do it soon."""
        soonest = math.inf
        for key in self._keys:
            if _usable(key, now, closed):
                return 0.0
            if key.refused.until <= now and key.group.money.until <= now and key.group.name not in closed:
                soonest = min(soonest, key.group.rate.remaining(now))
        return soonest

    def probe(self, now: float, closed: Collection[str] = ()) -> Key | None:
        """A key that is out of use, to find out whether it still is; ``None`` if that was tried lately."""
        for key in self._keys:
            if key.group.name in closed or key.group.rate.until > now:
                continue
            for rest in (key.refused, key.group.money):
                if rest.until > now and rest.takes_probe(now):
                    return key
        return None

    def usable(self, now: float) -> int:
        """How many keys can be used."""
        return sum(_usable(key, now, ()) for key in self._keys)

    # --- learning -----------------------------------------------------------------------------

    def failed(self, key: Key, error: ProviderError, now: float, called_at: float) -> bool:
        """Takes what an error says against a key or its account; gives whether it says any such thing."""
        match error.kind:
            case ErrorClass.AUTH:
                key.refused.begin(now, called_at)
                self._alert(key, error)
            case ErrorClass.QUOTA:
                # Without the hint: money does not come back by the second.
                if key.group.money.begin(now, called_at):
                    _log.error("model_quota_spent", model=self._model, key=key.name, quota_group=key.group.name)
            case ErrorClass.RATE_LIMIT:
                key.group.rate.begin(now, called_at, error.retry_after)
            case _:
                return False
        self._tell(now)
        return True

    def refusal(self, now: float) -> ProviderError:
        """Why no key can be used."""
        groups = [key.group for key in self._keys if key.refused.until <= now]
        if not groups:
            return ProviderError(ErrorClass.AUTH, "not called, all its keys are refused", model=self._model)
        soonest = min(group.rate.remaining(now) for group in groups)
        if all(group.money.until > now for group in groups):
            wait = min(group.money.remaining(now) for group in groups)
            detail = "not called, its accounts have no money or plan left"
            return ProviderError(ErrorClass.QUOTA, detail, model=self._model, retry_after=wait)
        detail = "not called, its accounts rest after a rate limit"
        return ProviderError(ErrorClass.RATE_LIMIT, detail, model=self._model, retry_after=soonest)

    def _alert(self, key: Key, error: ProviderError) -> None:
        if key.alerted or key not in self._keys:  # a key that was taken out meanwhile is nobody's concern
            return
        key.alerted = True
        log_failure(_log.error, "model_key_refused", error, model=self._model, key=key.name)

    def _tell(self, now: float) -> None:
        self._usable_changed(self._model, self.usable(now))


def _usable(key: Key, now: float, closed: Collection[str]) -> bool:
    group = key.group
    return (
        key.refused.until <= now and group.rate.until <= now and group.money.until <= now and group.name not in closed
    )
