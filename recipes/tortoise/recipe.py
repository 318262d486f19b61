"""Tortoise as a recipe: draws codes, judges them, and makes the best audible (arXiv 2305.07243, section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from flowtts.audio.io import resample
from flowtts.audio.mel import LogMel
from flowtts.decode import Decoding, decode
from flowtts.engine import choose_engine
from flowtts.latents import Latents
from flowtts.mask import lengths_to_mask
from flowtts.tasks import Preset, Spoken
from flowtts.text import Analysis
from flowtts.text.symbols import ids
from flowtts.types import Audio, Generated, MelSpec, Sampling, UserError

from .continuation import Continuation
from .data import UNSAID
from .parts import Parts
from .voices import Voices

_RAMPED = "2,schedule=linear"
"""The public cond_free_k of 2, which grows from 0 at the noise to 2 at the data: one on the average."""

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "ultra_fast": Preset(best_of=16, steps=30, guidance="1"),
        "fast": Preset(best_of=96, steps=80, guidance=_RAMPED),
        "standard": Preset(best_of=256, steps=200, guidance=_RAMPED),
        "high_quality": Preset(best_of=256, steps=400, guidance=_RAMPED),
    }
)
"""Those of the public code."""

_AR, _DECODER = "ar", "decoder"


class Text(Protocol):
    """How a text is written for the networks."""

    def __call__(self, analysis: Analysis) -> Tensor:
        """(L,) int64 ids."""
        ...


@dataclass(frozen=True)
class PhoneText:
    """As phones, with the pauses that the text asks for.

    Attributes:
        symbols: the vocabulary.
    """

    symbols: Sequence[str]

    def __call__(self, analysis: Analysis) -> Tensor:
        """(L,) int64 ids."""
        said = [phone.symbol for phone in analysis.phones if phone.symbol != UNSAID]
        return torch.tensor(ids(said, self.symbols), dtype=torch.long)


@dataclass(frozen=True, eq=False)
class Take:
    """Codes that were drawn.

    Attributes:
        codes: (N,) int64, with the silence behind that the model wants.
        frames: that they stand for.
        finished: whether they ended by themselves.
        network_calls: its share of the steps of the autoregressive model, taken together with others.
    """

    codes: Tensor
    frames: int
    finished: bool
    network_calls: int


class Tortoise:
    """The networks together.

    Args:
        parts: the networks.
        text: how the text is written for them.
        engine: how they compute, a name of ``flowtts.engine.ENGINES`` or "auto".
        voices: draws voices that nobody has, or None.
    """

    name = "tortoise"
    tasks = frozenset({"say", "sample"})

    def __init__(self, parts: Parts, text: Text, engine: str = "eager", voices: Voices | None = None) -> None:
        self.parts, self.text, self._voices = parts, text, voices
        self.device = next(parts.ar.parameters()).device
        self._engine = choose_engine(engine, parts.ar, self.device)
        if self._engine.name not in ("eager", "bf16", "bf16-autocast", "half"):
            raise UserError(f"tortoise has no engine {self._engine.name!r}: take eager, bf16 or half")
        self._ar, self._decoder, self._clvp = parts.ar, parts.decoder, parts.clvp
        if self.engine != "eager":
            with self._engine.running():
                self._ar, self._decoder = self._engine.convert(parts.ar), self._engine.convert(parts.decoder)
        self.hash, self.folder = parts.hash, parts.folder

    @property
    def spec(self) -> MelSpec:
        """The log-mel it emits."""
        return self.parts.decoder.config.mel

    @property
    def engine(self) -> str:
        """Name of the engine that computes."""
        return self._engine.name

    @property
    def symbols(self) -> Sequence[str]:
        """The vocabulary: index is the phone id."""
        return self.parts.symbols

    @property
    def sampling(self) -> Sampling:
        """How the diffusion decoder is best sampled."""
        return self.parts.decoder.config.sampling

    @property
    def decoding(self) -> Decoding:
        """How codes are best drawn."""
        return self.parts.ar.config.decoding

    @property
    def presets(self) -> Mapping[str, Preset]:
        """The published ones."""
        return PRESETS

    @torch.no_grad()
    def voice(self, clips: Sequence[Audio]) -> Latents:
        """What both networks know of a voice.

        Args:
            clips: mono recordings at the training level, of any rate; long ones are heard in pieces.

        Raises:
            UserError: there is nothing to hear.
        """
        ar, decoder = self.parts.ar, self.parts.decoder
        heard, frames = self._clips(clips, ar.config.mel, ar.config.clip_seconds)
        mel = decoder.config.mel
        # Published weights hear clips in centred frames, half a hop beside those that they emit.
        seen, shown = self._clips(
            clips, replace(mel, center=True) if decoder.config.raw_conditioning else mel, decoder.config.clip_seconds
        )
        return Latents(
            {
                _AR: ar.voice(heard, frames)[0].float().cpu(),
                _DECODER: decoder.conditioning(seen, shown)[0].float().cpu(),
            },
            self.hash,
        )

    @torch.no_grad()
    def random_voice(self, rng: torch.Generator) -> Latents:
        """A voice that nobody has, drawn where the voices of the training lie.

        Raises:
            UserError: the checkpoint was made without random voices.
        """
        if self._voices is None:
            raise UserError(f"{self.folder} has no random voices: give a voice with --voice")
        ar, decoder = self._voices(1, rng)
        return Latents({_AR: ar[0].float().cpu(), _DECODER: decoder[0].float().cpu()}, self.hash)

    @torch.no_grad()
    def draw(
        self, analysis: Analysis, voice: Latents, decoding: Decoding, rngs: Sequence[torch.Generator]
    ) -> Sequence[Take]:
        """As many takes as there are generators; the text and the voice are computed once for all.

        Raises:
            UserError: the text is longer than the model can read, or the decoding is out of range.
        """
        config, text = self.parts.ar.config, self._text(analysis)
        room = config.max_codes - (0 if config.calm_code is None else config.calm_tail)
        limited = replace(decoding, max_tokens=min(decoding.max_tokens, room))
        ar = self._ar
        with self._engine.running():
            model = Continuation(ar, voice.tensors[_AR][None].to(self.device, ar.final_norm.weight.dtype), text[None])
            drawn = decode(model, len(rngs), limited, list(rngs), config.stop_code)
        takes, calls, count = [], drawn.steps + 1, len(rngs)
        for index, (codes, finished) in enumerate(zip(drawn.tokens, drawn.finished.tolist(), strict=True)):
            # A take of no codes is one that said nothing; the decoder needs something to stretch.
            said = self._tailed(codes if len(codes) else torch.zeros(1, dtype=torch.long))
            frames = max(1, self.parts.decoder.config.frames(len(said)))
            share = calls * (index + 1) // count - calls * index // count
            takes.append(Take(said, frames, finished, share))
        return takes

    @torch.no_grad()
    def judge(self, analysis: Analysis, takes: Sequence[Spoken]) -> Tensor:
        """(takes,) CLVP's similarity of text and codes.

        Raises:
            UserError: the checkpoint has no CLVP.
        """
        if self._clvp is None:
            raise UserError(f"{self.folder} has no CLVP: choose by --rank wer or sim")
        codes = [take.codes for take in takes if isinstance(take, Take)]
        lengths = torch.tensor([len(x) for x in codes], device=self.device)
        padded = pad_sequence(codes, batch_first=True).to(self.device)
        text = self._text(analysis)[None]
        return self._clvp.score(
            text, torch.ones_like(text, dtype=torch.bool), padded, lengths_to_mask(lengths, padded.shape[1])
        ).float().cpu()  # fmt: skip

    @torch.no_grad()
    def render(
        self, analysis: Analysis, take: Spoken, voice: Latents, sampling: Sampling, rng: torch.Generator, pace: float
    ) -> Generated:
        """Features of a take.

        Args:
            analysis: the text.
            take: of `draw`.
            voice: as there.
            sampling: of the diffusion decoder.
            rng: draws its noise.
            pace: the take's length is multiplied by it.

        Raises:
            UserError: the sampling does not fit the decoder.
        """
        assert isinstance(take, Take)
        ar, decoder = self._ar, self._decoder
        kind = ar.final_norm.weight.dtype
        text, codes = self._text(analysis)[None], take.codes[None].to(self.device)
        lengths = torch.tensor([codes.shape[1]], device=self.device)
        with self._engine.running():
            latents = ar.latents(
                voice.tensors[_AR][None].to(self.device, kind), text, torch.tensor([text.shape[1]]).to(self.device),
                codes, lengths,
            )  # fmt: skip
            frames = torch.tensor([max(1, round(take.frames * pace))], device=self.device)
            known = voice.tensors[_DECODER][None].to(self.device, kind)
            cond = decoder.condition(latents, lengths, known, frames)
            made = decoder.sample(cond, sampling, [rng])
        return Generated(made.x[0].float().cpu(), torch.zeros(0, dtype=torch.long), made.nfe, made.network_calls + 1)

    def _tailed(self, codes: Tensor) -> Tensor:
        """Codes with the silence behind that published weights expect."""
        config = self.parts.ar.config
        if config.calm_code is None:
            return codes
        return torch.cat([codes, torch.full((config.calm_tail,), config.calm_code, dtype=codes.dtype)])

    def _text(self, analysis: Analysis) -> Tensor:
        """(L,) int64 on the device."""
        text, limit = self.text(analysis), self.parts.ar.config.max_text
        if len(text) > limit:
            raise UserError(f"a part of the text has {len(text)} symbols, the model reads {limit}: shorten sentences")
        return text.to(self.device)

    def _clips(self, clips: Sequence[Audio], spec: MelSpec, longest: float) -> tuple[Tensor, Tensor]:
        """Pieces (1, K, T, C) of recordings as features, and their frames (1, K)."""
        size, mel, pieces = round(longest * spec.frame_rate), LogMel(spec), []
        for clip in clips:
            features = mel(torch.from_numpy(resample(clip.mono(), spec.sample_rate).samples))[0]
            cut = [features[i : i + size] for i in range(0, len(features), size)]
            # A short rest says little of the voice.
            pieces += cut if len(cut) == 1 or 2 * len(cut[-1]) >= size else cut[:-1]
        if not any(len(piece) for piece in pieces):
            raise UserError("there is nothing to hear of the voice: give at least a second of speech")
        frames = torch.tensor([[len(piece) for piece in pieces]])
        return pad_sequence(pieces, batch_first=True)[None].to(self.device), frames.to(self.device)
