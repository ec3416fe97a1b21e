"""Materials of an avatar's parts, in glTF's metallic-roughness model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from omote.rendering.appearance import IRIS_RAD, Appearance, default_appearance, eye_texture
from omote.rendering.shade import to_srgb

Rgb = tuple[float, float, float]
EYE_TEXTURE_SIZE = 256
ROUGHNESS: Mapping[str, float] = {"skin": 0.62, "eyes": 0.08, "teeth": 0.25, "tongue": 0.45, "mouth": 0.6}


@dataclass(frozen=True, kw_only=True)
class Materials:
    """Colours of the parts that no scan shows, in sRGB [0, 1].

    Attributes:
        eye_texture: colours of an eyeball under its azimuthal UVs, row 0 at the top.
        teeth: colour of the enamel.
        tongue: colour of the tongue's upper side.
        mouth: colour of the gums and the cavity.
        roughness: roughness by primitive name, from 0 (mirror) to 1 (chalk).
    """

    eye_texture: Float[np.ndarray, "size size 3"]
    teeth: Rgb = (0.90, 0.87, 0.80)
    tongue: Rgb = (0.74, 0.42, 0.41)
    mouth: Rgb = (0.60, 0.29, 0.28)
    roughness: Mapping[str, float] = field(default_factory=lambda: dict(ROUGHNESS))

    def color(self, primitive: str) -> Rgb:
        """Base colour of an untextured primitive; white for a textured one."""
        colors = {"teeth": self.teeth, "tongue": self.tongue, "mouth": self.mouth}
        return colors.get(primitive, (1.0, 1.0, 1.0))


def materials_of(appearance: Appearance | None = None, *, iris_rad: float = IRIS_RAD) -> Materials:
    """Materials of an `Appearance`; if None, of the default one.

    Args:
        appearance: colours of a person.
        iris_rad: angle about the gaze axis at which the irises end, `omote.asset.eyes.iris_angle` of the person.
    """
    appearance = default_appearance() if appearance is None else appearance
    texture = eye_texture(appearance, EYE_TEXTURE_SIZE, iris_rad=iris_rad)
    light = np.array(appearance.exposure)

    def lit(color: Rgb) -> Rgb:
        r, g, b = (float(x) for x in np.clip(np.array(color) * light, 0, 1))
        return (r, g, b)

    return Materials(
        eye_texture=np.ascontiguousarray(to_srgb(texture)[::-1]).astype(np.float32),
        teeth=lit(Materials.teeth),
        tongue=lit(Materials.tongue),
        mouth=lit(Materials.mouth),
    )
