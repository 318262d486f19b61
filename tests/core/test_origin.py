"""The classifier of generated speech: what it must not hear, batches, refusals, and the shipped network."""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from flowtts import checkpoint, voice
from flowtts.audio.active import active_rms
from flowtts.audio.io import read, resample
from flowtts.copying import copy
from flowtts.origin import OriginClassifier, judge
from flowtts.origin.classifier import KIND
from flowtts.origin.features import Spectra, SpectrumConfig, relative, speech
from flowtts.origin.network import OriginConfig, OriginNetwork
from flowtts.registry import load_vocoder
from flowtts.types import Audio, Samples, UserError

_BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
sys.path.insert(0, _BENCHMARKS)
channels = pytest.importorskip("origin_channels")
data = pytest.importorskip("origin_data")
fitting = pytest.importorskip("origin_fit")
scores = pytest.importorskip("origin_scores")
sys.path.remove(_BENCHMARKS)

RATE = 16_000
SMALL = OriginConfig(channels=(4, 6, 8), dim=8)


@lru_cache(maxsize=1)
def untrained() -> OriginClassifier:
    torch.manual_seed(0)
    return OriginClassifier(OriginNetwork(SMALL))


@lru_cache(maxsize=2)
def reader(name: str = "reader-f") -> Samples:
    return resample(read(voice.shipped()[name]).mono(), RATE).samples


def seen(samples: Samples) -> tuple[Tensor, Tensor]:
    magnitudes = Spectra(SpectrumConfig())(torch.from_numpy(samples)[None])
    return magnitudes, speech(magnitudes)


def test_bins_are_those_inside_the_band() -> None:
    assert SpectrumConfig(n_fft=512, f_min=80, f_max=7000).bins == (3, 225)  # 93.75 to 7000 Hz of a grid of 31.25
    with pytest.raises(ValueError, match="f_min"):
        SpectrumConfig(f_min=0)
    with pytest.raises(ValueError, match="hop_length"):
        SpectrumConfig(win_length=1024)


def test_a_tone_lies_in_its_bin_and_outside_the_band_nothing_is_heard() -> None:
    time = np.arange(RATE) / RATE
    magnitudes, active = seen(np.sin(2 * np.pi * 1000 * time).astype(np.float32))
    assert int(magnitudes[0, 50].argmax()) == 1000 / 31.25 - 3
    assert active.all()
    # An offset, and what only a sampling rate decides.
    for quiet in (np.ones(RATE), np.sin(2 * np.pi * 7700 * time)):
        outside = seen(quiet.astype(np.float32))[0][0, 10:-10]
        assert float(outside.max()) < 1e-2 * float(magnitudes.max())


def test_level_and_filter_leave_no_trace() -> None:
    magnitudes, active = seen(reader())
    heard = relative(magnitudes, active)
    torch.testing.assert_close(relative(magnitudes * 0.01, active), heard, atol=1e-3, rtol=0)
    filtered = magnitudes * torch.linspace(0.5, 2.0, magnitudes.shape[2])
    assert float((relative(filtered, active) - heard).abs().mean()) < 0.03
    # Every frequency has mean 0 over speech, and there is nothing elsewhere.
    assert float(heard.sum(1).abs().max()) < 1e-2
    assert float(heard[~active].abs().max()) == 0
    assert 0.3 < float(active.float().mean()) < 1


def test_silence_is_no_speech() -> None:
    _, active = seen(np.zeros(RATE, dtype=np.float32))
    assert not active.any()
    # A click is louder than all speech and must not be all that counts.
    clicked = reader().copy()
    clicked[8000:8080] = 1.0
    assert abs(int(seen(clicked)[1].sum()) - int(seen(reader())[1].sum())) < 10


def test_padding_changes_nothing() -> None:
    network = untrained().network
    long, short = (seen(reader()[:n]) for n in (40_000, 20_500))
    more = long[1].shape[1] - short[1].shape[1]
    magnitudes = torch.cat([long[0], torch.nn.functional.pad(short[0], (0, 0, 0, more))])
    active = torch.cat([long[1], torch.nn.functional.pad(short[1], (0, more))])
    with torch.inference_mode():
        together, alone = network(magnitudes, active), torch.cat([network(*long), network(*short)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert abs(float(alone[0] - alone[1])) > 1e-4


def test_one_batch_can_be_learnt() -> None:
    rng = np.random.default_rng(0)
    samples = torch.from_numpy(rng.standard_normal((8, 4000)).astype(np.float32))
    # Every other one repeats after 5 ms, which shows as ripples of 200 Hz in the spectrum.
    samples[1::2, 80:] += samples[1::2, :-80].clone()
    generated = torch.arange(8).remainder(2).float()
    magnitudes = Spectra(SMALL.spectrum)(samples)
    active = speech(magnitudes)
    torch.manual_seed(0)
    network = OriginNetwork(SMALL).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(magnitudes, active), generated)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 0.5
    assert losses[-1] < 0.05


def test_a_verdict_is_the_same_twice_and_at_any_level() -> None:
    classifier, samples = untrained(), reader()
    first = classifier.judge(Audio(samples, RATE))
    assert classifier.judge(Audio(samples.copy(), RATE)) == first
    assert 0 < first.probability < 1
    quiet = classifier.judge(Audio(samples * np.float32(0.05), RATE))
    assert quiet.probability == pytest.approx(first.probability, abs=2e-3)
    assert quiet.seconds == first.seconds
    stereo = classifier.judge(Audio(np.stack([samples, samples], axis=1), RATE))
    assert stereo.probability == pytest.approx(first.probability, abs=1e-5)


def test_seconds_are_those_of_speech() -> None:
    samples = reader()[: 2 * RATE]
    alone = untrained().judge(Audio(samples, RATE))
    rest = np.zeros(RATE, dtype=np.float32)
    padded = untrained().judge(Audio(np.concatenate([rest, samples, rest]), RATE))
    assert alone.seconds < 2.02
    assert padded.seconds == pytest.approx(alone.seconds, abs=0.15)


def test_a_long_recording_is_the_mean_of_its_windows() -> None:
    samples = reader()[: 4 * RATE]
    once, twice = (untrained().judge(Audio(np.tile(samples, n), RATE)) for n in (1, 2))
    assert twice.seconds == pytest.approx(2 * once.seconds, abs=0.1)
    assert twice.probability == pytest.approx(once.probability, abs=1e-4)


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.zeros(3 * RATE, dtype=np.float32), "silent"),
        (np.full(3 * RATE, 0.2, dtype=np.float32), "silent"),
        (np.zeros(0, dtype=np.float32), "silent"),
        (np.sin(np.arange(RATE // 4)).astype(np.float32), "too little to judge: give at least 0.5 s"),
    ],
)
def test_what_cannot_be_judged_is_refused(samples: Samples, words: str) -> None:
    with pytest.raises(UserError, match=words):
        untrained().judge(Audio(samples, RATE))


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    network = untrained().network
    checkpoint.save(tmp_path / "o", kind=KIND, config=SMALL, state=network.state_dict())
    again = OriginClassifier.load(tmp_path / "o")
    assert again.config == SMALL
    audio = Audio(reader(), RATE)
    assert again.judge(audio) == untrained().judge(audio)


def test_another_checkpoint_is_refused() -> None:
    with pytest.raises(UserError, match="of kind noise; judging the origin of speech needs one of kind origin"):
        OriginClassifier.load("transient-noise")


def equal_weights(*values: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(np.ones(len(v)) for v in values)


def test_measures_of_hand_made_verdicts() -> None:
    made, recorded = np.array([0.9, 0.4]), np.array([0.1, 0.6])
    weights = equal_weights(made, recorded)
    assert scores.area(made, recorded, weights) == 0.75
    assert scores.equal_error(made, recorded, weights) == 0.5
    assert scores.balanced_accuracy(made, recorded, weights) == 0.5
    apart = np.array([0.8, 0.7, 0.6]), np.array([0.1, 0.2])
    assert [measure(*apart, equal_weights(*apart)) for measure in scores.MEASURES.values()] == [1.0, 0.0, 1.0]
    same = np.array([0.3, 0.6, 0.9]), np.array([0.3, 0.6, 0.9])
    assert scores.area(*same, equal_weights(*same)) == 0.5
    assert scores.equal_error(*same, equal_weights(*same)) == pytest.approx(0.5)


def test_measures_agree_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    made, recorded = rng.normal(1, 1, 400), rng.normal(0, 1, 300)
    weights = rng.integers(0, 4, 400) * 1.0, rng.integers(0, 4, 300) * 1.0
    truth, values = np.repeat([1, 0], [400, 300]), np.concatenate([made, recorded])
    both = np.concatenate(weights)
    assert scores.area(made, recorded, weights) == pytest.approx(
        metrics.roc_auc_score(truth, values, sample_weight=both), abs=1e-9
    )
    false, hit, _ = metrics.roc_curve(truth, values, sample_weight=both, drop_intermediate=False)
    nearest = int(np.argmin(np.abs(1 - hit - false)))
    assert scores.equal_error(made, recorded, weights) == pytest.approx(false[nearest], abs=0.01)
    assert scores.balanced_accuracy(made, recorded, weights) == pytest.approx(
        metrics.balanced_accuracy_score(truth, values > 0.5, sample_weight=both), abs=1e-9
    )


def test_intervals_are_wider_by_speaker_than_by_clip() -> None:
    rng = np.random.default_rng(0)
    voices = rng.uniform(0, 1, 20).repeat(10)
    by_speaker = tuple(str(i // 10) for i in range(200))
    by_clip = tuple(str(i) for i in range(200))
    recorded = scores.Heard(rng.uniform(0, 0.6, 200), tuple(f"r{i}" for i in range(200)))
    wide, narrow = (scores.measured([scores.Heard(voices, o)], recorded)["AUC"] for o in (by_speaker, by_clip))
    assert wide.value == narrow.value
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


@pytest.mark.parametrize("name", channels.CONDITIONS)
def test_channels_keep_length_and_speech(name: str) -> None:
    samples = reader()[:32_000]
    heard = channels.CONDITIONS[name](samples, np.random.default_rng(0))
    assert len(heard) == len(samples)
    assert heard.dtype == np.float32
    assert np.corrcoef(heard, samples)[0, 1] > 0.9


def test_codecs_lose_more_at_lower_rates() -> None:
    samples = reader()[:32_000]
    for codec, rates in ((channels.opus, (16e3, 32e3, 64e3)), (channels.mp3, (16e3, 32e3, 64e3))):
        losses = [float(np.mean((codec(samples, rate) - samples) ** 2)) for rate in rates]
        assert losses[0] > losses[1] > losses[2] > 0


def test_noise_has_the_level_that_was_asked_for() -> None:
    samples = reader()[:32_000]
    noise = channels.noisy(samples, np.random.default_rng(0), 20.0, 0.5) - samples
    assert 20 * np.log10(active_rms(samples, RATE) / np.sqrt(np.mean(noise**2))) == pytest.approx(20, abs=0.05)


def test_disturbing_is_the_same_for_the_same_seed_and_never_loud() -> None:
    samples = reader()[:32_000]
    for seed in range(6):
        one, two = (channels.disturb(samples, np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(one, two)
        assert np.isfinite(one).all()
        assert 0.001 < np.abs(one).max() <= 1
        # Sixteen bits, whatever was done.
        np.testing.assert_allclose(one * 32767, np.round(one * 32767), atol=1e-2)


def test_every_kind_is_made_of_speakers_of_its_split() -> None:
    rows = [
        data.Recording(Path(f"{split}{i}-{n}.ogg"), f"{split}{i}", split)
        for split in data.SPLITS for i in range(5) for n in range(2)
    ]  # fmt: skip
    chosen = list(data.turns(rows, "test", 12, "copy-vocos"))
    assert [index for index, _ in chosen] == list(range(12))
    assert {row.split for _, row in chosen} == {"test"}
    # Everybody once before anybody twice, and then with another recording.
    assert len({row.speaker for _, row in chosen[:5]}) == 5
    assert len({row.audio for _, row in chosen[:10]}) == 10
    voices = [[row.speaker for _, row in data.turns(rows, "test", 5, kind)] for kind in data.MODELS]
    assert all(voice == voices[0] for voice in voices)
    families = fitting.FAMILIES
    assert families["vocos"] | families["griffin-lim"] | families["world"] == set(data.COUNTS) - {data.ENGINE}


def test_the_shipped_network_knows_a_vocoder_from_people() -> None:
    vocoder = load_vocoder("vocos")
    for name in ("reader-f", "reader-m", "accented-f"):
        recording = Audio(reader(name), RATE)
        assert judge(recording).probability < 0.5
        assert judge(copy(vocoder, recording)).probability > 0.5
