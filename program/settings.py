"""Settings of a program: a TOML file, overridden by the environment, in typed structs.

Every mistake is a :class:`SettingsError` that names the field, the rule and the remedy,
so that nobody reads a traceback because of a typing error.

The structs are frozen ``msgspec.Struct`` classes whose fields are
``Annotated[type, Meta(description=..., ge=...)]``; ``server/settings.py`` shows the style.
"""

import difflib
import math
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping, Sized
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Meta

from program.secret import Secret

T = TypeVar("T", bound=msgspec.Struct)


class SettingsError(Exception):
    """A setting is missing or wrong.

    ``field`` is its path as in the file (``grpc.max_calls``), ``rule`` the rule that is
    broken together with what to do.
    """

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}")
        self.field = field
        self.rule = rule


class Described(NamedTuple):
    """One setting, for the documentation."""

    path: str
    """As in the file; ``*`` stands for a name of your own, ``[]`` for an entry of a list."""
    type: str
    default: str
    """As TOML; empty when the setting is required."""
    constraints: str
    description: str


def load(cls: type[T], path: Path | None, environ: Mapping[str, str], prefix: str) -> T:
    """Reads the settings of a program.

    Args:
        path: the TOML file; ``None`` uses defaults and environment only.
        environ: the environment. ``PREFIX__SECTION__KEY`` overrides ``section.key``, and
            is where ``env:NAME`` secrets are looked up.
        prefix: for example ``WECONVERSE_SERVER``.

    Raises:
        SettingsError: for the first thing that is wrong.
    """
    table = _read(path) if path is not None else {}
    _override(cls, table, environ, prefix)
    return typing.cast("T", _Reader(environ).struct(cls, table, ""))


# --- reading ----------------------------------------------------------------------------


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise SettingsError(str(path), f"cannot be read ({error.strerror}); check the path given to --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(str(path), f"is not valid TOML: {error}") from None


def _override(cls: type[msgspec.Struct], table: dict[str, Any], environ: Mapping[str, str], prefix: str) -> None:
    start = prefix + "__"
    for variable in sorted(environ):
        if not variable.startswith(start):
            continue
        keys = variable[len(start) :].split("__")
        if not all(keys):
            raise SettingsError(variable, f"has an empty part; write it as {start}SECTION__KEY")
        _place(cls, table, keys, environ[variable], variable)


def _place(kind: Any, table: dict[str, Any], keys: list[str], text: str, variable: str) -> None:
    """Puts the text of a variable at its place in the table, one level at a time."""
    key = _spelling(kind, table, keys[0])
    inner = _inner(kind, key)
    if len(keys) == 1:
        table[key] = _value(inner, text)
        return
    below = table.setdefault(key, {})
    if not isinstance(below, dict):
        raise SettingsError(variable, f"goes into `{key}`, which is not a table; set `{key}` itself")
    _place(inner, below, keys[1:], text, variable)


def _spelling(kind: Any, table: Mapping[str, Any], key: str) -> str:
    """The key that a part of a variable means: variables have neither case nor hyphens."""
    known = [*table, *(_fields(kind) if _is_struct(kind) else ())]
    folded = key.lower()
    return next((name for name in known if name.lower().replace("-", "_") == folded), folded)


def _inner(kind: Any, key: str) -> Any:
    """The type below ``key``, or ``None`` where it is not known."""
    if _is_struct(kind):
        return _bare(_fields(kind).get(key))
    if get_origin(kind) is dict:
        return _bare(get_args(kind)[1])
    return None


def _value(kind: Any, text: str) -> Any:
    """The text of a variable as a TOML value, or as it is where a string is wanted or nothing else fits."""
    if kind is str or kind is Secret or (get_origin(kind) is typing.Literal):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


class _Reader:
    """Turns tables into structs, and knows at each moment which field it reads."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def struct(self, cls: type[msgspec.Struct], table: Any, path: str) -> msgspec.Struct:
        if not isinstance(table, dict):
            raise SettingsError(path, f"must be a table, not {_named(table)}")
        fields = _fields(cls)
        for key in table:
            if key not in fields:
                raise SettingsError(_join(path, key), _unknown(key, fields))
        values = {key: self.value(fields[key], value, _join(path, key)) for key, value in table.items()}
        for field in msgspec.structs.fields(cls):
            if field.required and field.name not in values:
                raise SettingsError(_join(path, field.name), "is required; set it")
        try:
            return cls(**values)
        except ValueError as error:  # a rule over several fields, in the struct's __post_init__
            raise SettingsError(path or "settings", str(error)) from None

    def value(self, annotation: Any, value: Any, path: str) -> Any:
        kind = _bare(annotation)
        origin = get_origin(kind)
        if kind is Secret:
            return self._secret(value, path)
        if _is_struct(kind):
            return self.struct(kind, value, path)
        if origin is dict and _is_struct(_bare(get_args(kind)[1])):
            return self._named_structs(annotation, value, path)
        if origin is tuple and _is_struct(_bare(get_args(kind)[0])):
            return self._listed_structs(annotation, value, path)
        return _leaf(annotation, value, path)

    def _named_structs(self, annotation: Any, value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise SettingsError(path, f"must be a table, not {_named(value)}")
        _check_length(annotation, value, path)
        inner = _bare(get_args(_bare(annotation))[1])
        return {key: self.struct(inner, item, _join(path, key)) for key, item in value.items()}

    def _listed_structs(self, annotation: Any, value: Any, path: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise SettingsError(path, f"must be a list of tables, not {_named(value)}; begin each with [[{path}]]")
        _check_length(annotation, value, path)
        inner = _bare(get_args(_bare(annotation))[0])
        return tuple(self.struct(inner, item, f"{path}[{index}]") for index, item in enumerate(value))

    def _secret(self, value: Any, path: str) -> Secret:
        if not isinstance(value, str):
            raise SettingsError(path, "must be a string: env:NAME, file:PATH, or the secret itself")
        source, _, name = value.partition(":")
        if source == "env":
            if name not in self._environ:
                raise SettingsError(path, f"names the environment variable {name}, which is not set; set it")
            return Secret(self._environ[name], value)
        if source == "file":
            try:
                return Secret(Path(name).read_text(encoding="utf-8").strip("\r\n"), value)
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
                raise SettingsError(path, f"names the file {name}, which cannot be read: {reason}") from None
        return Secret(value)


def _leaf(annotation: Any, value: Any, path: str) -> Any:
    """A plain value, checked against its type and its limits."""
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingsError(path, f"must be a finite number, and is {value}")
    try:
        return msgspec.convert(value, annotation)
    except msgspec.ValidationError as error:
        raise SettingsError(path, _rule(annotation, value, str(error))) from None


def _check_length(annotation: Any, value: Sized, path: str) -> None:
    for meta in _metas(annotation):
        if meta.min_length is not None and len(value) < meta.min_length:
            raise SettingsError(path, f"must have at least {meta.min_length} entries, and has {len(value)}")
        if meta.max_length is not None and len(value) > meta.max_length:
            raise SettingsError(path, f"must have at most {meta.max_length} entries, and has {len(value)}")


def _rule(annotation: Any, value: Any, message: str) -> str:
    kind = _bare(annotation)
    if get_origin(kind) is typing.Literal:
        choices = [str(choice) for choice in get_args(kind)]
        near = difflib.get_close_matches(str(value), choices, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"must be one of {', '.join(choices)}, not {value!r}{hint}"
    plain = message.split(" - at `")[0].replace("Expected ", "must be ", 1).replace(", got ", ", not ")
    for name, words in _WORDS.items():
        plain = plain.replace(f"`{name}`", words)
    shown = f", and is {value!r}" if isinstance(value, bool | int | float | str) and ", not " not in plain else ""
    return plain + shown


_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}


def _unknown(key: str, fields: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(key, list(fields), n=1, cutoff=0.5)
    if near:
        return f"is not a setting; did you mean `{near[0]}`?"
    return f"is not a setting; known here: {', '.join(sorted(fields))}"


# --- types ------------------------------------------------------------------------------


def _fields(cls: type[msgspec.Struct]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {name: hints[name] for name in cls.__struct_fields__}


def _bare(annotation: Any) -> Any:
    """The type itself. A table that may be left out is the table: TOML has no null."""
    kind = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    if get_origin(kind) in (typing.Union, types.UnionType):
        present = [choice for choice in get_args(kind) if choice is not type(None)]
        if len(present) == 1 and _is_struct(present[0]):
            return present[0]
    return kind


def _metas(annotation: Any) -> list[Meta]:
    extras = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return [extra for extra in extras if isinstance(extra, Meta)]


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _named(value: Any) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "a table"}
    return names.get(type(value), type(value).__name__)


# --- showing ----------------------------------------------------------------------------


def printable(settings: msgspec.Struct) -> str:
    """The settings as TOML, without those that are unset. Secrets show where they come from, never what they are."""
    return "\n".join(_tables(settings, "")).strip() + "\n"


def _tables(value: msgspec.Struct | dict[str, Any], path: str) -> Iterator[str]:
    items = list(msgspec.structs.asdict(value).items() if isinstance(value, msgspec.Struct) else value.items())
    below = [(key, item) for key, item in items if _is_table(item)]
    flat = [(key, item) for key, item in items if not _is_table(item) and item is not None]
    if path and flat:
        yield f"\n[{path}]"
    for key, item in flat:
        yield f"{_key(key)} = {_toml(item)}"
    for key, item in below:
        yield from _tables(item, _join(path, _key(key)))


def _is_table(item: Any) -> bool:
    return isinstance(item, msgspec.Struct) or (
        isinstance(item, dict) and bool(item) and all(isinstance(inner, msgspec.Struct) for inner in item.values())
    )


def _key(key: str) -> str:
    plain = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if plain else _toml(key)


def _toml(value: Any) -> str:
    match value:
        case Secret():
            return _toml(value.reference or ("********" if value else ""))
        case bool():
            return "true" if value else "false"
        case str():
            return msgspec.json.encode(value).decode()  # a JSON string is a TOML basic string
        case list() | tuple():
            return "[" + ", ".join(_toml(item) for item in value) + "]"
        case dict():
            return "{" + ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in value.items()) + "}"
        case msgspec.Struct():
            return _toml(msgspec.structs.asdict(value))
        case _:
            return str(value)


# --- describing -------------------------------------------------------------------------


def describe(cls: type[msgspec.Struct], path: str = "") -> Iterator[Described]:
    """Every setting below ``cls``, in the order of the file."""
    hints = _fields(cls)
    for field in msgspec.structs.fields(cls):
        annotation, here = hints[field.name], _join(path, field.name)
        kind, origin = _bare(annotation), get_origin(_bare(annotation))
        inner = get_args(kind)[-1 if origin is dict else 0] if origin in (dict, tuple) else None
        if _is_struct(kind):
            if field.default is None:
                yield Described(here, "table", "unset", "", _description(annotation))
            yield from describe(kind, here)
        elif inner is not None and _is_struct(_bare(inner)):
            yield from describe(_bare(inner), f"{here}.*" if origin is dict else f"{here}[]")
        else:
            yield Described(here, _type_name(kind), _default(field), _constraints(annotation), _description(annotation))


def _type_name(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is typing.Literal:
        return " | ".join(f"`{choice}`" for choice in get_args(kind))
    if origin is tuple:
        return f"list of {_type_name(_bare(get_args(kind)[0]))}"
    if origin is dict:
        return "table"
    if origin in (typing.Union, types.UnionType):
        choices = (choice for choice in get_args(kind) if choice is not type(None))
        return " | ".join(f"{_type_name(_bare(choice))} {_constraints(choice)}".strip() for choice in choices)
    names = {str: "string", int: "integer", float: "number", bool: "boolean", Secret: "secret"}
    return names.get(kind, str(kind))


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default is None:
        return "unset"
    if field.default is not NODEFAULT:
        return _toml(field.default)
    if field.default_factory is not NODEFAULT:
        return _toml(field.default_factory())
    return ""


def _constraints(annotation: Any) -> str:
    words = []
    for meta in _metas(annotation):
        rules = (
            (meta.ge, "≥ {}"),
            (meta.gt, "> {}"),
            (meta.le, "≤ {}"),
            (meta.lt, "< {}"),
            (meta.min_length, "at least {} long"),
            (meta.max_length, "at most {} long"),
            (meta.pattern, "matches `{}`"),
        )
        words += [text.format(limit) for limit, text in rules if limit is not None]
    return ", ".join(words)


def _description(annotation: Any) -> str:
    return " ".join(meta.description for meta in _metas(annotation) if meta.description)
