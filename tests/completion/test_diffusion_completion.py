"""Completion by diffusion: views of a partial scan, the way back to the head, training and samples."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from omote.completion.base import PartialScan
from omote.completion.coarse_head import coarse_head
from omote.completion.diffusion import GROUPS, DiffusionCompletion
from omote.completion.partial_views import displacement, partial_views
from omote.completion.trained import load_completion
from omote.errors import CheckpointError, ConfigError
from omote.geometry.mesh import vertex_normals
from omote.geometry.rig import Rig
from omote.head.shipped import shipped_head
from omote.recipes.completion import COMPLETION
from omote.recipes.multiview import MULTIVIEW
from omote.recipes.run import run_recipe, task_of
from omote.rendering.scans import render_mesh
from omote.rgbd.codec import DEPTH, MASK, pack_images, unpack
from omote.types import Mesh


def test_a_composite_has_the_points_where_they_are_and_the_fit_elsewhere(half_scan: PartialScan) -> None:
    head, coarse = shipped_head(), coarse_head(shipped_head())
    views = partial_views(half_scan, head, Rig(), 128)
    left = head.template_mm[coarse.ids, 0] > 3
    right = head.template_mm[coarse.ids, 0] < -3
    moved = np.linalg.norm(views.vertices_mm - half_scan.fitted_mm[coarse.ids], axis=1)
    assert np.median(moved[left]) == pytest.approx(2.0, abs=0.2)
    assert np.median(moved[right]) == 0.0
    # The points are at the person's left, in the right half of the front view.
    supported = (views.supported[0, MASK] > 0)[0].numpy()
    assert supported[:, 70:].sum() > 20 * supported[:, :58].sum()
    assert ((views.composite[0, MASK] > 0)[0].numpy() >= supported).all()


def test_a_change_of_depth_in_the_views_displaces_the_head_by_as_much(half_scan: PartialScan) -> None:
    """The views of a head 2 mm outside all over: every vertex in view moves there."""
    head = shipped_head()
    fitted = replace(half_scan, points_mm=np.zeros((0, 3)), normals=np.zeros((0, 3)), colors=None)
    views = partial_views(fitted, head, Rig(), 128)
    whole = partial_views(replace(fitted, fitted_mm=grown(head, 2.0)), head, Rig(), 128)
    moved, in_view = displacement(views, whole.composite.numpy())
    assert 0.5 < in_view.mean() < 0.9, "the rig sees no back of a head"
    assert np.median(moved[in_view]) == pytest.approx(2.0, abs=0.15)
    assert np.percentile(np.abs(moved[in_view] - 2.0), 80) < 0.6
    assert not moved[~in_view].any()
    still, _ = displacement(views, views.composite.numpy())
    assert np.abs(still).max() == 0.0


def grown(head, distance_mm: float) -> np.ndarray:
    template = head.template_mm.astype(np.float64)
    return template + distance_mm * vertex_normals(template, head.faces)


def test_composites_are_like_the_renders_that_the_first_stage_knows(half_scan: PartialScan) -> None:
    head = shipped_head()
    views = partial_views(half_scan, head, Rig(), 64)
    mesh = Mesh(vertices=grown(head, 0.0), faces=head.faces.astype(np.int64))
    rendered = pack_images([render_mesh(mesh, camera) for camera in views.cameras])
    both = (rendered[:, MASK] > 0) & (views.composite[:, MASK] > 0)
    apart = (unpack(rendered)[1] - unpack(views.composite)[1])[both].abs()
    assert float(apart.median()) < 2.1, "2 mm where the points are"
    assert float((rendered[:, DEPTH] - views.composite[:, DEPTH]).abs().median()) < 0.05


@pytest.fixture(scope="module")
def trained(completion_runs: Path) -> Path:
    """The export of a run of a few steps."""
    first = MULTIVIEW["views-tiny-rgbd"](completion_runs)
    first = replace(first, engine=replace(first.engine, total_images=4, batch_size=2))
    list(run_recipe(first, completion_runs / "views-stage"))
    config = COMPLETION["completion-diffusion-tiny"](completion_runs)
    short = replace(config, engine=replace(config.engine, total_images=4, batch_size=2))
    run = completion_runs / "diffusion"
    assert [report.images for report in run_recipe(short, run)] == [2, 4]
    assert not list(run_recipe(short, run)), "a finished run is not run again"
    return run / "export/completion"


def test_an_export_completes_a_scan_the_same_way_every_time(trained: Path, half_scan: PartialScan) -> None:
    head = shipped_head()
    complete = load_completion(trained, head)
    assert isinstance(complete, DiffusionCompletion)
    assert not torch.equal(complete.sigma_scale, torch.ones(3)), "calibrated"
    found, again = complete(half_scan), complete(half_scan)
    assert found.vertices_mm.shape == head.template_mm.shape
    np.testing.assert_array_equal(found.vertices_mm, again.vertices_mm)
    assert np.isfinite(found.sigma_mm).all()
    assert (found.sigma_mm > 0).all()
    assert 0.2 < found.seen.mean() < 0.8


def test_samples_differ_and_their_spread_is_in_the_deviation(trained: Path, half_scan: PartialScan) -> None:
    complete = load_completion(trained, shipped_head())
    assert isinstance(complete, DiffusionCompletion)
    found = complete.sampled(half_scan)
    assert found.offset_mm.shape == (complete.samples, len(complete.coarse.ids), 3)
    assert np.ptp(found.offset_mm, axis=0).max() > 1e-3
    assert set(found.group) == set(range(len(GROUPS)))


def test_what_was_measured_stays_and_the_rest_differs_from_sample_to_sample(
    trained: Path, half_scan: PartialScan
) -> None:
    complete = load_completion(trained, shipped_head())
    assert isinstance(complete, DiffusionCompletion)
    found = complete.sampled(half_scan)
    measured = found.offset_mm[:, found.group == GROUPS.index("seen")]
    assert np.ptp(measured, axis=0).max() == 0.0
    assert np.median(np.linalg.norm(measured, axis=2)) == pytest.approx(2.0, abs=0.2)
    assert np.ptp(found.offset_mm[:, found.group == GROUPS.index("missing")], axis=0).max() > 1e-3


def test_weights_that_lack_a_network_or_do_not_belong_together_are_one_line(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "own")
    shutil.rmtree(tmp_path / "own/first_stage")
    with pytest.raises(CheckpointError, match=r"first_stage: .*completion-diffusion-cpu"):
        load_completion(tmp_path / "own", shipped_head())
    shutil.copytree(trained, tmp_path / "damaged")
    (tmp_path / "damaged/denoiser/units.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="damaged"):
        load_completion(tmp_path / "damaged", shipped_head())


def test_a_first_stage_without_depth_is_refused(completion_runs: Path, trained: Path) -> None:
    first = MULTIVIEW["views-tiny"](completion_runs)
    list(
        run_recipe(replace(first, engine=replace(first.engine, total_images=2, batch_size=2)), completion_runs / "rgb")
    )
    config = COMPLETION["completion-diffusion-tiny"](completion_runs)
    with pytest.raises(ConfigError, match="first_stage: expected one with depth"):
        task_of(replace(config, first_stage=completion_runs / "rgb/export/first_stage"))


def test_some_steps_on_a_batch_lower_its_loss(completion_runs: Path, trained: Path) -> None:
    task = task_of(COMPLETION["completion-diffusion-tiny"](completion_runs))
    batch = task.batch(0, 0, 2, 0, 1)
    optimiser = torch.optim.AdamW([p for p in task.module.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(12):
        loss, _metrics = task.module(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
