"""How much it helps to draw several takes and keep the best: by CLVP, by a recogniser, by similarity to the voice.

    python benchmarks/candidates.py OUT --sentences heldout.tsv --model tortoise --steps 30 guidance=2

Every sentence is drawn 16 times at once in each voice, as ``say`` with ``best_of=16`` does, and every take is made
audible and judged. What choosing among N of them brings is then no matter of luck: its expectation over all sets of N
of the 16 is summed, each take weighing as often as it is the best of its set. The cost is 16 takes, whatever is asked.

Rankers are "clvp" (the score of the codes), "wer" (a recogniser with its own language model) and "sim" (SIM-o), as
``--rank`` has them; takes that they find equal share the choice. What a ranker decides by, it improves by definition:
such a cell of the table is marked †. The recogniser therefore ranks with an open vocabulary, and the measure beside
it is "wer-closed", whose language model knows the sentences. Both hear with the same acoustic model, which still
flatters that ranker. "oracle" takes what is best in the very measure of its column, "one take" is the mean of all.

Intervals are 95 % bootstrap intervals, sentences being drawn with all their voices; "change" is the difference of the
closed rate from that of one take, paired. Recordings are kept, and a broken run goes on. Writes candidates.json, .md,
.svg and .png.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
from charts import Panel, draw
from numpy.typing import NDArray
from tables import save, table
from takes import VOICES, Ear, Kept, Speaker, listed, options_of, prompts, ratio_by, sentences, shown

import flowtts
from flowtts.audio.io import read

MEASURES: Mapping[str, int] = {"wer-closed": -1, "wer": -1, "sim-o": 1, "clvp": 1}
"""Measure -> 1 if more of it is better, else -1."""

RANKERS: Mapping[str, str | None] = {"clvp": "clvp", "wer": "wer", "sim": "sim-o", "oracle": None}
"""Ranker -> the measure that it decides by; None for that of the column."""

ONE = "one take"
LABELS = {"wer-closed": "wrong words, closed vocabulary, %", "wer": "wrong words, open vocabulary, %",
          "sim-o": "cosine with the voice", "clvp": "CLVP score"}  # fmt: skip


@dataclass(frozen=True)
class Unit:
    """All takes of a sentence in a voice.

    Attributes:
        voice: its name.
        sentence: its id.
        takes: what is known of each: "words", and a value or None for every measure.
    """

    voice: str
    sentence: str
    takes: Sequence[Mapping[str, Any]]

    def values(self, measure: str) -> NDArray[np.float64]:
        """(N,) of every take, NaN where it could not be judged."""
        found = [take[measure] for take in self.takes]
        return np.array([np.nan if value is None else value for value in found], dtype=np.float64)

    def expected(self, measure: str, ranker: str | None, size: int) -> tuple[float, float]:
        """What the best of ``size`` takes brings: numerator and denominator of the measure."""
        deciding = None if ranker is None else RANKERS[ranker] or measure
        count = len(self.takes)
        scores = np.zeros(count) if deciding is None else MEASURES[deciding] * self.values(deciding)
        chances, values = chosen(scores, size), self.values(measure)
        judged = ~np.isnan(values)
        under = float(self.takes[0]["words"]) if measure.startswith("wer") else float(chances[judged].sum())
        return float(chances[judged] @ values[judged]), under


def chosen(scores: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """(N,) how probable it is that each of N takes is the best of ``size`` of them, drawn without repetition.

    The take with r better ones is the best of comb(N - 1 - r, size - 1) sets of comb(N, size). Equals share.

    Args:
        scores: (N,), more is better; NaN is worse than all.
        size: 1 to N.

    Raises:
        ValueError: the size is out of range.
    """
    count = len(scores)
    if not 1 <= size <= count:
        raise ValueError(f"the best of {size} takes, but there are {count}")
    ranked = np.array([comb(count - 1 - rank, size - 1) / comb(count, size) for rank in range(count)])
    scores = np.where(np.isnan(scores), -np.inf, scores)
    chances = np.empty(count)
    for value in np.unique(scores):
        better, equal = int((scores > value).sum()), scores == value
        chances[equal] = ranked[better : better + int(equal.sum())].mean()
    return chances


def collect(
    speaker: Speaker, ear: Ear, texts: Sequence[tuple[str, str]], voices: Mapping[str, Path], kept: Kept, count: int
) -> list[Unit]:
    """Draw, make audible and judge whatever is not there yet."""
    units = []
    for voice, path in voices.items():
        heard, prompt = speaker.voice(path), read(path).mono()
        for sentence, text in texts:
            names = [f"{voice}-{sentence}/{take:02d}" for take in range(count)]
            found = [kept.record(name) for name in names]
            if None in found:
                drawn = speaker.draw(text, heard, count)
                clvp = speaker.judge(drawn)
                for take, name in enumerate(names):
                    if found[take] is not None:
                        continue
                    made = speaker.render(drawn, take, heard)
                    audio = speaker.tts.sound(made.features, heard.gain)
                    known = {"seed": drawn.seeds[take], "seconds": audio.seconds, "finished": drawn.finished[take],
                             "clvp": clvp[take]}  # fmt: skip
                    found[take] = kept.keep(name, audio, {**known, **ear(audio, text, prompt)})
            units.append(Unit(voice, sentence, [record for record in found if record is not None]))
            print(f"{voice}-{sentence}", file=sys.stderr, flush=True)
    return units


def curve(units: Sequence[Unit], sizes: Sequence[int]) -> list[dict[str, Any]]:
    """A row for one take, and one for each ranker and number of takes."""
    owners = [unit.sentence for unit in units]
    rows = []
    ways: list[tuple[str | None, int]] = [(None, 1), *((r, n) for r in RANKERS for n in sizes if n > 1)]
    for ranker, size in ways:
        row: dict[str, Any] = {"ranker": ranker or ONE, "takes": size}
        for measure in MEASURES:
            over, under = zip(*(unit.expected(measure, ranker, size) for unit in units), strict=True)
            row[measure] = ratio_by(over, under, owners)
            if measure == "wer-closed":
                alone = [unit.expected(measure, None, 1)[0] for unit in units]
                row["change"] = ratio_by([a - b for a, b in zip(over, alone, strict=True)], under, owners)
        rows.append(row)
    return rows


def markdown(rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> str:
    """The table; rates in per cent."""
    lines = []
    for row in rows:
        own = RANKERS.get(row["ranker"], "")
        cells = [shown(m, row[m]) + (" †" if own in (m, None) else "") for m in MEASURES]
        change = shown("wer", row["change"]) if row["ranker"] != ONE else "–"
        lines.append([row["ranker"], row["takes"], cells[0], change, *cells[1:]])
    head = table(["chosen by", "takes", "wer-closed", "change", "wer", "SIM-o", "CLVP"], lines)
    return head + (
        f"\n{about['sentences']} sentences in the voices {', '.join(about['voices'])}, {about['takes']} takes each, of "
        f"which {about['finished']} ended by themselves; {about['sampling']}; decoding {about['decoding']}.\n"
        "† what the ranker itself decides by.\n"
    )


def panels(rows: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """Every measure over the number of takes."""
    start = next(row for row in rows if row["ranker"] == ONE)
    made = []
    for measure in MEASURES:
        lines = {
            ranker: [(1.0, start[measure]), *((float(r["takes"]), r[measure]) for r in rows if r["ranker"] == ranker)]
            for ranker in RANKERS
        }
        scale = 100.0 if measure.startswith("wer") else 1.0
        made.append(Panel(measure, LABELS[measure], lines, {}, scale))
    return made


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sentences", type=Path, required=True, help="TSV with columns id and text")
    parser.add_argument("--count", type=int, default=60, help="sentences")
    parser.add_argument("--voices", type=listed(str), default=VOICES, help="A,B,… of flite, or recordings")
    parser.add_argument("--takes", type=int, default=16)
    parser.add_argument("--sizes", type=listed(int), default=[1, 4, 16], help="numbers of takes in the table, 1,4,16")
    parser.add_argument("--steps", type=int, help="of the diffusion decoder")
    parser.add_argument("--model", default="tortoise")
    parser.add_argument("--vocoder", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("options", nargs="*", help="guidance=2 decoding=temperature=0.7,top_p=0.9 seed=1 …")
    parsed = parser.parse_intermixed_args(arguments)
    if not all(1 <= size <= parsed.takes for size in parsed.sizes):
        parser.error(f"--sizes are from 1 to --takes, {parsed.takes}")
    return parsed


def main(arguments: Sequence[str] | None = None, ear: Ear | None = None) -> None:
    """Command line; ``ear`` takes the place of the judges that listen."""
    given = parse(arguments)
    options = options_of(given.options) | ({} if given.steps is None else {"steps": given.steps})
    (_, prompt_text), *texts = sentences(given.sentences, given.count + 1)
    speaker = Speaker(flowtts.load(given.model, given.vocoder, given.device, given.engine), options)
    tts = speaker.tts
    sampling, decoding = speaker.sampling, speaker.decoding
    settings = {"texts": texts, "model": tts.hash, "vocoder": tts.vocoder.name, "sampling": vars(sampling),
                "decoding": vars(decoding), "seed": speaker.seed}  # fmt: skip
    voices = prompts(given.voices, prompt_text, given.out / "prompts")
    kept = Kept(given.out / "takes", settings)
    units = collect(speaker, ear or Ear([text for _, text in texts]), texts, voices, kept, given.takes)
    finished = [bool(take["finished"]) for unit in units for take in unit.takes]
    about = {
        "model": given.model, "engine": tts.engine, "sentences": len(texts), "voices": list(voices),
        "takes": given.takes, "finished": f"{100 * np.mean(finished):.1f} %", "decoding": str(decoding) or "by default",
        "sampling": f"{sampling.solver}, {sampling.steps} steps, guidance {sampling.guidance}",
    }  # fmt: skip
    rows = curve(units, given.sizes)
    shape = markdown(rows, about)
    save(given.out, "candidates", {"about": about, "settings": settings, "rows": rows}, shape)
    draw(given.out, "candidates", panels(rows), "takes")
    print(shape)


if __name__ == "__main__":
    main()
