"""Rows as sets of images: what is the truth's own has distance 0, what is not has some, and neutral is not looked at twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from omote.evaluation.distribution import feature_statistics, frechet_distance
from omote.evaluation.features import FeatureExtractor, PerceptualDistance
from omote.evaluation.sets import SetNetworks, save_features, summarise_sets
from omote.geometry.camera import orbit_camera
from omote.types import Rgbd

# Means of the quarters of the picture's first channel.
NETWORKS = SetNetworks(
    extractors=(
        FeatureExtractor(
            name="quarters",
            forward=lambda x: torch.nn.functional.avg_pool2d(x[:, :1], 4).flatten(1),
        ),
    ),
    perceptual=PerceptualDistance(name="pixels", stages=lambda x: [x]),
)
LANDMARKS = np.zeros((68, 2))


def images(seed: int, shift: float = 0.0) -> list[Rgbd]:
    rng = np.random.default_rng(seed)
    depth = np.full((8, 8), 700, np.float32)
    base = rng.random((7, 1, 1, 1)) * 0.5 + 0.2 * rng.random((7, 8, 8, 3))
    return [
        Rgbd(rgb=(x + shift).astype(np.float32), depth_mm=depth, mask=depth > 0, camera=orbit_camera(size=8))
        for x in base
    ]


def test_rows_are_compared_with_the_true_renders(tmp_path: Path) -> None:
    files, moved = [], np.ones((4, 7), bool)
    moved[:, 0] = False
    for k in range(4):
        truth = images(k)
        paths = [tmp_path / f"{k}_{name}.safetensors" for name in ("model", "rivals")]
        save_features(paths[0], NETWORKS, {"model": images(k, 0.1), "same": truth}, truth, LANDMARKS)
        save_features(paths[1], NETWORKS, {"ceiling": truth}, truth, LANDMARKS)
        files.append(paths)
    got = summarise_sets(files, moved, NETWORKS)
    assert got["fd/quarters/same"] == pytest.approx(0, abs=1e-6)
    assert got["precision/quarters/same"] == got["recall/quarters/same"] == 1
    assert got["perceptual/pixels/same"] == pytest.approx(0, abs=1e-6)
    # A shift of every feature by .1 and nothing else: four features.
    assert got["fd/quarters/model"] == pytest.approx(4 * 0.1**2, rel=1e-3)
    assert got["kid/quarters/model"] > got["kid/quarters/same"]
    assert got["count/set_images"] == got["count/kid_subset_size"] == 28
    assert not any(key.endswith("/ceiling") for key in got)

    def features(shift: float) -> np.ndarray:
        rgb = np.concatenate([[i.rgb[..., 0] for i in images(k, shift)] for k in range(4)])
        return rgb.reshape(28, 2, 4, 2, 4).mean(axis=(2, 4)).reshape(28, 4)

    reference = frechet_distance(feature_statistics(features(0.0)), feature_statistics(features(0.1)))
    assert got["fd/quarters/model"] == pytest.approx(reference, rel=1e-3)


def test_neutral_images_do_not_count_for_the_perceptual_distance(tmp_path: Path) -> None:
    truth, path = images(0), tmp_path / "0.safetensors"
    shown = [images(9)[0], *truth[1:]]  # only the first, neutral, differs
    save_features(path, NETWORKS, {"model": shown, "ceiling": truth}, truth, LANDMARKS)
    moved = np.ones((1, 7), bool)
    assert summarise_sets([[path]], moved, NETWORKS)["perceptual/pixels/model"] > 1e-4
    moved[0, 0] = False
    assert summarise_sets([[path]], moved, NETWORKS)["perceptual/pixels/model"] == pytest.approx(0, abs=1e-9)
