"""Batches for Tortoise: functions of their number, clips of the same voice, text without ghosts, codes made once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_tortoise import SAID, tiny_manifest
from torch import Tensor

from flowtts.recipes.tortoise.config import TORTOISE_CODE_MEL, TORTOISE_MEL, DiffusionConfig
from flowtts.recipes.tortoise.data import CodeBatch, CodeCorpus, Reading, code_batches, corpus_of, windowed
from flowtts.text.symbols import SYMBOLS, ids
from flowtts.types import VOICEBOX_MEL, UserError

pytest.importorskip("lhotse")


@dataclass
class Loudness:
    """A tokeniser whose codes can be computed by hand: four frames' mean, in tenths."""

    hash: str = "one"
    heard: list[int] = field(default_factory=list)

    def __call__(self, features: Tensor) -> Tensor:
        self.heard.append(len(features))
        return loudness(features)


def loudness(features: Tensor) -> Tensor:
    whole = features[: len(features) // 4 * 4].mean(1).unflatten(0, (-1, 4)).mean(1)
    return (10 * whole).round().long() + 200


READING = Reading(VOICEBOX_MEL, VOICEBOX_MEL, clips=2, clip_seconds=0.3)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_manifest(tmp_path_factory.mktemp("corpus"), utterances=8)


def corpus(manifest: Path, tokeniser: Loudness | None = None, **changes: object) -> CodeCorpus:
    """With features and codes that are computed once for all tests."""
    reading = replace(READING, **{"cache": manifest.parent / "cache", **changes})  # type: ignore[arg-type]
    return corpus_of([manifest], reading, tokeniser or Loudness(), SYMBOLS)


def some(made: CodeCorpus, count: int, seed: int = 0, start: int = 0, stride: int = 1) -> Iterator[CodeBatch]:
    return islice(code_batches(made, max_frames_per_batch=250, seed=seed)(start, stride), count)


def same(first: CodeBatch, second: CodeBatch) -> bool:
    pairs = zip(vars(first).values(), vars(second).values(), strict=True)
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


def test_a_batch_is_what_the_manifest_says(manifest: Path) -> None:
    made, seen = corpus(manifest), set()
    for batch in some(made, 12):
        for i, name in enumerate(batch.ids):
            seen.add(name)
            index, frames = int(name[1:]), int(batch.frames[i])
            assert frames == made.frames(index) and int(batch.code_lengths[i]) == frames // 4
            features = made.features(index)
            assert torch.equal(batch.features[i, :frames], features) and not batch.features[i, frames:].any()
            assert torch.equal(batch.codes[i, : frames // 4], loudness(features))
            assert not batch.codes[i, frames // 4 :].any()
            said = [symbol for symbol in SAID[index] if symbol != "SIL"]
            assert batch.text[i].tolist() == ids(said) and int(batch.text_lengths[i]) == len(said) == 6
    assert seen == {f"u{n}" for n in range(8)}
    assert batch.latents is None and batch.heard() == (batch.clips, batch.clip_frames)


def test_batch_i_depends_on_the_seed_and_i_alone(manifest: Path) -> None:
    run = list(some(corpus(manifest), 10))
    assert all(same(a, b) for a, b in zip(some(corpus(manifest), 4, start=6), run[6:], strict=True))
    for rank in range(2):
        part = some(corpus(manifest), 5, start=rank, stride=2)
        assert all(same(a, b) for a, b in zip(part, run[rank::2], strict=True))
    other = list(some(corpus(manifest), 10, seed=1))
    assert [b.ids for b in other] != [b.ids for b in run]
    # Another epoch has other clips.
    first = next((b, i) for b in run[:5] for i, name in enumerate(b.ids) if name == "u7")
    later = next((b, i) for b in run[5:] for i, name in enumerate(b.ids) if name == "u7")
    assert not torch.equal(first[0].clips[first[1]], later[0].clips[later[1]])


def place(clip: Tensor, features: Tensor) -> int | None:
    """Where a clip lies in an utterance."""
    if len(clip) > len(features):
        return None
    windows = features.unfold(0, len(clip), 1).transpose(1, 2)
    found = (windows == clip).flatten(1).all(1).nonzero()
    return int(found[0]) if len(found) else None


def test_clips_are_of_the_same_speaker_and_another_utterance(manifest: Path) -> None:
    made, starts = corpus(manifest), set()
    for batch in some(made, 12):
        assert batch.clips.shape[:2] == (len(batch.ids), 2)
        for i, name in enumerate(batch.ids):
            for clip, frames in zip(batch.clips[i], batch.clip_frames[i].tolist(), strict=True):
                assert frames == 30 and not clip[frames:].any()
                places = {n: place(clip[:frames], made.features(n)) for n in range(8)}
                (source,) = (n for n, start in places.items() if start is not None)
                assert source % 2 == int(name[1:]) % 2 and source != int(name[1:])
                starts.add(places[source])
    assert len(starts) > 5


def test_a_speakers_only_utterance_gives_half_of_itself(manifest: Path) -> None:
    lonely = CodeCorpus(corpus(manifest).cuts[:1], replace(READING, clip_seconds=9.0), Loudness(), SYMBOLS)
    clips, heard = lonely.clips(0, np.random.default_rng(0))
    assert [len(clip) for clip in clips] == [25, 25] and not heard
    assert all(place(clip, lonely.features(0)) is not None for clip in clips)


def test_no_clips_are_read_where_none_are_wanted(manifest: Path) -> None:
    batch = next(some(corpus(manifest, clips=0, emitted=None), 1))
    assert batch.clips.shape[:2] == (len(batch.ids), 0) == batch.clip_frames.shape
    assert batch.features.shape == (len(batch.ids), 0, 80) and not batch.frames.any()


def test_clips_are_heard_as_they_are_emitted_where_the_mels_differ(manifest: Path) -> None:
    made = corpus(manifest, heard=TORTOISE_CODE_MEL, emitted=TORTOISE_MEL, both_clips=True)
    assert made.features(0).shape[1] == 100
    for batch in some(made, 3):
        heard, frames = batch.to("cpu").heard()
        assert heard.shape[-1] == 80 and batch.clips.shape[-1] == 100
        for i in range(len(batch.ids)):
            for k in range(2):
                shown = batch.clips[i, k, : int(batch.clip_frames[i, k])]
                same_voice = [n for n in range(8) if n % 2 == int(batch.ids[i][1:]) % 2]
                source = next(n for n in same_voice if place(shown, made.features(n)) is not None)
                start = place(heard[i, k, : int(frames[i, k])], made._heard.features(source))
                there = place(shown, made.features(source))
                assert start is not None and there is not None
                # The same stretch of time: 86.1 and 93.75 frames a second.
                assert abs(start / 86.13 - there / 93.75) < 0.02
                assert abs(int(frames[i, k]) / 86.13 - len(shown) / 93.75) < 0.03
    alone = next(some(corpus(manifest, heard=TORTOISE_CODE_MEL, emitted=TORTOISE_MEL), 1))
    assert alone.heard_clips is None


def test_codes_are_made_once_for_each_tokeniser(manifest: Path, tmp_path: Path) -> None:
    first = Loudness()
    made = corpus(manifest, first, cache=tmp_path)
    codes = [made.codes(n) for n in range(8)]
    again = Loudness()
    reread = corpus(manifest, again, cache=tmp_path)
    assert all(torch.equal(reread.codes(n), codes[n]) for n in range(8))
    assert len(first.heard) == 8 and not again.heard
    assert all(torch.equal(codes[n], loudness(made.features(n))) for n in range(8))
    corpus(manifest, other := Loudness(hash="two"), cache=tmp_path).codes(0)
    assert len(other.heard) == 1
    files = list((tmp_path / "codes").rglob("*.npy"))
    assert len(files) == 9 and not list(tmp_path.rglob("*.part"))
    for path in files:
        path.write_bytes(b"half")
    assert torch.equal(reread.codes(3), codes[3]) and len(again.heard) == 1, "a broken file is made again"


def test_windows_match_codes_with_frames(manifest: Path) -> None:
    def frames_of(codes: int) -> int:
        return 4 * codes

    made = corpus(manifest)
    batch = next(b for b in some(made, 12) if len(b.ids) > 1)
    latents = torch.arange(batch.codes.numel()).view(*batch.codes.shape, 1).float()
    whole = replace(batch, latents=latents)
    starts = set()
    for seed in range(20):
        cut = windowed(whole, 6, frames_of, (0, seed))
        assert cut.codes.shape[1] == 6 and cut.features.shape[1] == 24 and cut.text.shape[1] == 0
        assert not cut.text_lengths.any() and torch.equal(cut.clips, batch.clips)
        assert cut.latents is not None
        for i in range(len(batch.ids)):
            assert int(cut.frames[i]) == 24 and torch.equal(loudness(cut.features[i]), cut.codes[i])
            begin = int(cut.latents[i, 0]) - i * batch.codes.shape[1]
            assert torch.equal(batch.codes[i, begin : begin + 6], cut.codes[i])
            starts.add(begin)
    assert len(starts) > 3
    assert same(windowed(whole, 6, frames_of, (0, 3)), windowed(whole, 6, frames_of, (0, 3)))
    everything = windowed(whole, 1000, frames_of, (0,))
    assert torch.equal(everything.codes, batch.codes) and torch.equal(everything.code_lengths, batch.code_lengths)
    assert everything.frames.tolist() == (batch.code_lengths * 4).tolist()


def test_windows_of_other_rates_never_leave_the_utterance(manifest: Path) -> None:
    made = corpus(manifest, heard=TORTOISE_CODE_MEL, emitted=TORTOISE_MEL)
    frames_of = DiffusionConfig().frames
    for number, batch in enumerate(some(made, 6)):
        for seed in range(10):
            cut = windowed(batch, 3, frames_of, (number, seed))
            assert cut.frames.min() >= frames_of(3) - 1 and cut.frames.max() <= frames_of(3)


def test_what_is_too_long_too_short_or_unknown_is_left_out(manifest: Path, tmp_path: Path) -> None:
    assert [c.id for c in corpus(manifest, longest=0.75).cuts] == ["u0", "u1", "u2"]
    assert [c.id for c in corpus(manifest, shortest=1.15).cuts] == ["u7"]
    assert len(corpus(manifest, longest_text=6)) == 8
    with pytest.raises(UserError, match="no transcribed utterance of at most 16 s"):
        corpus(manifest, longest_text=5)
    assert [c.id for c in corpus(manifest, longest=0.65, speeds=(1.0, 1.25)).cuts] == ["u0", "u0@1.25", "u1", "u1@1.25",
                                                                                      "u2@1.25", "u3@1.25"]  # fmt: skip
    dumb = tiny_manifest(tmp_path / "dumb", 2, transcribed=False)
    with pytest.raises(UserError, match="no transcribed utterance"):
        corpus(dumb)
    batch = next(some(corpus(dumb, transcribed=False), 1))
    assert batch.text.shape == (2, 0) and sorted(batch.code_lengths.tolist()) == [12, 15]
    with pytest.raises(UserError, match=r"no utterance of at most 0\.2 s"):
        corpus(dumb, transcribed=False, longest=0.2)
    with pytest.raises(UserError, match="no such manifest"):
        corpus(tmp_path / "none")
