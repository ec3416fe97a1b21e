"""The loop: it learns, resumes to the bit, divides over processes, and survives kills, full disks and broken losses."""

import json
import multiprocessing
import random
import resource
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

import omote.engine.loop
from line_run import settings
from line_task import LineModule, LineTask, Resolved, config, run_to_end, train_slowly
from omote.engine.checkpoint import progress_of
from omote.engine.estimate import estimate
from omote.engine.loop import learning_rate, train
from omote.engine.prefetch import pinned
from omote.errors import CheckpointError, ConfigError, OmoteError, OutputError
from two_processes import run_two

pytestmark = pytest.mark.early


def trace(run):
    """What was learned when, without how fast."""
    rows = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "images_per_s"} for row in rows]


def test_it_learns_a_line(tmp_path):
    task = LineTask()
    reports = run_to_end(task, config(), tmp_path)
    assert reports[-1].metrics["mse"] < 1e-2
    assert float(task.module.line.weight.detach()) == pytest.approx(2, abs=0.1)
    assert (tmp_path / "export/model.safetensors").exists()
    assert (tmp_path / "pictures/000000800.png").exists()
    assert list((tmp_path / "tensorboard").iterdir())


def test_an_interrupted_run_has_the_trace_of_an_undisturbed_one(tmp_path):
    engine = config(total=400, checkpoint_s=0.0, log_images=24)
    run_to_end(LineTask(noise=0.1), engine, tmp_path / "whole")
    stream = train(LineTask(noise=0.1), engine, tmp_path / "cut", Resolved(engine=engine))
    for _ in range(7):
        next(stream)
    del stream
    run_to_end(LineTask(noise=0.1), engine, tmp_path / "cut")
    assert trace(tmp_path / "cut") == trace(tmp_path / "whole")


KILLS = 4  # `make kills` kills a whole training ten times


def test_kills_at_random_moments_leave_the_trace_as_it_is(tmp_path):
    # Forked from a server that has imported torch: the kills fall into training, not into imports.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["line_task", "torch._dynamo"])  # the second is imported by the first optimiser
    whole = context.Process(target=train_slowly, args=(tmp_path / "whole",))
    whole.start()
    whole.join()
    draw, kills = random.Random(0), 0
    while True:
        process = context.Process(target=train_slowly, args=(tmp_path / "cut",))
        before = _images(tmp_path / "cut")
        process.start()
        while kills < KILLS and _images(tmp_path / "cut") == before and process.is_alive():
            time.sleep(0.005)
        process.join(draw.uniform(0, 0.1))
        if kills == KILLS:
            process.join()
            break
        assert process.is_alive(), "it ended before the last kill: train longer"
        process.kill()
        process.join()
        kills += 1
    assert process.exitcode == 0
    assert trace(tmp_path / "cut") == trace(tmp_path / "whole")
    whole, cut = (load_file(tmp_path / name / "export/model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


def _images(run):
    try:
        return json.loads((run / "checkpoint/progress.json").read_text())["images"]
    except (OSError, ValueError):
        return 0


def test_micro_batches_add_up_to_their_batch(tmp_path):
    run_to_end(LineTask(), config(total=160), tmp_path / "whole")
    run_to_end(LineTask(), config(total=160, accumulation=4), tmp_path / "parts")
    for whole, parts in zip(trace(tmp_path / "whole"), trace(tmp_path / "parts"), strict=True):
        assert parts == pytest.approx(whole, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize(("kind", "accumulation", "stops"), [("replicated", 1, [192]), ("sharded", 2, [96, 192])])
def test_two_processes_have_the_trace_of_one(tmp_path, kind, accumulation, stops):
    run_to_end(LineTask(width=64), settings(192), tmp_path / "one")
    script = Path(__file__).resolve().parents[1] / "helpers/line_run.py"
    run_two(script, kind, tmp_path / "two", accumulation, *stops)
    one, two = trace(tmp_path / "one"), trace(tmp_path / "two")
    assert len(two) == len(one) == 8
    for a, b in zip(one, two, strict=True):
        assert b == pytest.approx(a, rel=1e-4, abs=1e-9)
    # Whole tensors, in the form that one process writes, and goes on from.
    for name in ("checkpoint/weights", "checkpoint/ema", "checkpoint/optimiser", "export/model"):
        alone, shared = (load_file(tmp_path / run / f"{name}.safetensors") for run in ("one", "two"))
        assert alone.keys() == shared.keys()
        for key, value in alone.items():
            torch.testing.assert_close(shared[key], value, rtol=1e-3, atol=1e-5)
    assert run_to_end(LineTask(width=64), settings(216), tmp_path / "two")[0].images == 216


@pytest.fixture
def other_precisions():
    """Accelerate keeps one precision for a process: forget it whenever asked, and afterwards."""
    forget = partial(AcceleratorState._reset_state, reset_partial_state=True)
    yield forget
    forget()


def test_bf16_learns_the_same_and_keeps_weights_in_float32(tmp_path, other_precisions):
    full, low = LineTask(width=8), LineTask(width=8)
    run_to_end(full, config(), tmp_path / "fp32")
    other_precisions()
    report = run_to_end(low, config(precision="bf16"), tmp_path / "bf16")[-1]
    a, b = (task.module.line.weight.detach() for task in (full, low))
    assert not torch.equal(a, b)
    torch.testing.assert_close(b, a, rtol=0, atol=0.05)
    assert report.metrics["mse"] < 0.05
    for file in ("checkpoint/weights", "checkpoint/ema", "export/model"):
        assert {v.dtype for v in load_file(tmp_path / f"bf16/{file}.safetensors").values()} == {torch.float32}


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has fp16")
def test_fp16_without_a_gpu_is_refused(tmp_path, other_precisions):
    other_precisions()
    with pytest.raises(ConfigError, match="expected bf16 or fp32 without a GPU, got fp16"):
        run_to_end(LineTask(), config(precision="fp16"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_that_does_not_divide_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="expected a multiple of 1 processes x accumulation 3"):
        run_to_end(LineTask(), config(accumulation=3), tmp_path)


def test_a_kill_while_saving_leaves_a_checkpoint_that_loads(tmp_path):
    run_to_end(LineTask(), config(total=80), tmp_path)
    # What is on disk between the two renames, with a half-written new one beside it.
    (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.old")
    (tmp_path / "checkpoint.new").mkdir()
    (tmp_path / "checkpoint.new/weights.safetensors").write_bytes(b"half")
    reports = run_to_end(LineTask(), config(total=160), tmp_path)
    assert reports[0].images == 88


def test_a_disk_that_fills_during_a_checkpoint_leaves_the_last_one(tmp_path):
    run_to_end(LineTask(width=4096), config(total=80), tmp_path)
    with largest_file(8_000), pytest.raises(OutputError, match="checkpoint is intact: make room and resume") as error:
        run_to_end(LineTask(width=4096), config(total=160, grid_images=0), tmp_path)
    assert "\n" not in str(error.value)
    assert run_to_end(LineTask(width=4096), config(total=160), tmp_path)[0].images == 88


@contextmanager
def largest_file(num_bytes):
    """A disk that is full: no file grows beyond this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("num_bytes", [0, 60, 200, 400, 600, 900, 1300, 1800, 2600, 4000])
def test_a_disk_that_fills_at_any_write_loses_nothing(tmp_path, num_bytes):
    engine = config(total=80, checkpoint_s=0.0, grid_images=16, log_images=8)
    run_to_end(LineTask(width=64, noise=0.1), engine, tmp_path / "whole")
    with largest_file(num_bytes):
        try:
            run_to_end(LineTask(width=64, noise=0.1), engine, tmp_path / "cut")
        except OutputError as error:
            assert "\n" not in str(error)  # noqa: PT017 (the largest limits are met by nothing)
        else:
            assert num_bytes > 1000
    run_to_end(LineTask(width=64, noise=0.1), engine, tmp_path / "cut")
    assert trace(tmp_path / "cut") == trace(tmp_path / "whole")
    whole, cut = (load_file(tmp_path / name / "export/model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


def test_another_networks_checkpoint_is_refused(tmp_path):
    run_to_end(LineTask(), config(total=80), tmp_path)
    with pytest.raises(
        CheckpointError, match=r"holds another network \(line.weight is \(1, 1\), expected \(1, 2\)\)"
    ) as error:
        run_to_end(LineTask(width=2), config(total=160), tmp_path)
    assert "\n" not in str(error.value)


def test_a_loss_that_is_no_number_stops_and_keeps_its_batch(tmp_path):
    with pytest.raises(OmoteError, match="step 5 .* holds numbers that are not finite: check the data") as error:
        run_to_end(LineTask(broken_at=5), config(), tmp_path)
    assert "checkpoint" not in str(error.value)  # there is none yet
    batch = load_file(tmp_path / "bad_batch.safetensors")
    assert batch["batch.0"].shape == (8, 1)
    assert batch["batch.1"].isnan().all()


class LengthModule(LineModule):
    """Charges for a length as well: of nothing it is zero, and its gradient no number."""

    def forward(self, batch):
        loss, terms = super().forward(batch)
        return loss + (self.line.weight * batch[0]).square().sum().sqrt(), terms


class EmptyBatchTask(LineTask):
    """Step 5 is all zeros."""

    def __init__(self):
        super().__init__()
        self.module = LengthModule()

    def batch(self, step, seed, size, part, parts):
        x, y = super().batch(step, seed, size, part, parts)
        return (x * 0, y) if step == 5 else (x, y)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gradient_that_is_no_number_stops_before_it_reaches_the_weights(tmp_path, other_precisions, precision):
    other_precisions()
    with pytest.raises(
        OmoteError, match=r"the gradient's norm of step 5 .* a learning rate of .* likely cause"
    ) as error:
        run_to_end(EmptyBatchTask(), config(precision=precision, checkpoint_s=0.0), tmp_path)
    assert "\n" not in str(error.value)
    assert not load_file(tmp_path / "bad_batch.safetensors")["batch.0"].any()
    assert f"the last checkpoint is in {tmp_path / 'checkpoint'}" in str(error.value)
    assert progress_of(tmp_path).images == 40
    assert all(v.isfinite().all() for v in load_file(tmp_path / "checkpoint/weights.safetensors").values())


def test_learning_rate_warms_up_holds_and_ends_at_zero():
    engine = config(total=1000)
    assert learning_rate(engine, 0) < learning_rate(engine, 39) <= engine.learning_rate
    assert learning_rate(engine, 500) == engine.learning_rate
    assert learning_rate(engine, 1000) == 0


def test_an_estimate_counts_and_times_and_trains_nothing_on_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    measured = estimate(LineTask(width=9, pause_s=0.01), config(total=8000))
    assert measured.parameters == 10
    assert measured.hours == pytest.approx(8000 / measured.images_per_s / 3600)
    assert measured.images_per_s < 8 / 0.01
    # One output per image from nine inputs and the gradient of its weights; nothing wants that of the inputs.
    assert measured.gflop_per_image == pytest.approx(2 * (2 * 9) / 1e9)
    assert not list(tmp_path.iterdir())


def test_a_run_of_seconds_ends_when_they_are_spent_and_can_be_given_more(tmp_path, steady_clock, monkeypatch):
    monkeypatch.setattr(omote.engine.loop, "time", steady_clock)

    def spent(seconds):
        engine = config(total=10**9, max_seconds=seconds, cooldown=0.0, log_images=8)
        reports = run_to_end(LineTask(), engine, tmp_path)
        return reports[-1] if reports else None

    first = spent(0.125)
    assert first.seconds == 0.125
    assert progress_of(tmp_path).images == first.images
    assert spent(0.125) is None
    second = spent(0.25)
    assert second.images > first.images
    assert second.seconds == 0.25


def test_reading_the_reports_does_not_count_as_training_time(tmp_path, steady_clock, monkeypatch):
    monkeypatch.setattr(omote.engine.loop, "time", steady_clock)
    engine = config(total=80, max_seconds=100.0, log_images=8)
    reports = []
    for report in train(LineTask(), engine, tmp_path, Resolved(engine=engine)):
        reports.append(report)
        steady_clock.looks += 5
    assert reports[-1].images == 80
    assert reports[-1].seconds == 10 / 64


def test_the_rate_of_a_run_of_seconds_falls_over_their_last_share():
    engine = config(total=10**9, max_seconds=10.0, cooldown=0.4, warmup_images=0)
    rates = [learning_rate(engine, 100, seconds) / engine.learning_rate for seconds in (0.0, 6.0, 7.0, 10.0)]
    assert rates == pytest.approx([1, 1, 0.5, 0])


def test_an_export_lost_to_a_kill_is_made_again(tmp_path):
    run_to_end(LineTask(), config(total=80), tmp_path)
    before = load_file(tmp_path / "export/model.safetensors")
    (tmp_path / "export/model.safetensors").unlink()
    assert run_to_end(LineTask(), config(total=80), tmp_path) == []
    after = load_file(tmp_path / "export/model.safetensors")
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_weights_that_were_no_numbers_before_are_named(tmp_path):
    task = LineTask()
    torch.nn.init.constant_(task.module.line.weight, float("nan"))
    with pytest.raises(OmoteError, match="weights were not finite before this step: start from other weights"):
        run_to_end(task, config(), tmp_path)


def test_a_compiled_network_trains_the_same_under_the_same_names(tmp_path):
    torch.compiler.set_stance("force_eager")  # as compiled code is called, without minutes of compiling
    try:
        run_to_end(LineTask(), config(total=64), tmp_path / "plain")
        run_to_end(LineTask(), replace(config(total=64), compile=True), tmp_path / "compiled")
    finally:
        torch.compiler.set_stance("default")
    assert trace(tmp_path / "compiled") == trace(tmp_path / "plain")
    names = [set(load_file(tmp_path / run / "checkpoint/weights.safetensors")) for run in ("plain", "compiled")]
    assert names[0] == names[1]


@dataclass(frozen=True)
class NestedBatch:
    image: torch.Tensor
    rest: tuple[torch.Tensor, str]


def test_every_tensor_of_a_batch_is_pinned(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1)
    batch = pinned(NestedBatch(image=torch.zeros(2), rest=(torch.zeros(1), "name")))
    assert batch.image.tolist() == [1, 1]
    assert batch.rest[0].tolist() == [1]
    assert batch.rest[1] == "name"
