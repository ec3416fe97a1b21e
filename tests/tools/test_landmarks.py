"""Training of the landmark networks: exact targets, deterministic batches, resumable runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from omote.align.landmarks import load_landmark_networks, orthonormal
from omote.head.model import HeadModel
from omote.head.shipped import shipped_head
from omote.tools.landmark_scans import HeadPoints, draw_other, draw_scan
from omote.tools.landmarks import LandmarkTraining, finder_views, landmark_view, make_batch, train_landmarks

CONFIG = LandmarkTraining(steps=4, batch_size=4, views_per_scan=2, checkpoint_steps=2)


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return shipped_head()


@pytest.fixture(scope="module")
def points(head: HeadModel) -> HeadPoints:
    return HeadPoints(head, count=6000)


def test_landmarks_lie_on_the_scan(points: HeadPoints) -> None:
    rng = np.random.default_rng(0)
    cloud, landmarks = points.draw(rng)
    gap = np.linalg.norm(cloud[None] - landmarks[17:, None], axis=2).min(axis=1)
    assert np.median(gap) < 4.0
    scan = draw_scan([points], rng)
    assert scan.points.shape == (len(scan.on_face), 3)
    assert draw_other(rng).landmarks is None


def test_landmark_targets_fall_where_the_picture_shows_them(points: HeadPoints) -> None:
    rng = np.random.default_rng(1)
    shares = []
    # Some scans are sparse enough to leave pixels between their points empty, so no single one decides.
    for _ in range(12):
        image, truth = landmark_view(draw_scan([points], rng, clutter=0.0), rng)
        u, v = (((truth[27:48, :2] + 1) / 2) * image.shape[1]).astype(int).T
        shares.append((image[2, np.clip(v, 0, 127), np.clip(u, 0, 127)] > 0).mean())
    assert np.mean(shares) > 0.8


def test_finder_marks_what_looks_at_it(points: HeadPoints) -> None:
    rng = np.random.default_rng(2)
    marked = 0
    for _ in range(6):
        for _, target in finder_views(draw_scan([points], rng, clutter=0.0), rng, 4):
            if target[0].max() == 1.0:
                marked += 1
                rotation = orthonormal(target[5:11, 0, 0])
                assert rotation[2, 2] < -0.6  # the face's z comes towards the camera
    assert marked >= 6


def test_batches_depend_on_seed_and_step_only(points: HeadPoints) -> None:
    a, b, c = (make_batch(CONFIG, [points], step) for step in (4, 4, 6))
    assert a[0] is not None
    assert b[0] is not None
    assert all(torch.equal(x, y) for x, y in zip((*a[0], *a[1:]), (*b[0], *b[1:]), strict=True))
    assert not torch.equal(a[1], c[1])
    assert make_batch(CONFIG, [points], 3)[0] is None


def test_a_run_resumes_to_the_same_weights(head: HeadModel, tmp_path: Path) -> None:
    whole = list(train_landmarks(CONFIG, [head], tmp_path / "whole"))
    assert [s.step for s in whole] == [1, 2, 3, 4]
    for step in train_landmarks(CONFIG, [head], tmp_path / "halves"):
        if step.step == 2:
            break
    rest = list(train_landmarks(CONFIG, [head], tmp_path / "halves"))
    assert [s.step for s in rest] == [3, 4]
    a, b = (load_file(tmp_path / run / "landmarks.safetensors") for run in ("whole", "halves"))
    assert all(torch.allclose(a[k].float(), b[k].float(), atol=1e-3) for k in a)
    load_landmark_networks(tmp_path / "whole/landmarks.safetensors")
    assert json.loads((tmp_path / "whole/config.json").read_text())["batch_size"] == 4
