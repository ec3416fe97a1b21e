"""The face of a head model as a small UV map: view features are gathered into it, and vertex offsets are read from it.

A position map in the model's UV coordinates (Feng et al., "Joint 3D Face Reconstruction and Dense Alignment with Position Map
Regression Network", ECCV 2018), cropped to the face so that no texels are spent on the neck.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from omote.asset.atlas import skin_atlas
from omote.asset.texture import locate_texels
from omote.geometry.mesh import unique_edges
from omote.head.model import HeadModel, once_per_head
from omote.head.region import head_region

MAP_SIZE = 96


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceMap:
    """The face of a head model: n of its vertices, and the m texels of an S × S UV map that the face covers.

    Attributes:
        ids: vertices of the face, as indices into the head model's vertices.
        region: whether each vertex belongs to the face region, where errors are measured.
        weight: confidence in a scan at each vertex, (0, 1] (`omote.head.region`).
        faces: triangles, as indices into ``ids``.
        edges: edges of the triangles.
        texels: indices of the covered texels, row · S + column.
        corners: corners of the triangle at each covered texel, as indices into ``ids``.
        shares: barycentric weights of the corners.
        uv: position of each vertex in the map, [-1, 1] as in `grid_sample`.
    """

    ids: Int[np.ndarray, " n"]
    region: Bool[np.ndarray, " n"]
    weight: Float[np.ndarray, " n"]
    faces: Int[np.ndarray, "f 3"]
    edges: Int[np.ndarray, "e 2"]
    texels: Int[np.ndarray, " m"]
    corners: Int[np.ndarray, "m 3"]
    shares: Float[np.ndarray, "m 3"]
    uv: Float[np.ndarray, "n 2"]

    def tensors(self, device: torch.device | str = "cpu") -> FaceTensors:
        """The face map as tensors."""
        return FaceTensors(
            *(torch.from_numpy(np.ascontiguousarray(getattr(self, f))).to(device) for f in FaceTensors._fields)
        )


class FaceTensors(NamedTuple):
    """A `FaceMap` as tensors, under the same names."""

    region: Tensor
    weight: Tensor
    faces: Tensor
    edges: Tensor
    texels: Tensor
    corners: Tensor
    shares: Tensor
    uv: Tensor

    def surface(self, vertices: Float[Tensor, "b n 3"]) -> tuple[Float[Tensor, "b m 3"], Float[Tensor, "b m 3"]]:
        """Positions and unit normals of the surface at the covered texels."""
        a, b, c = (vertices[:, self.faces[:, k]] for k in range(3))
        normal = torch.cross(b - a, c - a, dim=2)
        summed = torch.zeros_like(vertices).index_add(1, self.faces.T.reshape(-1), normal.repeat(1, 3, 1))
        normals = F.normalize((F.normalize(summed, dim=2)[:, self.corners] * self.shares[:, :, None]).sum(dim=2), dim=2)
        return (vertices[:, self.corners] * self.shares[:, :, None]).sum(dim=2), normals

    def drawn(self, values: Float[Tensor, "b m c"]) -> Float[Tensor, "b c S S"]:
        """A map with the given values at the covered texels and zero elsewhere."""
        out = values.new_zeros(len(values), values.shape[2], MAP_SIZE * MAP_SIZE)
        out[:, :, self.texels] = values.transpose(1, 2)
        return out.view(len(values), -1, MAP_SIZE, MAP_SIZE)

    def read(self, maps: Float[Tensor, "b c S S"]) -> Float[Tensor, "b n c"]:
        """Values of a map at the vertices."""
        grid = self.uv.to(maps.dtype).expand(len(maps), 1, -1, 2)
        found = F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return found[:, :, 0].transpose(1, 2)


@once_per_head
def face_map(model: HeadModel) -> FaceMap:
    """The face map of a head model, in the model's own UV coordinates."""
    region, atlas = head_region(model), skin_atlas(model)
    inside = (region.weight > 0)[model.faces[atlas.face_ids]].all(axis=1)
    corners = model.faces[atlas.face_ids[inside]]
    ids, faces = np.unique(corners, return_inverse=True)
    faces = faces.reshape(-1, 3)

    placed = np.zeros((len(ids), 2))
    placed[faces.ravel()] = atlas.uv[atlas.faces_uv[inside]].reshape(-1, 2)
    low, high = placed.min(axis=0), placed.max(axis=0)
    # A margin of one texel, so that no vertex is sampled outside the map.
    side = (high - low).max() * MAP_SIZE / (MAP_SIZE - 2)
    placed = (placed - (low + high) / 2) / side + 0.5

    crop = replace(
        atlas,
        uv=placed.astype(np.float32),
        faces_uv=faces.astype(np.int32),
        face_ids=np.arange(len(faces)),
        num_tiles=1,
    )

    texels = locate_texels(crop, MAP_SIZE)
    covered = np.flatnonzero(texels.covered)
    return FaceMap(
        ids=ids,
        region=region.face[ids],
        weight=region.weight[ids].astype(np.float32),
        faces=faces.astype(np.int64),
        edges=unique_edges(faces).astype(np.int64),
        texels=covered,
        corners=faces[texels.face.ravel()[covered]].astype(np.int64),
        shares=texels.weights.reshape(-1, 3)[covered].astype(np.float32),
        uv=np.stack([2 * placed[:, 0] - 1, 1 - 2 * placed[:, 1]], axis=1).astype(np.float32),
    )
