"""A person's own 52 ARKit units, derived from the head model's.

The offset of each vertex is rotated and scaled as its neighbourhood is between the template and the person. This is deformation
transfer (Sumner & Popović, SIGGRAPH 2004) with one similarity per patch instead of a gradient per triangle, which keeps offsets
linear. Then the lids are corrected so that they meet and clear the person's eyeballs.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from omote.geometry.mesh import face_normals
from omote.head.expressions import ARKIT_INDEX, ARKIT_NAMES
from omote.head.eyes import look_deltas
from omote.head.model import HeadModel
from omote.head.region import head_region
from omote.lift.contact import eye_sphere
from omote.lift.travel import saturated
from omote.lift.untangle import RestSkin, untangle

PATCH_MM = 16.0  # half width of the patch that determines an offset's rotation and scale
SCALE_RANGE = (0.75, 1.35)
RIGID_PARTS = ("teeth_upper", "teeth_lower", "tongue")
LID_UNITS = ("eyeBlink", "eyeSquint", "eyeWide", "eyeLookUp", "eyeLookDown", "cheekSquint")
BLINK_TRAVEL_MM = 2.5  # the edge of an upper lid moves farther than this in a blink
LID_PAIR_MM = 1.6
COLUMN_MM = 2.0
# Limit of the units that roll the lips: contact is measured along the normals at rest, which lets rolled lips pass each other
# beyond this weight.
ROLLING = {"mouthFunnel": 0.75, "mouthRollLower": 0.9, "mouthRollUpper": 0.7}
PRESSING = ("mouthShrugLower", "mouthRollLower")  # push the lower lip through the upper one


def personal_units(
    model: HeadModel, neutral_mm: Float[np.ndarray, "v 3"], *, style_share: float = 0.0
) -> Float[np.ndarray, "52 v 3"]:
    """Unit offsets (mm) from a person's neutral shape, linear in their weights, used to register edited images.

    Args:
        model: head model with template and units.
        neutral_mm: vertices of the person at rest, in correspondence with the model.
        style_share: share of the model's second style of units, in [0, 1] (`HeadModel.style_share`). Edited images show the
            motion of this style: units without it slide along the skin instead of following it.
    """
    turn, scale = _frames(model, neutral_mm)
    transform = (turn * scale[:, None, None]).astype(np.float32)
    units = np.einsum("vij,uvj->uvi", transform, model.units_mm(style_share), optimize=True)
    _gaze(model, neutral_mm, units)
    for side, part in (("Left", "eye_left"), ("Right", "eye_right")):
        if len(model.part_vertices(part)):
            _close_lids(model, neutral_mm, units, ARKIT_INDEX[f"eyeBlink{side}"])
    return units


def limited_units(
    model: HeadModel,
    neutral_mm: Float[np.ndarray, "v 3"],
    units_mm: Float[np.ndarray, "52 v 3"],
    skin: RestSkin,
) -> Float[np.ndarray, "52 v 3"]:
    """Unit offsets (mm) as an avatar stores them: each is valid at weight 1, without folds and crossings.

    Args:
        model: head model.
        neutral_mm: vertices of the person at rest.
        units_mm: offsets from `personal_units`.
        skin: the person's skin at rest.
    """
    return np.stack([
        _natural(skin, name, saturated(model, neutral_mm, unit))
        for name, unit in zip(ARKIT_NAMES, units_mm, strict=True)
    ])  # fmt: skip


def _natural(skin: RestSkin, name: str, offsets_mm: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v 3"]:
    """A unit's offsets without folds and crossings."""
    # mouthClose closes the lips of an open jaw: applied alone, it has to cross them.
    closes = name == "mouthClose"
    touches = name.startswith((*LID_UNITS, "mouth", "jaw")) and not closes
    vertices = untangle(skin, skin.vertices_mm + offsets_mm, contact=touches, lips="cross" if closes else "part")
    if name in PRESSING and (apart := skin.solids.apart(vertices)) is not vertices:
        vertices = untangle(skin, apart, contact=touches)
    return ((vertices - skin.vertices_mm) * ROLLING.get(name, 1.0)).astype(np.float32)


def _frames(
    model: HeadModel, neutral_mm: Float[np.ndarray, "v 3"]
) -> tuple[Float[np.ndarray, "v 3 3"], Float[np.ndarray, "v"]]:
    """Rotation and scale of each vertex's neighbourhood from the template to the person.

    Similarities are fitted to patches (Umeyama, PAMI 1991), wide enough that a slide of refined vertices along the surface does
    not matter, and blended between patches, since neighbours that move together must rotate and scale together.
    """
    outer = np.flatnonzero(head_region(model).exterior & ~head_region(model).ear)
    source, target = model.template_mm[outer].astype(np.float64), neutral_mm[outer].astype(np.float64)
    area = _vertex_areas(model)[outer]
    cell = np.unique(np.round(source / PATCH_MM).astype(int), axis=0, return_index=True)[1]
    anchors = source[cell]
    # Single precision suffices: a blend's weights need three digits.
    weight = np.exp(_log_kernel(anchors, source))
    weight *= area.astype(np.float32)
    weight /= weight.sum(axis=1, keepdims=True)
    weight = weight.astype(np.float64)
    mean_s, mean_t = weight @ source, weight @ target
    products = (target[:, :, None] * source[:, None, :]).reshape(-1, 9)
    cross = (weight @ products).reshape(-1, 3, 3)
    cross -= mean_t[:, :, None] * mean_s[:, None, :]
    spread = [weight @ np.sum(p**2, axis=1) - np.sum(m**2, axis=1) for p, m in ((source, mean_s), (target, mean_t))]
    scale = np.sqrt(spread[1] / np.maximum(spread[0], 1e-9))

    blend = _log_kernel(model.template_mm, anchors)
    blend -= blend.max(axis=1, keepdims=True)
    np.exp(blend, out=blend)
    values = np.concatenate([_nearest_rotation(cross).reshape(-1, 9), scale[:, None], np.ones((len(cell), 1))], axis=1)
    mixed = (blend @ values.astype(np.float32)).astype(np.float64)
    mixed /= mixed[:, -1:]
    # The rotation nearest to the blended covariances is their chordal mean.
    turn, scales = _nearest_rotation(mixed[:, :9].reshape(-1, 3, 3)), mixed[:, 9]
    for part in RIGID_PARTS:
        ids = model.part_vertices(part)
        if len(ids):
            turn[ids] = np.eye(3)
            scales[ids] = np.median(scales[head_region(model).face])
    return turn, np.clip(scales, *SCALE_RANGE)


def _log_kernel(a: Float[np.ndarray, "n 3"], b: Float[np.ndarray, "m 3"]) -> Float[np.ndarray, "n m"]:
    """-|a - b|² / 2 `PATCH_MM`² as one matrix product, which fills the large result only once."""
    a, b = a / PATCH_MM, b / PATCH_MM
    left = np.concatenate([a, -0.5 * np.sum(a**2, axis=1, keepdims=True), np.ones((len(a), 1))], axis=1)
    right = np.concatenate([b, np.ones((len(b), 1)), -0.5 * np.sum(b**2, axis=1, keepdims=True)], axis=1)
    return left.astype(np.float32) @ right.astype(np.float32).T


def _nearest_rotation(matrices: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "n 3 3"]:
    u, _, vt = np.linalg.svd(matrices)
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
    return u @ vt


def _vertex_areas(model: HeadModel) -> Float[np.ndarray, "v"]:
    area = np.linalg.norm(face_normals(model.template_mm, model.faces), axis=1)
    return np.bincount(model.faces.ravel(), np.repeat(area, 3), minlength=model.num_vertices)


def _gaze(model: HeadModel, neutral_mm: Float[np.ndarray, "v 3"], units: Float[np.ndarray, "52 v 3"]) -> None:
    """Rotate the eyeballs about this person's own centres."""
    for part, left in (("eye_left", True), ("eye_right", False)):
        ids = model.part_vertices(part)
        if not len(ids):
            continue
        center, _ = eye_sphere(model, neutral_mm, part)
        units[:, ids] = 0.0
        for name, delta in look_deltas(neutral_mm[ids], center, left=left).items():
            units[ARKIT_INDEX[name], ids] = delta


def blink_pairs(model: HeadModel, unit: int) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """Ids of upper and lower lid vertices that the template's blink brings together, in pairs."""
    delta = model.expression_mm[unit]
    travel = np.linalg.norm(delta, axis=1)
    lid = np.flatnonzero(head_region(model).lid & head_region(model).exterior)
    upper = lid[travel[lid] > BLINK_TRAVEL_MM]
    lower = lid[(travel[lid] < 0.35 * travel.max()) & (delta[lid, 1] > -0.5 * BLINK_TRAVEL_MM)]
    if not len(upper) or not len(lower):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    closed = model.template_mm + delta
    distance, index = cKDTree(closed[lower]).query(closed[upper])
    met = distance < LID_PAIR_MM
    return upper[met], lower[index[met]]


def _close_lids(
    model: HeadModel, neutral_mm: Float[np.ndarray, "v 3"], units: Float[np.ndarray, "52 v 3"], unit: int
) -> None:
    """Correct the blink column by column, so that this person's lids meet as the template's do."""
    upper, lower = blink_pairs(model, unit)
    if not len(upper):
        return
    closed_template = model.template_mm + model.expression_mm[unit]
    closed = neutral_mm + units[unit]
    wanted = closed[lower] + (closed_template[upper] - closed_template[lower])
    error = np.clip(wanted - closed[upper], -4.0, 4.0)
    travel = np.linalg.norm(units[unit], axis=1)
    moved = np.flatnonzero(head_region(model).lid & (travel > 0.3))
    across = (neutral_mm[moved, None, 0] - neutral_mm[upper][None, :, 0]) / COLUMN_MM
    kernel = np.exp(-0.5 * across**2) + 1e-12
    kernel /= kernel.sum(axis=1, keepdims=True)
    share = np.clip(travel[moved] / np.maximum(kernel @ travel[upper], 1e-6), 0.0, 1.0)
    # The lower lids stay where the upper ones meet them; only the upper lids are corrected.
    share *= units[unit, moved, 1] < 0
    units[unit, moved] += (share[:, None] * (kernel @ error)).astype(np.float32)
