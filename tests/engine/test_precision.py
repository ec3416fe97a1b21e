"""The fastest format and layout is measured without a trace, recorded, kept by a run, and learns what float32 does."""

import json
import time

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from line_task import Resolved, config, run_to_end
from omote.engine.estimate import estimate
from omote.engine.loop import train
from omote.engine.precision import Choice, candidates, lay_out, measure
from omote.errors import ConfigError

CPU = torch.device("cpu")
SLEEP_S = 0.03


class ImageModule(nn.Module):
    """A blur to be learned; ``slow`` is the precision that takes longer."""

    def __init__(self, slow):
        super().__init__()
        self.wide = nn.Conv2d(3, 8, 3, padding=1)
        self.narrow = nn.Conv2d(8, 3, 1)
        self.register_buffer("seen", torch.zeros(()))
        self.slow = slow

    def forward(self, batch):
        x, y = batch
        self.seen += 1
        half = torch.is_autocast_enabled("cpu")
        time.sleep(SLEEP_S * (self.slow == ("bf16" if half else "fp32")))
        out = self.narrow(torch.relu(self.wide(x)))
        assert out.dtype == (torch.bfloat16 if half else torch.float32)
        loss = (out.float() - y).square().mean()
        return loss, {"mse": loss.detach()}


class ImageTask:
    """Images in batches of at least four."""

    def __init__(self, slow="fp32"):
        torch.manual_seed(0)
        self.module = ImageModule(slow)
        self.sizes = []

    def batch(self, step, seed, size, part, parts):
        """Noise and its local mean."""
        if size < 4:
            raise ConfigError("expected a multiple of 4")
        self.sizes.append(size)
        x = torch.randn(size * parts, 3, 8, 8, generator=torch.Generator().manual_seed(seed + step))
        x = x[part * size : (part + 1) * size]
        return x, nn.functional.avg_pool2d(x, 3, 1, 1)

    def schedule(self, images):
        """Nothing."""

    def export(self, weights, folder):
        """The averages as they are."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in weights.items()}, folder / "model.safetensors")

    def preview(self):
        """Nothing."""
        return None


def rows(run):
    """What was learned when, without how fast."""
    found = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "images_per_s"} for row in found]


@pytest.mark.parametrize("slow", ["fp32", "bf16"])
def test_the_faster_precision_is_measured_and_nothing_else_changes(slow):
    task, engine = ImageTask(slow), config(precision="auto", batch_size=16)
    before = {k: v.clone() for k, v in task.module.state_dict().items()}
    measured = measure(task, engine, candidates(engine, {}), CPU)
    assert measured.best.precision == {"fp32": "bf16", "bf16": "fp32"}[slow]
    assert measured.images == 16
    assert measure(task, engine, candidates(engine, {}), CPU, parts=4).images == 4, "what one pass has of it"
    assert len(measured.step_ms) == 4
    for key, value in task.module.state_dict().items():
        assert torch.equal(value, before[key]), key
        assert value.is_contiguous()
    assert all(p.grad is None for p in task.module.parameters())


def test_what_a_config_leaves_open():
    def open_(recorded=(), **changes):
        return [str(choice) for choice in candidates(config(**{"precision": "auto", **changes}), dict(recorded))]

    assert open_() == ["fp32 contiguous", "fp32 channels-last", "bf16 contiguous", "bf16 channels-last"]
    assert open_(precision="fp32") == ["fp32 contiguous"], "to the bit what it always was"
    assert open_(precision="fp32", memory_layout="channels_last") == ["fp32 channels-last"]
    assert open_(precision="bf16") == ["bf16 contiguous", "bf16 channels-last"]
    assert open_({"precision": "bf16", "memory_layout": "channels_last"}) == ["bf16 channels-last"]
    assert open_({"precision": "fp32"}) == ["fp32 contiguous"], "a run of an earlier version"


def test_a_run_keeps_what_was_measured(tmp_path):
    engine = config(total=80, precision="auto", log_images=16)
    reports = run_to_end(ImageTask(slow="fp32"), engine, tmp_path)
    assert reports[0].note.startswith("bf16")
    assert not any(report.note for report in reports[1:])
    recorded = json.loads((tmp_path / "config.json").read_text())["engine"]
    told = json.loads((tmp_path / "precision.json").read_text())
    assert recorded["precision"] == told["precision"] == "bf16"
    assert recorded["memory_layout"] == told["memory_layout"] in ("contiguous", "channels_last")
    # Elsewhere float32 is faster; the run stays what it is.
    longer = config(total=160, precision="auto", log_images=16)
    assert not run_to_end(ImageTask(slow="bf16"), longer, tmp_path)[0].note
    assert json.loads((tmp_path / "config.json").read_text())["engine"]["precision"] == "bf16"
    with pytest.raises(ConfigError, match='engine.precision="bf16"'):
        run_to_end(ImageTask(), config(total=240, precision="fp32", log_images=16), tmp_path)


def test_a_run_that_was_killed_before_its_first_checkpoint_keeps_it_too(tmp_path):
    engine = config(total=80, precision="auto", log_images=16)
    next(train(ImageTask(slow="fp32"), engine, tmp_path, Resolved(engine=engine)))
    assert not (tmp_path / "checkpoint").exists()
    assert not run_to_end(ImageTask(slow="bf16"), engine, tmp_path)[0].note
    assert json.loads((tmp_path / "config.json").read_text())["engine"]["precision"] == "bf16"


def test_a_resumed_run_in_bf16_and_channels_last_is_the_undisturbed_one_to_the_bit(tmp_path):
    engine = config(total=160, precision="bf16", memory_layout="channels_last", checkpoint_s=0.0)
    run_to_end(ImageTask(), engine, tmp_path / "whole")
    stream = train(ImageTask(), engine, tmp_path / "cut", Resolved(engine=engine))
    for _ in range(7):
        next(stream)
    del stream
    run_to_end(ImageTask(), engine, tmp_path / "cut")
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    whole, cut = (load_file(tmp_path / name / "checkpoint/optimiser.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


def test_layouts_learn_the_same_and_bf16_nearly(tmp_path):
    runs = {}
    for precision, layout in (("fp32", "contiguous"), ("fp32", "channels_last"), ("bf16", "channels_last")):
        engine = config(total=800, precision=precision, memory_layout=layout)
        name = str(Choice(precision=precision, layout=layout))
        runs[name] = [report.metrics["mse"] for report in run_to_end(ImageTask(), engine, tmp_path / name)]
    exact = runs.pop("fp32 contiguous")
    assert exact[-1] < 0.5 * exact[0]
    assert runs["fp32 channels-last"] == pytest.approx(exact, rel=1e-4)
    assert runs["bf16 channels-last"] == pytest.approx(exact, rel=0.02, abs=1e-3)


def test_an_estimate_is_of_the_fastest():
    assert estimate(ImageTask(slow="fp32"), config(precision="auto")).precision == "bf16"
    assert estimate(ImageTask(slow="fp32"), config()).precision == "fp32"


def test_volumes_are_laid_out_too():
    module = nn.Sequential(nn.Conv3d(4, 8, 3), nn.Conv2d(4, 8, 3), nn.Linear(3, 3))
    lay_out(module, "channels_last")
    assert module[0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert module[1].weight.is_contiguous(memory_format=torch.channels_last)
    lay_out(module, "contiguous")
    assert all(weight.is_contiguous() for weight in module.parameters())
