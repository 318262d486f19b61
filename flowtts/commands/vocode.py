"""``flowtts vocode``: a recording to features and back, which shows what a vocoder costs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowtts.commands.options import Device, Json, VocoderName, existing_file, output_file
from flowtts.commands.terminal import terminal

if TYPE_CHECKING:
    from flowtts.types import Audio, Vocoder


def vocode(
    ctx: typer.Context,
    recording: Annotated[Path, typer.Argument(metavar="IN.wav", help="A recording.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The copy.")],
    vocoder: VocoderName = "vocos",
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Copy a recording through a vocoder: its features made sound again."""
    existing_file(recording, "recording")
    output_file(output, None, (recording,))

    from flowtts.audio.io import read, write
    from flowtts.pipeline import choose_device
    from flowtts.registry import load_vocoder

    audio = read(recording)
    maker = load_vocoder(vocoder, None, choose_device(device))
    started = time.perf_counter()
    made = copy(maker, audio)
    seconds = time.perf_counter() - started
    output.parent.mkdir(parents=True, exist_ok=True)
    write(output, made)
    term = terminal(ctx)
    if json:
        term.result(
            {
                "audio": output,
                "sample_rate": made.sample_rate,
                "seconds": round(made.seconds, 4),
                "vocoder": maker.name,
                "rtf": round(seconds / made.seconds, 4),
            }
        )
    else:
        term.message(f"{output}: {made.seconds:.2f} s at {made.sample_rate} Hz")


def copy(vocoder: Vocoder, audio: Audio) -> Audio:
    """Copy-synthesis, mono, as long as the recording, at the vocoder's rate."""
    import numpy as np
    import torch

    from flowtts.audio.io import resample
    from flowtts.audio.mel import LogMel
    from flowtts.types import Audio

    spec = vocoder.spec
    samples = resample(audio.mono(), spec.sample_rate).samples
    # Whole frames: without the padding the end of the recording would be cut off.
    padded = np.pad(samples, (0, -len(samples) % spec.hop_length + spec.n_fft))
    with torch.inference_mode():
        made = vocoder.decode(LogMel(spec)(torch.from_numpy(padded)[None]))[0]
    return Audio(np.ascontiguousarray(made[: len(samples)].float().cpu().numpy()), spec.sample_rate)
