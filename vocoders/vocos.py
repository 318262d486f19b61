"""Vocos (arXiv 2306.00814): a ConvNeXt over mel frames that predicts the STFT, and an inverse STFT.

The network is the ``vocos`` package's own, so that its published weights load; the mel definition, the checkpoint
folder and the vocoder interface are flowtts'.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowtts import checkpoint
from flowtts.compat import require
from flowtts.config import load as load_config
from flowtts.config import read_yaml
from flowtts.types import VOCOS_MEL, VOICEBOX_MEL, MelSpec, PathLike, UserError

from .griffin_lim import GriffinLim

KIND = "vocos"
"""What ``config.yaml`` of a checkpoint folder calls it."""


@dataclass(frozen=True)
class VocosConfig:
    """The network and the mel it reads.

    Attributes:
        mel: the features; the inverse STFT's hop is the mel's.
        dim: channels between blocks.
        intermediate: channels inside a block.
        layers: ConvNeXt blocks.
        n_fft: of the inverse STFT, samples; a multiple of the hop.
        padding: "same" makes T * hop samples, "center" (T - 1) * hop as ``torch.istft`` does.
        polish: iterations of Griffin-Lim that start from what the network made; 0 for Vocos as published.
    """

    mel: MelSpec = field(default_factory=lambda: VOICEBOX_MEL)
    dim: int = 256
    intermediate: int = 768
    layers: int = 8
    n_fft: int = 640
    padding: str = "same"
    polish: int = 0

    def __post_init__(self) -> None:
        if self.padding not in ("same", "center"):
            raise ValueError(f"padding is same or center, not {self.padding}")
        if self.n_fft < 2 * self.mel.hop_length:
            raise ValueError("the inverse STFT needs n_fft of at least two hops")
        if self.polish < 0:
            raise ValueError(f"polish is a number of iterations, not {self.polish}")


class VocosNetwork(nn.Module):
    """Backbone and head of the ``vocos`` package; parameter names are those of its checkpoints."""

    def __init__(self, config: VocosConfig) -> None:
        """Random weights, from PyTorch's default generator."""
        super().__init__()
        self.config = config
        self.backbone: nn.Module = require("vocos.models", "").VocosBackbone(
            input_channels=config.mel.n_mels, dim=config.dim, intermediate_dim=config.intermediate,
            num_layers=config.layers,
        )  # fmt: skip
        self.head: nn.Module = require("vocos.heads", "").ISTFTHead(
            dim=config.dim, n_fft=config.n_fft, hop_length=config.mel.hop_length, padding=config.padding
        )

    def forward(self, features: Tensor, bf16: bool = False) -> Tensor:
        """(B, T, C) normalised log-mel -> (B, T * hop) samples, (T - 1) * hop with padding "center".

        Args:
            features: what ``LogMel(config.mel)`` makes.
            bf16: run the backbone in bfloat16; the head stays in float32, where a phase has digits to spare.
        """
        with torch.autocast(features.device.type, torch.bfloat16, enabled=bf16):
            hidden = self.backbone(features.transpose(1, 2))
        samples: Tensor = self.head(hidden.float())
        return samples


class VocosVocoder:
    """A trained Vocos behind ``flowtts.types.Vocoder``."""

    name = "vocos"

    def __init__(self, network: VocosNetwork) -> None:
        """Takes the network over and puts it into evaluation mode."""
        self.network = network.eval().requires_grad_(False)
        polish = network.config.polish
        # Less momentum than from random phases: 0.99 first throws away part of a good start (measured: worse at 16).
        self._polish = GriffinLim(network.config.mel, iterations=polish, momentum=0.9) if polish > 0 else None

    @property
    def spec(self) -> MelSpec:
        """The mel it reads."""
        return self.network.config.mel

    @torch.inference_mode()
    def decode(self, features: Tensor) -> Tensor:
        """(B, T, C) normalised log-mel -> (B, T * hop_length) samples in [-1, 1].

        A centred spec has a frame at both ends of the signal, so its network makes one hop less; the last frame is
        then held for a hop longer.

        Raises:
            ValueError: the features have another number of channels.
        """
        if features.ndim != 3 or features.shape[-1] != self.spec.n_mels:
            raise ValueError(f"vocos needs (B, T, {self.spec.n_mels}) features, not {tuple(features.shape)}")
        if features.shape[1] == 0:
            return features.new_zeros(features.shape[0], 0)
        features = features.float()
        center = self.network.config.padding == "center"
        samples: Tensor = self.network(torch.cat([features, features[:, -1:]], dim=1) if center else features)
        return samples.clamp(-1.0, 1.0) if self._polish is None else self._polish.polish(features, samples)

    def to(self, device: torch.device | str) -> VocosVocoder:
        """Moves the network."""
        self.network.to(device)
        return self

    def save(self, folder: PathLike, readme: str | None = None) -> Path:
        """Write a checkpoint folder with float16 weights, half the size at no audible difference.

        Raises:
            UserError: the folder exists and is not a checkpoint.
        """
        config, state = self.network.config, self.network.state_dict()
        return checkpoint.save(folder, kind=KIND, config=config, state=state, readme=readme, dtype=torch.float16)

    @classmethod
    def load(cls, folder: PathLike) -> VocosVocoder:
        """A shipped vocoder by name, a checkpoint folder, or a folder of published weights.

        Raises:
            UserError: it is no checkpoint, or of another kind, or does not fit its configuration.
        """
        if (Path(folder) / "pytorch_model.bin").is_file():
            return load_published(folder)
        saved = checkpoint.load(checkpoint.find(folder))
        if saved.kind != KIND:
            raise UserError(f"{saved.folder} is a checkpoint of kind {saved.kind}, not {KIND}; choose a vocoder")
        network = VocosNetwork(load_config(VocosConfig, saved.config))
        checkpoint.load_state(network, saved.state, saved.folder)
        return cls(network)


def load_published(folder: PathLike) -> VocosVocoder:
    """Reads the files of ``charactr/vocos-mel-24khz`` or of another model with the same feature extractor's kind.

    Args:
        folder: holds ``config.yaml`` and ``pytorch_model.bin`` as published.

    Raises:
        UserError: a file is missing or broken, or the model reads something other than mels.
    """
    folder = Path(folder)
    config = _published_config(read_yaml(folder / "config.yaml"), folder / "config.yaml")
    state = checkpoint.read_torch(folder / "pytorch_model.bin")
    network = VocosNetwork(config)
    # The feature extractor's tables are in the file too; LogMel makes its own.
    kept = {name: x for name, x in state.items() if not name.startswith("feature_extractor.")}
    checkpoint.load_state(network, kept, folder)
    return VocosVocoder(network)


def _published_config(values: dict[str, Any], where: Path) -> VocosConfig:
    """The published YAML names classes to construct; none is constructed, only known numbers are read."""
    try:
        extractor, backbone, head = (values[part] for part in ("feature_extractor", "backbone", "head"))
        names = [part["class_path"].rsplit(".", 1)[-1] for part in (extractor, backbone, head)]
        mel, body, end = (part["init_args"] for part in (extractor, backbone, head))
        if names != ["MelSpectrogramFeatures", "VocosBackbone", "ISTFTHead"] or "adanorm_num_embeddings" in body:
            raise UserError(f"{where}: only mel Vocos models can be read, not {', '.join(names)}")
        rate, padding = int(mel.get("sample_rate", 24_000)), mel.get("padding", "center")
        spec = MelSpec(
            sample_rate=rate, n_fft=mel["n_fft"], win_length=mel["n_fft"], hop_length=mel["hop_length"],
            n_mels=mel["n_mels"], f_max=rate / 2, floor=VOCOS_MEL.floor, scale=VOCOS_MEL.scale, norm=VOCOS_MEL.norm,
            center=padding == "center",
        )  # fmt: skip
        return VocosConfig(
            mel=spec, dim=body["dim"], intermediate=body["intermediate_dim"], layers=body["num_layers"],
            n_fft=end["n_fft"], padding=end.get("padding", "same"),
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{where}: is not a published Vocos configuration ({error!r}); fetch it again") from error
