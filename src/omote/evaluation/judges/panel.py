"""The judges as used in the evaluation: pictures and landmarks in, class probabilities or descriptors out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from omote.evaluation.judges.crop import CropRule, cut, square
from omote.evaluation.judges.networks import FaceApiExpressionNet, FaceApiRecognitionNet, FerNet
from omote.evaluation.judges.weights import locate, read_keras, read_manifest
from omote.head.expressions import CATEGORIES

# Names of verdicts: the two networks, and the sum of their probabilities.
JUDGES = ("both", "faceapi", "fer")
# FaceExpressions.ts, FACE_EXPRESSION_LABELS.
FACE_API_CLASSES = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
# fer.py, _get_labels, with the names of our categories (disgust, fear and surprise there).
FER_CLASSES = ("angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral")

# Chosen by macro top-1 accuracy on true renders of 40 persons of the population's "tuning" split, over a grid of 1.4-2.5 × .1-.5
# (for fer also .9-1.4): the middle of each judge's plateau, not the best cell. fer needs the tight crops of FER2013.
FACE_API_EXPRESSION_CROP = CropRule(side=1.7, down=0.4)
FER_CROP = CropRule(side=1.1, down=0.35)
# The best of four sizes (1.7-2.1) at separating persons; they differ little.
FACE_API_IDENTITY_CROP = CropRule(side=1.7, down=0.3)

_CHUNK = 32  # pictures per forward pass; limits memory, and does not change results


@dataclass(frozen=True, kw_only=True)
class ExpressionScores:
    """Class probabilities of pictures, with columns in the order of `omote.head.expressions.CATEGORIES`.

    Attributes:
        faceapi: probabilities of face-api; rows sum to 1.
        fer: probabilities of fer; rows sum to 1.
    """

    faceapi: Float[Tensor, "b 7"]
    fer: Float[Tensor, "b 7"]

    @property
    def both(self) -> Float[Tensor, "b 7"]:
        """The sum of the two judges' probabilities; rows sum to 2."""
        return self.faceapi + self.fer

    def named(self) -> dict[str, Float[Tensor, "b 7"]]:
        """The three verdicts by their name in results."""
        return {"faceapi": self.faceapi, "fer": self.fer, "both": self.both}


@dataclass(frozen=True, kw_only=True)
class ExpressionJudges:
    """Two expression classifiers that are used in no training here."""

    faceapi: FaceApiExpressionNet
    fer: FerNet
    faceapi_crop: CropRule = FACE_API_EXPRESSION_CROP
    fer_crop: CropRule = FER_CROP

    def probabilities(
        self, rgb: Float[Tensor, "b 3 h w"], neutral_landmarks_px: Float[Tensor, "b 68 2"]
    ) -> ExpressionScores:
        """Judge pictures.

        Args:
            rgb: colours in [0, 1].
            neutral_landmarks_px: landmarks of the person's *true neutral* face, projected into each picture (`crop`).
        """
        return ExpressionScores(
            faceapi=_probabilities(self.faceapi, rgb, neutral_landmarks_px, self.faceapi_crop, FACE_API_CLASSES),
            fer=_probabilities(self.fer, rgb, neutral_landmarks_px, self.fer_crop, FER_CLASSES),
        )


@dataclass(frozen=True, kw_only=True)
class IdentityJudge:
    """A face recognition network, whose descriptors have small Euclidean distances for the same person."""

    net: FaceApiRecognitionNet
    crop: CropRule = FACE_API_IDENTITY_CROP

    def embed(
        self, rgb: Float[Tensor, "b 3 h w"], neutral_landmarks_px: Float[Tensor, "b 68 2"]
    ) -> Float[Tensor, "b 128"]:
        """Descriptors of pictures in [0, 1]; landmarks as in `ExpressionJudges.probabilities`."""
        return _in_chunks(self.net, rgb, neutral_landmarks_px, self.crop)

    def cut(
        self, rgb: Float[Tensor, "b 3 h w"], neutral_landmarks_px: Float[Tensor, "b 68 2"]
    ) -> Float[Tensor, "b 3 size size"]:
        """The network's input: the cropped pictures."""
        return cut(rgb, square(neutral_landmarks_px, self.crop), self.net.SIZE)


def load_expression_judges(folder: Path | None = None, *, device: torch.device | str = "cpu") -> ExpressionJudges:
    """Load both expression judges.

    Args:
        folder: folder of the weight files; None searches for it (`weights.locate`).
        device: device of the networks.

    Raises:
        JudgeError: weights are missing, or are not the published ones.
    """
    folder = folder or locate()
    faceapi = FaceApiExpressionNet(read_manifest(folder, "face_expression_model"))
    fer = FerNet(read_keras(folder / "emotion_model.hdf5"))
    faceapi.to(device)
    fer.to(device)
    return ExpressionJudges(faceapi=faceapi, fer=fer)


def load_identity_judge(folder: Path | None = None, *, device: torch.device | str = "cpu") -> IdentityJudge:
    """Load the identity judge; arguments and errors as in `load_expression_judges`."""
    net = FaceApiRecognitionNet(read_manifest(folder or locate(), "face_recognition_model"))
    net.to(device)
    return IdentityJudge(net=net)


def _probabilities(
    net: FaceApiExpressionNet | FerNet, rgb: Tensor, landmarks: Tensor, rule: CropRule, classes: tuple[str, ...]
) -> Tensor:
    order = [classes.index(category) for category in CATEGORIES]
    return _in_chunks(net, rgb, landmarks, rule).softmax(dim=1)[:, order]


@torch.no_grad()
def _in_chunks(
    net: FaceApiExpressionNet | FerNet | FaceApiRecognitionNet, rgb: Tensor, landmarks: Tensor, rule: CropRule
) -> Tensor:
    forward: Callable[[Tensor], Tensor] = net
    rgb, landmarks = rgb.to(net.device, torch.float32), landmarks.to(net.device, torch.float32)
    squares = square(landmarks, rule)
    parts = [forward(cut(rgb[i : i + _CHUNK], squares[i : i + _CHUNK], net.SIZE)) for i in range(0, len(rgb), _CHUNK)]
    return torch.cat(parts)
