"""EnCodec (arXiv 2210.13438): SEANet, an LSTM and residual quantisation; at 24 kHz in pieces, at 48 kHz in stereo.

The 48 kHz model codes overlapping seconds, each brought to one loudness first, which the codes do not hold: `encode` is
then to be kept with `scales`. Frames of all seconds lie behind one another.

Delay: none at 24 kHz beyond the frame of 320 samples itself; but padding is reflected, so that pieces begin once seven
frames (93 ms) are there, both ways. At 48 kHz a second must be complete.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowtts import checkpoint
from flowtts.nn.residual import Residual, ResidualQuantiser
from flowtts.published import Names, rename
from flowtts.types import CodeSpec, PathLike, UserError

from .network_codec import NetworkCodec, Punctual, read_weights, weights_folder
from .seanet import ENCODEC_24KHZ as SEANET_24KHZ
from .seanet import ENCODEC_48KHZ as SEANET_48KHZ
from .seanet import SOUNDSTREAM as SEANET_SOUNDSTREAM
from .seanet import Decoder, Encoder, Norm, SeanetConfig, State

KIND = "encodec"


@dataclass(frozen=True)
class EncodecConfig:
    """The network; the defaults are the 24 kHz model.

    Attributes:
        seanet: encoder and decoder.
        sample_rate: Hz.
        codebooks: K.
        codes: entries of each.
        chunk: samples that are coded together; 0 for all.
        overlap: share of a chunk that the next one codes, too.
        normalise: whether a chunk is brought to an RMS of 1 before it is coded, and back.
        dropout, commitment, revive_below: of the quantiser in training, see ``ResidualQuantiser``.
    """

    seanet: SeanetConfig = SEANET_24KHZ
    sample_rate: int = 24_000
    codebooks: int = 32
    codes: int = 1024
    chunk: int = 0
    overlap: float = 0.01
    normalise: bool = False
    dropout: float = 1.0
    commitment: float = 1.0
    revive_below: float = 2.0

    def __post_init__(self) -> None:
        if self.chunk % self.seanet.hop:
            raise ValueError(f"a chunk has whole frames of {self.seanet.hop} samples, not {self.chunk} samples")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"chunks overlap by a share below 1, not {self.overlap}")

    @property
    def stride(self) -> int:
        """Samples between the beginnings of chunks."""
        return max(1, int((1 - self.overlap) * self.chunk))


ENCODEC_24KHZ = EncodecConfig()
ENCODEC_48KHZ = EncodecConfig(SEANET_48KHZ, 48_000, 16, chunk=48_000, normalise=True)
SOUNDSTREAM = EncodecConfig(SEANET_SOUNDSTREAM, 24_000, 8)
"""arXiv 2107.03312 at 6 kbit/s: 8 codebooks of 1024, 75 frames a second."""


class EncodecNetwork(Punctual, nn.Module):
    """Encoder, quantiser, decoder; SoundStream's too, which differs in its configuration."""

    def __init__(self, config: EncodecConfig) -> None:
        """Random weights, from PyTorch's default generator."""
        super().__init__()
        self.config, self.width = config, config.seanet.width
        self.encoder, self.decoder = Encoder(config.seanet), Decoder(config.seanet)
        self.quantiser = ResidualQuantiser(
            config.seanet.width, config.codebooks, config.codes, dropout=config.dropout, commitment=config.commitment,
            revive_after=0, revive_below=config.revive_below,
        )  # fmt: skip

    @property
    def spec(self) -> CodeSpec:
        """What it emits. Where chunks overlap, a second has a frame or two more."""
        config = self.config
        return CodeSpec(config.sample_rate, config.sample_rate / config.seanet.hop, config.codebooks, config.codes)

    @property
    def coder(self) -> ResidualQuantiser:
        """Its quantiser."""
        return self.quantiser

    @property
    def plain(self) -> bool:
        """Whether codes of mono sound are all that it needs to give the sound back."""
        return self.config.seanet.channels == 1 and not self.config.normalise and not self.config.chunk

    @property
    def streams(self) -> bool:
        """Whether it runs in pieces."""
        return self.plain and self.config.seanet.streams

    @property
    def starts(self) -> tuple[int, int]:
        """Frames that the first piece needs, of samples and of codes."""
        return self.encoder.start, self.decoder.start

    def forward(self, samples: Tensor, rng: torch.Generator | None = None) -> tuple[Tensor, Residual]:
        """(B, C, N) of one chunk at most -> (B, C, ceil(N / hop) * hop), and what the quantiser made."""
        scale = self._loudness(samples)
        frames = self.encoder(samples / scale).transpose(1, 2)
        mask = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
        coded = self.quantiser(frames, mask, rng)
        return self.decoder(coded.vectors.transpose(1, 2)) * scale, coded

    def encode(self, samples: Tensor, codebooks: int | None = None) -> Tensor:
        """(B, C, N) -> (B, T, n) codes of the first n codebooks, or all."""
        return self.quantiser.encode(self.latents(samples), codebooks)

    def decode(self, codes: Tensor, scales: Tensor | None = None) -> Tensor:
        """(B, T, n) codes and their `scales` -> (B, C, N)."""
        return self.from_latents(self.quantiser.decode(codes), scales)

    def latents(self, samples: Tensor) -> Tensor:
        """(B, C, N) -> (B, T, D)."""
        made = [self.encoder(piece / self._loudness(piece)) for piece in self._chunks(samples)]
        return torch.cat(made, -1).transpose(1, 2)

    def scales(self, samples: Tensor) -> Tensor | None:
        """(B, chunks) loudness that `decode` gives back; None if the network does not take it away."""
        if not self.config.normalise:
            return None
        return torch.cat([self._loudness(piece)[:, 0] for piece in self._chunks(samples)], -1)

    def from_latents(self, latents: Tensor, scales: Tensor | None = None) -> Tensor:
        """(B, T, D) and their `scales` -> (B, C, N).

        Raises:
            ValueError: there are not as many scales as chunks.
        """
        frames = self.config.chunk // self.config.seanet.hop or latents.shape[1]
        pieces = torch.split(latents, frames, 1)
        made = [self.decoder(piece.transpose(1, 2)) for piece in pieces]
        if scales is not None:
            if scales.shape[-1] != len(made):
                raise ValueError(f"{len(made)} chunks need as many scales, not {scales.shape[-1]}")
            made = [piece * scale[:, None, None] for piece, scale in zip(made, scales.unbind(-1), strict=True)]
        return overlapped(made, self.config.stride) if self.config.chunk else made[0]

    def stream_latents(self, samples: Tensor, state: list[State] | None) -> tuple[Tensor, list[State]]:
        """`latents` of the next whole frames; see ``seanet.Stack.stream``."""
        frames, state = self.encoder.stream(samples, state)
        return frames.transpose(1, 2), state

    def stream_samples(self, latents: Tensor, state: list[State] | None) -> tuple[Tensor, list[State]]:
        """`from_latents` of the next frames; see ``seanet.Stack.stream``."""
        return self.decoder.stream(latents.transpose(1, 2), state)

    def _chunks(self, samples: Tensor) -> list[Tensor]:
        if not self.config.chunk:
            return [samples]
        begins = range(0, samples.shape[-1], self.config.stride)
        return [samples[..., begin : begin + self.config.chunk] for begin in begins]

    def _loudness(self, samples: Tensor) -> Tensor:
        """(B, 1, 1) RMS of all channels' mean, or 1."""
        if not self.config.normalise:
            return samples.new_ones(1, 1, 1)
        return samples.mean(1, keepdim=True).square().mean(-1, keepdim=True).sqrt() + 1e-8


def overlapped(pieces: list[Tensor], stride: int) -> Tensor:
    """Pieces (B, C, n), ``stride`` samples apart, cross-faded linearly; all are as long, but the last."""
    longest = pieces[0].shape[-1]
    ramp = torch.linspace(0, 1, longest + 2, device=pieces[0].device, dtype=pieces[0].dtype)[1:-1]
    weight = 0.5 - (ramp - 0.5).abs()
    length = stride * (len(pieces) - 1) + pieces[-1].shape[-1]
    total, weights = pieces[0].new_zeros(*pieces[0].shape[:-1], length), weight.new_zeros(length)
    for number, piece in enumerate(pieces):
        here = slice(number * stride, number * stride + piece.shape[-1])
        total[..., here] += piece * weight[: piece.shape[-1]]
        weights[here] += weight[: piece.shape[-1]]
    return total / weights


_NAMES: Names = (
    (r"\.block\.1\.", ".first."),
    (r"\.block\.3\.", ".second."),
    (r"\.weight_g$", ".parametrizations.weight.original0"),
    (r"\.weight_v$", ".parametrizations.weight.original1"),
    (r"^quantizer\.layers\.(\d+)\.codebook\.", r"quantiser.levels.\1.quantiser."),
    (r"\.quantiser\.inited$", ".quantiser.started"),
    (r"\.quantiser\.cluster_size$", ".quantiser.counts"),
    (r"\.quantiser\.embed_avg$", ".quantiser.sums"),
    (r"\.quantiser\.embed$", ".quantiser.codebook"),
)
_THEIRS: Names = (
    (r"\.first\.", ".block.1."),
    (r"\.second\.", ".block.3."),
    (r"\.quantiser\.started$", ".quantiser.inited"),
    (r"\.quantiser\.counts$", ".quantiser.cluster_size"),
    (r"\.quantiser\.sums$", ".quantiser.embed_avg"),
    (r"\.quantiser\.codebook$", ".quantiser.embed"),
    (r"^quantiser\.levels\.(\d+)\.quantiser\.", r"quantizer.layers.\1.codebook."),
)


def from_transformers(state: Mapping[str, Tensor], source: PathLike = "the weights") -> dict[str, Tensor]:
    """Weights of transformers' ``EncodecModel`` under our names, in either spelling of weight normalisation."""
    made = rename(state, _NAMES, source)
    for name, weight in list(made.items()):
        if name.endswith(".started"):
            made[name] = weight.flatten()[0] > 0
        elif name.endswith(".counts"):
            made[name.removesuffix("counts") + "idle"] = torch.zeros_like(weight, dtype=torch.long)
    return made


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our weights under the names of transformers' ``EncodecModel``; not those whose normalisation is folded in."""
    made = rename(state, _THEIRS, "the weights", [r".*\.idle"])
    return {name: x.float().reshape(1) if name.endswith(".inited") else x for name, x in made.items()}


def published_config(values: Mapping[str, Any], where: PathLike = "config.json") -> EncodecConfig:
    """Our configuration of what transformers' ``EncodecConfig`` writes, which leaves out its own defaults.

    Raises:
        UserError: something in it is not EnCodec's.
    """
    seconds = values.get("chunk_length_s")
    norms: Mapping[str, Norm] = {"weight_norm": "weight", "time_group_norm": "group"}
    try:
        rate, codes = int(values.get("sampling_rate", 24_000)), int(values.get("codebook_size", 1024))
        last = int(values.get("last_kernel_size", 7))
        width = int(values.get("hidden_size", 128))
        if (values.get("codebook_dim") or width) != width:
            raise ValueError("codes are not as wide as frames")
        seanet = SeanetConfig(
            channels=int(values.get("audio_channels", 1)), width=width, filters=int(values.get("num_filters", 32)),
            strides=tuple(reversed(values.get("upsampling_ratios", (8, 5, 4, 2)))),
            kernel=int(values.get("kernel_size", 7)), encoder_last=last, decoder_last=last,
            residual_kernel=int(values.get("residual_kernel_size", 3)),
            residual_layers=int(values.get("num_residual_layers", 1)),
            dilation_base=int(values.get("dilation_growth_rate", 2)), compress=int(values.get("compress", 2)),
            skip=not values.get("use_conv_shortcut", True), lstm=int(values.get("num_lstm_layers", 2)),
            causal=bool(values.get("use_causal_conv", True)), pad=values.get("pad_mode", "reflect"),
            norm=norms[values.get("norm_type", "weight_norm")],
            trim_right=float(values.get("trim_right_ratio", 1.0)),
        )  # fmt: skip
        most = values.get("target_bandwidths", (24.0,))[-1]
        codebooks = int(1000 * most // (math.ceil(rate / seanet.hop) * math.ceil(math.log2(codes))))
        return EncodecConfig(
            seanet, rate, codebooks, codes, chunk=0 if seconds is None else int(seconds * rate),
            overlap=float(values.get("overlap") or 0.0), normalise=bool(values.get("normalize", False)),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where} is not a configuration of EnCodec's ({error}): fetch it again") from None


def save(
    network: EncodecNetwork, folder: PathLike, readme: str | None = None, dtype: torch.dtype = torch.float32
) -> Path:  # fmt: skip
    """Write a checkpoint folder of ours, with the codebooks' averages, so that training can begin from it.

    Raises:
        UserError: the folder exists and is not a checkpoint.
    """
    return checkpoint.save(
        folder, kind=KIND, config=network.config, state=network.state_dict(), readme=readme, dtype=dtype
    )


def load_network(folder: PathLike) -> EncodecNetwork:
    """Weights: a checkpoint folder of ours, or one with ``config.json`` as transformers writes it.

    Raises:
        UserError: a file is missing, broken, or something else's.
    """
    config, state, source = read_weights(folder, KIND, EncodecConfig, published_config, from_transformers)
    network = EncodecNetwork(config)
    checkpoint.load_state(network, state, source)
    return network.eval()


def load(folder: PathLike, codebooks: int | None = None) -> NetworkCodec:
    """The same behind ``flowtts.codec.Codec``, with so many codebooks: 1.5, 3, 6, 12, 24 kbit/s have 2, 4, 8, 16, 32.

    Raises:
        UserError: as `load_network`, or the model is not mono without loudness (the 48 kHz one is not).
    """
    path = weights_folder(folder)
    return NetworkCodec(KIND, load_network(path), codebooks, checkpoint.digest(path / checkpoint.WEIGHTS))
