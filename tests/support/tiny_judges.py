"""Pretrained judges as their libraries publish them, tiny and random, in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowtts.compat import require
from flowtts.eval.utmos import UtmosNetwork

LISTENS: dict[str, Any] = {
    "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, "conv_dim": (8, 8),
    "conv_stride": (5, 64), "conv_kernel": (10, 64), "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
    "num_feat_extract_layers": 2,
}  # fmt: skip
"""Of the networks of transformers that listen to samples."""


def whisper(folder: Path) -> Path:
    """A checkpoint of openai-whisper that hears nonsense, and other nonsense with a beam."""
    require("whisper", "whisper")
    from whisper.model import ModelDimensions, Whisper

    dims = ModelDimensions(
        n_mels=80, n_audio_ctx=1500, n_audio_state=8, n_audio_head=1, n_audio_layer=1,
        n_vocab=51864, n_text_ctx=16, n_text_state=8, n_text_head=1, n_text_layer=1,
    )  # fmt: skip
    with _seeded():
        network = Whisper(dims)
        # The package leaves it uninitialised.
        torch.nn.init.normal_(network.decoder.positional_embedding)
    torch.save({"dims": vars(dims), "model_state_dict": network.state_dict()}, folder / "tiny.pt")
    return folder / "tiny.pt"


def hubert(folder: Path) -> Path:
    """A HubertForCTC that hears "A" in every frame, which is one "a"."""
    transformers: Any = require("transformers", "hf")
    network = transformers.HubertForCTC(transformers.HubertConfig(vocab_size=6, pad_token_id=0, **LISTENS))
    # The bias decides: every frame says 5, "A"; repeats are one.
    with torch.no_grad():
        network.lm_head.weight.zero_()
        network.lm_head.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 5.0]))
    network.save_pretrained(folder)
    vocabulary = folder / "alphabet.json"
    vocabulary.write_text(json.dumps({"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "A": 5}))
    transformers.Wav2Vec2CTCTokenizer(str(vocabulary)).save_pretrained(folder)
    return _normalised(folder)


def wavlm(folder: Path) -> Path:
    """A WavLMForXVector."""
    transformers: Any = require("transformers", "hf")
    config = transformers.WavLMConfig(
        tdnn_dim=(8, 8), tdnn_kernel=(3, 1), tdnn_dilation=(1, 1), xvector_output_dim=8, **LISTENS
    )
    with _seeded():
        transformers.WavLMForXVector(config).save_pretrained(folder)
    return _normalised(folder)


def wav2vec2(folder: Path) -> Path:
    """A Wav2Vec2Model with a sixth layer."""
    transformers: Any = require("transformers", "hf")
    config = transformers.Wav2Vec2Config(**{**LISTENS, "num_hidden_layers": 6})
    with _seeded():
        transformers.Wav2Vec2Model(config).save_pretrained(folder)
    return _normalised(folder)


def utmos(folder: Path) -> Path:
    """Weights of ``utmos_network``."""
    torch.save(utmos_weights(), folder / "tiny.pt")
    return folder / "tiny.pt"


MAKERS: Mapping[str, Callable[[Path], Path]] = {
    "whisper": whisper, "hubert": hubert, "wavlm": wavlm, "wav2vec2": wav2vec2, "utmos": utmos,
}  # fmt: skip
"""What the name of a metric ends in -> its judge, made in a folder; raises ``UserError`` if the library is missing."""


def utmos_shapes(
    width: int = 768, inner: int = 3072, layers: int = 12, channels: int = 512, reach: int = 128, groups: int = 16,
    hidden: int = 512,
) -> dict[str, tuple[int, ...]]:  # fmt: skip
    """Names and shapes of the published file of UTMOS, as its own network has them (tarepan/SpeechMOS v1.2.0)."""

    def pair(name: str, out: int, *rest: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (out, *rest), f"{name}.bias": (out,)}

    found: dict[str, tuple[int, ...]] = {"domain_emb": (1, 128), "judge_emb": (1, 128), "wav2vec2.mask_emb": (width,)}
    for number, kernel in enumerate((10, 3, 3, 3, 3, 2, 2)):
        shape = channels, channels if number else 1, kernel
        found[f"wav2vec2.feature_extractor.conv_layers.{number}.0.weight"] = shape
    found |= pair("wav2vec2.feature_extractor.conv_layers.0.2", channels)
    found |= pair("wav2vec2.layer_norm", channels) | pair("wav2vec2.post_extract_proj", width, channels)
    found |= {"wav2vec2.encoder.pos_conv.0.bias": (width,), "wav2vec2.encoder.pos_conv.0.weight_g": (1, 1, reach)}
    found |= {"wav2vec2.encoder.pos_conv.0.weight_v": (width, width // groups, reach)}
    found |= pair("wav2vec2.encoder.layer_norm", width)
    for number in range(layers):
        at = f"wav2vec2.encoder.layers.{number}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            found |= pair(f"{at}.self_attn.{name}", width, width)
        found |= pair(f"{at}.fc1", inner, width) | pair(f"{at}.fc2", width, inner)
        found |= pair(f"{at}.self_attn_layer_norm", width) | pair(f"{at}.final_layer_norm", width)
    for way in ("", "_reverse"):
        found |= {
            f"blstm.weight_ih_l0{way}": (4 * hidden, width + 256),
            f"blstm.weight_hh_l0{way}": (4 * hidden, hidden),
        }
        found |= {f"blstm.bias_ih_l0{way}": (4 * hidden,), f"blstm.bias_hh_l0{way}": (4 * hidden,)}
    return found | pair("projection.0", 2048, 2 * hidden) | pair("projection.2", 1, 2048)


UTMOS_HEADS, UTMOS_HIDDEN = 2, 6


def utmos_network() -> UtmosNetwork:
    """Smaller than the published one."""
    config = require("transformers", "hf").Wav2Vec2Config(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=UTMOS_HEADS, intermediate_size=12, conv_dim=(6,) * 7,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    return UtmosNetwork(config, UTMOS_HIDDEN)


def utmos_weights() -> dict[str, Tensor]:
    """Of ``utmos_network`` by published name, large enough that every part of it matters."""
    shapes = utmos_shapes(width=8, inner=12, layers=2, channels=6, reach=4, groups=2, hidden=UTMOS_HIDDEN)
    rng = torch.Generator().manual_seed(0)
    return {name: 0.5 * torch.randn(shape, generator=rng) for name, shape in shapes.items()}


@contextmanager
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def _normalised(folder: Path) -> Path:
    require("transformers", "hf").Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder
