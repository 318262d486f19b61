"""Published weights of Tortoise: every one has its place, and nothing else is taken for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import published_tortoise as published
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowtts import checkpoint, cli, registry
from flowtts.config import load as load_config
from flowtts.published import check
from flowtts.recipes.tortoise import convert as conversion
from flowtts.recipes.tortoise.autoregressive import AutoregressiveModel
from flowtts.recipes.tortoise.clvp import CLVP
from flowtts.recipes.tortoise.config import TORTOISE_MEL, ARConfig, CLVPConfig, DiffusionConfig, VQVAEConfig
from flowtts.recipes.tortoise.diffusion import DiffusionDecoder
from flowtts.recipes.tortoise.random import RandomConfig, RandomLatents, RandomVoices
from flowtts.recipes.tortoise.vqvae import VQVAE
from flowtts.registry import converter
from flowtts.text import Analysis
from flowtts.types import UserError

TINY = published.TINY
PARTS = {"clvp": "tortoise-clvp", "diffusion": "tortoise-diffusion", "random": "tortoise-random", "vocoder": "univnet"}


def small_vocoder(source: Path, out: Path, **_: object) -> Path:
    """Takes UnivNet's converter's place, which has tests of its own and one size."""
    del source
    return checkpoint.save(out, kind="univnet", config={}, state={"a": torch.zeros(1)})


def convert(source: Path, out: Path, dtype: torch.dtype | None = None) -> Path:
    return conversion.convert(source, out, dtype=dtype, others=lambda _: small_vocoder, sizes=TINY)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return published.write(tmp_path / "published")


def _loaded(folder: Path, make: Callable[[Any], nn.Module], cls: type[Any]) -> Any:
    saved = checkpoint.load(folder)
    network = make(load_config(cls, saved.config))
    checkpoint.load_state(network, saved.state, folder)
    return network.eval()


def test_every_part_gets_its_folder_and_its_weights(folder: Path, tmp_path: Path) -> None:
    out = convert(folder, tmp_path / "out")
    assert checkpoint.read_header(out)["kind"] == "tortoise"
    assert {path.name: checkpoint.read_header(path)["kind"] for path in out.iterdir() if path.is_dir()} == PARTS
    assert (out / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    for place in (out, *(out / part for part in PARTS if part != "vocoder")):
        assert "Licence: Apache-2.0" in (place / "README.md").read_text()
    files: Any = published.files()
    ar: Any = _loaded(out, AutoregressiveModel, ARConfig)
    theirs = files["autoregressive.pth"]
    assert ar.config == TINY.ar
    assert torch.equal(ar.body.blocks[1].qkv.weight, theirs["gpt.h.1.attn.c_attn.weight"].T)
    assert torch.equal(ar.body.blocks[0].ffn_out.weight, theirs["gpt.h.0.mlp.c_proj.weight"].T)
    assert torch.equal(ar.code_position.weight, theirs["mel_pos_embedding.emb.weight"])
    assert torch.equal(ar.channel_scale, files["mel_norms.pth"])
    clvp: Any = _loaded(out / "clvp", CLVP, CLVPConfig)
    query = files["clvp2.pth"]["speech_transformer.transformer.attn_layers.layers.2.1.wrap.to_q.weight"]
    assert torch.equal(clvp.speech.branches[2].query.weight, query)
    decoder: Any = _loaded(out / "diffusion", DiffusionDecoder, DiffusionConfig)
    time = files["diffusion_decoder.pth"]["layers.3.emb_layers.1.weight"]
    assert torch.equal(decoder.layers[3].block.time.weight, time)
    voices: Any = _loaded(out / "random", RandomVoices, RandomConfig)
    assert torch.equal(voices.decoder.out.weight, files["rlg_diffuser.pth"]["layers.5.weight"])


def test_what_was_converted_is_a_recipe_that_reads_letters(folder: Path, tmp_path: Path) -> None:
    recipe: Any = registry.load_recipe(convert(folder, tmp_path / "out"))
    assert recipe.name == "tortoise" and recipe.spec == TORTOISE_MEL
    assert recipe.symbols == ("[STOP]", "[UNK]", "[SPACE]", "a", "b", "c", "ab", ",", ".")
    assert recipe.text(Analysis("AB", "ab", (), ())).tolist() == [6, 0]
    drawn = recipe.random_voice(torch.Generator().manual_seed(1))
    assert sorted(x.shape[-1] for x in drawn.tensors.values()) == [32, 64]


def test_names_and_sizes_are_the_published_ones() -> None:
    sizes, make = conversion.Sizes(), published.shaped
    norms = torch.empty(80, device="meta")
    ar = published.autoregressive(sizes.ar, make)
    check(lambda: AutoregressiveModel(sizes.ar), conversion.autoregressive(ar, norms, "f"), "f")
    check(lambda: CLVP(sizes.clvp), conversion.judge(published.clvp(sizes.clvp, make), "f"), "f")
    decoder = conversion.diffusion(published.diffusion(sizes.diffusion, make), "f")
    check(lambda: DiffusionDecoder(sizes.diffusion), decoder, "f")
    voices = [published.random_latents(width, 5, make) for width in (1024, 2048)]
    check(lambda: RandomVoices(sizes.random), conversion.random_voices(*voices, "f", "f"), "f")
    # What says how published weights differ from those that are trained here.
    assert sizes.ar.calm_code == 83 and sizes.diffusion.sampling.guidance == "2,schedule=linear"
    assert {sizes.ar.codebook, sizes.clvp.codebook, sizes.diffusion.codebook, sizes.vqvae.codebook} == {
        "tortoise-published"
    }


def test_the_vocoder_is_read_by_its_own_converter(folder: Path, tmp_path: Path) -> None:
    torch.save({"model_g": {"conv_pre.bias": torch.zeros(32)}}, folder / "vocoder.pth")
    with pytest.raises(UserError, match=r"vocoder.pth does not fit UnivNet"):
        conversion.convert(folder, tmp_path / "out", others=converter, sizes=TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["published"], "something was left behind"


def test_half_precision_is_what_is_stored(folder: Path, tmp_path: Path) -> None:
    out = convert(folder, tmp_path / "out", dtype=torch.float16)
    for place in (out, out / "clvp", out / "diffusion", out / "random"):
        stored = checkpoint.load_tensors(place / "model.safetensors")
        assert {x.dtype for x in stored.values()} == {torch.float16}


def test_a_checkpoint_in_the_way_is_replaced_and_anything_else_is_not(folder: Path, tmp_path: Path) -> None:
    out = convert(folder, tmp_path / "out")
    (out / "old").touch()
    assert not (convert(folder, out) / "old").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").touch()
    with pytest.raises(UserError, match="is not a checkpoint"):
        convert(folder, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["note.txt"]


Change = Callable[[dict[str, Tensor]], None]


def _without(name: str) -> Change:
    return lambda state: (state.pop(name), None)[1]


def _with(name: str, value: Tensor) -> Change:
    return lambda state: state.update({name: value})


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("autoregressive", _without("gpt.ln_f.bias"), "body.norm.bias is missing"),
        ("autoregressive", _with("gpt.h.0.attn.c_extra.weight", torch.zeros(1)), "c_extra.weight is unknown"),
        ("autoregressive", _with("gpt.ln_f.bias", torch.zeros(3)), r"body.norm.bias is \(3,\), not \(32,\)"),
        ("autoregressive", _with("body.norm.bias", torch.zeros(32)), "body.norm.bias twice"),
        ("clvp2", _without("temperature"), "temperature is missing"),
        ("clvp2", _with("text_pos_emb.weight", torch.zeros(1)), "text_pos_emb.weight is unknown"),
        ("diffusion_decoder", _without("code_converter.2.proj_out.bias"), "code_blocks.2.out.bias is missing"),
        ("diffusion_decoder", _with("out.0.bias", torch.zeros(1)), "out_norm.bias is"),
        ("rlg_auto", _without("layers.3.bias"), "voice.layers.3.bias is missing"),
        ("rlg_diffuser", _with("layers.6.bias", torch.zeros(64)), "decoder.layers.6.bias is unknown"),
    ],
)
def test_every_weight_must_have_its_place(folder: Path, tmp_path: Path, file: str, change: Change, said: str) -> None:
    state = checkpoint.read_torch(folder / f"{file}.pth")
    change(state)
    torch.save(state, folder / f"{file}.pth")
    with pytest.raises(UserError, match=said) as caught:
        convert(folder, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["published"], "something was left behind"


def test_files_that_are_missing_or_something_else(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion.importlib.util, "find_spec", lambda _: None)

    def refused(said: str) -> None:
        with pytest.raises(UserError, match=said):
            convert(folder, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    norms = torch.load(folder / "mel_norms.pth")
    for held, said in (
        (norms[:3], "80 positive numbers"), (-norms, "80 positive numbers"), ({"a": norms}, "80 positive numbers"),
        (_Trap(tmp_path / "ran"), "safely"),
    ):  # fmt: skip
        torch.save(held, folder / "mel_norms.pth")
        refused(said)
    assert not (tmp_path / "ran").exists()
    (folder / "mel_norms.pth").unlink()
    refused("lacks mel_norms.pth: take it from tortoise/data of the package")
    # Where the program has them.
    (folder / "data").mkdir()
    torch.save(norms, folder / "data" / "mel_norms.pth")
    (folder / "tokenizer.json").write_text(json.dumps(published.tokeniser(8)))
    refused("has 8 symbols, the published text has 9")
    (folder / "tokenizer.json").write_text("{}")
    refused("no tokeniser that can be read")
    (folder / "tokenizer.json").unlink()
    refused("lacks tokenizer.json: take it from")
    (folder / "tokenizer.json").write_text(json.dumps(published.tokeniser(9)))
    torch.save([1], folder / "clvp2.pth")
    refused("clvp2.pth does not hold weights by name")
    torch.save(_Trap(tmp_path / "ran"), folder / "clvp2.pth")
    refused("clvp2.pth is not a file of plain tensors that can be read safely")
    assert not (tmp_path / "ran").exists()
    (folder / "clvp2.pth").unlink()
    (folder / "vocoder.pth").unlink()
    refused("lacks clvp2.pth, vocoder.pth: fetch the weights")


def test_the_installed_program_lends_its_small_files(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "site" / "tortoise" / "data"
    data.mkdir(parents=True)
    (data.parent / "__init__.py").write_text("raise AssertionError('imported')")
    for name in ("mel_norms.pth", "tokenizer.json"):
        (folder / name).rename(data / name)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert (convert(folder, tmp_path / "out") / "tokenizer.json").is_file()


class _Trap:
    """Runs code where it is unpickled carelessly."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


class PublishedVAE(nn.Module):
    """The layout of the public DVAE: strided convolutions, residual blocks, and back by nearest neighbours."""

    def __init__(self, channels: int, hidden: int, width: int, codes: int, blocks: int) -> None:
        super().__init__()
        inner = 2 * hidden

        class Block(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net = nn.Sequential(
                    nn.Conv1d(inner, inner, 3, padding=1), nn.ReLU(), nn.Conv1d(inner, inner, 3, padding=1), nn.ReLU(),
                    nn.Conv1d(inner, inner, 1),
                )  # fmt: skip

            def forward(self, x: Tensor) -> Tensor:
                out: Tensor = self.net(x) + x
                return out

        class Up(nn.Module):
            def __init__(self, before: int, after: int) -> None:
                super().__init__()
                self.conv = nn.Conv1d(before, after, 3, padding=1)

            def forward(self, x: Tensor) -> Tensor:
                out: Tensor = self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
                return out

        def down(before: int, after: int) -> nn.Module:
            return nn.Sequential(nn.Conv1d(before, after, 3, stride=2, padding=1), nn.ReLU())

        self.encoder = nn.Sequential(
            down(channels, hidden), down(hidden, inner), *(Block() for _ in range(blocks)), nn.Conv1d(inner, width, 1)
        )
        self.decoder = nn.Sequential(
            nn.Conv1d(width, inner, 1), *(Block() for _ in range(blocks)), nn.Sequential(Up(inner, inner), nn.ReLU()),
            nn.Sequential(Up(inner, hidden), nn.ReLU()), nn.Conv1d(hidden, channels, 1),
        )  # fmt: skip
        self.codebook = nn.Module()
        self.codebook.register_buffer("embed", torch.randn(width, codes))
        self.codebook.register_buffer("cluster_size", torch.rand(codes))
        self.codebook.register_buffer("embed_avg", torch.randn(width, codes))
        self.discrete_loss = nn.Module()
        self.discrete_loss.register_buffer("accumulator", torch.zeros(3, codes))

    def embed(self) -> Tensor:
        found = self.codebook.embed
        assert isinstance(found, Tensor)
        return found


def test_the_published_vq_vae_makes_the_same_codes_and_mels(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    theirs = PublishedVAE(80, 8, 6, 12, 2)
    with torch.no_grad():
        theirs.encoder[-1].weight.mul_(3)  # type: ignore[operator, union-attr]
    torch.save(theirs.state_dict(), folder / "dvae.pth")
    ours = _loaded(convert(folder, tmp_path / "out") / "vqvae", VQVAE, VQVAEConfig)
    norms = torch.load(folder / "mel_norms.pth")
    mels = torch.randn(2, 40, 80)
    with torch.no_grad():
        latents = theirs.encoder((mels / norms).transpose(1, 2)).transpose(1, 2)
        codes = torch.cdist(latents, theirs.embed().T[None]).argmin(-1)
        assert torch.equal(ours.encode(mels, torch.tensor([40, 40])), codes)
        made = theirs.decoder(F.embedding(codes, theirs.embed().T).transpose(1, 2)).transpose(1, 2) * norms
        assert torch.allclose(ours.decode(codes, torch.tensor([10, 10])), made, atol=1e-5)
    assert torch.equal(ours.quantiser.counts, theirs.codebook.cluster_size)
    del ours
    torch.save({**theirs.state_dict(), "encoder.9.bias": torch.zeros(1)}, folder / "dvae.pth")
    with pytest.raises(UserError, match=r"encoder.9.bias is unknown"):
        convert(folder, tmp_path / "other")


def test_random_voices_are_the_mapping_network_of_the_noise() -> None:
    torch.manual_seed(0)
    model = RandomLatents(6, layers=2)
    noise = torch.randn(3, 6)
    x = noise
    for i in range(2):
        layer: Any = model.layers[i]
        x = F.leaky_relu(x @ (layer.weight * 0.1 / 6**0.5).T + layer.bias * 0.1, 0.2) * 2**0.5
    assert torch.allclose(model(noise), model.out(x), atol=1e-6)
    voices = RandomVoices(RandomConfig(voice=6, decoder=8, layers=2))
    once, again, other = (voices(4, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert once[0].shape == (4, 6) and once[1].shape == (4, 8)
    assert torch.equal(once[0], again[0]) and torch.equal(once[1], again[1]) and not torch.equal(once[0], other[0])


def test_the_command_line_says_what_is_wrong_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: str) -> str:
        assert cli.main(["convert", *words]) == 2
        out, err = capsys.readouterr()
        assert not out and err.startswith("flowtts: ") and err.count("\n") == 1
        assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "published"]
        return err

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").touch()
    out = str(tmp_path / "out")
    assert "did you mean 'tortoise'" in refused("tortois", str(folder), "-o", out)
    assert "no such folder" in refused("tortoise", str(tmp_path / "gone"), "-o", out)
    assert "is not a checkpoint" in refused("tortoise", str(folder), "-o", str(tmp_path / "mine"))
    assert "choose another folder" in refused("tortoise", str(folder), "-o", str(folder))
    assert "is a file" in refused("tortoise", str(folder), "-o", str(folder / "clvp2.pth" / "x"))
    # The tiny files are not the published ones.
    assert "has 9 symbols, the published text has 255" in refused("tortoise", str(folder), "-o", out)
