"""What a scan has beyond the head model: hair, beard, cap, collar, glasses, as one rigid piece, cut where it meets the skin.

    scan ─ crop, without walls ─ height over the skin ─ clip ─ parts of the person, without rags ─ rim sunk into the skin
    ─ skirt of open rims

The piece stays out of where the face moves: its least height over the skin grows with how far the skin there can rise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int
from PIL import Image
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from omote.asset.rest_shape import within
from omote.geometry.cloud import closest_on_mesh
from omote.geometry.mesh import counted_edges, face_normals, unique_edges, vertex_normals
from omote.head.expressions import ARKIT_INDEX
from omote.head.model import PARTS, HeadModel
from omote.head.region import head_region
from omote.rendering.source import has_color
from omote.types import Mesh

MOST_VERTICES = 30_000
CELL_MM = 2.0  # of vertices that are merged where there are more; doubled until they are few enough
TEXTURE_PX = 1024

# The body's cut: an oval about the neck's foot (half axes, mm). Elsewhere the piece reaches this far beyond the head.
BUST_MM = np.array([130.0, 60.0, 120.0])
REACH_MM = 110.0
# The piece begins this far over skin that rests; over skin that moves, this far above where that can rise to.
REST_MM, CLEARANCE_MM = 1.2, 2.5
STILL_MM, UNITS_ADD_UP = 1.0, 1.3
SLOPE = 1.0  # steepest change of the least height along the skin
FACE_MM, EAR_MM = 5.0, 14.0  # least height in front of eyes and mouth, and over ears, which the head has
MOUTH_MM, SWEPT_MM = 12.0, 9.0  # around the lips' landmarks at rest, and as the jaw opens
GLASSES_MM = 35.0  # around the eyes' landmarks open rims are glasses', which have no skirt
SUNK_MM, FREE_MM = -0.8, 6.0  # the rim's height, and the way above the least height to where the piece is as scanned
OVERLAP_MM, FADE_MM = 8.0, 18.0  # the bust's overlap with the neck, and its way back to where it was scanned
COLLAR_MM = 40.0  # above the chin; lower down rims are collars', which stand free of the neck
SKIRT_MM = 45.0  # farthest way from an open rim down to the skin
LONGEST_EDGES, LONGEST_MM = 8.0, 40.0  # a triangle longer than so many median edges, and mm, spans a gap of the scan
# Smallest parts over the skull (smaller ones are a scan's ragged edges), over the face (glasses), and at the neck; how high
# one must rise, and how near to the skin it must come.
SKULL_MM2, FACE_MM2, NECK_MM2, RISE_MM, LOOSE_MM = 5_000.0, 800.0, 1_000.0, 5.0, 15.0
# A large part most of whose area lies near one plane is a wall or a table.
FLAT_MM, FLAT_SHARE, FLAT_AREA_MM2 = 3.0, 0.8, 8_000.0
CLOTH, CLOTH_ABOVE_JAW_MM = (0.36, 0.38, 0.42), 80.0
RAG_MM = 9.0  # half width of the strips of cloth and hair, ragged edges of a scan, that are taken off below the nose
NECK_MM = 12.0  # nearer than this to the neck's edge, what lies over the skin belongs to the body
NEVER_MM = 1e3  # over sockets and the mouth's inside


@dataclass(frozen=True, kw_only=True)
class _Skin:
    """A head's skin at rest and how near to it the piece may come.

    Attributes:
        vertices_mm: the person at rest.
        faces: the skin's faces.
        normals: per vertex.
        least_mm: least height of the piece over each vertex.
        on_face: whether a vertex belongs to the face.
        edge: vertices of the neck's lower edge.
        eyes_mm: landmarks of the eyes.
        nose_mm: height of the nose's base.
        jaw_mm: height of the chin.
    """

    vertices_mm: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]
    normals: Float[np.ndarray, "v 3"]
    least_mm: Float[np.ndarray, "v"]
    on_face: Bool[np.ndarray, "v"]
    edge: Int[np.ndarray, "e"]
    eyes_mm: Float[np.ndarray, "12 3"]
    nose_mm: float
    jaw_mm: float


@dataclass(frozen=True, kw_only=True)
class _Over:
    """Where points lie relative to the skin.

    Attributes:
        height_mm: along the skin's normal at the closest point.
        beyond_mm: distance to the neck's edge past it; 0 over the skin.
        foot_mm: closest point of the skin.
        normal: the skin's normal there.
        least_mm: least height there.
        on_face: whether that is on the face.
    """

    height_mm: Float[np.ndarray, "n"]
    beyond_mm: Float[np.ndarray, "n"]
    foot_mm: Float[np.ndarray, "n 3"]
    normal: Float[np.ndarray, "n 3"]
    least_mm: Float[np.ndarray, "n"]
    on_face: Bool[np.ndarray, "n"]


def surroundings_of(
    head: HeadModel,
    scan: Mesh,
    neutral_mm: Float[np.ndarray, "v 3"],
    *,
    hair: tuple[float, float, float],
) -> Mesh | None:
    """The scan's surface around the head, canonical mm; None where there is nothing of note.

    Args:
        head: the head model.
        scan: the scan, aligned.
        neutral_mm: the person at rest.
        hair: colour of the hair for a scan without colour, sRGB.
    """
    skin = _skin(head, neutral_mm)
    scan = _merged(_whole(_cropped(scan, skin)))
    if not len(scan.faces):
        return None
    over = _over(skin, scan.vertices)
    above = np.maximum(over.height_mm - over.least_mm, _on_neck(skin, scan.vertices, over))
    above = np.where(over.beyond_mm > 0, np.maximum(over.beyond_mm, 1e-3), above)
    piece = clipped(scan, np.minimum(above, _bust(skin, scan.vertices)))
    if not len(piece.faces):
        return None
    over = _over(skin, piece.vertices)
    no_rag = _no_rag(piece, skin, over)
    if not (no_rag > 0).all():
        piece = clipped(piece, no_rag)
        over = _over(skin, piece.vertices)
    kept = _of_person(piece, over)
    if not kept.any():
        return None
    used = np.unique(piece.faces[kept])
    piece, over = _with_faces(piece, kept), _Over(**{name: value[used] for name, value in vars(over).items()})
    colored = _colored(piece, over, skin, hair)
    led = (_bust(skin, piece.vertices) > 2.0) & (cKDTree(skin.eyes_mm).query(over.foot_mm)[0] > GLASSES_MM)
    led &= over.foot_mm[:, 1] > skin.jaw_mm + COLLAR_MM
    return _with_skirt(replace(colored, vertices=_sunk(piece.vertices, over)), over, led)


def _skin(head: HeadModel, neutral_mm: Float[np.ndarray, "v 3"]) -> _Skin:
    vertices = neutral_mm.astype(np.float64)
    faces = head.faces[head.face_part == PARTS.index("skin")].astype(np.int64)
    normals = vertex_normals(vertices, faces)
    rise = UNITS_ADD_UP * np.einsum("kvc,vc->kv", head.expression_mm, normals.astype(np.float32)).max(
        axis=0, initial=0.0
    )
    moves = np.sqrt((head.expression_mm**2).sum(axis=2).max(axis=0, initial=0.0))
    least = np.where(moves > STILL_MM, rise + CLEARANCE_MM, REST_MM)

    region, marks = head_region(head), head.landmarks(vertices)
    front = cKDTree(marks[48:68]).query(vertices)[0] < MOUTH_MM
    least[region.lid | front] = np.maximum(least[region.lid | front], FACE_MM)
    least[region.ear] = np.maximum(least[region.ear], EAR_MM)

    # What the lower lip sweeps as the jaw opens stays free: a rigid beard would lie before the open mouth.
    jaw = head.expression_mm[ARKIT_INDEX["jawOpen"]]
    swept = np.concatenate([head.landmarks(vertices + share * jaw)[48:68] for share in (0.0, 0.3, 0.6)])
    least[within(head, vertices) | (cKDTree(swept).query(vertices)[0] < SWEPT_MM)] = NEVER_MM

    edges, count = counted_edges(faces)
    a, b = edges.T
    drop = SLOPE * np.linalg.norm(vertices[a] - vertices[b], axis=1)
    for _ in range(12):
        before = np.minimum(least, EAR_MM)  # NEVER_MM does not spread
        np.maximum.at(least, a, before[b] - drop)
        np.maximum.at(least, b, before[a] - drop)

    open_vertices = np.unique(edges[count == 1])
    low = vertices[open_vertices, 1] < vertices[faces, 1].min() + 40.0
    return _Skin(
        vertices_mm=vertices,
        faces=faces,
        normals=normals,
        least_mm=least,
        on_face=region.face,
        edge=open_vertices[low],
        eyes_mm=marks[36:48],
        nose_mm=float(marks[33, 1]),
        jaw_mm=float(marks[:17, 1].min()),
    )


def _over(skin: _Skin, points: Float[np.ndarray, "n 3"]) -> _Over:
    _, foot, face = closest_on_mesh(points, skin.vertices_mm, skin.faces)
    corners = skin.faces[face]
    normal = skin.normals[corners].mean(axis=1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    away = points - foot
    height = np.einsum("nc,nc->n", away, normal)
    along = np.linalg.norm(away - height[:, None] * normal, axis=1)
    distance = np.linalg.norm(away, axis=1)
    # From beyond the neck the closest point is on the skin's edge: the straight line there does not tell above from below.
    past = _on_edge(skin, foot, corners) & (distance > 0.3) & ((along > 0.3 * distance) | (height < 0))
    return _Over(
        height_mm=np.where(past, height, np.sign(height) * distance),
        beyond_mm=np.where(past, distance, 0.0),
        foot_mm=foot,
        normal=normal,
        least_mm=skin.least_mm[corners].max(axis=1),
        on_face=skin.on_face[corners].any(axis=1),
    )


def _on_edge(skin: _Skin, points: Float[np.ndarray, "n 3"], corners: Int[np.ndarray, "n 3"]) -> Bool[np.ndarray, "n"]:
    """Whether points of the skin's triangles lie on the neck's lower edge."""
    edge = np.zeros(len(skin.vertices_mm), bool)
    edge[skin.edge] = True
    out = np.zeros(len(points), bool)
    for k in range(3):
        a, b = corners[:, k], corners[:, (k + 1) % 3]
        start, way = skin.vertices_mm[a], skin.vertices_mm[b] - skin.vertices_mm[a]
        share = np.einsum("nc,nc->n", points - start, way) / np.maximum(np.einsum("nc,nc->n", way, way), 1e-12)
        share = np.where(edge[a] & edge[b], np.clip(share, 0, 1), np.where(edge[b], 1.0, 0.0))
        out |= (edge[a] | edge[b]) & (np.linalg.norm(points - start - share[:, None] * way, axis=1) < 0.05)
    return out


def _bust(skin: _Skin, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n"]:
    """How far points lie within what is kept, about mm; negative outside: far from the head, or beyond the bust's oval."""
    low, high = skin.vertices_mm[skin.faces].min(axis=(0, 1)), skin.vertices_mm[skin.faces].max(axis=(0, 1))
    far = np.minimum(points - (low - REACH_MM), high + REACH_MM - points).min(axis=1)
    edge = skin.vertices_mm[skin.edge] if len(skin.edge) else low[None]
    middle = (edge.min(axis=0) + edge.max(axis=0)) / 2
    offset = (points - middle) / BUST_MM
    # Above the neck's foot only the body is cut: shoulders, not hair.
    offset[:, 1] = np.minimum(offset[:, 1], 0.0)
    oval = (1.0 - np.linalg.norm(offset, axis=1)) * BUST_MM.min()
    body = points[:, 1] < middle[1] + BUST_MM[1]
    return np.where(body, np.minimum(far, oval), far)


def _cropped(scan: Mesh, skin: _Skin) -> Mesh:
    """The faces with a corner near the head."""
    near = _bust(skin, scan.vertices) > -60.0
    return _with_faces(scan, near[scan.faces].all(axis=1))


def _with_faces(mesh: Mesh, kept: Bool[np.ndarray, "f"]) -> Mesh:
    """A mesh of some of its faces; vertices that none uses are dropped."""
    used, faces = np.unique(mesh.faces[kept], return_inverse=True)
    return replace(
        mesh,
        vertices=mesh.vertices[used],
        faces=faces.reshape(-1, 3),
        vertex_colors=None if mesh.vertex_colors is None else mesh.vertex_colors[used],
        faces_uv=(mesh.faces[kept] if mesh.faces_uv is None else mesh.faces_uv[kept]) if mesh.uv is not None else None,
    )


def _whole(mesh: Mesh) -> Mesh:
    """A mesh without the triangles that span gaps of the scan."""
    if not len(mesh.faces):
        return mesh
    corner = mesh.vertices[mesh.faces]
    longest = np.linalg.norm(corner - np.roll(corner, 1, axis=1), axis=2).max(axis=1)
    return _with_faces(mesh, longest < max(LONGEST_EDGES * float(np.median(longest)), LONGEST_MM))


def _merged(mesh: Mesh) -> Mesh:
    """A mesh of at most `MOST_VERTICES` vertices: those of a cell become one, at their mean."""
    cell = CELL_MM
    while len(mesh.vertices) > MOST_VERTICES:
        _, group = np.unique(np.floor(mesh.vertices / cell).astype(np.int64), axis=0, return_inverse=True)
        group = group.ravel()
        size = np.bincount(group).astype(float)

        def mean(values: np.ndarray, group: np.ndarray = group, size: np.ndarray = size) -> np.ndarray:
            return np.stack([np.bincount(group, v) / size for v in values.T.astype(float)], axis=1)

        faces = group[mesh.faces]
        kept = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
        colors = None if mesh.vertex_colors is None else mean(mesh.vertex_colors)
        corner_uv = mesh.faces if mesh.faces_uv is None and mesh.uv is not None else mesh.faces_uv
        merged = replace(mesh, vertices=mean(mesh.vertices), faces=faces, vertex_colors=colors, faces_uv=corner_uv)
        mesh, cell = _with_faces(merged, kept), 1.5 * cell
    return mesh


def _no_rag(mesh: Mesh, skin: _Skin, over: _Over) -> Float[np.ndarray, "v"]:
    """Positive except on narrow strips over the skin, as a scan's ragged edges and stray bits are; about mm.

    Morphological opening: a strip is what no disc of `RAG_MM` within the mesh covers. Above the nose's base it may be glasses;
    from the neck's edge on there is no skin that it would lie on.
    """
    points = mesh.vertices
    body = NECK_MM - cKDTree(skin.vertices_mm[skin.edge]).query(over.foot_mm)[0]
    kept = np.maximum(points[:, 1] - skin.nose_mm, body)
    edges, count = counted_edges(mesh.faces)
    ends = points[edges[count == 1]]
    if not len(ends):
        return np.ones(len(points))
    # Middles of edges too: those of a coarse scan are longer than the disc.
    inside = cKDTree(np.concatenate([ends[:, 0], ends[:, 1], ends.mean(axis=1)])).query(points)[0] > RAG_MM
    if not inside.any():
        return kept
    # A disc's middle may lie an edge away from the nearest vertex.
    length = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    total, num = (np.bincount(edges.ravel(), np.repeat(x, 2), len(points)) for x in (length, np.ones(len(edges))))
    reach = RAG_MM + total / np.maximum(num, 1.0)
    return np.maximum(kept, reach - cKDTree(points[inside]).query(points)[0])


def _on_neck(skin: _Skin, points: Float[np.ndarray, "n 3"], over: _Over) -> Float[np.ndarray, "n"]:
    """Positive where a surface belongs to the bust's overlap with the neck: near the neck's edge, on the skin; mm."""
    away = cKDTree(skin.vertices_mm[skin.edge]).query(points)[0]
    return np.where(np.abs(over.height_mm) < OVERLAP_MM, OVERLAP_MM - away, -np.inf)


def clipped(mesh: Mesh, field: Float[np.ndarray, "v"]) -> Mesh:
    """The part of a mesh where a field is positive, triangles cut along its zero.

    Args:
        mesh: with any of vertex colours and texture coordinates.
        field: value at each vertex, linear between them.
    """
    inside = field > 0
    count = inside[mesh.faces].sum(axis=1)
    corner_uv = mesh.faces if mesh.faces_uv is None else mesh.faces_uv
    cut = np.flatnonzero((count == 1) | (count == 2))
    # Each cut triangle begins at the corner that is alone on its side: new corners lie on both edges from there.
    alone = np.where(count[cut, None] == 1, inside[mesh.faces[cut]], ~inside[mesh.faces[cut]]).argmax(axis=1)
    order = (alone[:, None] + np.arange(3)) % 3
    rows = np.arange(len(cut))[:, None]
    ids, uv_ids = mesh.faces[cut][rows, order], corner_uv[cut][rows, order]
    start, ends = ids[:, [0, 0]].ravel(), ids[:, 1:].ravel()
    share = field[start] / np.where(field[start] == field[ends], 1.0, field[start] - field[ends])

    def between(values: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return values[a] + share[:, None] * (values[b] - values[a])

    # An edge is cut once for both of its triangles.
    code = np.minimum(start, ends) * len(mesh.vertices) + np.maximum(start, ends)
    _, once, of_corner = np.unique(code, return_index=True, return_inverse=True)
    new = len(mesh.vertices) + of_corner.reshape(-1, 2)
    new_uv = (0 if mesh.uv is None else len(mesh.uv)) + np.arange(2 * len(cut)).reshape(-1, 2)
    one, two = count[cut] == 1, count[cut] == 2

    def faces(whole: np.ndarray, corners: np.ndarray, added: np.ndarray) -> np.ndarray:
        tips = np.stack([corners[one, 0], added[one, 0], added[one, 1]], axis=1)
        near = np.stack([added[two, 0], corners[two, 1], corners[two, 2]], axis=1)
        far = np.stack([added[two, 0], corners[two, 2], added[two, 1]], axis=1)
        return np.concatenate([whole[count == 3], tips, near, far])

    def extended(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else np.concatenate([values, between(values, start, ends)[once]])

    uv = mesh.uv
    if uv is not None:
        uv = np.concatenate([uv, between(uv, uv_ids[:, [0, 0]].ravel(), uv_ids[:, 1:].ravel())])
    whole = replace(
        mesh,
        vertices=np.concatenate([mesh.vertices, between(mesh.vertices, start, ends)[once]]),
        faces=faces(mesh.faces, ids, new),
        vertex_colors=extended(mesh.vertex_colors),
        uv=uv,
        faces_uv=None if uv is None else faces(corner_uv, uv_ids, new_uv),
    )
    return _with_faces(whole, np.ones(len(whole.faces), bool))


def _of_person(mesh: Mesh, over: _Over) -> Bool[np.ndarray, "f"]:
    """Faces of the parts that belong to the person: near the head, no ragged edge of the scan, no wall."""
    edges = unique_edges(mesh.faces)
    links = sp.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=[len(mesh.vertices)] * 2)
    num_parts, part = connected_components(links, directed=False)
    normal = face_normals(mesh.vertices, mesh.faces)
    area, center = np.linalg.norm(normal, axis=1) / 2, mesh.vertices[mesh.faces].mean(axis=1)
    of_face = part[mesh.faces[:, 0]]
    kept = np.zeros(num_parts, bool)
    for k in np.flatnonzero(np.bincount(of_face, area, num_parts) > FACE_MM2):
        mine, points = of_face == k, part == k
        total, neck = area[mine].sum(), over.beyond_mm[points] > 0
        least = NECK_MM2 if neck.any() else FACE_MM2 if over.on_face[points].mean() > 0.5 else SKULL_MM2
        near = (over.height_mm[points].min() < LOOSE_MM) | neck.any()
        rises = (over.height_mm[points].max() > RISE_MM) | neck.any()
        middle = np.average(center[mine], axis=0, weights=area[mine])
        spread = (center[mine] - middle) * np.sqrt(area[mine] / total)[:, None]
        flat = np.abs((center[mine] - middle) @ np.linalg.eigh(spread.T @ spread)[1][:, 0]) < FLAT_MM
        wall = total > FLAT_AREA_MM2 and area[mine][flat].sum() > FLAT_SHARE * total
        kept[k] = total > least and near and rises and not wall
    return np.asarray(kept[of_face])


def _sunk(points: Float[np.ndarray, "n 3"], over: _Over) -> Float[np.ndarray, "n 3"]:
    """The piece with its rim a little below the skin."""
    free = np.where(over.beyond_mm > 0, over.beyond_mm / FADE_MM, (over.height_mm - over.least_mm) / FREE_MM)
    free = np.clip(free, 0.0, 1.0)
    return points + ((1 - free) * (SUNK_MM - over.height_mm))[:, None] * over.normal


def _with_skirt(mesh: Mesh, over: _Over, led: Bool[np.ndarray, "n"]) -> Mesh:
    """The piece with its open rims led down to the skin: hair that was scanned from the front alone has no gap behind it."""
    directed = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    low, high = directed.min(axis=1), directed.max(axis=1)
    _, index, count = np.unique(low * len(mesh.vertices) + high, return_index=True, return_counts=True)
    rim = index[count == 1]
    a, b = directed[rim].T
    led = led & (over.height_mm > REST_MM) & (over.height_mm < SKIRT_MM) & (over.beyond_mm == 0)
    ok = led[a] & led[b]
    rim, a, b = rim[ok], a[ok], b[ok]
    if not len(rim):
        return mesh
    ids, place = np.unique(np.concatenate([a, b]), return_inverse=True)
    foot = (len(mesh.vertices) + place).reshape(2, -1)
    added = np.concatenate([np.stack([b, a, foot[0]], axis=1), np.stack([b, foot[0], foot[1]], axis=1)])
    faces_uv = None
    if mesh.uv is not None and mesh.faces_uv is not None:
        uv = np.concatenate([mesh.faces_uv[:, [0, 1]], mesh.faces_uv[:, [1, 2]], mesh.faces_uv[:, [2, 0]]])[rim]
        faces_uv = np.concatenate([mesh.faces_uv, uv[:, [1, 0, 0]], uv[:, [1, 0, 1]]])
    colors = mesh.vertex_colors
    return replace(
        mesh,
        vertices=np.concatenate([mesh.vertices, over.foot_mm[ids] + SUNK_MM * over.normal[ids]]),
        faces=np.concatenate([mesh.faces, added]),
        vertex_colors=None if colors is None else np.concatenate([colors, colors[ids]]),
        faces_uv=faces_uv,
    )


def _colored(mesh: Mesh, over: _Over, skin: _Skin, hair: tuple[float, float, float]) -> Mesh:
    """The piece with a picture that is small enough, or with plain colours: hair above the jaw, cloth below."""
    if not has_color(mesh):
        cloth = (over.beyond_mm > 0) | (mesh.vertices[:, 1] < skin.jaw_mm + CLOTH_ABOVE_JAW_MM)
        return replace(mesh, vertex_colors=np.where(cloth[:, None], CLOTH, hair), uv=None, faces_uv=None, texture=None)
    if mesh.texture is None or mesh.uv is None:
        return replace(mesh, uv=None, faces_uv=None, texture=None)
    # Texture coordinates may wrap around: whole turns are taken off. Of the picture, the used part is kept.
    uv = mesh.uv - np.floor(np.where(mesh.uv == 1, 0, mesh.uv))
    used = uv[np.unique(mesh.faces if mesh.faces_uv is None else mesh.faces_uv)]
    height, width = mesh.texture.shape[:2]
    left, top = np.maximum(np.floor([used[:, 0].min() * width, (1 - used[:, 1].max()) * height]).astype(int) - 2, 0)
    right, bottom = np.ceil([used[:, 0].max() * width, (1 - used[:, 1].min()) * height]).astype(int) + 2
    texture = mesh.texture[top:bottom, left:right]
    rows, columns = texture.shape[:2]
    uv = np.stack([(uv[:, 0] * width - left) / columns, 1 - ((1 - uv[:, 1]) * height - top) / rows], axis=1)
    if max(rows, columns) > TEXTURE_PX:
        size = [max(1, round(n * TEXTURE_PX / max(rows, columns))) for n in (columns, rows)]
        picture = Image.fromarray((np.clip(texture, 0, 1) * 255 + 0.5).astype(np.uint8))
        texture = np.asarray(picture.resize(size, Image.Resampling.LANCZOS), np.float32) / 255
    return replace(mesh, texture=texture, uv=uv, vertex_colors=None)
