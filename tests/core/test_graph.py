from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowtts.nn import Transformer, TransformerConfig
from flowtts.nn.time import sinusoidal
from flowtts.solve import guided, solve
from flowtts.solve.graph import Graphs, Recorded, bucket_of, key_of, refusal
from flowtts.solve.guidance import Prepared
from flowtts.solve.integrate import Solution
from flowtts.types import Condition, Sampling

EULER = Sampling("euler", "uniform", 4, 2.0)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 32)
        self.project = nn.Linear(3, 32)
        config = TransformerConfig(2, 2, 32, 64, position_kernel=5, position_groups=4, block_kernel=3, dropout=0.0)
        self.body = Transformer(config)
        self.out = nn.Linear(32, 3)
        self.prepared = 0

    def prepare(self, cond: Condition) -> Prepared:
        self.prepared += 1
        known = self.embed(cond.text) * cond.keep[:, None, None] + self.project(cond.prompt)
        layout = self.body.prepare(cond.mask, extra=True, dtype=known.dtype)

        def velocity(t: Tensor, x: Tensor) -> Tensor:
            seen = self.project(x.to(known.dtype)).repeat(len(known) // len(x), 1, 1)
            token = sinusoidal(torch.full((1,), float(t), device=x.device), 32)
            made: Tensor = self.out(self.body.run(seen + known, layout, token))
            return made

        return velocity


class Rerun:
    """Records by remembering: what a graph does, on any device."""

    def __init__(self, fails: bool = False) -> None:
        self.count, self.fails = 0, fails

    def refusal(self, device: torch.device) -> str:
        return ""

    def record(self, run: Callable[[], Solution]) -> Recorded:
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing\nand so on")
        self.count += 1
        first = run()

        def replay() -> None:
            first.x.copy_(run().x)

        return Recorded(replay, first)


def case(frames: int, batch: int = 2, device: str = "cpu") -> tuple[Condition, Tensor]:
    rng = torch.Generator().manual_seed(frames)
    mask = torch.ones(batch, frames, dtype=torch.bool)
    mask[1:, frames - 7 :] = False
    known = (torch.arange(frames) < 5)[None] & mask
    prompt = torch.randn(batch, frames, 3, generator=rng) * known[..., None]
    text = torch.randint(1, 5, (batch, frames), generator=rng)
    cond = Condition(text, prompt, known, mask, torch.ones(batch, dtype=torch.bool))
    return cond.to(device), torch.randn(batch, frames, 3, generator=rng).to(device)


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def test_buckets_grow_with_the_length() -> None:
    assert [bucket_of(n) for n in (1, 64, 65, 500, 512, 513, 1025, 3000)] == [64, 64, 128, 512, 512, 576, 1152, 3072]
    for n in range(513, 5000, 37):
        assert n <= bucket_of(n) <= n * 9 / 8 + 1
        assert bucket_of(bucket_of(n)) == bucket_of(n)


@pytest.mark.parametrize("sampling", [EULER, Sampling("midpoint", "sway", 3), Sampling("ab2", "uniform", 4),
                                      Sampling("dpm++2m", "uniform", 4)])  # fmt: skip
@pytest.mark.parametrize("guidance", [1.0, 2.0, "2,interval=0.2:0.8,rescale=0.7"])
@torch.inference_mode()
def test_padded_to_a_bucket_equals_alone(net: Net, sampling: Sampling, guidance: float | str) -> None:
    graphs = Graphs(recorder=Rerun())
    for frames in (50, 40, 64):  # the same graph for all, the second shorter than the first
        cond, x0 = case(frames)
        found = graphs.solve(net, cond, guidance, x0, sampling)
        wanted = solve(guided(net, cond, guidance), x0, sampling)
        assert (found.nfe, found.network_calls) == (wanted.nfe, wanted.network_calls)
        assert found.x.shape == x0.shape
        torch.testing.assert_close(found.x[cond.mask], wanted.x[cond.mask], rtol=1e-4, atol=1e-5)
    assert len(graphs) == 1


@torch.inference_mode()
def test_what_is_returned_is_the_callers(net: Net) -> None:
    graphs = Graphs(recorder=Rerun())
    cond, x0 = case(50)
    first = graphs.solve(net, cond, 1.0, x0, EULER).x
    kept = first.clone()
    graphs.solve(net, cond, 1.0, x0 + 1, EULER)
    assert torch.equal(first, kept)


@torch.inference_mode()
def test_patience_solves_directly_until_a_shape_comes_back(net: Net) -> None:
    recorder = Rerun()
    graphs = Graphs(recorder=recorder, patience=1)
    cond, x0 = case(50)
    direct = graphs.solve(net, cond, 2.0, x0, EULER).x
    assert recorder.count == 0 and torch.equal(direct, solve(guided(net, cond, 2.0), x0, EULER).x)
    graphs.solve(net, *case(64)[:1], 2.0, case(64)[1], EULER)  # the same bucket
    assert recorder.count == 1 and len(graphs) == 1
    graphs.clear()
    graphs.solve(net, cond, 2.0, x0, EULER)
    assert recorder.count == 1
    with pytest.raises(ValueError, match="patience"):
        Graphs(patience=-1)


@torch.inference_mode()
def test_every_setting_has_its_graph_and_the_oldest_goes_first(net: Net) -> None:
    recorder = Rerun()
    graphs = Graphs(capacity=2, recorder=recorder)
    cond, x0 = case(50)
    one, other = EULER, replace(EULER, steps=3)

    def run(sampling: Sampling) -> int:
        graphs.solve(net, cond, 1.0, x0, sampling)
        return recorder.count

    assert [run(s) for s in (one, other, one)] == [1, 2, 2]
    assert run(replace(one, steps=2)) == 3  # evicts `other`, which was used before `one`
    assert len(graphs) == 2
    assert [run(one), run(other)] == [3, 4]
    graphs.clear()
    assert len(graphs) == 0


def test_keys_tell_apart_what_a_graph_depends_on(net: Net) -> None:
    cond, x0 = case(50)
    key = key_of(net, cond, 2.0, x0, EULER)
    near, x_near = case(60)
    assert key == key_of(net, near, "2", x_near, replace(EULER, temperature=0.1))
    far, x_far = case(70)
    triple, x_triple = case(50, 3)
    others = [
        key_of(net, far, 2.0, x_far, EULER),
        key_of(net, triple, 2.0, x_triple, EULER),
        key_of(Net(), cond, 2.0, x0, EULER),
        key_of(net, cond, 1.0, x0, EULER),
        key_of(net, cond, 2.0, x0.bfloat16(), EULER),
        key_of(net, cond, 2.0, x0, replace(EULER, solver="midpoint")),
        key_of(net, cond, 2.0, x0, replace(EULER, grid="sway")),
        key_of(net, replace(cond, text=cond.text[:, :9]), 2.0, x0, EULER),
    ]
    assert len({key, *others}) == 9


@torch.inference_mode()
def test_a_failed_capture_is_said_once_and_computed_directly(net: Net, caplog: pytest.LogCaptureFixture) -> None:
    graphs = Graphs(recorder=Rerun(fails=True))
    cond, x0 = case(50)
    wanted = solve(guided(net, cond, 2.0), x0, EULER).x
    for _ in range(2):
        assert torch.equal(graphs.solve(net, cond, 2.0, x0, EULER).x, wanted)
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
        "this solve cannot be captured as a graph and runs without: operation not permitted when stream is capturing"
    ]
    assert len(graphs) == 0


@torch.inference_mode()
def test_a_cpu_computes_directly_and_says_so(net: Net, caplog: pytest.LogCaptureFixture) -> None:
    cond, x0 = case(50)
    with caplog.at_level("INFO", logger="flowtts.solve.graph"):
        found = Graphs().solve(net, cond, 2.0, x0, EULER)
    assert torch.equal(found.x, solve(guided(net, cond, 2.0), x0, EULER).x)
    assert "no graph: graphs need a CUDA device, not cpu" in caplog.text


def test_refusals() -> None:
    cpu = torch.device("cpu")
    assert refusal(EULER, cpu) == "autograd is on"
    with torch.no_grad():
        assert refusal(EULER, cpu) == ""
        assert refusal(Sampling("ddim:0", "uniform", 4), cpu) == ""
        for name in ("dopri5", "ddpm", "ddim:0.5", "euler-maruyama"):
            assert f"solver '{name}' draws noise or decides on its steps" in refusal(Sampling(name, "uniform", 4), cpu)
        with torch.autocast("cpu", torch.bfloat16):
            assert "autocast is on" in refusal(EULER, cpu)


@torch.inference_mode()
def test_solvers_that_draw_get_their_generator(net: Net) -> None:
    cond, x0 = case(50)
    sampling = Sampling("ddpm", "uniform", 3)
    found = Graphs(recorder=Rerun()).solve(net, cond, 1.0, x0, sampling, rng=torch.Generator().manual_seed(1))
    wanted = solve(guided(net, cond, 1.0), x0, sampling, rng=torch.Generator().manual_seed(1))
    assert torch.equal(found.x, wanted.x)


def test_rooms_serve_in_and_outside_inference_mode(net: Net) -> None:
    graphs = Graphs(recorder=Rerun())
    cond, x0 = case(50)
    with torch.inference_mode():
        first = graphs.solve(net, cond, 2.0, x0, EULER).x.clone()
    assert len(graphs) == 1 and not first.requires_grad
    kept = next(iter(graphs._kept.values()))
    assert not isinstance(kept, str) and not kept.x0.is_inference()


@pytest.mark.gpu
@pytest.mark.parametrize("kernel_bytes", [1 << 40, 0])  # attention by bias, by flex
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_captured_equals_direct_on_a_gpu(
    net: Net, dtype: torch.dtype, kernel_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowtts.nn.attention.FLEX_FROM", kernel_bytes)
    net = net.to("cuda", dtype)
    graphs = Graphs()
    tolerance = 1e-3 if dtype == torch.float32 else 0.05
    for frames in (50, 40, 200, 64):
        cond, x0 = case(frames, device="cuda")
        cond = replace(cond, prompt=cond.prompt.to(dtype))
        found = graphs.solve(net, cond, 2.0, x0, EULER).x[cond.mask]
        wanted = solve(guided(net, cond, 2.0), x0, EULER).x[cond.mask]
        assert float(F.mse_loss(found, wanted).sqrt()) < tolerance * float(wanted.std())
    assert len(graphs) == 2
