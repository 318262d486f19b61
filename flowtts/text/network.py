"""Pronunciations of words that no dictionary has: the network of g2p-en, run with NumPy.

The package ``g2p_en`` carries a small sequence-to-sequence GRU trained on CMUdict. Importing that package makes
NLTK look for data and reach for the network, so only its weights are read.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..types import UserError
from .dictionary import Pronunciation
from .symbols import PHONES

Array = NDArray[np.float32]

_LONGEST = 20
"""The network was trained on words of at most so many phones."""
_LETTERS = ("<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz")
_START, _STOP = 2, 3


def _outputs() -> tuple[str, ...]:
    """The network's phone table: CMUdict's phones in order, with one stray "UW" before UW0."""
    phones = list(PHONES)
    phones.insert(phones.index("UW0"), "UW")
    return ("<pad>", "<unk>", "<s>", "</s>", *phones)


@dataclass(frozen=True, eq=False)
class SpellingNetwork:
    """Letters to phones.

    Attributes:
        weights: the arrays of g2p-en's checkpoint by name.
    """

    weights: Mapping[str, Array]

    def __call__(self, word: str) -> Pronunciation:
        """Phones of a lower-case word; characters other than a to z are ignored. Empty for no letters."""
        letters = [letter for letter in word if "a" <= letter <= "z"]
        if not letters:
            return ()
        state = np.zeros(self.weights["enc_w_hh"].shape[1], dtype=np.float32)
        for letter in (*letters, "</s>"):
            state = self._step("enc", _LETTERS.index(letter), state)
        phones, table, last = [], _outputs(), _START
        for _ in range(_LONGEST):
            state = self._step("dec", last, state)
            last = int(np.argmax(self.weights["fc_w"] @ state + self.weights["fc_b"]))
            if last == _STOP:
                break
            phones.append("UW1" if table[last] == "UW" else table[last])
        return tuple(phone for phone in phones if not phone.startswith("<"))

    def _step(self, part: str, token: int, state: Array) -> Array:
        """One step of a gated recurrent unit (arXiv 1406.1078) in PyTorch's arrangement of gates."""
        w = self.weights
        seen = w[f"{part}_w_ih"] @ w[f"{part}_emb"][token] + w[f"{part}_b_ih"]
        kept = w[f"{part}_w_hh"] @ state + w[f"{part}_b_hh"]
        reset_x, update_x, new_x = np.split(seen, 3)
        reset_h, update_h, new_h = np.split(kept, 3)
        reset, update = _sigmoid(reset_x + reset_h), _sigmoid(update_x + update_h)
        new = np.tanh(new_x + reset * new_h)
        return np.asarray((1 - update) * new + update * state, dtype=np.float32)


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)), dtype=np.float32)


@lru_cache(maxsize=8192)
def guess(word: str) -> Pronunciation:
    """What the network makes of a lower-case word; remembered, for names come again and again."""
    return spelling_network()(word)


@cache
def spelling_network() -> SpellingNetwork:
    """The network, read once, on first use.

    Raises:
        UserError: g2p-en is not installed.
    """
    spec = importlib.util.find_spec("g2p_en")
    if spec is None or spec.origin is None:
        raise UserError("words outside the dictionary need g2p-en: pip install g2p-en")
    with np.load(Path(spec.origin).with_name("checkpoint20.npz")) as file:
        return SpellingNetwork({name: file[name].astype(np.float32) for name in file.files})
