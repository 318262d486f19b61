"""Fit the classifier of generated against recorded speech, and measure it on recipes and voices that it has not heard.

    python benchmarks/origin.py list OUT --readers FOLDER --accented FOLDER
    python benchmarks/origin.py make OUT --sentences libritts.tsv
    python benchmarks/origin.py clips OUT
    python benchmarks/origin.py fit OUT all
    python benchmarks/origin.py fit OUT no-tortoise --without tortoise
    python benchmarks/origin.py test OUT all
    python benchmarks/origin.py test OUT no-tortoise
    python benchmarks/origin.py report OUT

``list`` writes OUT/recordings.tsv: readers of LibriSpeech (FOLDER has utterances.tsv and audio/UTTERANCE.ogg; those
whose id modulo 8 is 3 are for testing, no model of flowtts was trained on them, 5 for choosing) and speakers of
speechocean762 (FOLDER has utterances.tsv with texts and audio/SPEAKER/UTTERANCE.ogg; its test split is for testing).
``make`` copies recordings through vocoders and has models speak in their speakers' voices (``origin_data.py``).
``clips`` sends both through the same codecs, rooms and noise (``origin_channels.py``). ``fit`` trains OUT/NAME, a
checkpoint, on the training speakers, without whole families of generators (``FAMILIES`` of ``origin_fit.py``). ``test``
judges the testing speakers: what the checkpoint was fitted without, or everything if that is nothing. ``report`` prints
the tables.

Every step but ``fit`` goes on where it was broken off; what is there is not made again.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from origin_channels import CONDITIONS
from origin_data import COUNTS, ENGINE, MODELS, Recording, make, recordings
from origin_fit import AS_MADE, FAMILIES, RECORDED, fit, path_of, prepare, read_clips, read_split
from origin_scores import BANDS, Book, Heard, hear, hidden, measured
from tables import table

from flowtts import checkpoint
from flowtts.audio.io import replacing
from flowtts.config import load as load_config
from flowtts.origin.classifier import KIND, OriginClassifier
from flowtts.origin.network import OriginConfig
from flowtts.types import UserError

LENGTHS = (1.0, 2.0)
"""Seconds, beside the whole clips of up to 4 s."""

CLEAN = "clean"


def listed(readers: Path, accented: Path) -> list[Recording]:
    """Recordings with speakers and splits; up to six of each accented speaker, of 2.5 s or more."""
    found = []
    for row in _rows(readers / "utterances.tsv"):
        split = {3: "test", 5: "valid"}.get(int(row["speaker"]) % 8, "train")
        path = readers / "audio" / f"{row['utterance']}.ogg"
        found.append(Recording(path.resolve(), f"reader-{row['speaker']}", split))
    seen: dict[str, int] = {}
    for row in _rows(accented / "utterances.tsv"):
        speaker = row["speaker"]
        if float(row["seconds"]) < 2.5 or seen.get(speaker, 0) == 6:
            continue
        seen[speaker] = seen.get(speaker, 0) + 1
        split = "test" if row["split"] == "test" else "valid" if int(speaker) % 8 == 5 else "train"
        path = accented / "audio" / speaker / f"{row['utterance']}.ogg"
        found.append(Recording(path.resolve(), f"ocean-{speaker}", split, row["text"].lower()))
    return found


def write_list(path: Path, found: Sequence[Recording]) -> None:
    """As ``recordings`` reads it."""
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, escapechar="\\", lineterminator="\n")
        writer.writerow(["audio", "speaker", "split", "text"])
        writer.writerows([row.audio, row.speaker, row.split, row.text] for row in found)


def sentences(path: Path) -> list[str]:
    """Sentences of 25 to 75 characters, about 2 to 5 s."""
    return [row["text"] for row in _rows(path) if 25 <= len(row["text"]) <= 75]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def train(out: Path, name: str, families: Sequence[str], steps: int, seed: int, overrides: Sequence[str]) -> None:
    """Fits OUT/NAME."""
    without = frozenset(kind for family in families for kind in FAMILIES[family])
    config = load_config(OriginConfig, None, overrides)
    network = fit(read_split(out / "clips" / "train", without), config, steps, seed)
    classifier = OriginClassifier(network)
    recorded, *made = (hear(classifier, clips) for clips in read_split(out / "clips" / "valid", frozenset()).values())
    figures = measured(made, recorded)
    print("valid: " + ", ".join(f"{key} {found.shown()}" for key, found in figures.items()), file=sys.stderr)
    about = f"Fitted without: {', '.join(sorted(without)) or 'nothing held out'}\n"
    state = network.state_dict()
    # Verdicts of an older network of that name.
    (out / f"{name}.json").unlink(missing_ok=True)
    checkpoint.save(out / name, kind=KIND, config=config, state=state, readme=about, dtype=torch.float16)


def held_out(out: Path, name: str) -> list[str]:
    """The kinds of generated speech that a checkpoint was fitted without; all of them if that is none."""
    words = (out / name / checkpoint.README).read_text(encoding="utf-8")
    return [kind for kind in COUNTS if kind != ENGINE and kind in words] or list(COUNTS)


def test(out: Path, name: str) -> None:
    """Judges the clips of the testing speakers: OUT/NAME.json."""
    classifier, book = OriginClassifier.load(out / name), Book(out / f"{name}.json")
    for kind in (RECORDED, *held_out(out, name)):
        for condition in (*CONDITIONS, *([] if kind == RECORDED else [AS_MADE])):
            clips = read_clips(path_of(out / "clips", kind, condition))
            book(f"{kind}/{condition}", hear, classifier, clips)
        clean = read_clips(path_of(out / "clips", kind, CLEAN))
        for seconds in LENGTHS:
            book(f"{kind}/{seconds:g} s", hear, classifier, clean, seconds)
        for band in BANDS:
            book(f"{kind}/without {band[0]}-{band[1]} Hz", hidden, classifier, clean, band)
        print(kind, file=sys.stderr, flush=True)


def report(out: Path) -> Iterator[str]:
    """Markdown: every checkpoint that was tested."""
    for path in sorted(out.glob("*.json")):
        if not (out / path.stem / checkpoint.README).is_file():
            continue
        kinds, book = held_out(out, path.stem), Book(path)
        yield f"\n## {path.stem}\n"
        groups = {"all together": [kind for kind in kinds if kind != ENGINE], **{kind: [kind] for kind in kinds}}
        together = groups["all together"]
        spoken = [kind for kind in together if kind in MODELS]
        yield _table(book, [(name, members, CLEAN, CLEAN) for name, members in groups.items()])
        conditions = [(name, together, name, name) for name in CONDITIONS]
        yield _table(book, [*conditions, (AS_MADE, together, AS_MADE, CLEAN)])
        lengths = [f"{seconds:g} s" for seconds in LENGTHS]
        yield _table(book, [(name, together, name, name) for name in lengths])
        if spoken and spoken != together:
            yield _table(book, [(f"models, {name}", spoken, name, name) for name in (*CONDITIONS, *lengths)])
        bands = [f"without {low}-{high} Hz" for low, high in BANDS]
        yield _table(book, [(name, together, name, name) for name in bands])


def _table(book: Book, rows: Sequence[tuple[str, Sequence[str], str, str]]) -> str:
    """A row each: name, kinds, their condition, that of the recordings."""
    lines = []
    for name, kinds, condition, other in rows:
        made = [heard for kind in kinds if (heard := book.get(f"{kind}/{condition}")) is not None]
        recorded = book.get(f"{RECORDED}/{other}")
        if not made or recorded is None:
            continue
        found = measured(made, recorded)
        figures = [figure.shown(1, 3) if key == "AUC" else figure.shown() for key, figure in found.items()]
        lines.append([name, _count(made), _said(made), _said([recorded]), *figures])
    head = ("", "clips", "generated called so, %", "recordings called generated, %", "balanced accuracy, %", "EER, %")
    return table((*head, "AUC"), lines) + "\n"


def _count(made: Sequence[Heard]) -> str:
    return str(sum(len(heard.speakers) for heard in made))


def _said(made: Sequence[Heard]) -> str:
    return f"{100 * np.mean(np.concatenate([heard.probabilities for heard in made]) > 0.5):.1f}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["list", "make", "clips", "fit", "test", "report"])
    parser.add_argument("out", type=Path)
    parser.add_argument("name", nargs="?", default="all", help="of the checkpoint")
    parser.add_argument("--readers", type=Path)
    parser.add_argument("--accented", type=Path)
    parser.add_argument("--sentences", type=Path, help="TSV with a column text")
    parser.add_argument("--kinds", nargs="*", default=list(COUNTS), choices=list(COUNTS), help="to make")
    parser.add_argument("--without", nargs="*", default=[], choices=sorted(FAMILIES))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of the network's configuration")
    arguments = parser.parse_args()
    out, rows = arguments.out, arguments.out / "recordings.tsv"
    if arguments.what == "list":
        if arguments.readers is None or arguments.accented is None:
            raise UserError("list needs --readers and --accented")
        out.mkdir(parents=True, exist_ok=True)
        write_list(rows, listed(arguments.readers, arguments.accented))
    elif arguments.what == "make":
        if arguments.sentences is None:
            raise UserError("make needs --sentences")
        for kind in arguments.kinds:
            make(kind, recordings(rows), sentences(arguments.sentences), out / "made")
    elif arguments.what == "clips":
        prepare(recordings(rows), out / "made", out / "clips")
    elif arguments.what == "fit":
        train(out, arguments.name, arguments.without, arguments.steps, arguments.seed, arguments.set)
    elif arguments.what == "test":
        test(out, arguments.name)
    else:
        print("\n".join(report(out)))


if __name__ == "__main__":
    main()
