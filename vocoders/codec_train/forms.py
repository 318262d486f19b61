"""What differs between codecs: how they are made, begun, heard and written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from flowtts import checkpoint
from flowtts.nn.quantise import VectorQuantiser
from flowtts.types import PathLike, UserError

from .. import codec, encodec, mimi
from ..codec.network import CodecNetwork
from ..encodec import EncodecNetwork
from ..mimi import MimiNetwork
from ..vocos import VocosVocoder
from .config import EncodecRun, Run, SmallRun
from .data import measure
from .teacher import Teacher

CodecModule = CodecNetwork | EncodecNetwork | MimiNetwork

ALIVE = 4.0
"""What the codes of a checkpoint without moving averages have in them, over what they need to live."""


def kind_of(run: Run) -> str:
    """Of its checkpoints."""
    return codec.KIND if isinstance(run, SmallRun) else encodec.KIND if isinstance(run, EncodecRun) else mimi.KIND


def make(run: Run, teacher: Teacher | None) -> CodecModule:
    """The network that a run begins with.

    Raises:
        UserError: what it starts from is missing, of another kind or size, or the codec cannot be trained here.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.train.seed)
        network: CodecModule
        if isinstance(run, SmallRun):
            network = CodecNetwork(run.model)
            if run.init_vocoder is not None:
                start_from(network, run.init_vocoder)
        elif isinstance(run, EncodecRun):
            network = EncodecNetwork(run.model)
        else:
            network = MimiNetwork(replace(run.model, teacher=0 if teacher is None else teacher.width))
    if not network.plain:
        raise UserError("only codecs of mono sound are trained, all of it at once and without a loudness of its own")
    if run.init is not None:
        _begin(network, run.init)
    if run.decoder_only:
        network.requires_grad_(False)
        network.decoder.requires_grad_(True)
        if isinstance(network, MimiNetwork):
            network.decoder_transformer.requires_grad_(True)
            network.upsample.requires_grad_(True)
    return network


def _begin(network: CodecModule, init: PathLike) -> None:
    """Weights of a checkpoint; a map to a teacher's features may be new."""
    found: CodecModule
    if isinstance(network, CodecNetwork):
        found = codec.load_network(init)
    elif isinstance(network, EncodecNetwork):
        found = encodec.load_network(init)
    else:
        found = mimi.load_network(init)
    state = found.state_dict()
    if isinstance(network, MimiNetwork):
        own = {name: x for name, x in network.state_dict().items() if name.startswith("quantiser.teacher.")}
        state = {name: x for name, x in state.items() if not name.startswith("quantiser.teacher.")}
        state |= {name: found.state_dict().get(name, x) for name, x in own.items()}
    checkpoint.load_state(network, state, init)
    for book in network.modules():
        if isinstance(book, VectorQuantiser) and book.update == "ema" and not bool(book.counts.any()):
            # What is shipped has no averages: codes would all be dead, or jump to the first frames that they meet.
            book.counts.fill_(max(1.0, ALIVE * book.revive_below))
            book.sums.copy_(book.counts[:, None] * book.codebook)


@torch.no_grad()
def start_from(network: CodecNetwork, name: PathLike) -> None:
    """A Vocos of the same sizes gives its blocks and head; of its kernels the half that looks back.

    Raises:
        UserError: there is no such vocoder, or it has other sizes.
    """
    vocos: Any = VocosVocoder.load(name).network
    backbone, decoder = vocos.backbone, cast("Any", network.decoder)
    try:
        for ours, theirs in zip(decoder.blocks, backbone.convnext, strict=True):
            ours.depthwise.weight.zero_()
            ours.depthwise.weight[..., 3:] = theirs.dwconv.weight[..., :4]
            # The middle tap now also stands for what it can no longer see.
            ours.depthwise.weight[..., 6:] += theirs.dwconv.weight[..., 4:].sum(-1, keepdim=True)
            ours.depthwise.bias.copy_(theirs.dwconv.bias)
            ours.norm.load_state_dict(theirs.norm.state_dict())
            ours.widen.load_state_dict(theirs.pwconv1.state_dict())
            ours.narrow.load_state_dict(theirs.pwconv2.state_dict())
            ours.scale.copy_(theirs.gamma)
        decoder.norm.load_state_dict(backbone.norm.state_dict())
        decoder.last.load_state_dict(backbone.final_layer_norm.state_dict())
        decoder.head.load_state_dict(vocos.head.out.state_dict())
    except (RuntimeError, ValueError):
        raise UserError(f"{name} has other sizes than the codec's decoder: choose another init_vocoder") from None


def write(network: CodecModule, folder: Path, batches: Iterable[Tensor]) -> Path:
    """A checkpoint folder; a codec that keeps statistics of its latents gets those of ``batches`` (B, N), if any."""
    if isinstance(network, CodecNetwork):
        if (found := measure(network.latents, batches)) is not None:
            network.mean.copy_(found[0])
            network.std.copy_(found[1])
        return codec.save(network, folder)
    return encodec.save(network, folder) if isinstance(network, EncodecNetwork) else mimi.save(network, folder)


@dataclass(frozen=True, eq=False)
class Copy:
    """What a codec made of a batch.

    Attributes:
        samples: (B, N).
        commitment: loss of the quantiser.
        distillation: loss against a teacher.
        ids: (B, T, K), below 0 where a codebook was left out.
    """

    samples: Tensor
    commitment: Tensor
    distillation: Tensor
    ids: Tensor


class Copying(nn.Module):
    """A codec there and back as one forward pass, which is where data parallelism hooks in.

    Args:
        network: learns, and its quantiser with it.
        decoder_only: only the decoder hears, from codes with the quantiser's dropout and share of plain latents.
    """

    def __init__(self, network: CodecModule, decoder_only: bool = False) -> None:
        super().__init__()
        self.network, self.decoder_only = network, decoder_only

    def forward(self, samples: Tensor, rng: torch.Generator, target: Tensor | None = None) -> Copy:
        """(B, N) of whole frames, and what a teacher says of it (B, T, W)."""
        network = self.network
        if self.decoder_only:
            vectors, ids = self._coded(samples[:, None], rng)
            made, none = network.from_latents(vectors)[:, 0], samples.new_zeros(())
            return Copy(made, none, none, ids)
        if isinstance(network, MimiNetwork):
            made, split = network(samples[:, None], rng, target)
            return Copy(made[:, 0], split.loss, split.distillation, split.ids)
        if isinstance(network, EncodecNetwork):
            made, coded = network(samples[:, None], rng)
            return Copy(made[:, 0], coded.loss, coded.loss.new_zeros(()), coded.ids)
        made, coded = network(samples, rng)
        return Copy(made, coded.loss, coded.loss.new_zeros(()), coded.ids)

    @torch.no_grad()
    def _coded(self, samples: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """(B, 1, N) -> vectors (B, T, D) and ids (B, T, K) of random numbers of codebooks."""
        network = self.network
        latents = network.latents(samples)
        ids = network.coder.encode(latents)
        most = ids.shape[-1]
        least = network.config.semantic if isinstance(network, MimiNetwork) else 1
        some = torch.randint(least, most + 1, (len(ids), 1, 1), generator=rng, device=rng.device)
        drops = torch.rand(len(ids), 1, 1, generator=rng, device=rng.device) < network.config.dropout
        depth = torch.where(drops, some, most).to(ids.device)
        ids = ids.masked_fill(torch.arange(most, device=ids.device) >= depth, -1)
        vectors = network.coder.decode(ids)
        share = 0.0 if isinstance(network, EncodecNetwork) else network.config.plain
        if share:
            skips = torch.rand(len(ids), 1, 1, generator=rng, device=rng.device) < share
            vectors = torch.where(skips.to(ids.device), latents, vectors)
        return vectors, ids
