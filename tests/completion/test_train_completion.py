"""Partial scans for training, and training of the three networks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from omote.completion.partials import LOSSES, disturbed_views, partial_scan
from omote.completion.train import CompletionTask, calibrate, errors
from omote.completion.trained import load_completion
from omote.datasets.cache import read_kind, shard_folders
from omote.datasets.population import draw_person
from omote.datasets.view_shards import ViewShard
from omote.errors import ConfigError
from omote.geometry.camera import transform
from omote.geometry.cloud import closest_on_mesh
from omote.head.shipped import shipped_head
from omote.recipes.completion import COMPLETION
from omote.recipes.run import run_recipe

KINDS = ("volume", "sparse", "part-graph")


@pytest.fixture(scope="module")
def shard(completion_runs: Path) -> ViewShard:
    return read_kind(ViewShard, shard_folders(completion_runs / "views")[0])


@pytest.fixture(scope="module")
def task(completion_runs: Path) -> CompletionTask:
    return CompletionTask(COMPLETION["part-graph-tiny"](completion_runs), [shipped_head()])


def truth_of(shard: ViewShard, row: int) -> np.ndarray:
    head = shipped_head()
    vertices = head.vertices(shard.identity[row], shard.arkit[row, 0])
    return transform(shard.pose[row, 0].astype(float), vertices.astype(float))


def test_a_partial_scan_lies_on_the_head_in_the_fit_s_frame(shard: ViewShard) -> None:
    head, truth = shipped_head(), truth_of(shard, 0)
    for seed in range(3):
        partial, motion = partial_scan(shard, 0, 0, truth, head, np.random.default_rng(seed))
        distance, _, _ = closest_on_mesh(partial.points_mm, transform(motion, truth), head.faces)
        assert np.median(distance) < 4.0
        assert np.linalg.norm(partial.normals, axis=1) == pytest.approx(1, abs=1e-6)
        assert np.abs(partial.fitted_mm - transform(motion, truth)).mean() < 8.0
    again, _ = partial_scan(shard, 0, 0, truth, head, np.random.default_rng(2))
    np.testing.assert_array_equal(partial.points_mm, again.points_mm)


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_loss_takes_some_pixels_and_leaves_some(name: str, shard: ViewShard) -> None:
    head, left = shipped_head(), []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        views = disturbed_views(shard, 1, 0, head.landmarks(truth_of(shard, 1)), rng)
        left.append((LOSSES[name](views, rng) & views.mask).sum() / views.mask.sum())
    assert 0.02 < np.mean(left) < 0.99
    assert np.ptp(left) > 0.01, "its strength varies"


def test_calibration_is_on_persons_of_the_validation_split(completion_runs: Path, monkeypatch) -> None:
    drawn = []

    def drawing(config, index, heads):
        drawn.append((config.split, index))
        return draw_person(config, index, heads)

    monkeypatch.setattr("omote.completion.partial_source.draw_person", drawing)
    again = CompletionTask(COMPLETION["part-graph-tiny"](completion_runs), [shipped_head()])
    batches = again.held_out()
    assert drawn == [("validation", 0), ("validation", 1)]
    assert again.held_out() is batches
    # The truth is near the fit, and the scan on the truth.
    for batch in batches:
        assert float((batch.truth_mm - batch.scans.fitted_mm).norm(dim=2).mean()) < 8.0


@pytest.mark.parametrize("kind", KINDS)
def test_some_steps_on_a_batch_lower_its_loss(kind: str, completion_runs: Path, task: CompletionTask) -> None:
    module = CompletionTask(COMPLETION[f"{kind}-tiny"](completion_runs), [shipped_head()]).module
    batch = task.batch(0, 0, 2, 0, 1)
    optimiser = torch.optim.AdamW(module.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        loss, metrics = module(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.05
    assert all(value.isfinite() for value in metrics.values())
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name


def test_calibrated_deviations_hold_two_thirds_of_the_errors(task: CompletionTask) -> None:
    network, batches = task.module.network, task.held_out()
    calibrate(network, batches)
    for seen in (False, True):
        ratios = []
        for batch in batches:
            with torch.no_grad():
                found = network.calibrated(batch.scans)
            ratio = errors(found, batch)[0].abs() / found.sigma_mm
            ratios.append(ratio[batch.scans.seen == seen])
        assert 0.5 < float((torch.cat(ratios) < 1).float().mean()) < 0.85
    network.sigma_scale.fill_(1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_recipe_runs_and_its_export_completes_a_scan(kind: str, completion_runs: Path, half_scan) -> None:
    config = COMPLETION[f"{kind}-tiny"](completion_runs)
    run = completion_runs / kind
    short = replace(config, engine=replace(config.engine, total_images=4, batch_size=2))
    assert [report.images for report in run_recipe(short, run)] == [2, 4]
    assert not list(run_recipe(short, run)), "a finished run is not run again"
    head = shipped_head()
    found = load_completion(run / "export/completion", head)(half_scan)
    assert found.vertices_mm.shape == head.template_mm.shape
    assert not torch.equal(found_scale(run), torch.ones(2)), "calibrated"


def found_scale(run: Path) -> torch.Tensor:
    return load_completion(run / "export/completion", shipped_head()).network.sigma_scale


def test_widths_of_another_kind_are_one_line(completion_runs: Path) -> None:
    config = replace(COMPLETION["volume-tiny"](completion_runs), widths=(4, 4, 4, 4))
    with pytest.raises(ConfigError, match="widths: too many values"):
        CompletionTask(config, [shipped_head()])
