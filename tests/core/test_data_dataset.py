"""Manifests to training batches."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from flowtts.audio.active import TRAINING_RMS, active_rms
from flowtts.audio.mel import LogMel
from flowtts.data import Corpus, Item, batches, collate, corpus_batches, crop, join
from flowtts.data.dataset import colour
from flowtts.data.manifest import Timed, read_cuts, write_manifests
from flowtts.text.symbols import SYMBOLS, ids, is_pause
from flowtts.types import VOCOS_MEL, VOICEBOX_MEL, Batch, UserError

pytest.importorskip("lhotse")

PAUSES = [is_pause(s) for s in SYMBOLS]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Twelve utterances of two speakers, 0.5 to 1.6 s, the last two without a transcript."""
    entries = []
    rng = np.random.default_rng(0)
    for n in range(12):
        seconds = 0.5 + 0.1 * n
        path = tmp_path / f"{n}.wav"
        soundfile.write(path, 0.02 * rng.standard_normal(round(16_000 * seconds)).astype(np.float32), 16_000)
        entry = {
            "id": f"u{n}", "audio": str(path), "sample_rate": 16_000, "samples": round(16_000 * seconds), "channels": 1,
            "start": 0.0, "duration": seconds, "speaker": f"s{n % 2}", "text": "",
        }  # fmt: skip
        if n < 10:
            bounds = np.linspace(0, seconds, 6)
            symbols = ["SIL", "HH_B", "AY1_E", "SIL", "SIL."]
            times = [(a, b) for a, b in itertools.pairwise(bounds[[0, 1, 2, 4, 4, 5]].tolist())]
            entry["phones"] = [[s, a, b, None] for s, (a, b) in zip(symbols, times, strict=True)]
            entry["words"] = []
        entries.append(entry)
    return write_manifests(tmp_path, entries)


def same(a: Batch, b: Batch) -> bool:
    pairs = zip(vars(a).values(), vars(b).values(), strict=True)
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in pairs)


def test_a_batch_is_what_the_manifest_says(manifest: Path) -> None:
    sequence = batches(manifest, VOICEBOX_MEL, max_frames_per_batch=400, seed=0)
    seen: set[str] = set()
    for batch in itertools.islice(sequence(0, 1), 12):
        assert batch.features.shape[:2] == (len(batch.ids), int(batch.frames.max()))
        assert torch.equal(batch.durations.sum(1), batch.frames)
        for i, name in enumerate(batch.ids):
            seen.add(name)
            n = int(name[1:])
            frames, count = int(batch.frames[i]), int(batch.lengths[i])
            assert frames == round(100 * (0.5 + 0.1 * n))
            assert bool(batch.transcribed[i]) == (n < 10)
            assert bool((batch.features[i, frames:] == 0).all()) and bool((batch.phones[i, count:] == 0).all())
            expected = ["SIL", "HH_B", "AY1_E", "SIL", "SIL."] if n < 10 else ["SIL"]
            assert batch.phones[i, :count].tolist() == ids(expected)
            if n < 10:
                assert int(batch.durations[i, 3]) == 0, "a ghost silence"
    assert seen == {f"u{n}" for n in range(12)}


def test_batch_i_depends_on_the_seed_and_i_alone(manifest: Path) -> None:
    def make(seed: int = 0) -> list[Batch]:
        return list(itertools.islice(batches(manifest, VOICEBOX_MEL, max_frames_per_batch=300, seed=seed)(0, 1), 14))

    run = make()
    sequence = batches(manifest, VOICEBOX_MEL, max_frames_per_batch=300, seed=0)
    assert all(same(a, b) for a, b in zip(itertools.islice(sequence(9, 1), 5), run[9:], strict=True)), "restarted"
    for rank in range(2):
        part = itertools.islice(sequence(rank, 2), 7)
        assert all(same(a, b) for a, b in zip(part, run[rank::2], strict=True)), "two processes share the sequence"
    assert [b.ids for b in make(1)] != [b.ids for b in run]


def test_features_are_those_of_the_spec_at_the_training_level(manifest: Path) -> None:
    corpus = Corpus(list(read_cuts(manifest)), VOICEBOX_MEL)
    samples, _ = soundfile.read(manifest.parent / "3.wav", dtype="float32")
    level = samples * np.float32(TRAINING_RMS / active_rms(samples, 16_000))
    assert torch.allclose(corpus[3].features, LogMel(VOICEBOX_MEL)(torch.from_numpy(level))[0], atol=1e-4)
    plain = Corpus(corpus.cuts, VOICEBOX_MEL, level=False)[3].features
    assert torch.allclose(plain, LogMel(VOICEBOX_MEL)(torch.from_numpy(samples))[0], atol=1e-4)
    other = Corpus(corpus.cuts, VOCOS_MEL)
    assert other[3].features.shape == (other.frames(3), 100) and int(other[3].durations.sum()) == other.frames(3)


def test_places_in_the_cache_are_those_of_before_there_were_powers(manifest: Path, tmp_path: Path) -> None:
    cuts = list(read_cuts(manifest))
    corpus = Corpus(cuts, VOICEBOX_MEL, cache=tmp_path)
    cut = cuts[0]
    spec = sorted((key, x) for key, x in asdict(VOICEBOX_MEL).items() if key != "power")
    source = str(cut.cut.recording.sources[0].source)
    key = repr((cut.id, source, cut.cut.start, cut.seconds, True, spec))
    assert corpus.place(0).stem == hashlib.sha1(key.encode()).hexdigest()
    assert Corpus(cuts, replace(VOICEBOX_MEL, power=2.0), cache=tmp_path).place(0) != corpus.place(0)


def test_cached_features_are_made_once_and_stay_the_same(manifest: Path, tmp_path: Path) -> None:
    cuts = list(read_cuts(manifest))
    corpus = Corpus(cuts, VOICEBOX_MEL, cache=tmp_path / "cache")
    first = corpus.features(0)
    (manifest.parent / "0.wav").unlink()
    assert torch.equal(Corpus(cuts, VOICEBOX_MEL, cache=tmp_path / "cache").features(0), first)
    files = list((tmp_path / "cache").rglob("*.npy"))
    assert len(files) == 1
    with pytest.raises(UserError, match="u0: its sound cannot be read"):
        Corpus(cuts, VOICEBOX_MEL, cache=tmp_path / "cache", level=False).features(0)
    corpus.features(1)
    broken = next(p for p in (tmp_path / "cache").rglob("*.npy") if p != files[0])
    whole = corpus.features(1)
    broken.write_bytes(b"half")
    assert torch.equal(corpus.features(1), whole), "a broken file is made again"


def item(*phones: tuple[str, int], transcribed: bool = True) -> Item:
    durations = torch.tensor([d for _, d in phones])
    total = int(durations.sum())
    features = torch.arange(total, dtype=torch.float32)[:, None].expand(total, 2)
    return Item("x", features, torch.tensor(ids(s for s, _ in phones)), durations, transcribed)


LONG = item(
    ("SIL", 5), ("HH_B", 7), ("AY1_E", 9), ("SIL", 0), ("Y_B", 4), ("UW1_E", 11), ("SIL,", 6), ("DH_B", 3),
    ("AH0_E", 4), ("SIL", 2), ("K_B", 8), ("AE1_I", 9), ("T_E", 5), ("SIL.", 7),
)  # fmt: skip


@pytest.mark.parametrize("limit", [20, 33, 50, 79])
def test_crops_are_whole_phones_between_pauses(limit: int) -> None:
    starts = set()
    for seed in range(30):
        made = crop(LONG, limit, PAUSES, np.random.default_rng(seed))
        assert len(made.features) == int(made.durations.sum()) <= limit
        first = int(made.features[0, 0])
        starts.add(first)
        assert torch.equal(made.features[:, 0], torch.arange(first, first + len(made.features)).float())
        ends = [0, *LONG.durations.cumsum(0).tolist()]
        assert first in ends and first + len(made.features) in ends
        place = next(
            i for i in range(len(LONG.phones))
            if ends[i] == first and torch.equal(LONG.phones[i : i + len(made.phones)], made.phones)
        )  # fmt: skip
        assert torch.equal(LONG.durations[place : place + len(made.phones)], made.durations)
        assert PAUSES[int(made.phones[0])]
        if limit >= 33:
            assert PAUSES[int(made.phones[-1])] and len(made.phones) > 1
    assert limit == 79 or len(starts) > 1


def test_short_items_are_not_cropped_and_long_silences_are_cut() -> None:
    rng = np.random.default_rng(0)
    assert crop(LONG, 80, PAUSES, rng) is LONG
    silence = item(("SIL", 500))
    made = crop(silence, 100, PAUSES, rng)
    assert len(made.features) == 100 and made.durations.tolist() == [100] and made.phones.tolist() == ids(["SIL"])
    stuck = item(("SIL", 0), ("AH0_S", 150), ("SIL", 0))
    assert crop(stuck, 100, PAUSES, rng).durations.tolist() == [100]
    plain = crop(item(("SIL", 500), transcribed=False), 100, PAUSES, rng)
    assert len(plain.features) == 100 and plain.durations.tolist() == [100]


def test_joined_utterances_share_the_pause_between_them() -> None:
    a = item(("SIL", 2), ("HH_B", 3), ("AY1_E", 4), ("SIL?", 5))
    b = item(("SIL", 6), ("Y_B", 7), ("UW1_E", 8), ("SIL.", 9))
    made = join(a, b, PAUSES)
    assert made.phones.tolist() == ids(["SIL", "HH_B", "AY1_E", "SIL?", "Y_B", "UW1_E", "SIL."])
    assert made.durations.tolist() == [2, 3, 4, 11, 7, 8, 9] and len(made.features) == 44
    assert a.durations.tolist() == [2, 3, 4, 5], "the parts are not changed"
    with pytest.raises(ValueError, match="both transcribed"):
        join(a, item(("SIL", 9), transcribed=False), PAUSES)


def test_batches_of_joined_utterances_are_of_one_speaker(manifest: Path) -> None:
    sequence = batches(manifest, VOICEBOX_MEL, max_frames_per_batch=1000, seed=0, join_share=1.0)
    names = {name for batch in itertools.islice(sequence(0, 1), 4) for name in batch.ids}
    pairs = [tuple(int(part[1:]) for part in name.split("+")) for name in names if "+" in name]
    assert len(pairs) >= 3
    assert all(a % 2 == b % 2 and (a < 10) == (b < 10) for a, b in pairs)


def test_collate_keeps_order_and_names() -> None:
    batch = collate([item(("SIL", 2), ("AH0_S", 1)), item(("SIL", 5), transcribed=False)])
    assert batch.frames.tolist() == [3, 5] and batch.lengths.tolist() == [2, 1]
    assert batch.transcribed.tolist() == [True, False] and batch.features.shape == (2, 5, 2)


def test_what_cannot_be_trained_on_is_refused(manifest: Path, tmp_path: Path) -> None:
    foreign = Timed(None, "x", None, 1.0, ("ɲ_B",), np.array([1.0]))
    with pytest.raises(UserError, match=r"1 phones outside the vocabulary, such as 'ɲ_B'"):
        Corpus([foreign], VOICEBOX_MEL)
    with pytest.raises(UserError, match="no such manifest"):
        batches(tmp_path / "none", VOICEBOX_MEL, max_frames_per_batch=400, seed=0)
    two = corpus_batches(Corpus(list(read_cuts(manifest))[:2], VOICEBOX_MEL), max_frames_per_batch=400, seed=0)
    assert next(two(0, 1)).ids


def test_another_speed_moves_pitch_times_and_speaker(manifest: Path) -> None:
    rate = VOICEBOX_MEL.sample_rate
    cut = next(iter(read_cuts(manifest)))
    tone = np.sin(2 * np.pi * 1000 * np.arange(round(cut.seconds * rate)) / rate)
    soundfile.write(cut.cut.recording.sources[0].source, 0.05 * tone.astype(np.float32), rate)
    fast = cut.at_speed(1.25)
    assert (fast.id, fast.speaker) == (f"{cut.id}@1.25", f"{cut.speaker}@1.25")
    assert fast.seconds == pytest.approx(cut.seconds / 1.25)
    assert fast.ends == pytest.approx(cut.ends / 1.25)
    corpus = Corpus([cut, fast], VOICEBOX_MEL)
    plain, item = corpus[0], corpus[1]
    assert len(item.features) == corpus.frames(1)
    assert int(item.durations.sum()) == len(item.features)
    bank = LogMel(VOICEBOX_MEL)
    heard = torch.from_numpy(0.05 * np.sin(2 * np.pi * 1250 * np.arange(8000) / rate)).float()[None]
    wanted = int(bank(heard)[0].mean(0).argmax())
    assert int(item.features.mean(0).argmax()) == wanted != int(plain.features.mean(0).argmax())


def test_speeds_multiply_the_corpus_and_pairs_keep_to_one_speed(manifest: Path) -> None:
    sequence = batches(
        manifest, VOICEBOX_MEL, max_frames_per_batch=10_000, seed=0, speeds=(0.9, 1.0, 1.1), join_share=1.0
    )
    names = {name for batch in itertools.islice(sequence(0), 40) for name in batch.ids}
    assert {n.split("@")[-1] for n in names if "@" in n} == {"0.9", "1.1"}
    pairs = [name.split("+") for name in names if "+" in name]
    assert pairs
    assert all(("@" in a, a.split("@")[1:]) == ("@" in b, b.split("@")[1:]) for a, b in pairs)


def test_colour_filters_all_frames_alike_and_keeps_the_floor() -> None:
    floor = float((np.log(VOICEBOX_MEL.floor) - VOICEBOX_MEL.mean) / VOICEBOX_MEL.std)
    features = torch.randn(30, VOICEBOX_MEL.channels) * 0.1
    features[0] = floor
    item = Item("a", features, torch.tensor([1]), torch.tensor([30]), True)
    made = colour(item, 3.0, VOICEBOX_MEL, np.random.default_rng(0)).features
    change = (made - features)[1:]
    assert float(change.std(dim=0).max()) < 1e-5
    assert float(change[0].std()) * VOICEBOX_MEL.std * 20 / np.log(10) > 1.0
    assert float(made.min()) >= floor - 1e-6
    assert colour(item, 0.0, VOICEBOX_MEL, np.random.default_rng(0)) is item
