"""In the place of the judges and feature networks, which take seconds and an extra."""

from __future__ import annotations

import torch
from torch import Tensor

from omote.evaluation.features import FeatureExtractor, PerceptualDistance
from omote.evaluation.judges import ExpressionJudges, ExpressionScores, IdentityJudge
from omote.evaluation.sets import SetNetworks


class Colours(ExpressionJudges):
    """In the place of the expression networks: the classes are strips of the picture, the brightest wins."""

    def probabilities(self, rgb: Tensor, neutral_landmarks_px: Tensor) -> ExpressionScores:
        strips = torch.stack([part.mean(dim=(1, 2, 3)) for part in rgb.chunk(7, dim=3)], dim=1).softmax(dim=1)
        return ExpressionScores(faceapi=strips, fer=strips.flip(1))


class Pooled(IdentityJudge):
    """In the place of the identity network."""

    def embed(self, rgb: Tensor, neutral_landmarks_px: Tensor) -> Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(rgb[:, :2], 8).flatten(1)


def small_networks() -> SetNetworks:
    """Some pixels as features, all of them as a distance."""
    return SetNetworks(
        extractors=(FeatureExtractor(name="small", forward=lambda x: x[:, :, ::16, ::16].flatten(1)),),
        perceptual=PerceptualDistance(name="pixels", stages=lambda x: [x]),
    )
