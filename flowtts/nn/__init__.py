"""Bricks that recipes build networks of. No models."""

from flowtts.nn.position import ConvPosition as ConvPosition
from flowtts.nn.position import alibi_bias as alibi_bias
from flowtts.nn.time import sinusoidal as sinusoidal
from flowtts.nn.transformer import Transformer as Transformer
from flowtts.nn.transformer import TransformerConfig as TransformerConfig
