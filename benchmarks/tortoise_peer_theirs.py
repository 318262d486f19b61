"""The public Tortoise's half of ``tortoise_peer.py``: run by an interpreter that has tortoise-tts, without flowtts.

    python benchmarks/tortoise_peer_theirs.py SETTINGS.json

Makes its networks with random weights and works on what it is told, a JSON object on each line of standard input; the
answer, on standard output, says how long it took. What the program itself prints goes to standard error.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import parity_tortoise_peer as public
import torch
from torch.nn import functional as F

NEVER = -1e9
"""Added to the logit of the stop code: both sides draw as many codes as they are asked for."""

GUIDANCE = 2.0
"""cond_free_k of all presets but the fastest."""


class Program:
    """The public program with networks of the asked sizes.

    Args:
        settings: "sizes" as ``parity_tortoise_peer`` spells them, "device", "text", "count", "tokens" and "steps".
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings, self.device = settings, torch.device(settings["device"])
        api, sizes = importlib.import_module("tortoise.api"), settings["sizes"]
        self.api = api
        # Its constructor fetches the published weights.
        self.tts = api.TextToSpeech.__new__(api.TextToSpeech)
        ar: Any = public.stirred(public.autoregressive(sizes))
        ar.mel_head.bias[ar.stop_mel_token] = NEVER
        ar.post_init_gpt2_config(use_deepspeed=False, kv_cache=True, half=False)
        vocoder: Any = public.stirred(public.vocoder(sizes))
        vocoder.eval(inference=True)
        self.tts.__dict__.update(
            autoregressive=ar.to(self.device), diffusion=public.stirred(public.diffusion(sizes)).to(self.device),
            clvp=public.stirred(public.clvp(sizes)).to(self.device), vocoder=vocoder.to(self.device), cvvp=None,
            autoregressive_batch_size=settings["count"], device=self.device, half=False, enable_redaction=False,
            tokenizer=importlib.import_module("tortoise.utils.tokenizer").VoiceBpeTokenizer(),
            # It moves networks to the GPU and back for every text; here they stay.
            temporary_cuda=staying,
        )  # fmt: skip
        width = sizes["ar"]["model_dim"]
        self.voice = torch.randn(1, width, device=self.device)
        self.decoder_voice = torch.randn(1, 2 * sizes["diffusion"]["model_channels"], device=self.device)
        ids = self.tts.tokenizer.encode(settings["text"])
        self.text = F.pad(torch.tensor([ids], dtype=torch.int32), (0, 1)).to(self.device)

    def draw(self, tokens: int) -> int:
        """Codes of all candidates."""
        with self.halved():
            codes = self.tts.autoregressive.inference_speech(
                self.voice, self.text, do_sample=True, top_p=0.8, temperature=0.8,
                num_return_sequences=self.settings["count"], length_penalty=1.0, repetition_penalty=2.0,
                max_generate_length=tokens,
            )  # fmt: skip
        assert codes.shape == (self.settings["count"], tokens), codes.shape
        return int(codes.numel())

    def decode(self, tokens: int) -> int:
        """From one candidate's codes to a mel."""
        ar = self.tts.autoregressive
        codes = torch.arange(tokens, device=self.device)[None] % (ar.number_mel_codes - 2)
        lengths = torch.tensor([self.text.shape[-1]], device=self.device)
        with self.halved():
            latents = ar(
                self.voice, self.text, lengths, codes, torch.tensor([tokens * 1024], device=self.device),
                return_latent=True, clip_inputs=False,
            )  # fmt: skip
        diffuser = self.api.load_discrete_vocoder_diffuser(
            desired_diffusion_steps=self.settings["steps"], cond_free=True, cond_free_k=GUIDANCE
        )
        self.api.do_spectrogram_diffusion(self.tts.diffusion, diffuser, latents, self.decoder_voice, verbose=False)
        return 1

    def whole(self, tokens: int) -> int:
        """From a text to sound."""
        self.tts.tts(
            self.settings["text"], conditioning_latents=(self.voice, self.decoder_voice), verbose=False,
            num_autoregressive_samples=self.settings["count"], max_mel_tokens=tokens,
            diffusion_iterations=self.settings["steps"], cond_free=True, cond_free_k=GUIDANCE,
        )  # fmt: skip
        return 1

    def halved(self) -> contextlib.AbstractContextManager[Any]:
        """As its ``half`` computes the autoregressive model."""
        return torch.autocast(self.device.type, torch.float16, enabled=self.tts.half)

    def settle(self) -> None:
        """Wait for a GPU."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def timed(self, work: str, tokens: int, half: bool) -> dict[str, Any]:
        """Do something; the size of the work and both clocks' seconds."""
        self.tts.half = half
        actions: dict[str, Callable[[int], int]] = {"draw": self.draw, "decode": self.decode, "whole": self.whole}
        self.settle()
        wall, cpu = time.perf_counter(), time.process_time()
        size = actions[work](tokens)
        self.settle()
        return {"work": size, "wall": time.perf_counter() - wall, "processor": time.process_time() - cpu}

    def about(self) -> dict[str, Any]:
        """What the other side needs to know."""
        data = Path(importlib.import_module("tortoise").__path__[0]) / "data"
        names = ("autoregressive", "diffusion", "clvp", "vocoder")
        count = {name: sum(p.numel() for p in getattr(self.tts, name).parameters()) for name in names}
        return {
            "versions": {name: version(name) for name in ("tortoise-tts", "torch", "transformers", "tokenizers")},
            "tokeniser": str(data / "tokenizer.json"), "ids": self.text[0].tolist(), "parameters": count,
        }  # fmt: skip


@contextlib.contextmanager
def staying(model: Any) -> Iterator[Any]:
    """A network where it is."""
    yield model


def main() -> None:
    """Answer until there are no more questions."""
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # Its half-made torchaudio must be in place before the program looks for it.
    public._torchaudio()
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    program = Program(settings)
    answers.write(json.dumps(program.about()) + "\n")
    answers.flush()
    for line in sys.stdin:
        answers.write(json.dumps(program.timed(**json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
