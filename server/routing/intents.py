"""What kind of question it is, and so who answers it and how."""

from collections.abc import Mapping
from typing import Final

from server.budget import Budget
from server.domain import Ask
from server.llm.base import Provider
from server.routing.base import Choice, ModelObserver
from server.routing.classifier import Classifier
from server.routing.rules import compile_intents, fold
from server.settings import AssistantSettings

CALLER: Final = "caller"
RULE: Final = "rule"
CLASSIFIER: Final = "classifier"
DEFAULT: Final = "default"


class _Entry:
    """The intents of one assistant, ready to be asked."""

    def __init__(self, name: str, entry: AssistantSettings, provider: Provider) -> None:
        own = (entry.model, *entry.fallback_models)
        self.default = Choice(_each_once(own))
        self.choices: dict[str, Choice] = {}
        compiled = compile_intents(name, entry.intents)
        self.rules = [(intent, rules) for intent, rules in compiled.items() if rules]
        for intent, settings in entry.intents.items():
            models = _each_once((*settings.models, *own) if settings.models else own)
            self.choices[intent] = Choice(models, intent, settings.temperature, settings.max_output_tokens)
        descriptions = {intent: settings.description for intent, settings in entry.intents.items()}
        described = {intent: sentence for intent, sentence in descriptions.items() if sentence}
        self.classifier = (
            Classifier(entry.classifier, described, provider) if entry.classifier.model and described else None
        )


class Intents:
    """The intents of all assistants: the caller's wish, else the first rule that holds, else the classifier."""

    def __init__(
        self, assistants: Mapping[str, AssistantSettings], provider: Provider, observer: ModelObserver
    ) -> None:
        """Args: what the classifiers ask.

        Raises:
            ValueError: for a rule that cannot be used. The message begins with the field.
        """
        self._entries = {name: _Entry(name, entry, provider) for name, entry in assistants.items()}
        self._observer = observer

    async def choose(self, assistant: str, ask: Ask, budget: Budget) -> Choice:
        """See :meth:`server.routing.base.IntentChooser.choose`."""
        entry = self._entries[assistant]
        choice = entry.default
        if entry.choices:
            intent, by = await self._intent(entry, ask, budget)
            choice = entry.choices.get(intent, choice)
            self._observer.intent_chosen(assistant, choice.intent or DEFAULT, by)
        wanted = ask.options.model
        if wanted:
            # The caller prefers one; what the assistant has goes on behind it.
            models = _each_once((wanted, *choice.models))
            choice = Choice(models, choice.intent, choice.temperature, choice.max_output_tokens)
        return choice

    async def aclose(self) -> None:
        """Ends the classifiers' calls under way."""
        for entry in self._entries.values():
            if entry.classifier is not None:
                await entry.classifier.aclose()

    async def _intent(self, entry: _Entry, ask: Ask, budget: Budget) -> tuple[str, str]:
        if ask.options.intent:
            return ask.options.intent, CALLER
        text, pictures = fold(ask.input.text), bool(ask.input.media)
        for intent, rules in entry.rules:
            if all(rule(text, pictures) for rule in rules):
                return intent, RULE
        # A model that the caller names makes the classifier's answer worth little.
        if entry.classifier is not None and not ask.options.model and text:
            intent = await entry.classifier.choose(ask, budget) or ""
            return intent, CLASSIFIER if intent else DEFAULT
        return "", DEFAULT


def _each_once(models: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(models))
