"""UnivNet (arXiv 2106.07889): noise to sound by convolutions whose kernels are predicted from every mel frame.

The generator is the one of the public Tortoise program: 14,865,506 parameters with weight normalisation, which is for
training; here the normalisation is folded into the weights, which are then 14,789,153.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowtts import checkpoint
from flowtts.config import load as load_config
from flowtts.published import Names, check, fold_weight_norm, rename, tensors
from flowtts.types import MelSpec, PathLike, UserError

KIND = "univnet"
"""What ``config.yaml`` of a checkpoint folder calls it."""

_LOWEST, _HIGHEST = -11.512925148010254, 2.3143386840820312

UNIVNET_MEL = MelSpec(
    sample_rate=24_000, n_fft=1024, win_length=1024, hop_length=256, n_mels=100, f_max=12_000.0, floor=1e-5,
    mean=(_HIGHEST + _LOWEST) / 2, std=(_HIGHEST - _LOWEST) / 2,
)  # fmt: skip
"""What the published weights read, in the range that Tortoise's diffusion decoder makes, -1 to 1."""

TAIL, QUIET = 10, -11.5129
"""Frames of silence put behind a mel and cut off again, and their logarithm, as published: the end is clean then."""


@dataclass(frozen=True)
class UnivNetConfig:
    """The generator and the mel it reads.

    Attributes:
        mel: the features.
        noise: channels of the noise.
        channels: between layers.
        strides: of the blocks; their product is the mel's hop.
        dilations: of the layers of a block.
        kernel: width of the predicted convolutions and of those before them; odd.
        predictor: channels of the networks that predict the kernels.
        slope: of the leaky rectifiers.
    """

    mel: MelSpec = field(default_factory=lambda: UNIVNET_MEL)
    noise: int = 64
    channels: int = 32
    strides: tuple[int, ...] = (8, 8, 4)
    dilations: tuple[int, ...] = (1, 3, 9, 27)
    kernel: int = 3
    predictor: int = 64
    slope: float = 0.2

    def __post_init__(self) -> None:
        if math.prod(self.strides) != self.mel.hop_length:
            raise ValueError(f"the product of univnet's strides must be the hop, {self.mel.hop_length}")
        if self.kernel % 2 == 0:
            raise ValueError("univnet needs an odd kernel")


class KernelPredictor(nn.Module):
    """Mel frames to the kernels and biases of one block's layers."""

    def __init__(self, config: UnivNetConfig) -> None:
        super().__init__()
        self.config = config
        width, layers = config.predictor, len(config.dilations)
        self.first = nn.Conv1d(config.mel.n_mels, width, 5, padding=2)
        self.residual = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(width, width, 3, padding=1), nn.LeakyReLU(config.slope),
                nn.Conv1d(width, width, 3, padding=1), nn.LeakyReLU(config.slope),
            )
            for _ in range(3)
        )  # fmt: skip
        self.kernels = nn.Conv1d(width, layers * config.channels * 2 * config.channels * config.kernel, 3, padding=1)
        self.biases = nn.Conv1d(width, layers * 2 * config.channels, 3, padding=1)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Mel (B, C, T) -> kernels (B, layers, T, in * kernel, out) and biases (B, layers, T, 1, out)."""
        config = self.config
        hidden = F.leaky_relu(self.first(mel), config.slope)
        for branch in self.residual:
            hidden = hidden + branch(hidden)
        layers, inside, outside = len(config.dilations), config.channels, 2 * config.channels
        kernels = self.kernels(hidden).unflatten(1, (layers, inside, outside, config.kernel)).permute(0, 1, 5, 2, 4, 3)
        biases = self.biases(hidden).unflatten(1, (layers, outside)).permute(0, 1, 3, 2)
        return kernels.flatten(3, 4), biases[..., None, :]


class Block(nn.Module):
    """Upsampling by a stride, then layers of a dilated and a location-variable convolution.

    Args:
        config: the generator's.
        stride: of the upsampling.
        hop: samples that a mel frame has after it.
    """

    def __init__(self, config: UnivNetConfig, stride: int, hop: int) -> None:
        super().__init__()
        self.hop, self.slope, self.kernel = hop, config.slope, config.kernel
        self.predictor = KernelPredictor(config)
        self.up = nn.ConvTranspose1d(
            config.channels, config.channels, 2 * stride, stride,
            padding=stride // 2 + stride % 2, output_padding=stride % 2,
        )  # fmt: skip
        self.convs = nn.ModuleList(
            nn.Conv1d(config.channels, config.channels, config.kernel, padding=d * (config.kernel - 1) // 2, dilation=d)
            for d in config.dilations
        )

    def forward(self, x: Tensor, mel: Tensor) -> Tensor:
        """X (B, D, N) and mel (B, C, T) -> (B, D, N * stride)."""
        x = self.up(F.leaky_relu(x, self.slope))
        kernels, biases = self.predictor(mel)
        for index, conv in enumerate(self.convs):
            inner = F.leaky_relu(conv(F.leaky_relu(x, self.slope)), self.slope)
            gate, value = self._variable(inner, kernels[:, index], biases[:, index]).chunk(2, dim=1)
            x = x + gate.sigmoid() * value.tanh()
        return x

    def _variable(self, x: Tensor, kernels: Tensor, biases: Tensor) -> Tensor:
        """Convolves each frame's samples of x (B, D, T * hop) with the frame's own kernel: (B, 2 D, T * hop)."""
        reach = self.kernel // 2
        windows = F.pad(x, (reach, reach)).unfold(2, self.hop + 2 * reach, self.hop).unfold(3, self.kernel, 1)
        made = windows.permute(0, 2, 3, 1, 4).flatten(3, 4) @ kernels + biases
        return made.permute(0, 3, 1, 2).flatten(2, 3)


class UnivNet(nn.Module):
    """The generator."""

    def __init__(self, config: UnivNetConfig) -> None:
        """Random weights, from PyTorch's default generator."""
        super().__init__()
        self.config = config
        self.first = nn.Conv1d(config.noise, config.channels, 7, padding=3, padding_mode="reflect")
        hops = [math.prod(config.strides[: i + 1]) for i in range(len(config.strides))]
        self.blocks = nn.ModuleList(
            Block(config, stride, hop) for stride, hop in zip(config.strides, hops, strict=True)
        )
        self.last = nn.Conv1d(config.channels, 1, 7, padding=3, padding_mode="reflect")

    def forward(self, mel: Tensor, noise: Tensor) -> Tensor:
        """Log-mel (B, C, T), not normalised, and noise (B, Z, T), T at least 4 -> (B, T * hop) samples."""
        x = self.first(noise)
        for block in self.blocks:
            x = block(x, mel)
        samples: Tensor = self.last(F.leaky_relu(x, self.config.slope)).tanh()
        return samples[:, 0]


class UnivNetVocoder:
    """A trained UnivNet behind ``flowtts.types.Vocoder``.

    Args:
        network: taken over and put into evaluation mode.
        seed: of the noise; the same features make the same sound.
    """

    name = "univnet"

    def __init__(self, network: UnivNet, seed: int = 0) -> None:
        self.network = network.eval().requires_grad_(False)
        self.seed = seed

    @property
    def spec(self) -> MelSpec:
        """The mel it reads."""
        return self.network.config.mel

    @torch.inference_mode()
    def decode(self, features: Tensor) -> Tensor:
        """(B, T, C) normalised log-mel -> (B, T * hop_length) samples in [-1, 1].

        All items get the same noise, so that none depends on its neighbours.

        Raises:
            ValueError: the features have another number of channels.
        """
        if features.ndim != 3 or features.shape[-1] != self.spec.n_mels:
            raise ValueError(f"univnet needs (B, T, {self.spec.n_mels}) features, not {tuple(features.shape)}")
        if features.shape[1] == 0:
            return features.new_zeros(features.shape[0], 0)
        rng = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(features.shape[1] + TAIL, self.network.config.noise, generator=rng)
        return self.sound(features, noise.to(features.device).expand(len(features), -1, -1))

    def sound(self, features: Tensor, noise: Tensor) -> Tensor:
        """`decode` with noise (B, T + TAIL, Z) of the caller's."""
        mel = features.float() * self.spec.std + self.spec.mean
        mel = F.pad(mel, (0, 0, 0, TAIL), value=QUIET)
        samples: Tensor = self.network(mel.transpose(1, 2), noise.transpose(1, 2))
        return samples[:, : features.shape[1] * self.spec.hop_length].clamp(-1.0, 1.0)

    def to(self, device: torch.device | str) -> UnivNetVocoder:
        """Moves the network."""
        self.network.to(device)
        return self

    @classmethod
    def load(cls, folder: PathLike) -> UnivNetVocoder:
        """From a checkpoint folder.

        Raises:
            UserError: it is no checkpoint, or of another kind, or does not fit its configuration.
        """
        saved = checkpoint.load(checkpoint.find(folder))
        if saved.kind != KIND:
            raise UserError(f"{saved.folder} is a checkpoint of kind {saved.kind}, not {KIND}; choose a vocoder")
        network = UnivNet(load_config(UnivNetConfig, saved.config))
        checkpoint.load_state(network, saved.state, saved.folder)
        return cls(network)


_README = """# UnivNet

The vocoder of Tortoise (arXiv 2106.07889, 2305.07243), converted from the published `{file}`; weight normalisation is
folded into the weights.

Licence: that of the published weights (Apache-2.0 for Tortoise's)

Trained by the publisher on data that are not part of flowtts.
"""


def convert(source: PathLike, out: PathLike, *, dtype: torch.dtype | None = None, others: object = None) -> Path:
    """Makes a checkpoint folder of Tortoise's published ``vocoder.pth``.

    Args:
        source: the file, or the folder that it lies in.
        out: the folder to write.
        dtype: what weights are stored in.
        others: converters by name; this one needs none.

    Raises:
        UserError: the file is missing, unsafe or holds something else, or ``out`` is in the way.
    """
    del others
    path = Path(source)
    path = path / "vocoder.pth" if path.is_dir() else path
    held = checkpoint.read_torch(path)
    if not isinstance(held, Mapping) or "model_g" not in held:
        raise UserError(f"{path} is not Tortoise's published vocoder: it has no generator called model_g")
    config, state = UnivNetConfig(), from_published(tensors(held["model_g"], path), path)
    check(lambda: UnivNet(config), state, path)
    readme = _README.format(file=path.name)
    return checkpoint.save(out, kind=KIND, config=config, state=state, readme=readme, dtype=dtype)


_NAMES: Names = (
    (r"^conv_pre\.", "first."),
    (r"^conv_post\.1\.", "last."),
    (r"^res_stack\.", "blocks."),
    (r"\.convt_pre\.1\.", ".up."),
    # A rectifier stands before and behind every convolution, and dropout before those of the predictor.
    (r"\.conv_blocks\.(\d+)\.1\.", r".convs.\1."),
    (r"\.kernel_predictor\.", ".predictor."),
    (r"\.input_conv\.0\.", ".first."),
    (r"\.residual_convs\.(\d+)\.1\.", r".residual.\1.0."),
    (r"\.residual_convs\.(\d+)\.3\.", r".residual.\1.2."),
    (r"\.kernel_conv\.", ".kernels."),
    (r"\.bias_conv\.", ".biases."),
)


def from_published(state: Mapping[str, Tensor], source: PathLike = "the weights") -> dict[str, Tensor]:
    """The published generator's weights under our names, weight normalisation folded in."""
    return rename(fold_weight_norm(state), _NAMES, source)
