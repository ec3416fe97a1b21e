"""Face coefficients shared by all head families: principal components of a population's faces, and the head pose.

vertices = R(r) (mean + Σ c_k σ_k u_k - o) + o + τ, where o is the centre of the head. The modes of one family fit the faces of
another no better than to a millimetre; joint components fit both (Blanz & Vetter, SIGGRAPH 1999, applied to a pooled sample).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from omote.datasets.population import draw_identity
from omote.geometry.camera import FRONT_TARGET_MM
from omote.head.correspondence import in_topology_of
from omote.head.expressions import CATEGORIES, draw_expression
from omote.head.model import HeadModel
from omote.multiview.face_map import FaceMap

# Rotation and translation that a pose coefficient of 1 stands for.
ANGLE_RAD, SHIFT_MM = 0.02, 1.0
NUM_POSE = 6
STEPS = 127  # range of the components' values, which are stored as bytes


class FaceBasis(nn.Module):
    """Conversion between coefficients and vertices, with the basis stored as buffers.

    Args:
        num_vertices: number n of vertices of the `FaceMap`.
        num_components: number K of shape components; a face has K + 6 coefficients.
    """

    mean: Tensor
    components: Tensor
    scale: Tensor
    centre: Tensor

    def __init__(self, num_vertices: int, num_components: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_vertices, 3))
        self.register_buffer("components", torch.zeros(num_components, num_vertices * 3, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(num_components))
        self.register_buffer("centre", torch.tensor(FRONT_TARGET_MM, dtype=torch.float32), persistent=False)

    def forward(self, coefficients: Float[Tensor, "b c"]) -> Float[Tensor, "b n 3"]:
        """Vertices (mm, rig frame) from coefficients."""
        shape, pose = coefficients[:, :-NUM_POSE], coefficients[:, -NUM_POSE:]
        offset = (shape * self.scale) @ self.components.to(shape.dtype)
        points = self.mean + offset.view(len(shape), -1, 3) - self.centre
        turned = points @ rotations(ANGLE_RAD * pose[:, :3]).transpose(1, 2)
        return turned + (self.centre + SHIFT_MM * pose[:, None, 3:])

    @torch.no_grad()
    def fit(self, vertices: Float[Tensor, "m n 3"]) -> None:
        """Set the mean and the components from a sample of faces."""
        mean = vertices.mean(dim=0)
        flat = (vertices - mean).flatten(1)
        _, vector = torch.linalg.eigh((flat @ flat.T).double())
        vector = vector[:, -len(self.components) :].flip(1)
        components = (vector.T.float() @ flat) / len(flat) ** 0.5
        self.mean.copy_(mean)
        largest = components.abs().amax(dim=1).clamp_min(1e-9)
        self.components.copy_(torch.round(components / largest[:, None] * STEPS).to(torch.int8))
        self.scale.copy_(largest / STEPS)

    @torch.no_grad()
    def coefficients(self, canonical: Float[Tensor, "b n 3"], pose: Float[Tensor, "b 4 4"]) -> Float[Tensor, "b c"]:
        """Coefficients of faces in the canonical frame with the pose rig_from_canonical."""
        basis = self.components.float() * self.scale[:, None]
        solved = torch.linalg.solve(basis @ basis.T, basis @ (canonical - self.mean).flatten(1).T).T
        rotation = pose[:, :3, :3].float()
        skew = (rotation - rotation.transpose(1, 2)) / 2
        # sin(angle) times the axis; at 3 degrees, the sine differs from the angle by .05 %.
        angle = torch.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], dim=1) / ANGLE_RAD
        shift = (pose[:, :3, 3].float() + rotation @ self.centre - self.centre) / SHIFT_MM
        return torch.cat([solved, angle, shift], dim=1)


def rotations(vector: Float[Tensor, "b 3"]) -> Float[Tensor, "b 3 3"]:
    """Rotation matrices from rotation vectors (rad)."""
    zero = torch.zeros_like(vector[:, 0])
    x, y, z = vector.unbind(dim=1)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).view(-1, 3, 3)
    turned: Tensor = torch.linalg.matrix_exp(skew)
    return turned


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceFamily:
    """The face of a head family at the vertices of a `FaceMap`.

    Attributes:
        name: name of the head model.
        template_mm: mean face at rest.
        identity_mm: identity modes.
        expression_mm: ARKit-52 blendshapes, as offsets from the mean face.
    """

    name: str
    template_mm: Float[np.ndarray, "n 3"]
    identity_mm: Float[np.ndarray, "i n 3"]
    expression_mm: Float[np.ndarray, "52 n 3"]

    def vertices(self, identity: Float[np.ndarray, "i"], arkit: Float[np.ndarray, "52"]) -> Float[np.ndarray, "n 3"]:
        """Vertices (mm, canonical frame) from identity coefficients (σ; those beyond the modes are ignored) and ARKit weights."""
        modes, used = identity[: len(self.identity_mm)].astype(np.float32), np.flatnonzero(arkit)
        rest = self.template_mm + np.tensordot(modes, self.identity_mm, 1)
        moved: Float[np.ndarray, "n 3"] = rest + np.tensordot(arkit[used], self.expression_mm[used], 1)
        return moved


def face_families(heads: Sequence[HeadModel], face: FaceMap) -> list[FaceFamily]:
    """The faces of a population's head models, at the vertices of the first model's face map."""
    mapped = [in_topology_of(head, heads[0]) for head in heads]
    return [
        FaceFamily(
            name=head.name,
            template_mm=head.template_mm[face.ids],
            identity_mm=np.ascontiguousarray(head.identity_mm[:, face.ids]),
            expression_mm=np.ascontiguousarray(head.expression_mm[:, face.ids]),
        )
        for head in mapped
    ]


def sample_faces(
    heads: Sequence[HeadModel], families: Sequence[FaceFamily], count: int, seed: int
) -> Float[Tensor, "m n 3"]:
    """Faces (mm, canonical frame), equally many of each family, at rest and in every category of expression."""
    rng = np.random.default_rng([seed, 5])
    out = []
    for i in range(count):
        family, head = families[i % len(heads)], heads[i % len(heads)]
        arkit = draw_expression(CATEGORIES[int(rng.integers(len(CATEGORIES)))], rng).arkit
        assert arkit is not None
        out.append(family.vertices(draw_identity(head, rng), arkit).astype(np.float32))
    return torch.from_numpy(np.stack(out))
