"""Metrics by name, for the registry and the command line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from flowtts import __version__
from flowtts.checkpoint import digest
from flowtts.types import Metric, PathLike, UserError

from .judging import Context
from .table import ALIASES, METRICS, Entry, Making

_OPTION = re.compile(r"(\w+)=(.*)", re.DOTALL)
_NEXT = re.compile(r",(?=\w+=)")
"""What stands between two options; other commas belong to values."""

VALUED = ("numpy", "soxr", "torch")
"""Packages that decide the values of every metric a little: what sound is before it is judged."""


@dataclass(frozen=True)
class Wanted:
    """A metric as a user asks for it.

    Attributes:
        name: in the table.
        options: by name, in the order of the table.
    """

    name: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def entry(self) -> Entry:
        """Its row of the table."""
        return METRICS[self.name]

    @property
    def spelled(self) -> str:
        """``NAME``, ``NAME:VALUE`` or ``NAME:KEY=VALUE,…``."""
        if not self.options:
            return self.name
        ((key, value), *others) = self.options
        if not others and key == self.entry.options[0] and not _OPTION.fullmatch(value):
            return f"{self.name}:{value}"
        return f"{self.name}:{','.join(f'{key}={value}' for key, value in self.options)}"


Asked = str | Mapping[str, Any] | Wanted
"""A spelling; ``{"name": NAME, KEY: VALUE}`` or ``{NAME: {KEY: VALUE}}``, as in a YAML list; or what ``parse`` gave."""


def names() -> list[str]:
    """Every metric's name."""
    return sorted([*METRICS, *ALIASES])


def parse(asked: Asked, where: str = "") -> Wanted:
    """A metric from ``NAME``, ``NAME:VALUE`` (of its first option) or ``NAME:KEY=VALUE,KEY=VALUE``, or a mapping.

    Args:
        asked: see ``Asked``.
        where: it stands, for messages.

    Raises:
        UserError: no such metric, or it takes no such option.
    """
    if isinstance(asked, Wanted):
        return asked
    at = f"{where}: " if where else ""
    name, options = _spelt(asked) if isinstance(asked, str) else _mapped(asked, at)
    name = ALIASES.get(name, name)
    if name not in METRICS:
        near = _nearest(name, names())
        raise UserError(f"{at}unknown metric {name!r}; {near}there are {', '.join(names())}")
    known = METRICS[name].options
    given: dict[str, str] = {}
    for key, value in options:
        # A value without a name is the first option's.
        key = key or (known[0] if known else "")
        if not known:
            raise UserError(f"{at}the metric {name!r} takes no option; write {name!r} alone")
        if key not in known:
            near = _nearest(key, known) or f"it takes {', '.join(known)}"
            raise UserError(f"{at}the metric {name!r} has no option {key!r}; {near.rstrip()}")
        if key in given:
            raise UserError(f"{at}the option {key!r} of {name!r} is given twice; give it once")
        given[key] = _value(name, key, value, at)
    return Wanted(name, tuple((key, given[key]) for key in known if key in given))


Options = Sequence[tuple[str, Any]]
"""(name or "", value)."""


def _spelt(spelling: str) -> tuple[str, Options]:
    name, _, rest = spelling.strip().partition(":")
    found = []
    for part in _NEXT.split(rest) if rest else ():
        option = _OPTION.fullmatch(part)
        found.append((option[1], option[2]) if option else ("", part))
    return name, found


def _mapped(entry: Any, at: str) -> tuple[str, Options]:
    if isinstance(entry, Mapping) and "name" in entry:
        return str(entry["name"]), [(str(key), value) for key, value in entry.items() if key != "name"]
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((name, options),) = entry.items()
        if options is None or isinstance(options, Mapping):
            return str(name), [(str(key), value) for key, value in (options or {}).items()]
    raise UserError(f"{at}{entry!r} is no metric; write '- wer' or '- wer-whisper: {{model: base.en}}'")


def _value(name: str, key: str, value: Any, at: str) -> str:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        text = str(value).strip()
        # What a spelling could not say.
        if text and not _NEXT.search(text):
            return text
    raise UserError(f"{at}the option {key!r} of {name!r} needs one plain value, not {value!r}")


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}? " if near else ""


def read_list(path: PathLike) -> list[str]:
    """Spellings of metrics out of a YAML list.

        - wer
        - wer-whisper: {model: base.en, beam: 5}
        - {name: dnsmos, part: bak}

    Raises:
        UserError: unreadable, not such a list, or an unknown metric or option.
    """
    path = Path(path)
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path of the list") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: is no YAML list of metrics ({' '.join(str(error).split())})") from None
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: names no metric; write a list such as '- wer'")
    return [parse(entry, f"{path} entry {number}").spelled for number, entry in enumerate(entries, 1)]


def load(asked: Asked, context: Context | None = None) -> Metric:
    """One metric; see ``load_all``."""
    return load_all([asked], context)[0]


def load_all(wanted: Sequence[Asked], context: Context | None = None) -> list[Metric]:
    """Metrics by name, checked at once and cheap to make: models are loaded when a metric is called.

    Metrics that do a part of their work alike share it, if they are made together: WER and CER of one recogniser one
    listening, distortion and pitch one analysis, durations one alignment.

    Args:
        wanted: see ``Asked``; each metric at most once.
        context: what the metrics need beyond the items.

    Raises:
        UserError: a name is unknown or comes twice, or what its metric needs is missing.
    """
    context = context or Context()
    shared: dict[Any, Any] = {}
    asked = [parse(one) for one in wanted]
    for one in asked:
        if [other.name for other in asked].count(one.name) > 1:
            raise UserError(f"the metric {one.name!r} is asked for twice; name it once")
    return [one.entry.make(Making(dict(one.options), context, shared)) for one in asked]


def identity(asked: Asked) -> dict[str, Any]:
    """Whatever decides a metric's values beside the recordings: name, options, versions, the weights it would read.

    Weights that are missing, or part of a package, are None.

    Raises:
        UserError: see ``parse``.
    """
    one = parse(asked)
    try:
        path = one.entry.weights(dict(one.options))
    except UserError:
        path = None
    packages = sorted({*one.entry.packages, *VALUED})
    return {
        "name": one.name, "options": dict(one.options), "weights": None if path is None else _content(path),
        "versions": {package: _version(package) for package in packages}, "flowtts": __version__,
    }  # fmt: skip


def _content(path: Path) -> Any:
    """What a path holds: the hash of a file; names, sizes and times of the files of a folder."""
    if path.is_file():
        return _hash(path, path.stat().st_size, path.stat().st_mtime_ns)
    files = sorted(one for one in path.rglob("*") if one.is_file())
    return [[one.relative_to(path).as_posix(), one.stat().st_size, one.stat().st_mtime_ns] for one in files]


@lru_cache(maxsize=64)
def _hash(path: Path, size: int, time: int) -> str:
    """Of a file that has not changed since."""
    return digest(path)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def info(asked: Asked) -> dict[str, Any]:
    """What a table says of a metric, see ``flowtts.compare.result.MetricInfo``; ``needs`` and ``shares`` of ``Entry``.

    The judge and its sampling rate are not known before it has judged: ``Score`` has them.

    Raises:
        UserError: see ``parse``.
    """
    one = parse(asked)
    entry = one.entry
    return {
        "name": one.name, "spelled": one.spelled, "label": entry.label, "unit": entry.unit,
        "higher_is_better": entry.higher, "rate": entry.rate, "level": entry.level, "paper": entry.source,
        "needs": entry.needs, "shares": entry.shares,
    }  # fmt: skip
