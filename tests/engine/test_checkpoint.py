"""Checkpoints: damage of any kind is named, and the one before it is offered."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from line_task import LineTask, config, run_to_end
from mutators import mutated
from omote.engine.checkpoint import progress_of
from omote.errors import CheckpointError
from omote.files import sha256


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of ten checkpoints, of which two are kept."""
    folder = tmp_path_factory.mktemp("checkpoints") / "run"
    run_to_end(LineTask(), config(total=80, checkpoint_s=0.0), folder)
    return folder


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "run")


def resume(run):
    return run_to_end(LineTask(), config(total=160, checkpoint_s=0.0), run)


def signed(folder):
    """Give a checkpoint the checksums of what is in it now."""
    sums = {path.name: sha256(path) for path in folder.iterdir() if path.name != "checksums.json"}
    (folder / "checksums.json").write_text(json.dumps(sums))


def test_the_newest_two_are_kept(run):
    assert sorted(path.name for path in run.glob("checkpoint*")) == ["checkpoint", "checkpoint.old"]
    assert json.loads((run / "checkpoint.old/progress.json").read_text())["images"] == 72


@pytest.mark.parametrize("name", ["weights.safetensors", "ema.safetensors", "optimiser.safetensors", "progress.json"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "missing"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_goes_on(run, copy, name, damage):
    path = copy / "checkpoint" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink() if damage == "missing" else path.write_bytes(data[:10] if damage == "cut" else data)
    with pytest.raises(
        CheckpointError, match=rf"{name}: .*; delete .*checkpoint to go on from .* \(72 images\)"
    ) as error:
        resume(copy)
    assert "\n" not in str(error.value)
    shutil.rmtree(copy / "checkpoint")
    assert [report.images for report in run_to_end(LineTask(), config(total=80, checkpoint_s=0.0), copy)] == [80]
    before, after = (load_file(folder / "export/model.safetensors") for folder in (run, copy))
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_two_damaged_ones_are_both_named(copy):
    for folder in ("checkpoint", "checkpoint.old"):
        (copy / folder / "weights.safetensors").unlink()
    with pytest.raises(CheckpointError, match="damaged as well .* start over, or give another --run folder"):
        resume(copy)


@pytest.mark.parametrize("value", [-8, "many", None, 1.5, [8]])
def test_progress_that_is_no_count_is_refused_even_with_its_checksum(copy, value):
    path = copy / "checkpoint/progress.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"images": value}))
    signed(copy / "checkpoint")
    with pytest.raises(CheckpointError, match="progress.json: damaged"):
        progress_of(copy)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda state: state | {"9.exp_avg": torch.zeros(1)}, "9.exp_avg"),
        (lambda state: state | {"line": torch.zeros(1)}, "line"),
        (lambda state: state | {"0.momentum_buffer": torch.zeros(1, 1)}, "momentum_buffer"),
        (lambda state: state | {"0.exp_avg": torch.zeros(3)}, r"0.exp_avg is \(3,\)"),
        (lambda state: {k: v for k, v in state.items() if k != "0.exp_avg"}, "of parameter 0 only"),
    ],
)
def test_another_optimisers_state_is_refused(copy, change, what):
    path = copy / "checkpoint/optimiser.safetensors"
    save_file(change(load_file(path)), path)
    signed(copy / "checkpoint")
    with pytest.raises(CheckpointError, match=f"another optimiser's state .*{what}"):
        resume(copy)


def test_a_checkpoint_without_one_of_its_tensors_is_refused(copy):
    path = copy / "checkpoint/weights.safetensors"
    weights = load_file(path)
    del weights["line.bias"]
    save_file(weights, path)
    signed(copy / "checkpoint")
    with pytest.raises(CheckpointError, match="line.bias is missing"):
        resume(copy)


def test_no_mutated_checkpoint_is_taken_for_a_whole_one(run, tmp_path):
    rng, names = np.random.default_rng(0), sorted(path.name for path in (run / "checkpoint").iterdir())
    for i in range(300):
        folder = tmp_path / "run"
        shutil.copytree(run / "checkpoint", folder / "checkpoint", dirs_exist_ok=True)
        path = folder / "checkpoint" / str(rng.choice(names))
        before = path.read_bytes()
        path.write_bytes(mutated({path.name: before}, rng)[path.name])
        # A space more in the checksums is no damage.
        if path.read_bytes() == before or (path.name == "checksums.json" and _reads_the_same(path, before)):
            continue
        with pytest.raises(CheckpointError) as error:
            progress_of(folder)
        assert "\n" not in str(error.value), i


def _reads_the_same(path, before):
    try:
        return json.loads(path.read_bytes()) == json.loads(before)
    except (ValueError, RecursionError):
        return False
