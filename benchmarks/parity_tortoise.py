"""Our Tortoise beside the public one, tortoise-tts 3.0.0 from PyPI, with the same random weights.

    python -m venv PEER
    PEER/bin/pip install torch transformers==4.31.0 safetensors librosa einops rotary_embedding_torch inflect unidecode
    PEER/bin/pip install --no-deps tortoise-tts==3.0.0 torchaudio
    python benchmarks/parity_tortoise.py --peer PEER/bin/python [--scale wide] [--keep FOLDER] [--json OUT.json]

The two need other versions of transformers, so that the public program runs in its own interpreter
(``parity_tortoise_peer.py``): it saves its networks as its published files, with what went in and what came out. Here
those files go through ``flowtts convert tortoise``, and what was converted is shown the same inputs. A line of the
table says how far the outputs are apart at most, and how large they are at most. All is float32 on a CPU.

"small" has small networks, "wide" the published widths with fewer layers. The names and the shapes of all weights are
compared at the published sizes, without memory for them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tables import table
from torch import Tensor, nn

from flowtts import __version__, checkpoint
from flowtts.audio.mel import LogMel
from flowtts.config import load as load_config
from flowtts.nn.causal import CausalConfig
from flowtts.published import check
from flowtts.recipes.tortoise import convert
from flowtts.recipes.tortoise.autoregressive import AutoregressiveModel
from flowtts.recipes.tortoise.clvp import CLVP
from flowtts.recipes.tortoise.config import TORTOISE_CODE_MEL, TORTOISE_MEL, ARConfig, CLVPConfig, DiffusionConfig
from flowtts.recipes.tortoise.convert import Sizes
from flowtts.recipes.tortoise.diffusion import DiffusionDecoder
from flowtts.recipes.tortoise.random import RandomConfig, RandomVoices
from flowtts.recipes.tortoise.tokens import BPETokens
from flowtts.registry import converter
from flowtts.types import Sampling
from flowtts.vocoders.univnet import UnivNet, UnivNetConfig, UnivNetVocoder, from_published

BOUND = 1e-4
"""How far outputs may be apart."""


@dataclass(frozen=True)
class Row:
    """A comparison.

    Attributes:
        what: is compared.
        apart: the largest difference.
        largest: the largest value.
    """

    what: str
    apart: float
    largest: float


Io = Mapping[str, Tensor]


def run_peer(python: str, scale: str, out: Path) -> None:
    """The public program's half."""
    script = Path(__file__).with_name("parity_tortoise_peer.py")
    done = subprocess.run(
        [python, "-W", "ignore", str(script), str(out), scale], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"the public program's half failed:\n{done.stderr}")


def sizes_of(about: Mapping[str, Any]) -> Sizes:
    """Our configurations of the public program's sizes."""
    ar, clvp, diffusion = (about["sizes"][name] for name in ("ar", "clvp", "diffusion"))
    width, judge = ar["model_dim"], clvp["dim"]
    return Sizes(
        ar=ARConfig(
            body=CausalConfig(layers=ar["layers"], heads=ar["heads"], width=width, ffn=4 * width), codes=ar["codes"],
            max_text=ar["max_text_tokens"], max_codes=ar["max_mel_tokens"],
        ),
        clvp=CLVPConfig(
            width=judge, latent=clvp["latent"], layers=clvp["depth"], heads=clvp["heads"], ffn=2 * judge,
            codes=clvp["codes"],
        ),
        diffusion=DiffusionConfig(
            width=diffusion["model_channels"], layers=diffusion["num_layers"], heads=diffusion["num_heads"],
            codes=diffusion["in_tokens"], latent_width=diffusion["in_latent_channels"],
        ),
        random=RandomConfig(**about["sizes"]["random"]),
    )  # fmt: skip


def compare(folder: Path) -> list[Row]:
    """Convert what the public program left in a folder, and compare.

    Raises:
        UserError: a weight has no place.
    """
    about, io = json.loads((folder / "about.json").read_text()), checkpoint.load_tensors(folder / "io.safetensors")
    made = convert.convert(folder, folder / "converted", others=converter, sizes=sizes_of(about))
    with torch.inference_mode():
        pairs = [
            *_autoregressive(made, io), *_clvp(made / "clvp", io), *_diffusion(made / "diffusion", io),
            *_vocoder(made / "vocoder", io), *_random(made / "random", io), *_mels(io),
        ]  # fmt: skip
    return [Row(what, _apart(ours, theirs), float(theirs.abs().max())) for what, ours, theirs in pairs]


def _apart(ours: Tensor, theirs: Tensor) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    return float((ours - theirs).abs().max())


def other_texts(folder: Path) -> list[str]:
    """Texts whose ids differ."""
    about, tokens = json.loads((folder / "about.json").read_text()), BPETokens(folder / "tokenizer.json")
    return [text for text, ids in about["texts"].items() if tokens.encode(text).tolist() != [*ids, 0]]


def check_names(folder: Path) -> int:
    """See that every weight has its place at the published sizes; returns how many there are.

    Raises:
        UserError: one has none.
    """
    full = json.loads((folder / "about.json").read_text())["full"]
    named = {
        file: {name: torch.empty(shape, device="meta") for name, shape in weights.items()}
        for file, weights in full.items()
    }
    sizes, norms = Sizes(), torch.ones(80, device="meta")
    ours: list[tuple[str, Callable[[], nn.Module], Mapping[str, Tensor]]] = [
        (
            "autoregressive", lambda: AutoregressiveModel(sizes.ar),
            convert.autoregressive(named["autoregressive"], norms, "autoregressive"),
        ),
        ("clvp2", lambda: CLVP(sizes.clvp), convert.judge(named["clvp2"], "clvp2")),
        (
            "diffusion_decoder", lambda: DiffusionDecoder(sizes.diffusion),
            convert.diffusion(named["diffusion_decoder"], "diffusion_decoder"),
        ),
        ("vocoder", lambda: UnivNet(UnivNetConfig()), from_published(named["vocoder"])),
        (
            "rlg", lambda: RandomVoices(sizes.random),
            convert.random_voices(named["rlg_auto"], named["rlg_diffuser"], "rlg_auto", "rlg_diffuser"),
        ),
    ]  # fmt: skip
    for file, make, state in ours:
        check(make, state, file)
    return sum(len(weights) for weights in named.values())


Pair = tuple[str, Tensor, Tensor]


def _loaded(folder: Path, make: Callable[[Any], nn.Module], cls: type[Any]) -> Any:
    saved = checkpoint.load(folder)
    network = make(load_config(cls, saved.config))
    checkpoint.load_state(network, saved.state, folder)
    return network.eval()


def _whole(x: Tensor) -> Tensor:
    """(B,) lengths of a batch without padding."""
    return torch.full((len(x),), x.shape[1])


def _autoregressive(folder: Path, io: Io) -> Iterator[Pair]:
    model = _loaded(folder, AutoregressiveModel, ARConfig)
    clips, text, codes = io["ar.clips"], io["ar.text"], io["ar.codes"]
    yield "AR: voice", model.voice(clips, torch.full(clips.shape[:2], clips.shape[2])), io["ar.voice"]
    arguments = (io["ar.voice"], text, _whole(text), codes, _whole(codes))
    said, spoken = model(*arguments)
    yield "AR: logits of text", said, io["ar.text_logits"]
    yield "AR: logits of codes", spoken, io["ar.code_logits"]
    yield "AR: latents", model.latents(*arguments), io["ar.latents"]


def _clvp(folder: Path, io: Io) -> Iterator[Pair]:
    model = _loaded(folder, CLVP, CLVPConfig)
    text, codes = io["clvp.text"], io["clvp.codes"]
    made = model.score(text, torch.ones_like(text).bool(), codes, torch.ones_like(codes).bool())
    yield "CLVP: scores", made, io["clvp.scores"]


def _diffusion(folder: Path, io: Io) -> Iterator[Pair]:
    model = _loaded(folder, DiffusionDecoder, DiffusionConfig)
    config, x, voice = model.config, io["diffusion.x"], io["diffusion.voice"]
    clips = (io["diffusion.clips"] - config.mel.mean) / config.mel.std
    yield "diffusion: voice", model.conditioning(clips), voice
    t = 1 - (io["diffusion.steps"].double() + 1) / config.steps
    for source in ("codes", "latents"):
        known = io[f"diffusion.{source}"]
        cond = model.condition(known, _whole(known), voice, _whole(x))
        yield f"diffusion: from {source}", model(x, t, cond), io[f"diffusion.from_{source}"]
    yield "diffusion: from nothing", model(x, t, cond.null()), io["diffusion.from_nothing"]
    one = model.condition(known[:1], _whole(known[:1]), voice[:1], _whole(x[:1]))
    for solver in ("ddpm", "ddim"):
        sampling = Sampling(solver=solver, grid="uniform", steps=6, guidance=3.0, temperature=1.0)
        made = model.sample(one, sampling, torch.Generator().manual_seed(5))
        yield f"diffusion: 6 steps, {solver}", made.x, io[f"diffusion.{solver}"]


def _vocoder(folder: Path, io: Io) -> Iterator[Pair]:
    vocoder = UnivNetVocoder.load(folder)
    features = (io["vocoder.mel"] - vocoder.spec.mean) / vocoder.spec.std
    yield "UnivNet: sound", vocoder.sound(features, io["vocoder.noise"]), io["vocoder.audio"]


def _random(folder: Path, io: Io) -> Iterator[Pair]:
    model = _loaded(folder, RandomVoices, RandomConfig)
    yield "random voice: AR", model.voice(io["random.voice_noise"]), io["random.voice"]
    yield "random voice: diffusion", model.decoder(io["random.decoder_noise"]), io["random.decoder"]


def _mels(io: Io) -> Iterator[Pair]:
    if "mel.codes" in io:
        yield "mel of codes", LogMel(TORTOISE_CODE_MEL)(io["mel.samples"]), io["mel.codes"]
    # The public program centres frames when it hears; half a hop apart otherwise.
    spec = replace(TORTOISE_MEL, center=True)
    yield "mel of the decoder", LogMel(spec)(io["mel.samples"]), io["mel.decoder"]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--peer", required=True, help="a Python that has tortoise-tts")
    parser.add_argument("--scale", choices=("small", "wide"), default="small")
    parser.add_argument("--keep", type=Path, help="an empty folder for the files in between")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as passing:
        folder = args.keep or Path(passing)
        run_peer(args.peer, args.scale, folder)
        rows, names, texts = compare(folder), check_names(folder), other_texts(folder)
        about = json.loads((folder / "about.json").read_text())
    versions = {"flowtts": __version__, "torch": torch.__version__, "peer": about["versions"]}
    if args.json:
        written = {"versions": versions, "scale": args.scale, "weights": names, "rows": [asdict(row) for row in rows]}
        args.json.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    print(f"flowtts {__version__} with torch {torch.__version__}; {args.scale} networks with random weights")
    print("beside " + ", ".join(f"{name} {number}" for name, number in about["versions"].items()))
    print(table(("what", "apart", "largest"), [(row.what, f"{row.apart:.1e}", f"{row.largest:.3g}") for row in rows]))
    print(f"{names} weights have their places at the published sizes")
    for missing in about["missing"]:
        print(f"left out: {missing}")
    for text in texts:
        print(f"other ids: {text}")
    return int(bool(texts) or any(not row.apart <= BOUND for row in rows))


if __name__ == "__main__":
    sys.exit(main())
