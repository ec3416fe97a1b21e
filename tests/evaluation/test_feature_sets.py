"""Rows as sets of images: what is the truth's own has distance 0, what is not has some, and neutral is not looked at twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from omote.evaluation.distribution import feature_statistics, frechet_distance
from omote.evaluation.feature_sets import FeatureNetworks, save_features, summarise_features
from omote.evaluation.features import FeatureExtractor, PerceptualDistance
from omote.evaluation.records import PersonRecords, Record, Row, value_of
from omote.geometry.camera import orbit_camera
from omote.types import Rgbd

# Means of the quarters of the picture's first channel.
NETWORKS = FeatureNetworks(
    extractors=(
        FeatureExtractor(
            name="efficientnet_lite0",
            forward=lambda x: torch.nn.functional.avg_pool2d(x[:, :1], 4).flatten(1),
        ),
    ),
    perceptual=PerceptualDistance(name="lpips_vgg16", stages=lambda x: [x]),
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


CEILING, MODEL, SAME = Row("ceiling"), Row("model"), Row("same").under(steps=1)


def person(*rows: Row) -> PersonRecords:
    """Seven images, the first neutral, of rows of which something was measured."""
    records = tuple(Record(row=row, measure="depth/silog", values=np.zeros(7)) for row in rows)
    return PersonRecords(parts={}, category=tuple(range(7)), intensity=(1.0,) * 7, records=records)


def test_rows_are_compared_with_the_true_renders(tmp_path: Path) -> None:
    files = []
    for k in range(4):
        truth = images(k)
        paths = [tmp_path / f"{k}_{name}.safetensors" for name in ("model", "rivals")]
        save_features(paths[0], NETWORKS, {MODEL: images(k, 0.1), SAME: truth}, truth, LANDMARKS)
        save_features(paths[1], NETWORKS, {CEILING: truth}, truth, LANDMARKS)
        files.append(paths)
    got = summarise_features(files, [person(MODEL, SAME, CEILING, Row("elsewhere"))] * 4, NETWORKS)
    assert set(got) == {MODEL, SAME, Row()}
    assert got[SAME]["fd/efficientnet_lite0"] == pytest.approx(0, abs=1e-6)
    assert got[SAME]["precision/efficientnet_lite0"] == got[SAME]["recall/efficientnet_lite0"] == 1
    assert value_of(got[SAME]["perceptual/lpips_vgg16"]) == pytest.approx(0, abs=1e-6)
    # A shift of every feature by .1 and nothing else: four features.
    assert got[MODEL]["fd/efficientnet_lite0"] == pytest.approx(4 * 0.1**2, rel=1e-3)
    assert got[MODEL]["kid/efficientnet_lite0"] > got[SAME]["kid/efficientnet_lite0"]
    assert got[Row()] == {"count/set_images": 28, "count/kid_subset_size": 28}

    def features(shift: float) -> np.ndarray:
        rgb = np.concatenate([[i.rgb[..., 0] for i in images(k, shift)] for k in range(4)])
        return rgb.reshape(28, 2, 4, 2, 4).mean(axis=(2, 4)).reshape(28, 4)

    reference = frechet_distance(feature_statistics(features(0.0)), feature_statistics(features(0.1)))
    assert got[MODEL]["fd/efficientnet_lite0"] == pytest.approx(reference, rel=1e-3)


@pytest.mark.parametrize(("changed", "counts"), [(0, False), (1, True)])
def test_neutral_images_do_not_count_for_the_perceptual_distance(tmp_path: Path, changed: int, counts: bool) -> None:
    truth, path = images(0), tmp_path / "0.safetensors"
    shown = [images(9)[k] if k == changed else image for k, image in enumerate(truth)]
    save_features(path, NETWORKS, {MODEL: shown, CEILING: truth}, truth, LANDMARKS)
    got = value_of(summarise_features([[path]], [person(MODEL)], NETWORKS)[MODEL]["perceptual/lpips_vgg16"])
    assert (got > 1e-4) == counts
