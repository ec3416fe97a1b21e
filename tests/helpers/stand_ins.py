"""In the place of editors, judges and feature networks, which take seconds and an extra."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from omote.datasets.population import PopulationConfig
from omote.diffusion.settings import EditSettings
from omote.evaluation import catalogue, registry
from omote.evaluation.feature_sets import FeatureNetworks
from omote.evaluation.features import FeatureExtractor, PerceptualDistance
from omote.evaluation.judges.panel import ExpressionJudges, ExpressionScores, IdentityJudge
from omote.evaluation.measure import Judges
from omote.head.expressions import CATEGORIES
from omote.head.rest_face import RestFace
from omote.studies import persons
from omote.studies.base import PersonStudy
from omote.types import Expression, Rgbd


class Colours(ExpressionJudges):
    """In the place of the expression networks: the classes are strips of the picture, the brightest wins."""

    def probabilities(self, rgb: Tensor, neutral_landmarks_px: Tensor) -> ExpressionScores:
        strips = torch.stack([part.mean(dim=(1, 2, 3)) for part in rgb.chunk(7, dim=3)], dim=1).softmax(dim=1)
        return ExpressionScores(faceapi=strips, fer=strips.flip(1))


class Pooled(IdentityJudge):
    """In the place of the identity network."""

    def embed(self, rgb: Tensor, neutral_landmarks_px: Tensor) -> Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(rgb[:, :2], 8).flatten(1)


def small_networks() -> FeatureNetworks:
    """Some pixels as features, all of them as a distance."""
    return FeatureNetworks(
        extractors=tuple(
            FeatureExtractor(name=name, forward=lambda x: x[:, :, ::16, ::16].flatten(1))
            for name in ("efficientnet_lite0", "face_id")
        ),
        perceptual=PerceptualDistance(name="efficientnet_lite0", stages=lambda x: [x]),
    )


class CopyingEditor:
    """In the place of an editor: every edit is the source, every latent the image; the requests are kept."""

    sample_size = 64

    def __init__(self, *, folded_guidance: float = 1.0) -> None:
        self.folded_guidance = folded_guidance
        self.asked: list[EditSettings] = []
        self.sources: list[Rgbd] = []

    @property
    def expression_prior(self) -> CopyingEditor:
        return self

    def drawn(self, expressions: Sequence[Expression], seed: int) -> list[Expression]:
        return list(expressions)

    def face_of(self, source: Rgbd) -> RestFace | None:
        return None

    def encode(self, images: Sequence[Rgbd]) -> list[Rgbd]:
        return list(images)

    def decode(self, latents: Sequence[Rgbd], *_: object, **__: object) -> list[Rgbd]:
        return list(latents)

    def edit(self, source: Rgbd, expressions: Sequence[Expression], settings: EditSettings, **_: object) -> list[Rgbd]:
        self.asked.append(settings)
        self.sources.append(source)
        return [replace(source, depth_mm=source.depth_mm + self.moved_mm(settings, expressions))] * len(expressions)

    def moved_mm(self, settings: EditSettings, expressions: Sequence[Expression]) -> float:
        """The distance of an edit behind the source."""
        return 0.0


class ShiftingEditor(CopyingEditor):
    """In the place of another editor: the source, further back by a millimetre a step."""

    def moved_mm(self, settings: EditSettings, expressions: Sequence[Expression]) -> float:
        return float(settings.steps)


JUDGES = Judges(expression=object.__new__(Colours), identity=object.__new__(Pooled))


def use_stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let suites have these judges, and small persons of the shipped head."""
    monkeypatch.setattr(persons, "load_expression_judges", lambda: JUDGES.expression)
    monkeypatch.setattr(persons, "load_identity_judge", lambda: JUDGES.identity)
    monkeypatch.setattr(persons, "load_feature_networks", small_networks)
    use_small_persons(monkeypatch)


def use_small_persons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let suites have persons of the shipped head, 64 pixels each way."""
    monkeypatch.setattr(
        PersonStudy, "unseen", lambda self: PopulationConfig(split="test", size=64, num_images=len(CATEGORIES))
    )


def use_metrics(monkeypatch: pytest.MonkeyPatch, *keys: str) -> None:
    """Add metrics to the catalogue for a test."""
    monkeypatch.setattr(registry, "_METRICS", list(registry._METRICS))
    monkeypatch.setattr(registry, "_BY_KEY", dict(registry._BY_KEY))
    for key in keys:
        catalogue.register(catalogue.Metric(key, key, "", "neither", 2, len, "Of a test."))
