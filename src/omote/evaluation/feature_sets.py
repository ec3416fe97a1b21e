"""Comparison of a row's images with the true renders as sets: features per person, then distances over all persons.

The reference set is the true renders of the same persons and expressions. Few images make a Fréchet distance large: results with
different numbers of persons are not comparable, so the number is reported with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors.numpy import load_file, save

from omote.evaluation.comparison import batch, stacked
from omote.evaluation.distribution import feature_statistics, frechet_distance, kernel_distance, precision_recall
from omote.evaluation.features import FeatureExtractor, PerceptualDistance, load_extractor, load_perceptual
from omote.evaluation.records import Cell, PersonRecords, Row, Table
from omote.evaluation.summary import CEILING, NEUTRAL, categories, mean_over_persons
from omote.files import atomic_path
from omote.types import Rgbd

PERCEPTUAL = "perceptual"
# Subsets of 1,000 are usual for tens of thousands of images; here a person has seven.
KID_SUBSETS, KID_SUBSET_SIZE = 100, 250


@dataclass(frozen=True, kw_only=True)
class FeatureNetworks:
    """Networks that compare sets of images.

    Attributes:
        extractors: extractors of features.
        perceptual: distance of an image from its true render.
    """

    extractors: tuple[FeatureExtractor, ...]
    perceptual: PerceptualDistance


def load_feature_networks() -> FeatureNetworks:
    """The installed networks.

    Raises:
        JudgeError: a network is not installed.
    """
    return FeatureNetworks(
        extractors=(load_extractor("efficientnet_lite0"), load_extractor("face_id")),
        perceptual=load_perceptual("efficientnet_lite0"),
    )


def save_features(
    path: Path,
    networks: FeatureNetworks,
    images: Mapping[Row, Sequence[Rgbd]],
    truth: Sequence[Rgbd],
    neutral_landmarks_px: Float[np.ndarray, "68 2"],
) -> None:
    """Write the features of a person's rows, ``<extractor>/<row>`` and ``perceptual/<row>``, with a line per image.

    Args:
        path: path of the .safetensors file.
        networks: networks that compute the features.
        images: images per row.
        truth: true renders in the same order.
        neutral_landmarks_px: landmarks of the true face at rest.
    """
    landmarks = torch.from_numpy(np.repeat(neutral_landmarks_px[None], len(truth), 0))
    true_maps = networks.perceptual.maps(batch(stacked(truth)))
    out: dict[str, np.ndarray] = {}
    for row, seen in images.items():
        rgb = batch(stacked(seen))
        for extractor in networks.extractors:
            out[f"{extractor.name}/{row}"] = extractor(rgb, landmarks).numpy()
        if row.name != CEILING:
            out[f"{PERCEPTUAL}/{row}"] = networks.perceptual.between(networks.perceptual.maps(rgb), true_maps).numpy()
    with atomic_path(path) as temporary:
        temporary.write_bytes(save({k: np.ascontiguousarray(v) for k, v in out.items()}))


def summarise_features(
    files: Sequence[Sequence[Path]], persons: Sequence[PersonRecords], networks: FeatureNetworks
) -> Table:
    """Distances of every row that all persons have features of.

    Args:
        files: paths of each person's files.
        persons: records of the persons, in the same order.
        networks: networks that computed the features.
    """
    features = [{k: v for path in paths for k, v in load_file(path).items()} for paths in files]
    rows = dict.fromkeys(row for person in persons for row in person.rows() if row.name != CEILING)
    moved = np.array(categories(persons)) != NEUTRAL
    table: dict[Row, dict[str, Cell]] = {}

    def of_all(name: str, row: Row) -> list[np.ndarray] | None:
        key = f"{name}/{row}"
        return [person[key] for person in features] if all(key in person for person in features) else None

    for extractor in networks.extractors:
        name = extractor.name
        of_truth = of_all(name, Row(CEILING))
        assert of_truth is not None, "the true renders are among the rows"
        real = np.concatenate(of_truth)
        statistics = feature_statistics(real)
        table[Row()] = {"count/set_images": float(len(real))}
        for row in rows:
            if (found := of_all(name, row)) is None:
                continue
            made = np.concatenate(found)
            kernel = kernel_distance(real, made, num_subsets=KID_SUBSETS, subset_size=KID_SUBSET_SIZE)
            inside = precision_recall(real, made)
            table.setdefault(row, {}).update(
                {
                    f"fd/{name}": frechet_distance(statistics, feature_statistics(made)),
                    f"kid/{name}": kernel.mean,
                    f"precision/{name}": inside.precision,
                    f"recall/{name}": inside.recall,
                }
            )
            table[Row()]["count/kid_subset_size"] = float(kernel.subset_size)
    for row in rows:
        if (found := of_all(PERCEPTUAL, row)) is not None:
            values = np.where(moved, np.stack(found).astype(np.float64), np.nan)
            table.setdefault(row, {})[f"{PERCEPTUAL}/{networks.perceptual.name}"] = mean_over_persons(values)
    return table
