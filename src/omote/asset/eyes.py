"""A person's irises: their size on these eyeballs, and their colour in a scan.

The colour is found relative to the white beside the iris: exposure and white balance drop out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from omote.asset.scan_color import scan_color
from omote.geometry.mesh import vertex_normals
from omote.head.model import HeadModel
from omote.head.region import head_region
from omote.lift.contact import eye_sphere
from omote.rendering.appearance import IRIS_RAD, Rgb
from omote.types import Mesh, PointCloud

REACH_RAD = 0.72  # angle around the eyeball's front that an open eye exposes
GRID = 41
BELIEF = 0.5
MIN_SAMPLES = 40
# Criteria of an open eye: a clearly darker part whose separation explains most of the variance, which lies around the eyeball's
# front, beside white that is greyer than the person's skin.
MIN_CONTRAST, MIN_EXPLAINED = 0.2, 0.55
MOST_OFF_AXIS_RAD = 0.3
DARK_SHARE = (0.12, 0.85)
MOST_OF_SKIN_SATURATION = 0.8
PUPIL_SHARE = 0.3  # darkest share of the dark part: pupil and lashes
SKIN_STRIDE = 24  # stride over the face's vertices when sampling skin
EXPOSURE = 0.6, 1.12  # plausible range of the white over `WHITE`: darker is a shadow
WHITE = 0.86  # sRGB value of the white of the painted eyeball
LID_SHADE = 0.88  # share of the light that reaches the white between lids and lashes, sRGB
# Visible width of the iris, in which adults hardly differ: 11.7 (.4) mm (Rüfer, Schröder, Erb, "White-to-white corneal
# diameter", Cornea 2005). Eyeballs of a head model are as large as its lids need, up to 17 mm in radius.
IRIS_MM = 11.7


@dataclass(frozen=True, kw_only=True)
class EyeColors:
    """Colours of a scan's eyes, sRGB.

    Attributes:
        iris: colour of the irises as seen beside white of `WHITE`.
        exposure: the scan's white of the eyes over that of `WHITE` between lids, by channel.
    """

    iris: Rgb
    exposure: Rgb


def iris_angle(model: HeadModel, neutral_mm: Float[np.ndarray, "v 3"]) -> float:
    """Angle about the gaze axis (rad) at which irises of `IRIS_MM` end on a person's eyeballs; that of paint without any."""
    balls = [part for part in ("eye_left", "eye_right") if len(model.part_vertices(part))]
    if not balls:
        return IRIS_RAD
    radius = float(np.mean([eye_sphere(model, neutral_mm, part)[1] for part in balls]))
    return float(np.arcsin(min(IRIS_MM / 2 / radius, np.sin(IRIS_RAD))))


def eye_colors(model: HeadModel, neutral_mm: Float[np.ndarray, "v 3"], scan: Mesh | PointCloud) -> EyeColors | None:
    """Colours of the eyes; None if the scan's eyes are closed or not visible.

    Args:
        model: head model of the fit.
        neutral_mm: vertices of the head fitted to the scan, in the canonical frame.
        scan: coloured scan in the canonical frame, in mm.
    """
    face = np.flatnonzero(head_region(model).face)[::SKIN_STRIDE]
    normals = vertex_normals(neutral_mm, model.faces)[face]
    color, belief = scan_color(scan, neutral_mm[face].astype(np.float64), normals)
    if not (belief > BELIEF).any():
        return None
    skin = np.median(color[belief > BELIEF], axis=0)
    found = [
        colors
        for part in ("eye_left", "eye_right")
        if len(model.part_vertices(part)) and (colors := _colors_of(model, neutral_mm, scan, part, skin)) is not None
    ]
    if not found:
        return None
    iris, exposure = np.mean(found, axis=0)
    return EyeColors(iris=_rgb(iris, 0.04, 0.75), exposure=_rgb(exposure, *EXPOSURE))


def _colors_of(
    model: HeadModel,
    neutral_mm: Float[np.ndarray, "v 3"],
    scan: Mesh | PointCloud,
    part: str,
    skin: Float[np.ndarray, "3"],
) -> Float[np.ndarray, "2 3"] | None:
    """(iris beside `WHITE`, white over `WHITE`) of one eye."""
    center, radius = eye_sphere(model, neutral_mm, part)
    x, y = np.meshgrid(*[np.linspace(-REACH_RAD, REACH_RAD, GRID)] * 2)
    polar = np.hypot(x, y)
    x, y, polar = (a[polar < REACH_RAD] for a in (x, y, polar))
    sine = np.sin(polar) / np.maximum(polar, 1e-9)
    direction = np.stack([x * sine, y * sine, np.cos(polar)], axis=1)
    color, belief = scan_color(scan, center + radius * direction, direction)
    seen = belief > BELIEF
    if seen.sum() < MIN_SAMPLES:
        return None
    color, place = color[seen].astype(np.float64), np.stack([x, y], axis=1)[seen]
    dark = _darker(color.mean(axis=1))
    if dark is None or not DARK_SHARE[0] < dark.mean() < DARK_SHARE[1]:
        return None
    # Lids have one tone, and shadows lie at the rim; an iris is round and around the front.
    if np.linalg.norm(np.median(place[dark], axis=0)) > MOST_OFF_AXIS_RAD:
        return None
    bright = color[~dark]
    white = np.median(bright[bright.mean(axis=1) >= np.median(bright.mean(axis=1))], axis=0)
    if _saturation(white) > MOST_OF_SKIN_SATURATION * _saturation(skin):
        return None
    shade = color[dark].mean(axis=1)
    iris = np.median(color[dark][shade >= np.quantile(shade, PUPIL_SHARE)], axis=0)
    return np.stack([WHITE * iris / np.maximum(white, 1e-3), white / (LID_SHADE * WHITE)])


def _rgb(color: Float[np.ndarray, "3"], low: float, high: float) -> Rgb:
    r, g, b = (float(x) for x in np.clip(color, low, high))
    return r, g, b


def _saturation(color: Float[np.ndarray, "3"]) -> float:
    return float(np.ptp(color) / max(float(color.max()), 1e-6))


def _darker(brightness: Float[np.ndarray, "n"]) -> np.ndarray | None:
    """Mask of the darker of two classes with the least variance within classes (Otsu 1979); None if they hardly differ."""
    best, most = None, MIN_EXPLAINED
    spread = max(float(brightness.var()), 1e-12)
    for level in np.quantile(brightness, np.linspace(0.08, 0.92, 29)):
        dark = brightness < level
        if not 0 < dark.sum() < len(dark):
            continue
        low, high, share = brightness[dark].mean(), brightness[~dark].mean(), dark.mean()
        explained = share * (1 - share) * (high - low) ** 2 / spread
        if explained > most and high - low > MIN_CONTRAST * high:
            best, most = dark, explained
    return best
