"""The second style of units: how it mixes in, what it stores, and that a population of two heads teaches it."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from omote.datasets.population import PopulationConfig
from omote.errors import OmoteError
from omote.head.expressions import ARKIT_INDEX
from omote.head.region import head_region
from omote.head.shipped import population_heads, shipped_head, shipped_unit_style
from omote.head.unit_style import UnitStyle
from omote.lift.contact import lip_pairs


def a_style(offset: float = 1.0) -> UnitStyle:
    rng = np.random.default_rng(0)
    # As a solver leaves it: not in C order.
    moves = np.asfortranarray(offset * rng.standard_normal((52, 3, 3)).astype(np.float32))
    return UnitStyle(
        vertices=np.array([5, 9, 7]), offset_mm=moves, identity_weight=np.array([2.0, -1.0], np.float32), bias=0.5
    )


def test_the_share_is_logistic_in_the_identity():
    style = a_style()
    assert style.share(np.zeros(2)) == pytest.approx(1 / (1 + np.exp(-0.5)))
    assert style.share(np.array([10.0, 0.0])) > 0.999
    assert style.share(np.array([0.0, 10.0])) < 0.001
    assert style.share(np.array([1.0])) == pytest.approx(1 / (1 + np.exp(-2.5)))


def test_offsets_are_added_by_weight_and_share_at_their_vertices_alone():
    style, rest = a_style(), np.zeros((12, 3), np.float32)
    arkit = np.zeros(52, np.float32)
    arkit[[3, 40]] = 0.5, 0.25
    out = style.moved(rest, arkit, 0.4)
    expected = 0.4 * (0.5 * style.offset_mm[3] + 0.25 * style.offset_mm[40])
    np.testing.assert_allclose(out[[5, 9, 7]], expected, atol=1e-6)
    assert not out[[0, 1, 2, 3, 4, 6, 8, 10, 11]].any()
    assert not rest.any()


def test_units_of_an_identity_move_as_its_face_does():
    head, arkit = shipped_head(), np.linspace(0, 0.5, 52).astype(np.float32)
    moved = head.template_mm + np.tensordot(arkit, head.units_mm(0.3), 1)
    np.testing.assert_allclose(moved, head.moved(head.template_mm, arkit, 0.3), atol=1e-3)
    assert head.units_mm() is head.expression_mm


def test_a_saved_style_comes_back(tmp_path, monkeypatch):
    style = a_style()
    style.save(tmp_path / "weights/unit_style/unit_style.safetensors")
    monkeypatch.setattr("omote.head.shipped.files", lambda _: tmp_path)
    back = shipped_unit_style.__wrapped__()
    np.testing.assert_array_equal(back.vertices, style.vertices)
    np.testing.assert_allclose(back.offset_mm, style.offset_mm, atol=1e-2)
    assert back.bias == style.bias
    (tmp_path / "weights/unit_style/unit_style.safetensors").write_bytes(b"short")
    with pytest.raises(OmoteError, match="omote tool unit-style"):
        shipped_unit_style.__wrapped__()


def test_the_shipped_style_is_a_moderate_change_of_the_units_it_knows():
    style, head = shipped_unit_style(), shipped_head()
    assert len(style.identity_weight) == head.num_identity
    size = np.linalg.norm(style.offset_mm, axis=-1)
    assert size.max() < 20
    # What no front view shows does not move.
    assert size[:, head.template_mm[style.vertices, 2] < -60].max() < 1


def test_the_edge_of_a_lip_moves_with_the_lip():
    head = shipped_head()
    jaw = head.units_mm(1.0)[ARKIT_INDEX["jawOpen"]]
    upper, lower = lip_pairs(head)
    middle = np.abs(head.template_mm[upper, 0]) < 8
    below, edge = head.landmarks(jaw)[57, 1], jaw[lower[middle], 1]
    # Pixels of the upper lip, taken for the lower one, had held its edge back by 10 mm.
    assert np.abs(edge - below).max() < 4
    assert np.abs(jaw[upper[middle], 1]).max() < 4


def test_rims_are_read_in_correspondence_and_what_lies_behind_hangs_on_them():
    from omote.tools.unit_style import with_rims

    head = shipped_head()
    offset = np.full(head.expression_mm.shape, 5.0, np.float32)
    # The shipped head in its own topology: its style is its own units.
    out = with_rims(head, head, offset)
    seam = cKDTree(head.landmarks(head.template_mm)[60:68]).query(head.template_mm)[0] < 2
    assert not out[:, seam & head_region(head).exterior].any()
    assert (out[:, head.landmark_vertices[30]] == 5).all()
    assert out.min() >= -1e-3
    assert out.max() <= 5 + 1e-3


@pytest.fixture
def second_head(shared_dir):
    return PopulationConfig(seed=0, split="validation", ict=shared_dir / "data/ict_facekit.npz")


def test_a_population_of_two_heads_teaches_it(second_head):
    from omote.tools.unit_style import learn_unit_style

    *counts, (style, report) = learn_unit_style(second_head, population_heads(second_head.ict), 24, held_out=8)
    assert counts == list(range(1, 25))
    assert sum(report.persons) == 16
    assert report.after_mm < 0.4 * report.before_mm
    assert report.told_apart >= 0.7
    assert style.offset_mm.shape == (52, len(style.vertices), 3)


def test_one_head_alone_is_an_error():
    from omote.tools.unit_style import learn_unit_style

    with pytest.raises(OmoteError, match="two head models"):
        next(learn_unit_style(PopulationConfig(split="validation"), [shipped_head()], 2))
