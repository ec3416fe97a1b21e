"""The networks' inputs and outputs, their equal size, and their files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from omote.completion.base import PartialScan
from omote.completion.coarse_head import FACE_PARTS, NUM_COARSE, coarse_head
from omote.completion.network import CompletionNetwork
from omote.completion.scan_batch import UNIT_MM, ScanBatch, scan_batch
from omote.completion.trained import NETWORKS, TrainedCompletion, load_completion
from omote.completion.volume import grid_of
from omote.engine.weights import built
from omote.errors import CheckpointError
from omote.head.shipped import shipped_head
from omote.recipes.completion import COMPLETION

KINDS = tuple(NETWORKS)


def network_of(kind: str, size: str = "tiny") -> CompletionNetwork:
    torch.manual_seed(0)
    config = COMPLETION[f"{kind}-{size}"](Path())
    network = built(NETWORKS[kind], config)
    network.on(coarse_head(shipped_head()))
    for parameter in network.readout.out.parameters():
        torch.nn.init.normal_(parameter, std=0.02)  # zero at first, which would hide what is wrong
    return network.eval()


@pytest.fixture(scope="module")
def scans(half_scan: PartialScan) -> ScanBatch:
    head = shipped_head()
    empty = replace(half_scan, points_mm=np.zeros((0, 3)), normals=np.zeros((0, 3)), colors=None)
    return scan_batch([half_scan, empty], head, coarse_head(head))


def test_all_vertices_follow_the_coarse_ones_of_every_part() -> None:
    head = shipped_head()
    coarse = coarse_head(head)
    assert len(np.unique(coarse.ids)) == NUM_COARSE
    assert (np.diff(coarse.part) >= 0).all()
    assert set(coarse.part) == set(range(len(FACE_PARTS)))
    assert np.asarray(coarse.spread.sum(axis=1)).ravel() == pytest.approx(1)
    place = head.template_mm[coarse.ids]
    assert np.linalg.norm((coarse.spread @ place)[coarse.ids] - place, axis=1).max() < 0.05
    landmarks = head.landmarks(head.template_mm)
    nearest = [int(np.linalg.norm(place - at, axis=1).argmin()) for at in landmarks[[30, 66, 45, 8]]]
    assert [FACE_PARTS[coarse.part[k]] for k in nearest] == ["nose", "mouth", "eyes", "jaw"]


def test_what_is_measured_at_a_vertex_is_how_far_the_points_lie_outside(scans: ScanBatch) -> None:
    seen, missing = scans.seen[0], ~scans.seen[0]
    assert 0.4 < seen.float().mean() < 0.6
    apart = scans.measured[0, :, 0] * UNIT_MM
    assert apart[seen].median() == pytest.approx(2.0, abs=0.1)
    far = missing & (scans.fitted_mm[0, :, 0] < -20)
    assert (scans.measured[0, far][:, [0, 1, 2, 3, 4]] == 0).all()
    assert not scans.seen[1].any()
    assert scans.measured.isfinite().all()


def test_the_grid_holds_signed_distances(scans: ScanBatch) -> None:
    grid = grid_of(scans, 64)
    surface, told = grid[0, 5], grid[0, 6] > 0.5
    # The points lie 2 mm outside the fitted surface: inside them, outside it.
    between = told & (grid[0, 1] > 0.5)
    assert ((surface - grid[0, 0])[between] * 1.5 * 4.5).median() == pytest.approx(2.0, abs=0.4)
    assert (grid[1, :5] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_displaces_every_coarse_vertex_with_a_positive_deviation(kind: str, scans: ScanBatch) -> None:
    network = network_of(kind)
    with torch.no_grad():
        found = network(scans)
    assert found.offset_mm.shape == (2, NUM_COARSE, 3)
    assert found.offset_mm.isfinite().all()
    assert (found.sigma_mm > 0).all()
    assert not torch.equal(found.offset_mm[0], found.offset_mm[1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_scan_is_completed_the_same_whatever_it_is_batched_with(kind: str, scans: ScanBatch, half_scan) -> None:
    network, head = network_of(kind), shipped_head()
    with torch.no_grad():
        together = network(scans).offset_mm[0]
        alone = network(scan_batch([half_scan], head, coarse_head(head))).offset_mm[0]
    torch.testing.assert_close(alone, together, atol=1e-3, rtol=1e-3)


def test_what_was_seen_reaches_what_was_not(half_scan: PartialScan) -> None:
    head = shipped_head()
    coarse = coarse_head(head)
    moved = replace(half_scan, points_mm=half_scan.points_mm + 1.0 * half_scan.normals)
    for kind in KINDS:
        network = network_of(kind)
        with torch.no_grad():
            before, after = (network(scan_batch([scan], head, coarse)).offset_mm[0] for scan in (half_scan, moved))
        hidden = torch.from_numpy(head.template_mm[coarse.ids, 0] < -40)
        assert (before - after).abs()[hidden].max() > 1e-6, kind


def test_the_three_have_one_size() -> None:
    sizes = [sum(p.numel() for p in network_of(kind, "cpu").parameters()) for kind in KINDS]
    assert max(sizes) < 1.2 * min(sizes), dict(zip(KINDS, sizes, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_it_completes_the_same(kind: str, half_scan: PartialScan, tmp_path: Path) -> None:
    head, network = shipped_head(), network_of(kind)
    network.sigma_scale.copy_(torch.tensor([3.0, 2.0]))
    network.save_pretrained(tmp_path)
    own, loaded = TrainedCompletion(network, head)(half_scan), load_completion(tmp_path, head)(half_scan)
    np.testing.assert_array_equal(own.vertices_mm, loaded.vertices_mm)
    np.testing.assert_array_equal(own.sigma_mm, loaded.sigma_mm)
    np.testing.assert_array_equal(own.seen, loaded.seen)
    assert own.vertices_mm.shape == head.template_mm.shape
    assert (own.sigma_mm > 0).all()
    with torch.no_grad():
        bare = network(scan_batch([half_scan], head, coarse_head(head)))
        scaled = network.scaled(bare.sigma_mm, torch.ones_like(bare.sigma_mm, dtype=torch.bool))
    torch.testing.assert_close(scaled, 2 * bare.sigma_mm)


def test_missing_weights_and_those_of_another_head_are_one_line(tmp_path: Path) -> None:
    head = shipped_head()
    with pytest.raises(CheckpointError, match=r"expected config.json and safetensors weights; train one") as told:
        load_completion(tmp_path / "none", head)
    assert "\n" not in str(told.value)
    network = network_of("part-graph")
    network.vertices.add_(1)
    network.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="another head model"):
        load_completion(tmp_path, head)
