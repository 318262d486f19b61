"""Transient noise removal by the protocol of Voicebox (arXiv 2306.15687, section 5.3 and tables 5 and B5).

    python benchmarks/denoise.py OUT --table TEST.tsv [--share 30 50 70] [--snr -10] [--kinds hiss impact …]

TEST.tsv has the columns id, audio (relative to the table) and text, and may have speaker and prompt (another clean
recording of the same speaker). Noise of ``noises.py`` at ``--snr`` dB is mixed over 30, 50 and 70 % of each recording
of 4 to 10 s, the same for the same seed, and these are judged by WER in an open and a closed vocabulary and by SIM-o:

    clean    the recording
    noisy    with the noise
    muted    silence in the given places: what removing alone does
    wiener   a Wiener filter in the given places; the noise's spectrum is the mean power inside them less that outside
    given    Pipeline.denoise in the given places, as in the paper
    found    Pipeline.denoise in the places that it finds

SIM-o is measured against the column prompt, or against the clean recording itself where there is none; the table says
which. The paper takes the alignment of the clean recording; here the noisy one is aligned, as anybody has to. With
``--alignment clean``, ``given`` is Pipeline.fill of the clean recording in the given places, which is the same but for
the alignment: what lies in the places is never read. ``found`` is then left out. A recording that is refused stays
noisy, which counts as it sounds; refusals are counted beside it.
OUT keeps every recording, a journal from which a broken run continues, scores.json and scores.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import noises
import numpy as np
import torch

from flowtts.audio.io import read, resample, write
from flowtts.registry import load_metric
from flowtts.types import Audio, Item, UserError

SYSTEMS = ("clean", "noisy", "muted", "wiener", "given", "found")
METRICS = ("wer", "wer-closed", "sim-o")


class Result(Protocol):
    """What a denoiser returns; ``flowtts.edit.result.Edited`` is one."""

    @property
    def audio(self) -> Audio:
        """The whole recording, denoised."""
        ...


class Denoiser(Protocol):
    """What is judged; ``flowtts.Pipeline`` is one."""

    def denoise(self, recording: Audio, text: str, spans: Any = None, **options: Any) -> Result:
        """Regenerate ``spans`` (pairs of seconds), or those it finds if None."""
        ...

    def fill(self, recording: Audio, text: str, spans: Any, **options: Any) -> Result:
        """Regenerate ``spans`` and keep the times of all phones."""
        ...


@dataclass(frozen=True, eq=False)
class Sample:
    """A row of the table.

    Attributes:
        name: its id.
        audio: mono, 16 kHz.
        text: what it says.
        speaker: for the babble, which is of others.
        prompt: another recording of the voice, or None.
    """

    name: str
    audio: Audio
    text: str
    speaker: str
    prompt: Audio | None


@dataclass(frozen=True)
class Settings:
    """What decides the outcome; a journal of other settings is not continued.

    Attributes:
        table: where the recordings are listed.
        snr: dB.
        kinds: of ``noises.KINDS``; every place draws one.
        alignment: of the "noisy" or of the "clean" recording.
        seed: of noise and places.
        model: name or folder.
        vocoder: name or folder.
        options: of ``Pipeline.denoise``.
    """

    table: str
    snr: float
    kinds: tuple[str, ...]
    alignment: str
    seed: int
    model: str
    vocoder: str
    options: Mapping[str, Any]

    @property
    def systems(self) -> tuple[str, ...]:
        """What is compared."""
        return SYSTEMS if self.alignment == "noisy" else SYSTEMS[:-1]


def samples(table: Path, shortest: float, longest: float, count: int) -> list[Sample]:
    """The first ``count`` usable rows.

    Raises:
        UserError: a column is missing, an id twice or not fit for a file's name, or no row is usable.
    """
    found: list[Sample] = []
    with table.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        missing = {"id", "audio", "text"}.difference(rows.fieldnames or ())
        if missing:
            raise UserError(f"{table}: no column {', '.join(sorted(missing))}; it needs id, audio and text")
        for number, row in enumerate(rows, start=2):
            if len(found) == count:
                break
            name = row["id"]
            if not name or Path(name).name != name or name in {s.name for s in found}:
                raise UserError(f"{table}, line {number}: the id {name!r} is empty, there twice, or no name for a file")
            audio = resample(read(table.parent / row["audio"]).mono(), noises.RATE)
            if not row["text"].strip() or not shortest <= audio.seconds <= longest:
                continue
            prompt = read(table.parent / row["prompt"]) if row.get("prompt") else None
            found.append(Sample(name, audio, row["text"], row.get("speaker") or name, prompt))
    if not found:
        raise UserError(f"{table}: no recording of {shortest:g} to {longest:g} s with a text; change --seconds")
    return found


def noisy(sample: Sample, everyone: Sequence[Sample], share: float, settings: Settings) -> noises.Mixed:
    """A row with noise over ``share`` of its time, by seed, id and share alone (and, for babble, who else there is)."""
    name = int.from_bytes(sample.name.encode(), "little")
    rng = np.random.default_rng([settings.seed, name, round(share * 1000)])
    others = [other.audio.samples for other in everyone if other.speaker != sample.speaker]
    kinds = [kind for kind in settings.kinds if others or kind != "babble"]
    if not kinds:
        raise UserError("babble needs other speakers in the table; give another of --kinds")
    spans = noises.places(rng, sample.audio.seconds, share)
    return noises.mix(sample.audio, spans, kinds, settings.snr, rng, others)


def muted(mixed: noises.Mixed) -> Audio:
    """Silence in the places of the noise."""
    made = mixed.audio.samples.copy()
    for start, end in mixed.spans:
        made[round(start * noises.RATE) : round(end * noises.RATE)] = 0
    return Audio(made, noises.RATE)


def wiener(mixed: noises.Mixed, floor: float = 0.05) -> Audio:
    """A Wiener filter in the places of the noise, each with a spectrum of its own.

    In every place the noise's power is the mean over its frames less the mean outside all places, and the gain of a bin
    is (power - noise) / power, at least ``floor``.
    """
    size, hop = 512, 128
    window = torch.hann_window(size)
    heard = torch.from_numpy(mixed.audio.samples)
    spectrum = torch.stft(heard, size, hop, window=window, return_complex=True)
    power = spectrum.abs().square()
    # A centred frame overlaps a place as soon as its window does.
    reach = size / 2 / noises.RATE
    middles = torch.arange(power.shape[1]) * hop / noises.RATE
    inside = torch.zeros(power.shape[1], dtype=torch.bool)
    for start, end in mixed.spans:
        inside |= (middles > start - reach) & (middles < end + reach)
    outside = power[:, ~inside].mean(1) if bool((~inside).any()) else power.new_zeros(power.shape[0])
    gain = torch.ones_like(power)
    for start, end in mixed.spans:
        here = (middles > start - reach) & (middles < end + reach)
        noise = (power[:, here].mean(1) - outside).clamp(min=0)[:, None]
        smooth = torch.nn.functional.avg_pool2d(
            power[None, :, here], (3, 5), stride=1, padding=(1, 2), count_include_pad=False
        )[0].clamp(min=1e-12)
        gain[:, here] = ((smooth - noise) / smooth).clamp(floor, 1)
    made = torch.istft(spectrum * gain, size, hop, window=window, length=len(heard)).numpy()
    kept = mixed.audio.samples.copy()
    for start, end in mixed.spans:
        place = slice(round(start * noises.RATE), round(end * noises.RATE))
        kept[place] = made[place]
    return Audio(kept, noises.RATE)


def denoised(
    tts: Denoiser, sample: Sample, mixed: noises.Mixed, spans: Sequence[noises.Span] | None, settings: Settings
) -> tuple[Audio, str | None]:
    """What the pipeline makes; the recording as it was, and why, if it refuses."""
    try:
        if settings.alignment == "clean":
            return tts.fill(sample.audio, sample.text, spans=spans, **settings.options).audio, None
        return tts.denoise(mixed.audio, sample.text, spans=spans, **settings.options).audio, None
    except UserError as error:
        return mixed.audio, str(error)


def process(
    tts: Denoiser, everyone: Sequence[Sample], share: float, folder: Path, settings: Settings
) -> dict[str, dict[str, Any]]:
    """Make all recordings of one share that the journal does not have. Returns the journal by id."""
    from flowtts.edit.noise import find_noise

    for system in settings.systems:
        (folder / system).mkdir(parents=True, exist_ok=True)
    path = folder / "journal.jsonl"
    done = {entry["id"]: entry for entry in _journal(path)}
    for number, sample in enumerate(everyone, start=1):
        if sample.name in done:
            continue
        mixed = noisy(sample, everyone, share, settings)
        found = find_noise(mixed.audio)
        made = {"clean": sample.audio, "noisy": mixed.audio, "muted": muted(mixed), "wiener": wiener(mixed)}
        refused: dict[str, str] = {}
        for system, spans in zip(settings.systems[4:], (mixed.spans, found), strict=False):
            # Nothing found is a recording that stays as it is.
            made[system], reason = denoised(tts, sample, mixed, spans, settings) if spans else (mixed.audio, None)
            if reason is not None:
                refused[system] = reason
        for system, audio in made.items():
            write(folder / system / f"{sample.name}.flac", audio)
        done[sample.name] = {"id": sample.name, "spans": mixed.spans, "found": found, "refused": refused}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(done[sample.name]) + "\n")
        print(f"{share:.0%}: {number} of {len(everyone)}, {sample.name}", file=sys.stderr, flush=True)
    return done


def judge(
    everyone: Sequence[Sample],
    folder: Path,
    journal: Mapping[str, Mapping[str, Any]],
    systems: Sequence[str],
    metrics: Sequence[str],
) -> dict[str, Any]:
    """Scores of every system over one share, and of the places found."""
    scores: dict[str, Any] = {}
    for system in systems:
        items = [
            Item(read(folder / system / f"{s.name}.flac"), s.text, s.audio, s.prompt or s.audio, s.name)
            for s in everyone
        ]
        reasons = {s.name: journal[s.name]["refused"].get(system) for s in everyone}
        scores[system] = {"refused": {name: reason for name, reason in reasons.items() if reason}}
        for name in metrics:
            made = load_metric(name)(items)
            scores[system][name] = {
                "value": made.value, "low": made.low, "high": made.high, "count": made.count,
                "dropped": dict(made.dropped), "backend": made.backend, "sample_rate": made.sample_rate,
                "items": dict(made.items),
            }  # fmt: skip
    step, counts = 0.01, np.zeros(3)
    for s in everyone:
        frames = int(s.audio.seconds / step)
        truth, guess = (noises.overlap(journal[s.name][key], frames, step) for key in ("spans", "found"))
        counts += (truth & guess).sum(), guess.sum(), truth.sum()
    hit, guessed, true = (float(x) for x in counts)
    scores["places"] = {"precision": hit / max(guessed, 1), "recall": hit / max(true, 1)}
    scores["sim-o against"] = "the column prompt" if all(s.prompt for s in everyone) else "the clean recording itself"
    return scores


def markdown(scores: Mapping[str, Any], metrics: Sequence[str]) -> Iterator[str]:
    """One table, a row per share and system."""
    yield "| noisy time | system | " + " | ".join(metrics) + " | recordings | dropped | refused |"
    yield "|---|---|" + "---|" * len(metrics) + "---|---|---|"
    for share, found in scores["shares"].items():
        for system in (name for name in SYSTEMS if name in found):
            entry = found[system]
            cells = [_shown(name, entry[name]) for name in metrics]
            dropped = {name for metric in metrics for name in entry[metric]["dropped"]}
            count = max(entry[name]["count"] for name in metrics)
            yield f"| {share} | {system} | {' | '.join(cells)} | {count} | {len(dropped)} | {len(entry['refused'])} |"
    yield ""
    for share, found in scores["shares"].items():
        places = found["places"]
        yield f"Places found at {share}: precision {places['precision']:.3f}, recall {places['recall']:.3f}. "
        yield f"SIM-o is against {found['sim-o against']}."
    yield f"95 % bootstrap intervals. Settings: {json.dumps(scores['settings'], default=str)}"


def _shown(metric: str, score: Mapping[str, Any]) -> str:
    by, unit = (100, " %") if metric.startswith("wer") else (1, "")
    digits = 1 if unit else 3
    value, low, high = (f"{score[key] * by:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value}{unit} [{low}, {high}]"


def _journal(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a journal; the last one of a broken run may be cut, and is cut off."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        _save(path, "".join(lines[:-1]))
    yield from (json.loads(line) for line in lines if line.endswith("\n"))


def _save(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def check_settings(out: Path, settings: Settings) -> dict[str, Any]:
    """Write the settings into OUT, or make sure that they are those of the run that is there.

    Raises:
        UserError: they differ.
    """
    plain: dict[str, Any] = json.loads(json.dumps(vars(settings)))
    path = out / "settings.json"
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        other = [key for key in plain if before.get(key) != plain[key]]
        if other:
            raise UserError(f"{out} holds a run with another {', '.join(other)}; give another folder")
    else:
        out.mkdir(parents=True, exist_ok=True)
        _save(path, json.dumps(plain, indent=1))
    return plain


def run(
    tts: Denoiser, everyone: Sequence[Sample], shares: Sequence[float], out: Path, settings: Settings,
    metrics: Sequence[str] = METRICS,
) -> dict[str, Any]:  # fmt: skip
    """The whole protocol. Writes scores.json and scores.md; returns the scores."""
    scores: dict[str, Any] = {"settings": check_settings(out, settings), "shares": {}}
    for share in shares:
        folder = out / f"share-{share:.0%}".rstrip("%")
        journal = process(tts, everyone, share, folder, settings)
        scores["shares"][f"{share:.0%}"] = judge(everyone, folder, journal, settings.systems, metrics)
        _save(out / "scores.json", json.dumps(scores, indent=1))
        _save(out / "scores.md", "\n".join(markdown(scores, metrics)) + "\n")
    return scores


def main() -> None:
    """Command line."""
    import flowtts

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--table", type=Path, required=True, help="TSV with id, audio and text")
    parser.add_argument("--count", type=int, default=100, help="recordings")
    parser.add_argument("--seconds", type=float, nargs=2, default=(4.0, 10.0), help="of a recording, from and to")
    parser.add_argument("--share", type=float, nargs="+", default=[30, 50, 70], help="noisy time, %%")
    parser.add_argument("--snr", type=float, default=-10.0, help="dB")
    parser.add_argument("--kinds", nargs="+", default=list(noises.KINDS), choices=noises.KINDS)
    parser.add_argument("--alignment", choices=["noisy", "clean"], default="noisy")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="voicebox")
    parser.add_argument("--vocoder", default="vocos")
    parser.add_argument("options", nargs="*", help="of Pipeline.denoise: steps=16 guidance=1.7 solver=euler …")
    got = parser.parse_intermixed_args()
    options = {key: _value(value) for key, _, value in (option.partition("=") for option in got.options)}
    settings = Settings(
        str(got.table), got.snr, tuple(got.kinds), got.alignment, got.seed, got.model, got.vocoder, options
    )
    try:
        everyone = samples(got.table, got.seconds[0], got.seconds[1], got.count)
        check_settings(got.out, settings)
        run(flowtts.load(got.model, got.vocoder), everyone, [share / 100 for share in got.share], got.out, settings)
    except UserError as error:
        parser.exit(2, f"{error}\n")
    print((got.out / "scores.md").read_text(encoding="utf-8"))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


if __name__ == "__main__":
    main()
