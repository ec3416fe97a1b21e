"""The first stage's losses against values worked out by hand, and normals against planes."""

import math

import pytest
import torch

from omote.geometry.camera import FRONT_FIELD_MM
from omote.rgbd.codec import DEPTH, DEPTH_SCALE_MM, normals
from omote.rgbd.losses import ReconstructionLoss

SIZE = 16
ONLY = {"rgb": 0.0, "rgb_gradient": 0.0, "depth": 0.0, "depth_gradient": 0.0, "mask": 0.0}


def packed(depth=0.0, rgb=0.0, mask=1.0):
    x = torch.zeros(1, 5, SIZE, SIZE)
    x[:, :3], x[:, 3], x[:, 4] = rgb, depth, mask
    return x


def plane(slope_x, slope_y):
    """Packed depth of a plane that falls away by millimetres per millimetre."""
    pitch = FRONT_FIELD_MM / SIZE
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    return packed(depth=(slope_x * x + slope_y * y) * pitch / DEPTH_SCALE_MM)


def value(image, target, weight=None, **terms):
    loss = ReconstructionLoss(**{**ONLY, **terms})
    return float(loss(image, target, torch.ones(1, 1, SIZE, SIZE) if weight is None else weight)[0])


def test_each_term_of_constant_images_is_the_difference():
    assert value(packed(rgb=0.25), packed(), rgb=1.0) == pytest.approx(0.5)  # twice, as documented by its weight
    assert value(packed(depth=0.3), packed(), depth=1.0) == pytest.approx(0.3)
    assert value(packed(mask=0.5), packed(), mask=1.0) == pytest.approx(0.5)
    for term in ("rgb_gradient", "depth_gradient", "normal"):
        assert value(packed(rgb=0.25, depth=0.3), packed(), **{term: 1.0}) == pytest.approx(0, abs=1e-6)


def test_gradient_terms_pay_for_a_step():
    image, target = packed(), packed()
    image[..., 8:] += 0.4  # one column of steps, in colour and depth
    rows = SIZE / (SIZE * (SIZE - 1))
    assert value(image, target, rgb_gradient=1.0) == pytest.approx(2 * 0.4 * rows, rel=1e-5)
    assert value(image, target, depth_gradient=1.0) == pytest.approx(0.4 * SIZE / SIZE**2, rel=1e-5)


def test_where_the_target_has_no_surface_depth_and_normals_do_not_count():
    target, image = plane(0.2, 0.0), plane(0.2, 0.0)
    target[:, 4, :, 8:] = -1
    image[:, 3, :, 9:] += 3
    assert value(image, target, depth=1.0, normal=1.0) == pytest.approx(0, abs=1e-6)
    image[:, 3, :, 3] += 3
    assert value(image, target, depth=1.0) > 0.1
    assert value(image, target, normal=1.0) > 0.1


def test_the_normal_term_of_two_planes_is_one_minus_the_cosine_of_the_angle_between_them():
    share = (SIZE - 1) ** 2 / SIZE**2  # a normal is of three pixels
    for a, b in ((0.0, 0.3), (-0.4, 0.5), (0.8, 0.8)):
        image, target = plane(math.tan(a), 0.0), plane(math.tan(b), 0.0)
        assert value(image, target, normal=1.0) == pytest.approx((1 - math.cos(a - b)) * share, abs=1e-6)


def test_normals_turn_with_the_plane():
    """A quarter turn of the image turns the normals' x and y with it, and they stay of unit length."""
    n = normals(plane(0.3, -0.2)[:, DEPTH])[0, :, 5, 5]
    turned = normals(torch.rot90(plane(0.3, -0.2)[:, DEPTH], 1, (2, 3)))[0, :, 5, 5]
    expected = torch.tensor([-0.3, 0.2, 1.0]) / math.sqrt(1 + 0.3**2 + 0.2**2)
    torch.testing.assert_close(n, expected)
    torch.testing.assert_close(turned, torch.stack([n[1], -n[0], n[2]]))


def test_without_its_weight_the_normal_term_is_not_there():
    """Recipes from before it have the trace they had."""
    _, terms = ReconstructionLoss()(plane(0.1, 0), plane(0.2, 0), torch.ones(1, 1, SIZE, SIZE))
    assert set(terms) == {"rgb", "rgb_gradient", "depth", "depth_gradient"}
