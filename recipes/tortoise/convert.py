"""The public Tortoise's files as a checkpoint of ours (github.com/neonbjb/tortoise-tts; its weights are Apache-2.0)."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from flowtts import checkpoint
from flowtts.published import Names, check, rename, tensors
from flowtts.types import PathLike, UserError

from . import AR_KIND, CLVP_KIND, DIFFUSION_KIND, VQVAE_KIND
from .autoregressive import AutoregressiveModel
from .clvp import CLVP
from .config import ARConfig, CLVPConfig, DiffusionConfig, VQVAEConfig
from .diffusion import DiffusionDecoder
from .random import RANDOM_KIND, RandomConfig, RandomVoices
from .tokens import BPETokens
from .vqvae import VQVAE

NEEDED = (
    "autoregressive.pth", "clvp2.pth", "diffusion_decoder.pth", "vocoder.pth", "rlg_auto.pth", "rlg_diffuser.pth",
)  # fmt: skip
"""The published weights. ``dvae.pth``, the VQ-VAE's, is converted too where it is."""

NORMS, TOKENISER = "mel_norms.pth", "tokenizer.json"
"""Two small files that are published with the program and not with the weights."""

CODEBOOK = "tortoise-published"
"""What `VQVAEConfig.codebook` calls the published codes."""


def _ar() -> ARConfig:
    return ARConfig(calm_code=83, codebook=CODEBOOK)


def _diffusion() -> DiffusionConfig:
    plain = DiffusionConfig(codebook=CODEBOOK)
    # The public program's guidance grows from 1 to 1 + cond_free_k, which is 2.
    return replace(plain, sampling=replace(plain.sampling, guidance="2,schedule=linear"))


@dataclass(frozen=True)
class Sizes:
    """Configurations of the parts; the defaults are those of the published files."""

    ar: ARConfig = field(default_factory=_ar)
    clvp: CLVPConfig = field(default_factory=lambda: CLVPConfig(codebook=CODEBOOK))
    diffusion: DiffusionConfig = field(default_factory=_diffusion)
    vqvae: VQVAEConfig = field(default_factory=lambda: VQVAEConfig(codebook=CODEBOOK))
    random: RandomConfig = field(default_factory=RandomConfig)


_PUBLISHED = Sizes()


def convert(
    source: PathLike, out: PathLike, *, dtype: torch.dtype | None = None, others: Callable[[str], Callable[..., Path]],
    sizes: Sizes = _PUBLISHED,
) -> Path:  # fmt: skip
    """Makes a checkpoint of the published files: the autoregressive model's folder, with the other parts inside.

    Args:
        source: the folder with `NEEDED`, and with `NORMS` and `TOKENISER` unless the package tortoise-tts is installed.
        out: the folder to write.
        dtype: what weights are stored in.
        others: converters by name: of the vocoder.
        sizes: of the networks.

    Raises:
        UserError: a file is missing, unsafe or holds something else, or ``out`` is in the way.
    """
    folder = Path(source)
    norms, tokeniser = _find(folder)
    _check_tokeniser(tokeniser, sizes.ar)
    scale = _norms(norms, sizes.ar)
    state = autoregressive(_read(folder / "autoregressive.pth"), scale, folder / "autoregressive.pth")
    check(lambda: AutoregressiveModel(sizes.ar), state, folder / "autoregressive.pth")

    def rest(made: Path) -> None:
        shutil.copyfile(tokeniser, made / TOKENISER)
        for part in _parts(folder, scale, sizes):
            weights = part.weights()
            check(part.network, weights, part.source)
            checkpoint.save(
                made / part.name, kind=part.kind, config=part.config, state=weights, dtype=dtype,
                readme=_README.format(title=part.title, file=part.source.name),
            )  # fmt: skip
            del weights
        others("univnet")(folder / "vocoder.pth", made / "vocoder", dtype=dtype, others=others)

    return checkpoint.save(
        out, kind=AR_KIND, config=sizes.ar, state=state, dtype=dtype, extra=rest,
        readme=_README.format(title="Tortoise, the autoregressive model", file="autoregressive.pth"),
    )  # fmt: skip


@dataclass(frozen=True)
class _Part:
    """A checkpoint inside the checkpoint."""

    name: str
    title: str
    kind: str
    config: object
    source: Path
    network: Callable[[], nn.Module]
    weights: Callable[[], Mapping[str, Tensor]]


def _parts(folder: Path, scale: Tensor, sizes: Sizes) -> list[_Part]:
    """Everything but the autoregressive model and the vocoder; nothing is read yet."""
    clvp, decoder, coder = folder / "clvp2.pth", folder / "diffusion_decoder.pth", folder / "dvae.pth"
    voice, other = folder / "rlg_auto.pth", folder / "rlg_diffuser.pth"
    parts = [
        _Part(
            "clvp", "Tortoise's CLVP", CLVP_KIND, sizes.clvp, clvp,
            lambda: CLVP(sizes.clvp), lambda: judge(_read(clvp), clvp),
        ),
        _Part(
            "diffusion", "Tortoise's diffusion decoder", DIFFUSION_KIND, sizes.diffusion, decoder,
            lambda: DiffusionDecoder(sizes.diffusion), lambda: diffusion(_read(decoder), decoder),
        ),
        _Part(
            "random", "Tortoise's random voices", RANDOM_KIND, sizes.random, voice,
            lambda: RandomVoices(sizes.random), lambda: random_voices(_read(voice), _read(other), voice, other),
        ),
    ]  # fmt: skip
    if coder.is_file():
        parts.append(
            _Part(
                "vqvae", "Tortoise's VQ-VAE", VQVAE_KIND, sizes.vqvae, coder, lambda: VQVAE(sizes.vqvae),
                lambda: vqvae(_read(coder), scale, sizes.vqvae, coder),
            )
        )  # fmt: skip
    return parts


_README = """# {title}

Converted from the published `{file}` of Tortoise (arXiv 2305.07243).

Licence: Apache-2.0 (the published weights')

Trained by its author, James Betker, on LibriTTS, HiFiTTS and 49,000 hours of speech from the web, as his paper says.
"""


def _find(folder: Path) -> tuple[Path, Path]:
    """The two small files, once all files are known to be there."""
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder} lacks {', '.join(missing)}: fetch the weights that the public Tortoise uses, "
            "jbetker/tortoise-tts-v2 at Hugging Face, and put them there"
        )
    found = importlib.util.find_spec("tortoise")
    installed = [Path(place) / "data" for place in (found.submodule_search_locations or [])] if found else []
    places = [folder, folder / "data", *installed]
    norms, tokeniser = (
        next((place / name for place in places if (place / name).is_file()), None) for name in (NORMS, TOKENISER)
    )
    if norms is None or tokeniser is None:
        raise UserError(
            f"{folder} lacks {NORMS if norms is None else TOKENISER}: take it from tortoise/data of the package "
            "tortoise-tts (pip download --no-deps tortoise-tts==3.0.0) and put it there"
        )
    return norms, tokeniser


def _read(path: Path) -> Mapping[str, Tensor]:
    return tensors(checkpoint.read_torch(path), path)


def _check_tokeniser(path: Path, config: ARConfig) -> None:
    found = len(BPETokens(path).symbols)
    if found != config.symbols:
        raise UserError(f"{path} has {found} symbols, the published text has {config.symbols}: take the published one")


def _norms(path: Path, config: ARConfig) -> Tensor:
    held = checkpoint.read_torch(path)
    if not isinstance(held, Tensor) or held.shape != (config.mel.channels,) or not bool((held > 0).all()):
        raise UserError(f"{path} is not the published file: it must hold {config.mel.channels} positive numbers")
    return held.float()


_ATTENTION: Names = (
    (r"\.proj_out\.", ".out."),
    (r"\.relative_pos_embeddings\.relative_attention_bias\.", ".bias.values."),
)

_AUTOREGRESSIVE: Names = (
    *_ATTENTION,
    (r"^conditioning_encoder\.init\.", "conditioning.init."),
    (r"^conditioning_encoder\.attn\.", "conditioning.blocks."),
    (r"^mel_embedding\.", "code_embedding."),
    (r"^text_pos_embedding\.emb\.", "text_position."),
    (r"^mel_pos_embedding\.emb\.", "code_position."),
    (r"^mel_head\.", "code_head."),
    (r"^gpt\.ln_f\.", "body.norm."),
    (r"^gpt\.h\.", "body.blocks."),
    (r"\.ln_1\.", ".norm_attention."),
    (r"\.attn\.c_attn\.", ".qkv."),
    (r"\.attn\.c_proj\.", ".out."),
    (r"\.ln_2\.", ".norm_ffn."),
    (r"\.mlp\.c_fc\.", ".ffn_in."),
    (r"\.mlp\.c_proj\.", ".ffn_out."),
)
_AUTOREGRESSIVE_IGNORED = (
    # Causal masks that older versions of transformers saved, and what the program hangs on to sample: the same weights.
    r"gpt\.h\.\d+\.attn\.(bias|masked_bias)",
    r"gpt\.wte\.weight",
    r"inference_model\..*",
)


def autoregressive(state: Mapping[str, Tensor], scale: Tensor, source: PathLike) -> dict[str, Tensor]:
    """``UnifiedVoice``'s weights as `AutoregressiveModel`'s; ``scale`` (C,) divides what its reference clips are."""
    made = rename(state, _AUTOREGRESSIVE, source, _AUTOREGRESSIVE_IGNORED)
    for name, weight in made.items():
        if name.startswith("body.") and weight.ndim == 2:
            made[name] = weight.T  # GPT-2 keeps matrices as (in, out)
    return {**made, "channel_scale": scale}


_CLVP: Names = (
    (r"^(text|speech)_emb\.", r"\1.embed."),
    (r"^to_(text|speech)_latent\.", r"\1.latent."),
    (r"^(text|speech)_transformer\.transformer\.norm\.", r"\1.norm."),
    (r"^(text|speech)_transformer\.transformer\.attn_layers\.layers\.", r"\1.branches."),
    (r"\.0\.0\.g$", ".norm.weight"),
    (r"\.1\.wrap\.to_q\.", ".query."),
    (r"\.1\.wrap\.to_k\.", ".key."),
    (r"\.1\.wrap\.to_v\.", ".value."),
    (r"\.1\.wrap\.(to_out|net\.3)\.", ".out."),
    (r"\.1\.wrap\.net\.0\.proj\.", ".inner."),
)
_CLVP_IGNORED = (r".*\.rotary_pos_emb\.inv_freq",)
"""Frequencies, which are computed."""


def judge(state: Mapping[str, Tensor], source: PathLike) -> dict[str, Tensor]:
    """``CLVP``'s weights as ours."""
    return rename(state, _CLVP, source, _CLVP_IGNORED)


_DIFFUSION: Names = (
    *_ATTENTION,
    (r"\.in_layers\.0\.", ".norm_in."),
    (r"\.in_layers\.2\.", ".conv_in."),
    (r"\.emb_layers\.1\.", ".time."),
    (r"\.out_layers\.0\.", ".norm_out."),
    (r"\.out_layers\.3\.", ".conv_out."),
    (r"\.resblk\.", ".block."),
    (r"\.attn\.", ".attention."),
    # The last layers are blocks without attention.
    (r"^layers\.(\d+)\.(norm_in|conv_in|time|norm_out|conv_out)\.", r"layers.\1.block.\2."),
    (r"^conditioning_timestep_integrator\.", "integrator."),
    (r"^inp_block\.", "enter."),
    (r"^time_embed\.0\.", "time_in."),
    (r"^time_embed\.2\.", "time_out."),
    (r"^code_embedding\.", "codes."),
    (r"^code_converter\.", "code_blocks."),
    (r"^code_norm\.", "source_norm."),
    (r"^latent_conditioner\.0\.", "latent_in."),
    *((rf"^latent_conditioner\.{i + 1}\.", f"latent_blocks.{i}.") for i in range(4)),
    (r"^contextual_embedder\.0\.", "clip_in."),
    (r"^contextual_embedder\.1\.", "clip_mid."),
    *((rf"^contextual_embedder\.{i + 2}\.", f"clip_blocks.{i}.") for i in range(5)),
    (r"^unconditioned_embedding$", "nothing"),
    (r"^integrating_conv\.", "join."),
    (r"^out\.0\.", "out_norm."),
    (r"^out\.2\.", "out."),
)


def diffusion(state: Mapping[str, Tensor], source: PathLike) -> dict[str, Tensor]:
    """``DiffusionTts``'s weights as `DiffusionDecoder`'s."""
    return rename(state, _DIFFUSION, source)


def random_voices(
    voice: Mapping[str, Tensor], decoder: Mapping[str, Tensor], source: PathLike, decoder_source: PathLike
) -> dict[str, Tensor]:
    """Two ``RandomLatentConverter``s' weights as `RandomVoices`'."""
    last = max((int(name.split(".")[1]) for name in voice if name.startswith("layers.")), default=0)
    names = ((rf"^layers\.{last}\.", "out."),)
    halves = {"voice": rename(voice, names, source), "decoder": rename(decoder, names, decoder_source)}
    return {f"{half}.{name}": weight for half, state in halves.items() for name, weight in state.items()}


def vqvae(state: Mapping[str, Tensor], scale: Tensor, config: VQVAEConfig, source: PathLike) -> dict[str, Tensor]:
    """``DiscreteVAE``'s weights (of DL-Art-School) as `VQVAE`'s.

    Published mels are divided by ``scale`` (C,), ours are not: the first and the last convolution do it here.
    """
    layers, blocks = config.layers, config.blocks
    names: Names = (
        *((rf"^encoder\.{i}\.0\.", f"encoder.down.{i}.") for i in range(layers)),
        *((rf"^encoder\.{layers + i}\.net\.", f"encoder.blocks.{i}.net.") for i in range(blocks)),
        (rf"^encoder\.{layers + blocks}\.", "encoder.out."),
        (r"^decoder\.0\.", "decoder.project."),
        *((rf"^decoder\.{1 + i}\.net\.", f"decoder.blocks.{i}.net.") for i in range(blocks)),
        *((rf"^decoder\.{1 + blocks + i}\.0\.conv\.", f"decoder.up.{i}.") for i in range(layers)),
        (rf"^decoder\.{1 + blocks + layers}\.", "decoder.out."),
        (r"\.net\.0\.", ".first."),
        (r"\.net\.2\.", ".second."),
        (r"\.net\.4\.", ".last."),
        (r"^codebook\.embed$", "quantiser.codebook"),
        (r"^codebook\.cluster_size$", "quantiser.counts"),
        (r"^codebook\.embed_avg$", "quantiser.sums"),
    )
    made = rename(state, names, source, (r"discrete_loss\..*",))
    for name, weight in made.items():
        if name in ("quantiser.codebook", "quantiser.sums"):
            made[name] = weight.T  # published with a column for each code
        elif name == "encoder.down.0.weight" and weight.shape[1] == len(scale):
            made[name] = weight / scale[:, None]
        elif name.startswith("decoder.out.") and len(weight) == len(scale):
            made[name] = weight * scale.view(-1, *[1] * (weight.ndim - 1))
    idle, started = torch.zeros(config.codes, dtype=torch.long), torch.ones((), dtype=torch.bool)
    return {**made, "quantiser.idle": idle, "quantiser.started": started}
