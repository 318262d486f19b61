"""Autoregressive decoding, the same for every recipe: filters, sampling, stop rules, several candidates of a prompt.

A recipe brings a network that meets `Autoregressive`, usually a `flowtts.nn.causal.CausalTransformer` with its cache,
and embeddings and a head around it. `decode` draws the tokens as a `Decoding` says, and `ranked` orders what came out.
"""

from flowtts.decode.filters import filtered, min_p, penalised, top_k, top_p, typical
from flowtts.decode.half import HalfLinear, halved
from flowtts.decode.loop import Autoregressive, decode, decode_many, generators
from flowtts.decode.result import Decoded, joined, ranked, scores
from flowtts.decode.settings import Decoding
from flowtts.decode.stops import Likely, RepeatedToken, Stop

__all__ = [
    "Autoregressive",
    "Decoded",
    "Decoding",
    "HalfLinear",
    "Likely",
    "RepeatedToken",
    "Stop",
    "decode",
    "decode_many",
    "filtered",
    "generators",
    "halved",
    "joined",
    "min_p",
    "penalised",
    "ranked",
    "scores",
    "top_k",
    "top_p",
    "typical",
]
