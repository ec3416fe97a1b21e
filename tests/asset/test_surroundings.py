"""Hair, collars and glasses come along, walls and the face itself do not; the piece meets the skin and stays out of its way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree

from omote.asset.rest_shape import beyond_face
from omote.asset.surroundings import BUST_MM, MOST_VERTICES, SUNK_MM, clipped, surroundings_of
from omote.geometry.cloud import closest_on_mesh
from omote.geometry.mesh import face_normals, vertex_normals
from omote.head.expressions import ARKIT_INDEX
from omote.head.model import PARTS
from omote.head.region import head_region
from omote.head.shipped import shipped_head
from omote.lift.points import sample_image
from omote.types import Mesh

MODEL = shipped_head()
REST = MODEL.template_mm.astype(np.float64)
SKIN = MODEL.faces[MODEL.face_part == PARTS.index("skin")].astype(np.int64)
HAIR = (0.1, 0.2, 0.3)


def joined(*meshes: Mesh) -> Mesh:
    shift = np.cumsum([0, *(len(m.vertices) for m in meshes)])
    colors = [np.zeros((len(m.vertices), 3)) if m.vertex_colors is None else m.vertex_colors for m in meshes]
    return Mesh(
        vertices=np.concatenate([m.vertices for m in meshes]),
        faces=np.concatenate([m.faces + s for m, s in zip(meshes, shift, strict=False)]),
        vertex_colors=np.concatenate(colors),
    )


def sheet(width: float, height: float, step: float, at: tuple[float, float, float], color: float = 0.5) -> Mesh:
    """A plane facing +z."""
    x, y = np.arange(-width / 2, width / 2 + step, step), np.arange(-height / 2, height / 2 + step, step)
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    k = np.arange(len(x) * len(y)).reshape(len(y), len(x))
    a, b, c, d = (q.ravel() for q in (k[:-1, :-1], k[:-1, 1:], k[1:, :-1], k[1:, 1:]))
    return Mesh(
        vertices=np.concatenate([grid, np.zeros((len(grid), 1))], axis=1) + at,
        faces=np.concatenate([np.stack([a, b, c], 1), np.stack([c, b, d], 1)]),
        vertex_colors=np.full((len(grid), 3), color),
    )


def bald(color: float = 0.8) -> Mesh:
    return Mesh(vertices=REST, faces=SKIN, vertex_colors=np.full((len(REST), 3), color))


def hair(height_mm: float, color: float = 0.2) -> Mesh:
    """A shell over the scalp."""
    region = head_region(MODEL)
    scalp = (REST[:, 1] > 45) | ((REST[:, 2] < -90) & (REST[:, 1] > -40))
    scalp &= region.weight < 0.3
    kept = SKIN[scalp[SKIN].all(axis=1)]
    used, faces = np.unique(kept, return_inverse=True)
    out = REST[used] + height_mm * vertex_normals(REST, SKIN)[used]
    return Mesh(vertices=out, faces=faces.reshape(-1, 3), vertex_colors=np.full((len(used), 3), color))


def around(scan: Mesh) -> Mesh | None:
    return surroundings_of(MODEL, scan, REST, hair=HAIR)


def test_a_bald_head_has_nothing_around_it() -> None:
    assert around(bald()) is None


@pytest.fixture(scope="module")
def hairy() -> Mesh:
    piece = around(joined(bald(), hair(18.0)))
    assert piece is not None
    return piece


def test_a_face_mask_of_which_nothing_stands_out_has_nothing_around_it() -> None:
    faces = MODEL.faces[head_region(MODEL).face[MODEL.faces].all(axis=1)]
    used, ids = np.unique(faces, return_inverse=True)
    assert around(Mesh(vertices=REST[used].astype(np.float64) - [0, 0, 2], faces=ids.reshape(-1, 3))) is None


def test_hair_comes_along_where_it_was(hairy: Mesh) -> None:
    shell = hair(18.0)
    area = np.linalg.norm(face_normals(shell.vertices, shell.faces), axis=1).sum()
    far = np.linalg.norm(face_normals(hairy.vertices, hairy.faces), axis=1).sum()
    assert far > 0.8 * area
    # The profile is the hair's.
    assert hairy.vertices[:, 1].max() == pytest.approx(shell.vertices[:, 1].max(), abs=0.1)
    assert hairy.vertices[:, 2].min() == pytest.approx(shell.vertices[:, 2].min(), abs=0.1)
    assert hairy.vertex_colors is not None
    np.testing.assert_allclose(hairy.vertex_colors, 0.2, atol=1e-6)


def test_the_rim_is_led_into_the_skin(hairy: Mesh) -> None:
    """No open edge of the piece hangs in the air: those that don't lie under the skin are the skirt's own sides."""
    edges = np.sort(np.concatenate([hairy.faces[:, [0, 1]], hairy.faces[:, [1, 2]], hairy.faces[:, [2, 0]]]), axis=1)
    edge, count = np.unique(edges, axis=0, return_counts=True)
    rim = np.unique(edge[count == 1])
    _, foot, face = closest_on_mesh(hairy.vertices[rim], REST, SKIN)
    normal = vertex_normals(REST, SKIN)[SKIN[face]].mean(axis=1)
    height = np.einsum("nc,nc->n", hairy.vertices[rim] - foot, normal)
    assert (height < 0).mean() > 0.95
    assert height.min() > 3 * SUNK_MM


def test_a_collar_stands_free_of_the_neck() -> None:
    """A rim led from ragged cloth down to the neck is a row of slats."""
    neck = (REST[:, 1] < -115) & (REST[:, 1] > -150) & (REST[:, 2] < -20)
    kept = SKIN[neck[SKIN].all(axis=1)]
    used, faces = np.unique(kept, return_inverse=True)
    ring = REST[used] + 14.0 * vertex_normals(REST, SKIN)[used]
    cloth = Mesh(vertices=ring, faces=faces.reshape(-1, 3), vertex_colors=np.full((len(used), 3), 0.2))
    piece = around(joined(bald(), cloth))
    assert piece is not None
    height = cKDTree(REST).query(piece.vertices)[0]
    collar = (piece.vertices[:, 1] > -135) & (np.abs(piece.vertices[:, 0]) < 90)
    assert collar.any()
    assert height[collar].min() > 5.0


def test_no_expression_reaches_the_piece(hairy: Mesh) -> None:
    """Glasses stand off brows that rise; hair off a forehead that moves: nothing of the piece lies in moving skin."""
    scan = joined(bald(), hair(18.0), sheet(120, 35, 3.0, (0.0, 0.0, 34.0), 0.4))
    piece = around(scan)
    assert piece is not None
    assert len(piece.faces) > len(hairy.faces) + 200
    glasses = piece.vertices[(np.abs(piece.vertices[:, 0]) < 55) & (np.abs(piece.vertices[:, 1]) < 17)]
    glasses = glasses[glasses[:, 2] > 20]
    for unit in MODEL.expression_mm[:14]:
        posed = REST + unit
        _, foot, face = closest_on_mesh(glasses, posed, SKIN)
        normal = vertex_normals(posed, SKIN)[SKIN[face]].mean(axis=1)
        height = np.einsum("nc,nc->n", glasses - foot, normal)
        assert (height < -0.3).mean() < 0.12  # where the nose carries them


def test_the_face_itself_never_comes_along() -> None:
    """A scan whose face lies 2 mm before the fitted skin, and whose eyes and lips do, is no mask over the avatar."""
    lifted = REST + 2.0 * vertex_normals(REST, SKIN)
    scan = Mesh(vertices=lifted, faces=SKIN, vertex_colors=np.full((len(REST), 3), 0.5))
    piece = around(scan)
    if piece is not None:
        _, _, face = closest_on_mesh(piece.vertices, REST, SKIN)
        region = head_region(MODEL)
        assert not region.lid[SKIN[face]].any(axis=1).any()
        marks = MODEL.landmarks(REST)
        lips = np.linalg.norm(piece.vertices[:, None] - marks[None, 48:], axis=2).min(axis=1)
        assert lips.min() > 8


def test_a_beard_leaves_the_mouth_free_as_it_opens() -> None:
    marks = MODEL.landmarks(REST)
    grows = (REST[:, 1] < marks[33, 1] - 12) & (REST[:, 1] > -150) & (REST[:, 2] > -45)
    used, faces = np.unique(SKIN[grows[SKIN].all(axis=1)], return_inverse=True)
    shell = REST[used] + 14 * vertex_normals(REST, SKIN)[used]
    beard = Mesh(vertices=shell, faces=faces.reshape(-1, 3), vertex_colors=np.full((len(used), 3), 0.1))
    piece = around(joined(bald(), beard))
    assert piece is not None
    assert piece.vertices[:, 1].min() < marks[8, 1] - 5  # below the chin
    opened = MODEL.landmarks(REST + 0.6 * MODEL.expression_mm[ARKIT_INDEX["jawOpen"]])
    for lips in (marks[48:68], opened[48:68]):
        across = np.abs(piece.vertices[:, None, :2] - lips[None, :, :2]).max(axis=2)
        assert across.min() > 3


def test_walls_and_far_things_stay_behind() -> None:
    wall = sheet(500, 500, 8.0, (0.0, 0.0, -215.0))
    assert around(joined(bald(), wall)) is None
    table = sheet(400, 400, 8.0, (0.0, 0.0, 0.0))
    flat = replace(table, vertices=table.vertices[:, [0, 2, 1]] + [0, -230.0, 0])
    assert around(joined(bald(), flat)) is None


def test_the_body_is_cut_by_an_oval_about_the_neck() -> None:
    ring = np.linspace(0, 2 * np.pi, 60)
    rows = [[r * np.sin(a), -180 - 0.2 * r, -95 + 0.6 * r * np.cos(a)] for r in range(60, 320, 6) for a in ring]
    k = np.arange(len(rows)).reshape(-1, 60)
    a, b, c, d = k[:-1, :-1].ravel(), k[:-1, 1:].ravel(), k[1:, :-1].ravel(), k[1:, 1:].ravel()
    faces = np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])
    shirt = Mesh(vertices=np.array(rows), faces=faces, vertex_colors=np.full((len(rows), 3), 0.3))
    piece = around(joined(bald(), shirt))
    assert piece is not None
    assert np.abs(piece.vertices[:, 0]).max() < BUST_MM[0] + 1
    assert np.abs(piece.vertices[:, 0]).max() > 0.7 * BUST_MM[0]
    assert piece.vertices[:, 1].min() > -290


def test_stray_strips_on_the_nape_stay_behind_and_what_is_as_narrow_at_the_eyes_does_not() -> None:
    """A collar with a torn tongue up the nape, 12 mm wide, and glasses' rims of that width."""
    ring = np.linspace(0, 2 * np.pi, 90)
    rows = [[r * np.sin(a), -180 - 0.2 * r, -95 + 0.6 * r * np.cos(a)] for r in range(60, 130, 6) for a in ring]
    k = np.arange(len(rows)).reshape(-1, 90)
    a, b, c, d = k[:-1, :-1].ravel(), k[:-1, 1:].ravel(), k[1:, :-1].ravel(), k[1:, 1:].ravel()
    faces = np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])
    shirt = Mesh(vertices=np.array(rows), faces=faces, vertex_colors=np.full((len(rows), 3), 0.3))
    # Its lower half is as wide as the nape, so that it hangs together with the shirt.
    band = sheet(60, 120, 3.0, (0.0, 0.0, 0.0), 0.3)
    behind = REST[(np.abs(REST[:, 0]) < 4) & (REST[:, 2] < -90)]
    out = np.interp(band.vertices[:, 1] - 120, *behind[np.argsort(behind[:, 1])][:, [1, 2]].T) - 12
    tongue = replace(band, vertices=np.stack([band.vertices[:, 0], band.vertices[:, 1] - 120, out], axis=1))
    narrow = (np.abs(tongue.vertices[:, 0]) < 7) | (tongue.vertices[:, 1] < -140)
    tongue = replace(tongue, faces=tongue.faces[narrow[tongue.faces].all(axis=1)])
    glasses = sheet(120, 12, 3.0, (0.0, 0.0, 34.0), 0.4)
    piece = around(joined(bald(), shirt, tongue, glasses))
    assert piece is not None
    nape = piece.vertices[(piece.vertices[:, 2] < -90) & (np.abs(piece.vertices[:, 0]) < 20)]
    assert -150 < nape[:, 1].max() < -125  # the wide part stays
    assert (piece.vertices[:, 2] > 30).sum() > 100


def test_a_scan_without_colour_gets_hair_and_cloth() -> None:
    piece = around(replace(joined(bald(), hair(18.0)), vertex_colors=None))
    assert piece is not None
    assert piece.vertex_colors is not None
    above = piece.vertices[:, 1] > 0
    np.testing.assert_allclose(piece.vertex_colors[above], np.broadcast_to(HAIR, (above.sum(), 3)))


def test_clipping_cuts_exactly_and_keeps_colours_and_texture_coordinates() -> None:
    mesh = sheet(40, 40, 10.0, (0.0, 0.0, 0.0))
    colors = (mesh.vertices + 20) / 40
    uv = colors[:, :2]
    whole = replace(mesh, vertex_colors=colors, uv=uv, faces_uv=mesh.faces, texture=np.zeros((2, 2, 3)))
    cut = clipped(whole, 7.3 - mesh.vertices[:, 0] - 0.5 * mesh.vertices[:, 1])
    assert (cut.vertices[:, 0] + 0.5 * cut.vertices[:, 1]).max() == pytest.approx(7.3)
    assert cut.vertex_colors is not None
    np.testing.assert_allclose(cut.vertex_colors, (cut.vertices + 20) / 40, atol=1e-9)
    assert cut.uv is not None
    assert cut.faces_uv is not None
    corner = cut.vertices[cut.faces]
    np.testing.assert_allclose(cut.uv[cut.faces_uv], (corner[..., :2] + 20) / 40, atol=1e-9)
    # No overlap, no hole, every triangle still faces +z.
    area = face_normals(cut.vertices, cut.faces)
    assert (area[:, 2] > 0).all()
    x = np.linspace(-20, 20, 4001)
    true = np.clip(2 * (7.3 - x) + 20, 0, 40)
    assert area[:, 2].sum() / 2 == pytest.approx(np.trapezoid(true, x), rel=1e-4)


def test_dense_scans_are_thinned() -> None:
    dense = sheet(180, 180, 0.8, (0.0, 190.0, -60.0))
    bent = dense.vertices.copy()
    bent[:, 2] += 30 * np.sin(bent[:, 0] / 25) - 20 * np.cos(bent[:, 1] / 25)
    scan = joined(bald(), hair(18.0), replace(dense, vertices=bent * [1, 0.4, 1] + [0, 60, 0]))
    assert len(scan.vertices) > 1.5 * MOST_VERTICES
    piece = around(scan)
    assert piece is not None
    assert len(piece.vertices) < MOST_VERTICES


def test_skull_and_neck_follow_the_scan_and_the_face_stays() -> None:
    normals = vertex_normals(REST, SKIN)
    region = head_region(MODEL)
    grown = REST + (6.0 * (1 - region.weight))[:, None] * normals
    offset = beyond_face(MODEL, Mesh(vertices=grown, faces=SKIN), REST)
    back = np.flatnonzero((REST[:, 2] < -120) & (REST[:, 1] > -40) & (region.weight == 0))
    np.testing.assert_allclose(np.einsum("nc,nc->n", offset[back], normals[back]), 6.0, atol=1.0)
    assert np.linalg.norm(offset[region.weight == 1], axis=1).max() < 0.05
    eyes = MODEL.part_vertices("eye_left", "eye_right", "teeth_upper")
    assert np.abs(offset[eyes]).max() == 0
    # Hair that stands off is no skull; only where the nape bends is some of it near.
    thick = beyond_face(MODEL, Mesh(vertices=REST + 25 * normals, faces=SKIN), REST)
    assert np.linalg.norm(thick[back], axis=1).max() < 1.5


def test_the_piece_keeps_its_part_of_the_picture() -> None:
    """Colours are a function of texture coordinates, so that a wrong crop or a wrong corner shows."""
    whole = joined(bald(), hair(18.0))
    uv = np.stack([0.2 + (whole.vertices[:, 0] + 100) / 500, 0.1 + (whole.vertices[:, 1] + 200) / 700], axis=1)
    v, u = (np.mgrid[:256, :256] + 0.5) / 256
    picture = np.stack([u, 1 - v, np.full_like(u, 0.5)], axis=2).astype(np.float32)
    piece = around(
        replace(whole, vertex_colors=None, uv=uv + np.array([1.0, 0.0]), faces_uv=whole.faces, texture=picture)
    )
    assert piece is not None
    assert piece.texture is not None
    assert piece.uv is not None
    assert piece.faces_uv is not None
    assert piece.texture.shape[0] < 200
    corner = piece.uv[piece.faces_uv].reshape(-1, 2)
    pixel = np.stack([corner[:, 0] * piece.texture.shape[1], (1 - corner[:, 1]) * piece.texture.shape[0]], axis=1)
    color = sample_image(piece.texture, pixel)[: len(piece.faces) * 3]
    # Points that were not sunk are where they were scanned.
    place = piece.vertices[piece.faces.ravel()]
    free = cKDTree(whole.vertices).query(place)[0] < 1e-3
    true = np.stack([0.2 + (place[:, 0] + 100) / 500, 0.1 + (place[:, 1] + 200) / 700], axis=1)
    assert free.sum() > 1000
    np.testing.assert_allclose(color[free, :2], true[free], atol=0.004)
