"""The head model shipped with the package: MakeHuman's (CC0) head and neck, repaired; see ``basis/README.md``.

The file stores the identity modes on the cage before subdivision and the subdivision as a sparse matrix, which keeps it
under 10 MB; loading multiplies them once.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from jaxtyping import Float
from safetensors.numpy import load_file
from scipy.sparse import csr_matrix

from omote.errors import CheckpointError, HeadModelError
from omote.files import reading
from omote.head.ict import ict_head
from omote.head.model import HeadModel
from omote.head.unit_style import UnitStyle

BASIS = "basis/head.npz"
STYLE = "weights/unit_style/unit_style.safetensors"


@lru_cache(maxsize=1)
def _arrays() -> dict[str, np.ndarray]:
    path = files("omote.head").joinpath(BASIS)
    with (
        reading(str(path), HeadModelError, "damaged", "reinstall omote or run scripts/build_head.py"),
        path.open("rb") as stream,
        np.load(stream, allow_pickle=False) as data,
    ):
        return {key: data[key] for key in data.files}


@lru_cache(maxsize=1)
def shipped_head() -> HeadModel:
    """The shipped head model, in the canonical frame, with ARKit-52 units in two styles; loaded once.

    Raises:
        HeadModelError: the basis file is missing or damaged.
        CheckpointError: the file of the second unit style is missing or damaged.
    """
    raw = _arrays()
    template = raw["template_mm"]
    return HeadModel(
        name="omote",
        template_mm=template,
        faces=raw["faces"].astype(np.int32),
        uv=raw["uv"],
        faces_uv=raw["faces_uv"].astype(np.int32),
        face_part=raw["face_part"],
        identity_mm=_identity(raw),
        expression_mm=raw["expression_mm"].astype(np.float32),
        landmark_vertices=raw["landmark_vertices"],
        landmark_weights=raw["landmark_weights"],
        arch_width=1.12,
        unit_style=shipped_unit_style(),
    )


@lru_cache(maxsize=1)
def shipped_unit_style() -> UnitStyle:
    """The shipped unit style; loaded once.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    resource = files("omote").joinpath(STYLE)
    way_out = "reinstall omote or run `omote tool unit-style`"
    with reading(str(resource), CheckpointError, "damaged", way_out), as_file(resource) as path:
        raw = load_file(path)
        return UnitStyle(
            vertices=raw["vertices"].astype(np.int64),
            offset_mm=raw["offset_mm"].astype(np.float32),
            identity_weight=raw["identity_weight"],
            bias=float(raw["bias"][0]),
        )


def _identity(raw: dict[str, np.ndarray]) -> Float[np.ndarray, "i v 3"]:
    """Identity modes of all vertices: subdivided cage modes, and rigid parts from translation and scale."""
    cage = raw["identity_cage_mm"].astype(np.float32)
    num_modes, num_cage, _ = cage.shape
    indptr = raw["operator_indptr"]
    operator = csr_matrix(
        (raw["operator_data"], raw["operator_indices"].astype(np.int32), indptr), shape=(len(indptr) - 1, num_cage)
    )
    template = raw["template_mm"]
    out = np.empty((num_modes, *template.shape), np.float32)
    skin = operator @ cage.transpose(1, 0, 2).reshape(num_cage, -1)
    out[:, : len(skin)] = skin.reshape(len(skin), num_modes, 3).transpose(1, 0, 2)
    ends = [*raw["part_start"].tolist(), len(template)]
    for k, (start, end) in enumerate(itertools.pairwise(ends)):
        shift, scale = raw["identity_part"][:, k, :3], raw["identity_part"][:, k, 3]
        arm = template[start:end] - raw["part_center_mm"][k]
        out[:, start:end] = shift[:, None] + scale[:, None, None] * arm
    return out


def population_heads(ict: Path | None = None) -> list[HeadModel]:
    """The head models of a population: the shipped one, which is fitted to every person, and ICT-FaceKit.

    Args:
        ict: path of ICT-FaceKit; None for the shipped head alone.

    Raises:
        HeadModelError: a head model cannot be loaded.
    """
    return [shipped_head()] if ict is None else [shipped_head(), ict_head(ict)]
