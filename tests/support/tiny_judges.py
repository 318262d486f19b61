"""Pretrained judges as their libraries publish them, tiny and random, in a folder or a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

LISTENS: dict[str, Any] = {
    "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, "conv_dim": (8, 8),
    "conv_stride": (5, 64), "conv_kernel": (10, 64), "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
    "num_feat_extract_layers": 2,
}  # fmt: skip
"""Of the networks of transformers that listen to samples."""


def whisper(path: Path) -> Path:
    """A checkpoint of openai-whisper that hears nonsense, and other nonsense with a beam."""
    from whisper.model import ModelDimensions, Whisper

    dims = ModelDimensions(
        n_mels=80, n_audio_ctx=1500, n_audio_state=8, n_audio_head=1, n_audio_layer=1,
        n_vocab=51864, n_text_ctx=16, n_text_state=8, n_text_head=1, n_text_layer=1,
    )  # fmt: skip
    with _seeded():
        network = Whisper(dims)
        # The package leaves it uninitialised.
        torch.nn.init.normal_(network.decoder.positional_embedding)
    torch.save({"dims": vars(dims), "model_state_dict": network.state_dict()}, path)
    return path


def hubert(folder: Path) -> Path:
    """A HubertForCTC that hears "A" in every frame, which is one "a"."""
    from transformers import HubertConfig, HubertForCTC, Wav2Vec2CTCTokenizer

    network = HubertForCTC(HubertConfig(vocab_size=6, pad_token_id=0, **LISTENS))
    # The bias decides: every frame says 5, "A"; repeats are one.
    with torch.no_grad():
        network.lm_head.weight.zero_()
        network.lm_head.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 5.0]))
    network.save_pretrained(folder)
    vocabulary = folder / "alphabet.json"
    vocabulary.write_text(json.dumps({"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "A": 5}))
    Wav2Vec2CTCTokenizer(str(vocabulary)).save_pretrained(folder)
    return _normalised(folder)


def wavlm(folder: Path) -> Path:
    """A WavLMForXVector."""
    from transformers import WavLMConfig, WavLMForXVector

    config = WavLMConfig(
        tdnn_dim=(8, 8), tdnn_kernel=(3, 1), tdnn_dilation=(1, 1), xvector_output_dim=8, **LISTENS
    )  # fmt: skip
    with _seeded():
        WavLMForXVector(config).save_pretrained(folder)
    return _normalised(folder)


def wav2vec(folder: Path) -> Path:
    """A Wav2Vec2Model with a sixth layer."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    with _seeded():
        Wav2Vec2Model(Wav2Vec2Config(**{**LISTENS, "num_hidden_layers": 6})).save_pretrained(folder)
    return _normalised(folder)


@contextmanager
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def _normalised(folder: Path) -> Path:
    from transformers import Wav2Vec2FeatureExtractor

    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder
