"""Training: the schedule in closed form, exact resumption, data parallelism, and what happens when things go wrong."""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from flowtts import checkpoint, config, train
from flowtts.checkpoint import Card
from flowtts.ema import EMA
from flowtts.train import Diverged, Run, TrainConfig, fit
from flowtts.train_config import learning_rate, make_optimiser, progress
from flowtts.train_log import RunLog
from flowtts.train_process import Processes, Stopper, in_processes, prefetch
from flowtts.types import UserError


@dataclass(frozen=True)
class Pairs:
    x: Tensor
    y: Tensor
    ids: tuple[str, ...] = ("first", "second")

    def to(self, device: torch.device) -> Pairs:
        return Pairs(self.x.to(device), self.y.to(device), self.ids)


def pairs(index: int, size: int = 4) -> Pairs:
    """Batch ``index`` of a linear problem: y = sum of x + 1."""
    x = torch.randn(size, 3, generator=torch.Generator().manual_seed(index))
    return Pairs(x, x.sum(1, keepdim=True) + 1)


def batches(start: int, stride: int) -> Iterator[Pairs]:
    return (pairs(index) for index in itertools.count(start, stride))


class Toy(nn.Module):
    """Uses every source of randomness: dropout, and noise from the generator it is given."""

    def __init__(self, dropout: float = 0.0, noise: float = 0.0) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(dropout)
        self.outer = nn.Linear(8, 1)
        self.noise = noise

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.outer(self.drop(self.norm(self.inner(x)).tanh()))
        return result

    def loss(self, batch: Pairs, rng: torch.Generator) -> Mapping[str, Tensor]:
        x = batch.x + self.noise * torch.randn(batch.x.shape, generator=rng)
        error = self(x) - batch.y
        return {"loss": error.square().mean(), "bias": error.mean()}


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def loss(self, batch: Pairs, rng: torch.Generator) -> Mapping[str, Tensor]:
        return {"loss": (self.linear(batch.x) - batch.y).square().mean()}


def made(kind: type[nn.Module] = Toy, **arguments: float) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return kind(**arguments)


CARD = Card(kind="toy", config={"width": 8}, vocabulary=("a", "b"), readme="# Toy\n")
SHORT = TrainConfig(
    steps=20, learning_rate=0.02, warmup=5, clip=None, ema=0.9, log_every=1, tensorboard=False, prefetch=0, cpu=True
)


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def untimed(out: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if "seconds" not in key} for row in rows(out)]


def stop_at(step: int) -> Callable[[int, nn.Module], None]:
    """A sample callback that sends this process a SIGTERM."""

    def sample(now: int, _: nn.Module) -> None:
        if now == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return sample


def equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class TestSchedule:
    def rates(self, settings: TrainConfig) -> list[float]:
        warmed = min(1.0, settings.warmup / settings.steps)
        return [
            learning_rate(settings, step, progress(settings, step, 0.0), warmed) for step in range(settings.steps + 1)
        ]

    def test_linear_is_that_of_the_paper(self) -> None:
        """arXiv 2306.15687: warm-up to 1e-4 over 5K updates, then a line to zero at the last."""
        settings = TrainConfig(steps=20_000, warmup=5_000)
        rates = self.rates(settings)
        assert rates[0] == pytest.approx(1e-4 / 5_000) and rates[4_999] == 1e-4 and rates[5_000] == 1e-4
        for step in (7_500, 12_500, 17_500):
            assert rates[step] == pytest.approx(1e-4 * (20_000 - step) / 15_000)
        assert rates[20_000] == 0.0

    def test_cosine_and_constant(self) -> None:
        settings = TrainConfig(steps=110, warmup=10, schedule="cosine", final=0.1, learning_rate=1.0)
        rates = self.rates(settings)
        for step in (10, 35, 60, 110):
            half = 0.5 * (1 + math.cos(math.pi * (step - 10) / 100))
            assert rates[step] == pytest.approx(0.1 + 0.9 * half)
        assert self.rates(replace(settings, schedule="constant"))[10:] == [1.0] * 101

    def test_a_time_limit_drives_it_too(self) -> None:
        settings = TrainConfig(steps=1000, minutes=2.0, warmup=0, learning_rate=1.0)
        assert progress(settings, 100, 30.0) == 0.25 and progress(settings, 500, 30.0) == 0.5
        assert progress(settings, 0, 500.0) == 1.0
        assert learning_rate(settings, 100, 0.25, 0.0) == 0.75

    def test_annealed_within_the_time(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A clock that advances six seconds at each look: one minute is ten looks."""
        clock = itertools.count(0.0, 6.0)
        monkeypatch.setattr("flowtts.train.monotonic", lambda: next(clock))
        settings = replace(SHORT, steps=10**6, minutes=1.0, warmup=2, learning_rate=1.0, save_minutes=1e9)
        run = fit(made(), batches, config=settings, out=tmp_path, card=CARD)
        rates = [row["learning_rate"] for row in rows(tmp_path)]
        assert run.finished and run.step == 10
        assert rates[:3] == [0.5, 1.0, 1.0] and rates[3:] == pytest.approx([1 - i / 8 for i in range(1, 8)])


def test_configuration_reads_itself_and_refuses_nonsense() -> None:
    settings = config.load(TrainConfig, {"schedule": "cosine"}, ["minutes=30", "clip=null"])
    assert settings.minutes == 30.0 and settings.clip is None
    for wrong in ("steps=0", "minutes=-1", "ema=1.0", "schedule=stairs", "warmup=-1", "keep=0", "threads=0"):
        with pytest.raises(UserError, match=wrong.partition("=")[0]):
            config.load(TrainConfig, None, [wrong])


def test_learns_the_line(tmp_path: Path) -> None:
    """y = x1 + x2 + x3 + 1 is found exactly."""
    network = made(Line)
    run = fit(network, batches, config=replace(SHORT, steps=400, learning_rate=0.1), out=tmp_path, card=CARD)
    state = checkpoint.load(run.folder).state
    assert torch.allclose(state["linear.weight"], torch.ones(1, 3), atol=1e-3)
    assert torch.allclose(state["linear.bias"], torch.ones(1), atol=1e-3)
    assert run == Run(tmp_path / "checkpoints" / "step-00000400", 400, True)


@pytest.mark.parametrize(
    "changes",
    [
        {"accumulate": 2, "prefetch": 2},
        {"optimiser": "adamw", "schedule": "cosine", "clip": 0.2},
        {"precision": "bf16", "log_every": 3},
    ],
)
def test_stopped_and_resumed_is_unbroken_bit_for_bit(tmp_path: Path, changes: dict[str, Any]) -> None:
    settings = replace(SHORT, **changes)
    whole, parts = made(dropout=0.3, noise=0.5), made(dropout=0.3, noise=0.5)
    fit(whole, batches, config=settings, out=tmp_path / "whole", card=CARD)
    stopping = replace(settings, sample_every=1)
    first = fit(parts, batches, config=stopping, out=tmp_path / "parts", card=CARD, sample=stop_at(9))
    # The signal arrives between updates 9 and 10; the update it finds in progress is finished.
    assert not first.finished and first.step == 10
    second = made(dropout=0.3, noise=0.5)
    torch.manual_seed(99)
    run = fit(second, batches, config=settings, out=tmp_path / "parts", card=CARD, resume=True)
    assert run.finished and run.step == 20
    assert equal(whole.state_dict(), second.state_dict())
    shipped = [checkpoint.load(checkpoint.find(tmp_path / name)) for name in ("whole", "parts")]
    assert equal(shipped[0].state, shipped[1].state) and shipped[0].hash == shipped[1].hash
    if settings.log_every == 1:
        assert untimed(tmp_path / "whole") == untimed(tmp_path / "parts")
    assert [row["step"] for row in rows(tmp_path / "parts")][-1] == 20


def test_the_seed_decides_and_the_global_generator_is_left_alone(tmp_path: Path) -> None:
    states = []
    for number, seed in enumerate((1, 1, 2)):
        network = made(dropout=0.3, noise=0.5)
        torch.manual_seed(number)
        before = torch.get_rng_state()
        fit(network, batches, config=replace(SHORT, seed=seed, steps=3), out=tmp_path / str(number), card=CARD)
        assert torch.equal(before, torch.get_rng_state())
        states.append(network.state_dict())
    assert equal(states[0], states[1]) and not equal(states[0], states[2])


def test_accumulation_is_a_larger_batch(tmp_path: Path) -> None:
    def doubled(start: int, stride: int) -> Iterator[Pairs]:
        for i in itertools.count(start, stride):
            one, two = pairs(2 * i), pairs(2 * i + 1)
            yield Pairs(torch.cat([one.x, two.x]), torch.cat([one.y, two.y]))

    twice, large = made(Line), made(Line)
    fit(twice, batches, config=replace(SHORT, accumulate=2), out=tmp_path / "a", card=CARD)
    fit(large, doubled, config=SHORT, out=tmp_path / "b", card=CARD)
    for mine, other in zip(twice.parameters(), large.parameters(), strict=True):
        assert torch.allclose(mine, other, atol=1e-5)


def test_gradients_are_clipped_and_their_norm_is_logged(tmp_path: Path) -> None:
    """With plain descent in place of Adam the length of the first move is the clipped norm times the rate."""
    network = made(Line)
    settings = replace(SHORT, steps=1, warmup=0, clip=0.25, ema=0.0)
    seen: list[float] = []

    class Spy(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            seen.append(
                math.sqrt(sum(float(p.grad.square().sum()) for p in network.parameters() if p.grad is not None))
            )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "make_optimiser", lambda net, _: Spy(net.parameters(), lr=0.1))
        fit(network, batches, config=settings, out=tmp_path, card=CARD)
    assert seen == [pytest.approx(0.25, rel=1e-4)]
    assert rows(tmp_path)[0]["grad_norm"] > 1.0


def test_weight_decay_spares_biases_and_gains() -> None:
    settings = replace(SHORT, optimiser="adamw", weight_decay=0.1)
    groups = make_optimiser(made(), settings).param_groups
    assert [(group["weight_decay"], len(group["params"])) for group in groups] == [(0.1, 2), (0.0, 4)]


def test_average_follows_its_formula() -> None:
    network = nn.BatchNorm1d(2)
    average = EMA(network, 0.9)
    expected = torch.ones(2)
    for step in range(1, 40):
        with torch.no_grad():
            network.weight.fill_(step)
            network.running_mean.fill_(step)  # type: ignore[union-attr]
        average.update(network, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert torch.allclose(average.network.weight, expected) and not average.network.training  # type: ignore[arg-type]
    assert torch.equal(average.network.running_mean, torch.full((2,), 39.0))  # type: ignore[arg-type]


def test_checkpoints_hold_the_average_and_what_the_card_says(tmp_path: Path) -> None:
    network = made()
    run = fit(network, batches, config=SHORT, out=tmp_path, card=CARD)
    loaded = checkpoint.load(run.folder)
    assert loaded.kind == "toy" and loaded.config == {"width": 8} and loaded.vocabulary == ("a", "b")
    assert (run.folder / "README.md").read_text() == "# Toy\n"
    assert not equal(loaded.state, network.state_dict())
    raw = checkpoint.load_tensors(run.folder / "train_state" / "network.safetensors")
    assert equal(raw, network.state_dict())
    assert config.load(TrainConfig, run.folder / "train_state" / "train.yaml") == SHORT
    assert not list(tmp_path.rglob("*.p*t*h")) and not list(tmp_path.rglob("*.part"))


def test_old_checkpoints_go(tmp_path: Path) -> None:
    fit(made(), batches, config=replace(SHORT, steps=5, save_minutes=1e-9, keep=2), out=tmp_path, card=CARD)
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["step-00000004", "step-00000005"]


def test_samples_get_the_average_and_may_fail(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seen = []

    def sample(step: int, network: nn.Module) -> Mapping[str, float] | None:
        seen.append((step, network.training, torch.is_grad_enabled()))
        if step == 8:
            raise RuntimeError("no disk for the picture")
        return {"valid": float(step)}

    settings = replace(SHORT, steps=10, sample_every=4)
    with caplog.at_level(logging.ERROR):
        run = fit(made(), batches, config=settings, out=tmp_path, card=CARD, sample=sample)
    assert run.finished and seen == [(4, False, False), (8, False, False), (10, False, False)]
    assert "sample of step 8 failed" in caplog.text and "no disk for the picture" in caplog.text
    assert [(row["step"], row["valid"]) for row in rows(tmp_path) if "valid" in row] == [(4, 4.0), (10, 10.0)]


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_not_finite_stops_before_the_weights_and_keeps_the_batch(tmp_path: Path, poison: float) -> None:
    def poisoned(start: int, stride: int) -> Iterator[Pairs]:
        for index, batch in enumerate(batches(start, stride), start):
            yield Pairs(batch.x, batch.y * poison, ("bad", "worse")) if index == 6 else batch

    network = made()
    with pytest.raises(Diverged, match="step 6") as caught:
        fit(network, poisoned, config=SHORT, out=tmp_path, card=CARD)
    path = tmp_path / "failed" / "step-00000006-rank-0.safetensors"
    assert str(path) in str(caught.value)
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["0.ids"]) == ["bad", "worse"]
        assert torch.equal(file.get_tensor("0.x"), pairs(6).x)
    assert all(torch.isfinite(x).all() for x in network.state_dict().values())
    run = fit(made(), batches, config=SHORT, out=tmp_path, card=CARD, resume=True)
    assert run.finished and [row["step"] for row in rows(tmp_path)] == list(range(1, 21)), "step 6 itself was not lost"


def test_resuming_refuses_what_does_not_continue(tmp_path: Path) -> None:
    settings = replace(SHORT, steps=2)
    arguments: dict[str, Any] = {"config": settings, "out": tmp_path}
    run = fit(made(), batches, card=CARD, resume=True, **arguments)
    assert run.step == 2, "nothing to resume is a beginning"
    again = fit(made(), batches, card=CARD, resume=True, **arguments)
    assert again == run, "a finished run stays as it is"
    with pytest.raises(UserError, match="holds a run already"):
        fit(made(), batches, card=CARD, **arguments)
    with pytest.raises(UserError, match="is a toy, not a voicebox"):
        fit(made(), batches, card=replace(CARD, kind="voicebox"), resume=True, **arguments)
    with pytest.raises(UserError, match=r"another width \(8, now 9\)"):
        fit(made(), batches, card=replace(CARD, config={"width": 9}), resume=True, **arguments)
    with pytest.raises(UserError, match=r"does not fit Line: linear\.weight is missing"):
        fit(made(Line), batches, card=CARD, resume=True, **arguments)


def test_data_that_ends_and_networks_without_a_loss(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ended at step 2"):
        fit(made(), lambda start, stride: iter([pairs(0), pairs(1)]), config=SHORT, out=tmp_path, card=CARD)
    with pytest.raises(TypeError, match="no loss"):
        fit(nn.Linear(1, 1), batches, config=SHORT, out=tmp_path / "b", card=CARD)


def test_bf16_is_autocast_on_the_cpu(tmp_path: Path) -> None:
    seen = []

    class Watching(Line):
        def loss(self, batch: Pairs, rng: torch.Generator) -> Mapping[str, Tensor]:
            seen.append(self.linear(batch.x).dtype)
            return super().loss(batch, rng)

    for precision in ("bf16", "float32"):
        settings = replace(SHORT, steps=1, precision=precision)
        fit(made(Watching), batches, config=settings, out=tmp_path / precision, card=CARD)
    assert seen == [torch.bfloat16, torch.float32]


def test_threads_and_signal_handlers_are_put_back(tmp_path: Path) -> None:
    seen = []

    def watching(start: int, stride: int) -> Iterator[Pairs]:
        for batch in batches(start, stride):
            seen.append(torch.get_num_threads())
            yield batch

    before = torch.get_num_threads(), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    fit(made(), watching, config=replace(SHORT, steps=1, threads=before[0] + 1), out=tmp_path, card=CARD)
    assert seen == [before[0] + 1]
    assert before == (torch.get_num_threads(), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))


def test_a_second_signal_ends_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), Stopper() as stopper:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopper.asked
        os.kill(os.getpid(), signal.SIGTERM)


def numbers(start: int, stride: int) -> Iterator[int]:
    return itertools.count(start, stride)


def broken(start: int, stride: int) -> Iterator[int]:
    yield from range(start, 6, stride)
    raise UserError("the third page is torn")


def test_worker_processes_make_the_same_sequence() -> None:
    made = in_processes(numbers, 3, 2, workers=3, ahead=2)
    assert list(itertools.islice(made, 8)) == [3, 5, 7, 9, 11, 13, 15, 17]
    made.close()
    with pytest.raises(UserError, match="torn"):
        list(in_processes(broken, 0, 1, workers=2, ahead=1))


def test_prefetching_keeps_order_raises_in_place_and_ends_its_thread() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise OSError("disk gone")

    got = []
    with pytest.raises(OSError, match="disk gone"):
        for item in prefetch(items(), 2):
            got.append(item)
    assert got == list(range(5))
    assert list(prefetch(iter(range(3)), 5)) == [0, 1, 2]
    before = threading.active_count()
    endless = prefetch(itertools.count(), 3)
    assert next(endless) == 0 and threading.active_count() == before + 1
    endless.close()
    assert threading.active_count() == before


def test_tensorboard_and_broken_rows(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 1.0}\n{"step": 9, "loss": 2.0}\n{"st')
    with RunLog(tmp_path, 3, tensorboard=True) as log:
        log.progress(0.5, 4, 1.0)
        log.write(4, {"loss": 0.5, "other": math.nan})
    assert rows(tmp_path) == [{"step": 1, "loss": 1.0}, {"step": 4, "loss": 0.5, "other": None}]
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(4, 0.5)]


def test_sharded_configurations_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import accelerate

    class Sharded:
        def __init__(self, **_: Any) -> None:
            self.distributed_type = accelerate.DistributedType.FSDP

    monkeypatch.setattr(accelerate, "Accelerator", Sharded)
    with pytest.raises(UserError, match="FSDP"):
        Processes.join(cpu=True)


def test_two_processes_are_one_with_twice_the_batch(tmp_path: Path) -> None:
    """``accelerate launch`` with two processes over gloo, stopped by a signal to one of them and resumed.

    Accelerate starts several processes on a machine only for --multi_gpu; the configuration then says cpu.
    """
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes=2",
        "--num_machines=1",
    ]
    launch += ["--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    script = Path(__file__).with_name("two_processes.py")
    command = [*launch, str(script), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [checkpoint.load_tensors(tmp_path / f"rank-{rank}.safetensors") for rank in (0, 1)]
    assert equal(ranks[0], ranks[1])
    assert checkpoint.load(checkpoint.find(tmp_path / "two")).state.keys() == ranks[0].keys()

    one = runpy.run_path(str(script))
    settings = replace(one["CONFIG"], log_every=4)
    network = one["network"](0)
    fit(network, partial(one["batches"], together=2), config=settings, out=tmp_path / "one", card=one["CARD"])
    assert all(torch.allclose(value, ranks[0][name], atol=1e-6) for name, value in network.state_dict().items())

    last, alone = rows(tmp_path / "two")[-1], rows(tmp_path / "one")[-1]
    assert last["loss"] == pytest.approx(alone["loss"], rel=1e-4), "losses are averaged over the processes"
    assert (last["size"], alone["size"]) == (4.0, 8.0)
    assert last["draw0"] != last["draw1"], "each rank draws its own noise"
