"""How many steps a diffusion decoder needs, by sampler: the same drawn codes and the same noise for all of them.

    python benchmarks/diffusion_steps.py OUT --sentences heldout.tsv --model tortoise guidance=2

One take of every sentence is drawn in each voice and made audible by every sampler with every number of steps. The
axis counts calls of the decoder's network, of which heun and midpoint take two per step, and guidance doubles all.
"midpoint" is the probability-flow ODE as flow-matching models solve it; what draws no noise follows the same ODE.

    wer-closed  wrong words of a recogniser whose language model knows the sentences
    wer         wrong words of one with its own language model
    sim-o       cosine with the voice's recording
    mel         mean absolute distance in dB from what --reference makes of the same noise in --reference-steps steps

ddpm draws more noise on its way, so that it does not come near the reference; how far apart two results are that only
differ in their noise is shown as "other noise" (the reference's solver, with the most of --steps).

Intervals are 95 % bootstrap intervals, sentences being drawn with all their voices. Recordings are kept, and a broken
run goes on. Writes steps.json, .md, .svg and .png.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from charts import Panel, draw
from tables import save, table
from takes import RATES, VOICES, Drawn, Ear, Kept, Speaker, listed, options_of, prompts, ratio_by, sentences, shown
from torch import Tensor

import flowtts
from flowtts.audio.io import read
from flowtts.checkpoint import load_tensors, save_tensors
from flowtts.listening import Heard
from flowtts.types import Audio, MelSpec, Sampling, UserError

SOLVERS = ("ddpm", "ddim", "dpm++2m", "diffusers-unipc", "heun", "midpoint")
MEASURES = (*RATES, "sim-o", "mel")
LABELS = {"wer-closed": "wrong words, closed vocabulary, %", "wer": "wrong words, open vocabulary, %",
          "sim-o": "cosine with the voice", "mel": "distance from the reference, dB"}  # fmt: skip
REFERENCE, OTHER = "reference", "other noise"


@dataclass(frozen=True)
class Way:
    """A way of sampling.

    Attributes:
        label: the sampler, or what else it stands for.
        solver: of ``flowtts.solve.SOLVERS``.
        steps: of it.
        noise: 0 is the noise that all have in common.
    """

    label: str
    solver: str
    steps: int
    noise: int = 0

    @property
    def name(self) -> str:
        """For files."""
        return f"{self.label}-{self.steps}".replace(" ", "-").replace(":", "-")


def ways(solvers: Sequence[str], steps: Sequence[int], reference: str, reference_steps: int) -> list[Way]:
    """The reference first, then all samplers, and the reference's with other noise."""
    return [
        Way(REFERENCE, reference, reference_steps),
        *(Way(solver, solver, count) for solver in solvers for count in steps),
        Way(OTHER, reference, max(steps), noise=1),
    ]


def distance(made: Tensor, reference: Tensor, spec: MelSpec) -> float:
    """Mean absolute difference of log-mels (T, C), in dB."""
    decibel = 20 / spec.power / math.log(10)
    return float((made - reference).abs().mean()) * spec.std * decibel


@dataclass(frozen=True, eq=False)
class Bench:
    """What renders, judges and keeps.

    Attributes:
        speaker: the model.
        ear: the judges that listen.
        kept: what there is.
        ways: what is compared, the reference first.
    """

    speaker: Speaker
    ear: Callable[[Audio, str, Audio], dict[str, Any]]
    kept: Kept
    ways: Sequence[Way]

    def run(self, name: str, text: str, heard: Heard, prompt: Audio) -> dict[str, dict[str, Any]]:
        """A sentence in a voice, all ways: what is known of each, by the way's name."""
        found = {way.name: self.kept.record(f"{name}/{way.name}") for way in self.ways}
        place = self.kept.folder / name / "reference.safetensors"
        if None in found.values() or not place.is_file():
            drawn = self.speaker.draw(text, heard, 1)
            for way in self.ways:
                if found[way.name] is None or (way.label == REFERENCE and not place.is_file()):
                    found[way.name] = self._make(name, way, drawn, (text, heard, prompt))
        return {key: record for key, record in found.items() if record is not None}

    def _make(self, name: str, way: Way, drawn: Drawn, said: tuple[str, Heard, Audio]) -> dict[str, Any]:
        text, heard, prompt = said
        sampling = replace(self.speaker.sampling, solver=way.solver, steps=way.steps)
        made = self.speaker.render(drawn, 0, heard, sampling, way.noise)
        place = self.kept.folder / name / "reference.safetensors"
        if way.label == REFERENCE:
            place.parent.mkdir(parents=True, exist_ok=True)
            save_tensors(place, {"features": made.features})
        spec = self.speaker.tts.spec
        apart = distance(made.features, load_tensors(place)["features"], spec)
        audio = self.speaker.tts.sound(made.features, heard.gain)
        # One call per part of the text is the autoregressive model's, for the states that the decoder reads.
        calls = made.network_calls - len(drawn.parts)
        return self.kept.keep(
            f"{name}/{way.name}", audio, {"calls": calls, "mel": apart, **self.ear(audio, text, prompt)}
        )


def rows_of(
    found: Mapping[str, Mapping[str, Mapping[str, Any]]], owners: Mapping[str, str], compared: Sequence[Way]
) -> list[dict[str, Any]]:
    """A row for each way.

    Args:
        found: by sentence and voice, then by the way's name, what is known.
        owners: the sentence of each.
        compared: the ways.
    """
    rows = []
    for way in compared:
        known = [found[name][way.name] for name in found]
        who = [owners[name] for name in found]
        row: dict[str, Any] = {"label": way.label, "solver": way.solver, "steps": way.steps}
        row["calls"] = sum(record["calls"] for record in known) / len(known)
        for measure in MEASURES:
            under = [float(r["words"]) if measure in RATES else float(r[measure] is not None) for r in known]
            row[measure] = ratio_by([r[measure] or 0.0 for r in known], under, who)
        rows.append(row)
    return rows


def markdown(rows: Sequence[Mapping[str, Any]], about: str) -> str:
    """The table; rates in per cent."""
    lines = []
    for row in rows:
        named = row["label"] if row["label"] == row["solver"] else f"{row['label']}: {row['solver']}"
        lines.append([named, row["steps"], f"{row['calls']:g}", *(shown(m, row[m]) for m in MEASURES)])
    return table(["sampler", "steps", "calls", "wer-closed", "wer", "SIM-o", "mel, dB"], lines) + f"\n{about}\n"


def panels(rows: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """Every measure over the calls of the network."""
    special = {row["label"]: row for row in rows if row["label"] in (REFERENCE, OTHER)}
    made = []
    for measure in MEASURES:
        lines: dict[str, list[tuple[float, Mapping[str, Any]]]] = {}
        for row in rows:
            if row["label"] not in special:
                lines.setdefault(row["label"], []).append((row["calls"], row[measure]))
        row = special[OTHER if measure == "mel" else REFERENCE]
        across = {f"{row['label']} ({row['solver']}, {row['calls']:g} calls)": row[measure]}
        scale = 100.0 if measure in RATES else 1.0
        made.append(Panel(measure, LABELS[measure], lines, across, scale, log=measure == "mel"))
    return made


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sentences", type=Path, required=True, help="TSV with columns id and text")
    parser.add_argument("--count", type=int, default=20, help="sentences")
    parser.add_argument("--voices", type=listed(str), default=VOICES, help="A,B,… of flite, or recordings")
    parser.add_argument("--solvers", type=listed(str), default=SOLVERS, help=",".join(SOLVERS))
    parser.add_argument("--steps", type=listed(int), default=[4, 8, 16, 32, 64], help="4,8,16,32,64")
    parser.add_argument("--reference", default="dpm++2m", help="solver that draws no noise")
    parser.add_argument("--reference-steps", type=int, default=256)
    parser.add_argument("--model", default="tortoise")
    parser.add_argument("--vocoder", default="vocos")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("options", nargs="*", help="guidance=2 grid=uniform decoding=temperature=0.7,top_p=0.9 …")
    return parser.parse_intermixed_args(arguments)


def about_of(sampling: Sampling, voices: Sequence[str], count: int) -> str:
    """What the table is of."""
    return (
        f"{count} sentences in the voices {', '.join(voices)}; grid {sampling.grid}, guidance {sampling.guidance}, "
        f"temperature {sampling.temperature:g}."
    )


def main(
    arguments: Sequence[str] | None = None, ear: Callable[[Audio, str, Audio], dict[str, Any]] | None = None
) -> None:
    """Command line; ``ear`` takes the place of the judges that listen."""
    given = parse(arguments)
    options = options_of(given.options)
    if options.keys() & {"solver", "steps"}:
        raise UserError("give --solvers and --steps, not solver=… or steps=…")
    (_, prompt_text), *texts = sentences(given.sentences, given.count + 1)
    speaker = Speaker(flowtts.load(given.model, given.vocoder, given.device, given.engine), options)
    tts, sampling = speaker.tts, speaker.sampling
    shared = {"grid": sampling.grid, "guidance": sampling.guidance, "temperature": sampling.temperature}
    settings = {"texts": texts, "model": tts.hash, "vocoder": tts.vocoder.name, "sampling": shared,
                "decoding": vars(speaker.decoding), "seed": speaker.seed,
                "reference": [given.reference, given.reference_steps]}  # fmt: skip
    voices = prompts(given.voices, prompt_text, given.out / "prompts")
    compared = ways(given.solvers, given.steps, given.reference, given.reference_steps)
    judge = ear or Ear([text for _, text in texts])
    bench = Bench(speaker, judge, Kept(given.out / "takes", settings), compared)
    found, owners = {}, {}
    for voice, path in voices.items():
        heard, prompt = speaker.voice(path), read(path).mono()
        for sentence, text in texts:
            name = f"{voice}-{sentence}"
            found[name], owners[name] = bench.run(name, text, heard, prompt), sentence
            print(name, file=sys.stderr, flush=True)
    rows = rows_of(found, owners, compared)
    shape = markdown(rows, about_of(sampling, list(voices), len(texts)))
    about = {"model": given.model, "engine": tts.engine, "voices": list(voices)}
    save(given.out, "steps", {"about": about, "settings": settings, "rows": rows}, shape)
    draw(given.out, "steps", panels(rows), "network calls of the decoder")
    print(shape)


if __name__ == "__main__":
    main()
