"""The loop: it learns, resumes to the bit, survives a kill while saving, and refuses another network's checkpoint."""

import json
import math
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from omote.errors import CheckpointError, OmoteError
from omote.training.engine import EngineConfig, learning_rate, train


class LineModule(nn.Module):
    def __init__(self, width=1):
        super().__init__()
        self.line = nn.Linear(width, 1)

    def forward(self, batch):
        x, y = batch
        loss = (self.line(x) - y).square().mean()
        return loss, {"mse": loss.detach()}


class LineTask:
    """y = 2x - 1."""

    def __init__(self, width=1, broken_at=None):
        torch.manual_seed(0)
        self.module = LineModule(width)
        self.broken_at = broken_at

    def batch(self, step, seed, size, rank, world):
        x = torch.randn(size, self.module.line.in_features, generator=torch.Generator().manual_seed(seed + step))
        y = 2 * x[:, :1] - 1
        return x, y * math.nan if step == self.broken_at else y

    def schedule(self, images):
        pass

    def export(self, weights, folder):
        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in weights.items()}, folder / "model.safetensors")


@dataclass(frozen=True, kw_only=True)
class Resolved:
    engine: EngineConfig


def config(total=800, **other):
    return EngineConfig(
        total_images=total, batch_size=8, learning_rate=0.05, warmup_images=40, log_images=8, ema_images=80, **other
    )


def losses(run):
    return [json.loads(line)["loss"] for line in (run / "stats.jsonl").read_text().splitlines()]


def run_to_end(task, engine, run):
    return list(train(task, engine, run, Resolved(engine=engine)))


def test_it_learns_a_line(tmp_path):
    task = LineTask()
    reports = run_to_end(task, config(), tmp_path)
    assert reports[-1].metrics["mse"] < 1e-2
    assert float(task.module.line.weight) == pytest.approx(2, abs=0.1)
    assert (tmp_path / "export/model.safetensors").exists()


def test_an_interrupted_run_has_the_trace_of_an_undisturbed_one(tmp_path):
    engine = config(total=400, checkpoint_s=0.0)
    run_to_end(LineTask(), engine, tmp_path / "whole")
    stream = train(LineTask(), engine, tmp_path / "cut", Resolved(engine=engine))
    for _ in range(20):
        next(stream)
    del stream
    # The report comes before its checkpoint, so the interrupted run may repeat one step: the same step.
    run_to_end(LineTask(), engine, tmp_path / "cut")
    seen = {}
    for line in (tmp_path / "cut/stats.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert seen.setdefault(row["images"], row["loss"]) == row["loss"]
    assert list(seen.values()) == losses(tmp_path / "whole")


def test_a_kill_while_saving_leaves_a_checkpoint_that_loads(tmp_path):
    run_to_end(LineTask(), config(total=80), tmp_path)
    # What is on disk between the two renames, with a half-written new one beside it.
    (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.old")
    (tmp_path / "checkpoint.new").mkdir()
    (tmp_path / "checkpoint.new/weights.safetensors").write_bytes(b"half")
    reports = run_to_end(LineTask(), config(total=160), tmp_path)
    assert reports[0].images == 88


def test_another_networks_checkpoint_is_refused(tmp_path):
    run_to_end(LineTask(), config(total=80), tmp_path)
    with pytest.raises(CheckpointError, match="holds another network") as error:
        run_to_end(LineTask(width=2), config(total=160), tmp_path)
    assert "\n" not in str(error.value)


def test_a_loss_that_is_no_number_stops_and_names_its_step(tmp_path):
    with pytest.raises(OmoteError, match="step 5"):
        run_to_end(LineTask(broken_at=5), config(), tmp_path)


def test_learning_rate_warms_up_holds_and_ends_at_zero():
    engine = config(total=1000)
    assert learning_rate(engine, 0) < learning_rate(engine, 39) <= engine.learning_rate
    assert learning_rate(engine, 500) == engine.learning_rate
    assert learning_rate(engine, 1000) == 0
