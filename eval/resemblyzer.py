"""Resemblyzer's speaker encoder: GE2E (arXiv 1710.10467) as SV2TTS uses it (arXiv 1806.04558).

Only the weights are taken from the package, whose own modules need webrtcvad, librosa and parts of scipy and setuptools
that newer releases removed. What differs from its preprocessing: every recording is brought to the same level, not
only quiet ones, so that the gain does not count; and long pauses are found by energy instead of webrtcvad.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from flowtts.audio.mel import mel_filterbank
from flowtts.types import MelSpec, Samples, UserError

LEVEL_DBFS = -30.0
SPEC = MelSpec(n_fft=400, win_length=400, hop_length=160, n_mels=40)
"""Power mel, without a logarithm; only the geometry of the spec is used."""

PARTIAL = 160
"""Frames (1.6 s) the network sees at once, as in its training."""
STEP = 77
"""Frames between windows: 1.3 windows per second."""
COVERAGE = 0.75
"""The last window needs this much sound, unless it is the only one."""

PAUSE_DB = 35.0
"""30 ms windows this far below the loudest one count as pause."""
KEPT_PAUSE = 3
"""Windows (90 ms) of pause kept on either side of speech."""


class VoiceNetwork(nn.Module):
    """Three LSTM layers, the last state projected, rectified and scaled to unit length."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(SPEC.n_mels, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, mel: Tensor) -> Tensor:
        """(B, T, 40) power mel -> (B, 256) of unit length."""
        _, (hidden, _) = self.lstm(mel)
        return nn.functional.normalize(torch.relu(self.linear(hidden[-1])), dim=1)


@dataclass(frozen=True)
class Resemblyzer:
    """The pretrained encoder.

    Attributes:
        weights: ``pretrained.pt``; None for the one in the installed package.
        device: where it runs.
    """

    weights: str | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        self.file()

    @property
    def backend(self) -> str:
        """The package and its version, or the file."""
        try:
            return f"Resemblyzer {version('resemblyzer')}" if self.weights is None else f"Resemblyzer {self.weights}"
        except PackageNotFoundError:
            return "Resemblyzer"

    def file(self) -> Path:
        """Where the weights lie. The package is located but not imported.

        Raises:
            UserError: they are missing.
        """
        if self.weights is not None:
            path = Path(self.weights).expanduser()
            if not path.is_file():
                raise UserError(f"{path}: no such file; give Resemblyzer's pretrained.pt")
            return path
        spec = importlib.util.find_spec("resemblyzer")
        if spec is None or spec.origin is None:
            raise UserError("speaker similarity needs the extra 'eval': pip install 'flowtts[eval]'")
        path = Path(spec.origin).with_name("pretrained.pt")
        if not path.is_file():
            raise UserError(f"{path} is missing; reinstall Resemblyzer: pip install --force-reinstall resemblyzer")
        return path

    def open(self) -> Callable[[Samples], Tensor]:
        """Load the network.

        Raises:
            UserError: the file holds other weights.
        """
        path = self.file()
        network = VoiceNetwork()
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
            network.load_state_dict({name: state[name] for name in network.state_dict()})
        except Exception as error:
            raise UserError(f"{path}: holds no weights of Resemblyzer ({type(error).__name__})") from error
        network.to(self.device).eval()

        def embed(samples: Samples) -> Tensor:
            with torch.inference_mode():
                parts = network(windows(level(without_pauses(samples))).to(self.device))
                return nn.functional.normalize(parts.mean(0), dim=0).cpu()

        return embed


def without_pauses(samples: Samples) -> Samples:
    """(N,) at 16 kHz, long pauses cut to 90 ms on either side of speech; relative to the loudest 30 ms."""
    size = SPEC.sample_rate * 30 // 1000
    if len(samples) < size:
        return samples
    blocks = samples[: len(samples) // size * size].reshape(-1, size)
    power = np.square(blocks, dtype=np.float64).mean(1)
    speech = power > power.max() * 10 ** (-PAUSE_DB / 10)
    near = np.convolve(speech, np.ones(2 * KEPT_PAUSE + 1))[KEPT_PAUSE:-KEPT_PAUSE] > 0
    return blocks[near].reshape(-1)


def level(samples: Samples) -> Samples:
    """(N,) brought to -30 dB RMS below full scale."""
    rms = float(np.sqrt(np.square(samples, dtype=np.float64).mean()))
    return samples * np.float32(10 ** (LEVEL_DBFS / 20) / rms)


def power_mel(samples: Samples) -> Tensor:
    """(N,) -> (N // 160 + 1, 40) mel power, frames centred, zeros beyond the ends."""
    stft = torch.stft(
        torch.from_numpy(np.ascontiguousarray(samples)),
        SPEC.n_fft,
        SPEC.hop_length,
        window=torch.hann_window(SPEC.win_length),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    return stft.abs().square().T @ mel_filterbank(SPEC)


def starts(frames: int) -> list[int]:
    """First frames of the half-overlapping windows over so many frames; the last one may reach beyond the end."""
    found = list(range(0, max(1, frames - PARTIAL + STEP + 1), STEP))
    if len(found) > 1 and frames - 1 - found[-1] < COVERAGE * PARTIAL:
        found.pop()
    return found


def windows(samples: Samples) -> Tensor:
    """(N,) -> (W, 160, 40) power mel of each window, silence beyond the end."""
    firsts = starts(len(samples) // SPEC.hop_length + 1)
    missing = (firsts[-1] + PARTIAL) * SPEC.hop_length - len(samples)
    mel = power_mel(np.pad(samples, (0, max(0, missing))))
    return torch.stack([mel[first : first + PARTIAL] for first in firsts])
