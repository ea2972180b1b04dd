"""Who may use an account, and which assistant they get: the rules of the settings, asked in their order."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from adapter.access.directory import Memberships, NotKnown
from adapter.metrics import Metrics
from adapter.settings import AccessRule

UNDECIDED: Final = "暂时无法确认您的权限，请稍后再试。"
"""When nobody could say in time whether a person may."""


_DECIDE_SECONDS: Final = 2.5
"""WeCom waits for five, and something has to be done with the decision."""


class Allowed(NamedTuple):
    """The person may."""

    assistant: str
    """Who answers them."""


class Refused(NamedTuple):
    """The person may not."""

    sentence: str
    """What they are told."""


class Unknown(NamedTuple):
    """Nobody can say now; asking again later may help."""

    sentence: str
    """What they are told when that has taken too long."""


Decision = Allowed | Refused | Unknown


class Access:
    """The rules of one account."""

    def __init__(
        self,
        rules: Sequence[AccessRule],
        memberships: Memberships | None,
        metrics: Metrics,
        *,
        account: str,
        assistant: str,
        refusal: str,
    ) -> None:
        """Args: without ``rules`` everybody may; ``memberships`` is needed for departments and tags alone."""
        self._rules = [_Rule(rule, memberships) for rule in rules]
        self._counted = {
            kind: metrics.access.labels(account, kind.__name__.lower()) for kind in (Allowed, Refused, Unknown)
        }
        self._assistant = assistant
        self._refusal = refusal

    async def decide(self, user: str, seconds: float = _DECIDE_SECONDS) -> Decision:
        """What the first rule says that the person is in; ``Unknown`` when that takes longer than ``seconds``.

        Where nobody can say whether the person is in a rule, the rules after it are not
        asked: an earlier one may name another assistant.
        """
        if not self._rules:
            return Allowed(self._assistant)
        decision: Decision
        try:
            async with asyncio.timeout(seconds):
                decision = await self._decided(user)
        except TimeoutError:
            decision = Unknown(UNDECIDED)
        self._counted[type(decision)].inc()
        return decision

    async def _decided(self, user: str) -> Decision:
        for rule in self._rules:
            try:
                if await rule.has(user):
                    return Allowed(rule.assistant or self._assistant)
            except NotKnown:
                return Unknown(UNDECIDED)
        return Refused(self._refusal)


class _Rule:
    """One rule, ready to be asked."""

    def __init__(self, rule: AccessRule, memberships: Memberships | None) -> None:
        self.assistant = rule.assistant
        self._everyone = rule.everyone
        self._members = frozenset(user.lower() for user in rule.members)
        self._departments = frozenset(rule.departments)
        self._tags = rule.tags
        self._memberships = memberships

    async def has(self, user: str) -> bool:
        """Whether the person is in it. Raises :class:`NotKnown` when nothing says yes and something cannot say."""
        if self._everyone or user.lower() in self._members:
            return True
        if self._memberships is None:
            return False
        return await _any(self._questions(user, self._memberships))

    def _questions(self, user: str, memberships: Memberships) -> "list[Callable[[], Awaitable[bool]]]":
        async def in_department() -> bool:
            return not self._departments.isdisjoint(await memberships.departments(user))

        async def has_tag(tag: int) -> bool:
            tagged = await memberships.tagged(tag)
            if user.lower() in tagged.members:
                return True
            return bool(tagged.departments) and not tagged.departments.isdisjoint(await memberships.departments(user))

        questions: list[Callable[[], Awaitable[bool]]] = [in_department] if self._departments else []
        return questions + [lambda tag=tag: has_tag(tag) for tag in self._tags]


async def _any(questions: "Sequence[Callable[[], Awaitable[bool]]]") -> bool:
    """Whether one of them says yes; what cannot say counts only when none does."""
    not_known: NotKnown | None = None
    for question in questions:
        try:
            if await question():
                return True
        except NotKnown as error:
            not_known = error
    if not_known is not None:
        raise not_known
    return False
