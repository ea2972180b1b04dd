"""What a model behind an OpenAI-style server turns out not to bear. Pure.

Presets know vendors, not models: a deployment at Azure has a name of the customer's own,
a gateway has models of many vendors, and new models stop taking what old ones took. A
field that is only a wish (a temperature, a count of tokens) must not cost the answer, so
what a model refuses is learnt from its refusal and not sent to it again.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from server.llm.base import ErrorClass, ProviderError

CAPS: Final = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""The two names of the cap on output. Who refuses one asks for the other."""

WISHES: Final = ("stream_options", "safety_identifier", "user_id", "user")
"""Fields that can be left out when a server says that it does not know them."""

_STRANGE: Final = re.compile(
    r"unsupported|not support|unrecogni[sz]ed|unknown|unexpected|not permitted|not allowed"
    r"|extra[_ ](?:forbidden|input|field)"
)
"""How servers say that they do not know a field."""


class Manners(msgspec.Struct, frozen=True):
    """What is known of one model beside its preset."""

    refuses: frozenset[str] = frozenset()
    """Fields that it does not bear."""
    max_tokens: str = ""
    """The name of the cap on output that it asked for; empty where it took the one it was given."""

    def shown(self, body: Mapping[str, object]) -> dict[str, object]:
        """The body in a form that the model bears."""
        return {self._name(field): value for field, value in body.items() if field not in self.refuses}

    def after(self, error: ProviderError, body: Mapping[str, object]) -> "Manners":
        """What is known after the model refused ``body``; the same if that taught nothing.

        Each step leaves out a field for good or settles the cap's name, so that steps come to an end.
        """
        if error.kind is not ErrorClass.BAD_REQUEST or error.status not in (400, 422):
            return self
        said = error.detail.lower()
        if "temperature" in body and "temperature" in said:
            return self._without("temperature")
        if not _STRANGE.search(said):
            return self
        for cap, other in CAPS.items():
            if not self.max_tokens and cap in body and _names(said, cap) and _names(said, other):
                return msgspec.structs.replace(self, max_tokens=other)
        return next((self._without(wish) for wish in WISHES if wish in body and _names(said, wish)), self)

    def _without(self, field: str) -> "Manners":
        return msgspec.structs.replace(self, refuses=self.refuses | {field})

    def _name(self, field: str) -> str:
        return self.max_tokens if self.max_tokens and field in CAPS else field


def _names(said: str, field: str) -> bool:
    return re.search(rf"\b{field}\b", said) is not None
