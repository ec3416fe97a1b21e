"""Edits of a source by every compared method: the rows of the release suite and of real scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from omote.datasets.population import Person
from omote.diffusion.settings import EditSettings
from omote.evaluation import metrics
from omote.evaluation.baselines import SurfaceEdit
from omote.evaluation.comparison import filled, stacked
from omote.evaluation.ground_truth import GroundTruth
from omote.evaluation.records import Row
from omote.head.rest_face import RestFace
from omote.rgbd.protocol import StudiedEditor
from omote.studies.table import AUTOENCODER, CEILING, COPY, MODEL
from omote.types import Expression, Rgbd

HEAD_EDIT, TRANSFER = Row("head_edit"), Row("deformation_transfer")
CATEGORY, TOKEN = Row("model_category"), Row("model_token")
# Rows without networks, which are measured once for all weights.
RIVAL_ROWS = (CEILING, COPY, HEAD_EDIT, TRANSFER)
# model: given the true ARKit weights. model_category: given category and intensity, with weights drawn by the prior of
# expressions. model_token: given category and intensity alone, without weights.
MODEL_ROWS = (MODEL, CATEGORY, TOKEN, AUTOENCODER)
# Other networks, given the same condition as ``model``; number of steps by row.
NETWORK_ROWS = {"regression": 1, "pixel_diffusion": 10}


def seeded(settings: EditSettings, person: Person) -> EditSettings:
    """The settings with a seed of the person's own."""
    return replace(settings, seed=settings.seed + 1000 * person.index)


def without_weights(expressions: Sequence[Expression]) -> list[Expression]:
    """The expressions without their ARKit weights."""
    return [Expression(category=e.category, intensity=e.intensity) for e in expressions]


def drawn(model: StudiedEditor, expressions: Sequence[Expression], seed: int) -> list[Expression]:
    """The same categories and intensities, with weights drawn from the model's prior."""
    return model.expression_prior.drawn(without_weights(expressions), seed)


def surface_images(
    source: Rgbd,
    landmarks_mm: Float[np.ndarray, "68 3"],
    expressions: Sequence[Expression],
    edit: SurfaceEdit,
    transfer: SurfaceEdit,
) -> dict[Row, list[Rgbd]]:
    """The unedited source, and its edits without networks; both edits share one fit of the head, which takes longest."""
    surface = edit.find(source, landmarks_mm)
    return {
        COPY: [source] * len(expressions),
        HEAD_EDIT: edit.edit(surface, expressions),
        TRANSFER: transfer.edit(surface, expressions),
    }


def network_images(
    network: StudiedEditor,
    row: str,
    source: Rgbd,
    expressions: Sequence[Expression],
    settings: EditSettings,
    face: RestFace | None,
) -> dict[Row, list[Rgbd]]:
    """Edits by a network of `NETWORK_ROWS`, given the same condition as ``model``."""
    return {Row(row): network.edit(source, expressions, replace(settings, steps=NETWORK_ROWS[row]), face=face)}


def model_images(
    model: StudiedEditor,
    source: Rgbd,
    expressions: Sequence[Expression],
    settings: EditSettings,
    face: RestFace | None,
) -> dict[Row, list[Rgbd]]:
    """Edits by the model: with true weights, with drawn weights, and without weights."""
    return {
        MODEL: model.edit(source, expressions, settings, face=face),
        CATEGORY: model.edit(source, drawn(model, expressions, settings.seed), settings, face=face),
        TOKEN: model.edit(source, without_weights(expressions), settings),
    }


def best_of(
    model: StudiedEditor, settings: EditSettings, count: int, person: Person, truth: GroundTruth, face: RestFace | None
) -> Float[np.ndarray, "n"]:
    """The least depth MAE of each image among ``count`` samples, given category and intensity alone."""
    samples = []
    for k in range(count):
        own = replace(settings, seed=seeded(settings, person).seed + 100 * (k + 1))
        samples.append(model.edit(truth.source, drawn(model, person.expressions, own.seed), own, face=face))
    return least_depth_error(samples, truth)


def least_depth_error(samples: Sequence[Sequence[Rgbd]], truth: GroundTruth) -> Float[np.ndarray, "n"]:
    """The depth MAE (mm) of each image's best sample."""
    true = stacked(truth.images)
    depths = [filled(stacked(images)).depth_mm for images in samples]
    return np.min([metrics.depth_errors(depth, true.depth_mm, true.mask).mae_mm for depth in depths], axis=0)
