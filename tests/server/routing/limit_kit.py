"""Limits with a clock that stands still, and whoever hears of them."""

from typing import Any

import msgspec

from server.budget import Budget
from server.routing.base import CallFacts, TurnPart, Unobserved
from server.routing.counting import CountedHere
from server.routing.limits import Limits
from server.settings import LimitSettings, ModelLimitSettings, ModelSettings, PriceSettings, SharedLimitSettings

DAY = 86400.0
PRICE = PriceSettings(input=1.0, output=2.0)


def of_a_model(limits: LimitSettings) -> ModelLimitSettings:
    """The same limits, with none by default."""
    return ModelLimitSettings(**msgspec.structs.asdict(limits))


class Heard(Unobserved):
    """Remembers who ran into a limit."""

    def __init__(self) -> None:
        self.limits: list[tuple[str, bool]] = []

    def limited(self, scope: str, enforced: bool) -> None:
        self.limits.append((scope, enforced))


class Bench:
    """One limiter and the time around it."""

    def __init__(
        self,
        model: LimitSettings | None = None,
        shared: SharedLimitSettings | None = None,
        *,
        price: PriceSettings | None = None,
        record: Any = None,
    ) -> None:
        self.now = 1000.0
        self.wall = 10 * DAY
        self.heard = Heard()
        models = {name: ModelSettings(limits=of_a_model(model or LimitSettings()), price=price) for name in ("m", "n")}
        state = CountedHere(record, clock=lambda: self.now, wall_clock=lambda: self.wall)
        self.limits = Limits(models, shared or SharedLimitSettings(), state, self.heard, clock=lambda: self.now)

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds

    def admitted(self, budget: float = 60.0, **facts: Any) -> Any:
        return self.limits.admitted(facts_of(**facts), Budget(budget))


def facts_of(
    model: str = "m",
    group: str = "",
    person: str = "",
    caller: str = "",
    read: int = 10,
    write: int = 20,
    part: TurnPart = TurnPart.FIRST,
) -> CallFacts:
    return CallFacts(model, group or f"models.{model}", person, caller, read, write, part)
