"""Opus by libsndfile: bits, timing, refusals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import soundfile

from flowtts.audio.io import read, resample
from flowtts.opus import opus, payload
from flowtts.types import Audio, UserError
from flowtts.voice import shipped

SPEECH = read(shipped()["reader-f"])


def correlation(a: Audio, b: Audio) -> float:
    return float(np.corrcoef(a.samples, b.samples)[0, 1])


def test_more_bits_are_closer_and_as_many_as_were_asked_for() -> None:
    found = [opus(SPEECH, kbps) for kbps in (6, 12, 24)]
    for kbps, (audio, bits) in zip((6, 12, 24), found, strict=True):
        # The encoder's bitrate varies with what is said.
        assert bits == pytest.approx(1000 * kbps, rel=0.25)
        assert (len(audio.samples), audio.sample_rate) == (len(SPEECH.samples), SPEECH.sample_rate)
    near = [correlation(audio, SPEECH) for audio, _ in found]
    assert near == sorted(near) and near[-1] > 0.95


def test_nothing_is_shifted() -> None:
    coded = opus(SPEECH, 64)[0].samples.astype(np.float64)
    spectrum = np.fft.rfft(coded) * np.fft.rfft(SPEECH.samples.astype(np.float64)).conj()
    assert np.argmax(np.fft.irfft(spectrum)) == 0


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100])
def test_rate_and_length_stay(rate: int) -> None:
    given = resample(Audio(SPEECH.samples[:20_000], SPEECH.sample_rate), rate)
    audio, _ = opus(Audio(np.stack([given.samples, given.samples], 1), rate), 32)
    assert (audio.sample_rate, audio.samples.shape) == (rate, given.samples.shape)
    assert correlation(audio, given) > 0.9


def page(*sizes: int) -> bytes:
    """An Ogg page whose table has these sizes."""
    return b"OggS" + bytes(22) + bytes([len(sizes), *sizes]) + bytes(sum(sizes))


def test_the_container_does_not_count() -> None:
    # Two packets of head; one of 255 + 40; one of 255 + 255 that ends with 0 on the next page; one of 7.
    stream = page(19) + page(255, 10) + page(255, 40, 255, 255) + page(0, 7)
    assert payload(stream) == 295 + 510 + 7


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch, noise: Callable[..., Audio]) -> None:
    for kbps in (5.9, 257.0, float("nan")):
        with pytest.raises(UserError, match="6 to 256 kbit/s"):
            opus(noise(0.5), kbps)
    monkeypatch.setattr(soundfile, "available_subtypes", lambda form: {"VORBIS": "Vorbis"})
    with pytest.raises(UserError, match="has no Opus"):
        opus(noise(0.5), 12)
