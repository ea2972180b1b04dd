"""Settings of this room that are each well formed and cannot work together. Pure."""

from collections.abc import Iterator

from server.settings import ModelSettings, Settings


def check_spending(settings: Settings) -> None:
    """A cap on spending is a promise only if what is spent is known.

    Raises:
        ValueError: for one over a model without a price. The message begins with the cap's field.
    """
    for field, names in _caps(settings):
        for name in names:
            model = settings.models[name]
            if model.price is None and model.protocol != "scripted":
                raise ValueError(
                    f"{field}.spending_per_day: needs the price of every model that it is over; set "
                    f"models.{name}.price, or models.{name}.price = {{}} if it costs nothing"
                )


def _caps(settings: Settings) -> Iterator[tuple[str, list[str]]]:
    """The fields of caps, each with the models that it is over."""
    shared, every = settings.limits, list(settings.models)
    for scope in ("person", "caller", "total"):
        if getattr(shared, scope).spending_per_day:
            yield f"limits.{scope}", every
    for name, limits in shared.callers.items():
        if limits.spending_per_day:
            yield f"limits.callers.{name}", every
    for group, limits in shared.quota_groups.items():
        if limits.spending_per_day:
            names = [name for name, model in settings.models.items() if group in quota_groups_of(name, model)]
            yield f"limits.quota_groups.{group}", names
    for name, model in settings.models.items():
        if model.limits.spending_per_day:
            yield f"models.{name}.limits", [name]


def quota_groups_of(name: str, model: ModelSettings) -> set[str]:
    """The accounts that calls of a model are counted for."""
    return {key.quota_group or f"models.{name}" for key in model.keys} or {f"models.{name}"}
