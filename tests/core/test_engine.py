from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from flowtts import device as devices
from flowtts import engine as engines
from flowtts.batching import plan_batches
from flowtts.engine import ENGINES, Engine, Int8Linear, choose_engine
from flowtts.nn import Transformer, TransformerConfig
from flowtts.tuning import Measured, best, fingerprint, keep, measurements, tune
from flowtts.types import UserError

CPU = torch.device("cpu")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 32)
        self.body = Transformer(TransformerConfig(2, 2, 32, 64, position_kernel=3, position_groups=4, block_kernel=3))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.project(x.to(self.project.weight.dtype))
        out: Tensor = self.body(hidden, torch.ones(x.shape[:2], dtype=torch.bool))
        return out.float()


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(autouse=True)
def no_measurements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWTTS_CACHE", str(tmp_path))


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize(("name", "low", "high"), [("eager", 0, 0), ("bf16", 1e-5, 0.03), ("int8", 1e-5, 0.03)])
def test_engines_compute_the_same_network(net: Net, rng: torch.Generator, name: str, low: float, high: float) -> None:
    x = torch.randn(2, 21, 8, generator=rng)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    engine = choose_engine(name, net, CPU)
    with torch.inference_mode(), engine.running():
        exact, found = net(x), engine.convert(net)(x)
    assert low <= relative(found, exact) <= high
    # The network that was given is not touched.
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in before.items())


def test_autocast_keeps_the_weights_and_rounds_the_products(net: Net, rng: torch.Generator) -> None:
    x = torch.randn(1, 9, 8, generator=rng)
    engine = choose_engine("bf16-autocast", net, CPU)
    made = engine.convert(net)
    assert engine.dtype == torch.float32 == made.project.weight.dtype
    with torch.inference_mode(), engine.running():
        found = made(x)
    with torch.inference_mode():
        assert 1e-5 < relative(found, net(x)) < 0.03


def test_int8_leaves_the_sensitive_layers(net: Net) -> None:
    made = choose_engine("int8", net, CPU).convert(net)
    assert isinstance(made.project, nn.Linear)
    assert all(isinstance(skip, nn.Linear) for skip in made.body.skips)
    assert isinstance(made.body.blocks[0].attention.qkv, Int8Linear)
    assert sum(isinstance(m, Int8Linear) for m in made.modules()) == 2 * 4


def test_int8_scales_every_position_by_itself(rng: torch.Generator) -> None:
    linear = nn.Linear(16, 16)
    x = torch.randn(2, 16, generator=rng)
    loud = torch.cat([x, 1e4 * x])
    with torch.inference_mode():
        exact, found = linear(loud), Int8Linear(linear)(loud)
    # One scale for all would round the quiet rows to nothing.
    assert relative(found[:2], exact[:2]) < 0.02
    # A row of zeros is the bias.
    assert torch.equal(Int8Linear(linear)(torch.zeros(1, 16))[0], linear.bias.detach())


def test_auto_follows_the_instruction_sets(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    for features, wanted in (({"avx2"}, "eager"), ({"avx2", "avx512_bf16"}, "bf16"), ({"amx_bf16"}, "bf16")):
        monkeypatch.setattr(devices, "cpu_features", lambda found=frozenset(features): found)
        assert choose_engine("auto", net, CPU).name == wanted


def test_auto_prefers_what_was_measured_with_a_small_error(net: Net, caplog: pytest.LogCaptureFixture) -> None:
    key = fingerprint(net, CPU)
    keep(key, {"eager": Measured(3.0, 0.0), "bf16": Measured(2.0, 0.01), "int8": Measured(1.0, 0.2)})
    with caplog.at_level("INFO", logger="flowtts.engine"):
        assert choose_engine("auto", net, CPU).name == "bf16"
    assert "engine bf16: the fastest measured here (2.000 s a solve, error 0.0100)" in caplog.text
    # Another network was not measured.
    assert fingerprint(nn.Linear(2, 2), CPU) != key


def test_unknown_engines_and_devices_are_refused(net: Net) -> None:
    with pytest.raises(
        UserError, match=r"no engine 'fast'; there are auto, eager, bf16-autocast, bf16, half, int8, compiled"
    ):
        choose_engine("fast", net, CPU)
    with pytest.raises(UserError, match="int8' runs on a CPU, not on meta"):
        choose_engine("int8", net, torch.device("meta"))


def test_compiled_needs_a_compiler(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=r"needs a C\+\+ compiler"):
        Engine("compiled", CPU).convert(net)


def test_tune_reports_errors_against_eager() -> None:
    x = torch.tensor([3.0, 4.0])
    found = tune({"eager": lambda: x, "bf16": lambda: x + torch.tensor([0.0, 0.5])}, rounds=2)
    assert found["eager"].error == 0 and found["bf16"].error == pytest.approx(0.1)
    assert all(m.seconds > 0 for m in found.values())
    with pytest.raises(ValueError, match="eager"):
        tune({"bf16": lambda: x})


def test_measurements_survive_a_round_trip_and_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "engines.json"
    assert measurements(path) == {}
    keep("a", {"eager": Measured(1.0, 0.0)}, path)
    keep("b", {"bf16": Measured(0.5, 0.01)}, path)
    assert measurements(path) == {"a": {"eager": Measured(1.0, 0.0)}, "b": {"bf16": Measured(0.5, 0.01)}}
    assert [p.name for p in path.parent.iterdir()] == ["engines.json"]
    for rubbish in ("{", "[1]", json.dumps({"a": {"eager": {"seconds": 1}}})):
        path.write_text(rubbish)
        assert measurements(path) == {}


def test_nothing_is_chosen_where_nothing_is_good_enough() -> None:
    assert best({}, "a") is None
    assert best({"a": {"int8": Measured(1.0, 0.5), "bf16": Measured(1.0, float("nan"))}}, "a") is None
    assert set(ENGINES) >= {"eager", "bf16", "int8"}


def test_batches_hold_everything_once_within_the_limits(rng: torch.Generator) -> None:
    lengths = torch.randint(1, 1000, (200,), generator=rng).tolist()
    plan = plan_batches(lengths, max_frames=4000, max_padding=0.1)
    assert sorted(i for batch in plan for i in batch) == list(range(200))
    for batch in plan:
        padded = len(batch) * max(lengths[i] for i in batch)
        assert padded <= 4000
        assert padded - sum(lengths[i] for i in batch) <= 0.1 * padded
    # Without sorting, every batch would hold about half padding.
    assert len(plan) < 45
    assert plan == plan_batches(lengths, max_frames=4000, max_padding=0.1)


def test_batches_exactly() -> None:
    assert plan_batches([], 10) == []
    assert plan_batches([5, 9, 5, 4, 9], max_frames=18, max_padding=0.0) == [[1, 4], [0, 2], [3]]
    assert plan_batches([5, 9, 5, 4, 9], max_frames=18, max_padding=0.2) == [[1, 4], [0, 2, 3]]
    # Too long for any batch, it is one by itself.
    assert plan_batches([50, 3], max_frames=10) == [[0], [1]]


@pytest.mark.parametrize(("lengths", "frames", "padding"), [([0], 9, 0.1), ([1], 0, 0.1), ([1], 9, 1.0)])
def test_impossible_batches_are_refused(lengths: list[int], frames: int, padding: float) -> None:
    with pytest.raises(ValueError, match=r"positive|max_frames"):
        plan_batches(lengths, frames, padding)
