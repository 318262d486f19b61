"""``flowtts train tortoise-vqvae``, ``tortoise-ar``, ``tortoise-clvp`` and ``tortoise-diffusion``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from flowtts import checkpoint, config
from flowtts.checkpoint import Card
from flowtts.data.dataset import batches
from flowtts.text.symbols import SYMBOLS
from flowtts.train import Batches, Run, fit
from flowtts.train_config import TrainConfig
from flowtts.types import MelSpec, PathLike, UserError
from flowtts.validate import Validate

from . import AR_KIND, CLVP_KIND, DIFFUSION_KIND, VQVAE_KIND
from .autoregressive import AutoregressiveModel
from .clvp import CLVP
from .config import ARConfig, CLVPConfig, DiffusionConfig, VQVAEConfig
from .data import CodeBatch, CodeCorpus, Reading, code_batches, corpus_of, windowed
from .diffusion import DiffusionDecoder
from .guide import start_alike
from .parts import VQVAETokeniser, load_network
from .vqvae import VQVAE
from .warm import read_states_as_codes

VALID_BATCHES = 16


@dataclass(frozen=True)
class MelData:
    """What the VQ-VAE reads of the manifests.

    Attributes:
        max_frames_per_batch: padded frames of one batch.
        max_frames: longer utterances are cropped.
        cache: folder for computed features, or None.
        speeds: every utterance is used at each of these speeds, as so many voices.
        colour_db: deviation of a random filter for each utterance, see ``flowtts.data.dataset.colour``.
        valid: manifests of speakers that are held out; their loss is logged with the samples.
    """

    max_frames_per_batch: int = 12_000
    max_frames: int = 400
    cache: str | None = None
    speeds: tuple[float, ...] = (1.0,)
    colour_db: float = 0.0
    valid: tuple[str, ...] = ()


@dataclass(frozen=True)
class CodeData:
    """What the other networks read.

    Attributes:
        max_frames_per_batch: padded frames of one batch.
        clips: reference clips of the same speaker beside each utterance.
        cache: folder for computed features and codes, or None.
        speeds: every utterance is used at each of these speeds, as so many voices.
        longest: seconds; longer utterances are left out.
        window: codes of an utterance that the diffusion decoder learns at a time; others read it whole.
        valid: manifests of speakers that are held out; their loss is logged with the samples.
    """

    max_frames_per_batch: int = 12_000
    clips: int = 1
    cache: str | None = None
    speeds: tuple[float, ...] = (1.0,)
    longest: float = 16.0
    window: int = 100
    valid: tuple[str, ...] = ()


@dataclass(frozen=True)
class VQVAERun:
    """Everything that decides a run of the VQ-VAE.

    Attributes:
        model: its sizes.
        data: what it reads.
        train: how it is trained.
        init: a checkpoint of the same sizes to start from, or None.
    """

    model: VQVAEConfig = field(default_factory=VQVAEConfig)
    data: MelData = field(default_factory=MelData)
    train: TrainConfig = field(default_factory=TrainConfig)
    init: str | None = None


@dataclass(frozen=True)
class ARRun:
    """Likewise for the autoregressive model.

    Attributes:
        vqvae: the checkpoint that makes its codes.
        alike: codes begin as their vectors in the codebook, see ``guide.py``; not so in the paper.
        model: its sizes.
        data: what it reads.
        train: how it is trained.
        init: a checkpoint of the same sizes to start from, or None.
    """

    vqvae: str = ""
    alike: bool = False
    model: ARConfig = field(default_factory=ARConfig)
    data: CodeData = field(default_factory=CodeData)
    train: TrainConfig = field(default_factory=TrainConfig)
    init: str | None = None


@dataclass(frozen=True)
class CLVPRun:
    """Likewise for CLVP, with ``vqvae`` and ``alike`` as above."""

    vqvae: str = ""
    alike: bool = False
    model: CLVPConfig = field(default_factory=CLVPConfig)
    data: CodeData = field(default_factory=CodeData)
    train: TrainConfig = field(default_factory=TrainConfig)
    init: str | None = None


@dataclass(frozen=True)
class DiffusionRun:
    """Likewise for the diffusion decoder.

    With ``ar``, the checkpoint of an autoregressive model, it learns from that model's last hidden states instead of
    codes, which is how a decoder that learnt from codes is fine-tuned at last (``init``); ``warm`` batches first show
    it which code a state stands for (``warm.py``).
    """

    vqvae: str = ""
    ar: str | None = None
    warm: int = 0
    model: DiffusionConfig = field(default_factory=DiffusionConfig)
    data: CodeData = field(default_factory=CodeData)
    train: TrainConfig = field(default_factory=TrainConfig)
    init: str | None = None


AnyRun = VQVAERun | ARRun | CLVPRun | DiffusionRun

N = TypeVar("N", bound=nn.Module)

CONFIGS = Path(__file__).parent / "configs"

WATCHED: Mapping[str, tuple[str, ...]] = {
    VQVAE_KIND: ("loss", "mse", "perplexity", "used"),
    AR_KIND: ("loss", "codes", "accuracy"),
    CLVP_KIND: ("loss", "accuracy_text", "accuracy_speech"),
    DIFFUSION_KIND: ("loss", "mse", "mel"),
}
"""Kind of a checkpoint -> what is logged of held-out data."""


def train(
    kind: str,
    manifests: Sequence[PathLike],
    out: PathLike,
    *,
    source: Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    vocode: Callable[[Tensor], Any] | None = None,
) -> Run:
    """Train one of the four networks.

    Args:
        kind: "tortoise-vqvae", "tortoise-ar", "tortoise-clvp" or "tortoise-diffusion".
        manifests: of cuts, made by ``flowtts prepare``; one that is named n times counts n times.
        out: the run's folder.
        source: YAML; the shipped model's by default. A bare name means one in ``configs/``.
        overrides: "train.steps=1000", "vqvae=FOLDER" …
        resume: go on with what ``out`` holds.
        vocode: not used; the networks are watched by their losses on held-out data.

    Raises:
        UserError: a wrong configuration or manifest, no VQ-VAE, or an ``out`` that holds another run.
    """
    del vocode
    cls, default = RUNS[kind]
    return fit_run(config.load(cls, config.file_in(CONFIGS, source, default), overrides), manifests, out, resume=resume)


def fit_run(run: AnyRun, manifests: Sequence[PathLike], out: PathLike, *, resume: bool) -> Run:
    """`train` with a configuration that has been read.

    Raises:
        UserError: see there.
    """
    if isinstance(run, VQVAERun):
        saved = checkpoint.steps(Path(out)) if resume else []
        made = _vqvae(run, manifests, saved[-1] if saved else None)
    elif isinstance(run, ARRun):
        made = _ar(run, manifests)
    elif isinstance(run, CLVPRun):
        made = _clvp(run, manifests)
    else:
        made = _diffusion(run, manifests)
    network, data, card, valid = made
    if run.init is not None:
        checkpoint.begin(network, run.init, card.kind)
    begins = not (resume and checkpoint.steps(Path(out)))
    if isinstance(run, DiffusionRun) and run.ar and run.warm and begins and isinstance(network, DiffusionDecoder):
        read_states_as_codes(network, islice(data(0, 1), run.warm))
    sample = Validate(valid, WATCHED[card.kind]) if run.train.sample_every and valid else None
    return fit(network, data, config=run.train, out=out, card=card, sample=sample, resume=resume)


Made = tuple[nn.Module, Batches, Card, Sequence[Any]]
"""A network, its data, what its checkpoints say, and held-out batches."""


def _vqvae(run: VQVAERun, manifests: Sequence[PathLike], before: Path | None) -> Made:
    """``before`` is the checkpoint that a run goes on from: its codes keep their name."""
    name = run.model.codebook or (_name(run, manifests) if before is None else _named(before))
    model = replace(run.model, codebook=name)
    network = _made(lambda: VQVAE(model), run.train.seed)

    def read(paths: Sequence[PathLike], speeds: tuple[float, ...], colour_db: float) -> Batches:
        return batches(
            paths, model.mel, max_frames_per_batch=run.data.max_frames_per_batch, seed=run.train.seed,
            max_frames=run.data.max_frames, cache=run.data.cache, speeds=speeds, colour_db=colour_db,
        )  # fmt: skip

    valid = _some(read(run.data.valid, (1.0,), 0.0)) if run.data.valid else ()
    return network, read(manifests, run.data.speeds, run.data.colour_db), Card(VQVAE_KIND, model), valid


def _ar(run: ARRun, manifests: Sequence[PathLike]) -> Made:
    tokeniser = _tokeniser(run.vqvae)
    coded = tokeniser.model.config
    model = replace(
        run.model, mel=coded.mel, codes=coded.codes, frames_per_code=coded.frames_per_code, codebook=coded.codebook,
        symbols=len(SYMBOLS), clips=run.data.clips,
    )  # fmt: skip
    network = _made(lambda: AutoregressiveModel(model), run.train.seed)
    if run.alike:
        tables = (network.code_embedding.weight, network.code_head.weight)
        start_alike(tables, tokeniser.model.quantiser.codebook, run.train.seed)
    reading = _fitting(_reading(run.data, coded.mel, model.clip_seconds), model)
    data, valid = _codes(run.data, reading, tokeniser, manifests, run.train.seed)
    return network, data, Card(AR_KIND, model, SYMBOLS), valid


def _clvp(run: CLVPRun, manifests: Sequence[PathLike]) -> Made:
    tokeniser = _tokeniser(run.vqvae)
    coded = tokeniser.model.config
    model = replace(run.model, codes=coded.codes, codebook=coded.codebook, symbols=len(SYMBOLS))
    network = _made(lambda: CLVP(model), run.train.seed)
    if run.alike:
        start_alike((network.speech.embed.weight,), tokeniser.model.quantiser.codebook, run.train.seed)
    reading = replace(_reading(run.data, coded.mel), clips=0)
    data, valid = _codes(run.data, reading, tokeniser, manifests, run.train.seed)
    return network, data, Card(CLVP_KIND, model, SYMBOLS), valid


def _diffusion(run: DiffusionRun, manifests: Sequence[PathLike]) -> Made:
    tokeniser = _tokeniser(run.vqvae)
    coded = tokeniser.model.config
    seconds = (coded.frames_per_code * coded.mel.hop_length, coded.mel.sample_rate)
    model = replace(
        run.model, codes=coded.codes + 1, codebook=coded.codebook, code_seconds=seconds[0], code_seconds_per=seconds[1]
    )
    # Codes need no text: speech that nobody has transcribed teaches the decoder as well.
    reading = replace(_reading(run.data, coded.mel, model.clip_seconds), emitted=model.mel, transcribed=False)
    teacher = None
    if run.ar is not None:
        teacher = _autoregressive(run.ar, tokeniser)
        model = replace(model, latent_width=teacher.config.body.width)
        reading = replace(_fitting(reading, teacher.config), both_clips=True, transcribed=True)
    network = _made(lambda: DiffusionDecoder(model), run.train.seed)
    # The way in that is not used keeps its weights. Several processes would wait for its gradients.
    unused = (network.latent_in, network.latent_blocks) if teacher is None else (network.codes, network.code_blocks)
    for part in unused:
        part.requires_grad_(False)
    whole, valid = _codes(run.data, reading, tokeniser, manifests, run.train.seed)

    def cut(batch: CodeBatch, index: int) -> CodeBatch:
        if teacher is not None:
            batch = with_latents(batch, teacher)
        return windowed(batch, run.data.window, model.frames, (run.train.seed, index))

    def data(start: int, stride: int) -> Iterator[CodeBatch]:
        index = start
        for batch in whole(start, stride):
            yield cut(batch, index)
            index += stride

    return network, data, Card(DIFFUSION_KIND, model), [cut(b, i) for i, b in enumerate(valid)]


def with_latents(batch: CodeBatch, teacher: AutoregressiveModel) -> CodeBatch:
    """A batch with the autoregressive model's last hidden states in the place of codes."""
    device = next(teacher.parameters()).device
    here = batch.to(device)
    clips, frames = here.heard()
    with torch.no_grad():
        voice = teacher.voice(clips, frames)
        latents = teacher.latents(voice, here.text, here.text_lengths, here.codes, here.code_lengths)
    return replace(batch, latents=latents.float().cpu())


def _reading(how: CodeData, heard: MelSpec, clip_seconds: float = 0.0) -> Reading:
    return Reading(
        heard, clips=how.clips, clip_seconds=clip_seconds, cache=how.cache, speeds=how.speeds, longest=how.longest
    )


def _fitting(reading: Reading, model: ARConfig) -> Reading:
    """Only what has room in the autoregressive model's tables of positions."""
    longest = min(reading.longest, float(model.max_codes * model.code_seconds))
    return replace(reading, longest=longest, longest_text=model.max_text)


def _codes(
    how: CodeData, reading: Reading, tokeniser: VQVAETokeniser, manifests: Sequence[PathLike], seed: int
) -> tuple[Batches, Sequence[CodeBatch]]:
    """Batches to learn from, and some of held-out speakers."""

    def made(corpus: CodeCorpus, seed: int) -> Batches:
        return code_batches(corpus, max_frames_per_batch=how.max_frames_per_batch, seed=seed)

    valid = ()
    if how.valid:
        valid = _some(made(corpus_of(how.valid, replace(reading, speeds=(1.0,)), tokeniser, SYMBOLS), 0))
    return made(corpus_of(manifests, reading, tokeniser, SYMBOLS), seed), valid


def _some(data: Batches) -> tuple[Any, ...]:
    return tuple(islice(data(0, 1), VALID_BATCHES))


def _tokeniser(folder: str) -> VQVAETokeniser:
    if not folder:
        raise UserError("give the checkpoint that makes the codes: vqvae=FOLDER")
    return VQVAETokeniser.load(checkpoint.find(folder))


def _autoregressive(folder: str, tokeniser: VQVAETokeniser) -> AutoregressiveModel:
    network, _, model = load_network(checkpoint.find(folder), AR_KIND, ARConfig, AutoregressiveModel)
    if model.codebook != tokeniser.model.config.codebook:
        raise UserError(f"{folder} and the VQ-VAE have different codebooks: give the one it was trained with")
    return network


def _made(build: Callable[[], N], seed: int) -> N:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def _name(run: VQVAERun, manifests: Sequence[PathLike]) -> str:
    """A name for what a run learns: equal runs, equal names."""
    data = replace(run.data, cache=None, valid=())
    key = repr((config.plain(replace(run, data=data)), [str(path) for path in manifests]))
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def _named(folder: Path) -> str:
    return str(checkpoint.read_header(folder)["config"].get("codebook", ""))


RUNS: Mapping[str, tuple[type[AnyRun], str]] = {
    "tortoise-vqvae": (VQVAERun, "vqvae.yaml"),
    "tortoise-ar": (ARRun, "ar.yaml"),
    "tortoise-clvp": (CLVPRun, "clvp.yaml"),
    "tortoise-diffusion": (DiffusionRun, "diffusion.yaml"),
}
"""What can be trained alone -> its configuration, and the shipped model's."""
