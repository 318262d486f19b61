"""UTMOS (arXiv 2204.02152): a predicted opinion of how natural speech is, from weights that the user has.

The network is the strong learner without its phoneme encoder: wav2vec 2.0 BASE, embeddings of a listening test and a
listener, a bidirectional LSTM, one score a frame. Weights are those of ``tarepan/SpeechMOS``
(``utmos22_strong_step7459_v1.pt``), which are the authors' own under other names; they are never downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowtts import checkpoint
from flowtts.compat import require
from flowtts.published import Names, rename, tensors
from flowtts.types import Item, PathLike, Score, UserError

from .bootstrap import mean_interval
from .judging import Progress, UnjudgeableError, item_names, judged, no_progress, score

FILE = "utmos22_strong_step7459_v1.pt"
EMBEDDING, HIDDEN, PROJECTED = 128, 512, 2048

NAMES: Names = (
    (r"^wav2vec2\.feature_extractor\.conv_layers\.(\d+)\.0\.", r"wav2vec2.feature_extractor.conv_layers.\1.conv."),
    (r"^wav2vec2\.feature_extractor\.conv_layers\.0\.2\.", "wav2vec2.feature_extractor.conv_layers.0.layer_norm."),
    (r"^wav2vec2\.layer_norm\.", "wav2vec2.feature_projection.layer_norm."),
    (r"^wav2vec2\.post_extract_proj\.", "wav2vec2.feature_projection.projection."),
    (
        r"^wav2vec2\.encoder\.pos_conv\.0\.weight_g$",
        "wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original0",
    ),
    (
        r"^wav2vec2\.encoder\.pos_conv\.0\.weight_v$",
        "wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original1",
    ),
    (r"^wav2vec2\.encoder\.pos_conv\.0\.", "wav2vec2.encoder.pos_conv_embed.conv."),
    (r"\.self_attn_layer_norm\.", ".layer_norm."),
    (r"\.self_attn\.", ".attention."),
    (r"\.fc1\.", ".feed_forward.intermediate_dense."),
    (r"\.fc2\.", ".feed_forward.output_dense."),
    (r"^wav2vec2\.mask_emb$", "wav2vec2.masked_spec_embed"),
)
"""Names in the published file -> names here, by regular expression, in this order."""


class UtmosNetwork(nn.Module):
    """Strong learner.

    Args:
        config: of wav2vec 2.0, a ``transformers.Wav2Vec2Config``; BASE by default.
        hidden: of the LSTM, in either direction.
    """

    def __init__(self, config: Any = None, hidden: int = HIDDEN) -> None:
        super().__init__()
        transformers = require("transformers", "hf")
        config = config or transformers.Wav2Vec2Config()
        self.wav2vec2 = transformers.Wav2Vec2Model(config)
        self.domain_emb = nn.Parameter(torch.zeros(1, EMBEDDING))
        self.judge_emb = nn.Parameter(torch.zeros(1, EMBEDDING))
        self.blstm = nn.LSTM(config.hidden_size + 2 * EMBEDDING, hidden, batch_first=True, bidirectional=True)
        self.projection = nn.Sequential(nn.Linear(2 * hidden, PROJECTED), nn.ReLU(), nn.Linear(PROJECTED, 1))

    def forward(self, samples: Tensor) -> Tensor:
        """(B, N) at 16 kHz, not normalised -> (B,) scores, about 1 to 5."""
        frames = self.wav2vec2(samples).last_hidden_state
        sides = [one.expand(frames.shape[0], frames.shape[1], -1) for one in (self.domain_emb, self.judge_emb)]
        found: Tensor = self.projection(self.blstm(torch.cat([frames, *sides], dim=2))[0])
        # Trained on scores from -1 to 1.
        return found.mean(dim=(1, 2)) * 2 + 3


def weights(option: str | None) -> Path:
    """The file of the weights: as given, or where ``torch.hub`` would have put it.

    Raises:
        UserError: there is none.
    """
    path = Path(option).expanduser() if option else Path(torch.hub.get_dir()) / "checkpoints" / FILE
    if not path.is_file():
        raise UserError(
            f"{path}: no weights of UTMOS; fetch {FILE} of tarepan/SpeechMOS and name it: utmos:/path/to/it.pt"
        )
    return path


def load(path: PathLike) -> UtmosNetwork:
    """The network with published weights.

    Raises:
        UserError: the file is broken or holds something else.
    """
    path = Path(path)
    held = checkpoint.load_tensors(path) if path.suffix == ".safetensors" else checkpoint.read_torch(path)
    network = UtmosNetwork()
    checkpoint.load_state(network, rename(tensors(held, path), NAMES, path), path)
    return network.eval()


@dataclass(eq=False)
class Utmos:
    """Mean predicted opinion of naturalness, about 1 to 5, without a reference.

    Attributes:
        option: path of the weights; see ``weights``.
        device: where it runs.
        progress: called per item.

    Raises:
        UserError: there are no weights, or the extra "hf" is missing.
    """

    option: str | None = None
    device: str = "cpu"
    progress: Progress = no_progress
    name: str = "utmos"
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        require("transformers", "hf")
        self._path = weights(self.option)

    def __call__(self, items: Sequence[Item]) -> Score:
        """Judge all items together; silence and what is too short are dropped."""
        network = load(self._path).to(self.device)
        values: dict[str, float] = {}
        dropped: dict[str, str] = {}
        for done, (name, item) in enumerate(zip(item_names(items), items, strict=True)):
            self.progress(self.name, done, len(items))
            try:
                samples = judged(item.audio)
            except UnjudgeableError as error:
                dropped[name] = str(error)
                continue
            with torch.inference_mode():
                values[name] = float(network(torch.from_numpy(samples)[None].to(self.device))[0])
        self.progress(self.name, len(items), len(items))
        backend = f"UTMOS22 strong learner {self._path.name} (transformers {version('transformers')})"
        return score(mean_interval(list(values.values())), values, dropped, backend)
