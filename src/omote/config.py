"""Strict configuration: frozen dataclasses to JSON and back, nothing silently dropped, guessed or converted.

A field may be a bool, int, float, str, `pathlib.Path`, an `enum.Enum` (by its value), a `typing.Literal`, another
dataclass, or a tuple, list, ``dict[str, ...]`` or union of these. Bounds are written where the field is:
``intensity: Annotated[float, Range(0, 1)]``; a relation between fields belongs in ``__post_init__``, whose `ValueError`
comes out as a `ConfigError` with the key's path.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import json
import math
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from omote.errors import ConfigError

Config = TypeVar("Config")
Json = None | bool | int | float | str | list[Any] | dict[str, Any]


@dataclass(frozen=True)
class Range:
    """Inclusive bounds of a number, as an annotation: ``Annotated[int, Range(1)]``; None means unbounded."""

    low: float | int | None = None
    high: float | int | None = None

    def __contains__(self, value: float | int) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"at most {self.high}" if self.low is None else f"at least {self.low}"
        return f"{self.low} to {self.high}"


def to_json(value: object) -> Any:
    """Turn a config into values that `json` writes: objects keep their fields' order, so equal configs give equal text.

    Raises:
        ConfigError: a value that would not come back the same: not finite, or of a type that configs do not hold.
    """
    match value:
        case enum.Enum():
            return to_json(value.value)
        case None | bool() | int() | str():
            return value
        case float():
            if not math.isfinite(value):
                raise ConfigError(f"expected a finite number, got {value}")
            return value
        case Path():
            return str(value)
        case tuple() | list():
            return [to_json(v) for v in value]
        case Mapping():
            if not all(isinstance(key, str) for key in value):
                raise ConfigError(f"expected text keys, got {list(value)[:3]}")
            return {key: to_json(value[key]) for key in sorted(value)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    raise ConfigError(f"expected a value that a config can hold, got {type(value).__name__}")


def from_json(kind: type[Config], data: object, *, path: str = "") -> Config:
    """Build the dataclass ``kind`` from parsed JSON; keys that are absent take the field's default.

    Args:
        kind: the dataclass.
        data: value that `json.loads` returned.
        path: place of ``data`` in a larger config, for messages.

    Raises:
        ConfigError: an unknown key (the nearest known one is suggested), a missing one, or a value of another type or
            out of range; the message names the key's path.
    """
    built: Config = _dataclass_from(kind, data, path)
    return built


def dumps(config: object) -> str:
    """Write a config as the text of a JSON file."""
    return json.dumps(to_json(config), indent=2, ensure_ascii=False) + "\n"


def load(kind: type[Config], file: Path) -> Config:
    """Read a config file.

    Raises:
        ConfigError: the file is missing, is not JSON, or does not fit ``kind``; the message begins with its name.
    """
    try:
        if file.exists() and not file.is_file():
            raise ConfigError(f"{file}: expected a JSON file, got a folder or device")
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: expected a JSON file ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: expected JSON, got something else ({str(error)[:80]})") from error
    try:
        return from_json(kind, data)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error


def override(config: Config, assignments: Iterable[str]) -> Config:
    """Change single values of a config: ``["engine.batch_size=8", "population=runs/other"]``.

    The value is read as JSON where it is JSON and as text otherwise, then checked like a config file's.

    Raises:
        ConfigError: not of the form ``key=value``, an unknown key or one given twice, or a value that does not fit.
    """
    data = to_json(config)
    seen: set[str] = set()
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise ConfigError(f"expected key=value, got {assignment!r}; for example engine.batch_size=8")
        if key in seen:
            raise ConfigError(f"{key}: given twice; give it once")
        seen.add(key)
        *parents, last = key.split(".")
        inner = data
        for depth, name in enumerate(parents):
            _check_known(name, inner, ".".join(parents[:depth]))
            inner = inner[name]
            if not isinstance(inner, dict):
                raise ConfigError(f"{key}: {'.'.join(parents[: depth + 1])} holds no further keys")
        _check_known(last, inner, ".".join(parents))
        try:
            inner[last] = json.loads(text)
        except (ValueError, RecursionError):
            inner[last] = text
    return from_json(type(config), data)


def check_ranges(config: object) -> None:
    """Check the numbers of a config that was not read from JSON against the bounds of its fields.

    Raises:
        ConfigError: a number out of range; the message names the field.
    """
    kind: Any = type(config)
    for name, hint in _hints(kind).items():
        value = getattr(config, name)
        for bounds in getattr(hint, "__metadata__", ()):
            if isinstance(bounds, Range) and value is not None and value not in bounds:
                raise _fail(name, str(bounds), value)


def nearest(word: str, known: Iterable[str]) -> str:
    """Say which known word was probably meant: `` (did you mean 'x'?)``, or list them all where none is near."""
    words = sorted(known)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else f" (known: {', '.join(words)})"


@lru_cache(maxsize=256)
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _check_known(key: str, known: Iterable[str], path: str) -> None:
    if key not in known:
        raise ConfigError(f"{_join(path, key)}: unknown key{nearest(key, known)}")


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _fail(path: str, expected: str, got: object) -> ConfigError:
    text = repr(got)
    return ConfigError(f"{path or 'config'}: expected {expected}, got {text if len(text) <= 60 else text[:57] + '...'}")


def _dataclass_from(kind: Any, data: object, path: str) -> Any:
    if not isinstance(data, dict):
        raise _fail(path, "an object", data)
    fields = {f.name: f for f in dataclasses.fields(kind) if f.init}
    for key in data:
        _check_known(str(key), fields, path)
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _value_from(_hints(kind)[name], data[name], _join(path, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{_join(path, name)}: missing; it has no default")
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}" if path else str(error)) from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path or 'config'}: {error}") from error


def _value_from(hint: Any, data: object, path: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        value = _value_from(arguments[0], data, path)
        for bounds in arguments[1:]:
            if isinstance(bounds, Range) and value is not None and value not in bounds:
                raise _fail(path, str(bounds), data)
        return value
    if origin is Literal:
        # 1 == True == 1.0 in Python, but not in a config.
        for choice in arguments:
            if type(choice) is type(data) and choice == data:
                return choice
        raise _fail(path, " | ".join(map(repr, arguments)), data)
    if origin in (Union, types.UnionType):
        return _union_from(arguments, data, path)
    if origin in (tuple, list):
        return _sequence_from(origin, arguments, data, path)
    if origin is dict:
        if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
            raise _fail(path, "an object", data)
        return {key: _value_from(arguments[1], data[key], _join(path, key)) for key in data}
    if dataclasses.is_dataclass(hint):
        return _dataclass_from(hint, data, path)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        for member in hint:
            if type(member.value) is type(data) and member.value == data:
                return member
        raise _fail(path, " | ".join(repr(m.value) for m in hint), data)
    return _scalar_from(hint, data, path)


def _scalar_from(hint: Any, data: object, path: str) -> Any:
    is_number = isinstance(data, int | float) and not isinstance(data, bool)
    if hint is float and is_number:
        try:
            number = float(data)  # type: ignore[arg-type]
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise _fail(path, "a finite number", data)
        return number
    if hint is int and is_number and isinstance(data, int):
        return data
    if hint is bool and isinstance(data, bool):
        return data
    if hint is str and isinstance(data, str):
        return data
    if hint is Path and isinstance(data, str):
        if not data or "\0" in data:
            raise _fail(path, "a path", data)
        return Path(data)
    if hint in (None, type(None)) and data is None:
        return None
    names = {float: "a number", int: "a whole number", bool: "true or false", str: "text", Path: "a path as text"}
    if hint not in (*names, None, type(None)):
        raise TypeError(f"{path}: configs cannot hold fields of type {hint}")
    raise _fail(path, names.get(hint, "null"), data)


def _sequence_from(origin: Any, arguments: tuple[Any, ...], data: object, path: str) -> Any:
    if not isinstance(data, list):
        raise _fail(path, "a list", data)
    if origin is list or (len(arguments) == 2 and arguments[1] is Ellipsis):
        inner = [arguments[0]] * len(data)
    else:
        inner = [a for a in arguments if a != ()]
        if len(data) != len(inner):
            raise _fail(path, f"a list of {len(inner)}", data)
    return origin(_value_from(hint, v, f"{path}[{i}]") for i, (hint, v) in enumerate(zip(inner, data, strict=True)))


def _union_from(choices: tuple[Any, ...], data: object, path: str) -> Any:
    if data is None and type(None) in choices:
        return None
    rest = [choice for choice in choices if choice is not type(None)]
    if len(rest) == 1:
        return _value_from(rest[0], data, path)
    fitting, errors = [], []
    for choice in rest:
        try:
            fitting.append(_value_from(choice, data, path))
        except ConfigError as error:
            errors.append(error)
    # A whole number fits int | float and a path fits str | Path twice over: the first choice written wins.
    if fitting:
        return fitting[0]
    raise ConfigError(" or ".join(str(error) for error in errors))
