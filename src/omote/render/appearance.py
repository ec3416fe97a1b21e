"""How a person looks: skin, brows, lips, hair, eyes as a few numbers, and the albedo that they paint."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from omote.head.model import HeadModel
from omote.render.regions import part_mask
from omote.render.shade import to_linear

Rgb = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """A person's colours.

    Attributes:
        tone: melanin, 0 lightest to 1 darkest.
    """

    tone: float = 0.35
    iris: Rgb = (0.30, 0.20, 0.12)
    pupil: float = 0.17
    teeth: float = 0.85
    clay: bool = False


def default_appearance() -> Appearance:
    """The plain mid-tone person of figures and tests."""
    return Appearance()


def random_appearance(rng: np.random.Generator) -> Appearance:
    """A random person."""
    return Appearance(tone=float(rng.uniform()))


def paint(head_model: HeadModel, appearance: Appearance) -> Float[np.ndarray, "v 3"]:
    """Albedo per vertex, sRGB [0, 1]."""
    out = np.tile(np.array([0.80, 0.62, 0.52], np.float32), (head_model.num_vertices, 1))
    for parts, color in ((("teeth_upper", "teeth_lower"), (0.86, 0.82, 0.74)), (("tongue",), (0.72, 0.4, 0.38)),
                         (("mouth",), (0.55, 0.25, 0.24)), (("eye_left", "eye_right"), (1.0, 1.0, 1.0))):  # fmt: skip
        weight = part_mask(head_model, *parts)[:, None]
        out = out * (1 - weight) + weight * np.array(color, np.float32)
    return out


@lru_cache(maxsize=64)
def eye_texture(appearance: Appearance, size: int = 192) -> Float[np.ndarray, "size size 3"]:
    """Linear-light colours of an eyeball under its azimuthal-equidistant UVs, row 0 at v = 0."""
    y, x = np.mgrid[:size, :size]
    theta = np.hypot((x + 0.5) / size - 0.5, (y + 0.5) / size - 0.5) * np.pi
    edge = 2.0 / size * np.pi

    def inside(angle: float) -> np.ndarray:
        return np.clip((angle - theta) / edge + 0.5, 0, 1)[..., None]

    out = np.broadcast_to(np.array([0.88, 0.85, 0.83]), (size, size, 3)).copy()
    out += inside(0.48) * (np.array(appearance.iris) - out)
    out += inside(appearance.pupil) * (0.02 - out)
    return to_linear(out).astype(np.float32)
