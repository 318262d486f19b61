"""Score how models speak, as their READMEs report it: the same sentences and voices for all.

    python benchmarks/speech.py engines OUT --sentences heldout.tsv
    python benchmarks/speech.py engines OUT --sentences heldout.tsv --model tortoise --name best-of-4 best_of=4 rank=wer
    python benchmarks/speech.py readers OUT --sentences heldout.tsv --readers FOLDER --model tortoise decoding=top_p=0.9

``engines``: sentences absent from the training text in three voices of flite, the prompt being another such sentence;
beside the models' speech, copy-synthesis by the vocoder and the engine's own recordings. Models that want the text of
the prompt are given it.
``readers``: 10 sentences each in the voices of 20 LibriSpeech readers held out of every training (speaker id modulo
8 is 3); models that want the text of the prompt have it recognised. With the same-speaker ceiling (halves of one
recording) and the different-speaker floor.

Options at the end are those of ``Pipeline.say``. A model's scores stand under its name, or the --name given to it with
these options; further models are added to what OUT holds already. Recordings are kept, and a broken run goes on.

Real-time factors are seconds of ``say``, from text to sound, choosing among takes and the times of words included, over
seconds of sound: "wall" as they pass, "cpu" of all threads of the process. Before that the model has spoken once, and
knows the voice: neither loading nor listening to the prompt counts. They are of the runs that made the recordings.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers_timing import machine
from tables import figure, save, table
from takes import VOICES, Kept, options_of, prompts, ratio_by, sentences, shown, speak

import flowtts
from flowtts.audio.io import read, resample, write
from flowtts.features import extractor
from flowtts.pipeline import Pipeline
from flowtts.registry import load_metric
from flowtts.types import Audio, Item, UserError

METRICS = ("wer-closed", "wer", "sim-o")
CLOCKS = ("wall", "cpu")
ENGINE, SAME, OTHER = "engine", "same speaker", "different speaker"


@dataclass(frozen=True, eq=False)
class Task:
    """One sentence in one voice.

    Attributes:
        id: of the recording.
        text: to say.
        voice: the prompt's file.
        voice_text: what that says, or None if nobody knows.
        against: the part of the prompt that similarity is measured to.
        spoken: the engine's own recording, or None.
    """

    id: str
    text: str
    voice: Path
    voice_text: str | None
    against: Audio
    spoken: Audio | None = None

    def item(self, audio: Audio) -> Item:
        """For the metrics."""
        return Item(audio, self.text, self.spoken, self.against, self.id)


def engines(out: Path, texts: Sequence[tuple[str, str]]) -> list[Task]:
    """Sentences in the voices of flite; the first one is the prompt."""
    (_, prompt_text), rest = texts[0], texts[1:]
    tasks = []
    for voice, path in prompts(VOICES, prompt_text, out / "prompts").items():
        heard = read(path)
        for name, text in rest:
            tasks.append(Task(f"{voice}-{name}", text, path, prompt_text, heard, speak(voice, text)))
    return tasks


def readers(folder: Path, texts: Sequence[tuple[str, str]], count: int) -> list[Task]:
    """Sentences in the voices of people whom no model ever heard."""
    tasks = []
    for path in held_out(folder, count):
        first, _ = halves(read(path))
        tasks += [Task(f"{path.stem}-{name}", text, path, None, first) for name, text in texts]
    return tasks


def held_out(folder: Path, count: int) -> list[Path]:
    """Recordings of readers held out of every training.

    Raises:
        UserError: there are none.
    """
    paths = [path for path in sorted(folder.glob("*.ogg")) if int(path.stem.split("-")[0]) % 8 == 3]
    found = [path for path in paths if read(path).seconds >= 8][:count]
    if not found:
        raise UserError(f"{folder} holds no recording SPEAKER-….ogg of 8 s of a speaker that is 3 modulo 8")
    return found


def halves(audio: Audio) -> tuple[Audio, Audio]:
    """The first and the second half, mono."""
    mono = audio.mono()
    middle = len(mono.samples) // 2
    first, second = mono.samples[:middle].copy(), mono.samples[middle:].copy()
    return Audio(first, mono.sample_rate), Audio(second, mono.sample_rate)


def spoken(tts: Pipeline, tasks: Sequence[Task], kept: Kept, options: Mapping[str, Any]) -> tuple[list[Item], Any]:
    """What a model makes of the tasks, and its real-time factors by clock."""
    missing = [task for task in tasks if kept.record(task.id) is None]
    if missing:
        tts.say(missing[0].text, voice=missing[0].voice, voice_text=missing[0].voice_text, **options)
    ready: set[Path] = set()
    for number, task in enumerate(missing, start=1):
        if task.voice not in ready:
            tts.plan(task.text, voice=task.voice, voice_text=task.voice_text, **options)
            ready.add(task.voice)
        wall, cpu = time.perf_counter(), time.process_time()
        made = tts.say(task.text, voice=task.voice, voice_text=task.voice_text, **options)
        took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        kept.keep(task.id, made.audio, {"took": took, "seconds": made.audio.seconds, "seed": made.seed,
                                        "network_calls": made.network_calls})  # fmt: skip
        print(f"{task.id}: {number} of {len(missing)}", file=sys.stderr, flush=True)
    records = [kept.record(task.id) or {} for task in tasks]
    factors = {
        clock: ratio_by([r["took"][clock] for r in records], [r["seconds"] for r in records], [t.id for t in tasks])
        for clock in CLOCKS
    }
    # Whether it was made now or before, what is judged is what was written.
    return [task.item(read(kept.audio(task.id))) for task in tasks], factors


def copy(tts: Pipeline, audio: Audio) -> Audio:
    """Copy-synthesis: to the model's features and back through the vocoder."""
    audio = resample(audio.mono(), tts.spec.sample_rate)
    features = extractor(tts.spec)(torch.from_numpy(audio.samples)[None])
    samples = tts.vocoder.decode(features)[0].detach().numpy()
    return Audio(np.asarray(samples, dtype=np.float32), tts.spec.sample_rate)


def references(
    tts: Pipeline, tasks: Sequence[Task], out: Path, known: Container[str]
) -> Iterator[tuple[str, list[Item]]]:
    """The engines' recordings themselves and through the vocoder, by a name that is not known yet."""
    for name in (f"copy-synthesis by {tts.vocoder.name}", ENGINE):
        if name in known:
            continue
        items = []
        for task in tasks:
            assert task.spoken is not None
            items.append(task.item(task.spoken if name == ENGINE else copy(tts, task.spoken)))
            path = out / name.replace(" ", "-") / f"{task.id}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, items[-1].audio)
        yield name, items


def bounds(paths: Sequence[Path]) -> dict[str, list[Item]]:
    """Similarity of the halves of a reader's recording, and of two readers."""
    same, other = [], []
    for index, path in enumerate(paths):
        first, second = halves(read(path))
        same.append(Item(second, "", prompt=first, id=path.stem))
        other.append(Item(read(paths[(index + 1) % len(paths)]).mono(), "", prompt=first, id=path.stem))
    return {SAME: same, OTHER: other}


def score(items: Sequence[Item], metrics: Sequence[str] = METRICS) -> dict[str, Any]:
    """Each metric over the items."""
    return {name: figure(load_metric(name)(items)) for name in metrics}


def markdown(scores: Mapping[str, Any]) -> str:
    """A row for each model; rates in per cent."""
    rows = []
    for name, found in scores.items():
        factors = [shown("rtf", found["rtf"][clock]) if "rtf" in found else None for clock in CLOCKS]
        rows.append([name, *(shown(m, found[m]) if m in found else None for m in METRICS), *factors])
    return table(["", *METRICS, "rtf, wall", "rtf, cpu"], rows)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["engines", "readers"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--sentences", type=Path, required=True, help="TSV with columns id and text")
    parser.add_argument("--count", type=int, default=60, help="sentences per engine voice")
    parser.add_argument("--readers", type=Path, help="folder of LibriSpeech recordings")
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--each", type=int, default=10, help="sentences per reader")
    parser.add_argument("--model", default="voicebox")
    parser.add_argument("--name", help="what its scores are called; the model's name by default")
    parser.add_argument("--vocoder", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("options", nargs="*", help="best_of=4 rank=clvp steps=16 guidance=1.7 decoding=top_p=0.9 …")
    parsed = parser.parse_intermixed_args(arguments)
    if parsed.what == "readers" and parsed.readers is None:
        parser.error("readers need --readers FOLDER")
    parsed.name = parsed.name or Path(parsed.model).name
    if parsed.name in (ENGINE, SAME, OTHER) or Path(parsed.name).name != parsed.name:
        parser.error(f"--name {parsed.name} is taken, or no name for a folder")
    return parsed


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    given = parse(arguments)
    options, out, what, name = options_of(given.options), given.out, given.what, given.name
    texts = sentences(given.sentences, given.count + 1 if what == "engines" else given.each)
    # Scores stand side by side only if they are of the same sentences and voices.
    Kept(out / what, {"texts": texts, "people": given.people if what == "readers" else len(VOICES)})
    path = out / f"{what}.json"
    scores = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    tts = flowtts.load(given.model, given.vocoder, given.device, given.engine)
    tasks = engines(out, texts) if what == "engines" else readers(given.readers, texts, given.people)
    about = {"model": given.model, "hash": tts.hash, "vocoder": tts.vocoder.name, "engine": tts.engine,
             "options": options}  # fmt: skip
    items, factors = spoken(tts, tasks, Kept(out / what / name, about), options)
    device = torch.device("cuda" if torch.cuda.is_available() and given.device != "cpu" else "cpu")
    scores[name] = {**about, "rtf": factors, "machine": machine(device, torch.get_num_threads()), **score(items)}
    if what == "engines":
        scores |= {other: score(made) for other, made in references(tts, tasks, out / what, list(scores))}
    else:
        found = bounds(held_out(given.readers, given.people))
        scores |= {other: score(made, ("sim-o",)) for other, made in found.items() if other not in scores}
    save(out, what, scores, markdown(scores))
    print(markdown(scores))


if __name__ == "__main__":
    main()
