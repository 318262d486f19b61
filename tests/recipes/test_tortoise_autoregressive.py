"""Tortoise's autoregressive model: its size, who sees whom, padding, voices, its loss, and that it learns."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from flowtts.nn.causal import CausalConfig
from flowtts.recipes.tortoise.autoregressive import AutoregressiveModel
from flowtts.recipes.tortoise.config import ARConfig
from flowtts.recipes.tortoise.data import CodeBatch
from flowtts.types import VOICEBOX_MEL

TINY = ARConfig(
    body=CausalConfig(layers=2, heads=2, width=32, ffn=48, dropout=0.0), mel=replace(VOICEBOX_MEL, n_mels=6),
    symbols=20, codes=30, max_text=12, max_codes=20, clips=2, conditioning_blocks=2,
)  # fmt: skip


def tiny(**changes: object) -> AutoregressiveModel:
    """Nothing in it is zero, so that everything that may be heard is."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = AutoregressiveModel(replace(TINY, **changes)).eval()  # type: ignore[arg-type]
        for parameter in made.parameters():
            parameter.data = torch.randn_like(parameter) * (0.5 if parameter.ndim > 1 else 0.1)
    return made


def batch() -> CodeBatch:
    """Three items of different lengths. Within an item no id comes twice, and padding is ids as well."""
    rng = torch.Generator().manual_seed(1)
    text = torch.stack([1 + torch.randperm(19, generator=rng)[:9] for _ in range(3)])
    codes = torch.stack([torch.randperm(30, generator=rng)[:14] for _ in range(3)])
    clips = torch.randn(3, 2, 15, 6, generator=rng)
    return CodeBatch(
        text, torch.tensor([9, 4, 6]), codes, torch.tensor([8, 14, 3]), clips,
        torch.tensor([[15, 11], [7, 15], [9, 0]]), torch.zeros(3, 0, 6), torch.zeros(3, dtype=torch.long),
    )  # fmt: skip


def logits(net: AutoregressiveModel, given: CodeBatch) -> tuple[Tensor, Tensor]:
    voice = net.voice(given.clips, given.clip_frames)
    text, codes = net(voice, given.text, given.text_lengths, given.codes, given.code_lengths)
    return text, codes


def alone(given: CodeBatch, item: int) -> CodeBatch:
    """One item without padding."""
    text, codes = int(given.text_lengths[item]), int(given.code_lengths[item])
    clips = int((given.clip_frames[item] > 0).sum())
    one = slice(item, item + 1)
    return CodeBatch(
        given.text[one, :text], given.text_lengths[one], given.codes[one, :codes], given.code_lengths[one],
        given.clips[one, :clips, : int(given.clip_frames[item].max())], given.clip_frames[one, :clips],
        given.features[one], given.frames[one],
    )  # fmt: skip


def test_size_is_the_published() -> None:
    with torch.device("meta"):
        made = AutoregressiveModel(ARConfig())
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in made.named_children()}
    assert sum(count.values()) == 421_526_786
    assert round(count["conditioning"] / 1e5) == 253 and round(count["body"] / 1e5) == 3779
    assert ARConfig().code_seconds == pytest.approx(1024 / 22_050)


@torch.no_grad()
def test_padded_equals_alone() -> None:
    net, given = tiny(), batch()
    text, codes = logits(net, given)
    assert text.shape == (3, 11, 21) and codes.shape == (3, 16, 32)
    for item in range(3):
        one = alone(given, item)
        said, spoken = logits(net, one)
        torch.testing.assert_close(text[item, : said.shape[1]], said[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(codes[item, : spoken.shape[1]], spoken[0], atol=1e-4, rtol=1e-4)


def test_what_comes_later_and_padding_have_no_gradient() -> None:
    net, given = tiny(), batch()
    inputs = (net.text_embedding, net.code_embedding)
    heard = given.clips.requires_grad_()

    def seen(score: Tensor) -> tuple[Tensor, Tensor]:
        """The ids of each vocabulary that a number depends on, bool."""
        net.zero_grad()
        score.backward()
        return tuple(  # type: ignore[return-value]
            torch.zeros(table.num_embeddings, dtype=torch.bool) if table.weight.grad is None
            else table.weight.grad.abs().amax(1) > 0
            for table in inputs
        )  # fmt: skip

    for item, place in ((0, 3), (1, 13), (2, 0), (2, 3)):
        text, codes = (int(n[item]) for n in (given.text_lengths, given.code_lengths))
        by_text, by_code = seen(logits(net, given)[1][item, place].sum())
        assert set(by_code.nonzero()[:, 0].tolist()) == {30, *given.codes[item, :place].tolist()} and place <= codes
        assert set(by_text.nonzero()[:, 0].tolist()) == {0, 20, *given.text[item, :text].tolist()}
        place = min(place, text)
        by_text, by_code = seen(logits(net, given)[0][item, place].sum())
        assert not by_code.any()
        assert set(by_text.nonzero()[:, 0].tolist()) == {20, *given.text[item, :place].tolist()}
    grad = heard.grad
    assert grad is not None
    assert grad[2, 0, :9].abs().amax(1).min() > 0
    assert not grad[2, 0, 9:].any() and not grad[2, 1].any() and not grad[1, 0, 7:].any()


@torch.no_grad()
def test_text_and_codes_count_their_own_positions() -> None:
    net, given = tiny(), batch()
    voice = net.voice(given.clips, given.clip_frames)
    embedded = net.embed_text(given.text[1:2], given.text_lengths[1:2])[0]
    ids = [20, *given.text[1, :4].tolist(), 0]
    torch.testing.assert_close(embedded[:6], net.text_embedding.weight[ids] + net.text_position.weight[:6])
    wanted = net.code_embedding.weight[[7, 8]] + net.code_position.weight[[3, 4]]
    torch.testing.assert_close(net.embed_codes(torch.tensor([[7, 8]]), 3)[0], wanted)
    # The whole sequence of an item, written out: the text's padding is nowhere between text and codes.
    sequence = [voice[1:2], embedded[:6], net.embed_codes(torch.tensor([[30, *given.codes[1, :14].tolist(), 31]]))[0]]
    hidden = net.final_norm(net.body(torch.cat(sequence)[None]))[0]
    said, spoken = net.hidden(voice, given.text, given.text_lengths, given.codes, given.code_lengths)
    torch.testing.assert_close(said[1, :6], hidden[1:7], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(spoken[1], hidden[7:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["first", "mean"])
@torch.no_grad()
def test_a_voice_is_the_mean_over_clips_of_one_vector_each(pooling: str) -> None:
    net, given = tiny(pooling=pooling), batch()
    voices = net.voice(given.clips, given.clip_frames)
    for item in range(3):
        each = []
        for clip, frames in zip(given.clips[item], given.clip_frames[item].tolist(), strict=True):
            if frames:
                hidden = net.conditioning.init(clip[None, :frames].transpose(1, 2))
                for block in net.conditioning.blocks:
                    hidden = block(hidden)
                each.append(hidden[0, :, 0] if pooling == "first" else hidden[0].mean(-1))
        torch.testing.assert_close(voices[item], torch.stack(each).mean(0), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_clip_of_nothing_and_the_order_of_clips_do_not_matter() -> None:
    net, given = tiny(pooling="mean"), batch()
    voices = net.voice(given.clips, given.clip_frames)
    torch.testing.assert_close(net.voice(given.clips[2:, :1], given.clip_frames[2:, :1])[0], voices[2])
    torch.testing.assert_close(net.voice(given.clips.flip(1), given.clip_frames.flip(1)), voices)
    net.channel_scale.copy_(torch.arange(1.0, 7.0))
    torch.testing.assert_close(net.voice(given.clips * net.channel_scale, given.clip_frames), voices)


@torch.no_grad()
def test_latents_are_the_states_that_predict_the_codes() -> None:
    net, given = tiny(), batch()
    voice = net.voice(given.clips, given.clip_frames)
    arguments = (voice, given.text, given.text_lengths, given.codes, given.code_lengths)
    latents = net.latents(*arguments)
    assert latents.shape == (3, 14, 32)
    assert torch.equal(latents, net.hidden(*arguments)[1][:, :-2])
    assert torch.equal(net.code_head(latents), net(*arguments)[1][:, :-2])


@torch.no_grad()
def test_loss_of_uniform_logits_is_the_logarithm_of_the_vocabulary() -> None:
    net, given = tiny(text_weight=0.25), batch()
    for head in (net.text_head, net.code_head):
        head.weight.zero_()
        assert head.bias is not None
        head.bias.zero_()
    found = net.loss(given, torch.Generator())
    assert set(found) == {"loss", "codes", "text", "accuracy"}
    assert float(found["codes"]) == pytest.approx(math.log(32)) and float(found["text"]) == pytest.approx(math.log(21))
    assert float(found["loss"]) == pytest.approx(math.log(32) + 0.25 * math.log(21))


@torch.no_grad()
def test_loss_counts_every_id_and_the_stop_once_and_nothing_else() -> None:
    net, given = tiny(), batch()
    text, codes = logits(net, given)
    found = net.loss(given, torch.Generator())
    for name, made, ids, lengths, stop in (
        ("text", text, given.text, given.text_lengths, 0), ("codes", codes, given.codes, given.code_lengths, 31)
    ):  # fmt: skip
        each, right = [], []
        for item, n in enumerate(lengths.tolist()):
            for place, wanted in enumerate([*ids[item, :n].tolist(), stop]):
                each.append(-float(made[item, place].log_softmax(-1)[wanted]))
                right.append(int(made[item, place].argmax()) == wanted)
        assert len(each) == int(lengths.sum()) + 3
        assert float(found[name]) == pytest.approx(sum(each) / len(each), rel=1e-4)
    assert float(found["accuracy"]) == pytest.approx(sum(right) / len(right))


def test_padding_teaches_nothing() -> None:
    net, given = tiny(), batch()
    text, codes = given.text.clone(), given.codes.clone()
    for item in range(3):
        text[item, int(given.text_lengths[item]) :] = 7
        codes[item, int(given.code_lengths[item]) :] = 7
    found = []
    for one in (given, replace(given, text=text, codes=codes)):
        net.zero_grad()
        net.loss(one, torch.Generator())["loss"].backward()
        found.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    assert len(found[0]) == len(list(net.parameters()))
    torch.testing.assert_close(found[0], found[1])


def test_a_batch_is_learnt() -> None:
    torch.manual_seed(0)
    net, given, rng = AutoregressiveModel(replace(TINY, text_weight=0.1)), batch(), torch.Generator()
    optimiser = torch.optim.AdamW(net.parameters(), 6e-3, weight_decay=0.0)
    for _ in range(60):
        optimiser.zero_grad()
        found = net.loss(given, rng)
        found["loss"].backward()
        optimiser.step()
    last = {name: float(value.detach()) for name, value in found.items()}
    assert last["codes"] < 0.1 and last["accuracy"] == 1 and last["text"] < 1.5, last
