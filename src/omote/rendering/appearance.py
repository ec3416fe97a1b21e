"""How a person looks: skin, brows, lips, hair, eyes as a few numbers, and the albedo that they paint.

No obtainable head model carries an albedo under free terms, so skin is painted: a melanin tone between anchors, variation
at several wavelengths, and the features that a face is recognised by. The same numbers paint any head model in the same
places, because places come from its landmarks (`paint_regions`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from omote.head.model import HeadModel
from omote.rendering.paint_regions import paint_regions
from omote.rendering.regions import part_mask
from omote.rendering.shade import to_linear

Rgb = tuple[float, float, float]

# sRGB of skin from the lightest to the darkest melanin tone.
SKIN = ((0.94, 0.80, 0.72), (0.86, 0.68, 0.57), (0.74, 0.54, 0.42), (0.52, 0.36, 0.27), (0.33, 0.22, 0.17))
HAIR = ((0.10, 0.08, 0.07), (0.20, 0.13, 0.09), (0.32, 0.21, 0.13), (0.50, 0.37, 0.22), (0.65, 0.52, 0.34),
        (0.42, 0.20, 0.10), (0.55, 0.54, 0.53))  # fmt: skip
HAIR_SHARE = (0.30, 0.22, 0.16, 0.10, 0.07, 0.05, 0.10)
IRIS = ((0.32, 0.20, 0.10), (0.22, 0.13, 0.07), (0.45, 0.33, 0.20), (0.35, 0.42, 0.30), (0.38, 0.48, 0.56),
        (0.48, 0.53, 0.58))  # fmt: skip
INNER_COLORS = (
    (("tongue",), (0.72, 0.40, 0.38)),
    (("mouth",), (0.55, 0.25, 0.24)),
    (("eye_left", "eye_right"), (1.0, 1.0, 1.0)),
)
TEETH = (0.82, 0.78, 0.70)
IRIS_RAD = 0.48  # angle about the gaze axis at which a painted iris ends
GOLDEN = 0.6180339887  # steps of this share cover a range evenly


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """A person's colours; every strength is in [0, 1] unless said otherwise.

    Attributes:
        tone: melanin, 0 lightest to 1 darkest.
        tint: factors on the skin's red, green, blue.
        mottling: amplitudes of brightness variation at 60, 30 (hue) and about 8 mm.
        blush: redness of cheeks and nose.
        shadows: below the eyes.
        lip: factors from skin to lip colour.
        lip_strength: contrast of lips and skin.
        lip_margin_mm: paint beyond (+) or within the lips' outline.
        hair: colour of brows, beard and hair cap.
        brow_density: density of the brows.
        brow_width_mm: half width at the widest.
        brow_shade: share of the hair colour in the brows.
        beard: 0 none, to .45 stubble, to 1 a full beard.
        beard_moustache_only: a moustache without the beard.
        lash: darkening of the upper lid's edge.
        freckles: strength.
        cap: strength of the hair cap, 0 for bald.
        hairline_mm: above (+) the median hairline.
        cap_edge_mm: softness of the hairline.
        iris: sRGB.
        pupil: angle on the eyeball, rad.
        teeth: brightness.
        clay: one uniform grey, as scans without colour are shown; None is skin.
        exposure: factors on eyes, teeth and mouth, which no scan colours: the light in which the skin was recorded.
        seed: seed of the spatial variation.
    """

    tone: float = 0.3
    tint: Rgb = (1.0, 1.0, 1.0)
    mottling: tuple[float, float, float] = (0.025, 0.015, 0.012)
    blush: float = 0.08
    shadows: float = 0.08
    lip: Rgb = (0.90, 0.66, 0.68)
    lip_strength: float = 0.75
    lip_margin_mm: float = 0.2
    hair: Rgb = (0.20, 0.13, 0.09)
    brow_density: float = 0.75
    brow_width_mm: float = 3.0
    brow_shade: float = 0.85
    beard: float = 0.0
    beard_moustache_only: bool = False
    lash: float = 0.5
    freckles: float = 0.0
    cap: float = 0.0
    hairline_mm: float = 0.0
    cap_edge_mm: float = 5.0
    iris: Rgb = (0.30, 0.20, 0.12)
    pupil: float = 0.17
    teeth: float = 0.85
    clay: Rgb | None = None
    exposure: Rgb = (1.0, 1.0, 1.0)
    seed: int = 0


def default_appearance() -> Appearance:
    """The plain mid-tone person of figures and tests, and of scans without colour."""
    return Appearance()


def random_appearance(rng: np.random.Generator) -> Appearance:
    """A random person; wide on purpose, because variety is what makes a model of renders accept a real scan."""

    def jittered(color: Rgb, spread: float) -> Rgb:
        r, g, b = (float(x) for x in np.clip(np.array(color) * np.exp(rng.normal(0, spread, 3)), 0, 1))
        return (r, g, b)

    def lip(red: tuple[float, float], green: tuple[float, float]) -> Rgb:
        # Lips are pinker than skin, not only darker: blue falls less than green.
        r, g, b = (float(x) for x in rng.uniform((red[0], green[0], 1.08), (red[1], green[1], 1.22)))
        return (r, g, g * b)

    painted_lips = rng.random() < 0.1
    hair = jittered(HAIR[rng.choice(len(HAIR), p=HAIR_SHARE)], 0.03)
    bearded = rng.random() < 0.4
    stubble = rng.random() < 0.7
    beard = float(rng.uniform(0.1, 0.45) if stubble else rng.uniform(0.5, 0.92)) if bearded else 0.0
    grey = float(rng.uniform(0.45, 0.85))
    tone = float(rng.uniform())
    # Light irises are rare in dark skin.
    iris = IRIS[rng.integers(len(IRIS) if tone < 0.5 or rng.random() < 0.08 else 2)]
    return Appearance(
        tone=tone,
        tint=jittered((0.97, 0.97, 0.97), 0.025),
        mottling=(float(rng.uniform(0.01, 0.035)), float(rng.uniform(0, 0.02)), float(rng.uniform(0.005, 0.02))),
        blush=float(rng.uniform(0, 0.16)),
        shadows=float(rng.uniform(0, 0.22)),
        lip=lip((0.6, 0.85), (0.25, 0.45)) if painted_lips else lip((0.82, 0.97), (0.52, 0.72)),
        lip_strength=float(rng.uniform(0.45, 1.0)),
        lip_margin_mm=float(rng.uniform(-0.8, 0.4)),
        hair=hair,
        brow_density=float(rng.uniform(0.45, 0.98)),
        brow_width_mm=float(rng.uniform(2.0, 4.4)),
        brow_shade=float(rng.uniform(0.6, 1.05)),
        beard=beard,
        beard_moustache_only=bool(rng.random() < 0.15),
        lash=float(rng.uniform(0.25, 0.75)),
        freckles=float(rng.uniform(0.3, 0.8)) if rng.random() < 0.2 else 0.0,
        cap=float(rng.uniform(0.75, 1.0)) if rng.random() < 0.72 else 0.0,
        hairline_mm=float(rng.normal(0, 9)),
        cap_edge_mm=float(rng.uniform(3, 9)),
        iris=jittered(iris, 0.06),
        pupil=float(rng.uniform(0.12, 0.24)),
        teeth=float(rng.uniform(0.6, 0.95)),
        clay=jittered((grey, grey, grey), 0.03) if rng.random() < 0.06 else None,
        seed=int(rng.integers(2**31)),
    )


def drawn_person(seed: int) -> Appearance:
    """A plausible person for a scan without colour: skin, brows, lips and irises of a seed.

    What the shape would have to show (beard, hair) and make-up are left out. Consecutive seeds have distant skin tones.
    """
    rng = np.random.default_rng(seed)
    tone = (0.3 + seed * GOLDEN) % 1.0
    red, green, blue = (float(x) for x in rng.uniform((0.84, 0.56, 0.64), (0.95, 0.7, 0.78)))
    light_eyes = len(IRIS) if tone < 0.5 else 2
    return replace(
        random_appearance(rng),
        tone=tone,
        lip=(red, green, blue),
        lip_strength=float(rng.uniform(0.55, 0.9)),
        lip_margin_mm=0.0,
        hair=HAIR[rng.integers(len(HAIR) if tone < 0.6 else 2)],
        brow_density=float(rng.uniform(0.55, 0.95)),
        brow_width_mm=float(rng.uniform(2.5, 4.0)),
        iris=IRIS[rng.integers(light_eyes)],
        pupil=0.17,
        beard=0.0,
        cap=0.0,
        clay=None,
    )


def waves(
    points_mm: Float[np.ndarray, "v 3"], rng: np.random.Generator, wavelength_mm: float, count: int = 12
) -> Float[np.ndarray, "v"]:
    """Smooth noise of unit deviation: a sum of plane waves around one wavelength, in random directions."""
    k = rng.normal(size=(count, 3))
    k *= (
        2 * np.pi / (wavelength_mm * np.exp(rng.normal(0, 0.35, (count, 1)))) / np.linalg.norm(k, axis=1, keepdims=True)
    )
    phase = rng.uniform(0, 2 * np.pi, count)
    out = np.cos((points_mm @ k.T + phase).astype(np.float32)).sum(axis=1) / np.sqrt(count / 2)
    return out.astype(np.float64)


def skin_color(appearance: Appearance) -> Float[np.ndarray, "3"]:
    """The plain skin colour, sRGB."""
    steps = np.linspace(0, 1, len(SKIN))
    base = np.array([np.interp(appearance.tone, steps, [c[k] for c in SKIN]) for k in range(3)])
    return base * np.array(appearance.tint)


def brow_color(appearance: Appearance) -> Float[np.ndarray, "3"]:
    """Colour of the brows' hair, sRGB."""
    return np.minimum(np.array(appearance.hair) * appearance.brow_shade, skin_color(appearance) * 0.75)


def brow_half_width(width_mm: float, along: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Half width of a brow (mm) at positions along it, 0 at its inner end and 1 at the outer; ``width_mm`` in its middle."""
    return width_mm * np.interp(along, [0, 0.15, 0.6, 1], [0.75, 1.05, 1, 0.35])


def paint(head_model: HeadModel, appearance: Appearance) -> Float[np.ndarray, "v 3"]:
    """Albedo per vertex, sRGB [0, 1]."""
    skin = _skin(head_model, appearance)
    inside = paint_regions(head_model).skin[:, None]
    out = skin * inside
    teeth = tuple(c * (0.75 + 0.3 * appearance.teeth) for c in TEETH)
    for parts, color in (*INNER_COLORS, (("teeth_upper", "teeth_lower"), teeth)):
        weight = part_mask(head_model, *parts)[:, None] * (1 - inside)
        out = out * (1 - weight) + weight * np.array(color)
    return np.clip(out, 0.02, 1).astype(np.float32)


def _skin(head_model: HeadModel, a: Appearance) -> Float[np.ndarray, "v 3"]:
    v, place = head_model.template_mm, paint_regions(head_model)
    if a.clay is not None:
        return np.tile(np.array(a.clay), (len(v), 1))
    rng = np.random.default_rng(a.seed)
    base = skin_color(a)
    hair = np.array(a.hair)

    def within(distance_mm: np.ndarray, edge_mm: float) -> np.ndarray:
        return np.clip(0.5 - distance_mm / edge_mm, 0, 1)

    def blend(color: np.ndarray, weight: np.ndarray, over: np.ndarray) -> np.ndarray:
        w = np.clip(weight, 0, 1)[:, None]
        return color * (1 - w) + over * w

    fine = waves(v, rng, float(rng.uniform(5, 12)), 20)
    strands = waves(v, rng, 4.0, 24)
    color = base * (1 + a.mottling[0] * waves(v, rng, 60.0))[:, None] * (1 + a.mottling[2] * fine)[:, None]
    color = color * (1 + a.mottling[1] * waves(v, rng, 30.0)[:, None] * np.array([0.4, 1.0, 1.2]))
    # Blood shows less through melanin.
    color = color * (1 - (a.blush * (1 - 0.5 * a.tone) * place.blush)[:, None] * np.array([0.05, 0.75, 0.65]))
    color = color * (1 - (a.shadows * place.socket)[:, None] * np.array([0.8, 1.0, 0.85]))
    color = color * (1 - 0.75 * place.nostril[:, None])
    if a.freckles > 0:
        spots = np.clip(waves(v, rng, 4.5, 32) - 1.3, 0, 0.6)
        spots = spots * np.exp(-0.5 * (((v - [0, -25, 30]) / [38, 16, 30]) ** 2).sum(axis=1))
        color = color * (1 - (a.freckles * spots)[:, None] * np.array([0.5, 0.8, 1.0]))
    lips = base * np.array(a.lip) * (1 + 0.04 * waves(v, rng, 5.0))[:, None]
    color = blend(color, a.lip_strength * within(place.lip_mm - a.lip_margin_mm, 1.8), lips)
    half_width = brow_half_width(a.brow_width_mm, place.brow_along)
    brow = a.brow_density * within(place.brow_mm - half_width + 0.5 * strands, 2.2)
    color = blend(color, brow, brow_color(a))
    if a.beard > 0:
        grows = np.clip(place.beard * (not a.beard_moustache_only) + place.moustache, 0, 1)
        grows = np.clip(grows * (1 - within(place.lip_mm - 0.2, 1.6)) * (1 + 0.15 * strands), 0, 1)
        # A beard is darker and redder than the hair of the head; stubble greys the skin whatever the hair.
        stubble = base * np.array([0.5, 0.54, 0.58])
        full = np.minimum(hair * np.array([0.85, 0.76, 0.72]), base * np.array([0.62, 0.58, 0.58]))
        color = blend(color, a.beard * grows, full if a.beard > 0.5 else stubble)
    lid = a.lash * within(place.upper_lid_mm - 1.0, 1.6) + 0.2 * within(place.lid_mm - 0.8, 1.6)
    color = color * (1 - np.clip(lid, 0, 0.85)[:, None] * np.array([0.85, 0.9, 0.92]))
    if a.cap > 0:
        edge = place.hair_mm - a.hairline_mm + 2.5 * waves(v, rng, 14.0)
        cap = a.cap * within(-edge, a.cap_edge_mm) * (1 - place.hairless)
        color = blend(color, cap, hair * (1 + 0.12 * waves(v, rng, 6.0, 24))[:, None])
    return color


@lru_cache(maxsize=64)
def eye_texture(
    appearance: Appearance, size: int = 192, *, iris_rad: float = IRIS_RAD
) -> Float[np.ndarray, "size size 3"]:
    """Linear-light colours of an eyeball under its azimuthal-equidistant UVs, row 0 at v = 0.

    Args:
        appearance: colours of iris and white, and the pupil's angle at an iris of `IRIS_RAD`.
        size: width and height in pixels.
        iris_rad: angle about the gaze axis at which the iris ends; the pupil shrinks and grows with it.
    """
    y, x = (np.mgrid[:size, :size] + 0.5) / size - 0.5
    theta, phi = np.hypot(x, y) * np.pi, np.arctan2(y, x)
    edge = 2.0 / size * np.pi * IRIS_RAD / iris_rad

    def inside(angle: float, softness: float = 1.0) -> np.ndarray:
        return np.clip((angle - within_iris) / (edge * softness) + 0.5, 0, 1)[..., None]

    within_iris = theta * (IRIS_RAD / iris_rad)
    sclera = np.array([0.88, 0.85, 0.83]) - np.clip(theta - 0.7, 0, 1)[..., None] * np.array([0.02, 0.16, 0.16])
    # Radial fibres, a darker limbal ring, lighter around the pupil.
    fibres = 1 + 0.10 * np.sin(23 * phi + 3 * np.sin(5 * phi)) + 0.08 * np.sin(41 * phi)
    ring = (
        1 - 0.55 * np.clip((within_iris - 0.36) / 0.12, 0, 1) ** 2 + 0.25 * np.clip((0.28 - within_iris) / 0.12, 0, 1)
    )
    iris = np.array(appearance.iris) * (fibres * ring)[..., None]
    out = sclera + inside(IRIS_RAD, 2.0) * (iris - sclera)
    out = out + inside(appearance.pupil) * (0.02 - out)
    return to_linear(np.clip(out * np.array(appearance.exposure), 0, 1)).astype(np.float32)
