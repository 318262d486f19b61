"""The public Tortoise's files with random weights: names and shapes as the program's own networks have them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from flowtts.nn.causal import CausalConfig
from flowtts.recipes.tortoise.config import ARConfig, CLVPConfig, DiffusionConfig, VQVAEConfig
from flowtts.recipes.tortoise.convert import Sizes
from flowtts.recipes.tortoise.random import RandomConfig

State = dict[str, Tensor]
Make = Callable[..., Tensor]

TINY = Sizes(
    ar=ARConfig(body=CausalConfig(layers=2, heads=2, width=32, ffn=128), symbols=9, codes=12, max_text=8, max_codes=10),
    clvp=CLVPConfig(width=16, latent=8, layers=2, heads=2, ffn=32, symbols=10, codes=12),
    diffusion=DiffusionConfig(width=32, layers=1, heads=2, codes=13, latent_width=32),
    vqvae=VQVAEConfig(hidden=8, blocks=2, codes=12, code_width=6),
    random=RandomConfig(voice=32, decoder=64),
)


def drawn(seed: int = 0) -> Make:
    """Makes random tensors."""
    rng = torch.Generator().manual_seed(seed)
    return lambda *shape: 0.1 * torch.randn(shape, generator=rng)


def shaped(*shape: int) -> Tensor:
    """Makes tensors without memory."""
    return torch.empty(shape, device="meta")


def layer(name: str, make: Make, *shape: int, bias: int | None = None) -> State:
    """A layer's weight and bias."""
    return {f"{name}.weight": make(*shape), f"{name}.bias": make(shape[0] if bias is None else bias)}


def norm(name: str, make: Make, width: int) -> State:
    return layer(name, make, width)


def attention(name: str, make: Make, width: int, heads: int = 0) -> State:
    state = {
        **norm(f"{name}.norm", make, width), **layer(f"{name}.qkv", make, 3 * width, width, 1),
        **layer(f"{name}.proj_out", make, width, width, 1),
    }  # fmt: skip
    if heads:
        state[f"{name}.relative_pos_embeddings.relative_attention_bias.weight"] = make(32, heads)
    return state


def autoregressive(config: ARConfig, make: Make) -> State:
    width, ffn = config.body.width, config.body.ffn
    state = layer("conditioning_encoder.init", make, width, config.mel.n_mels, 1)
    for i in range(config.conditioning_blocks):
        state |= attention(f"conditioning_encoder.attn.{i}", make, width)
    state["text_embedding.weight"] = make(config.symbols + 1, width)
    state["mel_embedding.weight"] = make(config.codes + 2, width)
    for i in range(config.body.layers):
        block = f"gpt.h.{i}"
        state |= {
            **norm(f"{block}.ln_1", make, width), **norm(f"{block}.ln_2", make, width),
            **layer(f"{block}.attn.c_attn", make, width, 3 * width, bias=3 * width),
            **layer(f"{block}.attn.c_proj", make, width, width),
            **layer(f"{block}.mlp.c_fc", make, width, ffn, bias=ffn),
            **layer(f"{block}.mlp.c_proj", make, ffn, width, bias=width),
            f"{block}.attn.bias": make(1, 1, 4, 4), f"{block}.attn.masked_bias": make(),
        }  # fmt: skip
    state["mel_pos_embedding.emb.weight"] = make(config.max_codes + 2 + config.clips, width)
    state["text_pos_embedding.emb.weight"] = make(config.max_text + 2, width)
    return {
        **state, **norm("gpt.ln_f", make, width), **norm("final_norm", make, width),
        **layer("text_head", make, config.symbols + 1, width), **layer("mel_head", make, config.codes + 2, width),
        "gpt.wte.weight": state["mel_embedding.weight"], "inference_model.lm_head.1.bias": make(config.codes + 2),
    }  # fmt: skip


def clvp(config: CLVPConfig, make: Make) -> State:
    width, inner = config.width, config.heads * config.head_width
    state = {"temperature": make()}
    for part, size in (("text", config.symbols), ("speech", config.codes)):
        tower = f"{part}_transformer.transformer"
        state |= {
            f"{part}_emb.weight": make(size, width), f"to_{part}_latent.weight": make(config.latent, width),
            **norm(f"{tower}.norm", make, width), f"{tower}.attn_layers.rotary_pos_emb.inv_freq": make(16),
        }  # fmt: skip
        for i in range(config.layers):
            attend, feed = (f"{tower}.attn_layers.layers.{2 * i + j}" for j in range(2))
            state |= {f"{place}.0.0.g": make(width) for place in (attend, feed)}
            state |= {f"{attend}.1.wrap.to_{name}.weight": make(inner, width) for name in "qkv"}
            state |= {
                **layer(f"{attend}.1.wrap.to_out", make, width, inner),
                **layer(f"{feed}.1.wrap.net.0.proj", make, 2 * config.ffn, width),
                **layer(f"{feed}.1.wrap.net.3", make, width, config.ffn),
            }  # fmt: skip
    return state


def diffusion(config: DiffusionConfig, make: Make) -> State:
    width, heads, mels = config.width, config.heads, config.mel.n_mels

    def block(name: str) -> State:
        return {
            **norm(f"{name}.in_layers.0", make, width), **layer(f"{name}.in_layers.2", make, width, width, 1),
            **layer(f"{name}.emb_layers.1", make, 2 * width, width), **norm(f"{name}.out_layers.0", make, width),
            **layer(f"{name}.out_layers.3", make, width, width, 3),
        }  # fmt: skip

    state = {
        "unconditioned_embedding": make(1, width, 1), **layer("inp_block", make, width, mels, 3),
        **layer("time_embed.0", make, width, width), **layer("time_embed.2", make, width, width),
        "code_embedding.weight": make(config.codes, width), **norm("code_norm", make, width),
        **layer("latent_conditioner.0", make, width, config.latent_width, 3),
        **layer("contextual_embedder.0", make, width, mels, 3),
        **layer("contextual_embedder.1", make, 2 * width, width, 3),
        **layer("integrating_conv", make, width, 2 * width, 1), **layer("mel_head", make, mels, width, 3),
        **norm("out.0", make, width),
        **layer("out.2", make, 2 * mels, width, 3),
    }  # fmt: skip
    for i in range(3):
        state |= attention(f"code_converter.{i}", make, width, heads)
    for i in range(4):
        state |= attention(f"latent_conditioner.{i + 1}", make, width, heads)
    for i in range(5):
        state |= attention(f"contextual_embedder.{i + 2}", make, 2 * width, heads)
    places = [f"conditioning_timestep_integrator.{i}" for i in range(3)] + [f"layers.{i}" for i in range(config.layers)]
    for place in places:
        state |= {**block(f"{place}.resblk"), **attention(f"{place}.attn", make, width, heads)}
    for i in range(3):
        state |= block(f"layers.{config.layers + i}")
    return state


def random_latents(width: int, layers: int, make: Make) -> State:
    state: State = {}
    for i in range(layers + 1):
        state |= layer(f"layers.{i}", make, width, width)
    return state


def normed(name: str, make: Make, *shape: int, bias: int | None = None) -> State:
    """A layer with weight normalisation."""
    return {
        f"{name}.bias": make(shape[0] if bias is None else bias), f"{name}.weight_g": make(shape[0], 1, 1),
        f"{name}.weight_v": make(*shape),
    }  # fmt: skip


def vocoder(make: Make) -> State:
    state = {**normed("conv_pre", make, 32, 64, 7), **normed("conv_post.1", make, 1, 32, 7)}
    for i, stride in enumerate((8, 8, 4)):
        block = f"res_stack.{i}"
        kernels = f"{block}.kernel_predictor"
        state |= {
            **normed(f"{kernels}.input_conv.0", make, 64, 100, 5),
            **normed(f"{kernels}.kernel_conv", make, 4 * 32 * 64 * 3, 64, 3),
            **normed(f"{kernels}.bias_conv", make, 4 * 64, 64, 3),
            **normed(f"{block}.convt_pre.1", make, 32, 32, 2 * stride),
        }
        for j in range(3):
            for k in (1, 3):
                state |= normed(f"{kernels}.residual_convs.{j}.{k}", make, 64, 64, 3)
        for j in range(4):
            state |= normed(f"{block}.conv_blocks.{j}.1", make, 32, 32, 3)
    return state


def tokeniser(symbols: int) -> dict[str, object]:
    """A small alphabet in the format of the package ``tokenizers``."""
    named = ["[STOP]", "[UNK]", "[SPACE]", "a", "b", "c", "ab", ",", "."][:symbols]
    added = [
        {"id": i, "special": True, "content": name, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False}
        for i, name in enumerate(named[:3])
    ]  # fmt: skip
    model = {
        "type": "BPE", "dropout": None, "unk_token": "[UNK]", "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "vocab": {name: i for i, name in enumerate(named)},
        "merges": ["a b"],
    }  # fmt: skip
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None, "model": model,
    }  # fmt: skip


def files(sizes: Sizes = TINY) -> dict[str, Mapping[str, object] | Tensor]:
    """What each file of weights holds, but for the vocoder's, which has one size and that is large."""
    make = drawn()
    return {
        "autoregressive.pth": autoregressive(sizes.ar, make),
        "clvp2.pth": clvp(sizes.clvp, make),
        "diffusion_decoder.pth": diffusion(sizes.diffusion, make),
        "rlg_auto.pth": random_latents(sizes.random.voice, sizes.random.layers, make),
        "rlg_diffuser.pth": random_latents(sizes.random.decoder, sizes.random.layers, make),
        "mel_norms.pth": 1 + make(sizes.ar.mel.n_mels).abs(),
    }


def write(folder: Path, sizes: Sizes = TINY) -> Path:
    """A folder of published files, the vocoder's being empty."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, held in files(sizes).items():
        torch.save(held, folder / name)
    torch.save({}, folder / "vocoder.pth")
    (folder / "tokenizer.json").write_text(json.dumps(tokeniser(sizes.ar.symbols)))
    return folder
