"""How well a vocoder copies recordings: mel, synthesise, compare.

``python -m flowtts.vocoders.copy_synthesis vocos-16k LIST``; also with griffin-lim, or with a checkpoint's folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from flowtts.audio.io import read, resample
from flowtts.audio.mel import LogMel
from flowtts.compat import require
from flowtts.features import extractor
from flowtts.types import VOICEBOX_MEL, Audio, MelSpec, UserError, Vocoder

from .clips import read_list


@dataclass(frozen=True)
class Copied:
    """Means over recordings.

    Attributes:
        pesq: wide-band PESQ (ITU-T P.862.2), 1 to 4.64; None unless the rate is 16 kHz and ``pesq`` is installed.
        mel_l1: mean absolute difference of natural-log mels.
        count: recordings compared.
    """

    pesq: float | None
    mel_l1: float
    count: int


def copy(vocoder: Vocoder, audio: Audio) -> Audio:
    """Copy-synthesis: the recording's features made sound again, at the vocoder's rate, cut to whole frames."""
    spec = vocoder.spec
    samples = torch.from_numpy(resample(audio.mono(), spec.sample_rate).samples)
    with torch.inference_mode():
        made = vocoder.decode(extractor(spec)(samples))[0]
    return Audio(made[: len(samples)].numpy().astype(np.float32), spec.sample_rate)


def compare(vocoder: Vocoder, recordings: Sequence[Path], seconds: float = 6.0, pesq: bool = True) -> Copied:
    """Copy recordings and compare.

    Args:
        vocoder: what to judge.
        recordings: files.
        seconds: how much of each, from its start.
        pesq: whether to compute PESQ, where it can be.
    """
    spec = vocoder.spec
    mel = LogMel(spec if isinstance(spec, MelSpec) else VOICEBOX_MEL)
    judge = require("pesq", "eval").pesq if pesq and spec.sample_rate == 16_000 else None
    scores, distances = [], []
    for path in recordings:
        audio = resample(read(path).mono(), spec.sample_rate)
        audio = Audio(audio.samples[: int(seconds * spec.sample_rate)], spec.sample_rate)
        made = copy(vocoder, audio).samples
        real = audio.samples[: len(made)]
        if judge is not None:
            scores.append(float(judge(16_000, real, made, "wb")))
        pair = mel.denormalise(mel(torch.from_numpy(np.stack([real, made]))))
        distances.append(float((pair[0] - pair[1]).abs().mean()))
    mean = float(np.mean(scores)) if scores else None
    return Copied(mean, float(np.mean(distances)), len(distances))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; prints one JSON object. 2 for a user's mistake."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("vocoder", help="griffin-lim, a shipped checkpoint's name or a checkpoint's folder")
    parser.add_argument("list", type=Path, help="recordings: one path a line, or JSONL with the key audio")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each recording")
    given = parser.parse_args(arguments)
    try:
        result = compare(_named(given.vocoder), [source.audio for source in read_list(given.list)], given.seconds)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(json.dumps(asdict(result)) + "\n")
    return 0


def _named(name: str) -> Vocoder:
    from .griffin_lim import GriffinLim
    from .vocos import VocosVocoder

    return GriffinLim() if name == "griffin-lim" else VocosVocoder.load(name)


if __name__ == "__main__":
    sys.exit(main())
