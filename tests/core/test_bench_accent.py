"""The accent benchmark: features, classifier, channels and bookkeeping, on made-up tokens and a made-up pipeline."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from flowtts.audio.io import read, write
from flowtts.types import Audio, UserError

_BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
sys.path.insert(0, _BENCHMARKS)
accent = pytest.importorskip("accent")
accent_classifier = pytest.importorskip("accent_classifier")
accent_corpus = pytest.importorskip("accent_corpus")
accent_features = pytest.importorskip("accent_features")
accent_study = pytest.importorskip("accent_study")
channels = pytest.importorskip("channels")
tables = pytest.importorskip("tables")
sys.path.remove(_BENCHMARKS)

Token, Tokens, Norm = accent_features.Token, accent_features.Tokens, accent_features.Norm
VOICES = Path(__file__).parents[2] / "flowtts" / "voices"


def spoken(
    rng: np.random.Generator, *, accented: bool, speed: float = 1.0, words: int = 8, swap: bool = True
) -> Tokens:
    """Words "TH IH S"-like at random; an accent turns TH into S and draws lax vowels out."""
    tokens, clock = [], 0.2
    for word in range(words):
        clock += float(rng.choice([0.0, 0.15]))
        phones = [str(rng.choice(["TH", "K", "M"])), str(rng.choice(["IH", "IY"])), str(rng.choice(["S", "L"]))]
        for place, phone in enumerate(phones):
            length = 0.1 * speed * float(rng.uniform(0.8, 1.25)) * (1.6 if accented and phone == "IH" else 1.0)
            says = "S" if accented and swap and phone == "TH" and rng.random() < 0.8 else phone
            heard = {says: length} if rng.random() < 0.8 else {"N": length}
            tokens.append(Token(phone, phone == "IH", word, place == 2, clock, clock + length, heard))
            clock += length
    return Tokens(tuple(tokens), {"SIL": 0.4})


@pytest.fixture(scope="module")
def people() -> tuple[list[Tokens], np.ndarray, list[str]]:
    rng = np.random.default_rng(1)
    accented = np.array([float(i % 2) for i in range(120)])
    recordings = [spoken(rng, accented=bool(y), speed=1.4 if y else 1.0) for y in accented]
    return recordings, accented, [f"s{i % 30}" for i in range(120)]


def test_tokens_survive_packing() -> None:
    tokens = spoken(np.random.default_rng(0), accented=True)
    assert Tokens.unpack(json.loads(json.dumps(tokens.pack()))) == tokens


def test_within_shares_the_time_and_counts_gaps_as_silence() -> None:
    heard = [("S", 0.0, 0.1), ("IH", 0.1, 0.15), ("S", 0.2, 0.3)]
    assert accent_features.within(heard, 0.05, 0.25) == {"S": 0.1, "IH": 0.05, "SIL": 0.05}
    assert accent_features.within(heard, 0.4, 0.5) == {"SIL": 0.1}


def test_features_of_what_is_usual_are_zero_and_speed_does_not_count(people) -> None:
    recordings, accented, _ = people
    groups = [[r for r, y in zip(recordings, accented, strict=True) if y == kind] for kind in (0, 1)]
    norm = Norm.measure(groups)
    assert np.allclose(norm.heard.sum(1), 1.0)
    slow, fast = (spoken(np.random.default_rng(3), accented=True, speed=s) for s in (2.0, 1.0))
    assert np.allclose(norm.timing(slow)[:12], norm.timing(fast)[:12])
    # Averaged over both accents, each weighing the same, nothing departs from the norm.
    usual = np.mean([[norm.sound(r) for r in group] for group in groups], axis=(0, 1))
    assert np.abs(usual).max() < 0.01


def test_text_alone_tells_the_sound_view_nothing() -> None:
    rng = np.random.default_rng(0)
    norm = Norm.measure([[spoken(rng, accented=False) for _ in range(40)] for _ in range(2)])
    only = [Tokens(tuple(t for t in spoken(rng, accented=False, words=60).tokens if t.phone in keep), {})
            for keep in (("TH", "S"), ("K", "M", "L"))]  # fmt: skip
    assert all(np.abs(norm.sound(t)).max() < 0.06 for t in only)


def test_more_errors_of_the_usual_kind_are_no_accent() -> None:
    rng = np.random.default_rng(0)
    norm = Norm.measure([[spoken(rng, accented=bool(kind)) for _ in range(60)] for kind in (0, 1)])
    clean = spoken(rng, accented=False, words=300)
    noisy = Tokens(
        tuple(Token(t.phone, t.stress, t.word, t.final, t.start, t.end, {"N": 0.1} if i % 2 else t.heard)
              for i, t in enumerate(clean.tokens)), {},
    )  # fmt: skip
    assert accent_features.heard_right(noisy) < 0.6 * accent_features.heard_right(clean)
    assert np.abs(norm.wrong(noisy) - norm.wrong(clean)).max() < 0.5 * np.abs(norm.wrong(clean)).max()


def test_pieces_have_the_lengths_asked_for_and_share_no_word() -> None:
    tokens = spoken(np.random.default_rng(0), accented=False, words=20)
    pieces = accent_features.cut(tokens, [6], np.random.default_rng(0))
    assert [p.words for p in pieces] == [6, 6, 6]
    assert len({t.word for p in pieces for t in p.tokens}) == 18


def test_classifier_learns_hears_unseen_speakers_and_survives_saving(people, tmp_path: Path) -> None:
    classifier, unseen = accent_classifier.train(*people)
    recordings, accented, _ = people
    for view in ("timing", "sound", "errors", "both"):
        assert np.mean((unseen[view] > 0) == (accented > 0)) > 0.85
    rng = np.random.default_rng(99)
    # Without the substitution only the timing is accented.
    half = classifier.probabilities([spoken(rng, accented=True, swap=False) for _ in range(20)])
    assert half["timing"].mean() > 0.7 > 0.4 > max(half["sound"].mean(), half["errors"].mean())
    path = tmp_path / "classifier.json"
    classifier.save(path)
    again = accent_classifier.Classifier.load(path)
    assert np.allclose(again.logits(recordings)["both"], classifier.logits(recordings)["both"])


def test_labels_that_mean_nothing_are_not_learnt(people) -> None:
    recordings, _, speakers = people
    rng = np.random.default_rng(5)
    names = sorted(set(speakers))
    label = dict(zip(names, rng.permutation([0.0, 1.0] * (len(names) // 2)), strict=True))
    labels = np.array([label[s] for s in speakers])
    _, unseen = accent_classifier.train(recordings, labels, speakers)
    assert abs(np.mean((unseen["both"] > 0) == (labels > 0)) - 0.5) < 0.2


def test_folds_keep_speakers_together() -> None:
    folds = accent_classifier.folds_of(["a", "b", "a", "c", "d", "b", "e"])
    assert folds[0] == folds[2] and folds[1] == folds[5] and len(set(folds)) == 5


def test_a_broken_classifier_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(UserError, match="no classifier"):
        accent_classifier.Classifier.load(tmp_path / "c.json")
    with pytest.raises(UserError, match="cannot read"):
        accent_classifier.Classifier.load(tmp_path / "missing.json")


def test_held_out_readers() -> None:
    assert accent_corpus.held_out("19") and accent_corpus.held_out("r1235") and not accent_corpus.held_out("103")
    with pytest.raises(UserError, match="no number"):
        accent_corpus.held_out("slt")


def test_imposing_a_spectrum_gives_that_spectrum_and_back() -> None:
    audio = read(VOICES / "rms.flac").mono()
    dull = channels.impose(audio, np.zeros(513), np.linspace(1.5, -1.5, 513))
    own, other = channels.average_spectrum([audio]), channels.average_spectrum([dull])
    assert np.polyfit(np.arange(500), (other - own)[:500], 1)[0] == pytest.approx(-3 / 512, rel=0.15)
    back = channels.average_spectrum([channels.impose(dull, other, own)])
    assert np.abs(back - own)[20:480].mean() < 0.25 * np.abs(other - own)[20:480].mean()


def test_disturbing_keeps_the_length_and_follows_the_generator() -> None:
    audio = read(VOICES / "slt.flac").mono()
    first, same, other = (channels.disturb(audio, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert len(first.samples) == len(audio.samples) and np.isfinite(first.samples).all()
    assert np.array_equal(first.samples, same.samples) and not np.array_equal(first.samples, other.samples)


def test_the_listener_hears_what_is_said() -> None:
    listener = accent_features.Listener()
    path = VOICES / "rms.flac"
    tokens = listener.listen(read(path).mono(), path.with_suffix(".txt").read_text().strip())
    hits = sum(t.heard.get(t.phone, 0.0) for t in tokens.tokens) / sum(t.end - t.start for t in tokens.tokens)
    assert hits > 0.3
    assert all(a.end <= b.start + 1e-6 for a, b in zip(tokens.tokens, tokens.tokens[1:], strict=False))
    with pytest.raises(UserError):
        listener.listen(Audio(np.zeros(16000, dtype=np.float32), 16000), "nothing is said")


def test_accuracy_weighs_classes_equally_and_draws_speakers() -> None:
    right = [True] * 9 + [False]
    made = tables.accuracy_by(right, [True] * 9 + [False], [f"s{i}" for i in range(10)])
    assert made["value"] == 0.5 and made["low"] == made["high"] == 0.5
    one = tables.mean_by([1.0, 1.0, 0.0, 0.0], ["a", "a", "b", "b"])
    assert (one["value"], one["low"], one["high"], one["owners"]) == (0.5, 0.0, 1.0, 2)
    assert accent_study.auc(np.array([2.0, 1.0, 0.0]), [True, False, False]) == 1.0
    with pytest.raises(ValueError, match="both classes"):
        tables.accuracy_by([True], [True], ["a"])


def heard_by_group() -> list:
    """Accented speakers whose channel is recognisable by its pauses too, natives, and an engine."""
    rng = np.random.default_rng(7)
    found = []
    for number in range(72):
        group = "engine" if number >= 64 else ("accented", "native")[number % 2]
        accented, speaker = group == "accented", "rms" if group == "engine" else str(number // 2 % 16)
        test = group == "engine" or int(speaker) % 4 == 3
        recording = accent_corpus.Recording(f"r{number}", "", f"{group}{speaker}", "", group, "table", test)
        for condition in ("plain",) if group == "engine" else ("plain", "swapped" if test else "disturbed"):
            tokens = spoken(rng, accented=accented, words=8 if accented else 17)
            channel = rng.standard_normal((3, 24)) + (2.0 if accented and condition == "plain" else 0.0)
            found.append(accent_corpus.Heard(recording, condition, tokens, *channel))
    return found


def test_the_study_reports_accent_and_channel_apart() -> None:
    study = accent_study.Study(heard_by_group())
    scores = study.scores()
    assert scores["counts"]["accented, test"] == {"recordings": 8, "speakers": 4}
    assert scores["held out"]["both"]["accuracy"]["value"] > 0.8
    assert scores["channel alone"]["spectrum of pauses"]["value"] > 0.8
    assert scores["engines"]["table, enginerms"]["both"]["value"] < 0.3
    # With the channel gone the judge of voices takes accented speech for native; the classifier does not.
    changed = scores["other channel"]["accented, swapped"]
    assert changed["both"]["value"] > changed["Resemblyzer"]["value"] + 0.3
    text = "\n".join(accent_study.markdown(scores))
    assert text.count("## ") == 6 and "| spectrum of pauses |" in text
    json.dumps(scores, allow_nan=False)


def test_the_study_trains_on_nobody_it_tests() -> None:
    recordings = {h.recording.id: h.recording for h in heard_by_group()}.values()
    groups = [[r for r in recordings if r.group == g] for g in ("accented", "native", "engine")]
    wanted = accent_study.plan(*groups, 1)
    assert not any(r.test for r, condition in wanted if condition == "disturbed")
    assert all(r.test for r, condition in wanted if condition in ("swapped", "copied"))
    assert sum(condition == "swapped" and r.group == "accented" for r, condition in wanted) == 4
    assert sum(condition == "plain" for _, condition in wanted) == 72


def test_tables_print_figures_with_their_intervals() -> None:
    figure = {"value": 0.5, "low": 0.25, "high": 0.75}
    made = tables.table(["", "x"], [["a|b", figure], ["nothing", None]])
    assert "| a\\|b | 0.500 [0.250, 0.750] |" in made and "| nothing | – |" in made


@dataclass(frozen=True)
class Result:
    """What the made-up pipeline returns."""

    audio: Audio


class Echo:
    """A pipeline that gives the recording back, refuses one text, and counts."""

    def __init__(self, refuse: str = "") -> None:
        self.refuse, self.calls = refuse, list[dict]()

    def restyle(self, recording: Audio, text: str, style: Audio, style_text: str | None = None, **options) -> Result:
        self.calls.append(options)
        if text == self.refuse:
            raise UserError("the transcript does not fit")
        return Result(recording if options.get("timing") == "kept" else style)


@pytest.fixture
def trials(tmp_path: Path) -> list:
    recordings = []
    for number, (group, speaker, voice) in enumerate(
        (g, s, v) for g, s, v in [("accented", "0024", "accented-f"), ("native", "19", "rms"), ("native", "27", "slt")]
        for _ in range(2)
    ):  # fmt: skip
        audio = read(VOICES / f"{voice}.flac").mono()
        path = tmp_path / f"{number}.flac"
        write(path, audio)
        text = (VOICES / f"{voice}.txt").read_text().strip()
        recordings.append(accent_corpus.Recording(f"r{number}", str(path), speaker, text, group, "table", True))
    return accent.pair_up(recordings[:2], recordings[2:], 2)


def test_pairs_go_both_ways_with_different_recordings(trials) -> None:
    assert [t.direction for t in trials] == [accent.TO_NATIVE, accent.TO_ACCENTED] * 2
    assert [t.name for t in trials] == ["0024-19", "19-0024", "0024-27", "27-0024"]
    assert all(len({t.said.id, t.other.id, t.voice.id, t.voice_other.id}) == 4 for t in trials)
    with pytest.raises(UserError, match="two recordings"):
        accent.pair_up([], [], 1)


def test_making_resumes_and_counts_refusals(trials, tmp_path: Path) -> None:
    tts = Echo(refuse=trials[1].said.text)
    made, dropped = accent.make(tts, tmp_path / "out", trials, ["kept", "accent"], {"seed": 3})
    assert len(made[accent.TO_NATIVE, "kept"]) == 2 and (accent.TO_ACCENTED, "accent") in made
    refused = [t for t in trials if t.said.text == tts.refuse]
    assert len(dropped) == 2 * len(refused) and "native to accented/kept/19-0024" in dropped
    assert tts.calls[0] == {"seed": 3, "timing": "kept"}
    assert set(tts.calls[-1]) == {"seed", "accent", "accent_text"}
    again = Echo(refuse=tts.refuse)
    accent.make(again, tmp_path / "out", trials, ["kept", "accent"], {"seed": 3})
    assert len(again.calls) == len(dropped)


def test_measuring_an_echo_gives_the_sources_scores(trials, people, tmp_path: Path) -> None:
    classifier, _ = accent_classifier.train(*people)
    own = trials[:2]
    made, _ = accent.make(Echo(), tmp_path / "out", own, ["kept", "predicted"], {})
    scores = accent.measure(tmp_path / "out", classifier, own, made, [])
    part = scores[accent.TO_NATIVE]
    kept = part["ways"]["kept"]
    # Kept echoes the accent's source, predicted the voice's.
    assert kept["similarity to the accent source"]["value"] == pytest.approx(1.0, abs=2e-3)
    assert part["ways"]["predicted"]["similarity to the voice source"]["value"] == pytest.approx(1.0, abs=2e-3)
    apart = part["references"]["similarity, voice source to accent source (floor)"]["value"]
    assert kept["similarity to the voice source"]["value"] == pytest.approx(apart, abs=2e-3) and apart < 0.9
    source = part["references"]["P(accented), timing, accent source"]["value"]
    assert kept["P(accented), timing"]["value"] == pytest.approx(source, abs=0.02)
    lines = (tmp_path / "out" / "tokens.jsonl").read_text().splitlines()
    accent.measure(tmp_path / "out", classifier, own, made, [])
    assert (tmp_path / "out" / "tokens.jsonl").read_text().splitlines() == lines
    text = "\n".join(accent.markdown({**scores, "pairs": 1, "dropped": {}}))
    assert "| similarity to the voice source |" in text
