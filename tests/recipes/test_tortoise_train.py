"""``flowtts train tortoise…``: each network and the whole in order, resumption, and the parts in one checkpoint."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("lhotse")
pytest.importorskip("accelerate")

import torch
from tiny_tortoise import (
    AR_TINY,
    CLVP_TINY,
    CODES,
    DIFFUSION_TINY,
    VQVAE_TINY,
    tiny_manifest,
    tiny_networks,
    tiny_parts,
    tiny_tortoise,
)
from torch import nn

from flowtts import checkpoint, cli
from flowtts.checkpoint import FORMAT, FORMAT_INT8
from flowtts.config import dump, plain
from flowtts.config import load as load_config
from flowtts.recipes.tortoise import AR_KIND, CLVP_KIND, DIFFUSION_KIND, VQVAE_KIND, assemble, parts
from flowtts.recipes.tortoise import train as training
from flowtts.recipes.tortoise.config import TORTOISE_MEL
from flowtts.recipes.tortoise.parts import load_judging, load_parts
from flowtts.recipes.tortoise.train import CONFIGS, RUNS, DiffusionRun
from flowtts.recipes.tortoise.vqvae import VQVAE
from flowtts.recipes.tortoise.whole import shipped, stages
from flowtts.registry import trainer
from flowtts.text.symbols import SYMBOLS
from flowtts.train import Run
from flowtts.types import VOICEBOX_MEL, UserError
from flowtts.validate import Validate

MEL = plain(VOICEBOX_MEL)
TRAIN: Mapping[str, object] = {
    "steps": 2, "schedule": "constant", "learning_rate": 1e-3, "warmup": 1, "tensorboard": False, "cpu": True,
    "log_every": 1,
}  # fmt: skip
DATA: Mapping[str, object] = {"max_frames_per_batch": 250}
MODELS: Mapping[str, Mapping[str, object]] = {
    "vqvae": {"mel": MEL, "hidden": 16, "blocks": 1, "codes": 32, "code_width": 8},
    "ar": {"body": {"layers": 1, "heads": 2, "width": 32, "ffn": 32}, "conditioning_blocks": 1, "clip_seconds": 0.3},
    "clvp": {"width": 32, "latent": 16, "layers": 1, "heads": 2, "head_width": 16, "ffn": 32},
    "decoder": {
        "mel": MEL, "width": 32, "layers": 1, "heads": 2, "steps": 50, "latent_width": 32, "layer_drop": 0.0,
        "raw_conditioning": False, "clip_seconds": 0.3,
    },
}  # fmt: skip
MODELS = {**MODELS, "fine": MODELS["decoder"]}
KINDS = {"vqvae": VQVAE_KIND, "ar": AR_KIND, "clvp": CLVP_KIND, "decoder": DIFFUSION_KIND, "fine": DIFFUSION_KIND}
NAMES = {"ar": "tortoise-ar", "decoder": "tortoise-diffusion", "fine": "tortoise-diffusion"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a manifest, its cache, the networks of `tiny_parts` to build on, and a configuration of each stage."""
    folder = tmp_path_factory.mktemp("tortoise")
    tiny_manifest(folder / "data")
    tiny_parts(folder / "parts")
    data = {**DATA, "cache": str(folder / "cache")}
    codes = {"vqvae": str(folder / "parts" / VQVAE_KIND)}
    taught = {"vqvae": {}, "fine": {**codes, "ar": str(folder / "parts" / AR_KIND), "warm": 2}}
    for name, model in MODELS.items():
        run = {"model": model, "data": data, "train": TRAIN, **taught.get(name, codes)}
        (folder / f"{name}.yaml").write_text(dump(run))
    train = {**TRAIN, "sample_every": 1}
    whole: dict[str, dict[str, object]]
    whole = {name: {"model": model, "data": DATA, "train": train} for name, model in MODELS.items() if name != "fine"}
    whole["ar"]["alike"] = whole["clvp"]["alike"] = True
    shared = {"cache": str(folder / "whole-cache"), "valid": [str(folder / "data")]}
    whole["fine"] = {"data": DATA, "train": train, "warm": 1, "shallow": 30}
    (folder / "whole.yaml").write_text(dump({**whole, **shared}))
    return folder


@pytest.fixture(autouse=True)
def little_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "VALID_BATCHES", 1)


def train(root: Path, name: str, out: Path, *more: str, resume: bool = False) -> Run:
    kind, source = NAMES.get(name, KINDS[name]), root / f"{name}.yaml"
    found: Run = trainer(kind)(kind, [root / "data"], out, source=source, overrides=more, resume=resume, vocode=None)
    return found


def states(run: Run) -> Mapping[str, torch.Tensor]:
    return checkpoint.load(run.folder).state


def equal(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def rows(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_every_config_is_whole_and_the_shipped_stages_fit() -> None:
    assert sorted(path.stem for path in CONFIGS.glob("*.yaml")) == ["ar", "clvp", "diffusion", "fine", "vqvae"]
    for cls, name in RUNS.values():
        load_config(cls, CONFIGS / name)
    fine = load_config(RUNS["tortoise-diffusion"][0], CONFIGS / "fine.yaml")
    order = stages(shipped(), Path("runs"))
    assert [stage.name for stage in order] == ["vqvae", "ar", "clvp", "decoder", "fine"]
    last = order[4].run
    assert isinstance(last, DiffusionRun) and (last.model, last.train, last.warm) == (fine.model, fine.train, fine.warm)
    same = {"shallow": fine.model.shallow, "sampling": fine.model.sampling}
    assert replace(order[3].run.model, **same) == fine.model, "fine.yaml repeats diffusion.yaml's sizes"
    assert order[0].run.model.mel == fine.model.mel == VOICEBOX_MEL


@pytest.mark.parametrize("name", list(MODELS))
def test_each_network_is_trained_and_goes_on_exactly_where_it_was(root: Path, tmp_path: Path, name: str) -> None:
    whole = train(root, name, tmp_path / "a", "train.steps=3", "train.sample_every=3", f"data.valid=[{root / 'data'}]")
    assert whole.finished and whole.step == 3
    logged = {key for row in rows(tmp_path / "a") for key in row}
    assert {f"valid_{key}" for key in training.WATCHED[KINDS[name]]} | {"loss", "grad_norm"} <= logged
    part = train(root, name, tmp_path / "b")
    assert not equal(states(part), states(whole))
    resumed = train(root, name, tmp_path / "b", "train.steps=3", resume=True)
    assert (resumed.step, resumed.finished) == (3, True)
    assert equal(states(resumed), states(whole))
    header = checkpoint.read_header(resumed.folder)
    assert header["kind"] == KINDS[name]
    if name != "vqvae":
        assert header["config"]["codebook"] == "tiny"
        assert (checkpoint.load(resumed.folder).vocabulary == SYMBOLS) == (name in ("ar", "clvp"))
    with pytest.raises(UserError, match="holds a run already"):
        train(root, name, tmp_path / "b")


def test_sizes_follow_from_the_codes(root: Path, tmp_path: Path) -> None:
    run = train(root, "ar", tmp_path / "a", "train.steps=1", "data.clips=2")
    ar = load_config(type(AR_TINY), checkpoint.read_header(run.folder)["config"])
    assert (ar.codes, ar.frames_per_code, ar.mel, ar.symbols, ar.clips) == (CODES, 4, VOICEBOX_MEL, len(SYMBOLS), 2)
    run = train(root, "fine", tmp_path / "b", "train.steps=1", "model.latent_width=5")
    decoder = checkpoint.read_header(run.folder)["config"]
    assert (decoder["codes"], decoder["latent_width"]) == (CODES + 1, 32)
    assert (decoder["code_seconds"], decoder["code_seconds_per"]) == (640, 16_000)


def test_fine_tuning_starts_from_a_checkpoint_and_leaves_alone_what_it_does_not_use(root: Path, tmp_path: Path) -> None:
    first = train(root, "decoder", tmp_path / "a")
    second = train(root, "fine", tmp_path / "b", f"init={first.folder}", "train.ema=0.0")
    before, after = states(first), states(second)
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert {"latent_in", "latent_blocks", "layers"} <= moved and not moved & {"codes", "code_blocks"}
    with pytest.raises(UserError, match="kind tortoise-diffusion, not tortoise-clvp"):
        train(root, "clvp", tmp_path / "c", f"init={first.folder}")


def test_a_codebook_is_named_after_what_decides_it(root: Path, tmp_path: Path) -> None:
    def named(folder: str, *more: str, resume: bool = False) -> str:
        run = train(root, "vqvae", tmp_path / folder, *more, resume=resume)
        return str(checkpoint.read_header(run.folder)["config"]["codebook"])

    first = named("a")
    assert len(first) == 12 and named("b", f"data.cache={tmp_path / 'cache'}") == first
    assert named("c", "train.seed=1") != first
    assert named("a", "train.steps=4", resume=True) == first, "a longer run of the same codes"
    assert named("d", "model.codebook=mine") == "mine"


def test_latents_are_of_voices_as_the_autoregressive_model_hears_them(root: Path, tmp_path: Path) -> None:
    """With a decoder that emits another mel than codes are made of."""
    mel = "model.mel={sample_rate: 24000, n_fft: 1024, win_length: 1024, hop_length: 256, n_mels: 100, f_max: 12000.0}"
    assert train(root, "fine", tmp_path / "a", mel, "model.clip_seconds=0.3").finished


def test_mistakes_are_one_line(root: Path, tmp_path: Path) -> None:
    for name, more, said in (
        ("ar", ["vqvae=''"], "vqvae=FOLDER"),
        ("ar", [f"vqvae={root / 'parts' / AR_KIND}"], "kind tortoise, not tortoise-vqvae"),
        ("fine", [f"ar={root / 'parts' / CLVP_KIND}"], "kind tortoise-clvp, not tortoise"),
        ("clvp", ["data.longest=0.1"], "no transcribed utterance"),
        ("vqvae", ["train.stepz=1"], "did you mean"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            train(root, name, tmp_path / "x", *more)
        assert "\n" not in str(caught.value)
    other = train(root, "vqvae", tmp_path / "other", "train.steps=1")
    with pytest.raises(UserError, match="different codebooks"):
        train(root, "fine", tmp_path / "x", f"vqvae={other.folder}")


def test_the_command_line_trains_one(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "tortoise-vqvae", "--data", str(root / "data"), "--out", str(tmp_path / "run"), "--json"]
    options = [f"train.{x}" for x in ("minutes=null", "steps=2", "tensorboard=false", "cpu=true", "sample_every=0")]
    sizes = ["model.hidden=16", "model.codes=32", "data.speeds=[1.0]", f"data.cache={root / 'cache'}"]
    assert cli.main([*words, *options, *sizes]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["recipe"], found["step"], found["finished"]) == ("tortoise-vqvae", 2, True)
    assert parts.VQVAETokeniser.load(checkpoint.find(tmp_path / "run"))(torch.zeros(9, 80)).shape == (2,)


class Interrupting:
    """A watcher that sends this process a signal when it first sees a kind of network."""

    def __init__(self, kind: str) -> None:
        self.kind, self.done = kind, False

    def __call__(self, batches: Sequence[object], names: Sequence[str]) -> object:
        def sample(step: int, network: nn.Module) -> None:
            if type(network).__name__ == self.kind and not self.done:
                self.done = True
                os.kill(os.getpid(), signal.SIGTERM)

        return sample


def test_the_whole_in_order_is_stopped_and_goes_on(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(out: str, *more: str, resume: bool = False) -> Run:
        found: Run = trainer("tortoise")(
            "tortoise", [root / "data"], tmp_path / out, source=root / "whole.yaml", overrides=more, resume=resume
        )
        return found

    monkeypatch.setattr(training, "Validate", Interrupting("AutoregressiveModel"))
    steps = ("ar.train.steps=3",)
    stopped = run("b", *steps)
    assert (stopped.finished, stopped.step) == (False, 2) and stopped.folder.parent.parent == tmp_path / "b" / "ar"
    assert not (tmp_path / "b" / "clvp").exists()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "b" / "vqvae").rglob("*")}
    made = run("b", *steps, resume=True)
    assert (made.finished, made.step) == (True, 11) and checkpoint.find(tmp_path / "b") == made.folder
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "b" / "vqvae").rglob("*")}
    monkeypatch.setattr(training, "Validate", Validate)
    straight = run("c", *steps)
    for name in ("", "vqvae", "clvp", "diffusion"):
        assert equal(checkpoint.load(made.folder / name).state, checkpoint.load(straight.folder / name).state), name
    whole = load_parts(checkpoint.find(tmp_path / "b"))
    assert whole.vqvae is not None and whole.clvp is not None
    assert equal(whole.decoder.state_dict(), checkpoint.load(checkpoint.find(tmp_path / "b" / "fine")).state)
    assert equal(whole.ar.state_dict(), checkpoint.load(checkpoint.find(tmp_path / "b" / "ar")).state)
    assert whole.ar.config.codebook == whole.vqvae.config.codebook == whole.clvp.config.codebook != ""
    with pytest.raises(UserError, match="holds a run already"):
        run("b")
    with pytest.raises(UserError, match="fine has learnt from it already"):
        run("b", "ar.train.steps=5", resume=True)
    assert run("b", *steps, "clvp.train.steps=3", resume=True).step == 12


def test_the_whole_refuses_before_it_begins(root: Path, tmp_path: Path) -> None:
    for more, said in (
        (["ar.vqvae=somewhere"], "ar.vqvae=somewhere: this run makes that itself"),
        (["fine.model.width=32"], "unknown key"),
        ([f"valid=[{tmp_path / 'none'}]"], "no such manifest"),
    ):
        with pytest.raises(UserError, match=said):
            trainer("tortoise")("tortoise", [root / "data"], tmp_path / "x", overrides=more)
    assert not (tmp_path / "x").exists()


class TestAssemble:
    def test_nothing_is_lost(self, tmp_path: Path) -> None:
        folder = tiny_tortoise(tmp_path / "whole", seed=3)
        assert sorted(path.name for path in folder.iterdir()) == [
            "README.md", "clvp", "config.yaml", "diffusion", "model.safetensors", "vocabulary.txt", "vqvae",
        ]  # fmt: skip
        made = load_parts(folder)
        networks = {AR_KIND: made.ar, VQVAE_KIND: made.vqvae, CLVP_KIND: made.clvp, DIFFUSION_KIND: made.decoder}
        for kind, network in tiny_networks(3).items():
            found = networks[kind]
            assert found is not None and equal(found.state_dict(), network.state_dict())
            assert not found.training and not any(p.requires_grad for p in found.parameters())
        assert made.symbols == SYMBOLS and made.folder == folder and made.ar.config == AR_TINY and made.voices is None
        judging = load_judging(folder)
        assert judging[2] == SYMBOLS and equal(judging[1].state_dict(), tiny_networks(3)[CLVP_KIND].state_dict())
        other = load_parts(tiny_tortoise(tmp_path / "other"))
        assert len(made.hash) == 12 and len({made.hash, other.hash, judging[3]}) == 3

    def test_training_state_stays_behind_and_runs_are_found(self, root: Path, tmp_path: Path) -> None:
        run = train(root, "clvp", tmp_path / "clvp")
        found = {kind: root / "parts" / kind for kind in (AR_KIND, VQVAE_KIND, DIFFUSION_KIND)}
        words = [found[AR_KIND], found[VQVAE_KIND], tmp_path / "clvp", found[DIFFUSION_KIND], tmp_path / "out"]
        about = tmp_path / "about.md"
        about.write_text("# Mine\n\nLicence: MIT\n")
        assemble.main([*map(str, words), "--readme", str(about), "--dtype", "float16"])
        assert (tmp_path / "out" / "README.md").read_text() == about.read_text()
        assert not list((tmp_path / "out").rglob("train_state"))
        made = load_parts(tmp_path / "out")
        assert made.clvp is not None
        wanted = {name: value.half().float() for name, value in states(run).items()}
        assert equal(made.clvp.state_dict(), wanted)

    @pytest.mark.parametrize(("share", "layout"), [(0.02, FORMAT_INT8), (0.021, FORMAT)])
    def test_int8_may_change_few_codes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, layout: int
    ) -> None:
        monkeypatch.setattr(parts, "codes_changed", lambda *_: share)
        folder = tiny_tortoise(tmp_path / "whole", dtype=torch.int8)
        formats = [checkpoint.read_header(folder / name)["format"] for name in ("", "clvp", "diffusion", "vqvae")]
        assert formats == [*[FORMAT_INT8] * 3, layout]
        assert checkpoint.load_tensors(folder / "vqvae/model.safetensors")["encoder.out.bias"].dtype == torch.float16
        assert load_parts(folder).vqvae is not None

    def test_changed_codes_are_counted(self, tmp_path: Path) -> None:
        config = replace(VQVAE_TINY, codes=512)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = VQVAE(config)
            network(torch.randn(8, 256, 80), torch.full((8,), 256), torch.Generator().manual_seed(0))
        held = checkpoint.Checkpoint(VQVAE_KIND, {}, network.state_dict(), None, "", tmp_path)
        assert parts.codes_changed(held, config) < 0.2
        # One large number coarsens the rest of its row.
        network.quantiser.codebook[:, 0] = 1000 * float(network.quantiser.codebook.abs().max())
        assert parts.codes_changed(held, config) > 0.5

    def test_parts_that_do_not_belong_together_are_refused(self, root: Path, tmp_path: Path) -> None:
        folders = {kind: root / "parts" / kind for kind in KINDS.values()}

        def refused(said: str, **other: Path) -> None:
            names = {VQVAE_KIND: "vqvae", CLVP_KIND: "clvp", DIFFUSION_KIND: "diffusion", AR_KIND: "ar"}
            given = {name: other.get(name, folders[kind]) for kind, name in names.items()}
            with pytest.raises(UserError, match=said) as caught:
                parts.assemble(
                    given["ar"], tmp_path / "out", vqvae=given["vqvae"], clvp=given["clvp"],
                    diffusion=given["diffusion"],
                )  # fmt: skip
            assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()

        def changed(kind: str, vocabulary: Sequence[str] | None = None, **keys: object) -> Path:
            found = checkpoint.load(folders[kind])
            return checkpoint.save(
                tmp_path / f"{kind}-{len(list(tmp_path.iterdir()))}", kind=kind, config={**found.config, **keys},
                state=found.state, vocabulary=vocabulary or found.vocabulary,
            )  # fmt: skip

        refused("tortoise-clvp is a checkpoint of kind tortoise-clvp, not tortoise-vqvae", vqvae=folders[CLVP_KIND])
        judge = changed(CLVP_KIND, codebook="another")
        refused(f"parts/tortoise and {judge} do not belong .*: the codebook is tiny of one and another", clvp=judge)
        refused("281 text symbols, not 282", ar=changed(AR_KIND, SYMBOLS[:-1]), clvp=changed(CLVP_KIND, SYMBOLS[:-1]))
        refused("does not fit CLVP", clvp=changed(CLVP_KIND, codes=65))

    def test_codes_states_and_text_must_be_the_same(self) -> None:
        def held(name: str, vocabulary: tuple[str, ...] | None = None) -> checkpoint.Checkpoint:
            return checkpoint.Checkpoint("", {}, {}, vocabulary, "", Path(name))

        ar, text = (held("a"), AR_TINY), ("a", "b")
        for config, said in (
            (replace(VQVAE_TINY, codebook="x"), "the codebook is tiny of one and x of the other"),
            (replace(VQVAE_TINY, codes=65), "the codes is 64 of one and 65"),
            (replace(VQVAE_TINY, layers=3), "the code_seconds is 1/25 of one and 2/25"),
            (replace(VQVAE_TINY, mel=replace(VOICEBOX_MEL, f_min=50.0)), "the mel.f_min is 0.0 of one and 50.0"),
            (replace(CLVP_TINY, codes=63), "the codes is 64 of one and 63"),
            (replace(DIFFUSION_TINY, codes=64), "the codes is 64 of one and 63"),
            (replace(DIFFUSION_TINY, code_seconds=800), "the code_seconds is 1/25 of one and 1/20"),
            (replace(DIFFUSION_TINY, latent_width=31), "the latent_width is 32 of one and 31"),
        ):
            with pytest.raises(UserError, match=f"a and b do not belong together: {said}"):
                parts.belong([ar, (held("b"), config)])
        with pytest.raises(UserError, match="the vocabulary is"):
            parts.belong([(held("a", text), AR_TINY), (held("b", text[:1]), CLVP_TINY)])
        whole = [
            (held("a", text), replace(AR_TINY, codebook="")), (held("b"), VQVAE_TINY), (held("c", text), CLVP_TINY),
            (held("d"), replace(DIFFUSION_TINY, mel=TORTOISE_MEL)),
        ]  # fmt: skip
        parts.belong(whole)

    def test_broken_checkpoints_are_refused_by_name(self, root: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="tortoise has no folder 'diffusion' and cannot speak"):
            load_parts(root / "parts" / AR_KIND)
        with pytest.raises(UserError, match="has no folder 'vqvae' and cannot judge"):
            load_judging(root / "parts" / AR_KIND)
        with pytest.raises(UserError, match="is not a checkpoint"):
            load_parts(tmp_path / "nothing")
        folder = tiny_tortoise(tmp_path / "whole")
        (folder / "clvp" / "model.safetensors").write_bytes(b"half")
        with pytest.raises(UserError, match=r"whole/clvp/model\.safetensors is broken"):
            load_parts(folder)
        with pytest.raises(SystemExit) as caught:
            assemble.main(["a", "b", "c", "d", str(tmp_path / "out")])
        assert caught.value.code == 2
