"""Every metric against a slow, plain reference written here, and against values known by construction."""

from __future__ import annotations

import math

import numpy as np
import pytest

from omote.evaluation import metrics
from omote.head.expressions import CATEGORIES

RNG = np.random.default_rng(7)


@pytest.fixture
def depth() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    truth = RNG.uniform(500, 900, (3, 6, 5))
    predicted = truth * RNG.uniform(0.7, 1.4, truth.shape)
    mask = RNG.random(truth.shape) < 0.6
    return predicted, np.where(mask, truth, 0.0), mask


def pixels(mask: np.ndarray, i: int) -> list[tuple[int, int]]:
    return [(y, x) for y in range(mask.shape[1]) for x in range(mask.shape[2]) if mask[i, y, x]]


def test_depth_errors_match_a_loop(depth: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    predicted, truth, mask = depth
    got = metrics.depth_errors(predicted, truth, mask)
    for i in range(len(truth)):
        pairs = [(predicted[i, y, x], truth[i, y, x]) for y, x in pixels(mask, i)]
        n = len(pairs)
        assert got.mae_mm[i] == pytest.approx(sum(abs(d - g) for d, g in pairs) / n)
        assert got.rmse_mm[i] == pytest.approx(math.sqrt(sum((d - g) ** 2 for d, g in pairs) / n))
        assert got.absrel[i] == pytest.approx(sum(abs(d - g) / g for d, g in pairs) / n)
        assert got.delta1[i] == pytest.approx(sum(max(d / g, g / d) < 1.25 for d, g in pairs) / n)
        logs = [math.log(d) - math.log(g) for d, g in pairs]
        silog = math.sqrt(sum(v * v for v in logs) / n - (sum(logs) / n) ** 2)
        assert got.silog[i] == pytest.approx(100 * silog)


def test_silog_ignores_a_factor_and_mae_does_not(depth: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    _, truth, mask = depth
    got = metrics.depth_errors(1.1 * truth, truth, mask)
    np.testing.assert_allclose(got.silog, 0.0, atol=1e-6)
    np.testing.assert_allclose(got.absrel, 0.1)


def test_an_empty_image_is_nan_and_does_not_count(depth: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    predicted, truth, mask = depth
    mask = mask.copy()
    mask[1] = False
    got = metrics.depth_errors(predicted, truth, mask)
    assert np.isnan(got.mae_mm[1])
    assert metrics.mean_over_images(got.mae_mm) == pytest.approx((got.mae_mm[0] + got.mae_mm[2]) / 2)
    assert math.isnan(metrics.mean_over_images(np.array([np.nan])))


def test_images_count_equally_however_many_pixels_they_have() -> None:
    truth = np.full((2, 2, 2), 100.0)
    predicted = truth + np.array([1.0, 3.0])[:, None, None]
    mask = np.ones(truth.shape, bool)
    mask[1, 0] = False
    assert metrics.mean_over_images(metrics.depth_errors(predicted, truth, mask).mae_mm) == pytest.approx(2.0)


def test_what_lies_outside_the_mask_does_not_matter(depth: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    predicted, truth, mask = depth
    other = np.where(mask, predicted, -1e6)
    a, b = metrics.depth_errors(predicted, truth, mask), metrics.depth_errors(other, truth, mask)
    np.testing.assert_array_equal(a.rmse_mm, b.rmse_mm)
    np.testing.assert_array_equal(a.silog, b.silog)


def test_affine_alignment_matches_least_squares(depth: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    predicted, truth, mask = depth
    got = metrics.affine_aligned(predicted, truth, mask)
    for i in range(len(truth)):
        d, g = predicted[i][mask[i]], truth[i][mask[i]]
        (scale, shift), *_ = np.linalg.lstsq(np.stack([d, np.ones_like(d)], 1), g, rcond=None)
        np.testing.assert_allclose(got[i][mask[i]], scale * d + shift)


def test_affine_alignment_undoes_an_affine_change(depth: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    _, truth, mask = depth
    got = metrics.depth_errors(metrics.affine_aligned(0.3 * truth - 40, truth, mask), truth, mask)
    np.testing.assert_allclose(got.mae_mm, 0.0, atol=1e-9)


def test_affine_alignment_of_a_constant_only_shifts(depth: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    _, truth, mask = depth
    got = metrics.affine_aligned(np.full_like(truth, 5.0), truth, mask)
    for i in range(len(truth)):
        np.testing.assert_allclose(got[i], truth[i][mask[i]].mean())


def test_moving_pixels_changed_by_more_than_two_millimetres_and_are_valid_in_both() -> None:
    truth = np.array([[[100.0, 102.0, 102.1, 97.9, 200.0, 200.0]]])
    source = np.full_like(truth, 100.0)
    valid = np.ones(truth.shape, bool)
    truth_mask, source_mask = valid.copy(), valid.copy()
    truth_mask[..., 4], source_mask[..., 5] = False, False
    moving = metrics.moving_mask(truth, truth_mask, source, source_mask)
    assert moving[0, 0].tolist() == [False, False, True, True, False, False]


def test_psnr_matches_a_loop_and_known_values() -> None:
    truth, predicted = RNG.random((2, 4, 3, 3)), RNG.random((2, 4, 3, 3))
    mask = RNG.random((2, 4, 3)) < 0.7
    got = metrics.psnr_db(predicted, truth, mask)
    for i in range(2):
        squares = [(predicted[i, y, x, c] - truth[i, y, x, c]) ** 2 for y, x in pixels(mask, i) for c in range(3)]
        assert got[i] == pytest.approx(10 * math.log10(1 / (sum(squares) / len(squares))))
    full = np.ones(mask.shape, bool)
    np.testing.assert_allclose(metrics.psnr_db(truth + 0.1, truth, full), 20.0)
    np.testing.assert_allclose(metrics.psnr_db(truth, truth, full), metrics.MAX_PSNR_DB)
    assert np.isnan(metrics.psnr_db(predicted, truth, np.zeros(mask.shape, bool))).all()


def test_box_mask_holds_the_pixel_centres_inside() -> None:
    boxes = np.array([[1.0, 2.0, 3.4, 4.0], [-5.0, -5.0, 0.5, 0.6]])
    got = metrics.box_mask(boxes, height=5, width=6)
    for i, (left, top, right, bottom) in enumerate(boxes):
        for y in range(5):
            for x in range(6):
                assert got[i, y, x] == (left <= x + 0.5 < right and top <= y + 0.5 < bottom)


def test_mouth_box_is_the_mouths_bounds_and_a_margin() -> None:
    landmarks = np.zeros((1, 68, 2))
    landmarks[0, 48:68] = np.array([60.0, 90.0])
    landmarks[0, 48], landmarks[0, 54], landmarks[0, 57] = (50, 90), (70, 90), (60, 96)
    np.testing.assert_allclose(metrics.mouth_boxes(landmarks, margin=0.3), [[44.0, 84.0, 76.0, 102.0]])


def test_normals_error_of_a_known_rotation_and_of_a_loop() -> None:
    truth = RNG.normal(size=(1, 3, 4, 3))
    truth /= np.linalg.norm(truth, axis=-1, keepdims=True)
    mask = np.ones((1, 3, 4), bool)
    assert metrics.normals_error_deg(truth, truth, mask)[0] == pytest.approx(0.0, abs=1e-9)
    assert metrics.normals_error_deg(-truth, truth, mask)[0] == pytest.approx(180.0)
    axis = np.cross(truth, [0.3, -0.5, 0.8])
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    tilted = math.cos(0.01) * truth + math.sin(0.01) * np.cross(axis, truth)
    assert metrics.normals_error_deg(5 * tilted, truth, mask)[0] == pytest.approx(math.degrees(0.01))
    other = RNG.normal(size=truth.shape)
    angles = [
        math.degrees(math.acos(other[0, y, x] @ truth[0, y, x] / np.linalg.norm(other[0, y, x])))
        for y, x in pixels(mask, 0)
    ]
    assert metrics.normals_error_deg(other, truth, mask)[0] == pytest.approx(sum(angles) / len(angles))


def test_distance_summary_of_a_known_set() -> None:
    got = metrics.distance_summary(RNG.permutation(np.arange(101.0)))
    assert (got.median_mm, got.mean_mm, got.p90_mm, got.max_mm) == (50.0, 50.0, 90.0, 100.0)
    assert math.isnan(metrics.distance_summary(np.empty(0)).median_mm)


def test_accuracy_and_confusion_match_a_loop() -> None:
    truth, judged = RNG.integers(0, 6, 300), RNG.integers(0, 7, 300)  # class 6 never occurs
    got = metrics.accuracy(truth, judged, 7)
    for i in range(6):
        rows = [int(b) for a, b in zip(truth, judged, strict=True) if a == i]
        for j in range(7):
            assert got.confusion[i, j] == pytest.approx(rows.count(j) / len(rows))
        assert got.per_class[i] == pytest.approx(rows.count(i) / len(rows))
    assert np.isnan(got.per_class[6])
    assert got.macro == pytest.approx(sum(got.per_class[:6]) / 6)
    assert metrics.confusion_counts(truth, judged, 7).sum() == 300


def test_mscr_of_a_known_matrix() -> None:
    pairs = tuple((CATEGORIES.index(a), CATEGORIES.index(b)) for a, b in metrics.CONFUSING_PAIRS)
    confusion = np.eye(7)
    assert metrics.mean_symmetric_confusion_rate(confusion, pairs) == 0.0
    i, j = pairs[0]
    confusion[i, j], confusion[j, i] = 0.4, 0.2
    assert metrics.mean_symmetric_confusion_rate(confusion, pairs) == pytest.approx((0.3 + 0.0) / 2)


def test_expression_gain_of_copy_and_truth() -> None:
    source, truth = RNG.random(20) * 0.2, 0.5 + RNG.random(20) * 0.5
    assert metrics.relative_expression_gain(source, source, truth) == 0.0
    assert metrics.relative_expression_gain(truth, source, truth) == pytest.approx(1.0)
    assert metrics.relative_expression_gain((source + truth) / 2, source, truth) == pytest.approx(0.5)


def test_identity_distance_and_cosine_match_a_loop() -> None:
    a, b = RNG.normal(size=(4, 128)), RNG.normal(size=(4, 128))
    for i in range(4):
        assert metrics.identity_distance(a, b)[i] == pytest.approx(
            math.sqrt(sum((x - y) ** 2 for x, y in zip(a[i], b[i], strict=True)))
        )
        dot = sum(x * y for x, y in zip(a[i], b[i], strict=True))
        norms = math.sqrt(sum(x * x for x in a[i])) * math.sqrt(sum(y * y for y in b[i]))
        assert metrics.identity_cosine(a, b)[i] == pytest.approx(dot / norms)


def test_deltas_nest_and_match_a_loop(depth: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    _, truth, mask = depth
    predicted = truth * RNG.uniform(0.4, 2.4, truth.shape)
    got = metrics.depth_errors(predicted, truth, mask)
    for i in range(len(truth)):
        ratios = [max(d / g, g / d) for d, g in ((predicted[i, y, x], truth[i, y, x]) for y, x in pixels(mask, i))]
        for power, values in enumerate((got.delta1, got.delta2, got.delta3), start=1):
            assert values[i] == pytest.approx(sum(r < 1.25**power for r in ratios) / len(ratios))


def textbook_ssim(x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> float:
    """Window by window, channel by channel (Wang et al. 2004, §III-B and C)."""
    offsets = np.arange(-5, 6)
    line = np.exp(-0.5 * (offsets / 1.5) ** 2)
    window = np.outer(line, line) / np.outer(line, line).sum()
    values = []
    for v in range(5, x.shape[0] - 5):
        for u in range(5, x.shape[1] - 5):
            if not mask[v, u]:
                continue
            for c in range(3):
                a, b = (image[v - 5 : v + 6, u - 5 : u + 6, c] for image in (x, y))
                mean_a, mean_b = (window * a).sum(), (window * b).sum()
                var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
                cov = (window * (a - mean_a) * (b - mean_b)).sum()
                c1, c2 = 0.01**2, 0.03**2
                values.append(
                    (2 * mean_a * mean_b + c1) * (2 * cov + c2)
                    / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
                )  # fmt: skip
    return float(np.mean(values))


def test_ssim_matches_the_textbook() -> None:
    truth = RNG.random((3, 16, 14, 3))
    predicted = np.clip(truth + 0.3 * RNG.normal(size=truth.shape), 0, 1)
    mask = RNG.random(truth.shape[:3]) < 0.7
    got = metrics.ssim(predicted, truth, mask)
    for i in range(3):
        assert got[i] == pytest.approx(textbook_ssim(predicted[i], truth[i], mask[i]), rel=1e-6)
    np.testing.assert_allclose(metrics.ssim(truth, truth, mask), 1.0)
    assert np.isnan(metrics.ssim(truth, truth, np.zeros_like(mask))).all()


@pytest.mark.parametrize("size", [1, 7, 64])
def test_no_image_metric_depends_on_what_else_is_in_the_batch(size: int) -> None:
    rng = np.random.default_rng(3)
    truth, predicted = rng.random((64, 16, 16, 3)), rng.random((64, 16, 16, 3))
    depth, other = rng.uniform(500, 900, (64, 16, 16)), rng.uniform(500, 900, (64, 16, 16))
    mask = rng.random((64, 16, 16)) < 0.6
    measures = {
        "ssim": lambda k: metrics.ssim(predicted[k], truth[k], mask[k]),
        "psnr": lambda k: metrics.psnr_db(predicted[k], truth[k], mask[k]),
        "silog": lambda k: metrics.depth_errors(other[k], depth[k], mask[k]).silog,
        "delta3": lambda k: metrics.depth_errors(other[k], depth[k], mask[k]).delta3,
        "aligned": lambda k: metrics.affine_aligned(other[k], depth[k], mask[k]),
        "normals": lambda k: metrics.normals_error_deg(predicted[k] - 0.5, truth[k] - 0.5, mask[k]),
    }
    for name, measure in measures.items():
        whole = measure(slice(0, 64))
        parts = np.concatenate([measure(slice(i, min(i + size, 64))) for i in range(0, 64, size)])
        np.testing.assert_allclose(parts, whole, rtol=1e-12, err_msg=name)


def test_intensity_correlation_is_pearsons_within_a_category() -> None:
    category = np.repeat([0, 1], 50)
    asked = RNG.random(100)
    # Opposite offsets would hide a correlation taken over all.
    measured = 0.3 * asked + 5.0 * category + 0.05 * RNG.normal(size=100)
    expected = np.mean([np.corrcoef(asked[category == c], measured[category == c])[0, 1] for c in (0, 1)])
    assert metrics.intensity_correlation(asked, measured, category) == pytest.approx(expected, rel=1e-9)
    constant = np.where(category == 0, 1.0, measured)
    assert metrics.intensity_correlation(asked, constant, category) == pytest.approx(
        np.corrcoef(asked[50:], measured[50:])[0, 1]
    )
    assert math.isnan(metrics.intensity_correlation(asked, np.ones(100), category))


def test_a_face_mask_ends_at_the_jaw_and_above_the_brows():
    angle = np.linspace(np.pi, 0, 17)
    landmarks = np.full((1, 68, 2), 50.0)
    landmarks[0, :17] = np.stack([50 + 30 * np.cos(angle), 50 + 40 * np.sin(angle)], axis=1)
    landmarks[0, 17:27] = np.stack([np.linspace(30, 70, 10), np.full(10, 45.0)], axis=1)
    mask = metrics.face_masks(landmarks, height=100, width=100)[0]
    assert mask[50, 50]
    assert mask[33, 50]  # the forehead, 15 above the brows
    assert not mask[27, 50]
    assert not mask[93, 50]
    assert not mask[80, 25]  # beside the chin
