"""The rows of the release suite as images of a person's expressions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from omote.datasets.population import Person
from omote.diffusion.settings import EditSettings
from omote.evaluation import metrics
from omote.evaluation.baselines import SurfaceEdit
from omote.evaluation.comparison import answered, stacked
from omote.evaluation.records import Row
from omote.evaluation.truth import Truth
from omote.head.rest_face import RestFace
from omote.rgbd.model import EditingModel
from omote.types import Expression, Rgbd

CEILING, AUTOENCODER, COPY = Row("ceiling"), Row("autoencoder_ceiling"), Row("copy_source")
# Rows without networks: measured once, whatever the weights.
RIVAL_ROWS = (CEILING, COPY, Row("head_edit"), Row("deformation_transfer"))
# model: the truth's ARKit weights. model_category: category and intensity alone, weights drawn by the prior of expressions.
# model_token: category and intensity alone, and the network has to decide by itself.
MODEL_ROWS = (Row("model"), Row("model_category"), Row("model_token"), AUTOENCODER)
# Other networks given what ``model`` is given, where there are weights for them; row → number of steps.
NETWORK_ROWS = {"regression": 1, "pixel_diffusion": 10}


def seeded(settings: EditSettings, person: Person) -> EditSettings:
    """The settings with a person's own noise."""
    return replace(settings, seed=settings.seed + 1000 * person.index)


def rival_images(person: Person, truth: Truth, edit: SurfaceEdit, transfer: SurfaceEdit) -> dict[Row, list[Rgbd]]:
    """Images of `RIVAL_ROWS`; finding the head takes the longest, so it is found once."""
    surface = edit.find(truth.source, truth.source_landmarks_mm)
    made = (
        truth.images,
        [truth.source] * len(truth.images),
        edit.edit(surface, person.expressions),
        transfer.edit(surface, person.expressions),
    )
    return dict(zip(RIVAL_ROWS, made, strict=True))


def network_images(
    network: EditingModel, row: str, settings: EditSettings, person: Person, truth: Truth, face: RestFace | None
) -> list[Rgbd]:
    """Of a network of `NETWORK_ROWS`, given what ``model`` is given."""
    own = replace(seeded(settings, person), steps=NETWORK_ROWS[row])
    return network.edit(truth.source, person.expressions, own, face=face)


def without_weights(expressions: Sequence[Expression]) -> list[Expression]:
    """Category and intensity without ARKit weights."""
    return [Expression(category=e.category, intensity=e.intensity) for e in expressions]


def drawn(model: EditingModel, expressions: Sequence[Expression], seed: int) -> list[Expression]:
    """The same categories and intensities with weights that the model draws."""
    return model.expression_prior.drawn(without_weights(expressions), seed)


def model_images(
    model: EditingModel, settings: EditSettings, person: Person, truth: Truth, face: RestFace | None
) -> dict[Row, list[Rgbd]]:
    """Images of `MODEL_ROWS`."""
    source = truth.source
    own = seeded(settings, person)
    made = (
        model.edit(source, person.expressions, own, face=face),
        model.edit(source, drawn(model, person.expressions, own.seed), own, face=face),
        model.edit(source, without_weights(person.expressions), own),
        model.reconstruct(truth.images, [source] * len(truth.images), person.expressions, face=face),
    )
    return dict(zip(MODEL_ROWS, made, strict=True))


def best_of(
    model: EditingModel, settings: EditSettings, count: int, person: Person, truth: Truth, face: RestFace | None
) -> Float[np.ndarray, "n"]:
    """Per image, the least depth MAE among ``count`` samples from category and intensity alone."""
    samples = []
    for k in range(count):
        own = replace(settings, seed=seeded(settings, person).seed + 100 * (k + 1))
        samples.append(model.edit(truth.source, drawn(model, person.expressions, own.seed), own, face=face))
    return least_depth_error(samples, truth)


def least_depth_error(samples: Sequence[Sequence[Rgbd]], truth: Truth) -> Float[np.ndarray, "n"]:
    """Per image, the depth MAE of the sample that is nearest to the truth, mm."""
    true = stacked(truth.images)
    depths = [answered(stacked(images)) for images in samples]
    return np.min([metrics.depth_errors(depth, true.depth_mm, true.mask).mae_mm for depth in depths], axis=0)
