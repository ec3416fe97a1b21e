"""Are a row's images, as a set, those of the truth? Features per person as it goes, distances of all at the end.

The reference set is the true renders of the same persons and expressions. Few images make a Fréchet distance large: numbers
of different counts of persons are not comparable, so their count is among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors.numpy import load_file, save
from torch import Tensor

from omote.evaluation import metrics
from omote.evaluation.distribution import feature_statistics, frechet_distance, kernel_distance, precision_recall
from omote.evaluation.features import FeatureExtractor, PerceptualDistance, load_extractor, load_perceptual
from omote.files import atomic_path
from omote.types import Rgbd

REFERENCE = "ceiling"
PERCEPTUAL = "perceptual"
# A thousand features a subset is the custom for tens of thousands of images; there are seven a person here.
KID_SUBSETS, KID_SUBSET_SIZE = 100, 250


@dataclass(frozen=True, kw_only=True)
class SetNetworks:
    """What the sets are compared by.

    Attributes:
        extractors: of features.
        perceptual: distance of an image from its own truth.
    """

    extractors: tuple[FeatureExtractor, ...]
    perceptual: PerceptualDistance


def load_set_networks() -> SetNetworks:
    """The installed ones.

    Raises:
        JudgeError: they are not installed.
    """
    return SetNetworks(
        extractors=(load_extractor("efficientnet_lite0"), load_extractor("face_id")),
        perceptual=load_perceptual("efficientnet_lite0"),
    )


def save_features(
    path: Path,
    networks: SetNetworks,
    images: Mapping[str, Sequence[Rgbd]],
    truth: Sequence[Rgbd],
    neutral_landmarks_px: Float[np.ndarray, "68 2"],
) -> None:
    """Write the features of a person's rows, ``<extractor>/<row>`` and ``perceptual/<row>``, one line per image.

    Args:
        path: .safetensors.
        networks: of the features.
        images: per row.
        truth: the true renders in the same order.
        neutral_landmarks_px: of the true face at rest.
    """
    landmarks = torch.from_numpy(np.repeat(neutral_landmarks_px[None], len(truth), 0))
    true_maps = networks.perceptual.maps(_batch(truth))
    out: dict[str, np.ndarray] = {}
    for row, seen in images.items():
        rgb = _batch(seen)
        for extractor in networks.extractors:
            out[f"{extractor.name}/{row}"] = extractor(rgb, landmarks).numpy()
        if row != REFERENCE:
            out[f"{PERCEPTUAL}/{row}"] = networks.perceptual.between(networks.perceptual.maps(rgb), true_maps).numpy()
    with atomic_path(path) as temporary:
        temporary.write_bytes(save({k: np.ascontiguousarray(v) for k, v in out.items()}))


def _batch(images: Sequence[Rgbd]) -> Tensor:
    return torch.from_numpy(np.stack([i.rgb for i in images])).permute(0, 3, 1, 2).float().contiguous()


def summarise_sets(
    files: Sequence[Sequence[Path]], moved: Bool[np.ndarray, "p k"], networks: SetNetworks
) -> dict[str, float]:
    """Features → flat keys such as ``fd/efficientnet_lite0/model``.

    Args:
        files: each person's, with and without networks.
        moved: images that are not neutral: a perceptual distance is of these, as other measures of colour are.
        networks: whose features they hold.
    """
    persons = [{k: v for path in paths for k, v in load_file(path).items()} for paths in files]

    def stacked(key: str) -> np.ndarray:
        return np.concatenate([person[key] for person in persons])

    out: dict[str, float] = {}
    for extractor in networks.extractors:
        name = extractor.name
        rows = sorted(key.partition("/")[2] for key in persons[0] if key.startswith(f"{name}/"))
        real = stacked(f"{name}/{REFERENCE}")
        statistics = feature_statistics(real)
        for row in rows:
            if row == REFERENCE:
                continue
            made = stacked(f"{name}/{row}")
            kernel = kernel_distance(real, made, num_subsets=KID_SUBSETS, subset_size=KID_SUBSET_SIZE)
            inside = precision_recall(real, made)
            out[f"fd/{name}/{row}"] = frechet_distance(statistics, feature_statistics(made))
            out[f"kid/{name}/{row}"] = kernel.mean
            out[f"precision/{name}/{row}"] = inside.precision
            out[f"recall/{name}/{row}"] = inside.recall
            out["count/kid_subset_size"] = float(kernel.subset_size)
        out["count/set_images"] = float(len(real))
    for key in sorted(persons[0]):
        if key.startswith(f"{PERCEPTUAL}/"):
            row = key.partition("/")[2]
            out[f"{PERCEPTUAL}/{networks.perceptual.name}/{row}"] = metrics.mean_over_images(
                stacked(key).astype(np.float64)[moved.ravel()]
            )
    return out
