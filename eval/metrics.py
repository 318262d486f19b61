"""Metrics by name, for the registry and the command line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from flowtts import __version__
from flowtts.checkpoint import digest
from flowtts.types import Metric, PathLike, UserError

from .judging import Context
from .table import ALIASES, METRICS, Entry, Making

_OPTION = re.compile(r"(\w+)=(.*)")


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
        if len(self.options) == 1 and self.options[0][0] == self.entry.options[0]:
            return f"{self.name}:{self.options[0][1]}"
        return f"{self.name}:{','.join(f'{key}={value}' for key, value in self.options)}"


def names() -> list[str]:
    """Every metric's name."""
    return sorted([*METRICS, *ALIASES])


def parse(spelling: str) -> Wanted:
    """A metric from ``NAME``, ``NAME:VALUE`` (of its first option) or ``NAME:KEY=VALUE,KEY=VALUE``.

    Raises:
        UserError: no such metric, or it takes no such option.
    """
    name, colon, rest = spelling.strip().partition(":")
    name = ALIASES.get(name, name)
    if name not in METRICS:
        raise _unknown("metric", spelling, name, names())
    known = METRICS[name].options
    if not colon or not rest:
        return Wanted(name)
    if not known:
        raise UserError(f"the metric {name!r} takes no option; write {name!r} without ':{rest}'")
    if not all(_OPTION.fullmatch(part) for part in rest.split(",")):
        return Wanted(name, ((known[0], rest),))
    return _with(name, dict(part.split("=", 1) for part in rest.split(",")), spelling)


def _with(name: str, options: dict[str, Any], where: str) -> Wanted:
    known = METRICS[name].options
    for key, value in options.items():
        if key not in known:
            there = f"it takes {', '.join(known)}" if known else "it takes none"
            raise UserError(f"{where}: the metric {name!r} has no option {key!r}; {there}")
        if isinstance(value, (dict, list)) or value is None or str(value) == "":
            raise UserError(f"{where}: the option {key!r} of {name!r} has no value")
    return Wanted(name, tuple((key, str(options[key])) for key in known if key in options))


def read_list(path: PathLike) -> list[str]:
    """Spellings of metrics out of a YAML list.

        - wer
        - wer-whisper: {model: base.en}
        - {name: dnsmos, part: bak}

    Raises:
        UserError: unreadable, not such a list, or an unknown metric or option.
    """
    path = Path(path)
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: is no YAML list of metrics ({' '.join(str(error).split())})") from None
    if not isinstance(entries, list):
        raise UserError(f"{path}: must hold a list of metrics, such as '- wer'")
    found = []
    for number, entry in enumerate(entries, 1):
        found.append(_listed(entry, f"{path} entry {number}").spelled)
    if not found:
        raise UserError(f"{path}: names no metric; write a list such as '- wer'")
    return found


def _listed(entry: Any, where: str) -> Wanted:
    if isinstance(entry, str):
        return parse(entry)
    if isinstance(entry, dict) and "name" in entry:
        options = {key: value for key, value in entry.items() if key != "name"}
        return _with(parse(str(entry["name"])).name, options, where)
    if isinstance(entry, dict) and len(entry) == 1:
        ((name, options),) = entry.items()
        if options is None or isinstance(options, dict):
            return _with(parse(str(name)).name, options or {}, where)
    raise UserError(f"{where}: is no metric; write '- wer' or '- wer-whisper: {{model: base.en}}'")


def load(name: str, context: Context | None = None) -> Metric:
    """One metric; see ``load_all``."""
    return load_all([name], context)[0]


def load_all(wanted: Sequence[str], context: Context | None = None) -> list[Metric]:
    """Metrics by name, checked at once and cheap to make: models are loaded when a metric is called.

    Metrics that do a part of their work alike share it, if they are made together: WER and CER of one recogniser one
    listening, distortion and pitch one analysis, durations one alignment.

    Args:
        wanted: spellings, see ``parse``; each metric at most once.
        context: what the metrics need beyond the items.

    Raises:
        UserError: a name is unknown or comes twice, or what its metric needs is missing.
    """
    context = context or Context()
    shared: dict[Any, Any] = {}
    asked = [parse(spelling) for spelling in wanted]
    for one in asked:
        if [other.name for other in asked].count(one.name) > 1:
            raise UserError(f"the metric {one.name!r} is asked for twice; name it once")
    return [one.entry.make(Making(dict(one.options), context, shared)) for one in asked]


def identity(spelling: str) -> dict[str, Any]:
    """Whatever decides a metric's values beside the recordings: name, options, versions, local weights.

    Raises:
        UserError: see ``parse``.
    """
    one = parse(spelling)
    return {
        "name": one.name, "options": [[key, value, _content(value)] for key, value in one.options],
        "versions": {package: _version(package) for package in (*one.entry.packages, "numpy")}, "flowtts": __version__,
    }  # fmt: skip


def _content(value: str) -> Any:
    """What a path holds: the hash of a file; names, sizes and times of the files of a folder."""
    path = Path(value).expanduser()
    if path.is_file():
        return digest(path)
    if not path.is_dir():
        return None
    files = sorted(one for one in path.rglob("*") if one.is_file())
    return [[str(one.relative_to(path)), one.stat().st_size, one.stat().st_mtime_ns] for one in files]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def info(spelling: str) -> dict[str, Any]:
    """What a table says of a metric, see ``flowtts.compare.result.MetricInfo``; ``needs`` and ``shares`` of ``Entry``.

    Raises:
        UserError: see ``parse``.
    """
    one = parse(spelling)
    entry = one.entry
    return {
        "name": one.name, "spelled": one.spelled, "label": entry.label, "unit": entry.unit,
        "higher_is_better": entry.higher, "rate": entry.rate, "level": entry.level, "paper": entry.source,
        "needs": entry.needs, "shares": entry.shares,
    }  # fmt: skip


def _unknown(what: str, spelt: str, name: str, known: Sequence[str]) -> UserError:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UserError(f"unknown {what} {spelt!r}; {hint}there are {', '.join(known)}")
