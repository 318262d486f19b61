"""SEANet as codecs use it: strided convolutions between samples and frames, in pieces if it is causal.

SoundStream (arXiv 2107.03312, sections III-A and III-B), EnCodec (arXiv 2210.13438, section 3.1) and Mimi (arXiv
2410.00037) differ in `SeanetConfig` alone. Layers are numbered as in the programs of the last two.

Padding: a convolution of effective width k and stride s has k - s positions put before its input if it is causal, else
half of them (the larger half) before and the rest behind; behind come as many more as the last frame wants. A
transposed one makes k - s positions too many, which are cut off: behind, if it is causal and ``trim_right`` is 1, else
part of them before. N samples make ceil(N / hop) frames, T frames make T * hop samples, and sample n belongs to frame
n // hop on both sides: a causal network has no delay beyond the frame that must be complete before it is coded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

Pad = Literal["reflect", "constant", "replicate"]
"""What stands before the beginning: the sound backwards, silence, or its first position."""

Norm = Literal["none", "weight", "group"]
"""Weight normalisation (arXiv 1602.07868), or one group over time and channels behind every convolution, as EnCodec has
at 48 kHz; that one sees the whole and cannot be had in pieces."""

State = tuple[Tensor, ...]
"""What a layer remembers from one piece to the next, of a size that does not grow."""


@dataclass(frozen=True)
class SeanetConfig:
    """An encoder and the decoder that mirrors it; the defaults are EnCodec's for 24 kHz.

    Attributes:
        channels: of the sound.
        width: D of the frames.
        filters: channels at the rate of samples; they double with every stride.
        strides: the encoder's, from samples to frames; their product is the hop.
        kernel: of the first convolutions.
        encoder_last, decoder_last: of the last ones.
        residual_kernel: of the dilated convolution of a residual unit; one of width 1 follows.
        residual_layers: units at each rate.
        dilation_base: unit j is dilated by this to the power of j.
        compress: channels of a unit over those inside.
        skip: whether what goes round a unit is the input itself, or a convolution of width 1 of it.
        lstm: layers of an LSTM at the rate of frames, with its input added; 0 for none.
        causal: whether no convolution sees what comes later; the LSTM never does.
        pad: see `Pad`.
        norm: see `Norm`.
        trim_right: share of what transposed convolutions make too much that is cut off behind; below 1 they look ahead.
    """

    channels: int = 1
    width: int = 128
    filters: int = 32
    strides: tuple[int, ...] = (2, 4, 5, 8)
    kernel: int = 7
    encoder_last: int = 7
    decoder_last: int = 7
    residual_kernel: int = 3
    residual_layers: int = 1
    dilation_base: int = 2
    compress: int = 2
    skip: bool = False
    lstm: int = 2
    causal: bool = True
    pad: Pad = "reflect"
    norm: Norm = "weight"
    trim_right: float = 1.0

    def __post_init__(self) -> None:
        if not self.causal and self.trim_right != 1.0:
            raise ValueError("trim_right is for causal networks; others cut half on either side")
        if self.filters % self.compress:
            raise ValueError(f"{self.filters} filters cannot be compressed by {self.compress}")

    @property
    def hop(self) -> int:
        """Samples of a frame."""
        return math.prod(self.strides)

    @property
    def streams(self) -> bool:
        """Whether it can be had in pieces."""
        return self.causal and self.norm != "group" and self.trim_right == 1.0


SOUNDSTREAM = SeanetConfig(
    width=256, encoder_last=3, residual_kernel=7, residual_layers=3, dilation_base=3, skip=True, lstm=0,
    pad="constant", norm="none",
)  # fmt: skip
"""arXiv 2107.03312, section III: three units at each rate, dilated by 1, 3 and 9. The paper does not print D, nor that
units halve their channels inside; these are what gives the sizes of its table, 8.4, 2.4, 4.8 and 4.4 million."""

ENCODEC_24KHZ = SeanetConfig()

ENCODEC_48KHZ = replace(ENCODEC_24KHZ, channels=2, causal=False, norm="group")

MIMI = SeanetConfig(
    width=512, filters=64, strides=(4, 5, 6, 8), encoder_last=3, decoder_last=3, skip=True, lstm=0,
    pad="constant", norm="none",
)  # fmt: skip


class Conv(nn.Module):
    """A convolution that pads as the head of this file says: (B, C, N) -> (B, C', ceil(N / stride)).

    Args:
        config: for ``causal``, ``pad`` and ``norm``.
        inputs: C.
        outputs: C'.
        kernel: its width.
        stride: of it.
        dilation: of it.
        bias: whether it has one.
    """

    def __init__(
        self, config: SeanetConfig, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1,
        bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.causal, self.pad, self.stride = config.causal, config.pad, stride
        self.reach = (kernel - 1) * dilation + 1
        conv = nn.Conv1d(inputs, outputs, kernel, stride, dilation=dilation, bias=bias)
        self.conv: nn.Module = weight_norm(conv) if config.norm == "weight" else conv
        self.norm: nn.Module = nn.GroupNorm(1, outputs) if config.norm == "group" else nn.Identity()

    @property
    def padding(self) -> int:
        """Positions put around the input, those that fill the last frame not counted."""
        return self.reach - self.stride

    def forward(self, x: Tensor) -> Tensor:
        """The whole."""
        fill = -x.shape[-1] % self.stride
        behind = 0 if self.causal else self.padding // 2
        out: Tensor = self.norm(self.conv(padded(x, self.padding - behind, behind + fill, self.pad)))
        return out

    def stream(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        """The next piece, of whole strides; the first one must be longer than the padding if that is reflected."""
        joined = padded(x, self.padding, 0, self.pad) if state is None else torch.cat([state[0], x], -1)
        out: Tensor = self.conv(joined)
        return out, (joined[..., joined.shape[-1] - self.padding :],)


class ConvTranspose(nn.Module):
    """A transposed convolution of twice its stride's width: (B, C, T) -> (B, C', T * stride)."""

    def __init__(
        self, config: SeanetConfig, inputs: int, outputs: int, stride: int, groups: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        self.stride = stride
        conv = nn.ConvTranspose1d(inputs, outputs, 2 * stride, stride, groups=groups, bias=bias)
        self.conv: nn.Module = weight_norm(conv) if config.norm == "weight" else conv
        self.norm: nn.Module = nn.GroupNorm(1, outputs) if config.norm == "group" else nn.Identity()
        # It makes one stride too much.
        self.behind = math.ceil(stride * config.trim_right) if config.causal else stride // 2

    def forward(self, x: Tensor) -> Tensor:
        """The whole."""
        out: Tensor = self.norm(self.conv(x))
        return out[..., self.stride - self.behind : out.shape[-1] - self.behind]

    def stream(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        """The next piece; what reaches beyond it is added to the next."""
        out: Tensor = self.conv(x)
        length = out.shape[-1] - self.stride
        if state is not None:
            bias = self.conv.bias
            # Both pieces have the offset where they overlap.
            before = state[0] if bias is None else state[0] - cast(Tensor, bias)[:, None]
            out = torch.cat([out[..., : self.stride] + before, out[..., self.stride :]], -1)
        return out[..., :length], (out[..., length:],)


class ResidualUnit(nn.Module):
    """What goes round, and two convolutions behind ELUs."""

    def __init__(self, config: SeanetConfig, channels: int, dilation: int) -> None:
        super().__init__()
        inside = channels // config.compress
        self.first = Conv(config, channels, inside, config.residual_kernel, dilation=dilation)
        self.second = Conv(config, inside, channels, 1)
        self.shortcut: nn.Module = nn.Identity() if config.skip else Conv(config, channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, N) -> (B, C, N)."""
        out: Tensor = self.shortcut(x) + self.second(F.elu(self.first(F.elu(x))))
        return out

    def stream(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        """The next piece; convolutions of width 1 remember nothing."""
        inner, state = self.first.stream(F.elu(x), state)
        out: Tensor = self.shortcut(x) + self.second(F.elu(inner))
        return out, state


class ResidualLstm(nn.Module):
    """An LSTM over frames, with its input added."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, layers, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        return self.stream(x, None)[0]

    def stream(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        """The next piece."""
        out, (hidden, cell) = self.lstm(x.transpose(1, 2), None if state is None else (state[0], state[1]))
        return x + out.transpose(1, 2), (hidden, cell)


class Elu(nn.Module):
    """An ELU."""

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        return F.elu(x)

    def stream(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        """The same."""
        return F.elu(x), ()


Layer = Conv | ConvTranspose | ResidualUnit | ResidualLstm | Elu


class Stack(nn.Module):
    """Layers in a row."""

    def __init__(self, config: SeanetConfig, layers: Sequence[Layer]) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """The whole."""
        for layer in self:
            x = layer(x)
        return x

    def stream(self, x: Tensor, state: list[State] | None = None) -> tuple[Tensor, list[State]]:
        """The next piece: pieces put together are the whole to rounding.

        With reflected padding only if the first piece has ``start`` frames or is all there is. A shorter one cannot be
        reflected as far as the whole is; silence fills it up as in a whole that is so short, so that the first
        ``start`` frames differ, and what an LSTM remembers of them.

        Args:
            x: (B, C, N) of whole frames.
            state: what the piece before returned; None for the first.

        Raises:
            ValueError: the network sees ahead, or the piece has no whole frames.
        """
        if not self.config.streams:
            raise ValueError("only causal networks without normalisation over time run in pieces")
        if not x.shape[-1] or x.shape[-1] % self.frame:
            raise ValueError(f"pieces are made of whole frames of {self.frame} samples, not of {x.shape[-1]}")
        after: list[State] = []
        for number, layer in enumerate(self):
            x, kept = layer.stream(x, None if state is None else state[number])
            after.append(kept)
        return x, after

    @property
    def frame(self) -> int:
        """Inputs that belong together."""
        return math.prod(layer.stride for layer in self if isinstance(layer, Conv))

    @property
    def start(self) -> int:
        """Frames that the first piece needs for pieces to equal the whole."""
        if self.config.pad != "reflect":
            return 1
        needed, rate = 1, self.frame
        for layer in self:
            conv = layer.first if isinstance(layer, ResidualUnit) else layer
            if isinstance(conv, Conv) and conv.padding:
                needed = max(needed, -(-(conv.padding + 1) // rate))
            if isinstance(layer, Conv):
                rate //= layer.stride
            elif isinstance(layer, ConvTranspose):
                rate *= layer.stride
        return needed

    def __iter__(self) -> Iterator[Layer]:
        """The layers."""
        return cast("Iterator[Layer]", iter(self.layers))


class Encoder(Stack):
    """Samples (B, C, N) to frames (B, D, ceil(N / hop))."""

    def __init__(self, config: SeanetConfig) -> None:
        channels = config.filters
        layers: list[Layer] = [Conv(config, config.channels, channels, config.kernel)]
        for stride in config.strides:
            layers += _units(config, channels)
            layers += [Elu(), Conv(config, channels, 2 * channels, 2 * stride, stride)]
            channels *= 2
        if config.lstm:
            layers.append(ResidualLstm(channels, config.lstm))
        layers += [Elu(), Conv(config, channels, config.width, config.encoder_last)]
        super().__init__(config, layers)


class Decoder(Stack):
    """Frames (B, D, T) to samples (B, C, T * hop)."""

    def __init__(self, config: SeanetConfig) -> None:
        channels = config.filters * 2 ** len(config.strides)
        layers: list[Layer] = [Conv(config, config.width, channels, config.kernel)]
        if config.lstm:
            layers.append(ResidualLstm(channels, config.lstm))
        for stride in reversed(config.strides):
            layers += [Elu(), ConvTranspose(config, channels, channels // 2, stride)]
            channels //= 2
            layers += _units(config, channels)
        layers += [Elu(), Conv(config, channels, config.channels, config.decoder_last)]
        super().__init__(config, layers)


def _units(config: SeanetConfig, channels: int) -> list[Layer]:
    return [ResidualUnit(config, channels, config.dilation_base**number) for number in range(config.residual_layers)]


def padded(x: Tensor, before: int, behind: int, mode: Pad) -> Tensor:
    """Positions around x (B, C, N); silence lengthens what is too short to be reflected, and is cut off again."""
    if mode != "reflect":
        return F.pad(x, (before, behind), mode)
    short = max(0, max(before, behind) - x.shape[-1] + 1)
    out = F.pad(F.pad(x, (0, short)), (before, behind), "reflect")
    return out[..., : out.shape[-1] - short]


def fold_weight_norm(network: nn.Module) -> nn.Module:
    """Makes weights what normalisation makes of them, for good: less to compute, the same sound."""
    for module in list(network.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
    return network
