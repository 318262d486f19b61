import shutil
from pathlib import Path

import pytest

from flowtts import checkpoint
from flowtts.compare.systems import identity, licence, parse
from flowtts.types import UserError


def one(word, **given):
    (found,) = parse([word], given, [0])
    return found


@pytest.mark.parametrize(
    "word, kind, label, source",
    [
        ("voicebox", "model", "voicebox", "voicebox"),
        ("voicebox-fewstep", "model", "voicebox-fewstep", "voicebox-fewstep"),
        ("mine=voicebox", "model", "mine", "voicebox"),
        ("griffin-lim-copy", "copy", "griffin-lim-copy", "griffin-lim"),
        ("ceiling=vocos-copy", "copy", "ceiling", "vocos"),
        ("opus-copy:kbps=12", "copy", "opus-copy kbps=12", "opus"),
        ("low=opus-copy:kbps=6", "copy", "low", "opus"),
        ("recordings", "recordings", "recordings", "recordings"),
    ],
)
def test_names_of_what_there_is(word, kind, label, source):
    found = one(word)
    assert (found.kind, found.label, found.source) == (kind, label, source)


def test_options_belong_to_the_model_they_follow():
    found = one("fast=voicebox:steps=2:guidance=2,rescale=0.7:best-of=4")
    assert found.settings == {"steps": 2, "guidance": "2,rescale=0.7", "best_of": 4}
    assert found.label == "fast"


def test_a_folder_of_audio_and_a_folder_with_a_checkpoint(tmp_path):
    (tmp_path / "theirs").mkdir()
    assert one(str(tmp_path / "theirs")).kind == "folder"
    assert one(f"A={tmp_path / 'theirs'}").label == "A"
    copy = tmp_path / "own"
    shutil.copytree(checkpoint.find("voicebox-fewstep"), copy)
    found = one(f"{copy}:steps=2")
    assert (found.kind, found.source) == ("model", str(copy))


def test_a_path_may_hold_an_equals_sign_and_a_colon(tmp_path):
    folder = tmp_path / "a=b:c"
    folder.mkdir()
    assert one(str(folder)).source == str(folder)


def test_options_with_several_values_multiply_models_and_nothing_else():
    found = parse(["voicebox", "tortoise:steps=8", "recordings"], {"steps": [2, 4], "solver": ["euler"]}, [0, 1])
    assert [system.label for system in found] == [
        "voicebox solver=euler steps=2", "voicebox solver=euler steps=4", "tortoise solver=euler steps=8", "recordings",
    ]  # fmt: skip
    assert [system.seeds for system in found] == [(0, 1), (0, 1), (0, 1), (0,)]
    assert len({system.name for system in found}) == 4
    assert all("/" not in system.name and " " not in system.name for system in found)


def test_a_label_stays_as_it_was_given_unless_values_multiply_it():
    assert one("mine=voicebox", solver=["euler"]).label == "mine"
    several = parse(["mine=voicebox"], {"solver": ["euler", "rk4"]}, [0])
    assert [system.label for system in several] == ["mine solver=euler", "mine solver=rk4"]


@pytest.mark.parametrize(
    "words, said",
    [
        (["voicebx"], "did you mean 'voicebox'"),
        (["voicebox:stepss=4"], "no option 'stepss'"),
        (["voicebox:steps=four"], "is no number"),
        (["voicebox:solver="], "has no value"),
        (["recordings:steps=4"], "takes no options"),
        (["opus-copy"], "needs its bitrate alone; write opus-copy:kbps=12"),
        (["opus-copy:kbps=3"], "has 6 to 256 kbit/s, not 3"),
        (["opus-copy:steps=3"], "no option 'steps' of a copy"),
        (["vocos-copy:kbps=12"], "only Opus has a bitrate"),
        (["vocos-copy:codebooks=2"], "no codec 'vocos'"),
        (["voicebox", "voicebox"], "two systems are called 'voicebox'"),
        (["a=voicebox", "A=tortoise"], "two systems are called"),
        (["vocos-16k"], "no recipe speaks with it"),
        (["univnet-copy"], "no weights of univnet"),
        ([], "nothing to compare"),
    ],
)
def test_what_is_refused(words, said):
    with pytest.raises(UserError, match=said):
        parse(words, {}, [0])


def test_an_identity_changes_with_weights_settings_and_vocoder_and_with_nothing_else(tmp_path):
    folders = []
    for name in ("one", "two"):
        shutil.copytree(checkpoint.find("voicebox-fewstep"), tmp_path / name)
        folders.append(str(tmp_path / name))
    same = [identity(one(folder)) for folder in folders]
    assert same[0] == same[1]
    (tmp_path / "two" / "README.md").write_text("Licence: other\n")
    assert identity(one(folders[0])) == same[0]
    assert identity(one(f"{folders[0]}:steps=2")) != same[0]
    assert identity(one(f"{folders[0]}:vocoder=griffin-lim")) != same[0]
    changed = tmp_path / "three"
    shutil.copytree(folders[0], changed)
    config = changed / "config.yaml"
    config.write_text(config.read_text() + "\n# changed\n")
    assert identity(one(str(changed))) != same[0]


def test_what_a_copy_goes_through_decides_what_it_makes():
    low, high, other = (identity(one(word)) for word in ("opus-copy:kbps=6", "opus-copy:kbps=12", "griffin-lim-copy"))
    assert low != high and low["codec"].startswith("libsndfile ")
    assert one("opus-copy:kbps=6").vocoder is None and "codec" not in other


def test_the_licence_is_that_of_the_weights():
    assert licence(one("voicebox")) == "Apache-2.0, like flowtts"
    assert licence(one("recordings")) is None
    assert Path(one("voicebox").name).name == "voicebox"
