"""What editing returns: the recording with its patches, what was changed, and when everything is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from flowtts.edit.recording import Patch, Recording, render
from flowtts.edit.recording import save as save_recording
from flowtts.provenance.metadata import comments
from flowtts.speech import Candidate, write_json
from flowtts.types import Audio, PathLike, Word


@dataclass(frozen=True)
class Span:
    """One change.

    Attributes:
        removed: words that are gone or sound anew; "" for an insertion.
        inserted: words that stand there instead; "" for a deletion.
        start_sample: first sample of the recording that differs, cross-fade included.
        end_sample: one past the last.
        start_out_sample: the same place in the output.
        end_out_sample: one past the last new sample of the output.
        sample_rate: Hz of both.
        confidence: of the alignment of the words around it, 0 to 1, where the aligner measures it.
    """

    removed: str
    inserted: str
    start_sample: int
    end_sample: int
    start_out_sample: int
    end_out_sample: int
    sample_rate: int
    confidence: float | None = None

    def info(self) -> dict[str, Any]:
        """As JSON, places in seconds too."""
        samples = {
            "start": self.start_sample, "end": self.end_sample,
            "start_out": self.start_out_sample, "end_out": self.end_out_sample,
        }  # fmt: skip
        return {
            "removed": self.removed,
            "inserted": self.inserted,
            **{name: round(at / self.sample_rate, 6) for name, at in samples.items()},
            "confidence": None if self.confidence is None else round(self.confidence, 4),
            **{f"{name}_sample": at for name, at in samples.items()},
        }


@dataclass(frozen=True, eq=False)
class Edited:
    """A recording that was edited. Nothing of it is rendered before it is asked for.

    Attributes:
        recording: as it was.
        patches: what is new, in order.
        spans: what was changed, one for each patch.
        words: words with their times in the output.
        phones: phones likewise: {phone, word, start, end}.
        normalised: the text as it is now said.
        settings: everything that was asked for, for the sidecar.
        seed: of the take that was kept.
        nfe: evaluations of the field, over all takes.
        network_calls: calls of the network, over all takes.
        rtf: real-time factor: time to make it over the length of the output, loading left out.
        candidates: every take.
        words_cover: stretches of the output, in seconds, whose words ``words`` lists; None if it lists all.
    """

    recording: Recording
    patches: tuple[Patch, ...]
    spans: tuple[Span, ...]
    words: tuple[Word, ...]
    phones: tuple[Mapping[str, Any], ...]
    normalised: str
    settings: Mapping[str, Any]
    seed: int
    nfe: int
    network_calls: int
    rtf: float
    candidates: Sequence[Candidate] = ()
    words_cover: tuple[tuple[float, float], ...] | None = field(default=None)

    @cached_property
    def audio(self) -> Audio:
        """The whole result in memory, at the recording's rate and channels."""
        return render(self.recording, self.patches)

    @property
    def sample_rate(self) -> int:
        """Hz: the recording's own."""
        return self.recording.sample_rate

    @property
    def seconds(self) -> float:
        """Length of the output."""
        return (self.recording.length + sum(patch.delta for patch in self.patches)) / self.sample_rate

    def info(self, audio: PathLike | None = None) -> dict[str, Any]:
        """As JSON: the keys of ``--json`` and of the sidecar. ``audio`` is where it was saved."""
        found = {
            "audio": None if audio is None else str(audio),
            "sample_rate": self.sample_rate,
            "seconds": round(self.seconds, 4),
            "normalised": self.normalised,
            "phones": [dict(phone) for phone in self.phones],
            "words": [{"text": w.text, "start": round(w.start, 4), "end": round(w.end, 4)} for w in self.words],
            "spans": [span.info() for span in self.spans],
            **self.settings,
            "seed": self.seed,
            "nfe": self.nfe,
            "network_calls": self.network_calls,
            "rtf": round(self.rtf, 4),
            "candidates": [{"seed": c.seed, "scores": dict(c.scores)} for c in self.candidates],
        }
        if self.words_cover is not None:
            found["words_cover"] = [[round(start, 4), round(end, 4)] for start, end in self.words_cover]
        return found

    def save(self, path: PathLike, sidecar: bool = True) -> Path:
        """Write the recording, bit-identical outside the patches, and beside it ``NAME.json``.

        Raises:
            UserError: the path cannot be written or its suffix is no audio format.
        """
        target = Path(path)
        said = comments(str(self.settings["verb"]), str(self.settings["model"])) if self.settings.get("tag") else None
        save_recording(self.recording, self.patches, target, said)
        if sidecar:
            write_json(target.with_suffix(".json"), self.info(target))
        return target
