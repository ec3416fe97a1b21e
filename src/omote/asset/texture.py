"""Bake a skin texture from the scan's own colours, and fill the parts that no camera saw.

Every texel takes its colour from the scan. The rest is painted skin, shifted to the scan's tone by Poisson blending over the mesh
(Pérez et al., "Poisson Image Editing", SIGGRAPH 2003, on vertices instead of pixels). It meets the seen colours without a step,
is independent of UV seams, and fades to plain skin far away, so nothing smears.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int
from scipy.ndimage import distance_transform_edt, gaussian_filter

from omote.asset.atlas import Atlas, skin_atlas
from omote.asset.brows import add_brow_hairs
from omote.asset.eyes import eye_colors
from omote.asset.hair import match_hair
from omote.asset.scan_color import scan_color
from omote.geometry.mesh import adjacency, solve_spd
from omote.head.model import HeadModel
from omote.head.region import head_region
from omote.lift.contact import eye_sphere
from omote.lift.motion_limits import motion_limits
from omote.rendering.appearance import SKIN, Appearance, default_appearance, drawn_person, paint
from omote.rendering.paint_regions import paint_regions
from omote.rendering.rgbd import interpolate
from omote.rendering.shade import fast_normals
from omote.rendering.source import has_color
from omote.rendering.zbuffer import fill
from omote.types import Mesh, PointCloud

EYE_LIGHT, EYE_RED = (0.6, 1.5), 0.4  # brightness and redness over the lids' own, beyond which a colour is an eye's
LID_EDGE_MM = 1.3  # skin this close to the eyeball may have the eye's colour in the scan
AROUND_EYE_MM = 6.0  # skin this close to the eyeball may lie on it in the scan
FADE = 2e-3  # weight of the painted skin's own colour against smoothness: a range of about 20 edges
MIRROR_BELIEF = 0.4
PAD_PX = 12
CAST = 0.75, 1.15
GREY = 0.06  # of a colour: the range of its channels over the largest, below which it is grey
SEEDING_MODES = 6  # of the identity, which draw the appearance of a scan without colour
DETAIL_LIMIT = 0.025
BROW_GROUND, BROW_MM = (
    0.3,
    12.0,
)  # density of the paint under drawn brow hairs, and their farthest way from a brow's line


@dataclass(frozen=True, kw_only=True)
class Texels:
    """The skin's surface point under every texel, row 0 at the top.

    Attributes:
        covered: mask of the texels inside a triangle.
        face: index into the atlas' faces; -1 outside.
        weights: barycentric weights in that face.
    """

    covered: Bool[np.ndarray, "h w"]
    face: Int[np.ndarray, "h w"]
    weights: Float[np.ndarray, "h w 3"]


@dataclass(frozen=True, kw_only=True)
class Baked:
    """A baked texture, the mask of its inferred texels, and the appearance used for them.

    Attributes:
        texture: colours in sRGB [0, 1].
        inferred: mask of the texels without a colour from the scan.
        appearance: appearance matched to the scan's skin tone, with the scan's iris colour if its eyes are open.
        eyes_open: whether the scan shows an iris; False if it has no colour.
    """

    texture: Float[np.ndarray, "h w 3"]
    inferred: Bool[np.ndarray, "h w"]
    appearance: Appearance
    eyes_open: bool


def bake_texture(
    model: HeadModel,
    neutral_mm: Float[np.ndarray, "v 3"],
    scan: Mesh | PointCloud | None,
    *,
    size: int = 1024,
    unseen: Appearance | None = None,
) -> Baked:
    """Bake the texture of the skin.

    Args:
        model: head model with topology and UVs.
        neutral_mm: vertices of the head fitted to the scan, in the canonical frame.
        scan: scan in the canonical frame, in mm; if it is None or has no colour, all skin is painted.
        size: height in pixels; the texture of a model with n UV tiles is n times as wide.
        unseen: appearance of a person whose scan has no colour; the default one if None.
    """
    atlas = skin_atlas(model)
    texels = locate_texels(atlas, size)
    faces = np.ascontiguousarray(model.faces[atlas.face_ids], np.int32)
    vertices = np.ascontiguousarray(neutral_mm, np.float32)

    belief = np.zeros(texels.covered.shape, np.float32)
    color = np.zeros((*texels.covered.shape, 3), np.float32)
    if scan is not None and has_color(scan):
        normals = fast_normals(vertices, np.ascontiguousarray(model.faces, np.int32))
        places = _trust(model, neutral_mm), head_region(model).lid, _eyeball_gap(model, neutral_mm) < AROUND_EYE_MM
        trust = np.stack(places, axis=1).astype(np.float32)
        layers = interpolate(texels.face, texels.weights, faces, np.concatenate([vertices, normals, trust], axis=1))
        ask = texels.covered & (layers[..., 6] > 0.02)
        point, normal = layers[ask][:, :3], layers[ask][:, 3:6]
        normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
        color[ask], found = scan_color(scan, point.astype(np.float64), normal)
        belief[ask] = found * layers[ask][:, 6]
        lid, around = (layers[ask][:, 7:9] > 0).T
        belief[ask] *= ~_of_eyes(color[ask], belief[ask], lid, around)

    field, matched, drawn = _vertex_colors(model, faces, texels, color, belief, unseen or default_appearance())
    eyes = eye_colors(model, neutral_mm, scan) if scan is not None and belief.max() > 0 else None
    if eyes is not None:
        matched = replace(matched, iris=eyes.iris, exposure=eyes.exposure)

    painted = interpolate(texels.face, texels.weights, faces, field.astype(np.float32))
    if drawn:
        at_brows = np.any(paint_regions(model).brow_mm[faces] < BROW_MM, axis=1)
        near = texels.covered & np.asarray(at_brows)[texels.face]
        points = interpolate(texels.face, texels.weights, faces, model.template_mm.astype(np.float32))[near]
        painted[near] = add_brow_hairs(painted[near], points, model, matched)
    # A soft edge, inside the seen region.
    soft = np.minimum(belief, gaussian_filter(belief, size / 340.0))
    texture = painted + _detail(color - painted, soft, size)
    texture = np.clip(soft[..., None] * color + (1 - soft[..., None]) * texture, 0.0, 1.0)

    return Baked(
        texture=_pad(texture, texels.covered),
        inferred=~(texels.covered & (soft > 0.5)),
        appearance=matched,
        eyes_open=eyes is not None,
    )


def drawn_appearance(seed: int | None, identity: Float[np.ndarray, "k"]) -> Appearance:
    """The appearance of a person whose scan has no colour.

    Args:
        seed: seed of `drawn_person`; if None, the identity draws it, so that two persons do not share a skin by default.
        identity: identity coefficients of the fit.
    """
    if seed is None:
        # Half deviations: another scan of the same person mostly draws the same.
        seed = zlib.crc32(np.round(2 * identity[:SEEDING_MODES]).astype(np.int8).tobytes())
    return drawn_person(seed)


def locate_texels(atlas: Atlas, size: int) -> Texels:
    """Rasterise the UV triangles: the surface point at each texel's centre."""
    height, width = size, size * atlas.num_tiles
    screen = np.stack([atlas.uv[:, 0] * width, (1 - atlas.uv[:, 1]) * height, np.ones(len(atlas.uv))], axis=1)
    raster = fill(screen.astype(np.float64), atlas.faces_uv, height, width, near_mm=0.5)
    return Texels(covered=raster.face_id >= 0, face=raster.face_id, weights=raster.barycentric)


def _trust(model: HeadModel, neutral_mm: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v"]:
    """Confidence that a scan's nearest surface is this skin: 0 in sockets and mouth, at the edges of lids, and in ears' folds."""
    region = head_region(model)
    trust = np.zeros(model.num_vertices, np.float32)
    skin = model.part_vertices("skin")
    trust[skin] = 1.0
    hidden = ~region.exterior
    # Exterior means seen from the front; the back of the head counts as open too, only sockets do not.
    low = model.template_mm[:, 2] > model.landmarks(model.template_mm)[[0, 16], 2].mean() + 8.0
    trust[hidden & low] = 0.0
    trust[(_eyeball_gap(model, neutral_mm) < LID_EDGE_MM) & region.lid] = 0.0
    return trust


def _eyeball_gap(model: HeadModel, neutral_mm: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v"]:
    """Distance of each vertex from the nearer eyeball's surface, in mm; infinite for a head without eyeballs."""
    gap = np.full(model.num_vertices, np.inf)
    for part in ("eye_left", "eye_right"):
        if len(model.part_vertices(part)):
            center, radius = eye_sphere(model, neutral_mm, part)
            gap = np.minimum(gap, np.linalg.norm(neutral_mm - center, axis=1) - radius)
    return gap


def _of_eyes(
    color: Float[np.ndarray, "n 3"],
    belief: Float[np.ndarray, "n"],
    lid: Bool[np.ndarray, "n"],
    around: Bool[np.ndarray, "n"],
) -> Bool[np.ndarray, "n"]:
    """Texels of the lids with an eye's colour (iris, white, or lashes), and white ones around them.

    A lid whose edge was fitted a millimetre off takes them from the scan, and shows them when it closes. Where a scan has
    whole eyeballs, their white lies close behind the skin below the lids.
    """
    sure = lid & (belief > 0.5)
    if not sure.any():
        return np.zeros(len(color), bool)
    skin = np.median(color[sure], axis=0)
    light = color.mean(axis=1) / max(float(skin.mean()), 1e-3)
    # Skin is redder than blue; white and grey are neither.
    red, skin_red = ((c[..., 0] - c[..., 2]) / np.maximum(c.max(axis=-1), 1e-3) for c in (color, skin))
    dark, bright = EYE_LIGHT
    pale = red < EYE_RED * skin_red
    return (lid & ((light < dark) | (light > bright) | pale)) | (around & pale & (light > 1))


def _vertex_colors(
    model: HeadModel,
    faces: Int[np.ndarray, "f 3"],
    texels: Texels,
    color: Float[np.ndarray, "h w 3"],
    belief: Float[np.ndarray, "h w"],
    unseen: Appearance,
) -> tuple[Float[np.ndarray, "v 3"], Appearance, bool]:
    """Colour per vertex, with painted skin blended into the seen colours, the appearance used, and whether all is drawn."""
    seen, mean = _seen_colors(model, faces, texels, color, belief)
    face = head_region(model).face & (seen > 0)
    if not face.any():
        ground = replace(unseen, brow_density=BROW_GROUND * unseen.brow_density)
        return paint(model, ground).astype(np.float64), unseen, True
    painted, matched = _matched_paint(model, mean, seen, face)
    weight = np.clip(seen, 0.0, 1.0)
    mirror = motion_limits(model).mirror
    borrow = (seen == 0) & (seen[mirror] > 0) & (mirror != np.arange(len(seen)))
    mean[borrow] = mean[mirror[borrow]]
    weight[borrow] = MIRROR_BELIEF * weight[mirror[borrow]]
    links, degree = adjacency(faces, model.num_vertices)
    system = sp.diags(degree) - links + sp.diags(4.0 * weight + FADE * np.maximum(degree, 1.0))
    offset = solve_spd(system, 4.0 * weight[:, None] * (mean - painted))
    return np.clip(painted + offset, 0.0, 1.0), matched, False


def _seen_colors(
    model: HeadModel,
    faces: Int[np.ndarray, "f 3"],
    texels: Texels,
    color: Float[np.ndarray, "h w 3"],
    belief: Float[np.ndarray, "h w"],
) -> tuple[Float[np.ndarray, "v"], Float[np.ndarray, "v 3"]]:
    """Confidence and mean colour of the texels around each vertex."""
    rows = belief > 0.05
    corner = faces[texels.face[rows]].ravel()
    share = texels.weights[rows] * belief[rows][:, None]
    seen = np.bincount(corner, share.ravel(), minlength=model.num_vertices).astype(
        np.float64
    )  # integer indices of vertices without a seen texel
    channels = [
        np.bincount(corner, (share * color[rows][:, k, None]).ravel(), minlength=model.num_vertices) for k in range(3)
    ]
    return seen, np.stack(channels, axis=1) / np.maximum(seen, 1e-9)[:, None]


def _matched_paint(
    model: HeadModel, mean: Float[np.ndarray, "v 3"], seen: Float[np.ndarray, "v"], face: Bool[np.ndarray, "v"]
) -> tuple[Float[np.ndarray, "v 3"], Appearance]:
    """Painted skin and hair in the tone of the seen face, and the appearance used."""
    matched = _match_tone(mean[face])
    painted = paint(model, matched).astype(np.float64)
    ratio = np.median(mean[face], 0) / np.maximum(np.median(painted[face], 0), 0.02)
    # Half of the skin's cast is taken for the light's, unless the eyes show it. No light makes skin grey: it lacks colour.
    tone = np.median(mean[face], 0)
    cast = np.ones(3) if np.ptp(tone) < GREY * tone.max() else np.clip(ratio / ratio.mean(), *CAST)
    r, g, b = (float(x) for x in cast**0.5)
    matched = replace(matched, exposure=(r, g, b))
    hair = match_hair(model, mean, seen > 0.5)
    if hair is not None:
        r, g, b = (float(x) for x in np.array(hair.color) / np.maximum(ratio, 1e-3))
        matched = replace(matched, hair=(r, g, b), cap=1.0, hairline_mm=hair.hairline_mm)
        painted = paint(model, matched).astype(np.float64)
    return np.clip(painted * ratio, 0, 1), matched


def _match_tone(seen: Float[np.ndarray, "n 3"]) -> Appearance:
    """The default appearance with the melanin tone nearest to the seen skin's brightness."""
    anchors = np.array(SKIN)
    brightness = float(np.median(seen.mean(axis=1)))
    at = np.interp(-brightness, -anchors.mean(axis=1), np.linspace(0, 1, len(anchors)))
    return replace(default_appearance(), tone=float(at))


def _detail(
    difference: Float[np.ndarray, "h w 3"], soft: Float[np.ndarray, "h w"], size: int
) -> Float[np.ndarray, "h w 1"]:
    """Grain as strong as that of the scan's own colours over its vertices."""
    rows = soft > 0.8
    amount = min(float(np.std(difference[rows].mean(axis=1))), DETAIL_LIMIT) if rows.any() else 0.012
    noise = np.random.default_rng(0).standard_normal(soft.shape, dtype=np.float32)
    grain = gaussian_filter(noise, size / 1024) + 0.6 * gaussian_filter(noise[::-1], 3 * size / 1024)
    return (amount * grain / max(float(grain.std()), 1e-9))[..., None]


def _pad(texture: Float[np.ndarray, "h w 3"], covered: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "h w 3"]:
    """Extend the islands' edge colours outwards, so that filtering meets no background; far away, use the mean colour."""
    distance, index = distance_transform_edt(~covered, return_indices=True)
    out = texture[index[0], index[1]]
    out[distance > PAD_PX] = texture[covered].mean(axis=0)
    return out.astype(np.float32)
