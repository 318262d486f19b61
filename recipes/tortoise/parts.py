"""A Tortoise checkpoint's parts: the autoregressive model's folder, and one inside it for each of the others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from flowtts import checkpoint
from flowtts.checkpoint import Checkpoint
from flowtts.config import load as load_config
from flowtts.published import check
from flowtts.quantised import pack, unpack
from flowtts.types import PathLike, UserError

from . import AR_KIND, CLVP_KIND, DIFFUSION_KIND, VQVAE_KIND
from .autoregressive import AutoregressiveModel
from .clvp import CLVP
from .config import ARConfig, CLVPConfig, DiffusionConfig, VQVAEConfig
from .diffusion import DiffusionDecoder
from .random import RANDOM_KIND, RandomConfig, RandomVoices
from .tokens import BPETokens
from .vqvae import VQVAE

VQVAE_PART, CLVP_PART, DIFFUSION_PART, RANDOM_PART = "vqvae", "clvp", "diffusion", "random"
"""Folders inside the autoregressive model's."""

TOKENISER = "tokenizer.json"
"""Where converted published weights keep their text symbols, in place of vocabulary.txt."""

MOST_CHANGED = 0.02
"""Share of codes that storing a VQ-VAE in 8 bits may change."""

Config = ARConfig | VQVAEConfig | CLVPConfig | DiffusionConfig

C = TypeVar("C")
N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Parts:
    """A Tortoise in memory, in evaluation mode.

    Attributes:
        ar: text and a voice to codes.
        decoder: codes, or the states that predict them, to mels.
        vqvae: mels to codes; published weights may come without.
        clvp: the judge, or None.
        voices: makes voices of nothing, or None.
        symbols: of the text; index is the id.
        hash: of all weights together.
        folder: where they lie.
    """

    ar: AutoregressiveModel
    decoder: DiffusionDecoder
    vqvae: VQVAE | None
    clvp: CLVP | None
    voices: RandomVoices | None
    symbols: tuple[str, ...]
    hash: str
    folder: Path


def load_parts(folder: PathLike, device: torch.device | str = "cpu") -> Parts:
    """A Tortoise from its checkpoint's folder.

    Raises:
        UserError: a part is missing, broken or of another kind, or the parts do not belong together.
    """
    folder = Path(folder)
    if not (folder / DIFFUSION_PART).is_dir() and (folder / checkpoint.CONFIG).is_file():
        raise UserError(
            f"{folder} has no folder {DIFFUSION_PART!r} and cannot speak: put the parts together with "
            "python -m flowtts.recipes.tortoise.assemble"
        )
    ar, found, config = load_network(folder, AR_KIND, ARConfig, AutoregressiveModel)
    decoder, held, emitting = load_network(folder / DIFFUSION_PART, DIFFUSION_KIND, DiffusionConfig, DiffusionDecoder)
    read: list[tuple[Checkpoint, Config]] = [(found, config), (held, emitting)]
    vqvae: VQVAE | None = None
    clvp: CLVP | None = None
    voices: RandomVoices | None = None
    if (folder / VQVAE_PART).is_dir():
        vqvae, held, coding = load_network(folder / VQVAE_PART, VQVAE_KIND, VQVAEConfig, VQVAE)
        read.append((held, coding))
    if (folder / CLVP_PART).is_dir():
        clvp, held, judging = load_network(folder / CLVP_PART, CLVP_KIND, CLVPConfig, CLVP)
        read.append((held, judging))
    if (folder / RANDOM_PART).is_dir():
        voices, _, _ = load_network(folder / RANDOM_PART, RANDOM_KIND, RandomConfig, RandomVoices)
    belong(read)
    for network in (ar, decoder, vqvae, clvp, voices):
        if network is not None:
            network.to(device)
    whole = _together([held for held, _ in read])
    return Parts(ar, decoder, vqvae, clvp, voices, _symbols(found, config), whole, folder)


def load_judging(folder: PathLike, device: torch.device | str = "cpu") -> tuple[VQVAE, CLVP, tuple[str, ...], str]:
    """What compares a text with sound: the VQ-VAE, CLVP, the text's symbols and a hash of both networks.

    Raises:
        UserError: one of them is missing or broken, they do not belong together, or the text is not in phones.
    """
    folder = Path(folder)
    missing = [name for name in (VQVAE_PART, CLVP_PART) if not (folder / name).is_dir()]
    if missing:
        raise UserError(f"{folder} has no folder {missing[0]!r} and cannot judge sound: give a Tortoise that has it")
    vqvae, coding, coder = load_network(folder / VQVAE_PART, VQVAE_KIND, VQVAEConfig, VQVAE)
    clvp, judging, judge = load_network(folder / CLVP_PART, CLVP_KIND, CLVPConfig, CLVP)
    belong([(coding, coder), (judging, judge)])
    if judging.vocabulary is None:
        raise UserError(f"{judging.folder} reads letters, not phones, and cannot judge what other models say")
    return vqvae.to(device), clvp.to(device), judging.vocabulary, _together([coding, judging])


def assemble(
    ar: PathLike,
    out: PathLike,
    *,
    vqvae: PathLike,
    clvp: PathLike,
    diffusion: PathLike,
    readme: str | None = None,
    dtype: torch.dtype | None = None,
    extra_parts: Sequence[tuple[str, PathLike]] = (),
) -> Path:
    """Makes one checkpoint of networks that were trained apart.

    Args:
        ar: the autoregressive model: a checkpoint or a training run, of which the newest counts; like all others.
        out: the folder to write; an older checkpoint there is replaced.
        vqvae: what makes codes.
        clvp: the judge.
        diffusion: the decoder.
        readme: Markdown: licence, training data, results.
        dtype: what weights are stored in, None for float32. A VQ-VAE whose codes int8 would change is kept in float16.
        extra_parts: names and checkpoints of further folders, e.g. a vocoder.

    Raises:
        UserError: a part is missing, broken or of another kind, the parts do not belong together, or ``out`` is in
            the way.
    """
    found, ar_config = _weights(ar, AR_KIND, ARConfig, AutoregressiveModel)
    coder, coder_config = _weights(vqvae, VQVAE_KIND, VQVAEConfig, VQVAE)
    judge, judge_config = _weights(clvp, CLVP_KIND, CLVPConfig, CLVP)
    decoder, decoder_config = _weights(diffusion, DIFFUSION_KIND, DiffusionConfig, DiffusionDecoder)
    parts = {VQVAE_PART: coder, CLVP_PART: judge, DIFFUSION_PART: decoder}
    parts |= {name: checkpoint.load(checkpoint.find(place)) for name, place in extra_parts}
    belong([(found, ar_config), (coder, coder_config), (judge, judge_config), (decoder, decoder_config)])
    _symbols(found, ar_config)
    coded = torch.float16 if dtype == torch.int8 and codes_changed(coder, coder_config) > MOST_CHANGED else dtype

    def rest(made: Path) -> None:
        for name, held in parts.items():
            stored = coded if name == VQVAE_PART else dtype
            checkpoint.save(
                made / name, kind=held.kind, config=held.config, state=held.state, vocabulary=held.vocabulary,
                dtype=stored,
            )  # fmt: skip

    return checkpoint.save(
        out, kind=AR_KIND, config=found.config, state=found.state, vocabulary=found.vocabulary, readme=readme,
        dtype=dtype, extra=rest,
    )  # fmt: skip


def belong(parts: Iterable[tuple[Checkpoint, Config]]) -> None:
    """Sees that parts read and write the same codes, states and text.

    Raises:
        UserError: two do not, naming both.
    """
    known: dict[str, tuple[Path, Any]] = {}
    for found, config in parts:
        folder, facts = found.folder, _facts(config)
        if found.vocabulary is not None:
            facts["vocabulary"] = hashlib.sha256("\n".join(found.vocabulary).encode()).hexdigest()[:12]
        for what, value in facts.items():
            other, theirs = known.setdefault(what, (folder, value))
            if theirs != value:
                raise UserError(
                    f"{other} and {folder} do not belong together: the {what} is {theirs} of one and {value} of the "
                    "other; give parts that were trained for one VQ-VAE"
                )


def codes_changed(found: Checkpoint, config: VQVAEConfig) -> float:
    """Share of codes that become others if a VQ-VAE is stored in 8 bits.

    Counted on what it makes of random codes, blurred by so much noise that it is as sensitive as speech.
    """
    plain, packed = VQVAE(config).eval(), VQVAE(config).eval()
    checkpoint.load_state(plain, found.state, found.folder)
    rounded = unpack(pack(found.state))
    packed.load_state_dict({name: x.float() if x.is_floating_point() else x for name, x in rounded.items()})
    rng = torch.Generator().manual_seed(0)
    codes, lengths = torch.randint(config.codes, (8, 128), generator=rng), torch.full((8,), 128)
    with torch.inference_mode():
        made = plain.decode(codes, lengths)
        heard = made + 0.3 * made.std() * torch.randn(made.shape, generator=rng)
        frames = lengths * config.frames_per_code
        return float((plain.encode(heard, frames) != packed.encode(heard, frames)).double().mean())


def read_part(folder: Path, kind: str, cls: type[C]) -> tuple[Checkpoint, C]:
    """A checkpoint of one kind and its configuration.

    Raises:
        UserError: it is missing, broken, or of another kind.
    """
    found = checkpoint.require_kind(checkpoint.load(folder), kind, folder)
    return found, load_config(cls, found.config)


class VQVAETokeniser:
    """Features to codes by a VQ-VAE.

    Args:
        model: the network.
        hash: of its weights.
    """

    def __init__(self, model: VQVAE, hash: str) -> None:
        self.model = model.eval().requires_grad_(False)
        self.hash = hash

    @classmethod
    def load(cls, folder: Path) -> VQVAETokeniser:
        """From a checkpoint's folder.

        Raises:
            UserError: it is no VQ-VAE.
        """
        model, found, _ = load_network(folder, VQVAE_KIND, VQVAEConfig, VQVAE)
        return cls(model, found.hash)

    def __call__(self, features: Tensor) -> Tensor:
        """(N,) int64 codes of (T, C) features."""
        device = next(self.model.parameters()).device
        with torch.no_grad():
            codes = self.model.encode(features[None].to(device), torch.tensor([len(features)], device=device))
        return codes[0].cpu()


def load_network(folder: Path, kind: str, cls: type[C], build: Callable[[C], N]) -> tuple[N, Checkpoint, C]:
    """A network in evaluation mode, with its checkpoint and configuration.

    Raises:
        UserError: the checkpoint is missing, broken, of another kind, or does not fit.
    """
    found, config = read_part(folder, kind, cls)
    network = build(config)
    checkpoint.load_state(network, found.state, folder)
    return network.eval().requires_grad_(False), found, config


def _weights(place: PathLike, kind: str, cls: type[C], build: Callable[[C], nn.Module]) -> tuple[Checkpoint, C]:
    """A checkpoint whose weights are known to be the network's."""
    found, config = read_part(checkpoint.find(place), kind, cls)
    check(lambda: build(config), found.state, found.folder)
    return found, config


def _together(parts: Sequence[Checkpoint]) -> str:
    """One hash of several."""
    return hashlib.sha256("+".join(found.hash for found in parts).encode()).hexdigest()[:12]


def _facts(config: Config) -> dict[str, Any]:
    """What a part must have in common with the others, by its name in messages."""
    facts: dict[str, Any] = {"codebook": config.codebook} if config.codebook else {}
    if isinstance(config, DiffusionConfig):
        seconds = Fraction(config.code_seconds, config.code_seconds_per)
        return {**facts, "codes": config.codes - 1, "code_seconds": seconds, "latent_width": config.latent_width}
    facts["codes"] = config.codes
    if isinstance(config, CLVPConfig):
        return facts
    facts |= {f"mel.{name}": value for name, value in asdict(config.mel).items()}
    facts["code_seconds"] = Fraction(config.frames_per_code * config.mel.hop_length, config.mel.sample_rate)
    return {**facts, "latent_width": config.body.width} if isinstance(config, ARConfig) else facts


def _symbols(found: Checkpoint, config: ARConfig) -> tuple[str, ...]:
    """The text's symbols, as many as the network knows."""
    symbols = found.vocabulary
    if symbols is None and (found.folder / TOKENISER).is_file():
        symbols = BPETokens(found.folder / TOKENISER).symbols
    if symbols is None or len(symbols) != config.symbols:
        count = len(symbols or ())
        raise UserError(f"{found.folder} has {count} text symbols, not {config.symbols}: the checkpoint is not whole")
    return symbols
