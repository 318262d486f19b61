"""The bitrate ladder of a codec: quality, intelligibility and voice by bits per second, beside Opus.

    python benchmarks/codecs.py --codec NAME --data LIST --out FOLDER

``--codec`` is a codec's name or folder. ``--data`` lists recordings: a TSV with the columns audio and, as wanted, id,
text, prompt and speaker, JSONL with these keys, or one path a line. Every recording goes through the first 1, 2, 4, …
codebooks, through Opus, and through a mel and Griffin-Lim (phases guessed, nothing coded); metrics compare with the
recording itself, whose own scores show what a metric gives to nothing changed. Wrong words are counted where a text is
known.

    bit/s         codes as they are; Opus' packets, without their container
    entropy       codes, if frequent ones were written shorter; few frames make it too low, see flowtts/ladder.py
    encode/decode seconds of one processor's time over seconds of sound, one thread, all in this run; of Opus both
                  directions together
    delay         what a codec holds back, counted while it gets one frame after the other

Intervals are 95 % bootstrap intervals over recordings. FOLDER/compare is a comparison as ``flowtts compare`` makes it,
with a page to listen to; a broken run goes on. Writes codecs.json, codecs.md, and the charts codecs-sound and
codecs-speech.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from charts import Panel, draw
from tables import save, table
from takes import ratio_by

from flowtts.audio.io import read
from flowtts.bench.store import key_of, machine, versions
from flowtts.codec import Codec
from flowtts.compare import Job, Result, compare, parse, write_report
from flowtts.compare.figures import Figures, asked
from flowtts.compare.prompts import Asked
from flowtts.ladder import bitrates, cost, delay, one_thread, read_recordings, timed
from flowtts.opus import opus
from flowtts.registry import load_codec, metric_info, read_metrics
from flowtts.types import Audio, CodeSpec, UserError

METRICS = "pesq,stoi,si-sdr,mel,mel-dac,nsim,sim-o,wer-closed,wer"
COPY, ITSELF = "Griffin-Lim", "recordings"


@dataclass(frozen=True)
class Rung:
    """A way to code.

    Attributes:
        label: of it.
        word: that names it for ``flowtts.compare``.
        codebooks: of the codec; None for others.
        kbps: that Opus is asked for; None for others.
    """

    label: str
    word: str
    codebooks: int | None = None
    kbps: float | None = None


class Watch:
    """Says on standard error how far it is."""

    def set(self, done: int, total: int | None = None, description: str | None = None) -> None:
        """So much of so much is done."""
        print(f"{description or ''}: {done} of {total}", file=sys.stderr, flush=True)

    def message(self, text: str) -> None:
        """A line worth keeping."""
        print(text, file=sys.stderr, flush=True)


def rungs(codec: str, most: int, codebooks: Sequence[int], kbps: Sequence[float]) -> list[Rung]:
    """All ways, the coarsest of each kind first.

    Raises:
        UserError: the codec has fewer codebooks.
    """
    wanted = sorted({*codebooks} or {n for n in (1, 2, 4, 8, 16, 32) if n < most} | {most})
    if wanted[-1] > most or wanted[0] < 1:
        raise UserError(f"{codec} has {most} codebooks; choose from 1 to {most} with --codebooks")
    found = [Rung(f"{n} of {most} codebooks", f"{codec}-copy:codebooks={n}", codebooks=n) for n in wanted]
    found += [Rung(f"Opus at {rate:g} kbit/s", f"opus-copy:kbps={rate:g}", kbps=rate) for rate in sorted(kbps)]
    return [*found, Rung(COPY, "griffin-lim-copy"), Rung(ITSELF, "recordings")]


def costs(codec: Codec, ways: Sequence[Rung], sounds: Mapping[str, Audio]) -> dict[str, Any]:
    """Bits and computing of the codec and of every rung, and the codec's delay."""
    spec = codec.spec
    found = cost(codec, list(sounds.values()))
    rates = bitrates(spec, found.usages)
    by_label: dict[str, dict[str, Any]] = {}
    for way in ways:
        if way.codebooks is not None:
            nominal, entropy = rates[way.codebooks - 1]
            by_label[way.label] = {"bits": nominal, "entropy": entropy}
        elif way.kbps is not None:
            by_label[way.label] = _opus(way.kbps, sounds)
    usages = [
        {"codebook": number, "share": one.share, "perplexity": one.perplexity, "bits": one.bits}
        for number, one in enumerate(found.usages, start=1)
    ]
    speed = {
        name: ratio_by(spent, found.seconds, list(sounds))
        for name, spent in (("encode", found.encode), ("decode", found.decode))
    }
    return {"spec": asdict(spec), "usage": usages, "frames": found.frames, "rtf": speed,
            "delay": _delay(codec, spec), "rungs": by_label}  # fmt: skip


def _opus(kbps: float, sounds: Mapping[str, Audio]) -> dict[str, Any]:
    """What Opus needs: bits per second over all recordings, and computing."""
    bits, spent, seconds = [], [], []
    for audio in sounds.values():
        (_, rate), took = timed(partial(opus, audio, kbps))
        bits.append(rate * audio.seconds)
        spent.append(took)
        seconds.append(audio.seconds)
    return {"bits": sum(bits) / sum(seconds), "entropy": None, "rtf": ratio_by(spent, seconds, list(sounds))}


def _delay(codec: Codec, spec: CodeSpec) -> dict[str, Any]:
    try:
        found = delay(codec)
    except UserError as error:
        return {"none": str(error)}
    return {**asdict(found), "frames": found.whole / spec.hop_length, "ms": 1000 * found.whole / spec.sample_rate}


def judged(result: Result, ways: Sequence[Rung], names: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Scores by label and metric."""
    kept = ("value", "low", "high", "count", "dropped")
    return {
        way.label: {
            metric: {key: value for key, value in score.items() if key in kept}
            for metric, score in result["scores"][names[way.label]].items()
        }
        for way in ways
    }


def markdown(found: Mapping[str, Any], result: Result) -> str:
    """A row for each rung; then the codebooks, speed and delay."""
    figures = Figures.of(result)
    heads = []
    for metric in result["metrics"]:
        unit = "%" if metric["rate"] else metric["unit"]
        heads.append(metric["label"] + (f", {unit}" if unit else ""))
    rows: list[list[object]] = []
    for label, rung in found["rungs"].items():
        scores = [figures.score(rung["name"], name) for name in figures.metrics]
        cells: list[str] = []
        for name, score in zip(figures.metrics, scores, strict=True):
            if score is None or score["value"] is None:
                cells.append("–")
                continue
            scale = figures.scales[name]
            some = "" if score["count"] == asked(score) else f" ({score['count']})"
            cells.append(f"{scale.text(score['value'])} {scale.between(score['low'], score['high'])}{some}")
        rows.append([label, *(_whole(rung.get(key)) for key in ("bits", "entropy")), *cells])
    about = found["codec"]
    usage = [[one["codebook"], f"{100 * one['share']:.1f}", f"{one['perplexity']:.0f}", f"{one['bits']:.2f}"]
             for one in about["usage"]]  # fmt: skip
    speed: list[list[object]] = [[name, about["rtf"][name]] for name in ("encode", "decode")]
    speed += [[label, rung["rtf"]] for label, rung in found["rungs"].items() if "rtf" in rung]
    late = about["delay"]
    lines = f"It does not run in pieces: {late['none']}." if "none" in late else (
        f"In pieces, codes come {late['codes']} frames behind the sound and sound {late['samples']} samples behind the "
        f"codes: at most {late['frames']:g} frames, {late['ms']:g} ms, from speaking to hearing."
    )  # fmt: skip
    return "\n".join([
        f"{about['name']}, {found['count']} recordings, {found['seconds']:.0f} s.", "",
        table(["", "bit/s", "entropy, bit/s", *heads], rows),
        table(["codebook", f"used over {about['frames']} frames, %", "perplexity", "bits a code"], usage),
        table(["", "time over sound, one thread"], speed), lines, "",
    ])  # fmt: skip


def _whole(value: float | None) -> str | None:
    return None if value is None else f"{value:.0f}"


def charts(found: Mapping[str, Any], result: Result, folder: Path) -> None:
    """Each metric over kbit/s: those that need the recording's timing, and the others."""
    panels: dict[str, list[Panel]] = {"codecs-sound": [], "codecs-speech": []}
    name = found["codec"]["name"]
    for metric in result["metrics"]:
        lines: dict[str, list[tuple[float, Mapping[str, Any]]]] = {name: [], "Opus": []}
        across: dict[str, Mapping[str, Any]] = {}
        where = "codecs-sound" if "timing" in metric_info(metric["name"])["needs"] else "codecs-speech"
        for label, rung in found["rungs"].items():
            score = rung["scores"][metric["name"]]
            if score["value"] is None:
                continue
            if "bits" in rung:
                lines["Opus" if rung["codebooks"] is None else name].append((rung["bits"] / 1000, score))
            elif label != ITSELF or where == "codecs-speech":
                # Beside itself a recording gets the most there is, far from all others.
                across[label] = score
        if not any(lines.values()):
            continue
        unit = "%" if metric["rate"] else metric["unit"]
        drawn = {line: points for line, points in lines.items() if points}
        better = {True: "higher is better", False: "lower is better", None: ""}[metric["higher_is_better"]]
        panels[where].append(
            Panel(metric["label"], ", ".join(filter(None, (unit, better))), drawn, across, 100 if metric["rate"] else 1)
        )
    for file, some in panels.items():
        if some:
            draw(folder, file, some, "kbit/s")


def wanted_metrics(spelling: str, prompts: Sequence[Asked]) -> tuple[str, ...]:
    """Metrics; those that listen for words only where a text is known."""
    names = [metric_info(name)["spelled"] for name in read_metrics(spelling)]
    if any(one.text for one in prompts):
        return tuple(names)
    return tuple(name for name in names if not name.startswith(("wer", "cer")))


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", required=True, help="a name or folder")
    parser.add_argument("--data", type=Path, required=True, help="list of recordings")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, help="recordings from the beginning of the list; all of them")
    parser.add_argument("--codebooks", type=_numbers(int), default=[], help="1, 2, 4, … and all of them")
    parser.add_argument("--opus", type=_numbers(float), default=[6.0, 12.0, 24.0], help="kbit/s, none if empty")
    parser.add_argument("--metrics", default=METRICS)
    parser.add_argument("--jobs", type=int, default=1, help="processes that judge")
    return parser.parse_args(arguments)


def _numbers(kind: type) -> Any:
    """Reads numbers with commas between."""

    def numbers(text: str) -> list[Any]:
        return [kind(part) for part in text.split(",") if part.strip()]

    return numbers


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    given = options(arguments)
    codec = load_codec(given.codec)
    prompts = read_recordings(given.data, given.count)
    ways = rungs(given.codec, codec.spec.codebooks, given.codebooks, given.opus)
    # A label with a colon would be read as options.
    systems = parse([f"{way.label}={way.word}" for way in ways], {}, [0])
    names = {way.label: system.name for way, system in zip(ways, systems, strict=True)}
    command = shlex.join(["python", "benchmarks/codecs.py", *(sys.argv[1:] if arguments is None else arguments)])
    job = Job(
        systems=systems, prompts=prompts, metrics=wanted_metrics(given.metrics, prompts), jobs=given.jobs, device="cpu",
        tag=False, title=f"The bitrate ladder of {Path(given.codec).name}", command=command,
        sets=({"name": given.data.stem, "source": str(given.data), "count": len(prompts),
               "hash": key_of({"prompts": [[one.id, one.text] for one in prompts]})},),
    )  # fmt: skip
    given.out.mkdir(parents=True, exist_ok=True)
    result = compare(job, given.out / "compare", Watch())
    assert result is not None
    write_report(result, given.out / "compare")
    sounds = {one.id: read(str(one.reference)) for one in prompts}
    with one_thread():
        found = costs(codec, ways, sounds)
        about = machine(torch.device("cpu"))
    by_label, scores = found.pop("rungs"), judged(result, ways, names)
    whole = {
        "codec": {"name": Path(given.codec).name, "hash": codec.hash, **found}, "count": len(prompts),
        "seconds": sum(audio.seconds for audio in sounds.values()), "command": command, "machine": about,
        "versions": versions(),
        "rungs": {
            way.label: {"name": names[way.label], "codebooks": way.codebooks, **by_label.get(way.label, {}),
                        "scores": scores[way.label]}
            for way in ways
        },
    }  # fmt: skip
    shown = markdown(whole, result)
    save(given.out, "codecs", whole, shown)
    charts(whole, result, given.out)
    print(shown)


if __name__ == "__main__":
    main()
