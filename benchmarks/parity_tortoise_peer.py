"""The public Tortoise's half of ``parity_tortoise.py``: run by an interpreter that has tortoise-tts, without flowtts.

    python benchmarks/parity_tortoise_peer.py OUT [small | wide]

Makes its networks with random weights, saves them as their published files in OUT, shows them random inputs and writes
what went in and what came out to OUT/io.safetensors. OUT/about.json has the versions, the sizes, and the names and
shapes of all weights at the published sizes.
"""

from __future__ import annotations

import json
import shutil
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import transformers  # noqa: F401 (before torchaudio is tampered with, which it looks for)
from peers_imports import import_torchaudio
from safetensors.torch import save_file
from torch import Tensor

SIZES: dict[str, dict[str, dict[str, int]]] = {
    "small": {
        "ar": {"layers": 2, "model_dim": 64, "heads": 4, "max_text_tokens": 16, "max_mel_tokens": 24, "codes": 32},
        "clvp": {"dim": 64, "latent": 48, "depth": 2, "heads": 2, "codes": 32},
        "diffusion": {"model_channels": 64, "num_layers": 2, "num_heads": 4, "in_latent_channels": 64, "in_tokens": 33},
        "random": {"voice": 64, "decoder": 128},
    },
    "wide": {
        "ar": {
            "layers": 2, "model_dim": 1024, "heads": 16, "max_text_tokens": 402, "max_mel_tokens": 604, "codes": 8192,
        },
        "clvp": {"dim": 768, "latent": 768, "depth": 2, "heads": 12, "codes": 8192},
        "diffusion": {
            "model_channels": 1024, "num_layers": 1, "num_heads": 16, "in_latent_channels": 1024, "in_tokens": 8193,
        },
        "random": {"voice": 1024, "decoder": 2048},
    },
}  # fmt: skip
"""Nothing published is smaller in "wide" than the number of layers; UnivNet has its published size in both."""

FULL = json.loads(json.dumps(SIZES["wide"]))
FULL["ar"]["layers"], FULL["clvp"]["depth"], FULL["diffusion"]["num_layers"] = 30, 20, 10

TEXTS = (
    "Hello there, General Kenobi!",
    "The old man opened the window; he listened to the wind.",
    '"Why not?" she asked - softly. It\'s a well-known, half-hearted café façade…',
    "Naïve—yes, “quoted” text, and ‘single’ ones: don't you dare!",
)

Io = dict[str, Tensor]


def main() -> None:
    """As the module says."""
    out, scale = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "small"
    out.mkdir(parents=True, exist_ok=True)
    _torchaudio()
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    sizes, io = SIZES[scale], Io()
    made: dict[str, torch.nn.Module] = {}
    for name, make, show in (
        ("autoregressive", autoregressive, show_autoregressive),
        ("clvp2", clvp, show_clvp),
        ("diffusion_decoder", diffusion, show_diffusion),
        ("vocoder", vocoder, show_vocoder),
    ):
        made[name] = stirred(make(sizes))
        state = made[name].state_dict()
        torch.save({"model_g": state} if name == "vocoder" else state, out / f"{name}.pth")
        show(made[name], io)
    show_random(sizes, io, out)
    missing = show_mels(io)
    data = Path(import_module("tortoise").__path__[0]) / "data"
    shutil.copyfile(data / "tokenizer.json", out / "tokenizer.json")
    torch.save(io["norms"].clone(), out / "mel_norms.pth")
    save_file({name: x.contiguous().clone() for name, x in io.items()}, out / "io.safetensors")
    tokeniser = import_module("tortoise.utils.tokenizer").VoiceBpeTokenizer()
    versions = {name: version(name) for name in ("tortoise-tts", "torch", "transformers", "tokenizers")}
    about = {
        "versions": versions, "python": sys.version.split()[0], "sizes": sizes, "missing": missing,
        "texts": {text: tokeniser.encode(text) for text in TEXTS}, "full": full(),
    }  # fmt: skip
    (out / "about.json").write_text(json.dumps(about), encoding="utf-8")


def stirred(model: torch.nn.Module) -> torch.nn.Module:
    """In evaluation mode, with no weight left at zero or one, where mistakes would hide."""
    for weight in model.parameters():
        weight.add_(torch.randn_like(weight) * 0.03)
    model.eval()
    return model


def full() -> dict[str, dict[str, list[int]]]:
    """Names and shapes of the published files' weights."""
    makers = {
        "autoregressive": autoregressive, "clvp2": clvp, "diffusion_decoder": diffusion, "vocoder": vocoder,
    }  # fmt: skip
    with torch.device("meta"):
        made = {name: make(FULL).state_dict() for name, make in makers.items()}
        converter = import_module("tortoise.models.random_latent_generator").RandomLatentConverter
        made["rlg_auto"], made["rlg_diffuser"] = (converter(width).state_dict() for width in FULL["random"].values())
    return {name: {key: list(x.shape) for key, x in state.items()} for name, state in made.items()}


def autoregressive(sizes: dict[str, dict[str, int]]) -> torch.nn.Module:
    """As ``api.py`` makes it."""
    own = dict(sizes["ar"])
    codes = own.pop("codes")
    made: torch.nn.Module = import_module("tortoise.models.autoregressive").UnifiedVoice(
        **own, max_conditioning_inputs=2, number_text_tokens=255, start_text_token=255, number_mel_codes=codes + 2,
        start_mel_token=codes, stop_mel_token=codes + 1, checkpointing=False, train_solo_embeddings=False,
    )  # fmt: skip
    return made


def clvp(sizes: dict[str, dict[str, int]]) -> torch.nn.Module:
    """As ``api.py`` makes it."""
    own = sizes["clvp"]
    made: torch.nn.Module = import_module("tortoise.models.clvp").CLVP(
        dim_text=own["dim"], dim_speech=own["dim"], dim_latent=own["latent"], num_text_tokens=256,
        text_enc_depth=own["depth"], text_seq_len=350, text_heads=own["heads"], num_speech_tokens=own["codes"],
        speech_enc_depth=own["depth"], speech_heads=own["heads"], speech_seq_len=430, use_xformers=True,
    )  # fmt: skip
    return made


def diffusion(sizes: dict[str, dict[str, int]]) -> torch.nn.Module:
    """As ``api.py`` makes it."""
    made: torch.nn.Module = import_module("tortoise.models.diffusion_decoder").DiffusionTts(
        **sizes["diffusion"], in_channels=100, out_channels=200, dropout=0, use_fp16=False, layer_drop=0,
        unconditioned_percentage=0,
    )  # fmt: skip
    return made


def vocoder(sizes: dict[str, dict[str, int]]) -> torch.nn.Module:
    """UnivNet; it has one size."""
    del sizes
    made: torch.nn.Module = import_module("tortoise.models.vocoder").UnivNetGenerator()
    return made


def show_autoregressive(model: Any, io: Io) -> None:
    """Voice, logits and latents."""
    codes = model.number_mel_codes - 2
    io["norms"] = 2 + 4 * torch.rand(80)
    io["ar.clips"] = torch.randn(2, 2, 30, 80) * 2 - 5
    io["ar.text"], io["ar.codes"] = torch.randint(1, 255, (2, 7)), torch.randint(codes, (2, 9))
    io["ar.voice"] = model.get_conditioning((io["ar.clips"] / io["norms"]).transpose(2, 3))
    heads = {"ar.text_logits": model.text_head, "ar.code_logits": model.mel_head}
    seen: Io = {}

    def keep(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Tensor) -> None:
            seen[name] = output

        return hook

    hooks = [head.register_forward_hook(keep(name)) for name, head in heads.items()]
    arguments = (
        io["ar.voice"], io["ar.text"], torch.tensor([7, 7]), io["ar.codes"].clone(), torch.tensor([9 * 1024] * 2),
    )  # fmt: skip
    model(*arguments, clip_inputs=False)
    for hook in hooks:
        hook.remove()
    io.update(seen)
    io["ar.latents"] = model(*arguments, return_latent=True, clip_inputs=False)


def show_clvp(model: Any, io: Io) -> None:
    """Scores."""
    io["clvp.text"] = torch.randint(1, 256, (3, 11))
    io["clvp.codes"] = torch.randint(model.speech_emb.num_embeddings, (3, 20))
    io["clvp.scores"] = model(io["clvp.text"], io["clvp.codes"], return_loss=False)


def show_diffusion(model: Any, io: Io) -> None:
    """Voice, one evaluation from codes, from latents and from nothing, and whole samplings."""
    io["diffusion.clips"] = torch.randn(2, 2, 36, 100) * 2 - 5
    io["diffusion.voice"] = model.get_conditioning(io["diffusion.clips"].transpose(2, 3))
    io["diffusion.codes"] = torch.randint(model.code_embedding.num_embeddings - 1, (2, 9))
    io["diffusion.latents"] = torch.randn(2, 9, model.latent_conditioner[0].in_channels)
    frames = 9 * 4 * 24_000 // 22_050
    io["diffusion.x"], io["diffusion.steps"] = torch.randn(2, frames, 100), torch.tensor([3, 1234])
    for source in ("codes", "latents"):
        aligned = model.timestep_independent(io[f"diffusion.{source}"], io["diffusion.voice"], frames, False)
        io[f"diffusion.from_{source}"] = _at(model, io, precomputed_aligned_embeddings=aligned)
    io["diffusion.from_nothing"] = _at(model, io, precomputed_aligned_embeddings=aligned, conditioning_free=True)
    one = aligned[:1]
    io["diffusion.ddpm"], io["diffusion.ddim"] = (_sampled(model, one, loop) for loop in ("p", "ddim"))


def _at(model: Any, io: Io, **condition: Any) -> Tensor:
    made: Tensor = model(io["diffusion.x"].transpose(1, 2), io["diffusion.steps"], **condition)
    return made.transpose(1, 2)


def _sampled(model: Any, aligned: Tensor, loop: str) -> Tensor:
    """Six steps with conditioning-free guidance; every draw is (B, T, C) from one generator.

    Guidance is constant here. The program's own grows with the steps, from k / N to k, which is k/2 + 1 with
    ``schedule=linear`` of ours but for the 1 / N.
    """
    module = import_module("tortoise.utils.diffusion")
    diffuser = module.SpacedDiffusion(
        use_timesteps=module.space_timesteps(4000, [6]), model_mean_type="epsilon", model_var_type="learned_range",
        loss_type="mse", betas=module.get_named_beta_schedule("linear", 4000), conditioning_free=True,
        conditioning_free_k=2.0, ramp_conditioning_free=False,
    )  # fmt: skip
    rng = torch.Generator().manual_seed(5)

    def draw(like: Tensor) -> Tensor:
        return torch.randn(like.transpose(1, 2).shape, generator=rng).transpose(1, 2)

    noise = draw(torch.empty(1, 100, aligned.shape[-1]))
    before = torch.randn_like
    torch.randn_like = draw  # type: ignore[assignment]
    try:
        made: Tensor = getattr(diffuser, f"{loop}_sample_loop")(
            model, noise.shape, noise=noise, model_kwargs={"precomputed_aligned_embeddings": aligned}, progress=False
        )
    finally:
        torch.randn_like = before
    return made.transpose(1, 2)


def show_vocoder(model: Any, io: Io) -> None:
    """Sound, once with weight normalisation removed as when it is used."""
    io["vocoder.mel"], io["vocoder.noise"] = torch.randn(2, 12, 100) * 2 - 5, torch.randn(2, 22, 64)
    model.eval(inference=True)
    io["vocoder.audio"] = model.inference(io["vocoder.mel"].transpose(1, 2), io["vocoder.noise"].transpose(1, 2))[:, 0]


def show_random(sizes: dict[str, dict[str, int]], io: Io, out: Path) -> None:
    """Random voices."""
    converter = import_module("tortoise.models.random_latent_generator").RandomLatentConverter
    for name, (part, width) in zip(("rlg_auto", "rlg_diffuser"), sizes["random"].items(), strict=True):
        model = stirred(converter(width))
        torch.save(model.state_dict(), out / f"{name}.pth")
        torch.manual_seed(3)
        io[f"random.{part}"] = model(torch.zeros(2))
        torch.manual_seed(3)
        io[f"random.{part}_noise"] = torch.randn(2, width)


def show_mels(io: Io) -> list[str]:
    """Both mels of noise; returns what could not be made, with the reason."""
    io["mel.samples"] = 0.1 * torch.randn(1, 12_000)
    io["mel.decoder"] = import_module("tortoise.utils.audio").wav_to_univnet_mel(
        io["mel.samples"], do_normalization=True, device="cpu"
    ).transpose(1, 2)  # fmt: skip
    try:
        made = import_module("tortoise.models.arch_util").TorchMelSpectrogram(mel_norm_file=None)(io["mel.samples"])
    except AttributeError:
        return ["mel.codes: torchaudio cannot be imported"]
    io["mel.codes"] = made.transpose(1, 2)
    return []


def _torchaudio() -> None:
    """Make its import work, in an absence as an empty module."""
    try:
        import_torchaudio()
    except ImportError:
        sys.modules["torchaudio"] = ModuleType("torchaudio")


if __name__ == "__main__":
    main()
