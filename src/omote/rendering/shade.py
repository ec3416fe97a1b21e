"""Shading of skin: per vertex, in linear light.

Skin is lit by wrap-diffuse terms whose wrap is widest in red, which reddens the terminator as subsurface scattering
does (the cheap model of Green, "Real-Time Approximations to Subsurface Scattering", GPU Gems 2004), a weak Blinn-Phong
gloss, and a hemisphere of ambient light dimmed where the surface is hollow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from omote.compiled import kernel

# How far past the terminator light wraps around, per colour: red travels farthest in skin.
SKIN_WRAP = np.array([0.42, 0.26, 0.20])
_LUT_SIZE = 4096
# Kernels take constants of their own precision from here: one that is made inside costs as much to compile as a line.
ZERO, HALF, ONE, TINY = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(1e-9)
# A hollow dims direct light by this share of what it takes of the ambient; gloss at normal incidence.
SHADOW, FACING_GLOSS = np.float32(0.6), np.float32(0.35)


@dataclass(frozen=True, kw_only=True)
class Light:
    """A lighting of one scene, in the world (canonical) frame; intensities are linear, 1 lights white paper to white.

    Attributes:
        directions: unit vectors towards each light.
        colors: linear intensity of each light.
        sky: ambient light from above.
        ground: ambient light from below.
        gloss: weight of skin's specular term.
        gloss_power: exponent of the gloss; higher is wetter.
        cavity: 0 ignores the ambient-occlusion term, 1 applies it in full.
        exposure: factor on the whole image.
    """

    directions: Float[np.ndarray, "l 3"]
    colors: Float[np.ndarray, "l 3"]
    sky: Float[np.ndarray, "3"]
    ground: Float[np.ndarray, "3"]
    gloss: float = 0.25
    gloss_power: float = 18.0
    cavity: float = 1.0
    exposure: float = 1.0


def _unit(yaw_rad: float, pitch_rad: float) -> Float[np.ndarray, "3"]:
    return np.array([np.sin(yaw_rad) * np.cos(pitch_rad), np.sin(pitch_rad), np.cos(yaw_rad) * np.cos(pitch_rad)])


def studio_light() -> Light:
    """The fixed light of figures and tests: key from the upper left, fill, soft ambient."""
    return Light(
        directions=np.stack([_unit(-0.5, 0.5), _unit(0.8, 0.15)]),
        colors=np.array([[0.62, 0.60, 0.57], [0.20, 0.21, 0.23]]),
        sky=np.array([0.38, 0.38, 0.39]),
        ground=np.array([0.22, 0.20, 0.19]),
    )


def _temperature(kelvin_shift: float) -> Float[np.ndarray, "3"]:
    """Tint of a light that is warmer (> 0) or cooler (< 0) than the camera's white, luminance about 1."""
    tint = np.array([1 + 0.22 * kelvin_shift, 1.0, 1 - 0.30 * kelvin_shift])
    return tint / (tint @ np.array([0.2126, 0.7152, 0.0722]))


def random_light(rng: np.random.Generator) -> Light:
    """A plausible light: studio (key, fill, rim), window (one broad side light), overcast or indoor ceiling."""
    kind = rng.choice(4, p=[0.35, 0.25, 0.25, 0.15])
    side = rng.choice([-1.0, 1.0])
    exposure = float(np.exp(rng.normal(0.0, 0.13)))
    warm = float(rng.normal(0.0, 0.28))
    ambient_tint = _temperature(float(warm * 0.5 + rng.normal(0.0, 0.2)))

    if kind == 0:
        key = _unit(side * rng.uniform(0.2, 0.9), rng.uniform(0.1, 0.75))
        fill = _unit(-side * rng.uniform(0.4, 1.1), rng.uniform(-0.1, 0.4))
        rim = _unit(-side * rng.uniform(1.9, 2.6), rng.uniform(0.1, 0.6))
        directions = np.stack([key, fill, rim])
        strength = np.array([rng.uniform(0.40, 0.72), rng.uniform(0.10, 0.35), rng.uniform(0.0, 0.5)])
        ambient = rng.uniform(0.22, 0.42)
    elif kind == 1:
        directions = np.stack([_unit(side * rng.uniform(0.8, 1.35), rng.uniform(0.0, 0.5))])
        strength = np.array([rng.uniform(0.45, 0.8)])
        ambient = rng.uniform(0.28, 0.48)
    elif kind == 2:
        directions = np.stack([_unit(rng.normal(0, 0.4), rng.uniform(0.7, 1.35))])
        strength = np.array([rng.uniform(0.1, 0.35)])
        ambient = rng.uniform(0.55, 0.78)
    else:
        directions = np.stack([_unit(rng.normal(0, 0.6), rng.uniform(0.9, 1.4)), _unit(side * 0.7, 0.2)])
        strength = np.array([rng.uniform(0.3, 0.55), rng.uniform(0.05, 0.25)])
        ambient = rng.uniform(0.30, 0.5)

    tints = np.stack([_temperature(warm + float(rng.normal(0.0, 0.25))) for _ in strength])
    down = rng.uniform(0.45, 0.9)
    return Light(
        directions=directions,
        colors=strength[:, None] * tints,
        sky=ambient * ambient_tint,
        ground=ambient * down * _temperature(float(rng.normal(0.35, 0.3))),
        gloss=float(rng.uniform(0.05, 0.42)),
        gloss_power=float(rng.uniform(9.0, 30.0)),
        cavity=float(rng.uniform(0.7, 1.0)),
        exposure=exposure,
    )


def _tables() -> tuple[np.ndarray, np.ndarray]:
    x = np.linspace(0, 1, _LUT_SIZE)
    decode = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    encode = np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
    return decode.astype(np.float32), encode.astype(np.float32)


DECODE, ENCODE = _tables()


def to_linear(srgb: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "... 3"]:
    """SRGB-encoded [0, 1] → linear light (IEC 61966-2-1)."""
    x = np.clip(np.asarray(srgb, np.float64), 0, 1)
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "... 3"]:
    """Linear light → sRGB-encoded [0, 1], clipped."""
    x = np.clip(np.asarray(linear, np.float64), 0, 1)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-9) ** (1 / 2.4) - 0.055)


def shade_vertices(
    vertices_mm: Float[np.ndarray, "v 3"],
    normals: Float[np.ndarray, "v 3"],
    albedo: Float[np.ndarray, "v 3"],
    occlusion: Float[np.ndarray, "v"],
    gloss: Float[np.ndarray, "v"],
    light: Light,
    eye_mm: Float[np.ndarray, "3"],
    wanted: Bool[np.ndarray, " v"] | None = None,
) -> Float[np.ndarray, "v 3"]:
    """Linear radiance of each vertex towards the camera.

    Args:
        vertices_mm: world frame.
        normals: unit, outwards.
        albedo: sRGB-encoded [0, 1].
        occlusion: ambient visibility, 1 open to 0 hidden.
        gloss: factor on the light's gloss.
        light: the lighting.
        eye_mm: the camera's centre, world frame.
        wanted: the vertices to shade; the others are 0. All if None.
    """
    wanted = np.ones(len(vertices_mm), np.bool_) if wanted is None else wanted
    out = np.zeros((len(vertices_mm), 3), np.float32)
    _shade(
        np.ascontiguousarray(vertices_mm, np.float32), normals, np.ascontiguousarray(albedo, np.float32),
        np.ascontiguousarray(occlusion, np.float32), np.ascontiguousarray(gloss, np.float32),
        light.directions.astype(np.float32), light.colors.astype(np.float32), light.sky.astype(np.float32),
        light.ground.astype(np.float32), np.float32(light.gloss), np.float32(light.gloss_power),
        np.float32(light.cavity), np.float32(light.exposure), eye_mm.astype(np.float32),
        SKIN_WRAP.astype(np.float32), DECODE, wanted, out,
    )  # fmt: skip
    return out


@kernel(fastmath=True, error_model="numpy")
def _shade(
    vertices: np.ndarray,
    normals: np.ndarray,
    albedo: np.ndarray,
    occlusion: np.ndarray,
    gloss: np.ndarray,
    directions: np.ndarray,
    colors: np.ndarray,
    sky: np.ndarray,
    ground: np.ndarray,
    gloss_weight: np.float32,
    gloss_power: np.float32,
    cavity: np.float32,
    exposure: np.float32,
    eye: np.ndarray,
    wrap: np.ndarray,
    decode: np.ndarray,
    wanted: np.ndarray,
    out: np.ndarray,
) -> None:
    top = np.float32(len(decode) - 1)
    for i in range(len(vertices)):
        if not wanted[i]:
            continue
        nx, ny, nz = normals[i, 0], normals[i, 1], normals[i, 2]
        vx, vy, vz = eye[0] - vertices[i, 0], eye[1] - vertices[i, 1], eye[2] - vertices[i, 2]
        n_v = ONE / math.sqrt(vx * vx + vy * vy + vz * vz)
        vx, vy, vz = vx * n_v, vy * n_v, vz * n_v

        open_to_sky = ONE - cavity * (ONE - occlusion[i])
        up = HALF * (ny + ONE)
        r = open_to_sky * (ground[0] + up * (sky[0] - ground[0]))
        g = open_to_sky * (ground[1] + up * (sky[1] - ground[1]))
        b = open_to_sky * (ground[2] + up * (sky[2] - ground[2]))
        # A hollow also dims direct light, though less: its walls cast short shadows.
        direct = ONE - SHADOW * cavity * (ONE - occlusion[i])

        sr, sg, sb = ZERO, ZERO, ZERO
        for k in range(len(directions)):
            lx, ly, lz = directions[k, 0], directions[k, 1], directions[k, 2]
            c = nx * lx + ny * ly + nz * lz
            r += direct * colors[k, 0] * max(ZERO, (c + wrap[0]) / (ONE + wrap[0]))
            g += direct * colors[k, 1] * max(ZERO, (c + wrap[1]) / (ONE + wrap[1]))
            b += direct * colors[k, 2] * max(ZERO, (c + wrap[2]) / (ONE + wrap[2]))
            if c > ZERO and gloss_weight > ZERO and gloss[i] > ZERO:
                hx, hy, hz = lx + vx, ly + vy, lz + vz
                n_h = (nx * hx + ny * hy + nz * hz) / math.sqrt(hx * hx + hy * hy + hz * hz + TINY)
                if n_h > HALF:
                    # Schlick: skin reflects most at grazing view.
                    grazing = ONE - max(ZERO, nx * vx + ny * vy + nz * vz)
                    s = gloss_weight * gloss[i] * direct * n_h**gloss_power * (FACING_GLOSS + grazing * grazing)
                    sr += s * colors[k, 0]
                    sg += s * colors[k, 1]
                    sb += s * colors[k, 2]

        out[i, 0] = exposure * (r * decode[int(min(max(albedo[i, 0], ZERO), ONE) * top)] + sr)
        out[i, 1] = exposure * (g * decode[int(min(max(albedo[i, 1], ZERO), ONE) * top)] + sg)
        out[i, 2] = exposure * (b * decode[int(min(max(albedo[i, 2], ZERO), ONE) * top)] + sb)


def fast_normals(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, "v 3"]:
    """`omote.geometry.mesh.vertex_normals` in float32 and one pass; (0, 0, 1) where no face is incident.

    Args:
        vertices: float32 positions.
        faces: counter-clockwise from outside.
    """
    return _summed_normals(vertices, np.ascontiguousarray(faces, np.int32))


@kernel(fastmath=True, error_model="numpy")
def _summed_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    out = np.empty((len(vertices), 3), np.float32)
    for i in range(len(out)):
        out[i, 0] = out[i, 1] = out[i, 2] = ZERO
    for f in range(len(faces)):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, az = vertices[j, 0] - vertices[i, 0], vertices[j, 1] - vertices[i, 1], vertices[j, 2] - vertices[i, 2]
        bx, by, bz = vertices[k, 0] - vertices[i, 0], vertices[k, 1] - vertices[i, 1], vertices[k, 2] - vertices[i, 2]
        x, y, z = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        for v in (i, j, k):
            out[v, 0] += x
            out[v, 1] += y
            out[v, 2] += z
    for i in range(len(out)):
        x, y, z = out[i, 0], out[i, 1], out[i, 2]
        length = math.sqrt(x * x + y * y + z * z)
        if length > 1e-12:
            out[i, 0], out[i, 1], out[i, 2] = x / length, y / length, z / length
        else:
            out[i, 2] = 1.0
    return out


def lip_shadow(
    points_mm: Float[np.ndarray, "n 3"], landmarks_mm: Float[np.ndarray, "68 3"]
) -> Float[np.ndarray, "n 3"]:
    """How much light the lips leave on teeth and tongue: least under the upper lip and at the mouth's corners.

    Returns one factor per colour, 1 for all: what light there is in shadow is reddened by the mouth.
    """
    upper, lower, corners = landmarks_mm[62], landmarks_mm[66], landmarks_mm[[60, 64], 0]
    below, above = upper[1] - points_mm[:, 1], points_mm[:, 1] - lower[1]
    half_mm = max(0.5 * float(corners[1] - corners[0]), 1.0)
    aside = np.abs(points_mm[:, 0] - corners.mean()) / half_mm
    open_mm = max(float(upper[1] - lower[1]), 0.0)
    # The narrower the opening, the less light comes in at all.
    into = 0.5 + 0.4 * min(open_mm / 16.0, 1.0)
    edge = (0.45 + 0.55 * np.clip(below / 6.0, 0, 1)) * (0.75 + 0.25 * np.clip(above / 4.0, 0, 1))
    shade = into * edge * (1 - 0.6 * np.clip(aside, 0, 1) ** 2)
    return np.clip(1 - (1 - shade)[:, None] * np.array([0.92, 1.02, 1.07]), 0, 1)


def lid_shadow(points_mm: Float[np.ndarray, "n 3"], landmarks_mm: Float[np.ndarray, "68 3"]) -> Float[np.ndarray, "n"]:
    """How much light the lids leave on the eyeballs, 1 all: a band of shade below the upper lid, less above the lower."""
    x, y = points_mm[:, 0], points_mm[:, 1]
    # Both eyes' lids as one line each, from the person's right to the left.
    top = landmarks_mm[[36, 37, 38, 39, 42, 43, 44, 45]]
    bottom = landmarks_mm[[36, 41, 40, 39, 42, 47, 46, 45]]
    below = np.interp(x, top[:, 0], top[:, 1]) - y
    above = y - np.interp(x, bottom[:, 0], bottom[:, 1])
    return (0.45 + 0.55 * np.clip(below / 4.5, 0, 1)) * (0.8 + 0.2 * np.clip(above / 2.5, 0, 1))


def camera_center(cam_from_world: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "3"]:
    """A camera's centre in the world frame, mm."""
    return -cam_from_world[:3, :3].T @ cam_from_world[:3, 3]
