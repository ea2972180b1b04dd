"""What a hit means, by direction and tag. Pure."""

from collections.abc import Callable, Mapping

from server.filter.entries import Action, Direction, Entry
from server.settings import ActionName, AssistantSettings, FilterSettings, PolicySettings


class Policy:
    """One policy of the settings, ready to be asked."""

    def __init__(self, settings: PolicySettings) -> None:
        self._replacement = settings.replacement
        self._by_direction = {
            Direction.INPUT: (_actions(settings.input), _action(settings.other_input)),
            Direction.OUTPUT: (_actions(settings.output), _action(settings.other_output)),
        }

    def actions(self, direction: Direction) -> Callable[[Entry], Action]:
        """What entries mean in one direction: by themselves, or else by their tag."""
        by_tag, other = self._by_direction[direction]

        def action_of(entry: Entry) -> Action:
            return by_tag.get(entry.tag, other) if entry.action is None else entry.action

        return action_of

    def replacement(self, entry: Entry) -> str:
        """What stands in the place of an entry that is replaced."""
        return entry.replacement or self._replacement


def policies_of(settings: FilterSettings, assistants: Mapping[str, AssistantSettings]) -> dict[str, Policy]:
    """The policy of each assistant that has one.

    Raises:
        ValueError: if an assistant names one that does not exist. The message begins with the field.
    """
    policies = {name: Policy(entry) for name, entry in settings.policies.items()}
    chosen: dict[str, Policy] = {}
    for name, assistant in assistants.items():
        wanted = assistant.filter_policy
        if not wanted:
            continue
        if wanted not in policies:
            known = ", ".join(sorted(policies)) or "none"
            raise ValueError(
                f"assistants.{name}.filter_policy: there is no policy {wanted!r}; filter.policies has {known}; "
                "add it there, or leave this empty to look for nothing"
            )
        chosen[name] = policies[wanted]
    return chosen


def _action(name: ActionName) -> Action:
    return Action[name.upper()]


def _actions(by_tag: Mapping[str, ActionName]) -> dict[str, Action]:
    return {tag: _action(name) for tag, name in by_tag.items()}
