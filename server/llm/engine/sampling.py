"""How a token engine is asked to choose tokens. Pure.

Every parameter is decided here and sent: what protobuf leaves out arrives as zero, which
is a value, and a strange one for most of them.
"""

from collections.abc import Mapping

import msgspec

from server.llm.base import Prompt


class Sampling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters that vLLM and SGLang share; the defaults leave the model's own distribution as it is."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """0: all tokens."""
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    max_tokens: int | None = None
    """``None``: to the end of the model's window."""
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False


def sampling_for(prompt: Prompt, engine: Mapping[str, object], extra: Sampling, chosen: frozenset[str]) -> Sampling:
    """The parameters for one prompt.

    What the prompt says goes before what the settings say, and that before what the
    engine recommends for its model.

    Args:
        engine: the engine's recommendation; what is not understood of it is left out.
        extra: those of the settings.
        chosen: which of them the settings name.
    """
    found = _recommended(engine)
    found.update({name: getattr(extra, name) for name in chosen})
    if prompt.temperature is not None:
        found["temperature"] = prompt.temperature
    if prompt.max_output_tokens is not None:
        found["max_tokens"] = prompt.max_output_tokens
    return Sampling(**found)  # type: ignore[arg-type]  # each value was read as its field


def sampling_of_settings(extra_body: Mapping[str, object]) -> tuple[Sampling, frozenset[str]]:
    """The parameters that ``extra_body`` names, and which.

    Raises:
        ValueError: for one that there is not, or of another type. The message begins with ``extra_body``.
    """
    try:
        return msgspec.convert(dict(extra_body), Sampling), frozenset(extra_body)
    except msgspec.ValidationError as error:
        known = ", ".join(Sampling.__struct_fields__)
        raise ValueError(f"extra_body: {error}; these can be sent: {known}") from None


def _recommended(engine: Mapping[str, object]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in engine.items():
        try:
            found[name] = getattr(msgspec.convert({name: value}, Sampling), name)
        except msgspec.ValidationError:
            continue
    if isinstance(found.get("top_k"), int) and int(str(found["top_k"])) < 0:
        found["top_k"] = 0
    return found
