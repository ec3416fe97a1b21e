"""Who answers: the rows of every table, as images of a person's expressions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from omote.datasets.population import Person
from omote.evaluation import metrics
from omote.evaluation.baselines import SurfaceEdit
from omote.evaluation.truth import Truth, answered, stacked
from omote.head.rest_face import RestFace
from omote.rgbd.model import EditingModel, EditSettings
from omote.types import Expression, Rgbd

# Rows that the networks have no part in: measured once, whatever the weights.
RIVAL_ROWS = ("ceiling", "copy_source", "head_edit", "deformation_transfer")
# model: the truth's ARKit weights. model_category: category and intensity alone, weights drawn by the prior of expressions.
# model_token: category and intensity alone, and the network has to decide by itself.
MODEL_ROWS = ("model", "model_category", "model_token", "autoencoder_ceiling")
# Other networks given what ``model`` is given, where there are weights for them; row → how many steps they take.
NETWORK_ROWS = {"regression": 1, "pixel_diffusion": 10}


def seeded(settings: EditSettings, person: Person) -> EditSettings:
    """The settings with a person's own noise."""
    return replace(settings, seed=settings.seed + 1000 * person.index)


def rival_images(person: Person, truth: Truth, edit: SurfaceEdit, transfer: SurfaceEdit) -> dict[str, list[Rgbd]]:
    """Images of `RIVAL_ROWS`; finding the head takes the longest, so it is found once."""
    surface = edit.find(truth.source, truth.source_landmarks_mm)
    return {
        "ceiling": truth.images,
        "copy_source": [truth.source] * len(truth.images),
        "head_edit": edit.edit(surface, person.expressions),
        "deformation_transfer": transfer.edit(surface, person.expressions),
    }


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
) -> dict[str, list[Rgbd]]:
    """Images of `MODEL_ROWS`."""
    source = truth.source
    own = seeded(settings, person)
    return {
        "model": model.edit(source, person.expressions, own, face=face),
        "model_category": model.edit(source, drawn(model, person.expressions, own.seed), own, face=face),
        "model_token": model.edit(source, without_weights(person.expressions), own),
        "autoencoder_ceiling": model.reconstruct(
            truth.images, [source] * len(truth.images), person.expressions, face=face
        ),
    }


def best_of(
    model: EditingModel, settings: EditSettings, count: int, person: Person, truth: Truth, face: RestFace | None
) -> list[float]:
    """Per image, the least depth MAE among ``count`` samples from category and intensity alone."""
    true = stacked(truth.images)
    errors = []
    for k in range(count):
        own = replace(settings, seed=seeded(settings, person).seed + 100 * (k + 1))
        stack = stacked(model.edit(truth.source, drawn(model, person.expressions, own.seed), own, face=face))
        errors.append(metrics.depth_errors(answered(stack), true.depth_mm, true.mask).mae_mm)
    best: list[float] = np.min(errors, axis=0).tolist()
    return best
