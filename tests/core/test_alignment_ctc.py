"""The Viterbi pass against enumeration, and the phone recogniser."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from flowtts.alignment.ctc import CtcAligner, CtcConfig, PhoneRecogniser, class_of, classes
from flowtts.alignment.viterbi import ctc_viterbi
from flowtts.text import SYMBOLS, FrontEnd
from flowtts.types import Audio, Batch, Trainable, UserError


def collapse(path: Sequence[int]) -> list[int]:
    """CTC's mapping: merge repetitions, drop blanks (0)."""
    return [k for k, _ in itertools.groupby(path) if k != 0]


def enumerate_best(log_probs: Tensor, targets: Sequence[int], optional: Sequence[bool]) -> float:
    """The score of the best of all label sequences that spell the targets, with any of the optional ones left out."""
    frames, size = log_probs.shape
    places = [i for i, flag in enumerate(optional) if flag]
    spellings = [
        [t for i, t in enumerate(targets) if i not in left_out]
        for count in range(len(places) + 1)
        for left_out in itertools.combinations(places, count)
    ]
    table = log_probs.tolist()
    return max(
        sum(table[t][k] for t, k in enumerate(path))
        for path in itertools.product(range(size), repeat=frames)
        if collapse(path) in spellings
    )


@pytest.mark.parametrize(
    ("targets", "optional"),
    [
        ([1, 2], [False, False]),
        ([1, 1], [False, False]),
        ([3, 1, 3, 2, 3], [True, False, True, False, True]),
        ([3, 1, 3, 1], [True, False, True, False]),
        ([1, 3, 2], [False, True, False]),
        ([3, 2], [True, False]),
        ([2, 3], [False, True]),
        ([2], [False]),
    ],
)
@pytest.mark.parametrize("frames", [3, 5])
def test_viterbi_equals_enumeration(targets: list[int], optional: list[bool], frames: int) -> None:
    for seed in range(3):
        log_probs = torch.randn(frames, 4, generator=torch.Generator().manual_seed(seed)).mul(2).log_softmax(-1)
        spans, score = ctc_viterbi(log_probs, targets, optional)
        assert score == pytest.approx(enumerate_best(log_probs, targets, optional), abs=1e-5)
        path = [0] * frames
        for target, span in zip(targets, spans, strict=True):
            if span is not None:
                path[span[0] : span[1]] = [target] * (span[1] - span[0])
        assert sum(float(log_probs[t, k]) for t, k in enumerate(path)) == pytest.approx(score, abs=1e-5)
        assert all(flag for span, flag in zip(spans, optional, strict=True) if span is None)


def test_viterbi_refuses_what_does_not_fit() -> None:
    log_probs = torch.zeros(3, 4)
    with pytest.raises(ValueError, match="4 targets do not fit into 3 frames"):
        ctc_viterbi(log_probs, [1, 2, 1, 2], [False] * 4)
    with pytest.raises(ValueError, match="do not fit"):
        ctc_viterbi(log_probs, [1, 1, 2], [False] * 3)  # needs a blank between the first two
    with pytest.raises(ValueError, match="two optional"):
        ctc_viterbi(log_probs, [1, 2], [True, True])
    with pytest.raises(ValueError, match="without blanks"):
        ctc_viterbi(log_probs, [0], [False])


def test_classes_drop_stress_and_position() -> None:
    assert [class_of(s) for s in ("PAD", "SIL,", "AH0_B", "NG_E", "ɲ_S", "t")] == ["BLANK", "SIL", "AH", "NG", "ɲ", "t"]
    names, table = classes(SYMBOLS)
    assert len(names) == 41 and names[:2] == ("BLANK", "SIL") and len(table) == len(SYMBOLS)
    assert all(names[table[i]] == class_of(s) for i, s in enumerate(SYMBOLS))


SMALL = CtcConfig(width=32, depth=2, kernel=7)
TOY = ("PAD", "SIL", "A_S", "B_S", "C_S")


def network(seed: int = 0) -> PhoneRecogniser:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return PhoneRecogniser(SMALL, TOY)


def toy_batch(count: int = 4, seed: int = 0) -> Batch:
    """Each class of sound is a band of the mel; durations vary."""
    rng = torch.Generator().manual_seed(seed)
    phones, durations, features = [], [], []
    for _ in range(count):
        order = torch.randint(2, 5, (3,), generator=rng)
        ids = torch.tensor([1, int(order[0]), 1, int(order[1]), 1, int(order[2]), 1])
        frames = torch.randint(4, 9, (7,), generator=rng)
        frames[2] = 0
        sound = 0.3 * torch.randn(int(frames.sum()), 80, generator=rng)
        for t, k in enumerate(ids.repeat_interleave(frames).tolist()):
            sound[t, 16 * k : 16 * k + 16] += 2
        phones.append(ids)
        durations.append(frames)
        features.append(sound)
    pad = torch.nn.utils.rnn.pad_sequence
    return Batch(
        pad(features, batch_first=True), torch.tensor([len(f) for f in features]), pad(phones, batch_first=True),
        pad(durations, batch_first=True), torch.tensor([7] * count), torch.ones(count, dtype=torch.bool),
    )  # fmt: skip


def test_padding_changes_nothing() -> None:
    net = network().eval()
    x = torch.randn(1, 30, 80, generator=torch.Generator().manual_seed(0))
    alone = net(x, torch.tensor([30]))
    padded = net(torch.cat([x, torch.full((1, 12, 80), 9.0)], dim=1), torch.tensor([30]))
    assert torch.allclose(padded[:, :30], alone, atol=1e-5)


def test_untranscribed_items_teach_nothing(rng: torch.Generator) -> None:
    net = network()
    assert isinstance(net, Trainable)
    batch = toy_batch(2)
    hidden = Batch(*(getattr(batch, n) for n in ("features", "frames", "phones", "durations", "lengths")),
                   transcribed=torch.tensor([False, False]))  # fmt: skip
    assert float(net.loss(hidden, rng)["loss"].detach()) == 0.0


def test_it_learns_to_align(rng: torch.Generator) -> None:
    net = network()
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(60):
        losses = net.loss(toy_batch(8, seed=step), rng)
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
    assert float(losses["frame_error"]) < 0.2
    net.eval()
    batch = toy_batch(1, seed=1000)
    log_probs = net(batch.features, batch.frames)[0]
    targets = [net.table[i].item() for i in batch.phones[0]]
    spans, _ = ctc_viterbi(log_probs, targets, [t == 1 for t in targets])
    ends = batch.durations[0].cumsum(0)
    starts = (ends - batch.durations[0]).tolist()
    assert spans[2] is None, "the pause that lasts no time is left out"
    found = [s[0] for s in spans if s is not None]
    assert all(abs(a - b) <= 1 for a, b in zip(found, starts[:2] + starts[3:], strict=True))


def test_aligner_covers_the_recording_and_refuses_what_it_cannot(tmp_path: object) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        aligner = CtcAligner(PhoneRecogniser(SMALL, SYMBOLS))
    analysis = FrontEnd().analyse("Say it again, please.")
    sound = Audio(0.1 * torch.randn(22_050, generator=torch.Generator().manual_seed(1)).numpy(), 22_050)
    made = aligner.align(sound, analysis)
    assert [p.symbol for p in made.phones] == [p.symbol for p in analysis.phones]
    assert made.seconds == pytest.approx(1.0) and int(made.durations(100, 100).sum()) == 100
    assert all(w.end > w.start for w in made.words)
    with pytest.raises(UserError, match="cannot hold its"):
        aligner.align(Audio(sound.samples[:2205], 22_050), analysis)
    with pytest.raises(UserError, match="was not trained on the phone"):
        CtcAligner(network()).align(sound, analysis)
