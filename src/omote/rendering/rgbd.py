"""3D → RGB-D: heads, meshes and point clouds as a camera sees them.

Colour is the mean of 2×2 samples per pixel in linear light; depth is the z-depth at the pixel's centre, never a mean
across an edge; the mask is where that centre hits.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int

from omote.compiled import kernel
from omote.head.model import PARTS, HeadModel
from omote.rendering.appearance import Appearance, default_appearance, eye_texture, paint
from omote.rendering.regions import head_shading
from omote.rendering.shade import (
    ENCODE,
    Light,
    camera_center,
    fast_normals,
    lid_shadow,
    lip_shadow,
    shade_vertices,
    studio_light,
)
from omote.rendering.zbuffer import rasterize_samples, vertices_used
from omote.types import Camera, Rgbd

SUPERSAMPLE = 2
BACKGROUND = np.array([0.5, 0.5, 0.5])
EYE_PARTS = (PARTS.index("eye_left"), PARTS.index("eye_right"))
EYE_GLOSS_POWER, GLOSS_FROM = np.float32(120.0), np.float32(0.9)
ZERO, ONE, TWO = np.float32(0.0), np.float32(1.0), np.float32(2.0)


def render_head(
    head_model: HeadModel,
    vertices_mm: Float[np.ndarray, "v 3"],
    camera: Camera,
    *,
    appearance: Appearance | None = None,
    albedo: Float[np.ndarray, "v 3"] | None = None,
    light: Light | None = None,
    background: Float[np.ndarray, "..."] = BACKGROUND,
) -> Rgbd:
    """Render a head model's vertices as a person.

    Args:
        head_model: gives topology, parts and eye UVs.
        vertices_mm: canonical frame (the camera moves, not the head).
        camera: camera of the image.
        appearance: skin, hair and eyes; a plain mid-tone person if None.
        albedo: `paint(head_model, appearance)` if already at hand (it costs more than the render).
        light: `studio_light()` if None.
        background: sRGB [0, 1], one colour or an image of the camera's size.
    """
    appearance = default_appearance() if appearance is None else appearance
    albedo = paint(head_model, appearance) if albedo is None else albedo
    light = studio_light() if light is None else light
    shading = head_shading(head_model)
    vertices = np.ascontiguousarray(vertices_mm, np.float32)
    normals = fast_normals(vertices, shading.faces)
    marks = head_model.landmarks(vertices)
    occlusion = shading.dim(vertices, marks)
    eye_mm = camera_center(camera.cam_from_world)
    seen = rasterize_samples(camera, vertices, shading.faces, supersample=SUPERSAMPLE)
    used = vertices_used(seen.face_id, shading.faces, len(vertices))
    radiance = shade_vertices(vertices, normals, albedo, occlusion, shading.gloss, light, eye_mm, used)
    inner, eyeballs = shading.inner[used[shading.inner]], shading.eyeballs[used[shading.eyeballs]]
    radiance[inner] *= lip_shadow(vertices[inner], marks)
    radiance[eyeballs] *= lid_shadow(vertices[eyeballs], marks)[:, None]
    size = (camera.height, camera.width, 3)
    rgb = np.empty(size, np.float32)
    _resolve(
        seen.face_id, seen.barycentric, shading.faces, radiance,
        head_model.face_part, head_model.faces_uv, head_model.uv, eye_texture(appearance), vertices, normals,
        eye_mm.astype(np.float32), light.directions.astype(np.float32), light.colors.astype(np.float32),
        np.ascontiguousarray(np.broadcast_to(np.asarray(background, np.float32), size)), ENCODE, rgb,
    )  # fmt: skip
    return Rgbd(rgb=rgb, depth_mm=seen.depth_mm, mask=seen.depth_mm > 0, camera=camera)


def interpolate(
    face_id: Int[np.ndarray, "height width"],
    barycentric: Float[np.ndarray, "height width 3"],
    faces: Int[np.ndarray, "f 3"],
    values: Float[np.ndarray, "v c"],
) -> Float[np.ndarray, "height width c"]:
    """Per-vertex values at every pixel of a raster; 0 where nothing is hit."""
    out = np.zeros((*face_id.shape, values.shape[1]), np.float32)
    _interpolate(
        face_id, barycentric, np.ascontiguousarray(faces, np.int32), np.ascontiguousarray(values, np.float32), out
    )
    return out


@kernel()
def _interpolate(
    face_id: np.ndarray, barycentric: np.ndarray, faces: np.ndarray, values: np.ndarray, out: np.ndarray
) -> None:
    height, width = face_id.shape
    for y in range(height):
        for x in range(width):
            f = face_id[y, x]
            if f < 0:
                continue
            for c in range(3):
                weight, corner = barycentric[y, x, c], faces[f, c]
                for k in range(values.shape[1]):
                    out[y, x, k] += weight * values[corner, k]


@kernel(fastmath=True, error_model="numpy")
def _resolve(
    face_id: np.ndarray,
    barycentric: np.ndarray,
    faces: np.ndarray,
    radiance: np.ndarray,
    face_part: np.ndarray,
    faces_uv: np.ndarray,
    uv: np.ndarray,
    eye_texture: np.ndarray,
    vertices: np.ndarray,
    normals: np.ndarray,
    eye: np.ndarray,
    directions: np.ndarray,
    colors: np.ndarray,
    background: np.ndarray,
    encode: np.ndarray,
    out: np.ndarray,
) -> None:
    """Mean of each pixel's samples in linear light, encoded; eyes take colour from their texture and a sharp gloss."""
    height, width = background.shape[0], background.shape[1]
    per_side = face_id.shape[0] // height
    share = np.float32(1.0 / (per_side * per_side))
    top = np.float32(len(encode) - 1)
    texels = eye_texture.shape[0]

    value = np.empty(3, np.float32)
    point = np.empty(3, np.float32)
    normal = np.empty(3, np.float32)
    total = np.empty(3, np.float32)

    for y in range(height):
        for x in range(width):
            total[0], total[1], total[2] = ZERO, ZERO, ZERO
            covered = 0
            for sy in range(per_side):
                for sx in range(per_side):
                    row, column = y * per_side + sy, x * per_side + sx
                    f = face_id[row, column]
                    if f < 0:
                        continue
                    covered += 1
                    b0, b1, b2 = barycentric[row, column, 0], barycentric[row, column, 1], barycentric[row, column, 2]
                    i0, i1, i2 = faces[f, 0], faces[f, 1], faces[f, 2]
                    for k in range(3):
                        value[k] = b0 * radiance[i0, k] + b1 * radiance[i1, k] + b2 * radiance[i2, k]
                    if face_part[f] == EYE_PARTS[0] or face_part[f] == EYE_PARTS[1]:
                        t0, t1, t2 = faces_uv[f, 0], faces_uv[f, 1], faces_uv[f, 2]
                        u = b0 * uv[t0, 0] + b1 * uv[t1, 0] + b2 * uv[t2, 0]
                        v = b0 * uv[t0, 1] + b1 * uv[t1, 1] + b2 * uv[t2, 1]
                        tx = min(max(int(u * texels), 0), texels - 1)
                        ty = min(max(int(v * texels), 0), texels - 1)
                        for k in range(3):
                            point[k] = eye[k] - (b0 * vertices[i0, k] + b1 * vertices[i1, k] + b2 * vertices[i2, k])
                            normal[k] = b0 * normals[i0, k] + b1 * normals[i1, k] + b2 * normals[i2, k]
                            value[k] *= eye_texture[ty, tx, k]
                        n_v = ONE / math.sqrt(point[0] * point[0] + point[1] * point[1] + point[2] * point[2])
                        n_n = ONE / math.sqrt(normal[0] * normal[0] + normal[1] * normal[1] + normal[2] * normal[2])
                        for m in range(len(directions)):
                            hx = directions[m, 0] + point[0] * n_v
                            hy = directions[m, 1] + point[1] * n_v
                            hz = directions[m, 2] + point[2] * n_v
                            c = (normal[0] * hx + normal[1] * hy + normal[2] * hz) * n_n
                            c /= math.sqrt(hx * hx + hy * hy + hz * hz)
                            if c > GLOSS_FROM:
                                gloss = TWO * c**EYE_GLOSS_POWER
                                for k in range(3):
                                    value[k] += gloss * colors[m, k]
                    for k in range(3):
                        # Clip before the mean, as a sensor's highlights do not outshine their edge.
                        total[k] += min(max(value[k], ZERO), ONE)

            # The background is already encoded, so the covered part is encoded before the two are mixed.
            alpha = covered * share
            for k in range(3):
                lit = encode[int(total[k] / max(covered, 1) * top)]
                out[y, x, k] = alpha * lit + (ONE - alpha) * background[y, x, k]
