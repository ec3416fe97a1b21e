from importlib.resources import files

import numpy as np
import pytest
from scipy.spatial import cKDTree

from omote.head.expressions import ARKIT_INDEX, ARKIT_NAMES
from omote.head.eyes import CORNEA_BULGE
from omote.head.model import PARTS
from omote.head.shipped import _arrays, shipped_head

LIPS_CLOSED = ("jawForward", "jawLeft", "jawRight", "mouthPucker", "mouthPressLeft", "mouthPressRight", "cheekPuff")
EYE_IDS = {"Left": range(42, 48), "Right": range(36, 42)}


@pytest.fixture(scope="module")
def head():
    return shipped_head()


def unit(head, **weights):
    vector = np.zeros(52, np.float32)
    for name, value in weights.items():
        vector[ARKIT_INDEX[name]] = value
    return head.vertices(expression=vector)


def face_components(head, *parts):
    return head.faces[np.isin(head.face_part, [PARTS.index(p) for p in parts])]


def test_sizes_and_file(head):
    num = head.num_vertices
    assert 15_000 < num < 25_000
    assert head.identity_mm.shape == (100, num, 3)
    assert head.expression_mm.shape == (52, num, 3)
    assert head.faces.max() == num - 1
    assert head.faces_uv.max() < len(head.uv)
    assert set(np.unique(head.face_part)) == set(range(len(PARTS)))
    assert files("omote.head").joinpath("basis/head.npz").stat().st_size < 10e6


def test_everything_is_finite_and_skin_uvs_lie_in_the_unit_square(head):
    for array in (head.template_mm, head.identity_mm, head.expression_mm, head.uv, head.landmark_weights):
        assert np.isfinite(array).all()
    skin = head.uv[np.unique(head.faces_uv[np.isin(head.face_part, [PARTS.index("skin"), PARTS.index("mouth")])])]
    assert skin.min() >= 0
    assert skin.max() <= 1


def test_the_eyes_midpoint_is_the_origin_and_left_is_positive_x(head):
    centers = [(v.max(0) + v.min(0)) / 2 for v in (head.template_mm[head.part_vertices(p)] for p in PARTS[1:3])]
    middle = np.mean(centers, axis=0)
    np.testing.assert_allclose(middle[:2], 0, atol=0.2)
    assert centers[0][0] > 20
    nose = head.landmarks(head.template_mm)[30]
    assert nose[2] > 30
    assert nose[1] < -20


def test_no_degenerate_faces_and_a_manifold_skin(head):
    v = head.template_mm.astype(float)
    area = np.linalg.norm(
        np.cross(v[head.faces[:, 1]] - v[head.faces[:, 0]], v[head.faces[:, 2]] - v[head.faces[:, 0]]), axis=1
    )
    assert area.min() > 1e-5
    skin = face_components(head, "skin", "mouth")
    edges = np.sort(np.concatenate([skin[:, [0, 1]], skin[:, [1, 2]], skin[:, [2, 0]]]), axis=1)
    _, count = np.unique(edges, axis=0, return_counts=True)
    assert count.max() == 2
    directed = np.concatenate([skin[:, [0, 1]], skin[:, [1, 2]], skin[:, [2, 0]]])
    assert len(np.unique(directed, axis=0)) == len(directed)  # one winding everywhere


@pytest.mark.parametrize("part", ["eye_left", "eye_right", "teeth_upper", "teeth_lower", "tongue"])
def test_closed_parts_wind_outward(head, part):
    faces = face_components(head, part)
    v = head.template_mm - head.template_mm[np.unique(faces)].mean(axis=0)
    assert np.einsum("ij,ij->", v[faces[:, 0]], np.cross(v[faces[:, 1]], v[faces[:, 2]])) > 0


def test_skin_winds_outward(head):
    faces = face_components(head, "skin")
    v = head.template_mm
    normal = np.cross(v[faces[:, 1]] - v[faces[:, 0]], v[faces[:, 2]] - v[faces[:, 0]])
    tip = np.linalg.norm(v[faces].mean(axis=1) - head.landmarks(v)[30], axis=1).argmin()
    assert normal[tip, 2] > 0


def test_the_template_is_symmetric(head):
    skin = head.template_mm[head.part_vertices("skin")]
    distance, _ = cKDTree(skin).query(skin * [-1, 1, 1])
    assert distance.max() < 0.1


def test_landmarks_lie_on_the_skin(head):
    assert np.all(head.landmark_weights >= 0)
    np.testing.assert_allclose(head.landmark_weights.sum(axis=1), 1, atol=1e-5)
    faces = {tuple(sorted(f)) for f in face_components(head, "skin", "mouth").tolist()}
    assert all(tuple(sorted(t)) in faces for t in head.landmark_vertices.tolist())
    marks = head.landmarks(head.template_mm)
    flip = marks[[*range(16, -1, -1), *range(26, 16, -1)]] * [-1, 1, 1]
    assert np.linalg.norm(marks[:27] - flip, axis=1).max() < 1.5


@pytest.mark.parametrize("side", ["Left", "Right"])
def test_lids_meet_when_the_eye_closes(head, side):
    closed = unit(head, **{f"eyeBlink{side}": 1.0})
    lids = head.landmarks(closed)[list(EYE_IDS[side])]
    # Landmarks: corner, upper, upper, corner, lower, lower; the uppers land on the line of the lowers and corners.
    order = np.argsort(lids[[0, 5, 4, 3], 0])
    line = lids[[0, 5, 4, 3]][order]
    gap = lids[[1, 2], 1] - np.interp(lids[[1, 2], 0], line[:, 0], line[:, 1])
    assert np.all(gap < 1.3)  # the marks sit on the lids' front edges
    # No eyeball may be seen: its front points have skin before them.
    assert visible_eye(head, closed, side) < 0.0005


def visible_eye(head, vertices, side, size=192):
    """Share of a close-up's pixels, seen from the front, that show the eyeball."""
    from omote.geometry.camera import orbit_camera
    from omote.rendering.zbuffer import rasterize

    center = vertices[head.part_vertices(f"eye_{side.lower()}")].mean(axis=0)
    camera = orbit_camera(size=size, target_mm=np.array([center[0], 0.0, 10.0]), field_mm=50.0)
    shown = rasterize(camera, np.ascontiguousarray(vertices, np.float32), head.faces).face_id
    seen = head.face_part[shown[shown >= 0]]
    return float(np.mean(seen == PARTS.index(f"eye_{side.lower()}")))


@pytest.mark.parametrize("weight", [0.25, 0.5, 0.75])
def test_the_eyeball_never_pokes_through_a_closing_lid(head, weight):
    shown = [visible_eye(head, unit(head, eyeBlinkLeft=w), "Left") for w in (0.0, weight, 1.0)]
    assert shown[0] > 0.05
    assert shown[1] < shown[0] * (1.15 - weight)


def lids_inside_eyeball(head, vertices, side):
    """How deep (mm) lid skin in front of the ball lies inside it; the rim's hidden end is not counted."""
    rest = head.template_mm[head.part_vertices(f"eye_{side}")]
    radius = float(rest[:, 0].max() - rest[:, 0].min()) / 2
    center = (rest.max(axis=0) + rest.min(axis=0)) / 2  # the ball is cut off behind, so its z comes from the cornea
    center[2] = rest[:, 2].max() - radius * (1 + CORNEA_BULGE)
    names, region = _arrays()["region_names"].tolist(), _arrays()["region"]
    lid = np.flatnonzero(region == names.index(f"lid_{side}"))
    arm = head.template_mm[lid] - center
    outer = lid[(np.linalg.norm(arm, axis=1) > 1.04 * radius) & (arm[:, 2] > 0)]
    return float(np.max(radius - np.linalg.norm(vertices[outer] - center, axis=1)))


@pytest.mark.parametrize("name", [n for n in ARKIT_NAMES if n.startswith(("eye", "brow", "cheek", "nose"))])
def test_lids_stay_outside_the_eyeball_in_every_unit(head, name):
    vertices = unit(head, **{name: 1.0})
    for side in ("left", "right"):
        depth_mm = lids_inside_eyeball(head, vertices, side)
        assert depth_mm < 0.05


def lip_gap(head, vertices):
    marks = head.landmarks(vertices)
    return marks[[61, 62, 63], 1] - marks[[67, 66, 65], 1]


def visible_inside(head, vertices, size=192):
    from omote.geometry.camera import orbit_camera
    from omote.rendering.zbuffer import rasterize

    camera = orbit_camera(size=size, target_mm=np.array([0.0, -70.0, 20.0]), field_mm=90.0)
    shown = rasterize(camera, np.ascontiguousarray(vertices, np.float32), head.faces).face_id
    inner = [PARTS.index(p) for p in ("teeth_upper", "teeth_lower", "tongue")]
    return float(np.mean(np.isin(head.face_part[shown[shown >= 0]], inner)))


def test_lips_are_sealed_at_rest(head):
    assert visible_inside(head, head.template_mm) == 0
    assert np.abs(lip_gap(head, head.template_mm)).max() < 2.5


@pytest.mark.parametrize("name", LIPS_CLOSED)
def test_no_teeth_show_where_the_lips_are_closed(head, name):
    assert visible_inside(head, unit(head, **{name: 1.0})) < 0.002


def test_an_open_jaw_takes_lower_teeth_and_tongue_along(head):
    moved = unit(head, jawOpen=1.0) - head.template_mm
    assert np.abs(moved[head.part_vertices("teeth_upper")]).max() == 0
    for part in ("teeth_lower", "tongue"):
        assert moved[head.part_vertices(part)][:, 1].mean() < -8
    assert visible_inside(head, unit(head, jawOpen=1.0)) > 0.02


@pytest.mark.parametrize("name", [n for n in ARKIT_NAMES if n.startswith(("mouth", "jaw", "cheekPuff", "noseSneer"))])
def test_teeth_never_poke_through_the_lips(head, name):
    trimesh = pytest.importorskip("trimesh")
    pytest.importorskip("embreex")
    vertices = unit(head, **{name: 1.0}).astype(float)
    skin_end = head.part_vertices("eye_left").min()
    faces = face_components(head, "skin", "mouth")
    mesh = trimesh.Trimesh(vertices[:skin_end], faces[faces.max(axis=1) < skin_end], process=False)
    for part in ("teeth_upper", "teeth_lower"):
        teeth = vertices[head.part_vertices(part)]
        inside = teeth.mean(axis=0) * [0, 1, 1] - [0, 0, 8]
        ray = inside - teeth
        length = np.linalg.norm(ray, axis=1)
        hits, index, _ = mesh.ray.intersects_location(teeth, ray / length[:, None], multiple_hits=True)
        near = np.linalg.norm(hits - teeth[index], axis=1) < length[index]
        # Two surfaces between a tooth and the mouth's middle: the tooth is outside, through the lip.
        assert np.bincount(index[near], minlength=len(teeth)).max() < 2


def test_random_persons_keep_eyes_seated_and_lips_closed(head):
    rng = np.random.default_rng(0)
    for _ in range(12):
        person = head.vertices(identity=rng.normal(size=100).astype(np.float32))
        assert visible_inside(head, person) < 0.004
        for side in ("Left", "Right"):
            assert 0.02 < visible_eye(head, person, side) < 0.3
        assert np.linalg.norm(person - head.template_mm, axis=1).max() < 60


def test_regions_name_every_vertex(head):
    names, region = _arrays()["region_names"].tolist(), _arrays()["region"]
    assert len(region) == head.num_vertices
    assert region.max() < len(names)
    count = np.bincount(region, minlength=len(names))
    assert count.min() > 20, dict(zip(names, count.tolist(), strict=True))
    for left in (n for n in names if n.endswith("_left")):
        a, b = count[names.index(left)], count[names.index(left.replace("left", "right"))]
        assert abs(int(a) - int(b)) < 0.06 * a + 3
