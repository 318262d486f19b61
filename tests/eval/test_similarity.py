"""Speaker similarity with random weights, and with the package's where it is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from flowtts.audio.io import read, resample
from flowtts.eval.judging import judged
from flowtts.eval.metrics import load
from flowtts.eval.resemblyzer import VoiceNetwork, starts, windows, without_pauses
from flowtts.types import Audio, Item, UserError

ASSETS = Path(__file__).parent / "assets"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "pretrained.pt"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = VoiceNetwork()
        # Mel power is tiny: unscaled, an untrained network would not see it.
        with torch.no_grad():
            network.lstm.weight_ih_l0.mul_(1e4)
        torch.save({"model_state": network.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def man() -> Audio:
    return read(ASSETS / "captain_rms.flac")


@pytest.fixture(scope="module")
def woman() -> Audio:
    return read(ASSETS / "captain_slt.flac")


def test_same_sound_is_one_at_any_level(weights: Path, man: Audio, woman: Audio) -> None:
    quiet, loud = (Audio(man.samples * np.float32(gain), 16_000) for gain in (0.1, 1.9))
    items = [Item(man, "", prompt=man), Item(quiet, "", prompt=loud), Item(man, "", prompt=woman)]
    same, scaled, other = load(f"sim-o:{weights}")(items).items.values()
    assert same == pytest.approx(1, abs=1e-6)
    assert scaled == pytest.approx(1, abs=1e-5)
    assert other < 0.999


def test_silence_around_speech_does_not_count(weights: Path, man: Audio) -> None:
    # At most 90 ms of it stay on either side.
    silence = np.zeros(160 * 3 * 50, np.float32)
    padded = Audio(np.concatenate([silence, man.samples, silence]), 16_000)
    assert load(f"sim-o:{weights}")([Item(padded, "", prompt=man)]).value > 0.99


def test_sim_r_compares_with_the_resynthesised_prompt(weights: Path, man: Audio, woman: Audio) -> None:
    from flowtts.eval.judging import Context

    # The "vocoder" turns the prompt into what was made, once per prompt.
    calls: list[Audio] = []

    def resynthesise(audio: Audio) -> Audio:
        calls.append(audio)
        return man

    metric = load(f"sim-r:{weights}", Context(resynthesise=resynthesise))
    assert metric([Item(man, "", prompt=woman), Item(man, "", prompt=woman)]).value == pytest.approx(1, abs=1e-6)
    assert calls == [woman]
    with pytest.raises(UserError, match="vocoder"):
        load(f"sim-r:{weights}")


def test_what_cannot_be_judged_is_dropped_with_the_reason(weights: Path, man: Audio) -> None:
    silent = Audio(np.zeros(16_000, np.float32), 16_000)
    scrap = Audio(man.samples[:800], 16_000)
    broken = Audio(np.full(16_000, np.nan, np.float32), 16_000)
    items = [
        Item(man, "", prompt=man, id="good"),
        Item(man, "", id="alone"),
        Item(silent, "", prompt=man, id="silent"),
        Item(man, "", prompt=scrap, id="scrap"),
        Item(broken, "", prompt=man, id="broken"),
    ]
    found = load(f"sim-o:{weights}")(items)
    assert found.count == 1
    assert found.value == pytest.approx(1, abs=1e-6)
    assert found.dropped == {
        "alone": "it has no prompt",
        "silent": "the audio is silent",
        "scrap": "the prompt is shorter than 0.1 s",
        "broken": "the audio holds NaN or infinite samples",
    }


def test_other_rates_are_resampled(weights: Path, man: Audio) -> None:
    found = load(f"sim-o:{weights}")([Item(resample(man, 48_000), "", prompt=man)])
    assert found.value > 0.999
    assert found.sample_rate == 16_000


def test_windows_cover_the_utterance() -> None:
    expected = {1: [0], 161: [0], 197: [0], 198: [0, 77], 401: [0, 77, 154, 231]}
    assert {frames: starts(frames) for frames in expected} == expected
    short = windows(np.ones(8_000, np.float32))
    assert short.shape == (1, 160, 40)
    # Beyond the end, half a window (200 samples) aside, there is nothing.
    assert short[0, 52:].abs().sum() == 0
    assert windows(np.ones(64_000, np.float32)).shape == (4, 160, 40)


def test_pauses_go_and_speech_stays() -> None:
    speech = np.random.default_rng(0).normal(0, 0.1, 16_000).astype("f4")
    pause = np.zeros(16_000, np.float32)
    kept = without_pauses(np.concatenate([pause, speech, pause, speech]))
    # 90 ms on either side of each: three sides inside the recording; the blocks that straddle an edge count as speech.
    assert 2 + 3 * 0.09 <= len(kept) / 16_000 <= 2 + 3 * 0.09 + 4 * 0.03
    assert len(without_pauses(speech)) == 16_000 // 480 * 480


def test_weights_that_are_none(tmp_path: Path, man: Audio) -> None:
    with pytest.raises(UserError, match="no such file"):
        load(f"sim-o:{tmp_path / 'absent.pt'}")
    wrong = tmp_path / "wrong.pt"
    torch.save({"model_state": {"linear.bias": torch.zeros(256)}}, wrong)
    with pytest.raises(UserError, match=r"wrong\.pt: holds no weights"):
        load(f"sim-o:{wrong}")([Item(man, "", prompt=man)])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_agrees_with_the_package_on_the_same_samples(man: Audio, woman: Audio) -> None:
    try:
        package = pytest.importorskip("resemblyzer")
    except Exception as error:
        pytest.skip(f"resemblyzer does not import: {error}")
    theirs = package.VoiceEncoder("cpu", verbose=False)
    ours = VoiceNetwork().eval()
    ours.load_state_dict({name: theirs.state_dict()[name] for name in ours.state_dict()})
    for samples in (judged(man), judged(woman), judged(man)[:20_000], judged(man)[:39_000], judged(man)[:31_519]):
        with torch.inference_mode():
            mine = torch.nn.functional.normalize(ours(windows(samples)).mean(0), dim=0).numpy()
        np.testing.assert_allclose(mine, theirs.embed_utterance(samples), atol=2e-5)


def test_pretrained_encoder_tells_voices_apart(man: Audio, woman: Audio) -> None:
    try:
        metric = load("sim-o")
    except UserError as error:
        pytest.skip(str(error))
    half = len(man.samples) // 2
    first, second = Audio(man.samples[:half], 16_000), Audio(man.samples[half:], 16_000)
    found = metric([Item(first, "", prompt=second, id="same"), Item(first, "", prompt=woman, id="other")])
    assert found.items["same"] > 0.8 > found.items["other"]
