"""Which utterances make up which batch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from flowtts.data.plan import BatchPlan, join_pairs

LENGTHS = np.random.default_rng(0).integers(50, 1500, 300).tolist()


def plan(seed: int = 0, **more: float) -> BatchPlan:
    return BatchPlan(LENGTHS, max_frames_per_batch=6000, seed=seed, max_frames=int(more.get("max_frames", 1600)))


def test_any_batch_can_be_named_without_those_before_it() -> None:
    first = plan()
    run = [first.batch(i) for i in range(3 * first.per_epoch)]
    for i in (0, first.per_epoch - 1, first.per_epoch, 2 * first.per_epoch + 5):
        assert plan().batch(i) == run[i]
    assert plan(seed=1).batch(0) != run[0]


def test_an_epoch_holds_every_utterance_once() -> None:
    made = plan()
    for epoch in (0, 1):
        seen = Counter(
            i for b in range(made.per_epoch) for e in made.batch(epoch * made.per_epoch + b) for i in e.members
        )
        assert seen == Counter(range(len(LENGTHS)))
    epochs = [[made.batch(e * made.per_epoch + b) for b in range(made.per_epoch)] for e in (0, 1)]
    assert epochs[0] != epochs[1]


def test_batches_keep_their_size_and_pad_little() -> None:
    made = plan(max_frames=1000)
    padded = real = 0
    for b in range(made.per_epoch):
        lengths = [min(sum(LENGTHS[i] for i in e.members), 1000) for e in made.batch(b)]
        assert max(lengths) * len(lengths) <= 6000
        padded += max(lengths) * len(lengths)
        real += sum(lengths)
    assert real / padded > 0.93


def test_an_utterance_longer_than_a_batch_comes_alone() -> None:
    made = BatchPlan([500, 20_000, 400], max_frames_per_batch=600, seed=0, max_frames=30_000)
    assert sorted(len(made.batch(b)) for b in range(made.per_epoch)) == [1, 1, 1]
    with pytest.raises(ValueError, match="no utterances"):
        BatchPlan([], max_frames_per_batch=600, seed=0, max_frames=100)


def test_the_seeds_of_crops_differ_between_items_and_epochs() -> None:
    made = plan()
    seeds = [e.seed for b in range(2 * made.per_epoch) for e in made.batch(b)]
    assert len(set(seeds)) == len(seeds)


def test_pairs_are_of_one_speaker_and_short_enough() -> None:
    speakers = [None if i % 5 == 0 else f"s{i % 4}" for i in range(len(LENGTHS))]
    members = join_pairs(LENGTHS, speakers, 0.6, 1600, seed=3)
    assert Counter(i for m in members for i in m) == Counter(range(len(LENGTHS)))
    pairs = [m for m in members if len(m) == 2]
    assert 20 < len(pairs) < 0.3 * len(LENGTHS)
    assert all(speakers[a] == speakers[b] is not None and LENGTHS[a] + LENGTHS[b] <= 1600 for a, b in pairs)
    assert all(len(m) == 1 for m in join_pairs(LENGTHS, speakers, 0.0, 1600, seed=3))
    assert join_pairs(LENGTHS, speakers, 0.6, 1600, seed=3) == members
