"""The morphable head: linear identity and expression bases over one topology.

vertices(α, β) = template + Σ α_i identity_i + Σ β_j expression_j, with α in standard deviations and β ARKit-52 weights
in [0, 1]: the standard 3DMM (Blanz & Vetter, SIGGRAPH 1999) with blendshape expressions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Float, Int, UInt8

from omote.head.unit_style import UnitStyle

T = TypeVar("T")

# Parts of a head; an exported avatar has one material per part. "mouth" is the dark cavity with the gums.
PARTS = ("skin", "eye_left", "eye_right", "teeth_upper", "teeth_lower", "tongue", "mouth")
MIN_SIZE_MM, MAX_SIZE_MM = 50, 2000


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadModel:
    """A morphable head in the canonical frame (mm, x to the person's left, y up, z out of the face).

    Attributes:
        name: short identifier, written into every result.
        template_mm: vertices of the mean head at rest.
        faces: triangles, counter-clockwise seen from outside.
        uv: texture coordinates in [0, 1], origin at the lower left.
        faces_uv: indices into ``uv`` for each triangle corner.
        face_part: index of each triangle's part in `PARTS`.
        identity_mm: identity modes, scaled to one standard deviation.
        expression_mm: ARKit-52 unit shapes in `expressions.ARKIT_NAMES` order; all zero if the head model has none.
        landmark_vertices: vertex indices of the triangles that contain the 68 landmarks (Multi-PIE order).
        landmark_weights: barycentric weights of the landmarks.
        arch_width: width of a person's dental arches, relative to those of a fitted head.
        unit_style: second set of expression units, blended in by identity; None if all identities use ``expression_mm``.
    """

    name: str
    template_mm: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]
    uv: Float[np.ndarray, "t 2"]
    faces_uv: Int[np.ndarray, "f 3"]
    face_part: UInt8[np.ndarray, "f"]
    identity_mm: Float[np.ndarray, "i v 3"]
    expression_mm: Float[np.ndarray, "52 v 3"]
    landmark_vertices: Int[np.ndarray, "68 3"]
    landmark_weights: Float[np.ndarray, "68 3"]
    arch_width: float = 1.0
    unit_style: UnitStyle | None = None

    def check(self) -> None:
        """Check that all values are finite, that all indices are in range, and that the size is plausible for a head.

        Raises:
            ValueError: a check fails.
        """
        count = len(self.template_mm)
        if self.identity_mm.shape[1:] != (count, 3) or self.expression_mm.shape[1:] != (count, 3):
            raise ValueError("modes of another number of vertices")
        for name, ids, end in (
            ("faces", self.faces, count),
            ("faces_uv", self.faces_uv, len(self.uv)),
            ("landmark_vertices", self.landmark_vertices, count),
        ):
            if not ids.size or ids.min() < 0 or ids.max() >= end:
                raise ValueError(f"{name} out of range")
        for name in ("template_mm", "uv", "identity_mm", "expression_mm", "landmark_weights"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name} holds numbers that are not finite")
        if not MIN_SIZE_MM < float(np.ptp(self.template_mm, axis=0).max()) < MAX_SIZE_MM:
            raise ValueError("a head of no person's size")

    @property
    def num_vertices(self) -> int:
        """Number of vertices."""
        return len(self.template_mm)

    @property
    def num_identity(self) -> int:
        """Number of identity modes."""
        return len(self.identity_mm)

    @property
    def has_units(self) -> bool:
        """Whether any expression unit moves a vertex; a head model may have none (`omote.head.correspondence`)."""
        return bool(self.expression_mm.any())

    def vertices(
        self, identity: Float[np.ndarray, "i"] | None = None, expression: Float[np.ndarray, "52"] | None = None
    ) -> Float[np.ndarray, "v 3"]:
        """Vertices (mm) from identity coefficients (σ; may be shorter than the basis) and ARKit weights."""
        out = self.template_mm.copy()
        if identity is not None:
            out += np.tensordot(identity.astype(np.float32), self.identity_mm[: len(identity)], 1)
        if expression is not None:
            used = np.flatnonzero(expression)
            out += np.tensordot(expression[used].astype(np.float32), self.expression_mm[used], 1)
        return out

    def style_share(self, identity: Float[np.ndarray, "i"]) -> float:
        """Share of `unit_style` in an identity's (σ) expression units, in [0, 1]; 0 without a second style."""
        return 0.0 if self.unit_style is None else self.unit_style.share(identity)

    def units_mm(self, style_share: float = 0.0) -> Float[np.ndarray, "52 v 3"]:
        """Expression units of an identity with a share of the second style, in [0, 1] (`style_share`)."""
        if self.unit_style is None or style_share <= 0:
            return self.expression_mm
        out = self.expression_mm.copy()
        out[:, self.unit_style.vertices] += np.float32(style_share) * self.unit_style.offset_mm
        return out

    def moved(
        self, rest_mm: Float[np.ndarray, "v 3"], arkit: Float[np.ndarray, "52"], style_share: float = 0.0
    ) -> Float[np.ndarray, "v 3"]:
        """Vertices of a person (mm) under ARKit weights, in the frame of ``rest_mm``.

        Args:
            rest_mm: vertices of the person at rest.
            arkit: ARKit weights in [0, 1].
            style_share: share of the second style, in [0, 1] (`style_share`).
        """
        used = np.flatnonzero(arkit)
        out: Float[np.ndarray, "v 3"] = rest_mm + np.tensordot(arkit[used], self.expression_mm[used], 1)
        return out if self.unit_style is None or style_share <= 0 else self.unit_style.moved(out, arkit, style_share)

    def landmarks(self, vertices_mm: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "68 3"]:
        """The 68 landmarks (Multi-PIE order: jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, mouth 48-67) in mm."""
        return np.einsum("lkc,lk->lc", vertices_mm[self.landmark_vertices], self.landmark_weights)

    def part_vertices(self, *parts: str) -> Int[np.ndarray, "n"]:
        """Indices of the vertices that belong to any of the named parts."""
        wanted = np.isin(self.face_part, [PARTS.index(p) for p in parts])
        return np.unique(self.faces[wanted])


def once_per_head(make: Callable[[HeadModel], T]) -> Callable[[HeadModel], T]:
    """Cache a function's result per head model, for the lifetime of the model."""
    made: WeakKeyDictionary[HeadModel, T] = WeakKeyDictionary()

    @wraps(make)
    def derived(head: HeadModel) -> T:
        if head not in made:
            made[head] = make(head)
        return made[head]

    return derived
