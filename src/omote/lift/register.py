"""From a generated RGB-D image to the head model's vertices, in correspondence with the person at rest.

Two stages. First the person's own ARKit units are weighted to explain the image (bounded Gauss-Newton on depth along the
normal and on colour): whatever they can explain is a plausible face. Then a smooth residual along the normals takes
up what the units cannot, only where units move skin at all, so that rigid, identity-bearing regions stay.

The decoder has a small bias of its own (blurred edges); it shows in the image that the same model makes of the person at
rest, and what is registered is the difference of the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.optimize import lsq_linear

from omote.geometry.camera import pixel_grid, project, unproject
from omote.geometry.mesh import unique_edges, vertex_normals
from omote.head.model import PARTS, HeadModel
from omote.render.rgbd import interpolate
from omote.render.zbuffer import rasterize
from omote.types import Rgbd


@dataclass(frozen=True, kw_only=True)
class RegisterSettings:
    """Weights of the terms; lengths in millimetres.

    Attributes:
        rounds: Gauss-Newton rounds.
        color_mm: how many millimetres a colour difference of 1 is worth.
        robust_mm: Geman-McClure scale of depth residuals.
        prior: pull of weights to where they start, in mm² per squared weight and pixel.
        sparsity: pull to zero of units that start at zero.
        residual_stiffness: smoothness of the residual.
        residual_max_mm: bound on it.
        bias_max_mm: the decoder's bias is believed up to here.
    """

    rounds: int = 5
    color_mm: float = 5.0
    robust_mm: float = 2.5
    prior: float = 0.12
    sparsity: float = 0.25
    residual_stiffness: float = 12.0
    residual_max_mm: float = 2.5
    bias_max_mm: float = 3.0


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A registered expression.

    Attributes:
        vertices_mm: canonical frame, in correspondence with the neutral.
        weights: the ARKit weights that explain most of it.
        residual_mm: mean |depth residual| over the skin seen, after both stages.
    """

    vertices_mm: Float[np.ndarray, "v 3"]
    weights: Float[np.ndarray, "52"]
    residual_mm: float


def register_expression(
    model: HeadModel,
    neutral_mm: Float[np.ndarray, "v 3"],
    units_mm: Float[np.ndarray, "52 v 3"],
    generated: Rgbd,
    generated_neutral: Rgbd,
    start: Float[np.ndarray, "52"],
    settings: RegisterSettings | None = None,
) -> Registered:
    """Register one generated image.

    Args:
        model: topology and parts.
        neutral_mm: the person at rest.
        units_mm: the person's ARKit units.
        generated: the image to explain.
        generated_neutral: what the same model makes of the person at rest, in the same camera.
        start: weights to start from, such as the category's typical ones; they are a prior too.
        settings: weights of the terms.
    """
    settings = settings or RegisterSettings()
    goal = _unbiased(model, neutral_mm, generated, generated_neutral, settings)
    colors = _seen_colors(model, neutral_mm, generated_neutral)
    weights = np.clip(start.astype(np.float64), 0, 1)
    for _ in range(settings.rounds):
        posed = neutral_mm + np.tensordot(weights.astype(np.float32), units_mm, 1)
        weights = _update(model, posed, units_mm, goal, colors, weights, start, settings)
    posed = neutral_mm + np.tensordot(weights.astype(np.float32), units_mm, 1)
    posed = posed + _residual(model, posed, units_mm, goal, settings)
    left, _ = _depth_residuals(model, posed, goal)
    return Registered(
        vertices_mm=posed.astype(np.float32), weights=weights.astype(np.float32),
        residual_mm=float(np.abs(left[np.isfinite(left)]).mean()) if np.isfinite(left).any() else float("nan"),
    )  # fmt: skip


def _skin_faces(model: HeadModel) -> Bool[np.ndarray, "f"]:
    return model.face_part == PARTS.index("skin")


def _unbiased(
    model: HeadModel,
    neutral_mm: Float[np.ndarray, "v 3"],
    generated: Rgbd,
    generated_neutral: Rgbd,
    settings: RegisterSettings,
) -> Rgbd:
    """The generated image with the decoder's smooth depth bias at rest taken off."""
    raster = rasterize(generated.camera, neutral_mm, model.faces)
    both = (raster.face_id >= 0) & generated_neutral.mask
    bias = np.where(both, generated_neutral.depth_mm - raster.depth_mm, 0.0)
    both &= np.abs(bias) < settings.bias_max_mm
    sigma = 2.0 * generated.camera.width / 128
    weight = ndimage.gaussian_filter(both.astype(np.float64), sigma)
    smooth = ndimage.gaussian_filter(np.where(both, bias, 0.0), sigma) / np.maximum(weight, 1e-3)
    # Pixels at depth edges mix two surfaces and say nothing.
    depth = np.where(generated.mask, generated.depth_mm, np.nan)
    step = ndimage.generic_gradient_magnitude(np.nan_to_num(depth, nan=0.0), ndimage.sobel) / 8
    mask = generated.mask & ndimage.binary_erosion(generated.mask) & (step < 8.0 * 128 / generated.camera.width)
    return Rgbd(
        rgb=generated.rgb,
        depth_mm=np.where(mask, generated.depth_mm - smooth, 0.0).astype(np.float32),
        mask=mask,
        camera=generated.camera,
    )


def _seen_colors(
    model: HeadModel, neutral_mm: Float[np.ndarray, "v 3"], generated_neutral: Rgbd
) -> Float[np.ndarray, "v 3"]:
    """Per-vertex colours of the person at rest, sampled from the image; NaN where not seen."""
    camera = generated_neutral.camera
    uvz = project(camera, neutral_mm)
    rgb = np.stack(
        [
            ndimage.map_coordinates(generated_neutral.rgb[..., k], [uvz[:, 1] - 0.5, uvz[:, 0] - 0.5], order=1)
            for k in range(3)
        ],
        axis=1,
    )
    x, y = (np.clip(uvz[:, k].astype(int), 0, n - 1) for k, n in ((0, camera.width), (1, camera.height)))
    seen = generated_neutral.mask[y, x] & (np.abs(generated_neutral.depth_mm[y, x] - uvz[:, 2]) < 6.0)
    return np.where(seen[:, None], rgb, np.nan)


def _depth_residuals(
    model: HeadModel, posed: Float[np.ndarray, "v 3"], goal: Rgbd
) -> tuple[Float[np.ndarray, "h w"], object]:
    """Signed distance (mm) along the normal from the posed surface to the goal per pixel; NaN where there is none."""
    raster = rasterize(goal.camera, posed, model.faces)
    skin = np.zeros(raster.face_id.shape, bool)
    hit = raster.face_id >= 0
    skin[hit] = _skin_faces(model)[raster.face_id[hit]]
    valid = skin & goal.mask
    normals = interpolate(
        raster.face_id, raster.barycentric, np.ascontiguousarray(model.faces, np.int32),
        vertex_normals(posed, model.faces).astype(np.float32),
    )  # fmt: skip
    pixels = pixel_grid(goal.camera)
    at_goal = unproject(goal.camera, np.column_stack([pixels, goal.depth_mm.ravel()]))
    at_model = unproject(goal.camera, np.column_stack([pixels, raster.depth_mm.ravel()]))
    distance = ((at_goal - at_model) * normals.reshape(-1, 3)).sum(axis=1).reshape(valid.shape)
    return np.where(valid, distance, np.nan), (raster, normals)


def _update(
    model: HeadModel,
    posed: Float[np.ndarray, "v 3"],
    units_mm: Float[np.ndarray, "52 v 3"],
    goal: Rgbd,
    colors: Float[np.ndarray, "v 3"],
    weights: Float[np.ndarray, "52"],
    start: Float[np.ndarray, "52"],
    settings: RegisterSettings,
) -> Float[np.ndarray, "52"]:
    """One Gauss-Newton round on the weights."""
    distance, extra = _depth_residuals(model, posed, goal)
    raster, normals = extra  # type: ignore[misc]
    rows, columns = np.nonzero(np.isfinite(distance) & (np.abs(np.nan_to_num(distance)) < 15))
    if len(rows) < 200:
        return weights
    corner = model.faces[raster.face_id[rows, columns]]
    bary = raster.barycentric[rows, columns]
    moves = np.einsum("upcd,pc->upd", units_mm[:, corner], bary)  # unit, pixel, xyz
    normal = normals[rows, columns]
    residual = distance[rows, columns]
    robust = 1 / (1 + (residual / settings.robust_mm) ** 2)  # square root of Geman-McClure's weight
    blocks = [(np.einsum("upd,pd->pu", moves, normal) * robust[:, None], residual * robust)]

    # Colour: a moved point keeps its colour, so I(u + du) = C; du follows from the point's motion in the camera.
    shown = np.einsum("pcd,pc->pd", colors[corner], bary)
    known = np.isfinite(shown).all(axis=1)
    rotation = goal.camera.cam_from_world[:3, :3]
    focal = goal.camera.intrinsics[0, 0]
    z = raster.depth_mm[rows, columns]
    flow = focal * np.einsum("upd,kd->upk", moves, rotation)[..., :2] / z[:, None]
    blurred = ndimage.gaussian_filter(goal.rgb.astype(np.float64), (0.7, 0.7, 0))
    for k in range(3):
        gx, gy = np.gradient(blurred[..., k], axis=1)[rows, columns], np.gradient(blurred[..., k], axis=0)[rows, columns]
        jacobian = (flow[..., 0] * gx + flow[..., 1] * gy).T
        error = np.where(known, shown[:, k] - blurred[rows, columns, k], 0.0)
        trust = settings.color_mm * np.where(known, 1 / (1 + (error / 0.12) ** 2), 0.0)
        blocks.append((jacobian * trust[:, None], error * trust))
    a = np.concatenate([b[0] for b in blocks])
    r = np.concatenate([b[1] for b in blocks])
    pull = np.sqrt(len(rows) * np.where(start > 0.02, settings.prior, settings.sparsity))
    # Unknowns are the new weights: A (w - w0) = r.
    normal_matrix = a.T @ a + np.diag(pull**2)
    right = a.T @ (r + a @ weights) + pull**2 * start
    root = np.linalg.cholesky(normal_matrix)
    solved = lsq_linear(root.T, np.linalg.solve(root, right), bounds=(0.0, 1.0)).x
    return np.asarray(solved)


def motion_range_mm(units_mm: Float[np.ndarray, "52 v 3"]) -> Float[np.ndarray, "v"]:
    """How far any unit moves each vertex."""
    return np.sqrt(np.einsum("uvd,uvd->uv", units_mm, units_mm)).max(axis=0)


def _residual(
    model: HeadModel,
    posed: Float[np.ndarray, "v 3"],
    units_mm: Float[np.ndarray, "52 v 3"],
    goal: Rgbd,
    settings: RegisterSettings,
) -> Float[np.ndarray, "v 3"]:
    """A smooth offset along the normals for what the units left."""
    distance, extra = _depth_residuals(model, posed, goal)
    raster, _ = extra  # type: ignore[misc]
    rows, columns = np.nonzero(np.abs(np.nan_to_num(distance, nan=1e9)) < 2 * settings.residual_max_mm)
    size = len(posed)
    if len(rows) < 200:
        return np.zeros_like(posed)
    corner = model.faces[raster.face_id[rows, columns]]
    bary = raster.barycentric[rows, columns]
    a = sp.csr_matrix(
        (bary.ravel(), (np.repeat(np.arange(len(rows)), 3), corner.ravel())), shape=(len(rows), size)
    )
    edges = unique_edges(model.faces)
    laplacian = sp.coo_matrix(
        (np.ones(2 * len(edges)), (edges.ravel(), edges[:, ::-1].ravel())), shape=(size, size)
    ).tocsr()
    laplacian = sp.diags(np.asarray(laplacian.sum(axis=1)).ravel()) - laplacian
    # Free where units move skin by 2 mm and more; held at zero elsewhere, on lids and on everything that is not skin.
    free = np.clip(motion_range_mm(units_mm) / 2.0 - 0.25, 0, 1)
    free[np.setdiff1d(np.arange(size), model.part_vertices("skin"))] = 0
    free *= _away_from_openings(model)
    hold = sp.diags(20.0 * (1 - free) ** 2 + 0.02)
    system = a.T @ a + settings.residual_stiffness * (laplacian.T @ laplacian) + hold
    offset = spla.spsolve(system.tocsc(), a.T @ distance[rows, columns])
    offset = np.clip(offset, -settings.residual_max_mm, settings.residual_max_mm) * free
    return (offset[:, None] * vertex_normals(posed, model.faces)).astype(np.float32)


def _away_from_openings(model: HeadModel) -> Float[np.ndarray, "v"]:
    """0 at the lids' and lips' edges, where depth says least, to 1 beyond 6 mm."""
    marks = model.landmarks(model.template_mm)
    rims = np.concatenate([marks[36:48], marks[60:68]])
    nearest = np.min(np.linalg.norm(model.template_mm[:, None] - rims[None], axis=2), axis=1)
    return np.clip((nearest - 2.0) / 4.0, 0, 1)
