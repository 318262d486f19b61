"""The tag: found where it is, not found where it is not, and inaudible; what files say of themselves."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

import flowtts
from flowtts import cli
from flowtts.audio.io import read, resample, write
from flowtts.edit.recording import Recording, save
from flowtts.provenance.metadata import comments, read_comments
from flowtts.provenance.tag import MISTAKE, SHORTEST, detect, embed, pattern
from flowtts.types import Audio
from flowtts.voice import shipped

VOICES = sorted(shipped())


@pytest.fixture(scope="module")
def voices() -> dict[str, Audio]:
    return {name: read(path) for name, path in shipped().items()}


def noisy(audio: Audio, decibel: float) -> Audio:
    level = np.sqrt(np.mean(np.square(audio.samples.astype(float)))) * 10 ** (-decibel / 20)
    noise = np.random.default_rng(0).standard_normal(len(audio.samples)) * level
    return Audio((audio.samples + noise).astype(np.float32), audio.sample_rate)


def coded(audio: Audio, form: str, subtype: str) -> Audio:
    # Not in memory: there libsndfile 1.2.2 reads MP3 only sometimes.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"coded.{form.lower()}"
        soundfile.write(path, audio.samples, audio.sample_rate, format=form, subtype=subtype)
        return read(path)


@pytest.mark.parametrize("name", VOICES)
def test_a_tagged_recording_is_found_and_the_same_untagged_is_not(voices, name):
    audio = voices[name]
    found, other = detect(embed(audio)), detect(audio)
    assert found.present and found.score > 12
    assert found.spans[0][0] < 0.5 and found.spans[-1][1] > audio.seconds - 0.5
    assert not other.present and other.spans == () and other.p > MISTAKE


def test_the_pattern_is_balanced_and_of_its_key():
    ours = pattern()
    assert set(np.unique(ours)) == {-1.0, 1.0}
    assert (ours[::2] == -ours[1::2]).all()
    other = pattern(2)
    assert abs(np.mean(ours * other)) < 0.1
    assert not detect(embed(read(shipped()["slt"]), key=2)).present


@pytest.mark.parametrize(
    "change",
    [
        lambda audio: Audio(audio.samples * np.float32(0.1), audio.sample_rate),
        lambda audio: Audio(audio.samples[12_345:], audio.sample_rate),
        lambda audio: resample(resample(audio, 8_000), 16_000),
        lambda audio: resample(audio, 44_100),
        lambda audio: noisy(audio, 20),
        lambda audio: coded(audio, "OGG", "VORBIS"),
        lambda audio: coded(audio, "OGG", "OPUS"),
        lambda audio: coded(audio, "MP3", "MPEG_LAYER_III"),
        lambda audio: Audio(np.stack([audio.samples, 0 * audio.samples], 1), audio.sample_rate),
    ],
    ids=["softer", "cut", "8 kHz", "44.1 kHz", "noise", "vorbis", "opus", "mp3", "one of two channels"],
)
def test_it_survives(voices, change):
    for name in ("reader-f", "awb"):
        assert detect(change(embed(voices[name]))).present


def test_a_second_of_it_is_enough_and_less_than_half_of_one_is_not_judged(voices):
    tagged = embed(voices["rms"])
    part = Audio(tagged.samples[20_000:36_000], 16_000)
    assert detect(part).present
    found = detect(Audio(tagged.samples[: round(0.9 * SHORTEST * 16_000)], 16_000))
    assert not found.present and "too short" in found.reason


def test_a_tagged_stretch_inside_a_recording_is_placed(voices):
    first, second, third = voices["reader-m"], embed(voices["slt"]), voices["reader-f"]
    whole = Audio(np.concatenate([first.samples, second.samples, third.samples]), 16_000)
    found = detect(whole)
    assert found.present and len(found.spans) == 1
    assert found.spans[0][0] == pytest.approx(first.seconds, abs=0.8)
    assert found.spans[0][1] == pytest.approx(first.seconds + second.seconds, abs=0.8)


@pytest.mark.parametrize("rate, channels", [(8_000, 1), (16_000, 2), (22_050, 1), (48_000, 2)])
def test_rates_channels_and_lengths_are_kept(voices, rate, channels):
    audio = resample(voices["slt"], rate)
    if channels == 2:
        audio = Audio(np.stack([audio.samples, 0.5 * audio.samples], 1), rate)
    tagged = embed(audio)
    assert tagged.samples.shape == audio.samples.shape and tagged.sample_rate == rate
    assert tagged.samples.dtype == np.float32
    assert detect(tagged).present


def test_silence_and_the_empty_recording_stay_as_they_are():
    silence = Audio(np.zeros(16_000, dtype=np.float32), 16_000)
    assert not embed(silence).samples.any()
    assert detect(silence).reason == "the recording is silent"
    assert len(embed(Audio(np.zeros(0, dtype=np.float32), 16_000)).samples) == 0


def test_it_is_deterministic_quiet_and_adds_to_what_sounds_alone(voices):
    audio = voices["reader-f"]
    tagged = embed(audio)
    assert (embed(audio).samples == tagged.samples).all()
    change = tagged.samples - audio.samples
    assert np.sqrt(np.mean(change**2)) < 0.1 * np.sqrt(np.mean(audio.samples**2))
    pesq = pytest.importorskip("pesq")
    assert pesq.pesq(16_000, audio.samples, tagged.samples, "wb") > 4.4


@pytest.mark.parametrize("channels", [1, 2])
def test_it_clips_nothing(voices, channels):
    loud = voices["awb"].samples / np.abs(voices["awb"].samples).max()
    samples = loud if channels == 1 else np.stack([loud, 0.1 * loud], 1)
    tagged = embed(Audio(samples, 16_000))
    assert np.abs(tagged.samples).max() <= 1
    assert detect(tagged).present


def test_noise_and_tones_carry_no_tag():
    rng = np.random.default_rng(1)
    at = np.arange(5 * 16_000) / 16_000
    for samples in (
        0.1 * rng.standard_normal(len(at)),
        0.3 * np.sin(2 * np.pi * 440 * at),
        0.2 * np.sign(np.sin(700 * at)),
    ):
        assert not detect(Audio(samples.astype(np.float32), 16_000)).present


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_files_say_what_they_are(voices, tmp_path, suffix):
    path, plain = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    write(path, voices["slt"], comments=comments("say", "voicebox"))
    write(plain, voices["slt"])
    said = read_comments(path)
    assert said["comment"] == f"synthetic speech, made by flowtts {flowtts.__version__}: voicebox"
    assert "comment" not in read_comments(plain)
    assert (read(path).samples == read(plain).samples).all()
    again = tmp_path / f"c{suffix}"
    write(again, voices["slt"], comments=comments("say", "voicebox"))
    if suffix != ".ogg":  # whose streams have a serial number of their own
        assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("suffix", [".au", ".w64", ".nist", ".aiff", ".caf", ".rf64"])
def test_formats_without_text_fields_are_written_all_the_same(voices, tmp_path, suffix):
    path, edited = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    write(path, voices["slt"], comments=comments("say", "voicebox"))
    recording = Recording.open(path)
    save(recording, [], edited, comments("edit", "voicebox"))
    has = {"comment"} if suffix in (".aiff", ".caf", ".rf64") else set()
    assert set(read_comments(path)) == set(read_comments(edited)) == has
    assert (read(path).samples == read(edited).samples).all()


def test_fields_that_encoders_leave_empty_are_not_said(voices, tmp_path):
    write(tmp_path / "a.mp3", voices["slt"], comments=comments("say", "voicebox"))
    assert all(read_comments(tmp_path / "a.mp3").values())


@pytest.fixture(scope="module")
def tts():
    return {tag: flowtts.load("voicebox-fewstep", "griffin-lim", "cpu", "eager", tag) for tag in (True, False)}


def test_what_is_said_carries_the_tag_unless_it_is_not_to(tts, tmp_path):
    found = {}
    for tag, one in tts.items():
        speech = one.say("The train leaves at seven.", voice="slt", seed=1, steps=2)
        speech.save(tmp_path / f"{tag}.flac")
        sidecar = json.loads((tmp_path / f"{tag}.json").read_text())
        assert sidecar["tag"] is tag
        found[tag] = (
            detect(read(tmp_path / f"{tag}.flac")).present,
            "comment" in read_comments(tmp_path / f"{tag}.flac"),
        )
    assert found == {True: (True, True), False: (False, False)}


def test_an_edit_is_tagged_inside_its_spans_alone(tts, tmp_path):
    source = shipped()["rms"]
    text = source.with_suffix(".txt").read_text().strip()
    words = text.split()
    wanted = " ".join([*words[:4], "and so on and so forth", *words[4:]])
    edited = {tag: one.edit(source, text, wanted, seed=1, steps=2) for tag, one in tts.items()}
    edited[True].save(tmp_path / "a.flac")
    assert "partly synthetic" in read_comments(tmp_path / "a.flac")["comment"]
    original, made = read(source).samples, read(tmp_path / "a.flac").samples
    (span,) = edited[True].spans
    assert (made[: span.start_out_sample] == original[: span.start_sample]).all()
    assert (made[span.end_out_sample :] == original[span.end_sample :]).all()
    assert not np.array_equal(edited[True].audio.samples, edited[False].audio.samples)


def test_a_replay_has_the_tag_of_what_it_replays(tts, tmp_path):
    for tag, one in tts.items():
        one.say("Good morning.", voice="slt", seed=1, steps=2).save(tmp_path / f"{tag}.wav")
        flowtts.replay(tmp_path / f"{tag}.json", tmp_path / f"{tag}.again.wav")
        assert (tmp_path / f"{tag}.again.wav").read_bytes() == (tmp_path / f"{tag}.wav").read_bytes()
    old = json.loads((tmp_path / "False.json").read_text())
    del old["tag"]
    (tmp_path / "old.json").write_text(json.dumps(old))
    flowtts.replay(tmp_path / "old.json", tmp_path / "old.wav")
    assert (tmp_path / "old.wav").read_bytes() == (tmp_path / "False.wav").read_bytes()


def test_detect_answers_for_each_file(voices, tmp_path, capsys):
    write(tmp_path / "tagged.wav", embed(voices["slt"]), comments=comments("say", "voicebox"))
    write(tmp_path / "plain.flac", voices["slt"])
    write(tmp_path / "short.wav", Audio(voices["slt"].samples[:3000], 16_000))
    paths = [str(tmp_path / name) for name in ("tagged.wav", "plain.flac", "short.wav")]
    assert cli.main(["detect", *paths, "--json"]) == 0
    tagged, plain, short = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert tagged["tag"]["present"] and tagged["metadata"]["comment"].startswith("synthetic")
    assert not plain["tag"]["present"] and plain["metadata"] == {}
    assert "too short" in short["tag"]["reason"] and short["generated"]["reason"]
    assert cli.main(["detect", *paths]) == 0
    out = capsys.readouterr().out
    assert "found, made by flowtts" in out and "none found, which proves nothing" in out and "cannot tell" in out


@pytest.mark.parametrize(
    "words, said",
    [([], "FILE"), (["gone.wav"], "gone.wav"), (["bad.wav"], "bad.wav"), (["slt.wav", "bad.wav"], "bad.wav")],
)
def test_detect_refuses_what_it_cannot_read(voices, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    write(Path("slt.wav"), voices["slt"])
    Path("bad.wav").write_text("no sound")
    assert cli.main(["detect", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and said in err
