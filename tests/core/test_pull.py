"""Published weights: what is asked of the hub, where it goes, and every way in which that fails. No network."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from flowtts import checkpoint, cli
from flowtts.compat import require
from flowtts.pull import PUBLISHED, SHORT, find, pull, pulled, with_hash
from flowtts.types import UserError

Hub = list[dict[str, Any]]

ENCODEC = {
    "model_type": "encodec", "hidden_size": 8, "num_filters": 4, "upsampling_ratios": [3, 2], "codebook_size": 16,
    "sampling_rate": 600, "target_bandwidths": [0.4, 0.8, 2.0],
}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, which is not there yet."""
    monkeypatch.delenv("FLOWTTS_CACHE", raising=False)
    monkeypatch.delenv("FLOWTTS_DEBUG", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "flowtts" / "published"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A hub that has a small EnCodec under every name; what it was asked for."""
    asked: Hub = []
    require("huggingface_hub", "hf")

    def snapshot(repository: str, *, revision: Any, local_dir: Path, allow_patterns: list[str]) -> str:
        asked.append({"repository": repository, "revision": revision, "patterns": allow_patterns})
        encodec = import_module("flowtts.vocoders.encodec")
        with torch.random.fork_rng():
            torch.manual_seed(len(repository))
            state = encodec.EncodecNetwork(encodec.published_config(ENCODEC)).state_dict()
        if "model.safetensors" in allow_patterns:
            checkpoint.save_tensors(local_dir / "model.safetensors", encodec.to_transformers(state))
        for name in set(allow_patterns) - {"model.safetensors"}:
            (local_dir / name).write_text(json.dumps(ENCODEC))
        (local_dir / ".cache" / "huggingface").mkdir(parents=True)
        return str(local_dir)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    return asked


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Makes the hub raise, half way."""
    require("huggingface_hub", "hf")

    def set_up(error: Exception) -> None:
        def snapshot(repository: str, *, revision: Any, local_dir: Path, allow_patterns: list[str]) -> str:
            (local_dir / "config.json").write_text("{}")
            raise error

        monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)

    return set_up


def test_weights_come_into_the_cache_and_load(hub: Hub, cache: Path) -> None:
    assert pulled("encodec") is pulled("encodec-24khz") is None
    found = pull("encodec-24khz")
    assert (found.folder, found.fresh) == (cache / "encodec-24khz", True)
    assert hub == [
        {
            "repository": "facebook/encodec_24khz",
            "revision": None,
            "patterns": ["config.json", "model.safetensors", "README.md"],
        }
    ]
    assert pulled("encodec") == pulled("encodec-24khz") == found.folder
    assert not (found.folder / ".cache").exists()
    assert [path.name for path in cache.parent.parent.iterdir()] == ["flowtts"], "nothing else was left"
    codec = import_module("flowtts.vocoders.encodec").load(found.folder)
    assert codec.name == "encodec" and codec.spec.sample_rate == 600
    assert with_hash(codec.hash) == found.folder and with_hash("0" * 12) is None


def test_names_and_paths_are_found_if_they_are_of_published_weights(hub: Hub, tmp_path: Path) -> None:
    for name in ("encodec", "encodec-24khz"):
        with pytest.raises(UserError, match=f"no weights of {name} are here: flowtts pull {name} fetches them"):
            find(name)
    folder = pull("encodec").folder
    assert find("encodec") == find("encodec-24khz") == find(folder) == folder
    # Other names and folders are others' to judge.
    assert find("codec") is find(tmp_path) is find(tmp_path / "gone") is None
    (folder / "config.yaml").write_text("format: 1")
    assert find(folder) is None


def test_what_is_there_is_not_fetched_again(hub: Hub) -> None:
    first, again = pull("mimi"), pull("mimi")
    assert (first.fresh, again.fresh) == (True, False) and first.folder == again.folder and len(hub) == 1


def test_weights_of_one_kind_are_told_apart(hub: Hub) -> None:
    folders = {name: pull(name).folder for name in ("encodec-24khz", "dac-16khz")}
    for folder in folders.values():
        assert with_hash(checkpoint.digest(folder / "model.safetensors")) == folder


def test_vocos_is_a_yaml_and_the_tensors_of_a_pickle(hub: Hub) -> None:
    pull("vocos-encodec-24khz")
    assert hub[0]["repository"] == "charactr/vocos-encodec-24khz"
    assert hub[0]["patterns"] == ["config.yaml", "pytorch_model.bin", "README.md"]
    assert with_hash("0" * 12) is None


@pytest.mark.parametrize("name", [*PUBLISHED, *SHORT])
def test_every_name_has_a_repository_a_licence_and_no_pickle_but_vocos(hub: Hub, name: str) -> None:
    entry = PUBLISHED[SHORT.get(name, name)]
    assert entry.repository.count("/") == 1 and entry.licence
    assert not any(file.endswith((".bin", ".pt", ".pth")) for file in entry.files) or "vocos" in name
    assert pull(name).name == SHORT.get(name, name)


def test_a_folder_of_ones_own(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert pull("mimi", tmp_path / "empty").folder == tmp_path / "empty"
    assert pull("mimi", tmp_path / "a" / "b").fresh and not pull("mimi", tmp_path / "a" / "b").fresh
    assert pulled("mimi") is None
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("mine", "file"):
        with pytest.raises(UserError, match="exists and is not mimi"):
            pull("mimi", tmp_path / name)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "x" and len(hub) == 2


def test_unknown_names_ask_nobody(hub: Hub) -> None:
    with pytest.raises(UserError, match="did you mean 'encodec-24khz'"):
        pull("encodec-24kz")
    with pytest.raises(UserError, match=r"there are dac, dac-16khz, .* vocos-mel-24khz"):
        pull("zzz")
    assert pulled("zzz") is None and not hub


def response(status: int) -> Any:
    """An answer of the hub, of whichever HTTP client its package uses."""
    errors = require("huggingface_hub.errors", "hf")
    made = errors.Response(status)
    request = sys.modules[errors.Response.__module__.split(".")[0]].Request("GET", "https://huggingface.co")
    made.request = request
    return made


def failures() -> list[tuple[str, Exception, int, str]]:
    errors = require("huggingface_hub.errors", "hf")
    gone = errors.LocalEntryNotFoundError("Cannot find\nan appropriate snapshot")
    offline = errors.LocalEntryNotFoundError("Cannot find")
    offline.__cause__ = errors.OfflineModeIsEnabled("offline")
    return [
        ("gated", errors.GatedRepoError("403\nno", response=response(403)), 2, "wants its terms accepted"),
        ("gone", errors.RepositoryNotFoundError("401", response=response(401)), 2, "is not there any more"),
        ("revision", errors.RevisionNotFoundError("404", response=response(404)), 2, "is not there any more"),
        ("offline", offline, 2, "HF_HUB_OFFLINE is set"),
        ("disk", OSError(errno.ENOSPC, "No space left on device"), 2, "cannot be written (No space left on device)"),
        ("unreachable", gone, 1, "could not be fetched: check the connection and try again (Cannot find)"),
        ("server", errors.HfHubHTTPError("500 Server Error", response=response(500)), 1, "(500 Server Error)"),
        ("other", RuntimeError("connection reset"), 1, "(connection reset)"),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(8))
def test_every_failure_is_one_line_and_leaves_nothing(
    broken: Callable[[Exception], None], capsys: pytest.CaptureFixture[str], tmp_path: Path, number: int
) -> None:
    _, error, expected, said = failures()[number]
    broken(error)
    for to in ((), ("--to", str(tmp_path / "new" / "mimi"))):
        status = cli.main(["pull", "mimi", *to])
        out, err = capsys.readouterr()
        assert (status, out, err.count("\n")) == (expected, "", 1), err
        assert err.startswith("flowtts: ") and said in err and list(tmp_path.iterdir()) == []


def test_a_repository_that_lacks_a_file_is_no_success(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    require("huggingface_hub", "hf")

    def snapshot(repository: str, *, revision: Any, local_dir: Path, allow_patterns: list[str]) -> str:
        (local_dir / "config.json").write_text("{}")
        return str(local_dir)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    with pytest.raises(UserError, match=r"descript/dac_44khz has no model.safetensors any more"):
        pull("dac")
    assert not cache.parent.exists()


def test_the_hubs_own_client_is_told_to_stay_offline_here(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The real client, which the tests' environment forbids the network."""
    assert cli.main(["pull", "mimi"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err == "flowtts: HF_HUB_OFFLINE is set, so that nothing may be fetched: unset it, then again\n"
    assert list(tmp_path.iterdir()) == []


def test_the_verb_says_what_came_from_where(hub: Hub, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["pull", "mimi", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    size = found.pop("bytes")
    assert size > 10_000 and found == {
        "name": "mimi", "folder": str(cache / "mimi"), "fetched": True, "repository": "kyutai/mimi", "revision": None,
        "licence": "CC-BY-4.0",
    }  # fmt: skip
    assert cli.main(["pull", "mimi"]) == 0
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and len(hub) == 1
    assert f"{cache / 'mimi'}: mimi of kyutai/mimi" in err and "(was there already); licence CC-BY-4.0" in err
    assert cli.main(["pull", "mimy"]) == 2
    assert "did you mean 'mimi'" in capsys.readouterr().err


def test_no_other_verb_knows_the_hub(tmp_path: Path) -> None:
    """In a process of their own, where every connection fails; to code, the hub's client is not even imported."""
    soundfile.write(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(8000), 16_000)
    code = """
import socket, sys
from importlib import import_module
def connect(*_): raise AssertionError("a connection")
socket.socket.connect = socket.getaddrinfo = connect
from flowtts import cli
network = import_module("flowtts.vocoders.codec.network")
sizes = dict(dim=8, intermediate=8, encoder_layers=1, decoder_layers=1, width=4, codebooks=2, codes=8)
import_module("flowtts.vocoders.codec").save(network.CodecNetwork(network.CodecConfig(**sizes)), "small")
for words in (["encode", "a.wav", "-o", "a.ftc", "--codec", "small"],
              ["decode", "a.ftc", "-o", "b.wav", "--codec", "small"]):
    assert cli.main(words) == 0
assert cli.main(["encode", "a.wav", "-o", "b.ftc", "--codec", "mimi"]) == 2
assert "huggingface_hub" not in sys.modules and "transformers" not in sys.modules
assert cli.main(["models", "--json"]) == 0
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
