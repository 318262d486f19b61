"""Autoregressive decoding with many candidates: flowtts and transformers' GPT-2, same sizes, same random weights.

    pip install -e '.[hf]'
    python benchmarks/decoding.py OUT.json [--layers 30] [--width 1024] [--heads 16] [--tokens 200] [--threads 2]

Everybody draws the same number of tokens for each candidate of one prompt, with the same filters and with a cache;
nobody may stop. They take turns, and only figures of one turn are compared; before that, the logits of both networks.

    tokens/s   tokens of all candidates, sampling and prompt included: median over all turns, with the range
    speed-up   transformers' seconds over one's own, turn by turn
    of floor   share of a step's seconds that reading the weights once would take, at the bandwidth of a product of a
               large matrix and a vector. What else must be read, the cache, is not in the floor.

"half" has its weights packed in float16 (`flowtts.decode.halved`), "int8" in int8 (`flowtts.engine`), for a CPU both.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peers_timing import CLOCKS, Contestant, Race, compete, fix_threads, machine, settler, spread, write_json
from tables import table
from torch import Tensor, nn

from flowtts.compat import require
from flowtts.decode import Decoding, decode, halved
from flowtts.engine import Engine
from flowtts.nn.causal import CausalConfig, CausalTransformer, KVCache

PEER = "transformers"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class GPT(nn.Module):
    """GPT-2 on our transformer, with a prompt: what `flowtts.decode` wants."""

    def __init__(self, config: CausalConfig, vocabulary: int, positions: int, prompt: Tensor) -> None:
        super().__init__()
        self.body = CausalTransformer(config)
        self.tokens, self.places = nn.Embedding(vocabulary, config.width), nn.Embedding(positions, config.width)
        self.head = nn.Linear(config.width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight
        self.register_buffer("prompt", prompt)
        self.cache = KVCache(1, 0)

    def embed(self, tokens: Tensor, first: int) -> Tensor:
        """(B, T) -> (B, T, D), at the places from ``first`` on."""
        out: Tensor = self.tokens(tokens) + self.places.weight[first : first + tokens.shape[1]]
        return out

    def prefill(self, candidates: int, capacity: int) -> Tensor:
        """See `flowtts.decode.Autoregressive`."""
        hidden, self.cache = self.body.prefill(self.embed(self.prompt, 0), candidates, capacity)
        out: Tensor = self.head(hidden[:, -1])
        return out

    def step(self, tokens: Tensor) -> Tensor:
        """See `flowtts.decode.Autoregressive`."""
        x = self.embed(tokens[:, None], self.prompt.shape[1] + self.cache.length)
        out: Tensor = self.head(self.body.step(x, self.cache)[:, 0])
        return out

    def keep(self, rows: Tensor) -> None:
        """See `flowtts.decode.Autoregressive`."""
        self.cache.keep(rows)

    @property
    def bytes_read(self) -> int:
        """Of the weights that a step reads, as they are stored."""
        places = self.places.weight
        return sum(p.numel() * p.element_size() for p in self.parameters() if p is not places)


def transformers_gpt2(net: GPT) -> Any:
    """The same network in transformers."""
    library, config = require("transformers", "hf"), net.body.config
    made = library.GPT2LMHeadModel(
        library.GPT2Config(
            vocab_size=net.tokens.num_embeddings, n_positions=net.places.num_embeddings, n_embd=config.width,
            n_layer=config.layers, n_head=config.heads, n_inner=config.ffn, bos_token_id=None, eos_token_id=None,
        )
    )  # fmt: skip
    names = {"ln_1": "norm_attention", "attn.c_attn": "qkv", "attn.c_proj": "out", "ln_2": "norm_ffn"}
    names |= {"mlp.c_fc": "ffn_in", "mlp.c_proj": "ffn_out"}
    with torch.no_grad():
        made.transformer.wte.weight.copy_(net.tokens.weight)
        made.transformer.wpe.weight.copy_(net.places.weight)
        made.transformer.ln_f.load_state_dict(net.body.norm.state_dict())
        for theirs, ours in zip(made.transformer.h, net.body.blocks, strict=True):
            for their_name, name in names.items():
                layer, source = theirs.get_submodule(their_name), ours.get_submodule(name)
                # Their linear layers hold their weights the other way round.
                layer.weight.copy_(source.weight.T if isinstance(source, nn.Linear) else source.weight)
                layer.bias.copy_(source.bias)
    return made.to(net.prompt.device, net.tokens.weight.dtype).eval()


def bandwidth(mib: int, device: torch.device, settle: Callable[[], None], clock: Callable[[], float]) -> float:
    """Bytes a second, the best of several products of a matrix and a vector."""
    matrix, vector = torch.ones(mib * 64, 4096, device=device), torch.ones(4096, device=device)
    seconds = []
    for _ in range(6):
        settle()
        start = clock()
        torch.mv(matrix, vector)
        settle()
        seconds.append(clock() - start)
    return matrix.numel() * 4 / min(seconds)


def contestants(net: GPT, args: argparse.Namespace) -> tuple[list[Contestant], dict[str, int]]:
    """Everybody, and the bytes of weights that each of ours reads in a step."""
    decoding = Decoding(max_tokens=args.tokens, **args.filters)
    nets, bytes_read = {"flowtts": net}, {"flowtts": net.bytes_read}
    if net.prompt.device.type == "cpu" and net.tokens.weight.dtype == torch.float32:
        nets |= {"flowtts half": halved(net), "flowtts int8": Engine("int8", torch.device("cpu")).convert(net)}
        inner = sum(m.weight.numel() for m in net.body.modules() if isinstance(m, nn.Linear))
        head = net.head.weight.numel()
        bytes_read["flowtts half"] = net.bytes_read - 2 * (inner + head)
        bytes_read["flowtts int8"] = net.bytes_read - 3 * inner

    def ours(network: GPT, tokens: int) -> int:
        settings = Decoding(max_tokens=tokens, **args.filters)
        made = decode(network, args.candidates, settings, torch.Generator().manual_seed(0), None)
        return sum(map(len, made.tokens))

    other = transformers_gpt2(net)
    ids = net.prompt
    difference = (other(ids).logits[:, -1] - net.prefill(1, 1)).abs().max()
    print(f"largest difference of the logits: {difference:.1e}", file=sys.stderr)

    def theirs(tokens: int) -> int:
        made = other.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=True, num_return_sequences=args.candidates,
            max_new_tokens=tokens, min_new_tokens=tokens, use_cache=True, pad_token_id=0, top_k=0,
            temperature=decoding.temperature, top_p=decoding.top_p, repetition_penalty=decoding.repetition,
        )  # fmt: skip
        return int(made[:, ids.shape[1] :].numel())

    found = [Contestant(name, partial(ours, n, args.tokens), warm=partial(ours, n, 2)) for name, n in nets.items()]
    found.append(Contestant(PEER, partial(theirs, args.tokens), warm=partial(theirs, 2)))
    return found, bytes_read


def results(race: Race, bytes_read: dict[str, int], speed: float, candidates: int) -> dict[str, dict[str, Any]]:
    """By name: tokens a second, speed-up and share of the floor."""
    found: dict[str, dict[str, Any]] = {}
    for name, turns in race.turns.items():
        seconds = [turn.seconds for turn in turns]
        found[name] = {
            "tokens_per_second": spread([1 / s for s in seconds]),
            "speed_up": spread([t.seconds / s for s, t in zip(seconds, race.turns[PEER], strict=True)]),
        }
        if name in bytes_read:
            found[name]["of_floor"] = spread([bytes_read[name] / speed / (s * candidates) for s in seconds])
    return found


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options; sizes are those of Tortoise."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("out", type=Path, help="JSON file to write")
    sizes = {
        "layers": 30, "width": 1024, "heads": 16, "vocabulary": 8194, "prefix": 60, "tokens": 200, "candidates": 16,
        "threads": 2, "rounds": 5, "bandwidth-mib": 512,
    }  # fmt: skip
    for name, value in sizes.items():
        made.add_argument(f"--{name}", type=int, default=value)
    made.add_argument("--minutes", type=float, default=20.0, help="no turn begins after them")
    made.add_argument("--clock", choices=CLOCKS, default="wall", help="processor: where others use the machine too")
    made.add_argument("--device", default="cpu")
    made.add_argument("--dtype", choices=DTYPES, default="float32")
    made.add_argument("--temperature", type=float, default=0.8)
    made.add_argument("--top-p", type=float, default=0.8)
    made.add_argument("--repetition", type=float, default=2.0)
    args = made.parse_args(arguments)
    args.filters = {"temperature": args.temperature, "top_p": args.top_p, "repetition": args.repetition}
    return args


@torch.no_grad()
def main(arguments: list[str] | None = None) -> None:
    """Measure, write, print."""
    args = parse(arguments)
    if arguments is None:
        fix_threads(args.threads)
    torch.set_num_threads(args.threads)
    device, clock = torch.device(args.device), CLOCKS[args.clock]
    before, settle = machine(device, args.threads), settler(device)
    rng = torch.Generator().manual_seed(0)
    prompt = torch.randint(args.vocabulary, (1, args.prefix), generator=rng)
    config = CausalConfig(args.layers, args.heads, args.width, 4 * args.width)
    net = GPT(config, args.vocabulary, args.prefix + args.tokens, prompt).eval().to(device, DTYPES[args.dtype])
    for parameter in net.parameters():
        if parameter.ndim == 2:
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=rng))
    entered, bytes_read = contestants(net, args)
    speed = bandwidth(args.bandwidth_mib, device, settle, clock)
    race = Race("decoding", entered)
    compete([race], args.minutes, args.rounds, clock, settle, partial(print, file=sys.stderr))
    # Whoever else used the machine during the first measurement would flatter us.
    speed = max(speed, bandwidth(args.bandwidth_mib, device, settle, clock))
    found = results(race, bytes_read, speed, args.candidates)
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    content = {"machine": before, "settings": settings, "bytes_per_second": speed, "bytes_of_weights": bytes_read}
    write_json(args.out, {**content, "results": found})
    rows = [[name, f["tokens_per_second"], f["speed_up"], f.get("of_floor")] for name, f in found.items()]
    print(table(["decoder", "tokens/s", "speed-up", "of floor"], rows))
    print(f"bandwidth {speed / 1e9:.1f} GB/s, weights {bytes_read['flowtts'] / 1e6:.1f} MB, {race.count} turns")


if __name__ == "__main__":
    main()
