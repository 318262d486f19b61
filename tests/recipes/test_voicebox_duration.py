"""The duration model of Voicebox: sizes, masks, both variants, and the recipe that joins the two models."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from flowtts.nn import TransformerConfig
from flowtts.recipes.voicebox import AudioConfig, AudioModel, DurationConfig, DurationModel, Voicebox
from flowtts.recipes.voicebox.duration import decode, encode
from flowtts.text.symbols import SYMBOLS
from flowtts.types import VOICEBOX_MEL, Batch, Phone, Sampling, UserError, Utterance

BODY = TransformerConfig(layers=2, heads=2, width=32, ffn=64, position_kernel=5, position_groups=4, dropout=0.0)


def tiny(variant: str = "regression", symbols: int = len(SYMBOLS)) -> DurationModel:
    torch.manual_seed(0)
    return DurationModel(DurationConfig(body=BODY, symbols=symbols, text_width=16, variant=variant)).eval()


def recipe() -> Voicebox:
    torch.manual_seed(0)
    audio = AudioModel(
        AudioConfig(
            body=BODY, mel=replace(VOICEBOX_MEL, n_mels=8), symbols=len(SYMBOLS), text_width=8, frames_per_token=2
        )
    )
    return Voicebox(audio, tiny(), SYMBOLS)


def phones(names: str) -> tuple[Phone, ...]:
    return tuple(Phone(name, -1 if name.startswith("SIL") else 0, 0, 1) for name in names.split())


def batch(size: int = 12, items: int = 4) -> Batch:
    rng = torch.Generator().manual_seed(0)
    ids = torch.randint(1, len(SYMBOLS), (items, size), generator=rng)
    durations = torch.randint(0, 12, (items, size), generator=rng)
    frames = durations.sum(1)
    features = torch.zeros(items, int(frames.max()), 8)
    return Batch(features, frames, ids, durations, torch.full((items,), size), torch.ones(items, dtype=torch.bool))


@pytest.mark.parametrize(("layers", "millions"), [(8, 28.13), (10, 34.96)])
def test_sizes_are_the_papers(layers: int, millions: float) -> None:
    body = TransformerConfig(layers=layers, heads=8, width=512, ffn=2048, position_kernel=15)
    with torch.device("meta"):
        made = DurationModel(DurationConfig(body=body))
    assert sum(p.numel() for p in made.parameters()) == pytest.approx(millions * 1e6, rel=2e-3)


def test_scale_is_undone_and_clipped() -> None:
    durations = torch.tensor([0.0, 1.0, 7.0, 250.0])
    assert torch.allclose(decode(encode(durations)), durations, atol=1e-4)
    assert decode(torch.tensor([-3.0]))[0] == 0


@pytest.mark.parametrize("variant", ["regression", "flow"])
def test_known_durations_come_back_and_unknown_ones_do_not_leak(variant: str) -> None:
    net = tiny(variant)
    ids = torch.arange(1, 9)
    known = torch.tensor([True] * 4 + [False] * 4)
    sampling = Sampling(solver="euler", steps=4)
    given = torch.tensor([3, 0, 9, 4, 50, 50, 50, 50])
    made = net.predict(ids, known, given, sampling, torch.Generator().manual_seed(0))
    assert torch.equal(made[:4], given[:4].float()) and (made >= 0).all()
    other = net.predict(ids, known, torch.where(known, given, 1), sampling, torch.Generator().manual_seed(0))
    assert torch.equal(made, other)


def test_flow_durations_vary_with_the_seed_and_regression_does_not() -> None:
    ids, known, given = torch.arange(1, 9), torch.zeros(8, dtype=torch.bool), torch.zeros(8)
    for variant, equal in (("regression", True), ("flow", False)):
        net = tiny(variant)
        a, b = (net.predict(ids, known, given, Sampling(steps=2), torch.Generator().manual_seed(s)) for s in (0, 1))
        assert torch.equal(a, b) is equal


@pytest.mark.parametrize("variant", ["regression", "flow"])
def test_overfits_one_batch(variant: str) -> None:
    net, data, rng = tiny(variant).train(), batch(), torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(net.parameters(), 5e-3)
    losses = []
    for _ in range(150):
        optimiser.zero_grad()
        loss = net.loss(data, rng)["loss"]
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) < 0.45 * sum(losses[:10])


def test_untranscribed_items_teach_no_durations() -> None:
    data = batch()
    silent = replace(data, transcribed=torch.zeros(4, dtype=torch.bool))
    assert float(tiny().loss(silent, torch.Generator().manual_seed(0))["loss"]) == 0.0


def test_infill_keeps_known_frames_and_fills_the_rest() -> None:
    box = recipe()
    said = phones("SIL HH_B AH0_I L_I OW1_E SIL.")
    durations = torch.tensor([2, 5, 4, 6, 8, 3])
    features = torch.randn(28, 8)
    known = torch.arange(28) < 11
    sampling = Sampling(solver="euler", steps=3, guidance=1.7)
    made = box.infill(said, durations, features, known, sampling, torch.Generator().manual_seed(0))
    assert torch.equal(made.features[:11], features[:11])
    assert made.nfe == 3 and made.network_calls == 6
    # What stands in the unknown part of the input must not matter.
    other = box.infill(
        said, durations, torch.where(known[:, None], features, 7.0), known, sampling, torch.Generator().manual_seed(0)
    )
    assert torch.equal(made.features, other.features)


def test_say_returns_the_target_alone_and_hears_the_prompt() -> None:
    box, said = recipe(), phones("SIL HH_B AY1_E SIL.")
    prompt = Utterance(phones("SIL Y_B EH1_I S_E SIL."), torch.tensor([2, 6, 7, 9, 4]), torch.randn(28, 8))
    durations = torch.tensor([0, 8, 12, 3])
    sampling = Sampling(solver="euler", steps=2)
    made = box.say(said, durations, prompt, sampling, torch.Generator().manual_seed(0))
    assert made.features.shape == (23, 8) and torch.equal(made.durations, durations)
    louder = replace(prompt, features=prompt.features + 2)
    assert not torch.equal(
        made.features, box.say(said, durations, louder, sampling, torch.Generator().manual_seed(0)).features
    )
    assert torch.equal(
        made.features, box.say(said, durations, prompt, sampling, torch.Generator().manual_seed(0)).features
    )
    assert box.say(said, durations, None, sampling, torch.Generator().manual_seed(0)).features.shape == (23, 8)


def test_durations_are_predicted_for_the_target_alone() -> None:
    box, said = recipe(), phones("SIL HH_B AY1_E SIL.")
    prompt = Utterance(phones("SIL Y_B EH1_I S_E SIL."), torch.tensor([2, 6, 7, 9, 4]), torch.randn(28, 8))
    slow = replace(prompt, durations=prompt.durations * 3)
    rng = torch.Generator().manual_seed(0)
    assert box.durations(said, prompt, rng).shape == (4,)
    assert not torch.equal(box.durations(said, prompt, rng), box.durations(said, slow, rng))


def test_refuses_models_of_another_vocabulary() -> None:
    box = recipe()
    with pytest.raises(UserError, match="vocabulary"):
        Voicebox(box.audio, tiny(symbols=7), SYMBOLS)


def test_refuses_to_say_nothing() -> None:
    with pytest.raises(UserError, match="nothing to say"):
        recipe().say(
            phones("SIL A_B".replace("A_B", "SIL.")), torch.tensor([0, 0]), None, Sampling(), torch.Generator()
        )
