"""Completion between alignment and avatar: which scans need it, and that it leaves alone what a scan shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from omote.align.align import Alignment, align
from omote.completion.aligned import AlignedCompletion, completed, lacks_depth, partial_of
from omote.completion.base import CompletedHead
from omote.completion.coarse_head import coarse_head
from omote.completion.names import CompletionName, shipped_completion
from omote.errors import CheckpointError
from omote.geometry.camera import orbit_camera
from omote.head.region import head_region
from omote.head.shipped import shipped_head
from omote.rendering.rgbd import render_head
from omote.types import PointCloud, Rgbd

HEAD = shipped_head()


@pytest.fixture(scope="module")
def frame() -> Rgbd:
    """The mean head as a depth camera in front of it sees it."""
    return render_head(HEAD, HEAD.template_mm, orbit_camera(size=160, distance_mm=700.0, field_mm=280.0))


@pytest.fixture(scope="module")
def aligned(frame: Rgbd) -> Alignment:
    landmarks = HEAD.landmarks(HEAD.template_mm).astype(np.float64)
    return align(frame, head=HEAD, landmarks=landmarks)


def test_a_frame_lacks_depth_and_a_whole_head_does_not(aligned: Alignment) -> None:
    outer = coarse_head(HEAD).outer
    whole = PointCloud(points=HEAD.template_mm[outer].astype(np.float64))
    assert lacks_depth(HEAD, aligned)
    assert not lacks_depth(HEAD, replace(aligned, scan=whole, vertices_mm=HEAD.template_mm.astype(np.float64)))


def test_what_the_scan_supports_stays(aligned: Alignment) -> None:
    whole = CompletedHead(
        vertices_mm=aligned.vertices_mm + np.array([0.0, 0.0, -6.0]),
        sigma_mm=np.full(HEAD.num_vertices, 1.5),
        seen=np.zeros(HEAD.num_vertices, bool),
    )
    out = completed(HEAD, aligned, whole)
    moved = np.linalg.norm(out.vertices_mm - aligned.vertices_mm, axis=1)
    region = head_region(HEAD)
    assert moved[region.face & ~aligned.inferred & ~region.lid].max() < 0.7
    # The back of the skull follows the completion.
    back = (region.exterior | region.ear) & (aligned.vertices_mm[:, 2] < -90)
    assert np.median(moved[back]) > 4.5
    np.testing.assert_allclose(out.neutral_mm - aligned.neutral_mm, out.vertices_mm - aligned.vertices_mm, atol=1e-4)
    assert out.sigma_mm is not None
    assert out.sigma_mm.min() == 1.5


def test_a_noisy_scan_is_averaged_with_the_completion_but_not_at_lips_and_lids(aligned: Alignment) -> None:
    whole = CompletedHead(
        vertices_mm=aligned.vertices_mm + np.array([0.0, 0.0, -2.0]),
        sigma_mm=np.full(HEAD.num_vertices, 0.3),
        seen=np.ones(HEAD.num_vertices, bool),
    )
    moved = {}
    for median in (0.02, 0.2, 2.0):
        out = completed(HEAD, replace(aligned, median_mm=median), whole)
        moved[median] = np.linalg.norm(out.vertices_mm - aligned.vertices_mm, axis=1)
    landmarks = HEAD.landmarks(HEAD.template_mm.astype(np.float64))
    cheek = np.linalg.norm(HEAD.template_mm - landmarks[[2, 31]].mean(axis=0), axis=1) < 15
    cheek &= head_region(HEAD).face & ~aligned.inferred
    lips = np.linalg.norm(HEAD.template_mm - landmarks[[48]], axis=1) < 3
    lips &= head_region(HEAD).face & ~aligned.inferred
    assert moved[0.02][cheek].max() < 0.2
    # Variances of .09 mm² each.
    assert np.median(moved[0.2][cheek]) == pytest.approx(1.0, abs=0.2)
    assert np.median(moved[2.0][cheek]) == pytest.approx(2.0, abs=0.2)
    assert np.median(moved[2.0][lips]) < 0.5 * np.median(moved[2.0][cheek])


def test_restoration_is_the_alignment_itself(frame: Rgbd, aligned: Alignment, tmp_path: Path) -> None:
    out, name = AlignedCompletion("restoration", HEAD, tmp_path)(frame, aligned)
    assert out is aligned
    assert name == "restoration"


def test_none_states_no_deviation(frame: Rgbd, aligned: Alignment, tmp_path: Path) -> None:
    out, name = AlignedCompletion("none", HEAD, tmp_path)(frame, aligned)
    assert name == "none"
    assert out.sigma_mm is None


@pytest.mark.parametrize("name", ["part-graph", "auto"])
def test_missing_weights_are_said_and_not_passed_over(
    name: CompletionName, frame: Rgbd, aligned: Alignment, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="part-graph"):
        AlignedCompletion(name, HEAD, tmp_path / "part-graph")(frame, aligned)


def test_weights_of_another_kind_are_refused(frame: Rgbd, aligned: Alignment) -> None:
    with pytest.raises(CheckpointError, match=r"part-graph: expected weights of sparse, got those of part-graph"):
        AlignedCompletion("sparse", HEAD, shipped_completion())(frame, aligned)


def test_weights_of_ones_own_have_their_kind_in_the_report(frame: Rgbd, aligned: Alignment) -> None:
    _, name = AlignedCompletion("auto", HEAD, shipped_completion())(frame, aligned)
    assert name == "part-graph"


def test_partial_scan_of_a_frame_is_what_was_measured(frame: Rgbd, aligned: Alignment) -> None:
    rows = np.arange(frame.mask.shape[0])
    holed = frame.mask & ~((rows > 70) & (rows < 90))[:, None]
    partial = partial_of(HEAD, replace(frame, mask=holed), aligned)
    full = partial_of(HEAD, frame, aligned)
    assert len(partial.points_mm) <= holed.sum() < len(full.points_mm)
    assert partial.colors is not None
    # Normals face away from the head.
    assert (partial.normals[:, 2] > 0).mean() > 0.95
