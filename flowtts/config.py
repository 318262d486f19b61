"""Configurations: frozen dataclasses, read strictly through OmegaConf structured configs.

A YAML file states only what differs from the dataclass's defaults, and dotted overrides ("a.b=1") only what
differs from the file. A value means what it says: there is no interpolation, no environment look-up, and
nothing in a configuration ever names code.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import yaml
from omegaconf import MISSING as ABSENT
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from flowtts.types import UserError

T = TypeVar("T")


def load(
    cls: type[T], source: Path | Mapping[str, Any] | None = None, overrides: Sequence[str] = (), base: T | None = None
) -> T:
    """Reads a configuration.

    Args:
        cls: a dataclass; its fields may be scalars, paths, Literals, Optionals, tuples, dicts and dataclasses.
        source: a YAML file, or a mapping; only differences from the defaults.
        overrides: "dotted.key=value", the value in YAML; the last one wins.
        base: stands in for the defaults.

    Returns:
        An instance of ``cls``. Tuples and dicts are replaced whole, dataclasses key by key.

    Raises:
        UserError: an unreadable file, an unknown key, a wrong type, a value that the dataclass itself refuses.
    """
    if not is_dataclass(cls):
        raise TypeError(f"a configuration is a dataclass, not {cls!r}")
    layers = [] if source is None else [_read(source)]
    layers += [_override(text) for text in overrides]
    merged = OmegaConf.structured(_schema(cls))
    for where, given in layers:
        _check(cls, given, "", where)
        try:
            merged = OmegaConf.merge(merged, _escape(given))
        except (OmegaConfBaseException, TypeError) as error:
            raise UserError(f"{where}: {_explain(error)}") from None
    values = cast(dict[str, Any], OmegaConf.to_container(merged, resolve=True, throw_on_missing=False))
    return _build(cls, values, base, "", "; ".join(where for where, _ in layers) or cls.__name__)


def file_in(folder: Path, source: Path | None, default: str) -> Path:
    """The file of a configuration: a path, the bare name of one in ``folder``, or the default there."""
    if source is None:
        return folder / default
    shipped = folder / f"{source.stem}.yaml"
    return shipped if not source.exists() and source.parent == Path(".") and shipped.exists() else source


def plain(value: Any) -> Any:
    """Dataclasses as dicts, tuples as lists, paths as strings: what YAML and JSON can hold."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value) if f.init}
    if OmegaConf.is_config(value):
        return OmegaConf.to_container(value, resolve=False)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def dump(config: Any) -> str:
    """The whole configuration (a dataclass or a mapping) as YAML; ``load`` gives back an equal one."""
    return OmegaConf.to_yaml(OmegaConf.create(_escape(plain(config))))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, uninterpreted.

    Raises:
        UserError: no such file, not YAML, or not a mapping.
    """
    try:
        values = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"cannot read the configuration {path}: {reason}") from None
    except yaml.MarkedYAMLError as error:
        line = f" at line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path} is not valid YAML{line}: {error.problem}") from None
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{path} is not valid YAML: {_explain(error)}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold keys and values, not a list")
    return {str(key): _unescape(value) for key, value in values.items()}


def _read(source: Path | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A layer and the name it has in messages."""
    if isinstance(source, Mapping):
        return "configuration", plain(source)
    return str(source), read_yaml(Path(source))


def _override(text: str) -> tuple[str, dict[str, Any]]:
    """One dotted override as a layer."""
    key, equals, _ = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f'override "{text}": write key=value, for example train.steps=1000')
    try:
        return f'override "{text}"', plain(OmegaConf.from_dotlist([text]))
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise UserError(f'override "{text}": {_explain(error)}') from None


def _explain(error: Exception) -> str:
    """An OmegaConf or YAML error in one line."""
    first = str(error).strip().split("\n")[0]
    key = error.full_key if isinstance(error, OmegaConfBaseException) else None
    return f"{key}: {first}" if key else first


def _inner(annotation: Any) -> tuple[Any, bool]:
    """An annotation without its None, and whether it had one."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation, False
    kept = [a for a in get_args(annotation) if a is not type(None)]
    return (kept[0] if len(kept) == 1 else Union[tuple(kept)]), len(kept) < len(get_args(annotation))  # noqa: UP007


def _settable(cls: type[Any]) -> Iterator[tuple[Field[Any], Any]]:
    """Fields that a configuration may set, with their resolved annotations."""
    hints = get_type_hints(cls)
    return ((f, hints[f.name]) for f in fields(cls) if f.init)


def _schema(annotation: Any) -> Any:
    """The annotation in terms that every OmegaConf since 2.3 knows; a dataclass becomes one without defaults.

    Defaults stay out so that absent keys remain recognisable and ``_build`` can take them from the parent's default.
    """
    inner, optional = _inner(annotation)
    origin, args = get_origin(inner), get_args(inner)
    if is_dataclass(inner) and isinstance(inner, type):
        made = [(f.name, _schema(hint), dataclasses.field(default=ABSENT)) for f, hint in _settable(inner)]
        result: Any = dataclasses.make_dataclass(inner.__name__, made)
    elif origin in (tuple, list):
        if len(set(args) - {Ellipsis}) != 1:
            raise TypeError(f"{inner}: a configuration's tuple has one element type; make a mixed one a dataclass")
        result = list[_schema(args[0])]  # type: ignore[misc]
    elif origin is dict:
        result = dict[str, _schema(args[1])]  # type: ignore[misc]
    elif origin is Literal:
        result = type(args[0])
    else:
        result = inner
    return Union[result, None] if optional else result  # noqa: UP007


def _elements(args: tuple[Any, ...], count: int) -> list[Any]:
    """The annotation of each of ``count`` elements of a tuple or list."""
    return [args[0]] * count if len(args) == 1 or args[-1] is Ellipsis else list(args)


def _check(annotation: Any, value: Any, place: str, where: str) -> None:
    """Refuses unknown keys, wrong containers, wrong lengths and unknown choices; OmegaConf judges the scalars."""
    inner, _ = _inner(annotation)
    origin, args = get_origin(inner), get_args(inner)
    if value is None or value == ABSENT:
        return
    if is_dataclass(inner) and isinstance(inner, type):
        hints = {f.name: hint for f, hint in _settable(inner)}
        for key, item in _mapping(value, place, where).items():
            if key not in hints:
                raise UserError(f'{where}: unknown key "{place}{key}"{_suggest(key, inner, place)}')
            _check(hints[key], item, f"{place}{key}.", where)
    elif origin in (tuple, list):
        if not isinstance(value, list):
            raise UserError(f"{where}: {place[:-1]} must be a list, for example [1, 2], not {value!r}")
        expected = _elements(args, len(value))
        if len(expected) != len(value):
            raise UserError(f"{where}: {place[:-1]} must have {len(expected)} elements, not {len(value)}")
        for index, (hint, item) in enumerate(zip(expected, value, strict=True)):
            _check(hint, item, f"{place[:-1]}[{index}].", where)
    elif origin is dict:
        for key, item in _mapping(value, place, where).items():
            _check(args[1], item, f"{place}{key}.", where)
    elif origin is Literal and value not in args:
        near = difflib.get_close_matches(str(value), [str(a) for a in args], 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"{where}: {place[:-1]} must be one of {', '.join(map(str, args))}, not {value!r}{hint}")


def _mapping(value: Any, place: str, where: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise UserError(f"{where}: {place[:-1] or 'the configuration'} must hold keys and values, not {value!r}")


def _paths(cls: type[Any], place: str = "") -> Iterator[str]:
    """Every dotted key below a dataclass."""
    for f, hint in _settable(cls):
        inner = _inner(hint)[0]
        yield place + f.name
        if is_dataclass(inner) and isinstance(inner, type):
            yield from _paths(inner, f"{place}{f.name}.")


def _suggest(key: str, cls: type[Any], place: str) -> str:
    """What the user may have meant by an unknown key."""
    names = [f.name for f, _ in _settable(cls)]
    near = difflib.get_close_matches(str(key), names, 1)
    deeper = [path for path in _paths(cls) if path.rsplit(".", 1)[-1] == key]
    meant = deeper or near or difflib.get_close_matches(str(key), list(_paths(cls)), 1, 0.5)
    return f'; did you mean "{place}{meant[0]}"?' if meant else f"; known keys: {', '.join(names)}"


def _escape(value: Any) -> Any:
    """Keeps OmegaConf from interpolating: its grammar wants a backslash before "${", and backslashes there doubled."""
    return _each_string(value, lambda text: re.sub(r"(\\*)\$\{", r"\1\1\\${", text))


def _unescape(value: Any) -> Any:
    """Undoes ``_escape``; a "${" that was never escaped stays as it is."""
    return _each_string(value, lambda text: re.sub(r"(?<!\\)((?:\\\\)*)\\\$\{", _halve, text))


def _halve(match: re.Match[str]) -> str:
    return match[1][: len(match[1]) // 2] + "${"


def _each_string(value: Any, change: Callable[[str], str]) -> Any:
    """Nested plain values with every string that is not a key changed."""
    if isinstance(value, dict):
        return {key: _each_string(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_each_string(item, change) for item in value]
    return change(value) if isinstance(value, str) else value


def _build(cls: type[T], values: Mapping[str, Any], base: T | None, place: str, where: str) -> T:
    """The dataclass itself, absent keys taken from ``base``, else from the defaults."""
    arguments: dict[str, Any] = {}
    for f, hint in _settable(cls):
        if base is not None:
            default = getattr(base, f.name)
        else:
            default = f.default_factory() if f.default_factory is not MISSING else f.default
        value = values.get(f.name, ABSENT)
        if value == ABSENT and default is MISSING:
            raise UserError(f'{where}: the key "{place}{f.name}" is needed')
        arguments[f.name] = default if value == ABSENT else _value(hint, value, default, f"{place}{f.name}.", where)
    try:
        return cls(**arguments)
    except ValueError as error:
        raise UserError(f"{where}: {place[:-1] + ': ' if place else ''}{error}") from None


def _value(annotation: Any, value: Any, default: Any, place: str, where: str) -> Any:
    """One field's value from OmegaConf's plain one."""
    inner, _ = _inner(annotation)
    origin, args = get_origin(inner), get_args(inner)
    if value is None:
        return None
    if is_dataclass(inner) and isinstance(inner, type):
        return _build(inner, value, default if isinstance(default, inner) else None, place, where)
    if origin in (tuple, list):
        hints = _elements(args, len(value))
        pairs = enumerate(zip(hints, value, strict=True))
        return origin(_value(hint, item, None, f"{place[:-1]}[{i}].", where) for i, (hint, item) in pairs)
    if origin is dict:
        return {key: _value(args[1], item, None, f"{place}{key}.", where) for key, item in value.items()}
    return value
