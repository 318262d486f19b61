"""The models of a benchmark with their prompts, and what each of them says of an utterance."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import flowtts
from flowtts import __version__, checkpoint
from flowtts.bench.sentences import Sentence
from flowtts.bench.settings import Setting
from flowtts.bench.speak import Speaker, Utterance
from flowtts.device import choose_device
from flowtts.pipeline import Pipeline
from flowtts.registry import find_vocoder, vocoder_of
from flowtts.solve.grid import resolved
from flowtts.speech import Chunk
from flowtts.text import FrontEnd
from flowtts.types import FeatureSpec, Sampling, UserError
from flowtts.voice import Voice, prepare, resolve


class Loaded:
    """Everything that is loaded, by the names users know it by.

    Attributes:
        speakers: by model.
        utterances: every sentence in every voice.
        device: where all of it computes.
    """

    def __init__(
        self,
        speakers: Mapping[str, Speaker],
        utterances: tuple[Utterance, ...],
        device: torch.device,
        voices: Mapping[FeatureSpec, Mapping[str, Voice]],
        sources: Mapping[str, str],
        vocoder: str,
    ) -> None:
        self.speakers, self.utterances, self.device = speakers, utterances, device
        self._voices, self._sources, self._vocoder = voices, sources, vocoder
        self._chunks: dict[tuple[str, Utterance], tuple[Chunk, ...]] = {}

    def recommended(self, model: str) -> Sampling:
        """How the author of a checkpoint samples it."""
        return self.speakers[model].tts.recipe.sampling

    def voices(self, model: str) -> Mapping[str, Voice]:
        """Prompts in a model's features."""
        return self._voices[self.speakers[model].tts.spec]

    def prompt(self, voice: str) -> Path:
        """The recording of a voice."""
        return resolve(self._sources[voice], None)[0]

    def hashes(self) -> dict[str, str]:
        """Of every model's weights."""
        return {name: speaker.tts.hash for name, speaker in self.speakers.items()}

    def chunks(self, model: str, utterance: Utterance) -> tuple[Chunk, ...]:
        """What ``model`` is to say: durations are the first model's wherever the phones and frames are the same ones.

        Raises:
            UserError: the text cannot be said.
        """
        leader = self._leader(model)
        if (leader, utterance) not in self._chunks:
            speaker = self.speakers[leader]
            try:
                found = speaker.chunks(utterance, speaker.tts.recipe.sampling)
            except UserError as error:
                raise UserError(f"sentence {utterance.sentence.id}: {error}") from error
            self._chunks[leader, utterance] = found
        return self._chunks[leader, utterance]

    def _leader(self, model: str) -> str:
        """The first model that reads the same phones and counts the same frames."""
        mine = self.speakers[model].tts
        return next(
            name for name, other in self.speakers.items()
            if other.tts.spec == mine.spec and tuple(other.tts.recipe.symbols) == tuple(mine.recipe.symbols)
        )  # fmt: skip

    def check(self, setting: Setting) -> None:
        """Let the pipeline look at a setting.

        Raises:
            UserError: nothing can be done with it.
        """
        self.speakers[setting.model].chunks(self.utterances[0], setting.sampling)

    def identity(self, setting: Setting) -> dict[str, Any]:
        """What a setting's result depends on beside the setting: weights, prompts, precision, the table of its grid."""
        tts, folder = self.speakers[setting.model].tts, Path(setting.model)
        table = Path(resolved(setting.sampling.grid, checkpoint.find(folder) if folder.is_dir() else None))
        return {
            "flowtts": __version__, "model": tts.hash, "vocoder": self._vocoder,
            "voices": {name: (voice.hash, voice.text) for name, voice in self.voices(setting.model).items()},
            "engine": tts.engine,
            "grid": checkpoint.digest(table) if table.is_file() else None,
        }  # fmt: skip


def load_all(
    models: Sequence[str],
    sentences: Sequence[Sentence],
    voices: Sequence[str],
    vocoder: str,
    device: str,
    seed: int,
    engine: str = "auto",
) -> Loaded:
    """Load models and prepare prompts.

    Args:
        models: names or folders, each once.
        sentences: what is said.
        voices: shipped names or recordings.
        vocoder: name or folder.
        device: as everywhere.
        seed: of durations and noise.
        engine: as everywhere.

    Raises:
        UserError: an unknown name, a broken checkpoint, a recording that is no voice, or two of one name.
    """
    sources = _named(voices)
    for source in sources.values():
        resolve(source, None)
    place, frontend = choose_device(device), FrontEnd()
    vocoders = {name: vocoder_of(name) if vocoder == "auto" else vocoder for name in models}
    pipelines: dict[str, Pipeline] = {
        name: flowtts.load(name, vocoders[name], device, engine, tag=False) for name in models
    }
    prompts = {
        spec: {name: prepare(source, None, spec, frontend) for name, source in sources.items()}
        for spec in {tts.spec for tts in pipelines.values()}
    }
    speakers = {name: Speaker(tts, prompts[tts.spec], sources, seed, place) for name, tts in pipelines.items()}
    utterances = tuple(Utterance(voice, sentence) for voice in sources for sentence in sentences)
    return Loaded(
        speakers, utterances, place, prompts, sources, ", ".join(sorted(set(map(_identity, vocoders.values()))))
    )


def _identity(vocoder: str) -> str:
    """A vocoder's name and the hash of its weights, if it has any."""
    folder = find_vocoder(vocoder)
    return vocoder if folder is None else f"{vocoder} {checkpoint.digest(folder / checkpoint.WEIGHTS)}"


def _named(voices: Sequence[str]) -> dict[str, str]:
    """Voices by a name that can be a file's: the shipped name, or the recording's without its suffix."""
    found: dict[str, str] = {}
    for voice in dict.fromkeys(voices):
        name = re.sub(r"[^\w.-]+", "_", Path(voice).stem if Path(voice).suffix else Path(voice).name)
        if name in found:
            raise UserError(f"the voices {found[name]} and {voice} have the same name; rename one of the recordings")
        found[name] = voice
    return found
