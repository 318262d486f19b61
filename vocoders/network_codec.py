"""Networks of waveforms and frames behind ``flowtts.codec.Codec``, whole and in pieces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from flowtts import checkpoint
from flowtts.config import load as load_config
from flowtts.published import read_json
from flowtts.types import CodeSpec, PathLike, UserError

C = TypeVar("C")

Step = Callable[[Tensor, Any], tuple[Tensor, Any]]
"""(piece, state or None) -> (answer, state)."""


class Quantiser(Protocol):
    """Latents to codes and back."""

    def encode(self, x: Tensor, codebooks: int | None = None) -> Tensor:
        """(B, T, D) -> (B, T, n)."""
        ...

    def decode(self, ids: Tensor) -> Tensor:
        """(B, T, n) -> (B, T, D)."""
        ...


class Network(Protocol):
    """What `NetworkCodec` needs of a network."""

    @property
    def spec(self) -> CodeSpec:
        """With all of its codebooks."""
        ...

    @property
    def coder(self) -> Quantiser:
        """Its quantiser."""
        ...

    @property
    def plain(self) -> bool:
        """Whether codes of mono sound are all that it needs to give the sound back."""
        ...

    @property
    def streams(self) -> bool:
        """Whether it runs in pieces."""
        ...

    @property
    def starts(self) -> tuple[int, int]:
        """Frames that the first piece needs, of samples and of codes."""
        ...

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation (D,) of latents of speech; 0 and 1 where they were not measured."""
        ...

    def latents(self, samples: Tensor) -> Tensor:
        """(B, 1, N) -> (B, T, D)."""
        ...

    def from_latents(self, latents: Tensor) -> Tensor:
        """(B, T, D) -> (B, 1, T * hop)."""
        ...

    def stream_latents(self, samples: Tensor, state: Any) -> tuple[Tensor, Any]:
        """`latents` of the next whole frames."""
        ...

    def stream_samples(self, latents: Tensor, state: Any) -> tuple[Tensor, Any]:
        """`from_latents` of the next frames."""
        ...

    def last_latents(self, state: Any) -> Tensor | None:
        """What `stream_latents` still owes when the sound is over, (B, T, D); None if it is never late."""
        ...

    def last_samples(self, state: Any) -> Tensor | None:
        """The same of `stream_samples`, (B, 1, n)."""
        ...

    def eval(self) -> Any:
        """Into evaluation mode."""
        ...

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Whether it learns."""
        ...

    def to(self, device: torch.device | str) -> Any:
        """Moves it."""
        ...


class Punctual:
    """Of a network that answers every whole frame at once, and whose latents were not measured."""

    width: int
    """D."""

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean 0 and deviation 1, each (D,)."""
        return torch.zeros(self.width), torch.ones(self.width)

    def last_latents(self, state: Any) -> None:
        """Nothing is owed."""

    def last_samples(self, state: Any) -> None:
        """Nothing is owed."""


class NetworkCodec:
    """A network behind ``flowtts.codec.Codec``.

    Samples are filled up with silence to whole frames, so that pieces and the whole are the same. (Published programs
    fill up inside, layer by layer, which may give the last frame of a sound of another length other codes.)

    Args:
        name: what it is called.
        network: taken over and put into evaluation mode.
        codebooks: the first so many are used; None for all.
        hash: of its weights.

    Raises:
        UserError: the network has fewer codebooks, or codes alone do not give its sound back.
    """

    def __init__(self, name: str, network: Network, codebooks: int | None = None, hash: str = "") -> None:
        network.eval()
        network.requires_grad_(False)
        self.name, self.network, self.hash = name, network, hash
        most = network.spec.codebooks
        if codebooks is not None and not 1 <= codebooks <= most:
            raise UserError(f"{name} has {most} codebooks: take 1 to {most} of them, not {codebooks}")
        if not network.plain:
            raise UserError(
                f"this {name} codes several channels, or pieces with a loudness of their own, which codes alone do not "
                "hold: use its network, or a mono model"
            )
        self._spec = replace(network.spec, codebooks=codebooks or most)

    @property
    def spec(self) -> CodeSpec:
        """What it emits."""
        return self._spec

    @torch.no_grad()
    def encode(self, samples: Tensor) -> Tensor:
        """(B, N) -> (B, T, K) int64; silence fills the last frame."""
        if not samples.shape[-1]:
            return samples.new_zeros((len(samples), 0, self.spec.codebooks), dtype=torch.long)
        return self.network.coder.encode(self.latents(samples), self.spec.codebooks)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """(B, T, k) codes of the first k codebooks -> (B, T * hop) samples in [-1, 1]."""
        if not codes.shape[1]:
            return torch.zeros(len(codes), 0, device=codes.device)
        return self.from_latents(self.network.coder.decode(codes))

    @torch.no_grad()
    def latents(self, samples: Tensor) -> Tensor:
        """(B, N) -> (B, T, D), what the quantiser would read."""
        return self.network.latents(self._filled(samples)[:, None])

    @torch.no_grad()
    def from_latents(self, latents: Tensor) -> Tensor:
        """(B, T, D), quantised or not -> (B, T * hop) samples in [-1, 1]."""
        return self.network.from_latents(latents)[:, 0].clamp(-1.0, 1.0)

    def encoding(self) -> PieceByPiece:
        """`encode` in pieces."""
        self._require_streams()

        def step(samples: Tensor, state: Any) -> tuple[Tensor, Any]:
            latents, state = self.network.stream_latents(self._filled(samples)[:, None], state)
            return self.network.coder.encode(latents, self.spec.codebooks), state

        def last(state: Any) -> Tensor | None:
            latents = self.network.last_latents(state)
            return None if latents is None else self.network.coder.encode(latents, self.spec.codebooks)

        nothing = torch.zeros(0, 0, self.spec.codebooks, dtype=torch.long)
        return PieceByPiece(step, self.spec.hop_length, self.network.starts[0], nothing, last)

    def decoding(self) -> PieceByPiece:
        """`decode` in pieces."""
        self._require_streams()

        def step(codes: Tensor, state: Any) -> tuple[Tensor, Any]:
            samples, state = self.network.stream_samples(self.network.coder.decode(codes), state)
            return samples[:, 0].clamp(-1.0, 1.0), state

        def last(state: Any) -> Tensor | None:
            samples = self.network.last_samples(state)
            return None if samples is None else samples[:, 0].clamp(-1.0, 1.0)

        return PieceByPiece(step, 1, self.network.starts[1], torch.zeros(0, 0), last)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation (D,) of latents of speech; 0 and 1 where they were not measured."""
        return self.network.statistics()

    def to(self, device: torch.device | str) -> NetworkCodec:
        """Moves the network."""
        self.network.to(device)
        return self

    def _filled(self, samples: Tensor) -> Tensor:
        return F.pad(samples, (0, -samples.shape[-1] % self.spec.hop_length))

    def _require_streams(self) -> None:
        if not self.network.streams:
            raise UserError(f"this {self.name} hears what comes later: it codes the whole, not pieces")


class PieceByPiece:
    """``flowtts.codec.Pieces`` of a step that wants whole units, and more of them at first.

    What is held back is less than a unit, and at first less than ``start`` units.

    Args:
        step: see `Step`.
        unit: positions along the second axis that go together.
        start: units that the first step needs.
        nothing: the shape and type of no answer, with an empty first and second axis.
        last: what a step that answers late still owes at the end, from its state.
    """

    def __init__(
        self, step: Step, unit: int, start: int, nothing: Tensor, last: Callable[[Any], Tensor | None] | None = None
    ) -> None:
        self._step, self._unit, self._start, self._nothing = step, unit, start, nothing
        self._last = last
        self._held: Tensor | None = None
        self._state: Any = None

    @torch.no_grad()
    def push(self, piece: Tensor) -> Tensor:
        """The next (B, n, …); answers what can be answered so far."""
        held = piece if self._held is None else torch.cat([self._held, piece], 1)
        units = held.shape[1] // self._unit
        ready = units * self._unit if self._state is not None or units >= self._start else 0
        # A copy, so that what is held does not hold what was.
        self._held = held[:, ready:].clone()
        return self._answer(held[:, :ready])

    @torch.no_grad()
    def finish(self) -> Tensor:
        """The rest; afterwards it begins anew."""
        held = self._nothing if self._held is None else self._held
        answer = self._answer(held)
        if self._last is not None and self._state is not None and (owed := self._last(self._state)) is not None:
            answer = torch.cat([answer, owed], 1)
        self._held = self._state = None
        return answer

    def _answer(self, ready: Tensor) -> Tensor:
        if not ready.shape[1]:
            shape = (len(ready), *self._nothing.shape[1:])
            return torch.zeros(shape, dtype=self._nothing.dtype, device=ready.device)
        answer, self._state = self._step(ready, self._state)
        return answer


def read_config(folder: PathLike, kind: str) -> dict[str, Any]:
    """``config.json`` of a folder as transformers' ``save_pretrained`` writes it.

    Raises:
        UserError: there is none, or it is of another kind.
    """
    path = Path(folder) / "config.json"
    values = read_json(path)
    if (found := values.get("model_type")) != kind:
        raise UserError(f"{path} is of the kind {found}, not {kind}: choose another codec or folder")
    return values


def weights_folder(folder: PathLike) -> Path:
    """A folder as transformers writes it, or what a name or a path of ours means."""
    path = Path(folder)
    return path if (path / "config.json").is_file() else checkpoint.find(folder)


def read_weights(
    folder: PathLike, kind: str, ours: type[C], theirs: Callable[[Mapping[str, Any], PathLike], C],
    renamed: Callable[[Mapping[str, Tensor], PathLike], dict[str, Tensor]],
) -> tuple[C, Mapping[str, Tensor], Path]:  # fmt: skip
    """Configuration, weights under our names, and where these come from: of a checkpoint of ours, or of transformers'.

    Args:
        folder: of either.
        kind: of checkpoints, and transformers' ``model_type``.
        ours: our configuration.
        theirs: reads ``config.json`` as our configuration.
        renamed: brings transformers' weights under our names.

    Raises:
        UserError: a file is missing, broken, or something else's.
    """
    path = Path(folder)
    if (path / "config.json").is_file() and not (path / checkpoint.CONFIG).is_file():
        config, weights = theirs(read_config(path, kind), path / "config.json"), path / checkpoint.WEIGHTS
        return config, renamed(checkpoint.load_tensors(weights), weights), weights
    saved = checkpoint.require_kind(checkpoint.load(checkpoint.find(path)), kind, path)
    return load_config(ours, saved.config), saved.state, saved.folder
