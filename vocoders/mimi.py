"""Mimi (arXiv 2410.00037): a causal SEANet, transformers around a quantiser, 12.5 frames a second.

SEANet makes 25 frames a second, a transformer sees ten seconds of them back, and a strided convolution leaves every
other; the decoder goes the same way back. The first codebook learns to say what a teacher of speech says; the others
quantise the same frames for themselves (``flowtts.nn.residual.SplitResidualQuantiser``).

Delay: none beyond the frame of 1,920 samples (80 ms) itself; silence stands before the beginning (before the strided
convolution its first frame), so that pieces of single frames are the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowtts import checkpoint
from flowtts.nn.residual import ResidualQuantiser, Split, SplitResidualQuantiser
from flowtts.nn.sliding import Past, SlidingConfig, SlidingTransformer
from flowtts.published import Names, rename
from flowtts.types import CodeSpec, PathLike, UserError

from .network_codec import NetworkCodec, Punctual, read_weights, weights_folder
from .seanet import MIMI as SEANET
from .seanet import Conv, ConvTranspose, Decoder, Encoder, SeanetConfig, State

KIND = "mimi"

MimiState = tuple[list[State], Past, State]
"""What SEANet, the transformer and the strided convolution remember."""


@dataclass(frozen=True)
class MimiConfig:
    """The network; the defaults are the published one, of which Moshi uses the first 8 codebooks.

    Attributes:
        seanet: encoder and decoder.
        transformer: both, before the quantiser and behind it; as wide as SEANet's frames.
        sample_rate: Hz.
        stride: frames of SEANet that become one.
        groups: of the convolution that makes as many again of one; the width, which is one for each channel.
        space: width of the codes.
        semantic: codebooks of the semantic branch.
        codebooks: K, of both branches.
        codes: entries of each.
        teacher: width of a teacher's features in training; 0 for none.
        plain: share of items that pass unquantised in training.
        dropout, revive_share: of both branches in training, see ``ResidualQuantiser``.
    """

    seanet: SeanetConfig = SEANET
    transformer: SlidingConfig = field(default_factory=SlidingConfig)
    sample_rate: int = 24_000
    stride: int = 2
    groups: int = 512
    space: int = 256
    semantic: int = 1
    codebooks: int = 32
    codes: int = 2048
    teacher: int = 0
    plain: float = 0.5
    dropout: float = 1.0
    revive_share: float = 0.1

    def __post_init__(self) -> None:
        if self.transformer.width != self.seanet.width:
            raise ValueError(f"frames are {self.seanet.width} wide, so must the transformer be")
        if not 0 < self.semantic < self.codebooks:
            raise ValueError(f"of {self.codebooks} codebooks some are semantic and some are not")
        if self.stride < 2 or self.seanet.width % self.groups:
            raise ValueError("a stride is 2 or more, and groups divide the width")

    @property
    def hop(self) -> int:
        """Samples of a frame."""
        return self.seanet.hop * self.stride


class MimiNetwork(Punctual, nn.Module):
    """Encoder, quantiser, decoder."""

    def __init__(self, config: MimiConfig) -> None:
        """Random weights, from PyTorch's default generator."""
        super().__init__()
        self.config, self.width = config, config.seanet.width
        width, seam = config.seanet.width, replace(config.seanet, pad="replicate", norm="none")
        self.encoder, self.encoder_transformer = Encoder(config.seanet), SlidingTransformer(config.transformer)
        self.downsample = Conv(seam, width, width, 2 * config.stride, config.stride, bias=False)
        semantic, acoustic = (
            ResidualQuantiser(
                config.space, count, config.codes, dropout=config.dropout, revive_after=0,
                revive_share=config.revive_share,
            )
            for count in (config.semantic, config.codebooks - config.semantic)
        )  # fmt: skip
        self.quantiser = SplitResidualQuantiser(width, semantic, acoustic, config.teacher, config.plain)
        self.upsample = ConvTranspose(seam, width, width, config.stride, config.groups, bias=False)
        self.decoder_transformer, self.decoder = SlidingTransformer(config.transformer), Decoder(config.seanet)

    @property
    def spec(self) -> CodeSpec:
        """What it emits."""
        config = self.config
        return CodeSpec(config.sample_rate, config.sample_rate / config.hop, config.codebooks, config.codes)

    @property
    def coder(self) -> SplitResidualQuantiser:
        """Its quantiser."""
        return self.quantiser

    @property
    def plain(self) -> bool:
        """Whether codes of mono sound are all that it needs to give the sound back."""
        return self.config.seanet.channels == 1

    @property
    def streams(self) -> bool:
        """Whether it runs in pieces."""
        return self.config.seanet.streams

    @property
    def starts(self) -> tuple[int, int]:
        """Frames that the first piece needs, of samples and of codes."""
        return -(-self.encoder.start // self.config.stride), -(-self.decoder.start // self.config.stride)

    def forward(
        self, samples: Tensor, rng: torch.Generator | None = None, target: Tensor | None = None
    ) -> tuple[Tensor, Split]:
        """(B, C, N) and what a teacher says of it (B, T, teacher) -> (B, C, T * hop), and what the quantiser made."""
        frames = self.latents(samples)
        mask = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
        coded = self.quantiser(frames, mask, rng, target)
        return self.from_latents(coded.vectors), coded

    def encode(self, samples: Tensor, codebooks: int | None = None) -> Tensor:
        """(B, C, N) -> (B, T, n) codes of the first n codebooks, or all; the semantic ones come first."""
        return self.quantiser.encode(self.latents(samples), codebooks)

    def decode(self, codes: Tensor) -> Tensor:
        """(B, T, n) -> (B, C, T * hop)."""
        return self.from_latents(self.quantiser.decode(codes))

    def latents(self, samples: Tensor) -> Tensor:
        """(B, C, N) -> (B, T, D)."""
        frames = self.encoder_transformer(self.encoder(samples).transpose(1, 2))
        out: Tensor = self.downsample(frames.transpose(1, 2)).transpose(1, 2)
        return out

    def from_latents(self, latents: Tensor) -> Tensor:
        """(B, T, D) -> (B, C, T * hop)."""
        frames = self.decoder_transformer(self.upsample(latents.transpose(1, 2)).transpose(1, 2))
        out: Tensor = self.decoder(frames.transpose(1, 2))
        return out

    def stream_latents(self, samples: Tensor, state: MimiState | None) -> tuple[Tensor, MimiState]:
        """`latents` of the next whole frames; see ``seanet.Stack.stream``."""
        first, past, last = (None, None, None) if state is None else state
        frames, first = self.encoder.stream(samples, first)
        frames, past = self.encoder_transformer.stream(frames.transpose(1, 2), past)
        frames, last = self.downsample.stream(frames.transpose(1, 2), last)
        return frames.transpose(1, 2), (first, past, last)

    def stream_samples(self, latents: Tensor, state: MimiState | None) -> tuple[Tensor, MimiState]:
        """`from_latents` of the next frames."""
        last, past, first = (None, None, None) if state is None else state
        frames, first = self.upsample.stream(latents.transpose(1, 2), first)
        frames, past = self.decoder_transformer.stream(frames.transpose(1, 2), past)
        samples, last = self.decoder.stream(frames.transpose(1, 2), last)
        return samples, (last, past, first)


_NAMES: Names = (
    # Since its version 5, transformers has modules in the halves that its files do not know.
    (r"^(?:en|de)coder\.((?:en|de)coder)_seanet\.", r"\1."),
    (r"^(?:en|de)coder\.((?:en|de)coder_transformer|downsample|upsample)\.", r"\1."),
    (r"\.block\.1\.", ".first."),
    (r"\.block\.3\.", ".second."),
    (r"_transformer\.layers\.", "_transformer.blocks."),
    (r"\.self_attn\.qkv\.", ".qkv."),
    (r"\.self_attn\.o_proj\.", ".out."),
    (r"\.mlp\.fc1\.", ".ffn_in."),
    (r"\.mlp\.fc2\.", ".ffn_out."),
    (r"\.input_layernorm\.", ".norm_attention."),
    (r"\.post_attention_layernorm\.", ".norm_ffn."),
    (r"\.self_attn_layer_scale\.scale$", ".scale_attention"),
    (r"\.mlp_layer_scale\.scale$", ".scale_ffn"),
    (r"^quantizer\.(semantic|acoustic)_residual_vector_quantizer\.", r"quantiser.\1."),
    (r"\.input_proj\.", ".into."),
    (r"\.output_proj\.", ".out."),
    (r"\.layers\.(\d+)\.codebook\.", r".quantiser.levels.\1.quantiser."),
    (r"\.quantiser\.initialized$", ".quantiser.started"),
    (r"\.quantiser\.cluster_usage$", ".quantiser.counts"),
    (r"\.quantiser\.embed_sum$", ".quantiser.sums"),
)
_THEIRS: Names = (
    (r"^quantiser\.(semantic|acoustic)\.into\.", r"quantizer.\1_residual_vector_quantizer.input_proj."),
    (r"^quantiser\.(semantic|acoustic)\.out\.", r"quantizer.\1_residual_vector_quantizer.output_proj."),
    (r"\.quantiser\.started$", ".quantiser.initialized"),
    (r"\.quantiser\.counts$", ".quantiser.cluster_usage"),
    (r"\.quantiser\.sums$", ".quantiser.embed_sum"),
    (
        r"^quantiser\.(semantic|acoustic)\.quantiser\.levels\.(\d+)\.quantiser\.",
        r"quantizer.\1_residual_vector_quantizer.layers.\2.codebook.",
    ),
    (r"\.first\.", ".block.1."),
    (r"\.second\.", ".block.3."),
    (r"\.out\.", ".self_attn.o_proj."),
    (r"\.ffn_in\.", ".mlp.fc1."),
    (r"\.ffn_out\.", ".mlp.fc2."),
    (r"\.norm_attention\.", ".input_layernorm."),
    (r"\.norm_ffn\.", ".post_attention_layernorm."),
    (r"\.scale_attention$", ".self_attn_layer_scale.scale"),
    (r"\.scale_ffn$", ".mlp_layer_scale.scale"),
    (r"_transformer\.blocks\.", "_transformer.layers."),
)
_HALVES: Names = (
    (r"^((?:en|de)coder)\.", r"\1.\1_seanet."),
    (r"^((?:en|de)coder)_transformer\.", r"\1.\1_transformer."),
    (r"^downsample\.", "encoder.downsample."),
    (r"^upsample\.", "decoder.upsample."),
)
_PARTS = ("q_proj", "k_proj", "v_proj")


def from_transformers(state: Mapping[str, Tensor], source: PathLike = "the weights") -> dict[str, Tensor]:
    """Weights of transformers' ``MimiModel`` under our names, from its files or its modules."""
    whole = dict(state)
    for name in [name for name in state if name.endswith(".q_proj.weight")]:
        parts = [name.replace(".q_proj.", f".{part}.") for part in _PARTS]
        if all(part in whole for part in parts):
            whole[name.replace(".q_proj.", ".qkv.")] = torch.cat([whole.pop(part) for part in parts])
    made = rename(whole, _NAMES, source)
    for name, weight in list(made.items()):
        if name.endswith((".into.weight", ".out.weight")) and weight.ndim == 3:
            made[name] = weight.squeeze(-1)
        elif name.endswith(".started"):
            made[name] = weight.flatten()[0] > 0
        elif name.endswith(".sums") and (counts := made.get(f"{name.removesuffix('sums')}counts")) is not None:
            made[f"{name.removesuffix('sums')}codebook"] = weight / counts.clamp_min(1e-5)[:, None]
            made[f"{name.removesuffix('sums')}idle"] = torch.zeros_like(counts, dtype=torch.long)
    return made


def to_transformers(state: Mapping[str, Tensor], halves: bool = False) -> dict[str, Tensor]:
    """Our weights under the names of transformers' ``MimiModel``.

    Args:
        state: of a `MimiNetwork`; a map to a teacher's features has no place there and is left out.
        halves: names of its modules since its version 5, rather than of its files.
    """
    made = rename(state, _THEIRS, "the weights", [r".*\.(idle|codebook)", r"quantiser\.teacher\..*"])
    for name, weight in list(made.items()):
        if name.endswith(".qkv.weight"):
            for part, piece in zip(_PARTS, made.pop(name).chunk(3), strict=True):
                made[name.replace(".qkv.", f".self_attn.{part}.")] = piece
        elif name.endswith("put_proj.weight"):
            made[name] = weight[..., None]
        elif name.endswith(".initialized"):
            made[name] = weight.float().reshape(1)
    return rename(made, _HALVES, "the weights") if halves else made


def published_config(values: Mapping[str, Any], where: PathLike = "config.json") -> MimiConfig:
    """Our configuration of what transformers' ``MimiConfig`` writes, which leaves out its own defaults.

    Raises:
        UserError: something in it is not Mimi's.
    """
    try:
        rate, width = int(values.get("sampling_rate", 24_000)), int(values.get("hidden_size", 512))
        heads, last = int(values.get("num_attention_heads", 8)), int(values.get("last_kernel_size", 3))
        space = int(values.get("vector_quantization_hidden_dimension", 256))
        rope = values.get("rope_parameters") or {}
        expected = {
            "num_key_value_heads": heads, "head_dim": width // heads, "hidden_act": "gelu", "attention_bias": False,
            "norm_eps": 1e-5, "codebook_dim": space,
        }  # fmt: skip
        for name, wanted in expected.items():
            if values.get(name) not in (None, wanted):
                raise ValueError(f"its {name} is {values[name]}, not {wanted}")
        seanet = SeanetConfig(
            channels=int(values.get("audio_channels", 1)), width=width, filters=int(values.get("num_filters", 64)),
            strides=tuple(reversed(values.get("upsampling_ratios") or (8, 6, 5, 4))),
            kernel=int(values.get("kernel_size", 7)), encoder_last=last, decoder_last=last,
            residual_kernel=int(values.get("residual_kernel_size", 3)),
            residual_layers=int(values.get("num_residual_layers", 1)),
            dilation_base=int(values.get("dilation_growth_rate", 2)), compress=int(values.get("compress", 2)),
            skip=not values.get("use_conv_shortcut", False), lstm=0, causal=bool(values.get("use_causal_conv", True)),
            pad=values.get("pad_mode", "constant"), norm="none", trim_right=float(values.get("trim_right_ratio", 1.0)),
        )  # fmt: skip
        frames = values.get("frame_rate") or values.get("_frame_rate") or rate / (2 * seanet.hop)
        transformer = SlidingConfig(
            layers=int(values.get("num_hidden_layers", 8)), heads=heads, width=width,
            ffn=int(values.get("intermediate_size", 2048)), context=int(values.get("sliding_window", 250)),
            scale=float(values.get("layer_scale_initial_scale", 0.01)),
            base=float(rope.get("rope_theta") or values.get("rope_theta") or 10_000.0),
        )  # fmt: skip
        return MimiConfig(
            seanet, transformer, rate, stride=round(rate / seanet.hop / frames),
            groups=int(values.get("upsample_groups", 512)), space=space,
            semantic=int(values.get("num_semantic_quantizers", 1)), codebooks=int(values.get("num_quantizers", 32)),
            codes=int(values.get("codebook_size", 2048)),
        )  # fmt: skip
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{where} is not a configuration of Mimi's ({error}): fetch it again") from None


def save(
    network: MimiNetwork, folder: PathLike, readme: str | None = None, dtype: torch.dtype = torch.float32
) -> Path:  # fmt: skip
    """Write a checkpoint folder of ours, with the codebooks' averages, so that training can begin from it.

    Raises:
        UserError: the folder exists and is not a checkpoint.
    """
    return checkpoint.save(
        folder, kind=KIND, config=network.config, state=network.state_dict(), readme=readme, dtype=dtype
    )


def load_network(folder: PathLike) -> MimiNetwork:
    """Weights: a checkpoint folder of ours, or one with ``config.json`` as transformers writes it.

    Raises:
        UserError: a file is missing, broken, or something else's.
    """
    config, state, source = read_weights(folder, KIND, MimiConfig, published_config, from_transformers)
    network = MimiNetwork(config)
    checkpoint.load_state(network, state, source)
    return network.eval()


def load(folder: PathLike, codebooks: int | None = None) -> NetworkCodec:
    """The same behind ``flowtts.codec.Codec``, with so many codebooks; Moshi uses 8.

    Raises:
        UserError: as `load_network`.
    """
    path = weights_folder(folder)
    return NetworkCodec(KIND, load_network(path), codebooks, checkpoint.digest(path / checkpoint.WEIGHTS))
