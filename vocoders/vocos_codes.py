"""Vocos as a decoder of EnCodec's codes (arXiv 2306.00814, section 4.2): the same codes, other sound.

Features are sums of code vectors, from a table of its own that began as EnCodec's; a ConvNeXt whose norms know the
bandwidth reads them, an inverse STFT makes the samples. Encoding remains EnCodec's.

Delay: it hears what comes later, three frames for each convolution of seven (27 of the published model, 0.36 s) and the
overlap of the inverse STFT, and so decodes the whole; it makes as many samples as EnCodec, 320 a frame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowtts import checkpoint
from flowtts.codec import Codec, Pieces
from flowtts.compat import require
from flowtts.config import read_yaml
from flowtts.pull import find
from flowtts.types import CodeSpec, PathLike, UserError

from . import encodec


@dataclass(frozen=True)
class VocosCodesConfig:
    """The network; the defaults are those of ``charactr/vocos-encodec-24khz``.

    Attributes:
        width: of code vectors.
        codebooks: that it has code vectors of.
        codes: entries of each.
        dim: channels between blocks.
        intermediate: channels inside a block.
        layers: ConvNeXt blocks.
        n_fft: of the inverse STFT, samples.
        hop: samples of a frame.
        bandwidths: how many it was trained for.
    """

    width: int = 128
    codebooks: int = 16
    codes: int = 1024
    dim: int = 384
    intermediate: int = 1152
    layers: int = 8
    n_fft: int = 1280
    hop: int = 320
    bandwidths: int = 4


class VocosCodesNetwork(nn.Module):
    """A table of code vectors, and backbone and head of the ``vocos`` package; names are those of its checkpoints."""

    def __init__(self, config: VocosCodesConfig) -> None:
        """Random weights, from PyTorch's default generator."""
        super().__init__()
        self.config = config
        self.codebook_weights = nn.Parameter(torch.randn(config.codebooks * config.codes, config.width))
        self.backbone: nn.Module = require("vocos.models", "").VocosBackbone(
            input_channels=config.width, dim=config.dim, intermediate_dim=config.intermediate,
            num_layers=config.layers, adanorm_num_embeddings=config.bandwidths,
        )  # fmt: skip
        self.head: nn.Module = require("vocos.heads", "").ISTFTHead(
            dim=config.dim, n_fft=config.n_fft, hop_length=config.hop, padding="same"
        )

    def vectors(self, codes: Tensor) -> Tensor:
        """Sums of code vectors (B, T, D) of codes (B, T, k) of the first k codebooks."""
        begins = torch.arange(codes.shape[-1], device=codes.device) * self.config.codes
        return F.embedding(codes + begins, self.codebook_weights).sum(-2)

    def forward(self, vectors: Tensor, bandwidth: int) -> Tensor:
        """(B, T, D) -> (B, T * hop) samples.

        Args:
            vectors: of codes, or what stands for them.
            bandwidth: its number, from 0.
        """
        number = torch.tensor([bandwidth], device=vectors.device)
        samples: Tensor = self.head(self.backbone(vectors.transpose(1, 2), bandwidth_id=number))
        return samples


class VocosCodes:
    """A codec whose decoder is a Vocos, behind ``flowtts.codec.Codec``. Its codes are the codec's, and so is its hash.

    Args:
        codec: codes sound; its first codebooks are used, all that both have.
        network: taken over and put into evaluation mode.
        numbers: codebooks -> number of the bandwidth that has so many.

    Raises:
        UserError: the network knows no bandwidth of so many codebooks, or reads another codec's codes.
    """

    def __init__(self, codec: Codec, network: VocosCodesNetwork, numbers: Mapping[int, int]) -> None:
        self.codec, self.network, self.numbers = codec, network.eval().requires_grad_(False), dict(numbers)
        self.name, self.hash = f"vocos-{codec.name}", codec.hash
        config, spec = network.config, codec.spec
        has = (config.codes, config.hop, config.width)
        wants = (spec.codebook_size, spec.hop_length, len(codec.statistics()[0]))
        if has != wants:
            raise UserError(
                f"this Vocos reads {has[0]} codes, {has[1]} samples and {has[2]} channels a frame, {codec.name} has "
                f"{wants[0]}, {wants[1]} and {wants[2]}: take the codec that it was trained with"
            )
        self._spec = replace(spec, codebooks=min(spec.codebooks, max(self.numbers)))
        self._number(self._spec.codebooks)

    @property
    def spec(self) -> CodeSpec:
        """What it emits."""
        return self._spec

    def encode(self, samples: Tensor) -> Tensor:
        """(B, N) -> (B, T, K) int64, as the codec."""
        return self.codec.encode(samples)[..., : self.spec.codebooks]

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """(B, T, k) codes of the first k codebooks -> (B, T * hop) samples in [-1, 1].

        Raises:
            UserError: it was not trained for so many codebooks.
        """
        return self._sound(self.network.vectors(codes), self._number(codes.shape[-1]))

    def latents(self, samples: Tensor) -> Tensor:
        """(B, N) -> (B, T, D), what the codec's quantiser would read."""
        return self.codec.latents(samples)

    @torch.no_grad()
    def from_latents(self, latents: Tensor) -> Tensor:
        """(B, T, D), quantised or not -> (B, T * hop) samples in [-1, 1], as if of all codebooks."""
        return self._sound(latents, self._number(self.spec.codebooks))

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation (D,) of latents of speech, as the codec."""
        return self.codec.statistics()

    def encoding(self) -> Pieces:
        """`encode` in pieces, if the codec knows them."""
        return _First(self.codec.encoding(), self.spec.codebooks)

    def decoding(self) -> Pieces:
        """There are none."""
        raise UserError(f"{self.name} hears what comes later: it decodes the whole, not pieces")

    def to(self, device: torch.device | str) -> VocosCodes:
        """Moves both."""
        self.codec.to(device)
        self.network.to(device)
        return self

    def _number(self, codebooks: int) -> int:
        if codebooks not in self.numbers:
            *some, last = sorted(self.numbers)
            known = f"{', '.join(map(str, some))} or {last}" if some else f"{last}"
            raise UserError(f"{self.name} was trained for {known} codebooks: take so many, not {codebooks}")
        return self.numbers[codebooks]

    def _sound(self, vectors: Tensor, number: int) -> Tensor:
        if not vectors.shape[1]:
            return vectors.new_zeros(len(vectors), 0)
        samples: Tensor = self.network(vectors, number)
        return samples.clamp(-1.0, 1.0)


class _First:
    """The first codebooks of what another ``Pieces`` makes."""

    def __init__(self, pieces: Pieces, codebooks: int) -> None:
        self._pieces, self._codebooks = pieces, codebooks

    def push(self, piece: Tensor) -> Tensor:
        """The next samples (B, n)."""
        return self._pieces.push(piece)[..., : self._codebooks]

    def finish(self) -> Tensor:
        """The rest."""
        return self._pieces.finish()[..., : self._codebooks]


def load(folder: PathLike, codebooks: int | None = None, codec: Codec | None = None) -> VocosCodes:
    """Published weights: a folder with ``config.yaml`` and ``pytorch_model.bin`` of ``charactr/vocos-encodec-24khz``.

    Args:
        folder: of the two files.
        codebooks: the first so many are used; None for all that both have.
        codec: whose codes it reads; None for EnCodec as it was pulled, with so many codebooks.

    Raises:
        UserError: a file is missing, broken, or something else's, EnCodec was not pulled, or the codec is another one.
    """
    if codec is None:
        codec = encodec.load(find(encodec.KIND) or encodec.KIND, codebooks)
    path = Path(folder)
    state = dict(checkpoint.read_torch(path / "pytorch_model.bin"))
    # The package reads EnCodec's own weights from elsewhere, so its files may or may not hold them.
    state = {name: x for name, x in state.items() if not name.startswith("feature_extractor.encodec.")}
    table = state.pop("feature_extractor.codebook_weights", None)
    if not isinstance(table, Tensor):
        raise UserError(
            f"{path} holds no Vocos that reads codes: give the files of one (flowtts pull vocos-encodec-24khz)"
        )
    config, bandwidths = _published(read_yaml(path / "config.yaml"), path / "config.yaml")
    numbers = {_codebooks(kilobits, codec.spec): number for number, kilobits in enumerate(bandwidths)}
    # The table has code vectors for the widest bandwidth, of the codec that it was trained with.
    network = VocosCodesNetwork(replace(config, codebooks=max(numbers), codes=codec.spec.codebook_size))
    checkpoint.load_state(network, {**state, "codebook_weights": table}, path)
    return VocosCodes(codec, network, numbers)


def _codebooks(kilobits: float, spec: CodeSpec) -> int:
    """Codebooks of a bandwidth, counted as EnCodec does."""
    each = math.log2(spec.codebook_size) * math.ceil(spec.frame_rate) / 1000
    return max(1, math.floor(kilobits / each))


def _published(values: dict[str, Any], where: Path) -> tuple[VocosCodesConfig, tuple[float, ...]]:
    """The published YAML names classes to construct; none is constructed, only known numbers are read."""
    try:
        extractor, backbone, head = (values[part] for part in ("feature_extractor", "backbone", "head"))
        names = [part["class_path"].rsplit(".", 1)[-1] for part in (extractor, backbone, head)]
        body, end = backbone["init_args"], head["init_args"]
        if names != ["EncodecFeatures", "VocosBackbone", "ISTFTHead"] or end.get("padding", "same") != "same":
            raise UserError(
                f"{where}: only a Vocos that reads EnCodec's codes can be read here, not {', '.join(names)}"
            )
        # The defaults of the package's class.
        bandwidths = tuple(float(x) for x in extractor.get("init_args", {}).get("bandwidths", (1.5, 3.0, 6.0, 12.0)))
        config = VocosCodesConfig(
            width=int(body["input_channels"]), dim=int(body["dim"]), intermediate=int(body["intermediate_dim"]),
            layers=int(body["num_layers"]), n_fft=int(end["n_fft"]), hop=int(end["hop_length"]),
            bandwidths=int(body["adanorm_num_embeddings"]),
        )  # fmt: skip
        if not bandwidths or config.bandwidths != len(bandwidths):
            raise ValueError(f"{len(bandwidths)} bandwidths and {config.bandwidths} norms for them")
        return config, bandwidths
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{where}: is not a published Vocos configuration ({error!r}); fetch it again") from error
