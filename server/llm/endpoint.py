"""Where and how to reach a model: its settings, with what its preset knows filled in.

This is the one place where an entry of ``models`` and a preset meet. Backends take the
result, and ask neither what is set nor by whom.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

import msgspec

from server.llm.base import NO_MODEL_TAKES_PICTURES, ErrorClass, Image, Prompt, ProviderError
from server.llm.base_address import check_base_url, check_secrecy
from server.llm.presets import Preset, Side, Thinking, shipped_presets
from server.settings import ModelSettings

STANDS_FOR: Final[dict[str, tuple[str, str]]] = {
    "openai_chat": ("http", "openai_style"),
    "anthropic_messages": ("http", "anthropic"),
    "gemini": ("http", "gemini"),
    "xai_chat": ("grpc", "xai"),
    "gemini_grpc": ("grpc", "gemini"),
    "kserve": ("grpc", "triton"),
    "vllm_engine": ("grpc", "vllm"),
    "sglang_engine": ("grpc", "sglang"),
    "provider_service": ("grpc", "provider_service"),
    "weconverse": ("grpc", "weconverse"),
}
"""Protocols: the transport each is spoken over, and the preset whose parameters an entry gets that names none."""

TEXT_ONLY: Final = frozenset({"kserve", "vllm_engine", "sglang_engine"})
"""Protocols in which a prompt is one text, so that no model behind them can be shown a picture."""

_WITHOUT_PRESET: Final = {"http": "openai_chat", "grpc": "provider_service"}


class ModelEndpoint(msgspec.Struct, frozen=True):
    """A model, and everything a backend needs to know about reaching it, but for the key."""

    name: str
    """The name of the entry in ``models``."""
    protocol: str
    address: str
    """HTTP: the base address, beginning with ``http``. gRPC: ``host:port``. Empty for ``scripted``."""
    model: str
    """The model's name at the vendor."""
    side: Side
    """What the vendor takes, with ``parameters``, ``pictures`` and the rest as the settings have them."""
    thinking: Mapping[str, object]
    """What to add to a request as the setting ``thinking`` wants it. Empty: nothing."""
    settings: ModelSettings
    """For time-outs, certificates and what else no preset speaks about."""

    def takes(self, prompt: Prompt) -> bool:
        """Whether the model can be shown all pictures of a prompt."""
        return all(self.takes_picture(image) for message in prompt.messages for image in message.images)

    def takes_picture(self, image: Image) -> bool:
        """Whether the model can be shown this one. A picture with bytes is sent as bytes."""
        return self.side.pictures == "any" or (self.side.pictures == "inline" and bool(image.data))

    def refusal_of_picture(self) -> ProviderError:
        """The error for a prompt with a picture that the model cannot be shown."""
        said = "the model cannot be shown a picture of this prompt"
        return ProviderError(ErrorClass.BAD_REQUEST, said, model=self.name, code=NO_MODEL_TAKES_PICTURES)


def endpoint_of(name: str, entry: ModelSettings, presets: Mapping[str, Preset] | None = None) -> ModelEndpoint:
    """Fills in what an entry of ``models`` leaves open.

    Args:
        name: of the entry, which stands in errors.
        entry: what is set; goes before every preset.
        presets: by name; those that ship unless given.

    Raises:
        ValueError: if the entry cannot work. The message begins with the field, such as
            ``models.default.base_url``, and says what to do.
    """
    try:
        return _resolved(name, entry, shipped_presets() if presets is None else presets)
    except ValueError as error:
        raise ValueError(f"models.{name}.{error}") from None


def _resolved(name: str, entry: ModelSettings, presets: Mapping[str, Preset]) -> ModelEndpoint:
    if entry.protocol == "scripted":
        return ModelEndpoint(
            name,
            "scripted",
            "",
            entry.model or name,
            Side(protocol="scripted", pictures="none" if entry.pictures == "preset" else entry.pictures),
            {},
            entry,
        )
    preset = _preset(entry, presets)
    side = _side(entry, preset, presets)
    address = _address(entry, preset, side)
    _check_key(entry, preset, side, address)
    _check_headers(entry)
    if side.protocol in TEXT_ONLY and entry.pictures not in ("preset", "none"):
        raise ValueError(f'pictures: {side.protocol} has no place for pictures; leave it at "preset"')
    # Headers are the same in any case, and gRPC takes them in small letters alone.
    entry = msgspec.structs.replace(entry, extra_headers={k.lower(): v for k, v in entry.extra_headers.items()})
    thinking = _thinking(entry, side.thinking)
    return ModelEndpoint(name, side.protocol, address, entry.model or name, _adjusted(side, entry), thinking, entry)


def _preset(entry: ModelSettings, presets: Mapping[str, Preset]) -> Preset | None:
    if not entry.preset:
        return None
    if entry.preset not in presets:
        near = get_close_matches(entry.preset.lower(), presets, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "docs/models.md lists them."
        raise ValueError(f"preset: there is no preset {entry.preset!r}; {hint}")
    return presets[entry.preset]


def _side(entry: ModelSettings, preset: Preset | None, presets: Mapping[str, Preset]) -> Side:
    """What is known of the vendor over the transport that is set, or of the protocol that is."""
    transport = _transport(entry, preset)
    offered = None if preset is None else preset.side(transport)
    if offered is not None and entry.protocol in ("", offered.protocol):
        return offered
    _, stands_for = STANDS_FOR[entry.protocol or _WITHOUT_PRESET[transport]]
    side = presets[stands_for].side(transport)
    assert side is not None
    # The vendor of the preset that stands in is not the one that is meant.
    return msgspec.structs.replace(side, address="", errors={})


def _transport(entry: ModelSettings, preset: Preset | None) -> str:
    """The one that is set. HTTP, the default, gives way where a protocol or a vendor leaves no choice."""
    if entry.protocol:
        spoken_over, _ = STANDS_FOR[entry.protocol]
        if entry.transport == "grpc" and spoken_over != "grpc":
            raise ValueError(f"transport: {entry.protocol} is spoken over HTTP only; leave transport out, or protocol")
        return spoken_over
    if preset is None or entry.transport in preset.transports:
        return entry.transport
    if entry.transport == "grpc":
        raise ValueError(f'transport: {entry.preset} offers http and no grpc; set transport = "http"')
    return "grpc"


def _address(entry: ModelSettings, preset: Preset | None, side: Side) -> str:
    transport, _ = STANDS_FOR[side.protocol]
    field, address = ("base_url", entry.base_url) if transport == "http" else ("target", entry.target)
    other = "target" if transport == "http" else "base_url"
    if not address and (entry.target or entry.base_url):
        raise ValueError(f'{other}: has no use over {transport}; set {field}, or transport = "{_OTHER[transport]}"')
    address = address or side.address
    if not address:
        vendor = "its vendor" if preset is None else entry.preset
        raise ValueError(f"{field}: {vendor} has no address that is the same for all; set it, such as {_example(side)}")
    if transport == "http":
        check_base_url(address)
        if has_key(entry):
            check_secrecy(address, plain_http=entry.plain_http)
    elif address.startswith(("http://", "https://")):
        raise ValueError("target: must be host:port, without http:// in front; TLS is the setting tls")
    return address


_OTHER: Final = {"http": "grpc", "grpc": "http"}


def _example(side: Side) -> str:
    return side.address_example or (
        "https://api.example.com/v1" if STANDS_FOR[side.protocol][0] == "http" else "host:port"
    )


def has_key(entry: ModelSettings) -> bool:
    """Whether there is a key, or may be one later: a file can be empty now."""
    secrets = (entry.api_key, *(key.secret for key in entry.keys))
    return any(secret or secret.reference for secret in secrets)


def _check_key(entry: ModelSettings, preset: Preset | None, side: Side, address: str) -> None:
    if preset is not None and preset.key_name and address == side.address and not entry.api_key and not entry.keys:
        raise ValueError(
            f'api_key: {entry.preset} answers nobody without a key; set api_key = "env:{preset.key_name}", or keys'
        )


def _check_headers(entry: ModelSettings) -> None:
    for header, value in entry.extra_headers.items():
        if not (value.isascii() and value.isprintable()):
            raise ValueError(f"extra_headers.{header}: must be printable ASCII, because headers hold nothing else")


def _thinking(entry: ModelSettings, known: Thinking) -> Mapping[str, object]:
    if entry.thinking == "default":
        return {}
    fields = known.on if entry.thinking == "on" else known.off
    if fields is None:
        vendor = entry.preset or "an entry without a preset"
        raise ValueError(
            f'thinking: {vendor} has no switch to turn it {entry.thinking}; leave it at "default", '
            "or send what your model wants in extra_body"
        )
    return fields


def _adjusted(side: Side, entry: ModelSettings) -> Side:
    """The vendor's side as the settings have it."""
    parameters = side.parameters
    if entry.max_tokens_name:
        parameters = msgspec.structs.replace(parameters, max_tokens=entry.max_tokens_name)
    if entry.send_stream_options is not None:
        parameters = msgspec.structs.replace(parameters, stream_options=entry.send_stream_options)
    return msgspec.structs.replace(
        side,
        parameters=parameters,
        pictures=side.pictures if entry.pictures == "preset" else entry.pictures,
        # A model that does not think has no thoughts to be given back.
        assistant_fields={} if entry.thinking == "off" else side.assistant_fields,
    )
