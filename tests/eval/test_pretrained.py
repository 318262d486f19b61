"""Judges with weights of their own, on tiny random ones made here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from flowtts.audio.io import read
from flowtts.compat import require
from flowtts.eval.metrics import load
from flowtts.types import Audio, Item, UserError

SAID = read(Path(__file__).parent / "assets" / "captain_slt.flac")
SOUND = Audio(SAID.samples[:32_000], 16_000)


def package(name: str, extra: str) -> object:
    try:
        return require(name, extra)
    except UserError as error:
        pytest.skip(str(error))


def test_whisper_runs_from_a_file(tmp_path: Path) -> None:
    package("whisper", "whisper")
    from whisper.model import ModelDimensions, Whisper

    dims = ModelDimensions(
        n_mels=80, n_audio_ctx=1500, n_audio_state=8, n_audio_head=1, n_audio_layer=1,
        n_vocab=51864, n_text_ctx=16, n_text_state=8, n_text_head=1, n_text_layer=1,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = Whisper(dims).state_dict()
    path = tmp_path / "tiny.pt"
    torch.save({"dims": vars(dims), "model_state_dict": state}, path)
    metric = load(f"wer-whisper:{path}")
    first, second = (metric([Item(SOUND, "seven lanterns")]) for _ in range(2))
    assert first.count == 1
    assert first.value > 0
    assert first.items == second.items
    assert "tiny" in first.backend


def test_whisper_is_never_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package("whisper", "whisper")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"whisper/large-v3\.pt: no such Whisper checkpoint"):
        load("wer-whisper:large")
    (tmp_path / "bad.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match=r"bad\.pt: is no Whisper checkpoint"):
        load(f"wer-whisper:{tmp_path / 'bad.pt'}")([Item(SOUND, "seven")])


def test_hubert_decodes_greedily_from_a_folder(tmp_path: Path) -> None:
    package("transformers", "hf")
    from transformers import HubertConfig, HubertForCTC, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor

    config = HubertConfig(
        vocab_size=6, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
        conv_dim=(8, 8), conv_stride=(5, 64), conv_kernel=(10, 64), num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2, num_feat_extract_layers=2, pad_token_id=0,
    )  # fmt: skip
    network = HubertForCTC(config)
    # The bias decides: every frame says 5, "A"; repeats are one.
    with torch.no_grad():
        network.lm_head.weight.zero_()
        network.lm_head.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 5.0]))
    network.save_pretrained(tmp_path)
    vocabulary = tmp_path / "alphabet.json"
    vocabulary.write_text(json.dumps({"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "A": 5}))
    Wav2Vec2CTCTokenizer(str(vocabulary)).save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path)
    found = load(f"wer-hubert:{tmp_path}")([Item(SOUND, "a", id="right"), Item(SOUND, "seven a", id="half")])
    assert found.items == {"right": 0.0, "half": 0.5}
    assert str(tmp_path) in found.backend


def test_wavlm_compares_voices_from_a_folder(tmp_path: Path) -> None:
    package("transformers", "hf")
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMForXVector

    config = WavLMConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, conv_dim=(8, 8),
        conv_stride=(5, 64), conv_kernel=(10, 64), num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        num_feat_extract_layers=2, tdnn_dim=(8, 8), tdnn_kernel=(3, 1), tdnn_dilation=(1, 1), xvector_output_dim=8,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        WavLMForXVector(config).save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path)
    noise = Audio(torch.randn(32_000, generator=torch.Generator().manual_seed(0)).numpy() * 0.1, 16_000)
    found = load(f"sim-wavlm:{tmp_path}")([Item(SOUND, "", prompt=SOUND, id="same"), Item(SOUND, "", prompt=noise)])
    assert found.items["same"] == pytest.approx(1, abs=1e-5)
    assert found.items["#2"] < 0.9999


@pytest.mark.parametrize("name", ["wer-hubert", "sim-wavlm"])
def test_absent_models_are_named_and_not_fetched(name: str, tmp_path: Path) -> None:
    package("transformers", "hf")
    with pytest.raises(UserError, match="no complete model on this machine"):
        load(f"{name}:{tmp_path}")([Item(SOUND, "a", prompt=SOUND)])
