"""What this service knows of the vendors: data, read from ``presets.toml`` and checked.

A preset is a default, never a rule: whatever an entry of ``models`` says itself goes
before it (``server/llm/endpoint.py``). Names of models and limits age within weeks, so
none of them decides anything here but for the patterns of models that refuse to be given
a temperature.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, field

from server.llm.base import ErrorClass

SHIPPED: Final = Path(__file__).with_name("presets.toml")

EXCLUSIVE_STEP: Final = 0.01
"""How far inside of an exclusive bound a value is put."""


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class Temperature(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which temperatures a vendor takes."""

    least: float = 0.0
    most: float = 2.0
    least_exclusive: bool = False
    """Whether ``least`` itself is refused."""
    most_exclusive: bool = False
    fixed_for: tuple[str, ...] = ()
    """Models that refuse every value but their own, with ``*`` for any characters."""

    def of(self, wanted: float, model: str) -> float | None:
        """The nearest value that ``model`` takes; ``None`` if it must not be sent at all."""
        if any(fnmatchcase(model.lower(), pattern) for pattern in self.fixed_for):
            return None
        least = self.least + EXCLUSIVE_STEP if self.least_exclusive else self.least
        most = self.most - EXCLUSIVE_STEP if self.most_exclusive else self.most
        return min(max(wanted, least), most)


class Parameters(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be sent beside the model and the messages. What is not here is not sent."""

    temperature: Temperature | None = None
    max_tokens: str = ""
    """The name of the cap on output."""
    most_tokens: Annotated[int, Meta(ge=0)] = 0
    """The highest cap that is taken; 0 where the vendor's own window decides."""
    user: str = ""
    """The name of the field for a pseudonym of the person."""
    stream_options: bool = False
    """Whether token counts have to be asked for with ``stream_options``."""

    def cap(self, wanted: int) -> int | None:
        """The nearest cap on output that is taken; ``None`` if none may be sent."""
        if not self.max_tokens:
            return None
        return min(wanted, self.most_tokens) if self.most_tokens else wanted


class Thinking(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to add to a request to switch thinking; ``None`` where that cannot be asked."""

    on: dict[str, object] | None = None
    off: dict[str, object] | None = None


AuthStyle = Literal["none", "bearer", "api-key", "x-api-key", "x-goog-api-key"]
"""``Authorization: Bearer …``, or the key alone in a header (or gRPC metadata) of that name."""

Pictures = Literal["none", "inline", "any"]
"""Which pictures a model takes: none, bytes, or addresses too."""


class Side(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A vendor over one transport."""

    protocol: str
    address: str = ""
    """HTTP: the base address. gRPC: ``host:port``. Empty where each customer has an own one."""
    address_example: str = ""
    auth: AuthStyle = "bearer"
    parameters: Parameters = Parameters()
    thinking: Thinking = Thinking()
    pictures: Pictures = "none"
    assistant_fields: dict[str, str] = field(default_factory=dict)
    """Fields that the vendor wants on each earlier answer of a model that thinks."""
    errors: dict[str, ErrorClass] = field(default_factory=dict)
    """Codes in lower case, or HTTP statuses, that this vendor uses in its own way."""
    verified: Literal["recordings", "referee", "own", "documents"] = "documents"
    """By recorded answers, by the vendor's (or another independent) program, by a server of this
    project, or only by reading."""
    evidence: str = ""
    """Whose recordings, or which program."""


class Preset(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A vendor."""

    title: str
    key_name: str = ""
    """The environment variable in which its key usually is; empty where none is needed."""
    example_model: str = ""
    note: str = ""
    """What an operator should know, in a sentence or two."""
    http: Side | None = None
    grpc: Side | None = None

    def side(self, transport: str) -> Side | None:
        """The vendor over ``http`` or ``grpc``, if it offers that."""
        return self.http if transport == "http" else self.grpc

    @property
    def transports(self) -> tuple[str, ...]:
        """Those it offers."""
        return tuple(name for name in ("http", "grpc") if self.side(name) is not None)


def load_presets(path: Path = SHIPPED) -> dict[str, Preset]:
    """The presets of a file, by name, in its order.

    A preset with ``like`` is another one in which the fields given replace those of the
    same name, tables field by field.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it does not have the form above; the message names the place.
    """
    tables = msgspec.toml.decode(path.read_bytes(), type=dict[str, dict[str, object]])
    presets: dict[str, Preset] = {}
    for name, table in tables.items():
        like = table.pop("like", "")
        if like:
            if like not in tables:
                raise ValueError(f"{path.name}: {name}.like: there is no preset {like!r}")
            table = tables[name] = laid_over(tables[str(like)], table)
        try:
            presets[name] = msgspec.convert(table, Preset)
        except msgspec.ValidationError as error:
            raise ValueError(f"{path.name}: {name}: {error}") from error
        _check(path.name, name, presets[name])
    return presets


@cache
def shipped_presets() -> Mapping[str, Preset]:
    """The presets that come with the service."""
    return load_presets()


def laid_over(below: Mapping[str, object], above: Mapping[str, object]) -> dict[str, object]:
    """``above`` in the place of what ``below`` says under the same names, table by table."""
    whole = dict(below)
    for name, value in above.items():
        old = whole.get(name)
        whole[name] = laid_over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return whole


def _check(file: str, name: str, preset: Preset) -> None:
    if not preset.transports:
        raise ValueError(f"{file}: {name}: needs a table http or grpc")
    for transport in preset.transports:
        side = preset.side(transport)
        assert side is not None
        if not side.address and not side.address_example:
            raise ValueError(f"{file}: {name}.{transport}: needs an address, or an address_example")
        if any(code != code.lower() for code in side.errors):
            raise ValueError(f"{file}: {name}.{transport}.errors: codes are in lower case")
