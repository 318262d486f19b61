"""A self-supervised model of speech whose features a codec's first codebooks learn to predict (arXiv 2410.00037)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowtts.audio.io import resample
from flowtts.compat import require
from flowtts.published import read_json
from flowtts.types import Audio, PathLike, UserError

RATE = 16_000
"""Of the sound that such models hear, Hz."""

KINDS = ("wavlm", "hubert", "wav2vec2")


class Teacher:
    """A folder of transformers' WavLM, HuBERT or wav2vec 2.0; it only listens.

    Args:
        folder: with ``config.json``, ``model.safetensors`` and, if there is one, ``preprocessor_config.json``.
        sample_rate: of the codec, Hz.
        hop: of the codec, samples.
        layer: whose hidden states; -1 is the last.

    Raises:
        UserError: transformers is not installed, or the folder holds something else.
    """

    def __init__(self, folder: PathLike, sample_rate: int, hop: int, layer: int = -1) -> None:
        path = Path(folder)
        kind = read_json(path / "config.json").get("model_type")
        if kind not in KINDS:
            raise UserError(f"{path} is of the kind {kind}: a teacher is one of {', '.join(KINDS)}")
        package = require("transformers", "hf")
        try:
            model = package.AutoModel.from_pretrained(path, local_files_only=True, use_safetensors=True)
        except (OSError, ValueError) as error:
            reason = str(error).strip().split("\n")[0]
            raise UserError(f"{path} is no whole model of transformers' ({reason}): fetch it again") from None
        self.model: nn.Module = model.eval().requires_grad_(False)
        self.sample_rate, self.layer, found = sample_rate, layer, model.config
        if not -found.num_hidden_layers - 1 <= layer <= found.num_hidden_layers:
            raise UserError(f"{path} has {found.num_hidden_layers} layers: there is no layer {layer}")
        self.width = int(found.hidden_size)
        self.stride = math.prod(found.conv_stride)
        self.ratio = hop / sample_rate * RATE / self.stride
        self.margin = _receptive(found) - self.stride
        settings = path / "preprocessor_config.json"
        self.normalised = settings.is_file() and bool(read_json(settings).get("do_normalize"))

    def to(self, device: torch.device | str) -> Teacher:
        """Moved to a device."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def __call__(self, samples: Tensor, frames: int) -> Tensor:
        """(B, N) samples at the codec's rate -> (B, frames, width) features at its frames.

        A codec's frame that is a whole number r of the teacher's gets the mean of 2r about its middle, r apart, which
        for Mimi is a pool of 8 with a stride of 4; another ratio the mean of those that it meets.
        """
        heard = self._heard(samples)
        if self.normalised:
            heard = (heard - heard.mean(-1, keepdim=True)) / (heard.var(-1, keepdim=True) + 1e-7).sqrt()
        # So much silence about it that every stride of samples is a frame, and the last of the codec's is whole.
        short = max(0, math.ceil(frames * self.ratio) * self.stride - heard.shape[-1])
        heard = F.pad(heard, (self.margin // 2, self.margin - self.margin // 2 + short))
        states = self.model(heard, output_hidden_states=True).hidden_states[self.layer].float().transpose(1, 2)
        ratio = round(self.ratio)
        if ratio > 1 and abs(self.ratio - ratio) < 1e-6:
            before = ratio // 2
            pooled = F.avg_pool1d(
                F.pad(states[..., : frames * ratio], (before, ratio - before), "replicate"), 2 * ratio, ratio
            )
        else:
            pooled = F.adaptive_avg_pool1d(states[..., : math.ceil(frames * self.ratio)], frames)
        return pooled.transpose(1, 2)

    def _heard(self, samples: Tensor) -> Tensor:
        """At `RATE`."""
        if self.sample_rate == RATE:
            return samples
        rows = [resample(Audio(row, self.sample_rate), RATE).samples for row in samples.float().cpu().numpy()]
        return torch.stack([torch.from_numpy(row) for row in rows]).to(samples.device)


def _receptive(config: Any) -> int:
    """Samples that a frame of the convolutions hears."""
    heard, step = 1, 1
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        heard += (kernel - 1) * step
        step *= stride
    return heard
