"""Vocos of codes: sound as the vocos package makes it of the same weights, with EnCodec's own package before it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from published_codecs import ENCODEC as WORDS
from published_codecs import noise, spread
from torch import Tensor

from flowtts.checkpoint import digest, load_state, save_tensors
from flowtts.codec import Codec
from flowtts.compat import require
from flowtts.published import rename
from flowtts.types import CodeSpec, UserError
from flowtts.vocoders.encodec import EncodecConfig, EncodecNetwork, from_transformers, to_transformers
from flowtts.vocoders.network_codec import NetworkCodec
from flowtts.vocoders.seanet import SeanetConfig
from flowtts.vocoders.vocos_codes import VocosCodes, VocosCodesConfig, VocosCodesNetwork, load

ENCODEC = EncodecConfig(SeanetConfig(width=8, filters=4, strides=(2, 3)), 600, 5, 16)
"""100 frames of 6 samples a second, 0.4 kbit/s a codebook."""

BANDWIDTHS = [0.4, 0.8, 1.6]
TINY = VocosCodesConfig(
    width=8, codebooks=4, codes=16, dim=12, intermediate=24, layers=2, n_fft=24, hop=6, bandwidths=3
)


def part(name: str, **arguments: object) -> dict[str, object]:
    return {"class_path": f"vocos.{name}", "init_args": arguments}


def words() -> dict[str, Any]:
    """The words of config.yaml of charactr/vocos-encodec-24khz, the sizes of `TINY`."""
    return {
        "feature_extractor": part(
            "feature_extractors.EncodecFeatures", encodec_model="encodec_24khz", bandwidths=BANDWIDTHS
        ),
        "backbone": part(
            "models.VocosBackbone", input_channels=8, dim=12, intermediate_dim=24, num_layers=2,
            adanorm_num_embeddings=3,
        ),
        "head": part("heads.ISTFTHead", dim=12, n_fft=24, hop_length=6, padding="same"),
    }  # fmt: skip


def network() -> VocosCodesNetwork:
    torch.manual_seed(3)
    made = VocosCodesNetwork(TINY)
    lively(made.backbone)
    return made


def lively(backbone: Any) -> None:
    """Norms that differ by bandwidth, and blocks that do something: a new network has neither."""
    with torch.no_grad():
        for name, weight in backbone.named_parameters():
            if ".scale." in name or ".shift." in name or name.endswith("gamma"):
                weight.add_(0.5 * torch.randn(weight.shape))


def encodec(codebooks: int | None = None) -> NetworkCodec:
    torch.manual_seed(0)
    made = EncodecNetwork(ENCODEC).eval().requires_grad_(False)
    spread([level.quantiser.codebook for level in made.quantiser.levels], made.latents(noise(1, 1, 600))[0])
    return NetworkCodec("encodec", made, codebooks, "0123456789ab")


def codec(codebooks: int | None = None) -> VocosCodes:
    return VocosCodes(encodec(codebooks), network(), {1: 0, 2: 1, 4: 2})


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Any, NetworkCodec, Path]:
    """The package's Vocos with a tiny EnCodec of the encodec package; ours of that EnCodec; the folder of its files."""
    modules, quantization = require("encodec.modules", ""), require("encodec.quantization", "")
    torch.manual_seed(1)
    sizes = {"dimension": 8, "n_filters": 4, "ratios": [3, 2], "causal": True}
    theirs = require("encodec", "").EncodecModel(
        modules.SEANetEncoder(**sizes), modules.SEANetDecoder(**sizes),
        quantization.ResidualVectorQuantizer(8, 5, 16, kmeans_init=False), [*BANDWIDTHS, 2.0], 600, 1,
    ).eval()  # fmt: skip
    with torch.no_grad():
        books = [layer._codebook for layer in theirs.quantizer.vq.layers]
        spread([book.embed for book in books], theirs.encoder(noise(1, 1, 600))[0].T)
    extractors = require("vocos.feature_extractors", "")
    monkeypatch.setattr(extractors.EncodecModel, "encodec_model_24khz", lambda pretrained: theirs)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(words()))
    vocos = require("vocos", "").Vocos.from_hparams(str(tmp_path / "config.yaml")).eval()
    lively(vocos.backbone)
    with torch.no_grad():
        # Trained codebooks need not be EnCodec's any more.
        vocos.feature_extractor.codebook_weights.mul_(1.1)
    torch.save(vocos.state_dict(), tmp_path / "pytorch_model.bin")
    mine = EncodecNetwork(ENCODEC)
    names = (
        (r"\.model\.", ".layers."), (r"\.convt?r?\.convt?r?\.", ".conv."), (r"\.vq\.layers\.", ".layers."),
        (r"\._codebook\.", ".codebook."),
    )  # fmt: skip
    load_state(mine, from_transformers(rename(theirs.state_dict(), names, "encodec")))
    return vocos, NetworkCodec("encodec", mine, None, "0123456789ab"), tmp_path


@pytest.mark.parametrize(("number", "codebooks"), [(0, 1), (1, 2), (2, 4)])
def test_sound_to_sound_is_that_of_the_packages(
    package: tuple[Any, NetworkCodec, Path], number: int, codebooks: int
) -> None:
    vocos, mine, folder = package
    x = 0.5 * noise(2, 300)
    made = load(folder, codec=NetworkCodec("encodec", mine.network, codebooks))
    codes = made.encode(x)
    theirs = vocos.feature_extractor.encodec
    theirs.set_target_bandwidth(BANDWIDTHS[number])
    assert torch.equal(codes, theirs.encode(x[:, None])[0][0].transpose(1, 2)) and len(codes.unique()) > 8
    expected = vocos(x, bandwidth_id=torch.tensor([number]))
    torch.testing.assert_close(made.decode(codes), expected.clamp(-1, 1), atol=1e-5, rtol=0)
    vectors = vocos.codes_to_features(codes.permute(2, 0, 1))
    torch.testing.assert_close(made.network.vectors(codes).transpose(1, 2), vectors, atol=1e-6, rtol=0)
    assert expected.std() > 1e-3


def test_files_without_encodecs_own_weights_are_the_same(package: tuple[Any, NetworkCodec, Path]) -> None:
    """As published: 40 MB, which has no room for them."""
    _, mine, folder = package
    made = load(folder, codec=mine)
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    assert any(name.startswith("feature_extractor.encodec.") for name in state)
    torch.save({k: x for k, x in state.items() if ".encodec." not in k}, folder / "pytorch_model.bin")
    codes = made.encode(noise(1, 120))
    assert torch.equal(load(folder, codec=mine).decode(codes), made.decode(codes))
    assert made.numbers == {1: 0, 2: 1, 4: 2} and made.spec.codebooks == 4


def test_it_is_a_codec_with_encodecs_codes() -> None:
    made, plain = codec(), encodec()
    assert isinstance(made, Codec) and (made.name, made.hash) == ("vocos-encodec", "0123456789ab")
    assert made.spec == CodeSpec(600, 100.0, 4, 16)
    for length in (0, 1, 6, 100, 601):
        x = noise(2, length)
        codes = made.encode(x)
        assert torch.equal(codes, plain.encode(x)[..., :4])
        sound = made.decode(codes)
        assert sound.shape == (2, 6 * codes.shape[1]) and sound.isfinite().all() and (sound.abs() <= 1).all()
    x = noise(1, 100)
    assert torch.equal(made.latents(x), plain.latents(x)) and torch.equal(made.statistics()[1], torch.ones(8))
    assert made.to("cpu") is made


def test_sound_depends_on_the_bandwidth_beside_the_vectors() -> None:
    made = codec()
    vectors = noise(1, 20, 8)
    sounds = [made.network(vectors, number) for number in range(3)]
    assert all(not torch.allclose(sounds[i], sounds[j], atol=1e-3) for i, j in ((0, 1), (0, 2), (1, 2)))
    # Latents count as all codebooks.
    assert torch.equal(made.from_latents(vectors), sounds[2].clamp(-1, 1))
    assert torch.equal(codec(2).from_latents(vectors), sounds[1].clamp(-1, 1))


def test_it_encodes_in_pieces_and_decodes_the_whole() -> None:
    made, x = codec(), noise(1, 600)
    run = made.encoding()
    parts = [run.push(piece) for piece in torch.split(x, 77, 1)]
    assert torch.equal(torch.cat([*parts, run.finish()], 1), made.encode(x))
    with pytest.raises(UserError, match="vocos-encodec hears what comes later"):
        made.decoding()


def test_it_hears_as_far_ahead_as_documented() -> None:
    """Three frames for each convolution of seven, and the frames whose windows overlap."""
    made = codec().network

    def heard(vectors: Tensor) -> Tensor:
        return made(vectors, 0)

    vectors = noise(1, 60, 8)
    changed = vectors.clone()
    changed[:, 30:] += 1
    apart = (heard(vectors) - heard(changed)).abs()[0]
    reach = 3 * (1 + TINY.layers) * TINY.hop + (TINY.n_fft - TINY.hop) // 2
    assert apart[: 30 * TINY.hop - reach].max() == 0 < apart[30 * TINY.hop - reach :][: TINY.hop].max()


def test_numbers_of_codebooks_it_was_not_trained_for_are_refused() -> None:
    with pytest.raises(UserError, match="vocos-encodec was trained for 1, 2 or 4 codebooks: take so many, not 3"):
        codec(3)
    made = codec()
    with pytest.raises(UserError, match="not 3"):
        made.decode(made.encode(noise(1, 60))[..., :3])
    with pytest.raises(UserError, match="trained for 2 codebooks"):
        VocosCodes(encodec(1), network(), {2: 0})


def test_another_codecs_codes_are_refused(package: tuple[Any, NetworkCodec, Path]) -> None:
    _, _, folder = package
    with pytest.raises(UserError, match="reads 16 codes, 6 samples and 8 channels a frame, encodec has 16, 10 and 8"):
        other = EncodecNetwork(EncodecConfig(SeanetConfig(width=8, filters=4, strides=(2, 5)), 1000, 5, 16))
        VocosCodes(NetworkCodec("encodec", other), network(), {1: 0})
    with pytest.raises(UserError, match=r"codebook_weights is \(64, 8\), not \(96, 8\)"):
        other = EncodecNetwork(EncodecConfig(SeanetConfig(width=8, filters=4, strides=(2, 3)), 600, 5, 32))
        load(folder, codec=NetworkCodec("encodec", other))


def test_without_a_codec_it_takes_the_pulled_encodec(
    package: tuple[Any, NetworkCodec, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, mine, folder = package
    monkeypatch.setenv("FLOWTTS_CACHE", str(folder))
    with pytest.raises(UserError, match="no weights of encodec are here: flowtts pull encodec"):
        load(folder)
    place = folder / "flowtts" / "published" / "encodec-24khz"
    place.mkdir(parents=True)
    save_tensors(place / "model.safetensors", to_transformers(mine.network.state_dict()))
    (place / "config.json").write_text(json.dumps(WORDS | {"model_type": "encodec"}))
    made, x = load(folder, 2), noise(1, 90)
    assert made.spec.codebooks == 2 and made.hash == digest(place / "model.safetensors")
    assert torch.equal(made.decode(made.encode(x)), load(folder, codec=mine).decode(mine.encode(x)[..., :2]))


def test_wrong_files_are_refused(package: tuple[Any, NetworkCodec, Path]) -> None:
    _, mine, folder = package

    def refused(values: dict[str, Any], said: str) -> None:
        (folder / "config.yaml").write_text(yaml.safe_dump(values))
        with pytest.raises(UserError, match=said) as caught:
            load(folder, codec=mine)
        assert "\n" not in str(caught.value)

    refused(words() | {"feature_extractor": part("feature_extractors.MelSpectrogramFeatures")}, "not MelSpectrogram")
    refused({}, "is not a published Vocos configuration")
    values = words()
    values["backbone"]["init_args"]["adanorm_num_embeddings"] = 4
    refused(values, "3 bandwidths and 4 norms")
    values = words()
    values["backbone"]["init_args"]["dim"] = 16
    refused(values, "does not fit")
    (folder / "config.yaml").write_text(yaml.safe_dump(words()))
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    torch.save({k: x for k, x in state.items() if "codebook_weights" not in k}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="holds no Vocos that reads codes"):
        load(folder, codec=mine)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(UserError, match="cannot read"):
        load(folder, codec=mine)


def test_the_published_sizes_have_as_many_parameters_as_the_published_file() -> None:
    made = VocosCodesNetwork(VocosCodesConfig())
    norm, linear = 4 * 2 * 384, 384 * 1152
    block = 7 * 384 + 384 + norm + linear + 1152 + linear + 384 + 384
    expected = 16 * 1024 * 128 + (7 * 128 + 1) * 384 + norm + 8 * block + 2 * 384 + (384 + 1) * 1282
    total = sum(p.numel() for p in made.parameters())
    # The file has 40.4 MB: these in float32, a window, and names.
    assert total == expected == 10_081_410 and 4 * total == pytest.approx(40.4e6, rel=0.003)
