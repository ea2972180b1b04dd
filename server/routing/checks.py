"""Settings of this room that are each well formed and cannot work together. Pure."""

from collections.abc import Iterator

from server.routing.key_entries import check_keys
from server.routing.rules import compile_intents
from server.settings import AssistantSettings, ModelSettings, Settings


def check_routing(settings: Settings) -> None:
    """Checks keys, intents and limits against one another.

    Raises:
        ValueError: for the first thing that cannot work. The message begins with the field.
    """
    for name, model in settings.models.items():
        check_keys(name, model)
    for name, assistant in settings.assistants.items():
        _check_intents(name, assistant)
    _check_names(settings)
    _check_spending(settings)


def _check_intents(name: str, assistant: AssistantSettings) -> None:
    compile_intents(name, assistant.intents)
    if assistant.classifier.model and not any(intent.description for intent in assistant.intents.values()):
        raise ValueError(
            f"assistants.{name}.classifier.model: has nothing to choose, because no intent of the assistant has a "
            "`description`; give one to each that it may choose, or name no classifier"
        )


def _check_names(settings: Settings) -> None:
    """A limit of what does not exist is mistyped, and would limit nothing."""
    groups = {group for name, model in settings.models.items() for group in quota_groups_of(name, model)}
    for name in settings.limits.quota_groups:
        if name not in groups:
            raise ValueError(
                f"limits.quota_groups.{name}: no key is of this quota group; groups are {', '.join(sorted(groups))}"
            )
    grpc = settings.grpc
    callers = {caller.name for caller in grpc.callers}
    # Where certificates identify callers, their names stand in no file.
    if not callers or grpc.tls.client_ca_file:
        return
    for name in settings.limits.callers:
        if name not in callers:
            known = ", ".join(sorted(callers))
            raise ValueError(f"limits.callers.{name}: there is no such caller in grpc.callers; there are {known}")


def _check_spending(settings: Settings) -> None:
    """A cap on spending is a promise only if what is spent is known."""
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
