"""Generated RGB-D → the person's vertices: bounded units first, then a smooth residual, the skull held still.

Both steps compare *motions*, not surfaces: a vertex's residual in the generated image minus its residual in the neutral
image. Errors common to both images (the autoencoder's bias, hair and clothing missing from the head model, the fit's
residual) cancel, and a perfect copy of the neutral image gives back exactly the neutral vertices.

1. Gauss-Newton over the 52 units (a bounded 3DMM edit; Bouaziz et al., "Online Modeling for Realtime Facial Animation",
   SIGGRAPH 2013, for the combination of depth and colour terms and the prior).
2. A smooth displacement along the normals for shapes that the units can't express (wrinkles, fuller cheeks).

Then the result is shrunk towards the motion that the image was asked for, since pixels of 1.8 mm show it with errors of their own
(James & Stein, "Estimation with Quadratic Loss", Berkeley Symposium 1961, for shrinkage towards what was expected).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int
from scipy.ndimage import gaussian_filter, sobel
from scipy.optimize import lsq_linear
from scipy.sparse.linalg import LinearOperator, cg

from omote.geometry.camera import project
from omote.geometry.mesh import factor_spd, vertex_normals
from omote.head.expressions import ARKIT_INDEX, ARKIT_NAMES
from omote.head.model import HeadModel, once_per_head
from omote.head.region import head_region
from omote.lift.motion_limits import antisymmetric_units, cap_motion, motion_limits
from omote.lift.points import clean_mask, sample_image
from omote.lift.travel import saturated
from omote.lift.untangle import LipsMay, RestSkin, rest_skin, untangle
from omote.types import Camera, Rgbd

# Units that depth and 128² colour can't tell from their neighbours; they keep the prior's weight. When they were free, lowered
# brows were fitted as closing lids and a wrinkled nose as raised cheeks, so that anger was recognised as disgust.
FIXED_UNITS = tuple(
    n for n in ARKIT_NAMES if n.startswith(("eye", "brow", "nose", "cheekSquint")) or n in ("tongueOut", "mouthClose")
)
# How much each unit parts the lips: 128² depth cannot tell closed lips from lips a millimetre apart.
PARTING = np.array([
    n.startswith(("jawOpen", "mouthLowerDown", "mouthUpperUp", "mouthFunnel", "tongueOut")) for n in ARKIT_NAMES
])  # fmt: skip
PARTED = 0.19
APART_ROUNDS = 2  # rounds of parting what pierces and untangling what that folds; most poses need none or one
NORMAL_ROUNDS = 12  # rounds of smoothing; along unsmoothed normals a residual crosses itself in creases
MAX_WEIGHT = 1.15
MAX_SAMPLES = 4500
BLUR_PX = (2.0, 1.4, 1.0, 0.7, 0.7)  # blur of the images in each Gauss-Newton step: coarse to fine
DEPTH_SIGMA_MM = 0.8  # noise of a generated depth pixel
COLOR_SIGMA = 0.12  # noise of a generated colour
PRIOR_SIGMA = 0.30  # deviation of a unit's weight from the prior's
# PRIOR_SIGMA of the mouth, if the prior is a category's form: a weaker prior drew lips half back to rest, and fear was
# recognised as surprise.
MOUTH_SIGMA = 0.05
NATURAL_KNEE = (
    0.95  # of the travel of a form, whose weights are within reach already (`omote.lift.travel.natural_weights`)
)
ASYMMETRY_SIGMA = 0.15  # deviation of a pair's left weight from its right one
ROBUST = 3.5  # residuals beyond this many sigmas lose weight (Geman-McClure)
INFORMATION = 0.10  # independent observations per vertex sample; neighbours share pixels
RESIDUAL_MM = 4.0  # expected size of the smooth residual
SMOOTHNESS = 8.0  # smoothness of the residual; larger is smoother
SOLVE_TOLERANCE = 1e-6  # relative; leaves errors below 1e-4 mm
ANTISYMMETRIC = 0.5  # share of the residual's left-right difference that is kept
# Share of the drawn motion; the rest is what the pixels show. On 16 persons of the tuning split, of both head families, whose
# true motion is linear in the weights, the best share lay between .9 and 1.2 on lips, lids and elsewhere, and .75 was .02 mm
# worse at most: a quarter is left to pixels, since real faces are not linear.
DRAWN_SHARE = 0.75
# A mouth is open if such a share of the lips' facing vertices is so far apart; mending keeps this share of their distance.
OPEN_SHARE, OPEN_MM, LEAST_OPENING = 0.2, 2.0, 0.6
OFFSET_LIMIT_MM = 8.0  # a vertex further than this from the neutral image (hair) is no evidence


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A registered expression.

    Attributes:
        vertices_mm: vertices in correspondence with the neutral.
        weights: weights of the 52 units found in step 1.
        residual_mm: median absolute depth residual after registration, over the vertices used.
    """

    vertices_mm: Float[np.ndarray, "v 3"]
    weights: Float[np.ndarray, "52"]
    residual_mm: float


def register_expression(
    model: HeadModel,
    neutral_mm: Float[np.ndarray, "v 3"],
    generated: Rgbd,
    reference: Rgbd,
    *,
    units_mm: Float[np.ndarray, "52 v 3"] | None = None,
    prior: Float[np.ndarray, "52"] | None = None,
    skin: RestSkin | None = None,
    still: Still | None = None,
    drawn_mm: Float[np.ndarray, "v 3"] | None = None,
    within_reach: bool = True,
) -> Registered:
    """Register the head to one generated image.

    Args:
        model: head model with topology and units.
        neutral_mm: vertices of the person at rest, canonical frame.
        generated: image of the expression.
        reference: image of the same person at rest from the same camera and network (an autoencoded or generated neutral);
            the source image itself if there is none.
        units_mm: units personalised to this person; the model's own if None.
        prior: expected ARKit weights (those of the category); zero if None.
        skin: the person's skin at rest, the reference for strain; computed if None.
        still: the person in ``reference``; computed if None.
        drawn_mm: offsets of the motion image that the image was generated from (`omote.head.rest_face.RestFace.drawn_mm`);
            nothing is known about the motion but the image if None.
        within_reach: whether to keep mouth corners and upper lip within the travel of real faces, and lips closed if no weight
            of the prior parts them; false if the prior is the expression itself.
    """
    units = model.expression_mm if units_mm is None else units_mm
    prior = np.zeros(len(ARKIT_NAMES)) if prior is None else np.asarray(prior, np.float64)
    still = still_in(model, neutral_mm, reference) if still is None else still
    samples, view = still.samples, _View(generated)
    mouth_sigma = MOUTH_SIGMA if within_reach else PRIOR_SIGMA
    weights = _fit_units(units, prior, view, still, FIXED_UNITS, mouth_sigma)
    used = np.flatnonzero(weights)
    posed = neutral_mm + np.tensordot(weights[used].astype(np.float32), units[used], 1)
    posed = posed + _smooth_residual(model, posed, view, still)
    if drawn_mm is not None:
        posed = posed + drawn_share(model)[:, None] * (neutral_mm + drawn_mm - posed)
    vertices = settled(model, neutral_mm, posed, prior, skin=skin, within_reach=within_reach)
    left, _, valid = _motion_residual(view, vertices[samples.ids], still, None)
    left = np.abs(left[valid & (samples.offset_weight > 0)])
    return Registered(
        vertices_mm=vertices.astype(np.float32),
        weights=weights.astype(np.float32),
        residual_mm=float(np.median(left)) if len(left) else float("nan"),
    )


@once_per_head
def drawn_share(model: HeadModel) -> Float[np.ndarray, "v"]:
    """Share of the drawn motion at every vertex; eyes, teeth and tongue move by this person's own units alone."""
    return np.where(motion_limits(model).skin, DRAWN_SHARE, 0.0).astype(np.float32)


def settled(
    model: HeadModel,
    neutral_mm: Float[np.ndarray, "v 3"],
    posed_mm: Float[np.ndarray, "v 3"],
    prior: Float[np.ndarray, "52"],
    *,
    skin: RestSkin | None = None,
    within_reach: bool = True,
) -> Float[np.ndarray, "v 3"]:
    """Make an expression anatomically possible: skull still, corners and lip within reach, no folded or crossing skin.

    Args:
        model: head model with topology and units.
        neutral_mm: vertices of the person at rest.
        posed_mm: vertices of the expression as estimated.
        prior: expected ARKit weights.
        skin: the person's skin at rest, as for `register_expression`.
        within_reach: whether to limit travel, as for `register_expression`.
    """
    offset = cap_motion(model, posed_mm - neutral_mm)
    lips: LipsMay = "part"
    if within_reach:
        offset = saturated(model, neutral_mm, offset, knee=NATURAL_KNEE)
        lips = "part" if prior[PARTING].max() > PARTED else "close"
    skin = rest_skin(model, neutral_mm) if skin is None else skin
    whole = parted = untangle(skin, neutral_mm + offset, lips=lips)
    for _ in range(APART_ROUNDS):
        apart = skin.solids.apart(whole)
        if apart is whole:
            break
        whole = untangle(skin, apart, lips=lips)
    else:
        # Lips that are pressed shut may pass each other by a hair once more: not passing has the last word.
        whole = skin.solids.apart(whole)
    # Yet an open mouth that pierces itself at a corner is better than one that evening the motion has glued shut.
    return whole if _keeps_opening(skin, whole, parted) else parted


def _keeps_opening(skin: RestSkin, posed_mm: Float[np.ndarray, "v 3"], parted_mm: Float[np.ndarray, "v 3"]) -> bool:
    """Whether an expression keeps most of the opening that the lips have in ``parted_mm``, if they have one."""
    gap = skin.lips.gap_mm(parted_mm)
    wide = gap > OPEN_MM
    if not wide.any() or wide.mean() < OPEN_SHARE:
        return True
    return bool(np.median(skin.lips.gap_mm(posed_mm)[wide] / gap[wide]) > LEAST_OPENING)


@dataclass(frozen=True, kw_only=True)
class _Samples:
    """Vertices that a frontal camera sees at rest, with the reference image's offset at each."""

    ids: Int[np.ndarray, "n"]
    rest_mm: Float[np.ndarray, "n 3"]
    offset_weight: Float[np.ndarray, "n"]
    area: Float[np.ndarray, "n"]
    lid: Bool[np.ndarray, "n"]


class _View:
    """An image for registration, with cached smoothed versions for each of `BLUR_PX`."""

    def __init__(self, rgbd: Rgbd) -> None:
        self.rgbd, self.camera = rgbd, rgbd.camera
        self._mask: Bool[np.ndarray, "h w"] | None = None
        self._depth: dict[float | None, Float[np.ndarray, "h w 4"]] = {}
        self._color: dict[float, Float[np.ndarray, "h w 9"]] = {}

    def depth(self, blur_px: float | None) -> Float[np.ndarray, "h w 4"]:
        """Depth (mm), its gradient (mm/px) and the clean mask."""
        if blur_px not in self._depth:
            if self._mask is None:
                self._mask = clean_mask(self.rgbd, border_px=1)
            mask, depth = self._mask, _fill(self.rgbd.depth_mm, self._mask)
            if blur_px:
                share = gaussian_filter(mask.astype(np.float64), blur_px)
                smooth = gaussian_filter(np.where(mask, depth, 0.0), blur_px) / np.maximum(share, 1e-6)
                depth = np.where(mask, smooth, depth)
            gradient = np.stack([sobel(depth, axis=1), sobel(depth, axis=0)], axis=-1) / 8.0
            image = np.concatenate([depth[..., None], gradient, mask[..., None].astype(np.float64)], axis=-1)
            self._depth[blur_px] = image
        return self._depth[blur_px]

    def color(self, blur_px: float) -> Float[np.ndarray, "h w 9"]:
        """Colour and its gradients along x and y."""
        if blur_px not in self._color:
            now = gaussian_filter(self.rgbd.rgb.astype(np.float64), (blur_px, blur_px, 0))
            gradient = np.concatenate([sobel(now, axis=1), sobel(now, axis=0)], axis=-1) / 8.0
            self._color[blur_px] = np.concatenate([now, gradient], axis=-1)
        return self._color[blur_px]


@dataclass(frozen=True, kw_only=True)
class Still:
    """A person at rest, the reference with which `register_expression` compares every expression.

    Attributes:
        samples: the compared vertices.
        depth: `_depth_residual` of the samples under each smoothing.
        color: colour of the samples under each smoothing.
    """

    samples: _Samples
    depth: Mapping[float | None, tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n 2"], Bool[np.ndarray, "n"]]]
    color: Mapping[float, Float[np.ndarray, "n 3"]]


def still_in(model: HeadModel, neutral_mm: Float[np.ndarray, "v 3"], reference: Rgbd) -> Still:
    """The person at rest in an image; arguments as for `register_expression`."""
    view = _View(reference)
    samples = _samples(model, neutral_mm, view)
    uv = project(reference.camera, samples.rest_mm)[:, :2]
    return Still(
        samples=samples,
        depth={blur: _depth_residual(view, samples.rest_mm, blur) for blur in (None, *BLUR_PX)},
        color={blur: sample_image(view.color(blur)[..., :3], uv) for blur in BLUR_PX},
    )


def _samples(model: HeadModel, neutral_mm: Float[np.ndarray, "v 3"], reference: _View) -> _Samples:
    region = head_region(model)
    normals = vertex_normals(neutral_mm, model.faces)
    towards = -reference.camera.cam_from_world[2, :3]
    facing = normals @ towards > 0.25
    ids = np.flatnonzero(region.exterior & ~region.ear & facing & (motion_limits(model).mobility_mm > 0.05))
    # Twice as many vertices as pixels say nothing more.
    step = max(1, round(len(ids) / MAX_SAMPLES))
    ids = ids[::step]
    offset, _, valid = _depth_residual(reference, neutral_mm[ids], None)
    weight = np.where(valid, np.clip(1.5 - np.abs(offset) / OFFSET_LIMIT_MM * 1.5, 0.0, 1.0), 0.0)
    # Dense rings of vertices around eyes and lips see the same few pixels.
    area = step * _vertex_area(neutral_mm, model.faces)[ids]
    return _Samples(
        ids=ids,
        rest_mm=neutral_mm[ids].astype(np.float64),
        offset_weight=weight,
        area=area,
        lid=region.lid[ids],
    )


def _vertex_area(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, "v"]:
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
    return np.bincount(faces.ravel(), np.repeat(area, 3), minlength=len(vertices))


def _depth_residual(
    view: _View, points_mm: Float[np.ndarray, "n 3"], blur_px: float | None
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n 2"], Bool[np.ndarray, "n"]]:
    """(observed minus predicted z-depth, depth gradient mm/px, valid) at points."""
    camera, uvz = view.camera, project(view.camera, points_mm)
    values = sample_image(view.depth(blur_px), uvz[:, :2])
    inside = (uvz[:, 0] > 1) & (uvz[:, 0] < camera.width - 1) & (uvz[:, 1] > 1) & (uvz[:, 1] < camera.height - 1)
    return values[:, 0] - uvz[:, 2], values[:, 1:3], inside & (values[:, 3] > 0.75)


def _motion_residual(
    view: _View, points_mm: Float[np.ndarray, "n 3"], still: Still, blur_px: float | None
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n 2"], Bool[np.ndarray, "n"]]:
    """`_depth_residual` minus that of the same vertices at rest, under the same smoothing."""
    now, slope, valid = _depth_residual(view, points_mm, blur_px)
    then, _, valid_then = still.depth[blur_px]
    return now - np.clip(then, -OFFSET_LIMIT_MM, OFFSET_LIMIT_MM), slope, valid & valid_then


def _fill(depth: Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    level = float(np.median(depth[mask])) if mask.any() else 0.0
    return np.where(mask, depth, level).astype(np.float64)


def _projection_jacobian(camera: Camera, points_mm: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3 3"]:
    """d(u, v, z)/d(x, y, z world)."""
    uvz = project(camera, points_mm)
    rotation, k, z = camera.cam_from_world[:3, :3], camera.intrinsics, uvz[:, 2]
    du = (k[0, 0] * rotation[0] + k[0, 1] * rotation[1] + (k[0, 2] - uvz[:, :1]) * rotation[2]) / z[:, None]
    dv = (k[1, 1] * rotation[1] + (k[1, 2] - uvz[:, 1:2]) * rotation[2]) / z[:, None]
    return np.stack([du, dv, np.broadcast_to(rotation[2], du.shape)], axis=1)


def _fit_units(
    units: Float[np.ndarray, "52 v 3"],
    prior: Float[np.ndarray, "52"],
    view: _View,
    still: Still,
    fixed: Sequence[str],
    mouth_sigma: float,
) -> Float[np.ndarray, "52"]:
    free = np.array([i for i, n in enumerate(ARKIT_NAMES) if n not in fixed])
    samples, rest, camera = still.samples, still.samples.rest_mm, view.camera
    basis = np.ascontiguousarray(units[:, samples.ids].astype(np.float64).transpose(1, 2, 0))
    weights = prior.copy()
    # Area per pixel: a vertex counts as many observations as the pixels it stands for.
    pixel_mm2 = float(np.median(project(camera, rest)[:, 2]) / camera.intrinsics[0, 0]) ** 2
    share = INFORMATION * np.clip(samples.area / pixel_mm2, 0.05, 4.0)
    precision, target = prior_terms(prior, free, mouth_sigma)
    for blur in BLUR_PX:
        points = rest + basis @ weights
        residual, slope, valid = _motion_residual(view, points, still, blur)
        jacobian = _projection_jacobian(camera, points)
        # d(observed − predicted)/dx, normalised to the distance across the surface.
        toward = np.einsum("nk,nkc->nc", slope, jacobian[:, :2]) - jacobian[:, 2]
        length = np.maximum(np.linalg.norm(toward, axis=1), 1e-6)
        r = residual / length / DEPTH_SIGMA_MM
        w = valid * samples.offset_weight * share / (1 + (r / ROBUST) ** 2) ** 2
        w = np.where(samples.lid, 0.3 * w, w)
        a = np.einsum("nc,ncj->nj", toward / (length * DEPTH_SIGMA_MM)[:, None], basis[:, :, free])
        hessian = precision + a.T @ (a * w[:, None])
        gradient = target - precision @ weights[free] - a.T @ (w * r)
        h, g = _color_terms(view, still, points, basis[:, :, free], jacobian, blur, share)
        hessian += h
        gradient += g
        weights[free] = bounded(hessian, hessian @ weights[free] + gradient)
    return np.where(weights > 0.01, weights, 0.0)


def prior_terms(
    prior: Float[np.ndarray, "52"], free: Int[np.ndarray, "k"], mouth_sigma: float
) -> tuple[Float[np.ndarray, "k k"], Float[np.ndarray, "k"]]:
    """Precision of the free units' weights, and precision times their expected values."""
    sigma = np.array([mouth_sigma if n.startswith(("mouth", "jaw")) else PRIOR_SIGMA for n in ARKIT_NAMES])
    precision = np.diag(1 / sigma**2)
    for name in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
        precision[ARKIT_INDEX[name], ARKIT_INDEX[name]] /= 0.3**2
    for i, j in antisymmetric_units():
        pair = np.ix_([i, j], [i, j])
        precision[pair] += np.array([[1.0, -1.0], [-1.0, 1.0]]) / ASYMMETRY_SIGMA**2
    return precision[np.ix_(free, free)], (precision @ prior)[free]


def _color_terms(
    view: _View,
    still: Still,
    points: Float[np.ndarray, "n 3"],
    basis: Float[np.ndarray, "n 3 k"],
    jacobian: Float[np.ndarray, "n 3 3"],
    blur: float,
    share: Float[np.ndarray, "n"],
) -> tuple[Float[np.ndarray, "k k"], Float[np.ndarray, "k"]]:
    """Normal equations of brightness constancy: a vertex keeps the colour it has at rest."""
    value = sample_image(view.color(blur), project(view.camera, points)[:, :2])
    residual = value[:, :3] - still.color[blur]
    residual = residual - np.median(residual, axis=0)  # exposure
    flow = np.einsum("nkc,ncj->nkj", jacobian[:, :2], basis)
    hessian = np.zeros((basis.shape[2], basis.shape[2]))
    out = np.zeros(basis.shape[2])
    for c in range(3):
        a = (value[:, 3 + c, None] * flow[:, 0] + value[:, 6 + c, None] * flow[:, 1]) / COLOR_SIGMA
        r = residual[:, c] / COLOR_SIGMA
        w = share / 3 / (1 + (r / ROBUST) ** 2) ** 2
        hessian += a.T @ (a * w[:, None])
        out -= a.T @ (w * r)
    return hessian, out


def bounded(hessian: Float[np.ndarray, "k k"], rhs: Float[np.ndarray, "k"]) -> Float[np.ndarray, "k"]:
    """Minimise ½ wᵀHw − bᵀw over [0, MAX_WEIGHT], through the Cholesky factor."""
    factor = np.linalg.cholesky(hessian + 1e-9 * np.trace(hessian) / len(hessian) * np.eye(len(hessian)))
    return lsq_linear(factor.T, np.linalg.solve(factor, rhs), bounds=(0.0, MAX_WEIGHT), method="bvls").x


def _smooth_normals(model: HeadModel, posed: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v 3"]:
    normals = vertex_normals(posed, model.faces).astype(np.float64)
    for _ in range(NORMAL_ROUNDS):
        normals = normals - 0.5 * (motion_limits(model).laplacian @ normals)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)


@once_per_head
def _thin_plate(model: HeadModel) -> tuple[Int[np.ndarray, "a"], sp.csr_matrix, LinearOperator]:
    """Energy of a residual without data: (movable vertices, matrix among them, its inverse).

    Vertices that hardly move are left out, which pins them to zero.
    """
    motion = motion_limits(model)
    active = np.flatnonzero(motion.skin & (motion.mobility_mm > 0.1))
    smooth = SMOOTHNESS * (motion.laplacian.T @ motion.laplacian).tocsr()[active][:, active]
    energy = smooth + sp.diags(1.0 / _residual_mm(model)[active] ** 2)
    return active, energy.tocsr(), LinearOperator(energy.shape, factor_spd(energy).solve)


def _residual_mm(model: HeadModel) -> Float[np.ndarray, "v"]:
    """Expected size of the residual at every vertex."""
    return np.clip(0.25 * motion_limits(model).mobility_mm, 0.05, 1.0) * RESIDUAL_MM


def _smooth_residual(
    model: HeadModel,
    posed: Float[np.ndarray, "v 3"],
    view: _View,
    still: Still,
) -> Float[np.ndarray, "v 3"]:
    """Displacement along the normals: it follows the samples, is thin-plate smooth, and small where mobility is small."""
    motion, samples = motion_limits(model), still.samples
    normals = _smooth_normals(model, posed)
    points = posed[samples.ids].astype(np.float64)
    residual, slope, valid = _motion_residual(view, points, still, BLUR_PX[-1])
    jacobian = _projection_jacobian(view.camera, points)
    toward = np.einsum("nk,nkc->nc", slope, jacobian[:, :2]) - jacobian[:, 2]
    length = np.maximum(np.linalg.norm(toward, axis=1), 1e-6)
    along = np.einsum("nc,nc->n", toward, normals[samples.ids]) / length
    r = residual / length
    weight = valid * samples.offset_weight / DEPTH_SIGMA_MM**2
    weight *= np.clip(along, 0, 1) / (1 + (r / (ROBUST * DEPTH_SIGMA_MM)) ** 2) ** 2
    weight = np.where(samples.lid, 0.02 * weight, weight)
    size, n = _residual_mm(model), model.num_vertices
    data = np.bincount(samples.ids, weight, minlength=n)
    rhs = -np.bincount(samples.ids, weight * r / np.maximum(along, 0.3), minlength=n)
    active, energy, inverse = _thin_plate(model)
    height = np.zeros(n)
    # The energy without data is the same for everyone: its one factorisation preconditions the solve with data.
    height[active], _ = cg(energy + sp.diags(data[active]), rhs[active], rtol=SOLVE_TOLERANCE, M=inverse)
    mirrored = height[motion.mirror]
    height = (height + mirrored) / 2 + ANTISYMMETRIC * (height - mirrored) / 2
    return (np.clip(height, -2 * size, 2 * size)[:, None] * normals).astype(np.float32)
