"""What a model behind the Messages API bears to be asked. Pure.

Models of one vendor differ in this, and names of models are no rule: newer ones refuse
every call with a temperature, which every assistant has, and older ones refuse to decide
by themselves how much to think. So it is learnt from their refusals, which cost nothing.
"""

from collections.abc import Mapping

import msgspec

from server.llm.base import ErrorClass, ProviderError


class Manners(msgspec.Struct, frozen=True):
    """What is known of one model. It begins with what current models bear."""

    bears_temperature: bool = True
    thinks_by_budget: bool = False
    """Whether it must be told how many tokens to think."""

    def thinking(self, switch: Mapping[str, object]) -> Mapping[str, object]:
        """The object that switches thinking, in the form that this model reads."""
        if self.thinks_by_budget and switch.get("type") == "adaptive":
            return {**switch, "type": "enabled"}
        return switch

    def after(self, error: ProviderError, body: Mapping[str, object]) -> "Manners":
        """What is known after the model refused ``body``; the same if that taught nothing."""
        if error.status != 400 or error.kind is not ErrorClass.BAD_REQUEST:
            return self
        said = error.detail.lower()
        thinking = body.get("thinking")
        if "temperature" in said and "temperature" in body:
            return msgspec.structs.replace(self, bears_temperature=False)
        if "adaptive" in said and isinstance(thinking, Mapping) and thinking.get("type") == "adaptive":
            return msgspec.structs.replace(self, thinks_by_budget=True)
        return self
