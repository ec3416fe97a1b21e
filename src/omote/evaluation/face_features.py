"""Features of whole pictures of faces, for distances between sets: the one place that names the network they are of.

The descriptor of the identity judge, which no model here was trained with, on one fixed crop: the standard camera's view of the
mean head. A picture is cut the same whoever is in it, so drawn faces need no landmarks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from omote.evaluation.judges import load_identity_judge
from omote.geometry.camera import orbit_camera, project
from omote.head.shipped import shipped_head


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """A named function of pictures.

    Attributes:
        name: what stands in a metric's key (``fd/face_id``).
        features: colours in [0, 1], (n, 3, h, w) → (n, d).
    """

    name: str
    features: Callable[[Float[Tensor, "n 3 h w"]], Float[np.ndarray, "n d"]]


def face_features() -> Extractor:
    """The extractor of the studies.

    Raises:
        JudgeError: its weights are not installed.
    """
    judge = load_identity_judge()
    head = shipped_head()
    landmarks = head.landmarks(head.template_mm.astype(np.float64))

    def features(rgb: Tensor) -> np.ndarray:
        where = project(orbit_camera(size=rgb.shape[-1]), landmarks)[:, :2].astype(np.float32)
        seen = torch.from_numpy(where).expand(len(rgb), -1, -1)
        out: np.ndarray = judge.embed(rgb, seen).cpu().numpy()
        return out

    return Extractor(name="face_id", features=features)
